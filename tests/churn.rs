//! Many keys survive rounds of overwrite, delete, compaction and restart while other clients work, and the
//! garbage does not stay on the disk.
//!
//! 100,000 keys in a normal run; the full run is
//! `KIVAL_CHURN_KEYS=1000000 cargo test --profile soak -p kival-server --test system churn`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fastrand::Rng;
use kival_test_support::{Client, Server, Value, eventually, seed};

use crate::target;

const ROUNDS: u16 = 20;
/// Every so many rounds the server is restarted, by turns with a crash and a clean stop.
const ROUNDS_A_RESTART: u16 = 3;
/// Commands in a pipelined batch, and keys in one MGET.
const BATCH: usize = 1000;
const SEGMENT: u64 = 8 << 20;
const SEGMENT_SETTING: &str = "8mb";
/// What a record costs beside its key and its value, by `record_format.md`.
const RECORD_HEADER: u64 = 36;

/// What the server is to hold: for each key the round that wrote it last, 0 for none. The value follows from
/// key and round, so that a million keys fit into two megabytes.
struct Model {
    prefix: String,
    written: Vec<u16>,
}

impl Model {
    fn new(prefix: impl Into<String>, keys: usize) -> Model {
        Model { prefix: prefix.into(), written: vec![0; keys] }
    }

    fn key(&self, i: usize) -> String {
        format!("{}{i}", self.prefix)
    }

    /// 20 to 219 bytes that begin with key and round.
    fn value(&self, i: usize, round: u16) -> String {
        let mut value = format!("{} in {round} ", self.key(i));
        let length = 20 + (i * 31 + usize::from(round) * 17) % 200;
        while value.len() < length {
            value.push(char::from(b'a' + ((value.len() + usize::from(round)) % 26) as u8));
        }
        value
    }

    fn expected(&self, i: usize) -> Value {
        match self.written[i] {
            0 => Value::Nil,
            round => Value::bulk(self.value(i, round)),
        }
    }

    fn live(&self) -> usize {
        self.written.iter().filter(|round| **round > 0).count()
    }

    /// What the live records take at least, their headers included.
    fn live_bytes(&self) -> u64 {
        let size =
            |i: usize| (self.key(i).len() + self.value(i, self.written[i]).len()) as u64 + RECORD_HEADER;
        (0..self.written.len()).filter(|i| self.written[*i] > 0).map(size).sum()
    }

    /// Writes or deletes a key, in the model and as a command.
    fn change(&mut self, i: usize, round: u16) -> (Vec<String>, Value) {
        if round == 0 {
            let was = i64::from(self.written[i] > 0);
            self.written[i] = 0;
            (vec!["DEL".into(), self.key(i)], Value::Int(was))
        } else {
            self.written[i] = round;
            (vec!["SET".into(), self.key(i), self.value(i, round)], Value::ok())
        }
    }

    /// Sends these changes in pipelines and checks each reply.
    fn apply(&mut self, client: &mut Client, changes: impl Iterator<Item = (usize, u16)>) {
        let mut changes = changes.peekable();
        while changes.peek().is_some() {
            let (commands, expected): (Vec<_>, Vec<_>) =
                changes.by_ref().take(BATCH).map(|(i, round)| self.change(i, round)).unzip();
            let replies = client.call_all(&commands);
            for ((command, expected), reply) in commands.iter().zip(&expected).zip(&replies) {
                assert_eq!(reply, expected, "{command:?}");
            }
        }
    }

    /// Reads every key, those that are not to be there too.
    fn check_values(&self, client: &mut Client) {
        for start in (0..self.written.len()).step_by(BATCH) {
            let range = start..self.written.len().min(start + BATCH);
            let keys = range.clone().map(|i| self.key(i));
            let command: Vec<String> = std::iter::once("MGET".into()).chain(keys).collect();
            let reply = client.call(&command);
            let values = reply.items().unwrap_or_else(|| panic!("MGET answered {reply:?}"));
            assert_eq!(values.len(), range.len());
            for (i, value) in range.zip(values) {
                assert_eq!(*value, self.expected(i), "{}", self.key(i));
            }
        }
    }
}

/// A client that writes, deletes and reads keys of its own until told to stop.
fn work(port: u16, model: &mut Model, stop: &AtomicBool, mut rng: Rng) {
    let mut client = Client::connect(port).expect("the server accepts a connection");
    while !stop.load(Ordering::Relaxed) {
        let i = rng.usize(..model.written.len());
        let round = if rng.u8(..4) == 0 { 0 } else { rng.u16(1..1000) };
        let (command, expected) = model.change(i, round);
        assert_eq!(client.call(&command), expected, "{command:?}");
        let i = rng.usize(..model.written.len());
        assert_eq!(client.call(&["GET", &model.key(i)]), model.expected(i), "{}", model.key(i));
    }
}

