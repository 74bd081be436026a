//! A writer with a database of its own and the model of it. Since the writer is alone there, the database after
//! a crash is the one of its last acknowledged command, or that after one of the commands in flight: in all of its keys,
//! so that a command of several keys is all or nothing.

use std::collections::BTreeMap;
use std::io;

use fastrand::Rng;
use kival_test_support::{Client, Value, encode};

/// Keys of a database, of each of two sorts: `k` holds any bytes, `n` numbers.
const KEYS: usize = 12;
/// Commands sent at once, at most.
const PIPELINE: usize = 6;
/// A value that is longer does not grow any more.
const LONG: usize = 4000;
/// Far enough ahead that nothing expires by itself: the year 2096, in milliseconds.
const FUTURE: u64 = 4_000_000_000_000;

type Args = Vec<Vec<u8>>;
/// Each key's value and expiry (0 for none).
pub(super) type State = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

/// What one writer knows.
pub(super) struct Own {
    db: usize,
    acknowledged: State,
    in_flight: Vec<Args>,
}

impl Own {
    pub(super) fn new(db: usize) -> Own {
        Own { db, acknowledged: State::new(), in_flight: Vec::new() }
    }

    /// Works until the server is gone, and asks `answered` at each reply whether it counts.
    pub(super) fn work(
        &mut self,
        client: &mut Client,
        rng: &mut Rng,
        answered: &dyn Fn() -> bool,
    ) -> Result<(), String> {
        if select(client, self.db).is_err() {
            return Ok(());
        }
        loop {
            let mut planned = self.acknowledged.clone();
            for _ in 0..rng.usize(1..=PIPELINE) {
                let args = plan(rng, &planned);
                apply(&mut planned, &args);
                self.in_flight.push(args);
            }
            let bytes: Vec<u8> = self.in_flight.iter().flat_map(|args| encode(args)).collect();
            if client.write(&bytes).is_err() {
                return Ok(());
            }
            while !self.in_flight.is_empty() {
                let Ok(frame) = client.try_frame() else { return Ok(()) };
                if is_refusal(&frame.value) || !answered() {
                    return Ok(());
                }
                let args = self.in_flight.remove(0);
                let expected = apply(&mut self.acknowledged, &args);
                if frame.value != expected {
                    let sent =
                        args.iter().map(|arg| arg.escape_ascii().to_string()).collect::<Vec<_>>().join(" ");
                    return Err(format!("{sent} answered {:?}, not {expected:?}", frame.value));
                }
            }
        }
    }

    /// After the restart: the database as it is must be one of those that it may be.
    pub(super) fn verify(&mut self, client: &mut Client) -> Result<(), String> {
        let found = read_all(client, self.db);
        let mut may_be = self.acknowledged.clone();
        let in_flight = std::mem::take(&mut self.in_flight);
        let mut matches = found == may_be;
        for args in &in_flight {
            if matches {
                break;
            }
            apply(&mut may_be, args);
            matches = found == may_be;
        }
        if !matches {
            return Err(difference(self.db, &self.acknowledged, &found, &in_flight));
        }
        self.acknowledged = found;
        Ok(())
    }
}

/// An error of a server whose disk is gone: the command is not acknowledged, and may have happened.
pub(super) fn is_refusal(reply: &Value) -> bool {
    matches!(reply, Value::Error(text) if text.starts_with(b"MISCONF"))
}

pub(super) fn select(client: &mut Client, db: usize) -> io::Result<()> {
    client.write(&encode(&["SELECT", &db.to_string()]))?;
    client.try_frame().map(drop)
}

/// The next command.
fn plan(rng: &mut Rng, state: &State) -> Args {
    let key = |rng: &mut Rng| format!("k{}", rng.usize(..KEYS));
    let value = |rng: &mut Rng| {
        let length = if rng.u8(..8) == 0 { rng.usize(..LONG) } else { rng.usize(..200) };
        let mut bytes = rng.u64(..).to_string();
        let fill = rng.alphanumeric();
        bytes.extend((bytes.len()..length).map(|_| fill));
        bytes
    };
    let existing = |rng: &mut Rng| {
        let at = rng.usize(..state.len().max(1));
        state.keys().nth(at).map(|key| String::from_utf8_lossy(key).into_owned())
    };
    let any = |rng: &mut Rng| existing(rng).unwrap_or_else(|| key(rng));
    let words: Vec<String> = match rng.u16(..400) {
        0 => vec!["FLUSHDB".into()],
        1..=79 => vec!["SET".into(), key(rng), value(rng)],
        80..=109 => vec!["GETSET".into(), key(rng), value(rng)],
        110..=159 => vec!["INCR".into(), format!("n{}", rng.usize(..KEYS))],
        160..=199 => {
            let key = key(rng);
            let long = state.get(key.as_bytes()).is_some_and(|(value, _)| value.len() > LONG);
            vec![if long { "SET" } else { "APPEND" }.into(), key, value(rng)]
        }
        200..=229 => vec!["DEL".into(), any(rng), key(rng)],
        230..=254 => vec!["PEXPIREAT".into(), any(rng), (FUTURE + rng.u64(..1000)).to_string()],
        255..=259 => vec!["PEXPIREAT".into(), any(rng), "1".into()],
        260..=284 => vec!["PERSIST".into(), any(rng)],
        285..=319 => {
            let pairs = (0..rng.usize(2..6)).flat_map(|_| [key(rng), value(rng)]).collect::<Vec<_>>();
            [vec!["MSET".into()], pairs].concat()
        }
        // Both sorts keep to themselves, so that a number stays one.
        320..=349 => match existing(rng).filter(|from| from.starts_with('k')) {
            Some(from) => vec!["RENAME".into(), from, key(rng)],
            None => vec!["SET".into(), key(rng), value(rng)],
        },
        350..=374 => {
            let (from, to) = (rng.usize(..KEYS), rng.usize(1..KEYS));
            vec!["COPY".into(), format!("k{from}"), format!("k{}", (from + to) % KEYS), "REPLACE".into()]
        }
        _ => vec!["SETRANGE".into(), key(rng), rng.usize(..300).to_string(), value(rng)],
    };
    words.into_iter().map(String::into_bytes).collect()
}

