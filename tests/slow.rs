//! What commands cost is counted, and what was slow is noted: INFO commandstats, errorstats and latencystats,
//! SLOWLOG, LATENCY. The expected texts are those of redis-server 7.0.

use kival_test_support::{Client, Server, Value, encode};

use crate::target;

fn server() -> Server {
    target::start(&["--enable-debug-command", "yes"])
}

/// The fields of a line of INFO that are not times.
fn counts(client: &mut Client, section: &str, field: &str) -> Option<String> {
    let line = client.info(section, field)?;
    Some(line.split(',').filter(|part| !part.starts_with("usec")).collect::<Vec<_>>().join(","))
}

#[test]
fn calls_refusals_and_failures_of_each_command_are_counted() {
    let server = server();
    let mut client = server.client();
    let pipeline: Vec<Vec<&str>> = vec![vec!["SET", "k", "v"]; 40];
    client.call_all(&pipeline);
    client.call(&["INCR", "k"]);
    client.call(&["GET"]);
    client.call(&["NOSUCH"]);
    client.call(&["CONFIG", "GET", "hz"]);
    client.call_all(&[vec!["MULTI"], vec!["SET", "k", "w"], vec!["INCR", "k"], vec!["EXEC"]]);
    let mut check = |command: &str, expected: Option<&str>| {
        let counted = counts(&mut client, "commandstats", &format!("cmdstat_{command}"));
        assert_eq!(counted.as_deref(), expected, "{command}");
    };
    check("set", Some("calls=41,rejected_calls=0,failed_calls=0"));
    check("incr", Some("calls=2,rejected_calls=0,failed_calls=2"));
    check("get", Some("calls=0,rejected_calls=1,failed_calls=0"));
    check("config|get", Some("calls=1,rejected_calls=0,failed_calls=0"));
    check("exec", Some("calls=1,rejected_calls=0,failed_calls=0"));
    check("append", None);
    assert_eq!(client.info("errorstats", "errorstat_ERR").unwrap(), "count=4");
    assert_eq!(client.call(&["CONFIG", "RESETSTAT"]), Value::ok());
    assert_eq!(counts(&mut client, "commandstats", "cmdstat_set"), None);
    assert_eq!(client.info("errorstats", "errorstat_ERR"), None);
}

#[test]
fn each_run_of_a_command_is_in_its_histogram() {
    let server = server();
    let mut client = server.client();
    client.call_all(&vec![vec!["GET", "k"]; 100]);
    assert_eq!(client.call(&["DEBUG", "SLEEP", "0.01"]), Value::ok());
    let histogram = client.call(&["LATENCY", "HISTOGRAM", "get", "debug", "nosuch"]);
    let Value::Array(commands) = &histogram else { panic!("{histogram:?}") };
    let mut names: Vec<String> = commands.iter().step_by(2).map(Value::text).collect();
    names.sort();
    assert_eq!(names, ["debug", "get"]);
    for pair in commands.chunks(2) {
        let runs = if pair[0].text() == "get" { 100 } else { 1 };
        let Value::Array(fields) = &pair[1] else { panic!("{histogram:?}") };
        assert_eq!((fields[0].text(), &fields[1]), ("calls".into(), &Value::Int(runs)));
        let Value::Array(steps) = &fields[3] else { panic!("{histogram:?}") };
        assert_eq!(steps.last(), Some(&Value::Int(runs)), "the last step holds all runs");
    }
    let shown = client.info("latencystats", "latency_percentiles_usec_get").unwrap();
    let names: Vec<&str> = shown.split(',').filter_map(|part| part.split('=').next()).collect();
    assert_eq!(names, ["p50", "p99", "p99.9"]);
    client.call(&["CONFIG", "SET", "latency-tracking-info-percentiles", "100"]);
    assert!(client.info("latencystats", "latency_percentiles_usec_debug").unwrap().starts_with("p100=1"));
    client.call(&["CONFIG", "SET", "latency-tracking", "no"]);
    client.call(&["GET", "k"]);
    assert_eq!(client.info("latencystats", "latency_percentiles_usec_get"), None);
}

