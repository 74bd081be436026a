//! Fields that hold several values: addresses to bind, and the output limits of the client classes.

use std::fmt;
use std::time::Duration;

use super::error::ValueFault;
use super::parse;

/// Redis's bound on `bind` addresses.
pub(super) const MAX_ADDRESSES: usize = 16;

/// Words a class takes in `client-output-buffer-limit`: its name, hard limit, soft limit, seconds.
const WORDS_A_CLASS: usize = 4;

/// One address of `bind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindAddress {
    /// A host name, an IP address, `*` (all of IPv4) or `::*` (all of IPv6).
    name: String,
    /// Written with a leading `-`: the server starts even if this machine does not have the address.
    pub optional: bool,
}

impl BindAddress {
    /// Reads one word of `bind`; whether the address exists is found out on binding.
    pub(super) fn parse(word: &[u8]) -> Result<Self, ValueFault> {
        let word = str::from_utf8(word).map_err(|_| ValueFault::BadAddress)?;
        let (optional, name) = word.strip_prefix('-').map_or((false, word), |rest| (true, rest));
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(ValueFault::BadAddress);
        }
        Ok(Self { name: name.to_owned(), optional })
    }

    pub(super) fn parse_all(words: &[&[u8]]) -> Result<Vec<Self>, ValueFault> {
        match words.len() {
            0 => Err(ValueFault::NoAddress),
            1..=MAX_ADDRESSES => words.iter().map(|word| Self::parse(word)).collect(),
            _ => Err(ValueFault::TooManyAddresses),
        }
    }

    /// The host to resolve and listen on, with Redis's two wildcards written out.
    pub fn host(&self) -> &str {
        match self.name.as_str() {
            "*" => "0.0.0.0",
            "::*" => "::",
            name => name,
        }
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.optional { "-" } else { "" }, self.name)
    }
}

/// How much output may wait for a client before it is disconnected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// Bytes at which it is disconnected at once; 0 for no such limit.
    pub hard: u64,
    /// Bytes above which it may not stay for longer than `soft_for`; 0 for no such limit.
    pub soft: u64,
    /// How long it may stay above `soft`; whole seconds.
    pub soft_for: Duration,
}

/// The output limits of the three classes of clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputLimits {
    /// Clients that are neither of the other two.
    pub normal: OutputLimit,
    /// Replicas, which Redis calls `slave` here.
    pub replica: OutputLimit,
    /// Clients that have subscribed to a channel.
    pub pubsub: OutputLimit,
}

impl OutputLimits {
    /// Reads groups of class, hard limit, soft limit, seconds; classes that are not named keep their
    /// limits. On an error `self` is as it was.
    pub(super) fn update(&mut self, words: &[&[u8]]) -> Result<(), ValueFault> {
        let (classes, rest) = words.as_chunks::<WORDS_A_CLASS>();
        if !rest.is_empty() {
            return Err(ValueFault::LimitCount);
        }
        let mut new = *self;
        for [class, hard, soft, seconds] in classes {
            let class = new.class_mut(class).ok_or(ValueFault::LimitClass)?;
            *class = OutputLimit {
                hard: parse::memory(hard).map_err(|_| ValueFault::LimitNumber)?,
                soft: parse::memory(soft).map_err(|_| ValueFault::LimitNumber)?,
                soft_for: limit_seconds(seconds)?,
            };
        }
        *self = new;
        Ok(())
    }

    fn class_mut(&mut self, name: &[u8]) -> Option<&mut OutputLimit> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Some(&mut self.normal),
            b"slave" | b"replica" => Some(&mut self.replica),
            b"pubsub" => Some(&mut self.pubsub),
            _ => None,
        }
    }
}

fn limit_seconds(word: &[u8]) -> Result<Duration, ValueFault> {
    let seconds = parse::integer(word).map_err(|_| ValueFault::LimitNumber)?;
    u64::try_from(seconds).map(Duration::from_secs).map_err(|_| ValueFault::LimitNumber)
}

impl fmt::Display for OutputLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes = [("normal", self.normal), ("slave", self.replica), ("pubsub", self.pubsub)];
        for (index, (name, limit)) in classes.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(f, "{gap}{name} {} {} {}", limit.hard, limit.soft, limit.soft_for.as_secs())?;
        }
        Ok(())
    }
}
