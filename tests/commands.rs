//! The table of commands, held against redis-server's: what COMMAND INFO, COMMAND DOCS and COMMAND GETKEYS say of
//! every command that both have.

use kival_test_support::{Client, Launch, Value};

use crate::target;

/// The fields of COMMAND INFO, but for the name and the subcommands.
const FIELDS: [&str; 8] =
    ["arity", "flags", "first key", "last key", "step", "categories", "tips", "key specs"];

/// All commands and subcommands of a server.
fn names(client: &mut Client) -> Vec<String> {
    let listed = client.call(&["COMMAND", "LIST"]);
    let mut names: Vec<String> = listed.items().expect("an array").iter().map(Value::text).collect();
    names.sort();
    names
}

/// What a server says of a command, a field each; order does not count where Redis's is that of a set.
fn described(client: &mut Client, name: &str) -> Option<Vec<String>> {
    let info = client.call(&["COMMAND", "INFO", name]);
    let fields = info.items()?.first()?.items()?.to_vec();
    assert_eq!(fields[0].text(), name);
    let sorted = |value: &Value| {
        let mut words: Vec<String> = value.items().unwrap_or_default().iter().map(Value::text).collect();
        words.sort();
        format!("{words:?}")
    };
    let shown = fields[1..9].iter().enumerate().map(|(index, field)| match index {
        1 | 5 | 6 => sorted(field),
        _ => format!("{field:?}"),
    });
    Some(shown.collect())
}

