//! Programs in other languages work with this server: redis-py, ioredis and node-redis by their own scripts in
//! `clients/`, a Django cache with sessions, a web server whose sessions connect-redis keeps.
//!
//! What they need is installed by `.ci/run`; without it the tests are skipped.

use std::path::Path;
use std::process::{Command, Output};

use kival_test_support::can;

use crate::target;

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().expect("the program can be run")
}

/// Runs a script against a server; it says how many checks it has done, since one that does nothing succeeds too.
#[track_caller]
fn check(program: &str, script: &str, args: &[&str], checks: usize) {
    let server = target::start(&["--appendfsync", "everysec"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients").join(script);
    let script = script.to_str().expect("the path of the sources is text");
    let port = server.port().to_string();
    let output = run(program, &[&[script, &port], args].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} {args:?}: {errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{checks} checks done\n"), "{errors}");
}

#[test]
fn redis_py_works() {
    if can("python3", "-c", "import redis") {
        check("python3", "redis_py.py", &["2"], 14);
        check("python3", "redis_py.py", &["3"], 14);
    }
}

#[test]
fn a_django_cache_and_its_sessions_work() {
    if can("python3", "-c", "import django, django_redis") {
        check("python3", "django_cache.py", &[], 9);
    }
}

#[test]
fn ioredis_works() {
    if can("node", "-e", "require('ioredis')") {
        check("node", "ioredis.js", &[], 11);
    }
}

#[test]
fn node_redis_works() {
    if can("node", "-e", "require('redis')") {
        check("node", "node_redis.js", &["2"], 9);
        check("node", "node_redis.js", &["3"], 9);
    }
}

#[test]
fn sessions_of_a_web_server_are_kept() {
    if can("node", "-e", "require('express-session'), require('connect-redis'), require('express')") {
        check("node", "sessions.js", &[], 2);
    }
}
