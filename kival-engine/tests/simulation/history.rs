//! What a store held after each commit, and which of it was promised.

use kival_engine::Engine;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Databases of the stores under test.
pub const DATABASES: usize = 4;

/// A key's value and its expiry.
pub type Value = (Arc<Vec<u8>>, u64);

/// The keys of each database.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State(pub [BTreeMap<Vec<u8>, Value>; DATABASES]);

impl State {
    /// What is live at `now`.
    pub fn live(&self, now: u64) -> State {
        let mut state = self.clone();
        state.0.iter_mut().for_each(|keys| keys.retain(|_, (_, expiry)| *expiry == 0 || *expiry > now));
        state
    }

    /// The key, if it is live at `now`.
    pub fn get(&self, db: usize, key: &[u8], now: u64) -> Option<&Value> {
        self.0[db].get(key).filter(|(_, expiry)| *expiry == 0 || *expiry > now)
    }

    /// What an engine shows.
    pub fn of(engine: &mut Engine) -> Result<State, String> {
        let mut state = State::default();
        for db in 0..DATABASES {
            let entries: Vec<(Vec<u8>, u64)> =
                engine.iter(db as u32).map(|(key, entry)| (key.to_vec(), entry.expiry)).collect();
            for (key, expiry) in entries {
                let value = engine.get(db as u32, &key).map_err(|error| format!("{key:?}: {error}"))?;
                let value = value.ok_or_else(|| format!("{key:?} is listed and not there"))?;
                state.0[db].insert(key, (Arc::new(value.to_vec()), expiry));
            }
        }
        Ok(state)
    }
}

/// The states that a store has been in since it was opened, by the last sequence of each.
#[derive(Debug, Default)]
pub struct History {
    commits: Vec<(u64, u64, State)>,
    /// Everything up to this sequence was reported durable.
    pub promised: u64,
}

impl History {
    /// Begins with what was found at an open: all of that is promised.
    pub fn begin(sequence: u64, now: u64, state: State) -> History {
        History { commits: vec![(sequence, now, state)], promised: sequence }
    }

    /// Notes what a commit leads to, before it is made: from here on it may be found after a crash.
    pub fn push(&mut self, sequence: u64, now: u64, state: State) {
        self.commits.push((sequence, now, state));
    }

    /// The newest state.
    pub fn newest(&self) -> &State {
        &self.commits.last().expect("a history begins with a state").2
    }

    /// The state after everything up to `sequence`.
    pub fn at(&self, sequence: u64) -> Option<&State> {
        self.commits.iter().rev().find(|(last, ..)| *last <= sequence).map(|(.., state)| state)
    }

    /// Forgets the newest commit, which was refused.
    pub fn pop(&mut self) {
        self.commits.pop();
    }

    /// Notes that everything up to `sequence` is on disk.
    pub fn promise(&mut self, sequence: u64) {
        self.promised = self.promised.max(sequence);
    }

    /// The last sequence of the commits made at `time` or before.
    pub fn committed_by(&self, time: u64) -> u64 {
        self.commits.iter().rev().find(|(_, made, _)| *made <= time).map_or(0, |(sequence, ..)| *sequence)
    }

    /// The state that `found` is, if a crash may leave it: a commit's, no older than what was promised.
    pub fn explain(&self, found: &State, now: u64) -> Result<State, String> {
        let oldest = self.commits.iter().rposition(|(sequence, ..)| *sequence <= self.promised).unwrap_or(0);
        let allowed = &self.commits[oldest..];
        if let Some((.., state)) = allowed.iter().rev().find(|(.., state)| state.live(now) == *found) {
            return Ok(state.clone());
        }
        let earlier = self.commits[..oldest].iter().rposition(|(.., state)| state.live(now) == *found);
        Err(match earlier {
            Some(at) => format!(
                "what was promised (up to {}) is lost: this is the state after {}",
                self.promised, self.commits[at].0
            ),
            None => format!("this is no state that the store was ever in: {}", self.difference(found, now)),
        })
    }

    fn difference(&self, found: &State, now: u64) -> String {
        let Some((sequence, _, newest)) = self.commits.last() else { return String::new() };
        let newest = newest.live(now);
        let mut told = format!("promised {}, newest {sequence}", self.promised);
        for db in 0..DATABASES {
            let keys = newest.0[db].keys().chain(found.0[db].keys());
            for key in keys.collect::<std::collections::BTreeSet<_>>() {
                let (expected, seen) = (newest.0[db].get(key), found.0[db].get(key));
                if expected != seen {
                    let short = |value: Option<&Value>| {
                        value.map(|(bytes, expiry)| (bytes.len(), bytes.last().copied(), *expiry))
                    };
                    told += &format!("; db {db} {key:?}: {:?} for {:?}", short(seen), short(expected));
                }
            }
        }
        told
    }
}
