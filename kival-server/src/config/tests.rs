//! The table as a whole, the command line, CONFIG GET and CONFIG SET.
//!
//! The error texts of CONFIG SET were written down from the replies of redis-server 7.0.15.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;

use super::*;

fn load_line(args: &[&str]) -> Result<Loaded, ConfigError> {
    load(["kival-server"].iter().chain(args).map(OsString::from))
}

fn text(setting: &Setting, config: &Config) -> String {
    String::from_utf8(setting.get(config)).unwrap()
}

/// A value that the setting takes and that is not its default.
fn another_value(setting: &Setting) -> String {
    match &setting.kind {
        Kind::Bool { .. } => if setting.default == "yes" { "no" } else { "yes" }.into(),
        Kind::Integer { min, max, .. } => {
            if text(setting, &Config::default()) == min.to_string() {
                max.to_string()
            } else {
                min.to_string()
            }
        }
        Kind::Seconds { max, .. } => max.to_string(),
        Kind::Memory { min, .. } => min.to_string(),
        Kind::Word { words, .. } => (*words.iter().find(|word| **word != setting.default).unwrap()).into(),
        Kind::Secret { .. } | Kind::Path { .. } => "other".into(),
        Kind::Addresses { .. } => "* -::*".into(),
        Kind::Window { .. } => "22-06".into(),
        Kind::Events { .. } => "AKE".into(),
        Kind::Percentiles { .. } => "0.1 100".into(),
        Kind::OutputLimits { .. } => "normal 1 2 3 slave 4 5 6 pubsub 7 8 9".into(),
        Kind::Fact { .. } => setting.default.into(),
    }
}

#[test]
fn every_default_is_valid_and_every_value_survives_get_and_set() {
    for setting in settings() {
        for value in [setting.default.to_owned(), another_value(setting)] {
            let mut config = Config::default();
            setting.set(&mut config, &[value.as_bytes()]).unwrap();
            let shown = setting.get(&config);
            setting.set(&mut config, &[&shown]).unwrap();
            assert_eq!(setting.get(&config), shown, "{}", setting.name);
            let is_default = config == Config::default();
            assert_eq!(is_default, value == setting.default, "{} = {value}", setting.name);
        }
    }
}

#[test]
fn percentiles_lie_between_none_and_all() {
    let setting = Setting::find(b"latency-tracking-info-percentiles").unwrap();
    let mut config = Config::default();
    for (words, shown) in [("", ""), ("50", "50"), ("0 99.99 100", "0 99.99 100")] {
        setting.set(&mut config, &[words.as_bytes()]).unwrap();
        assert_eq!(text(setting, &config), shown);
    }
    assert_eq!(setting.set(&mut config, &[b"x"]), Err(ValueFault::NotPercentiles));
    assert_eq!(setting.set(&mut config, &[b"50", b"100.1"]), Err(ValueFault::NoPercentile));
}

#[test]
fn every_row_takes_both_ends_of_its_range_and_nothing_beyond() {
    for setting in settings() {
        let (min, max) = match &setting.kind {
            Kind::Integer { min, max, .. } => (*min, *max),
            Kind::Seconds { max, .. } => (0, *max),
            Kind::Memory { min, max, .. } => (i64::try_from(*min).unwrap(), i64::try_from(*max).unwrap()),
            _ => continue,
        };
        let mut config = Config::default();
        for end in [min, max].map(|end| end.to_string()) {
            setting.set(&mut config, &[end.as_bytes()]).unwrap();
            assert_eq!(text(setting, &config), end, "{}", setting.name);
        }
        let beyond = (i128::from(max) + 1).to_string();
        assert!(setting.set(&mut config, &[beyond.as_bytes()]).is_err(), "{}", setting.name);
        assert_eq!(text(setting, &config), max.to_string(), "{}", setting.name);
    }
}

#[test]
fn every_word_of_a_row_is_read_as_itself() {
    for setting in settings() {
        let Kind::Word { words, .. } = &setting.kind else { continue };
        for word in *words {
            let mut config = Config::default();
            setting.set(&mut config, &[word.to_uppercase().as_bytes()]).unwrap();
            assert_eq!(text(setting, &config), *word, "{}", setting.name);
        }
    }
}