/// The arguments of all entries of the slow log, the newest first.
fn slow_commands(client: &mut Client) -> Vec<String> {
    let Value::Array(entries) = client.call(&["SLOWLOG", "GET", "-1"]) else { panic!("no array") };
    let args = entries.iter().map(|entry| match entry {
        Value::Array(parts) => match &parts[3] {
            Value::Array(args) => args.iter().map(Value::text).collect::<Vec<_>>().join(" "),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    });
    args.collect()
}

#[test]
fn slow_commands_are_logged_without_their_secrets() {
    let server = server();
    let mut client = server.client();
    client.call(&["CLIENT", "SETNAME", "me"]);
    assert_eq!(client.call(&["DEBUG", "SLEEP", "0.02"]), Value::ok());
    client.call(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    client.call(&["AUTH", "user", "pw"]);
    client.call(&["HELLO", "2", "AUTH", "user", "pw"]);
    client.call(&["CONFIG", "SET", "requirepass", ""]);
    client.call(&["GET"]);
    let mut many = vec!["DEL".to_owned()];
    many.extend((0..40).map(|i| format!("k{i}")));
    client.call(&many);
    client.call_all(&[vec!["MULTI"], vec!["SET", "k", "v"], vec!["EXEC"]]);
    let mut batch = Vec::new();
    (0..3).for_each(|_| batch.extend(encode(&["GET", "k"])));
    client.pipeline(&batch, 3, &mut Vec::new()).unwrap();
    client.call(&["CONFIG", "SET", "slowlog-log-slower-than", "10000"]);
    let names: Vec<String> = (0..30).map(|i| format!(" k{i}")).collect();
    let expected = [
        "GET k".into(),
        "GET k".into(),
        "GET k".into(),
        "SET k v".into(),
        "MULTI".into(),
        format!("DEL{} ... (10 more arguments)", names.concat()),
        "CONFIG SET requirepass (redacted)".into(),
        "HELLO 2 AUTH (redacted) (redacted)".into(),
        "AUTH (redacted) (redacted)".into(),
        "CONFIG SET slowlog-log-slower-than 0".into(),
        "DEBUG SLEEP 0.02".into(),
    ];
    assert_eq!(slow_commands(&mut client), expected);
    let Value::Array(last) = client.call(&["SLOWLOG", "GET", "1"]) else { panic!("no array") };
    let Value::Array(parts) = &last[0] else { panic!("{last:?}") };
    assert_eq!((parts.len(), &parts[0], parts[5].text()), (6, &Value::Int(10), "me".into()));
    client.call(&["CONFIG", "SET", "slowlog-max-len", "2"]);
    client.call(&["DEBUG", "SLEEP", "0.02"]);
    assert_eq!(client.call(&["SLOWLOG", "LEN"]), Value::Int(2));
    assert_eq!(client.call(&["SLOWLOG", "RESET"]), Value::ok());
    assert_eq!(client.call(&["SLOWLOG", "GET"]), Value::Array(Vec::new()));
}

#[test]
fn the_latency_monitor_notes_what_took_longer_than_its_threshold() {
    let server = server();
    let mut client = server.client();
    client.call(&["DEBUG", "SLEEP", "0.02"]);
    assert_eq!(client.call(&["LATENCY", "LATEST"]), Value::Array(Vec::new()), "nothing by default");
    client.call(&["CONFIG", "SET", "latency-monitor-threshold", "20"]);
    client.call(&["DEBUG", "SLEEP", "0.02"]);
    client.call(&["PING"]);
    let Value::Array(latest) = client.call(&["LATENCY", "LATEST"]) else { panic!("no array") };
    let commands = latest.iter().filter_map(|event| match event {
        Value::Array(parts) if parts[0].text() == "command" => Some(parts.clone()),
        _ => None,
    });
    let commands: Vec<Vec<Value>> = commands.collect();
    let [parts] = commands.as_slice() else { panic!("{latest:?}") };
    assert!(matches!(parts[2], Value::Int(20..)) && parts[2] == parts[3], "{latest:?}");
    let history = client.call(&["LATENCY", "HISTORY", "command"]);
    assert_eq!(history, Value::Array(vec![Value::Array(vec![parts[1].clone(), parts[2].clone()])]));
    let took = parts[2].int().expect("milliseconds");
    let drawn = client.call(&["LATENCY", "GRAPH", "command"]).text();
    let head = format!("command - high {took} ms, low {took} ms (all time high {took} ms)\n----");
    assert!(drawn.starts_with(&head), "{drawn}");
    let told = client.call(&["LATENCY", "DOCTOR"]).text();
    assert!(told.contains("1. command: 1 "), "{told}");
    assert_eq!(client.call(&["LATENCY", "RESET", "command", "nosuch"]), Value::Int(1));
    assert_eq!(client.call(&["LATENCY", "HISTORY", "command"]), Value::Array(Vec::new()));
}

#[test]
fn both_commands_list_their_subcommands() {
    let server = server();
    let mut client = server.client();
    for help in [client.call(&["SLOWLOG", "HELP"]), client.call(&["LATENCY", "HELP"])] {
        let lines: Vec<String> = help.items().unwrap().iter().map(Value::text).collect();
        assert!(lines.iter().any(|line| line.starts_with("RESET")), "{lines:?}");
    }
}