/// What Redis does: the reply, and the change of the state.
fn apply(state: &mut State, args: &[Vec<u8>]) -> Value {
    let number = |at: usize| String::from_utf8_lossy(&args[at]).parse::<u64>().expect("a planned number");
    let text = |args: &[Vec<u8>], at: usize| args[at].clone();
    match &*args[0] {
        b"FLUSHDB" => state.clear(),
        b"SET" => drop(state.insert(text(args, 1), (text(args, 2), 0))),
        b"MSET" => args[1..].chunks(2).for_each(|pair| {
            state.insert(pair[0].clone(), (pair[1].clone(), 0));
        }),
        b"GETSET" => {
            let old = state.insert(text(args, 1), (text(args, 2), 0));
            return old.map_or(Value::Nil, |(value, _)| Value::Bulk(value));
        }
        b"INCR" => {
            let (value, _) = state.entry(text(args, 1)).or_insert((b"0".to_vec(), 0));
            let sum = String::from_utf8_lossy(value).parse::<i64>().expect("a number stays one") + 1;
            *value = sum.to_string().into_bytes();
            return Value::Int(sum);
        }
        b"APPEND" => {
            let (value, _) = state.entry(text(args, 1)).or_default();
            value.extend_from_slice(&args[2]);
            return Value::Int(value.len() as i64);
        }
        b"SETRANGE" => {
            let (value, _) = state.entry(text(args, 1)).or_default();
            let (from, to) = (number(2) as usize, number(2) as usize + args[3].len());
            value.resize(value.len().max(to), 0);
            value[from..to].copy_from_slice(&args[3]);
            return Value::Int(value.len() as i64);
        }
        b"DEL" => {
            return Value::Int(args[1..].iter().filter(|key| state.remove(*key).is_some()).count() as i64);
        }
        b"PEXPIREAT" if number(2) < FUTURE => return Value::Int(state.remove(&args[1]).is_some().into()),
        b"PEXPIREAT" => {
            let entry = state.get_mut(&args[1]).map(|(_, expiry)| *expiry = number(2));
            return Value::Int(entry.is_some().into());
        }
        b"PERSIST" => {
            let entry = state.get_mut(&args[1]).filter(|(_, expiry)| *expiry > 0);
            return Value::Int(entry.map(|(_, expiry)| *expiry = 0).is_some().into());
        }
        b"RENAME" => {
            let entry = state.remove(&args[1]).expect("what is renamed is there");
            state.insert(text(args, 2), entry);
        }
        b"COPY" => {
            let Some(entry) = state.get(&args[1]).cloned() else { return Value::Int(0) };
            state.insert(text(args, 2), entry);
            return Value::Int(1);
        }
        other => unreachable!("{} is not planned", other.escape_ascii()),
    }
    Value::ok()
}

/// A whole database.
pub(super) fn read_all(client: &mut Client, db: usize) -> State {
    select(client, db).expect("the server answers");
    let keys = client.call(&["KEYS", "*"]);
    let keys: Vec<Vec<u8>> =
        keys.items().expect("KEYS is a list").iter().filter_map(Value::bytes).map(<[u8]>::to_vec).collect();
    assert_eq!(client.call(&["DBSIZE"]), Value::Int(keys.len() as i64), "KEYS and DBSIZE agree");
    let questions: Vec<Args> = keys
        .iter()
        .flat_map(|key| [vec![b"GET".to_vec(), key.clone()], vec![b"PEXPIRETIME".to_vec(), key.clone()]])
        .collect();
    let answers = client.call_all(&questions);
    let entry = |(key, answers): (Vec<u8>, &[Value])| {
        let [Value::Bulk(value), Value::Int(expiry)] = answers else {
            panic!("{} is listed and answers {answers:?}", key.escape_ascii())
        };
        (key, (value.clone(), (*expiry).max(0) as u64))
    };
    keys.into_iter().zip(answers.chunks(2)).map(entry).collect()
}

fn difference(db: usize, expected: &State, found: &State, in_flight: &[Args]) -> String {
    let mut text =
        format!("database {db} is of no moment that it may be of; against the last acknowledged:\n");
    let show = |entry: Option<&(Vec<u8>, u64)>| {
        entry.map_or_else(
            || "absent".to_owned(),
            |(value, expiry)| {
                let start = value[..value.len().min(24)].escape_ascii();
                format!("{start}... ({} bytes, expiry {expiry})", value.len())
            },
        )
    };
    let keys: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    for key in keys.into_iter().filter(|key| expected.get(*key) != found.get(*key)) {
        let (was, is) = (show(expected.get(key)), show(found.get(key)));
        text += &format!("  {}: {is}, not {was}\n", key.escape_ascii());
    }
    for args in in_flight {
        let shown: Vec<_> =
            args.iter().map(|arg| arg[..arg.len().min(24)].escape_ascii().to_string()).collect();
        text += &format!("  in flight: {}\n", shown.join(" "));
    }
    text
}