/// Whether the server holds what the models say, and nothing else.
fn check(server: &Server, models: &[Model]) {
    let mut client = server.client();
    let live: usize = models.iter().map(Model::live).sum();
    assert_eq!(client.call(&["DBSIZE"]), Value::Int(live as i64), "DBSIZE");
    let found = client.scan(&["COUNT", "1000"]);
    for model in models {
        for (i, round) in model.written.iter().enumerate() {
            assert_eq!(
                found.contains(model.key(i).as_bytes()),
                *round > 0,
                "{} in a full SCAN",
                model.key(i)
            );
        }
    }
    assert_eq!(found.len(), live, "SCAN found keys that were never written");
    models.iter().for_each(|model| model.check_values(&mut client));
}

fn start_compaction(client: &mut Client) {
    let reply = client.call(&["BGREWRITEAOF"]);
    let runs_already = reply.text().contains("in progress");
    assert!(!reply.is_error() || runs_already, "BGREWRITEAOF answered {reply:?}");
}

fn await_compaction(client: &mut Client) {
    eventually("the compaction ends", || {
        let flags = ["aof_rewrite_in_progress", "aof_rewrite_scheduled"];
        let busy = flags.map(|flag| client.info("persistence", flag));
        (busy[0].as_deref() == Some("0") && busy[1].as_deref() != Some("1")).then_some(())
    });
}

/// What the files below `dir` take on the disk.
fn disk_use(dir: &Path) -> u64 {
    const BLOCK: u64 = 512;
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk_use(&entry.path()),
        Ok(meta) => meta.blocks() * BLOCK,
        // Removed while we looked.
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

#[test]
fn keys_survive_overwrite_delete_compaction_and_restart() {
    let keys: usize = seed::number("KIVAL_CHURN_KEYS", 100_000);
    let (mut rng, _) = seed::generator("churn");
    let mut server = target::start(&["--appendfsync", "everysec", "--segment-size", SEGMENT_SETTING]);
    let mut models = vec![Model::new("key:", keys), Model::new("left:", 500), Model::new("right:", 500)];
    models[0].apply(&mut server.client(), (0..keys).map(|i| (i, 1)));

    for round in 2..2 + ROUNDS {
        let mut client = server.client();
        // The new compaction runs beside all that follows.
        start_compaction(&mut client);
        let stop = AtomicBool::new(false);
        let port = server.port();
        let (main, others) = models.split_first_mut().expect("one model and two more");
        thread::scope(|scope| {
            for model in others {
                let (rng, stop) = (rng.fork(), &stop);
                scope.spawn(move || work(port, model, stop, rng));
            }
            let finish = StopOnDrop(&stop);
            let changes = (0..keys / 2).map(|_| {
                let fate = if rng.u8(..5) < 2 { 0 } else { round };
                (rng.usize(..keys), fate)
            });
            main.apply(&mut client, changes);
            main.check_values(&mut client);
            await_compaction(&mut client);
            drop(finish);
        });
        check(&server, &models);
        if round % ROUNDS_A_RESTART == 0 {
            if round % (2 * ROUNDS_A_RESTART) == 0 {
                server.kill9();
            } else {
                assert!(server.terminate().success());
            }
            server.restart();
            check(&server, &models);
        }
    }

    let mut client = server.client();
    start_compaction(&mut client);
    await_compaction(&mut client);
    let live: u64 = models.iter().map(Model::live_bytes).sum();
    let most = 2 * live + 2 * SEGMENT;
    // Files go once their last reader has gone, which may be a moment after the compaction.
    let mut used = 0;
    eventually(&format!("the disk use of {} falls to {most} bytes", server.dir().display()), || {
        used = disk_use(&server.dir());
        (used <= most).then_some(())
    });
    println!("{keys} keys: {used} bytes on disk, {live} live, {most} allowed");
    check(&server, &models);
}

/// Lets the other clients end when the test fails too, so that the scope can.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_check_sees_what_is_wrong() {
    let server = target::start(&["--appendfsync", "no"]);
    let mut client = server.client();
    let mut models = vec![Model::new("key:", 2500)];
    models[0].apply(&mut client, (0..2500).map(|i| (i, 1 + (i % 3) as u16)));
    check(&server, &models);
    let wrongs: [(&[&str], &[&str]); 4] = [
        (&["SET", "stranger", "v"], &["DEL", "stranger"]),
        (&["DEL", "key:7"], &["SET", "key:7", &models[0].value(7, 2)]),
        (&["RENAME", "key:8", "key:x"], &["RENAME", "key:x", "key:8"]),
        (&["APPEND", "key:9", "x"], &["SET", "key:9", &models[0].value(9, 1)]),
    ];
    for (wrong, right) in wrongs {
        assert!(!client.call(wrong).is_error());
        let quiet = std::panic::AssertUnwindSafe(|| check(&server, &models));
        assert!(std::panic::catch_unwind(quiet).is_err(), "not noticed: {wrong:?}");
        assert!(!client.call(right).is_error());
        check(&server, &models);
    }
}
