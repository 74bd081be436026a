//! Keys that several writers share, and what must be true of them after a crash: groups of keys that are only ever
//! written together hold one value, one that no acknowledged write came after; a counter has every acknowledged
//! increment, and nobody was shown more of it than is left; a list has every acknowledged entry once.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use fastrand::Rng;
use kival_test_support::{Client, Value, encode};

use super::own::{is_refusal, read_all};

const GROUPS: usize = 3;
const GROUP_KEYS: usize = 4;

/// What became of one command of a writer.
struct Sent {
    what: What,
    at: Instant,
    answered: Option<Instant>,
}

enum What {
    Group(usize, String),
    Increment,
    Entry(String),
    Nothing,
}

/// What one writer did in one cycle.
#[derive(Default)]
pub(super) struct Journal {
    sent: Vec<Sent>,
    /// The highest counter that it was shown.
    seen: i64,
}

/// What holds between the cycles.
pub(super) struct Shared {
    groups: [Option<String>; GROUPS],
    counter: i64,
}

impl Shared {
    pub(super) fn new() -> Shared {
        Shared { groups: [const { None }; GROUPS], counter: 0 }
    }

    /// After the restart: every shared key is what these journals allow.
    pub(super) fn verify(&mut self, client: &mut Client, journals: &[Journal]) -> Result<(), String> {
        let found = read_all(client, 0);
        let value = |key: &str| {
            found.get(key.as_bytes()).map(|(value, _)| String::from_utf8_lossy(value).into_owned())
        };
        let sent = || journals.iter().flat_map(|journal| &journal.sent);
        for group in 0..GROUPS {
            let values: HashSet<_> = (0..GROUP_KEYS).map(|i| value(&group_key(group, i))).collect();
            if values.len() != 1 {
                return Err(format!("group {group} was written in part: {values:?}"));
            }
            let value = values.into_iter().next().flatten();
            self.check_group(group, value.as_ref(), journals)?;
            self.groups[group] = value;
        }
        let increments = || sent().filter(|sent| matches!(sent.what, What::Increment));
        let acknowledged = increments().filter(|sent| sent.answered.is_some()).count() as i64;
        let seen = journals.iter().map(|journal| journal.seen).max().unwrap_or(0);
        let least = (self.counter + acknowledged).max(seen);
        let most = self.counter + increments().count() as i64;
        let counter = value("counter").map_or(0, |text| text.parse().expect("a counter"));
        if !(least..=most).contains(&counter) {
            return Err(format!("the counter is {counter}, not {least} to {most} (seen: {seen})"));
        }
        self.counter = counter;
        check_entries(&value("entries").unwrap_or_default(), journals)?;
        let known = |key: &[u8]| key == b"counter" || key == b"entries" || key.starts_with(b"group");
        if let Some(key) = found.keys().find(|key| !known(key)) {
            return Err(format!("{} was never written", key.escape_ascii()));
        }
        // The next cycle begins a list of its own: an entry of this one would be a stranger there.
        client.call(&["DEL", "entries"]);
        Ok(())
    }

    fn check_group(&self, group: usize, value: Option<&String>, journals: &[Journal]) -> Result<(), String> {
        let writes = || {
            journals.iter().flat_map(|journal| &journal.sent).filter_map(move |sent| match &sent.what {
                What::Group(of, token) if *of == group => Some((token, sent)),
                _ => None,
            })
        };
        // When what stands there was surely written.
        let written = if value == self.groups[group].as_ref() {
            None
        } else {
            match writes().find(|(token, _)| Some(*token) == value) {
                Some((_, Sent { answered: Some(at), .. })) => Some(*at),
                Some(_) => return Ok(()),
                None => {
                    return Err(format!(
                        "group {group} holds {value:?}, which nobody wrote after {:?}",
                        self.groups[group]
                    ));
                }
            }
        };
        let lost =
            writes().find(|(_, sent)| sent.answered.is_some() && written.is_none_or(|at| sent.at > at));
        lost.map_or(Ok(()), |(token, _)| {
            Err(format!("group {group} holds {value:?}; {token} was acknowledged after that and is lost"))
        })
    }
}

fn check_entries(list: &str, journals: &[Journal]) -> Result<(), String> {
    let mut found: HashMap<&str, usize> = HashMap::new();
    list.split_terminator(';').for_each(|entry| *found.entry(entry).or_default() += 1);
    for sent in journals.iter().flat_map(|journal| &journal.sent) {
        let What::Entry(entry) = &sent.what else { continue };
        let times = found.remove(&**entry).unwrap_or(0);
        if times > 1 || (times == 0 && sent.answered.is_some()) {
            return Err(format!(
                "the list has the entry {entry} {times} times; acknowledged: {}",
                sent.answered.is_some()
            ));
        }
    }
    found.keys().next().map_or(Ok(()), |entry| Err(format!("the list has {entry}, which nobody added")))
}

fn group_key(group: usize, i: usize) -> String {
    format!("group{group}:{i}")
}

impl Journal {
    /// Works until the server is gone, and asks `answered` at each reply whether it counts. `name` is the writer's, in this cycle.
    pub(super) fn work(
        &mut self,
        client: &mut Client,
        rng: &mut Rng,
        (name, backups): (&str, bool),
        answered: &dyn Fn() -> bool,
    ) -> Result<(), String> {
        for n in 0.. {
            let token = format!("{name}.{n}");
            let (args, what) = plan(rng, token, backups);
            self.sent.push(Sent { what, at: Instant::now(), answered: None });
            if client.write(&encode(&args)).is_err() {
                return Ok(());
            }
            let Ok(frame) = client.try_frame() else { return Ok(()) };
            if is_refusal(&frame.value) || !answered() {
                return Ok(());
            }
            let sent = self.sent.last_mut().expect("one was pushed");
            sent.answered = Some(Instant::now());
            match (&*args[0], &frame.value) {
                ("INCR", Value::Int(n)) => self.seen = self.seen.max(*n),
                ("GET", Value::Bulk(text)) => {
                    let n = String::from_utf8_lossy(text).parse().map_err(|_| "no number".to_owned())?;
                    self.seen = self.seen.max(n);
                }
                ("MSET", reply) if *reply == Value::ok() => {}
                ("APPEND", Value::Int(_)) | ("GET", Value::Nil) => {}
                // One is under way already, or there is nothing to do.
                ("BGREWRITEAOF" | "BGSAVE", _) => {}
                (command, reply) => return Err(format!("{command} answered {reply:?}")),
            }
        }
        Ok(())
    }
}

fn plan(rng: &mut Rng, token: String, backups: bool) -> (Vec<String>, What) {
    match rng.u8(..100) {
        0..=44 => {
            let group = rng.usize(..GROUPS);
            let pairs = (0..GROUP_KEYS).flat_map(|i| [group_key(group, i), token.clone()]);
            (std::iter::once("MSET".to_owned()).chain(pairs).collect(), What::Group(group, token))
        }
        45..=64 => (vec!["INCR".into(), "counter".into()], What::Increment),
        65..=84 => (vec!["APPEND".into(), "entries".into(), format!("{token};")], What::Entry(token)),
        85..=96 => (vec!["GET".into(), "counter".into()], What::Nothing),
        97 if backups => (vec!["BGSAVE".into()], What::Nothing),
        _ => (vec!["BGREWRITEAOF".into()], What::Nothing),
    }
}
