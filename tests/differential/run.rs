//! Sends the same commands to two servers and keeps what is needed to explain a difference.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use kival_test_support::{Client, Frame, Server, Value, encode, printable};

use super::compare::{Rule, rule, same, same_all};
use super::generate::{Args, Generator};

/// How many databases the servers have.
const DATABASES: usize = 16;
/// Commands between two comparisons of everything that the servers hold.
const BETWEEN_STATES: u64 = 4_000;
/// Commands kept to explain a difference, and how many of them an explanation shows.
const REMEMBERED: usize = 4_000;
const SHOWN: usize = 20;
/// Sizes of a pipelined batch.
const BATCHES: [usize; 5] = [1, 4, 30, 150, 600];

/// What the two servers did not agree on.
pub(crate) struct Difference {
    /// The number of the command, from 0.
    pub(crate) index: u64,
    what: String,
    left: String,
    right: String,
    history: Vec<String>,
}

/// Changes a reply of the left server before it is compared: to see that a difference is seen.
pub(crate) type Tamper = Box<dyn FnMut(u64, &Args, &mut Frame)>;

/// One server: a connection for each version of the protocol, one to look at its state, and one that is told all
/// events of keys.
struct Side {
    speakers: [Client; 2],
    inspector: Client,
    listener: Client,
}

struct Past {
    index: u64,
    speaker: usize,
    db: String,
    args: Args,
    reply: String,
}

/// A comparison under way.
pub(crate) struct Run {
    pub(crate) left: Server,
    pub(crate) right: Server,
    sides: [Side; 2],
    generator: Generator,
    past: VecDeque<Past>,
    /// The database that each speaker has selected.
    dbs: [String; 2],
    /// The rules for what each speaker has queued since its MULTI.
    queued: [Option<Vec<Rule>>; 2],
    /// The longest that a batch has taken: no two clocks can have been read further apart.
    longest: Duration,
    next: u64,
    next_state: u64,
    pub(crate) tamper: Option<Tamper>,
    outcomes: BTreeMap<String, [u64; 2]>,
}

/// Under this name all commands are counted that are none.
pub(crate) const UNKNOWN: &str = "unknown";

impl Side {
    fn new(server: &Server) -> Side {
        let (mut inspector, mut listener) = (server.client(), server.client());
        // Misses and new keys, too.
        inspector.call(&["CONFIG", "SET", "notify-keyspace-events", "EAmn"]);
        listener.call(&["PSUBSCRIBE", "__keyevent@*__:*"]);
        Side { speakers: [server.client(), server.client3()], inspector, listener }
    }
}

impl Side {
    /// What the listener has been told since the last call: channel and key.
    fn events(&mut self) -> Vec<Value> {
        self.listener.send(&["PING"]);
        let mut events = Vec::new();
        loop {
            let Value::Array(mut parts) = self.listener.read() else { panic!("a message") };
            match parts.len() {
                2 => return events,
                _ => events.push(Value::Array(parts.split_off(2))),
            }
        }
    }
}

impl Run {
    pub(crate) fn new(left: Server, right: Server, rng: Rng) -> Run {
        Run {
            sides: [Side::new(&left), Side::new(&right)],
            left,
            right,
            generator: Generator::new(rng),
            past: VecDeque::new(),
            dbs: ["0".to_owned(), "0".to_owned()],
            queued: [None, None],
            longest: Duration::ZERO,
            next: 0,
            next_state: BETWEEN_STATES,
            tamper: None,
            outcomes: BTreeMap::new(),
        }
    }

    /// How many commands have been sent.
    pub(crate) fn sent(&self) -> u64 {
        self.next
    }

    /// For each command how many of its replies were errors, and how many were not.
    pub(crate) fn outcomes(&self) -> &BTreeMap<String, [u64; 2]> {
        &self.outcomes
    }

    /// One batch on one of the connections, and now and then a look at a whole database or at all.
    pub(crate) fn step(&mut self) -> Result<(), Box<Difference>> {
        let speaker = self.generator.rng().usize(..2);
        let most = *self.generator.rng().choice(&BATCHES).expect("not empty");
        let size = self.generator.rng().usize(1..=most);
        let batch = self.batch(size);
        self.send(speaker, batch)?;
        match self.generator.rng().u8(..10) {
            // There these would only be queued.
            _ if self.queued[speaker].is_some() => {}
            0 => self.full_scan(speaker)?,
            1 => self.random_key(speaker)?,
            _ => {}
        }
        if self.next >= self.next_state {
            self.next_state = self.next + BETWEEN_STATES;
            self.compare_states()?;
        }
        Ok(())
    }