#[test]
fn rows_are_written_alike() {
    let mut names = HashSet::new();
    let mut headings = Vec::new();
    for setting in settings() {
        let name = setting.name;
        assert!(names.insert(name), "{name} has two rows");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
        assert!(setting.help.starts_with(|first: char| first.is_ascii_uppercase()), "{name}: help");
        assert!(!setting.help.ends_with(['.', ' ']) && !setting.help.contains("  "), "{name}: help");
        let counts = matches!(setting.kind, Kind::Memory { .. } | Kind::Seconds { .. });
        assert!(!counts || !setting.unit.is_empty(), "{name}: unit");
        assert_eq!(setting.change == Change::Never, matches!(setting.kind, Kind::Fact { .. }), "{name}");
        if headings.last() != Some(&setting.heading) {
            headings.push(setting.heading);
        }
    }
    assert_eq!(headings, Heading::ALL);
}

#[test]
fn help_and_readme_show_every_row() {
    cli::command().debug_assert();
    let help = cli::command().term_width(100).render_help().to_string();
    let table = markdown_table();
    for setting in settings() {
        assert!(help.contains(&format!("--{} ", setting.name)), "{}", setting.name);
        assert_eq!(table.matches(&format!("| `{}` |", setting.name)).count(), 1, "{}", setting.name);
    }
    let unescaped = table.replace("\\|", "");
    assert!(unescaped.lines().all(|line| line.matches('|').count() == 6), "{table}");
}

#[track_caller]
fn check_line(args: &[&str], name: &str, expected: &str) {
    let loaded = load_line(args).unwrap();
    assert_eq!(text(Setting::find(name.as_bytes()).unwrap(), &loaded.config), expected, "{args:?}");
}

#[test]
fn the_command_line_takes_every_form_of_an_option() {
    check_line(&[], "port", "6380");
    check_line(&["--port", "7"], "port", "7");
    check_line(&["--port=7", "--port", "8"], "port", "8");
    check_line(&["--in-memory"], "in-memory", "yes");
    check_line(&["--in-memory", "no"], "in-memory", "no");
    check_line(&["--in-memory", "--port", "7"], "in-memory", "yes");
    check_line(&["--protected-mode", "no"], "protected-mode", "no");
    check_line(&["--bind", "10.0.0.1", "-::1", "--port", "7"], "bind", "10.0.0.1 -::1");
    check_line(&["--bind", "10.0.0.1 -::1"], "bind", "10.0.0.1 -::1");
    check_line(&["--bind=-::1"], "bind", "-::1");
    check_line(&["--save", "", "--appendonly", "yes"], "save", "");
    check_line(&["--requirepass=-x y"], "requirepass", "-x y");
    let limits = "normal 1024 0 0 slave 268435456 67108864 60 pubsub 1 2 3";
    let name = "client-output-buffer-limit";
    let option = "--client-output-buffer-limit";
    check_line(&[option, "normal", "1kb", "0", "0", option, "pubsub 1 2 3"], name, limits);
}

#[track_caller]
fn check_line_error(args: &[&str], expected: &str, code: u8) {
    let error = load_line(args).unwrap_err();
    assert!(error.to_string().contains(expected), "{args:?}: {error}");
    assert_eq!(error.exit_code(), code, "{args:?}");
}

#[test]
fn the_command_line_tells_what_is_wrong_with_it() {
    check_line_error(
        &["--port", "-1"],
        "command line: port: argument must be between 0 and 65535 inclusive",
        1,
    );
    check_line_error(&["--in-memory=maybe"], "command line: in-memory: argument must be 'yes' or 'no'", 1);
    check_line_error(&["--bind"], "a value is required for '--bind", 2);
    check_line_error(&["--prot", "1"], "'--port'", 2);
    check_line_error(
        &["/nonexistent.conf"],
        "cannot read configuration file /nonexistent.conf: No such file",
        1,
    );
    check_line_error(&["--help"], "--client-output-buffer-limit", 0);
    check_line_error(&["--version"], env!("CARGO_PKG_VERSION"), 0);
}

#[test]
fn the_command_line_beats_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kival.conf");
    fs::write(&path, "port 1\nhz 20\n").unwrap();
    let loaded = load_line(&[path.to_str().unwrap(), "--port", "2"]).unwrap();
    assert_eq!((loaded.config.port, loaded.config.hz), (2, 20));
    assert_eq!(loaded.file.as_deref(), Some(path.as_path()));
    assert_eq!(*loaded.config.sources.of("port"), Source::CommandLine);
    assert_eq!(*loaded.config.sources.of("hz"), Source::File(Place { file: path, line: 2 }));
}

#[test]
fn what_makes_no_sense_together_is_warned_of() {
    let warnings = |args: &[&str]| load_line(args).unwrap().warnings.len();
    assert_eq!(warnings(&[]), 0);
    assert_eq!(warnings(&["--in-memory"]), 0);
    assert_eq!(warnings(&["--in-memory", "--dir", "x"]), 1);
    assert_eq!(warnings(&["--client-query-buffer-limit", "1mb"]), 1);
}