#[test]
fn every_shared_command_is_described_as_redis_describes_it() {
    let Some(redis) = Launch::redis(&["--appendonly", "no"]) else { return };
    let (redis, server) = (redis.start(), target::start(&[]));
    let (mut left, mut right) = (server.client(), redis.client());
    let mut wrong = Vec::new();
    let mut shared = 0;
    for name in names(&mut left) {
        let ours = described(&mut left, &name).expect("it is listed");
        let Some(theirs) = described(&mut right, &name) else { continue };
        shared += 1;
        for (index, field) in FIELDS.iter().enumerate() {
            if ours[index] != theirs[index] {
                wrong.push(format!("{name}: {field}: {} and {}", ours[index], theirs[index]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(shared > 100, "{shared} commands were compared");
}

/// What COMMAND DOCS has that both servers are to say word for word. Summaries and costs are our own words;
/// `history` and the `since` and `deprecated_since` of an argument tell of Redis's past, which is not ours: what
/// is here has been here from the first version.
const DOCUMENTED: [&str; 6] = ["since", "group", "doc_flags", "deprecated_since", "replaced_by", "arguments"];

/// The documentation of a command, a text each field of [`DOCUMENTED`].
fn documented(client: &mut Client, name: &str) -> Vec<String> {
    let docs = client.call(&["COMMAND", "DOCS", name]);
    let fields = docs.items().expect("a map")[1].items().expect("a map").to_vec();
    let pairs = fields.chunks(2).filter(|pair| DOCUMENTED.contains(&pair[0].text().as_str()));
    let shown = pairs.map(|pair| match pair[0].text().as_str() {
        "arguments" => format!("arguments: {}", tree(&pair[1])),
        field => format!("{field}: {:?}", pair[1]),
    });
    shown.collect()
}

/// Arguments, and what they hold, without their versions.
fn tree(arguments: &Value) -> String {
    let one = |argument: &Value| {
        let fields = argument.items().expect("a map");
        let told = fields.chunks(2).filter(|pair| !pair[0].text().ends_with("since"));
        let told = told.map(|pair| match pair[0].text().as_str() {
            "arguments" => tree(&pair[1]),
            field => format!("{field} {:?}", pair[1]).replace('"', ""),
        });
        told.collect::<Vec<_>>().join(", ")
    };
    let all: Vec<String> = arguments.items().expect("an array").iter().map(one).collect();
    format!("({})", all.join("; "))
}

#[test]
fn every_shared_command_is_documented_as_in_redis() {
    let Some(redis) = Launch::redis(&["--appendonly", "no"]) else { return };
    let (redis, server) = (redis.start(), target::start(&[]));
    let (mut left, mut right) = (server.client(), redis.client());
    let known = names(&mut right);
    let shared: Vec<String> = names(&mut left).into_iter().filter(|name| known.contains(name)).collect();
    let wrong: Vec<String> = shared
        .iter()
        .map(|name| (name, documented(&mut left, name), documented(&mut right, name)))
        .filter(|(_, ours, theirs)| ours != theirs)
        .map(|(name, ours, theirs)| format!("{name}: {ours:?} and {theirs:?}"))
        .collect();
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(shared.len() > 100, "{} commands were compared", shared.len());
}

#[test]
fn keys_are_found_where_redis_finds_them() {
    let Some(redis) = Launch::redis(&["--appendonly", "no"]) else { return };
    let (redis, server) = (redis.start(), target::start(&[]));
    let (mut left, mut right) = (server.client(), redis.client());
    for name in names(&mut left) {
        if described(&mut right, &name).is_none() {
            continue;
        }
        let words: Vec<&str> = name.split('|').collect();
        for count in 0..6 {
            let arguments = ["a", "b", "c", "d", "e", "f"];
            for question in ["GETKEYS", "GETKEYSANDFLAGS"] {
                let request = [&["COMMAND", question][..], &words, &arguments[..count]].concat();
                assert_eq!(left.call(&request), right.call(&request), "{request:?}");
            }
        }
    }
    // What is done with a key may hang on the other arguments.
    for request in [
        "SET k get",
        "SET k v GET",
        "SET k v NX",
        "SET k v EX get",
        "BITFIELD k",
        "BITFIELD k GET u8 0 get i5 3",
        "BITFIELD k GET u8",
        "BITFIELD k SET u8 0 1",
        "BITFIELD k OVERFLOW SAT GET u8 0",
        "BITFIELD k OVERFLOW",
        "BITFIELD k GET u8 0 INCRBY u8 0 1",
        "BITFIELD k NOSUCH",
        "MIGRATE host 1 k 0 1 COPY",
        "MIGRATE host 1 k 0 1 KEYS a b",
    ] {
        let request: Vec<&str> =
            ["COMMAND", "GETKEYSANDFLAGS"].into_iter().chain(request.split(' ')).collect();
        assert_eq!(left.call(&request), right.call(&request), "{request:?}");
    }
    let migrate = ["COMMAND", "GETKEYSANDFLAGS", "MIGRATE", "host", "1", "", "0", "1", "KEYS", "a", "b"];
    assert_eq!(left.call(&migrate), right.call(&migrate));
}

/// The rows are a whole: what one field says no other denies.
#[test]
fn every_row_agrees_with_itself() {
    use kival_server::command::{Flags, Keys, all};
    for row in all().flat_map(|row| row.subcommands.iter().chain([row])) {
        let (name, least) = (row.name, row.arity.unsigned_abs() as usize);
        if row.keys == Keys::NONE {
            assert!(row.key_spec.first.is_empty(), "{name}: a specification without a key");
        } else {
            assert!(!row.key_spec.first.is_empty(), "{name}: keys without a specification");
            // SUNSUBSCRIBE alone may come without any.
            assert!(row.keys.first < least.max(2), "{name}: the first key is within the arity");
            assert!(row.keys.step > 0, "{name}: from one key to the next");
        }
        assert!(!(row.flags.has(Flags::WRITE) && row.flags.has(Flags::READONLY)), "{name}: changes or not");
        let grows = row.flags.has(Flags::DENYOOM) && !row.flags.has(Flags::WRITE);
        assert!(!grows, "{name}: what takes space is a write");
        assert!(!row.complexity.is_empty() && !row.since.is_empty() && row.summary.ends_with('.'), "{name}");
    }
}

/// Whether some whole-system test says these words, one behind the other in a line.
fn is_said(texts: &[String], words: &[String]) -> bool {
    texts.iter().flat_map(|text| text.lines()).any(|line| {
        let mut rest =
            line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        words.iter().all(|word| rest.any(|other| other == word))
    })
}

#[test]
fn every_command_is_exercised_by_a_whole_system_test() {
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests"))];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder of the tests").flatten() {
            let path = entry.path();
            match path.extension().and_then(|end| end.to_str()) {
                Some("rs" | "py" | "js") => texts.push(std::fs::read_to_string(&path).expect("a text")),
                None if path.is_dir() => folders.push(path),
                _ => {}
            }
        }
    }
    let mut silent = Vec::new();
    for row in kival_server::command::all() {
        let name = row.name.to_uppercase();
        let subs = row.subcommands.iter().map(|sub| {
            // Lines are cut into words at hyphens, too.
            std::iter::once(name.clone()).chain(sub.name.split('-').map(str::to_uppercase)).collect()
        });
        let own = (row.subcommands.is_empty()).then(|| vec![name.clone()]);
        silent.extend(subs.chain(own).filter(|words| !is_said(&texts, words)));
    }
    assert!(silent.is_empty(), "no test says {silent:?}");
}

const LONG: &str = "an-option-whose-name-is-longer-than-the-hundred-and-twenty-eight-bytes-that-redis-shows-of-some-names-\
    in-its-errors-and-of-others-it-shows-all";

#[test]
fn small_commands_answer_as_those_of_redis() {
    let debug = ["--enable-debug-command", "yes"];
    let Some(redis) = Launch::redis(&["--appendonly", "no", "--enable-debug-command", "yes"]) else { return };
    let (redis, server) = (redis.start(), target::start(&debug));
    let (mut left, mut right) = (server.client(), redis.client());
    let requests: &[&[&str]] = &[
        &["CLIENT", "GETNAME"],
        &["CLIENT", "SETNAME", "worker"],
        &["CLIENT", "GETNAME"],
        &["CLIENT", "SETNAME", "two words"],
        &["CLIENT", "SETNAME", ""],
        &["CLIENT", "GETNAME"],
        &["CLIENT", "SETNAME"],
        &["WAIT", "0", "0"],
        &["WAIT", "1", "5"],
        &["WAIT", "x", "5"],
        &["WAIT", "1", "-5"],
        &["WAIT", "1"],
        &["DEBUG", "RELOAD", "NOSUCH"],
        &["DEBUG", "RELOAD", "NOSAVE", "NOSUCH"],
        &["DEBUG", "NO\0SUCH"],
        &["DEBUG", LONG],
        &["DEBUG", "ERROR", "LIKE this"],
        &["CLIENT", "LIST", "TYPE", "NO\0SUCH"],
        &["CLIENT", "LIST", "TYPE", LONG],
        &["CONFIG", "SET", "no\0such", "1"],
        &["CONFIG", "SET", LONG, "1"],
        &["CONFIG", "SET", "dir", "/tmp"],
        &["CONFIG", "GET", "HZ"],
        &["CONFIG", "GET", "hZ", "HZ*"],
        &["CONFIG", "GET", "HZ\0"],
        &["CONFIG", "GET", "HZ*\0x"],
        &["LOLWUT", "VERSION", "5", "a"],
        &["LOLWUT", "VERSION", "5", "1", "1", "a"],
        &["LOLWUT", "VERSION", "6", "1", "a"],
        &["DEBUG", "SLEEP", "0"],
        &["DEBUG", "SLEEP"],
        &["CONFIG", "REWRITE"],
        &["ROLE"],
    ];
    for request in requests {
        assert_eq!(left.call(request), right.call(request), "{request:?}");
    }
}

#[test]
fn commands_and_errors_are_counted_as_redis_counts_them() {
    let debug = ["--enable-debug-command", "yes"];
    let Some(redis) = Launch::redis(&debug) else { return };
    let (redis, server) = (redis.start(), target::start(&debug));
    let (mut left, mut right) = (server.client(), redis.client());
    let requests: &[&[&str]] = &[
        &["CONFIG", "RESETSTAT"],
        &["PING"],
        &["NOSUCH"],
        &["GET"],
        &["DEBUG", "ERROR", "LIKE this"],
        &["MULTI"],
        &["SET", "k", "v"],
        &["DEBUG", "ERROR", "LIKE that"],
        &["INCR", "k"],
        &["EXEC"],
        &["MULTI"],
        &["GET"],
        &["EXEC"],
    ];
    for request in requests {
        assert_eq!(left.call(request), right.call(request), "{request:?}");
    }
    for field in ["total_commands_processed", "total_error_replies"] {
        assert_eq!(left.info("stats", field), right.info("stats", field), "{field}");
    }
    assert_eq!(left.call(&["INFO", "errorstats"]), right.call(&["INFO", "errorstats"]));
}

#[test]
fn every_container_tells_its_subcommands() {
    if !target::is_kival() {
        return;
    }
    let server = target::start(&[]);
    let mut client = server.client();
    // CLIENT HELP, COMMAND HELP, CONFIG HELP, KIVAL HELP, OBJECT HELP, PUBSUB HELP.
    for row in kival_server::command::all().filter(|row| !row.subcommands.is_empty()) {
        let told = client.call(&[row.name, "HELP"]);
        let lines: Vec<String> = told.items().expect("lines").iter().map(Value::text).collect();
        for sub in row.subcommands {
            let name = sub.name.to_uppercase();
            let mut first_words = lines.iter().filter_map(|line| line.split(' ').next());
            assert!(first_words.any(|word| word == name), "{} {name}: {lines:?}", row.name);
        }
    }
    let told = client.call(&["CLIENT", "HELP"]);
    let lines: Vec<String> = told.items().expect("lines").iter().map(Value::text).collect();
    assert!(lines.contains(&"REPLY <ON | OFF | SKIP>".to_owned()), "{lines:?}");
}