    /// Empties both servers, to go on after a difference.
    pub(crate) fn start_over(&mut self) {
        for side in &mut self.sides {
            side.inspector.call(&["FLUSHALL"]);
            for speaker in &mut side.speakers {
                speaker.call(&["DISCARD"]);
                speaker.call(&["UNWATCH"]);
                // What ran on one side only may have chosen another one there.
                speaker.call(&["SELECT", "0"]);
            }
        }
        self.queued = [None, None];
        self.dbs = ["0".to_owned(), "0".to_owned()];
        self.past.clear();
    }

    fn batch(&mut self, size: usize) -> Vec<Args> {
        let mut batch = Vec::with_capacity(size + 1);
        while batch.len() < size {
            let args = self.generator.command();
            let follower = settle(&args);
            batch.push(args);
            batch.extend(follower);
        }
        batch
    }

    fn send(&mut self, speaker: usize, batch: Vec<Args>) -> Result<(), Box<Difference>> {
        let bytes: Vec<u8> = batch.iter().flat_map(|args| self.wire(args)).collect();
        let start = Instant::now();
        let [left, right] = both(&mut self.sides, |side| {
            let mut frames = Vec::with_capacity(batch.len());
            let end = side.speakers[speaker].pipeline(&bytes, batch.len(), &mut frames);
            (frames, end)
        });
        self.longest = self.longest.max(start.elapsed());
        let events = both(&mut self.sides, |side| side.events());
        for (i, args) in batch.into_iter().enumerate() {
            let index = self.next;
            self.next += 1;
            let mut pair = [reply(&left, i), reply(&right, i)];
            if let (Some(tamper), Ok(frame)) = (&mut self.tamper, &mut pair[0]) {
                tamper(index, &args, frame);
            }
            let agreed = match &pair {
                [Ok(l), Ok(r)] => match self.executed(speaker, &args, r) {
                    Some(rules) => same_all(&rules, self.slack_ms(), l, r),
                    None => same(rule(&args[0]), self.slack_ms(), l, r),
                },
                _ => false,
            };
            let shown = pair.each_ref().map(show);
            if let Ok(right) = &pair[1] {
                let name = String::from_utf8_lossy(&args[0]).to_uppercase();
                let known = !right.raw.starts_with(b"-ERR unknown command");
                let name = if known { name } else { UNKNOWN.to_owned() };
                self.outcomes.entry(name).or_default()[usize::from(!right.value.is_error())] += 1;
            }
            self.remember(index, speaker, args, shown[0].clone());
            if !agreed {
                return Err(self.difference(index, shown));
            }
        }
        self.agree_on_events(speaker, &events)
    }

    /// The events of keys that a batch has caused.
    fn agree_on_events(
        &self,
        speaker: usize,
        [left, right]: &[Vec<Value>; 2],
    ) -> Result<(), Box<Difference>> {
        let Some(first) = (0..left.len().max(right.len())).find(|&i| left.get(i) != right.get(i)) else {
            return Ok(());
        };
        let around = first.saturating_sub(3)..first + 4;
        let shown: [String; 2] = [left, right].map(|events| {
            let near = events.iter().enumerate().filter(|(i, _)| around.contains(i));
            near.map(|(_, event)| format!("{event:?} ")).collect()
        });
        self.agree(speaker, "events of keys", shown)
    }

    /// Follows a speaker's transaction by a reply; the rules for the queued commands if this was their EXEC.
    fn executed(&mut self, speaker: usize, args: &Args, reply: &Frame) -> Option<Vec<Rule>> {
        let queued = &mut self.queued[speaker];
        let is = |name: &str| args[0].eq_ignore_ascii_case(name.as_bytes());
        if reply.raw == b"+QUEUED\r\n" {
            queued.get_or_insert_default().push(rule(&args[0]));
        } else if is("MULTI") && !reply.value.is_error() {
            *queued = Some(Vec::new());
        } else if is("EXEC") || is("DISCARD") {
            // A wrong number of arguments ends no transaction.
            let ended = !reply.raw.starts_with(b"-ERR wrong number");
            return if ended { queued.take() } else { None };
        }
        None
    }

    /// The bytes of a command: an array of bulk strings or, one time in twenty where it is short, a line.
    fn wire(&mut self, args: &Args) -> Vec<u8> {
        let length: usize = args.iter().map(Vec::len).sum();
        if length > 1000 || self.generator.rng().u8(..20) > 0 {
            return encode(args);
        }
        let quoted: Vec<String> = args.iter().map(|arg| quote(arg)).collect();
        format!("{}\r\n", quoted.join(" ")).into_bytes()
    }

    /// How far apart the servers may have been at the moment that an expiry was set, and again when it is
    /// read.
    fn slack_ms(&self) -> i64 {
        2 * self.longest.as_millis() as i64
    }