#[test]
fn a_password_is_in_no_debug_output() {
    let config = load_line(&["--requirepass", "opensesame"]).unwrap().config;
    assert_eq!(config.requirepass.expose(), b"opensesame");
    assert!(!format!("{config:?}").contains("opensesame"));
}

#[track_caller]
fn check_get(patterns: &[&str], expected: &[(&str, &str)]) {
    let matches = |pattern: &[u8], name: &[u8]| match pattern.strip_suffix(b"*") {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    };
    let found = Config::default().get_matching(patterns, matches);
    let bytes = |text: &&str| text.as_bytes().to_vec();
    let expected: Vec<_> = expected.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
    assert_eq!(found, expected, "{patterns:?}");
}

#[test]
fn config_get_answers_each_setting_once() {
    check_get(&["save"], &[("save", "")]);
    check_get(&["appendonly"], &[("appendonly", "yes")]);
    check_get(&["PORT", "po*", "hz"], &[("PORT", "6380"), ("hz", "10")]);
    check_get(&["po*", "PORT", "hz\0"], &[("port", "6380")]);
    check_get(&["po*\0x"], &[("port", "6380")]);
    check_get(&["log*"], &[("loglevel", "notice"), ("logfile", ""), ("log-format", "text")]);
    check_get(&["nothing"], &[]);
    assert_eq!(Config::default().get_matching(&["*"], |_, _| true).len(), settings().count());
}

#[test]
fn config_set_tells_which_values_changed() {
    let mut config = Config::default();
    let changed = config.set_many(&[("PORT", "7"), ("hz", "10"), ("appendfsync", "NO")]).unwrap();
    assert_eq!(changed.names, ["port", "appendfsync"]);
    assert!(changed.contains("port") && !changed.contains("hz"));
    assert_eq!((config.port, config.appendfsync), (7, AppendFsync::No));
    assert_eq!(*config.sources.of("port"), Source::ConfigSet);
    assert_eq!(config.set_many::<&str, &str>(&[]).unwrap(), Changed::default());
}

#[track_caller]
fn check_set(name: &str, value: &str, expected: &str) {
    let mut config = Config::default();
    config.set_many(&[(name, value)]).unwrap();
    assert_eq!(text(Setting::find(name.as_bytes()).unwrap(), &config), expected, "{name} {value:?}");
}

#[test]
fn config_set_takes_what_redis_takes() {
    check_set("protected-mode", "NO", "no");
    check_set("proto-max-bulk-len", "10MB", "10485760");
    check_set("client-query-buffer-limit", "64m", "64000000");
    check_set("client-query-buffer-limit", "2000000b", "2000000");
    check_set("hz", "0", "1");
    check_set("hz", "600000", "500");
    check_set("maxclients", "4294967295", "4294967295");
    check_set("bind", "127.0.0.1 -::1", "127.0.0.1 -::1");
    let limits = "normal 0 0 0 slave 10485760 1048576 3 pubsub 33554432 8388608 60";
    check_set("client-output-buffer-limit", "REPLICA 10mb 1mb 3", limits);
    check_set(
        "client-output-buffer-limit",
        "",
        &text(Setting::find(b"client-output-buffer-limit").unwrap(), &Config::default()),
    );
}

/// Sets the pairs, expects this error for the setting named, and finds that nothing changed.
#[track_caller]
fn check_refused(pairs: &[(&str, &str)], name: &str, why: &str) {
    let expected = format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}");
    check_reply(pairs, &expected);
}

#[track_caller]
fn check_reply(pairs: &[(&str, &str)], expected: &str) {
    let mut config = Config::default();
    let error = config.set_many(pairs).unwrap_err();
    assert_eq!(error.to_string(), expected, "{pairs:?}");
    assert_eq!(config, Config::default(), "{pairs:?}");
}