    /// Whole loops of SCAN, which are to find the same keys.
    fn full_scan(&mut self, speaker: usize) -> Result<(), Box<Difference>> {
        const MANNERS: [&[&str]; 7] = [
            &[],
            &["COUNT", "1"],
            &["COUNT", "1000"],
            &["MATCH", "key:*"],
            &["MATCH", "*1*", "COUNT", "3"],
            &["TYPE", "string"],
            &["TYPE", "hash", "MATCH", "*"],
        ];
        let manner = self.generator.rng().choice(MANNERS).expect("not empty");
        let found = both(&mut self.sides, |side| side.speakers[speaker].scan(manner));
        self.agree(speaker, &format!("a full SCAN {manner:?}"), found)
    }

    /// RANDOMKEY gives a key that exists, or nil on both.
    fn random_key(&mut self, speaker: usize) -> Result<(), Box<Difference>> {
        let found = both(&mut self.sides, |side| {
            let client = &mut side.speakers[speaker];
            match client.call(&["RANDOMKEY"]) {
                Value::Bulk(key) => match client.call(&[b"EXISTS", key.as_slice()]) {
                    Value::Int(1) => "a key that exists".to_owned(),
                    other => format!("{}, of which EXISTS says {other:?}", printable(&key)),
                },
                other => format!("{other:?}"),
            }
        });
        self.agree(speaker, "RANDOMKEY", found)
    }

    /// Compares every key of every database: type, value and expiry.
    pub(crate) fn compare_states(&mut self) -> Result<(), Box<Difference>> {
        for db in 0..DATABASES {
            let keys = both(&mut self.sides, |side| {
                side.inspector.call(&["SELECT", &db.to_string()]);
                let mut frames = Vec::new();
                side.inspector.pipeline(&encode(&["KEYS", "*"]), 1, &mut frames).expect("KEYS is answered");
                let mut keys: Vec<Vec<u8>> = frames[0]
                    .value
                    .items()
                    .expect("KEYS answers an array")
                    .iter()
                    .map(|key| key.bytes().expect("of strings").to_vec())
                    .collect();
                keys.sort_unstable();
                keys
            });
            if keys[0] != keys[1] {
                let only = |a: &[Vec<u8>], b: &[Vec<u8>]| -> Vec<Vec<u8>> {
                    a.iter().filter(|key| !b.contains(key)).cloned().collect()
                };
                let extra = [only(&keys[0], &keys[1]), only(&keys[1], &keys[0])];
                let shown = extra.each_ref().map(|keys| format!("also has {}", line(keys)));
                return Err(self.state_difference(db, &extra.concat(), "keys", shown));
            }
            let [keys, _] = keys;
            for key in &keys {
                self.compare_key(db, key)?;
            }
        }
        Ok(())
    }

    fn compare_key(&mut self, db: usize, key: &[u8]) -> Result<(), Box<Difference>> {
        let questions = [&b"TYPE"[..], b"GET", b"PTTL"];
        let bytes: Vec<u8> = questions.iter().flat_map(|name| encode(&[name, key])).collect();
        let start = Instant::now();
        let [left, right] = both(&mut self.sides, |side| {
            let mut frames = Vec::new();
            let asked = side.inspector.pipeline(&bytes, questions.len(), &mut frames);
            asked.expect("the state is answered");
            frames
        });
        self.longest = self.longest.max(start.elapsed());
        for ((name, l), r) in questions.iter().zip(&left).zip(&right) {
            if !same(rule(name), self.slack_ms(), l, r) {
                let shown = [l, r].map(|frame| format!("{:?}", frame.value));
                let what = String::from_utf8_lossy(name);
                return Err(self.state_difference(db, &[key.to_vec()], &what, shown));
            }
        }
        Ok(())
    }

    fn remember(&mut self, index: u64, speaker: usize, args: Args, reply: String) {
        let selected = args.len() == 2 && args[0].eq_ignore_ascii_case(b"SELECT") && reply == "+OK";
        if selected {
            self.dbs[speaker] = printable(&args[1]);
        }
        if self.past.len() == REMEMBERED {
            self.past.pop_front();
        }
        self.past.push_back(Past { index, speaker, db: self.dbs[speaker].clone(), args, reply });
    }

    fn difference(&self, index: u64, [left, right]: [String; 2]) -> Box<Difference> {
        let last = self.past.back().expect("the command was remembered");
        let known = self.generator.possible_keys();
        let keys: Args = last.args[1..].iter().filter(|arg| known.contains(arg)).cloned().collect();
        let what = format!(
            "RESP{}, database {}: {} [{:?}]",
            last.speaker + 2,
            last.db,
            line(&last.args),
            rule(&last.args[0])
        );
        Box::new(Difference { index, what, left, right, history: self.history(&keys) })
    }

    fn state_difference(
        &self,
        db: usize,
        keys: &[Vec<u8>],
        what: &str,
        shown: [String; 2],
    ) -> Box<Difference> {
        let [left, right] = shown;
        let what = format!("the state of database {db}: {what} of {}", line(keys));
        Box::new(Difference { index: self.next, what, left, right, history: self.history(keys) })
    }

    fn agree<T: PartialEq + fmt::Debug>(
        &self,
        speaker: usize,
        what: &str,
        found: [T; 2],
    ) -> Result<(), Box<Difference>> {
        let good = found[0] == found[1];
        let [left, right] = found.map(|side| format!("{side:?}"));
        let what = format!("RESP{}, database {}: {what}", speaker + 2, self.dbs[speaker]);
        if good {
            return Ok(());
        }
        Err(Box::new(Difference { index: self.next, what, left, right, history: self.history(&[]) }))
    }

    /// The last commands that touched one of these keys, or all keys; of all commands without a key.
    fn history(&self, keys: &[Vec<u8>]) -> Vec<String> {
        const ALL_KEYS: [&str; 3] = ["FLUSHALL", "FLUSHDB", "SWAPDB"];
        let touches = |past: &&Past| {
            let name = String::from_utf8_lossy(&past.args[0]).to_uppercase();
            keys.is_empty()
                || ALL_KEYS.contains(&name.as_str())
                || past.args[1..].iter().any(|arg| keys.contains(arg))
        };
        let mut recent: Vec<String> =
            self.past.iter().rev().filter(touches).take(SHOWN).map(Past::show).collect();
        recent.reverse();
        recent
    }
}

impl Past {
    fn show(&self) -> String {
        format!(
            "{} RESP{} db {}: {} -> {}",
            self.index,
            self.speaker + 2,
            self.db,
            line(&self.args),
            self.reply
        )
    }
}

impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "command {}: {}", self.index, self.what)?;
        writeln!(f, "  under test {}", self.left)?;
        writeln!(f, "  redis      {}", self.right)?;
        self.history.iter().try_for_each(|past| writeln!(f, "    {past}"))
    }
}

/// Does the same with both servers at the same time.
fn both<T: Send>(sides: &mut [Side; 2], act: impl Fn(&mut Side) -> T + Sync) -> [T; 2] {
    let [left, right] = sides;
    thread::scope(|scope| {
        let other = scope.spawn(|| act(left));
        let mine = act(right);
        [other.join().expect("the other half does not panic"), mine]
    })
}

/// The `i`th reply, or why there is none.
fn reply(side: &(Vec<Frame>, io::Result<()>), i: usize) -> Result<Frame, String> {
    let (frames, end) = side;
    let silence = || match end {
        Err(e) => format!("no reply: {e}"),
        Ok(()) => "no reply".to_owned(),
    };
    frames.get(i).cloned().ok_or_else(silence)
}

fn show(reply: &Result<Frame, String>) -> String {
    match reply {
        Ok(Frame { raw, value: Value::Nil }) => printable(raw),
        Ok(frame) => format!("{:?}", frame.value),
        Err(silence) => silence.clone(),
    }
}

fn line(args: &[Vec<u8>]) -> String {
    let quoted: Vec<String> = args.iter().map(|arg| format!("\"{}\"", printable(arg))).collect();
    quoted.join(" ")
}

/// What is sent behind a command after which redis-server leaves something unsettled, which only DBSIZE or WATCH can
/// tell: both servers then agree on it.
fn settle(args: &Args) -> Option<Args> {
    let is = |arg: &[u8], word: &str| arg.eq_ignore_ascii_case(word.as_bytes());
    let (name, rest) = args.split_first()?;
    let has = |word: &str| rest.iter().any(|arg| is(arg, word));
    let key = rest.first()?.clone();
    if is(name, "SET") && (has("EXAT") || has("PXAT")) {
        // A key that is set with an expiry in the past is there until someone looks.
        Some(vec![b"EXISTS".to_vec(), key])
    } else if is(name, "BITFIELD") && has("FAIL") {
        // A key that is made or grows, and then takes none of the changes, does not count as changed.
        Some(vec![b"APPEND".to_vec(), key, Vec::new()])
    } else {
        None
    }
}

/// An argument of an inline command.
fn quote(arg: &[u8]) -> String {
    if !arg.is_empty() && arg.iter().all(u8::is_ascii_alphanumeric) {
        return String::from_utf8_lossy(arg).into_owned();
    }
    let escaped: String = arg.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    format!("\"{escaped}\"")
}