#[test]
fn config_set_refuses_values_in_the_words_of_redis() {
    let number = "argument couldn't be parsed into an integer";
    let memory = "argument must be a memory value";
    let int = "argument must be between 0 and 2147483647 inclusive";
    for (name, value, why) in [
        ("port", "70000", "argument must be between 0 and 65535 inclusive"),
        ("port", "-1", "argument must be between 0 and 65535 inclusive"),
        ("port", "", number),
        ("hz", "+1", number),
        ("hz", "01", number),
        ("hz", "-3", int),
        ("hz", "99999999999", int),
        ("timeout", "-1", int),
        ("timeout", "2147483648", int),
        ("tcp-keepalive", "-1", int),
        ("shutdown-timeout", "99999999999", int),
        ("auto-aof-rewrite-percentage", "-5", int),
        ("active-expire-effort", "11", "argument must be between 1 and 10 inclusive"),
        ("maxclients", "0", "argument must be between 1 and 4294967295 inclusive"),
        ("protected-mode", "maybe", "argument must be 'yes' or 'no'"),
        ("proto-max-bulk-len", "1x", memory),
        ("proto-max-bulk-len", "-1", memory),
        ("client-query-buffer-limit", "1tb", memory),
        (
            "auto-aof-rewrite-min-size",
            "99999999999999999999",
            "argument must be between 0 and 9223372036854775807 inclusive",
        ),
        ("appendfsync", "foo", "argument(s) must be one of the following: everysec, always, no"),
        ("loglevel", "foo", "argument(s) must be one of the following: debug, verbose, notice, warning"),
        ("bind", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "Too many bind addresses specified."),
        ("bind", "127.0.0.1  ::1", "Failed to bind to specified addresses."),
    ] {
        check_refused(&[(name, value)], name, why);
    }
}

#[test]
fn config_set_refuses_output_limits_in_the_words_of_redis() {
    let count = "Wrong number of arguments in buffer limit configuration.";
    let class = "Invalid client class specified in buffer limit configuration.";
    let numbers = "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
    for (value, why) in [
        ("foo", count),
        ("normal 0 0", count),
        ("normal  0 0 1", count),
        ("foo 0 0 0", class),
        ("normal 1 2 3 master 0 0 1", class),
        ("normal 1x 0 0", numbers),
        ("normal -1 0 1", numbers),
        ("normal 0 0 -1", numbers),
        ("normal 0 0 1s", numbers),
    ] {
        check_refused(&[("client-output-buffer-limit", value)], "client-output-buffer-limit", why);
    }
}

#[test]
fn config_set_changes_all_or_nothing_and_tells_the_first_thing_wrong() {
    let immutable = "can't set immutable config";
    let unknown = "ERR Unknown option or number of arguments for CONFIG SET - ";
    check_refused(&[("timeout", "5"), ("hz", "abc")], "hz", "argument couldn't be parsed into an integer");
    check_refused(&[("databases", "abc")], "databases", immutable);
    check_refused(&[("dir", "/")], "dir", "can't set protected config");
    check_refused(&[("tcp-backlog", "11"), ("hz", "abc")], "tcp-backlog", immutable);
    check_refused(&[("databases", "3"), ("port", "70000")], "databases", immutable);
    check_refused(&[("PORT", "7"), ("port", "7")], "port", "duplicate parameter");
    check_refused(&[("hz", "9"), ("HZ", "11"), ("x", "5")], "HZ", "duplicate parameter");
    check_refused(&[("hz", "9"), ("tcp-backlog", "11"), ("x", "5")], "tcp-backlog", immutable);
    check_reply(&[("foo", "1")], &format!("{unknown}'foo'"));
    check_reply(&[("hz", "abc"), ("Xy", "5"), ("z", "5")], &format!("{unknown}'Xy'"));
    check_reply(&[("a\r\nb", "1")], &format!("{unknown}'a  b'"));
    check_reply(&[("a\0b", "1")], &format!("{unknown}'a'"));
}

#[test]
fn a_fact_can_be_set_to_what_it_is() {
    for (name, value) in [
        ("save", ""),
        ("maxmemory", "0"),
        ("maxmemory", "0mb"),
        ("maxmemory-policy", "NoEviction"),
        ("appendonly", "yes"),
        ("busy-reply-threshold", "5000"),
    ] {
        let mut config = Config::default();
        assert_eq!(config.set_many(&[(name, value)]), Ok(Changed::default()), "{name} {value}");
    }
    let is_always = |value| format!("this cannot be set: it is always '{value}'");
    check_refused(&[("save", "900 1")], "save", &is_always(""));
    check_refused(&[("appendonly", "no")], "appendonly", &is_always("yes"));
    check_refused(&[("maxmemory", "1gb")], "maxmemory", &is_always("0"));
    check_refused(&[("maxmemory", "")], "maxmemory", &is_always("0"));
    check_refused(&[("hz", "20"), ("io-threads", "4")], "io-threads", &is_always("1"));
    check_line(&["--daemonize", "no", "--maxmemory=0"], "daemonize", "no");
    check_line_error(&["--maxmemory", "1gb"], "command line: maxmemory: this cannot be set", 1);
}

#[test]
fn a_value_that_could_not_take_effect_is_told_like_any_other() {
    let error = SetError::not_applied("port", "Unable to listen on this port. Check server logs.");
    assert_eq!(
        error.to_string(),
        "ERR CONFIG SET failed (possibly related to argument 'port') - \
         Unable to listen on this port. Check server logs."
    );
}
