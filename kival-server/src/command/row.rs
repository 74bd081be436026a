//! The row of a command in the table.

use super::context::{Context, Outcome};
use crate::resp::Args;
use std::ops::Range;

/// A command, or a subcommand of one.
#[derive(Debug)]
pub struct Command {
    /// Lower-case name; of a subcommand only its own part.
    pub name: &'static str,
    /// Runs it.
    pub handler: fn(&mut Context<'_>, Args<'_>) -> Outcome,
    /// Number of arguments with the name; if negative, the least number of them.
    pub arity: i32,
    /// What it takes behind its name, in the notation of `syntax`; COMMAND DOCS and hints derive from it.
    pub arguments: &'static str,
    /// What it does and where it may run.
    pub flags: Flags,
    /// Where its keys stand.
    pub keys: Keys,
    /// The word behind which its keys may stand instead.
    pub keys_behind: Option<KeysBehind>,
    /// What it does with them.
    pub key_spec: KeySpec,
    /// What it does with them if a request has these arguments, where that is less than the specification says.
    pub uses_keys: fn(Args<'_>) -> Option<&'static [&'static str]>,
    /// ACL categories beyond those that follow from the flags.
    pub categories: Categories,
    /// The group of the documentation.
    pub group: Group,
    /// The version of Redis that has it first.
    pub since: &'static str,
    /// Whether the documentation advises against it.
    pub deprecated: Option<Deprecated>,
    /// Cost.
    pub complexity: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Hints to cluster clients, as COMMAND INFO gives them.
    pub tips: &'static [&'static str],
    /// Which of its arguments are secret.
    pub secrets: fn(Args<'_>) -> Vec<usize>,
    /// Its subcommands.
    pub subcommands: &'static [Command],
}

impl Command {
    /// What most rows have in common; a row names what differs.
    pub const BASE: Command = Command {
        name: "",
        handler: |_, _| Ok(crate::resp::Reply::Ok),
        arity: 1,
        arguments: "",
        flags: Flags::NONE,
        keys: Keys::NONE,
        keys_behind: None,
        key_spec: KeySpec::NONE,
        uses_keys: |_| None,
        categories: Categories::NONE,
        group: Group::Generic,
        since: "1.0.0",
        deprecated: None,
        complexity: "O(1)",
        summary: "",
        tips: &[],
        secrets: |_| Vec::new(),
        subcommands: &[],
    };

    /// Whether a request with this many arguments, the name included, has the right number.
    pub fn takes(&self, arguments: usize) -> bool {
        let arguments = i32::try_from(arguments).unwrap_or(i32::MAX);
        if self.arity >= 0 { arguments == self.arity } else { arguments >= -self.arity }
    }

    /// Whether what stands where keys stand are keys: channels of shards are none.
    pub fn has_keys(&self) -> bool {
        self.keys != Keys::NONE && self.key_spec != KeySpec::NOT_KEYS
    }

    /// What a request does with its key of this number, 0 being the first: the flags of its specification.
    pub fn key_flags(&self, args: Args<'_>, number: usize) -> &'static [&'static str] {
        let spec = self.key_spec;
        let of_spec = if number > 0 && !spec.second.is_empty() { spec.second } else { spec.first };
        (self.uses_keys)(args).unwrap_or(of_spec)
    }

    /// Indices of the keys in a request.
    pub fn key_indices(&self, args: Args<'_>) -> impl Iterator<Item = usize> + use<> {
        if let Some(range) = self.keys_behind.and_then(|behind| (behind.find)(args)) {
            return range.step_by(1);
        }
        let arguments = args.len();
        let Keys { first, last, step } = if self.has_keys() { self.keys } else { Keys::NONE };
        let end =
            if last >= 0 { last as usize } else { arguments.saturating_sub(last.unsigned_abs() as usize) };
        let end = if first > 0 { (end + 1).min(arguments) } else { first };
        (first..end).step_by(step.max(1))
    }
}

/// That another command does what this one does, and better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deprecated {
    /// The version of Redis that first advised against it.
    pub since: &'static str,
    /// What to send in its place, in the words of the documentation.
    pub replaced_by: &'static str,
}

/// Where the keys of a command stand among its arguments: the first, the last (negative: from the end,
/// -1 being the last argument), and the step between them. `first` 0: no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Index of the first key.
    pub first: usize,
    /// Index of the last key.
    pub last: i32,
    /// From one to the next.
    pub step: usize,
}

impl Keys {
    /// No keys.
    pub const NONE: Keys = Keys { first: 0, last: 0, step: 0 };
    /// The first argument.
    pub const ONE: Keys = Keys { first: 1, last: 1, step: 1 };
    /// The first two arguments.
    pub const TWO: Keys = Keys { first: 1, last: 2, step: 1 };
    /// All arguments.
    pub const ALL: Keys = Keys { first: 1, last: -1, step: 1 };
    /// Every other argument, the first included.
    pub const PAIRS: Keys = Keys { first: 1, last: -1, step: 2 };
}

/// A word behind which the keys of a command may stand, and not where [`Keys`] has them.
#[derive(Debug, Clone, Copy)]
pub struct KeysBehind {
    /// The word.
    pub word: &'static str,
    /// Where cluster clients begin to look for it: an argument, negative if counted from the end, and then
    /// towards the beginning.
    pub from: i64,
    /// Finds the keys of a request; none if the word is not there.
    pub find: fn(Args<'_>) -> Option<Range<usize>>,
}

macro_rules! bit_set {
    ($(#[$doc:meta])* $name:ident: $($(#[$bit_doc:meta])* $bit:ident = $index:literal $text:literal;)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(u32);

        impl $name {
            /// The empty set.
            pub const NONE: $name = $name(0);
            $($(#[$bit_doc])* pub const $bit: $name = $name(1 << $index);)*

            /// The union.
            pub const fn and(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }

            /// Whether all of `other` is in it.
            pub const fn has(self, other: $name) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any of `others` is in it.
            pub const fn has_any(self, others: $name) -> bool {
                self.0 & others.0 != 0
            }

            /// The names that Redis gives its members.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                [$(($name::$bit, $text)),*].into_iter().filter(move |(bit, _)| self.has(*bit)).map(|(_, text)| text)
            }
        }
    };
}

bit_set! {
    /// What a command does and where it may run: Redis's command flags, by their meaning there.
    Flags:
    /// May change keys.
    WRITE = 0 "write";
    /// Reads keys and changes none.
    READONLY = 1 "readonly";
    /// May take more space.
    DENYOOM = 2 "denyoom";
    /// For administrators.
    ADMIN = 3 "admin";
    /// Concerns messages.
    PUBSUB = 4 "pubsub";
    /// Not for scripts.
    NOSCRIPT = 5 "noscript";
    /// May wait.
    BLOCKING = 6 "blocking";
    /// Allowed while data is loaded.
    LOADING = 7 "loading";
    /// Allowed on a stale replica.
    STALE = 8 "stale";
    /// Not shown to MONITOR.
    SKIP_MONITOR = 9 "skip_monitor";
    /// Not in the slow log.
    SKIP_SLOWLOG = 10 "skip_slowlog";
    /// Takes constant or logarithmic time.
    FAST = 11 "fast";
    /// Allowed before authentication.
    NO_AUTH = 12 "no_auth";
    /// Not while data is loaded beside the old.
    NO_ASYNC_LOADING = 18 "no_async_loading";
    /// Not inside a transaction.
    NO_MULTI = 13 "no_multi";
    /// Its keys stand where only its own arguments tell.
    MOVABLEKEYS = 14 "movablekeys";
    /// Allowed while another command is busy.
    ALLOW_BUSY = 15 "allow_busy";
    /// Answers depend on all keys of a database.
    WHOLE_KEYSPACE = 16 "";
    /// Runs only where `enable-debug-command` lets it.
    PROTECTED = 17 "";
    /// Runs at once inside a transaction, too.
    UNQUEUED = 19 "";
    /// Changes no key and yet counts as a write for a pause: it may tell others, or change how a value is kept.
    MAY_REPLICATE = 22 "";
    /// Ends a transaction, also when it is refused.
    ENDS_TRANSACTION = 20 "";
    /// Does not end what CLIENT CACHING has said for the next command.
    KEEPS_CACHING = 23 "";
    /// Waits for another server, so that it cannot run inside a transaction here.
    GOES_OUT = 24 "";
    /// Allowed to a client of RESP2 that listens to messages.
    WHILE_SUBSCRIBED = 21 "";
}

bit_set! {
    /// ACL categories.
    Categories:
    /// Concerns keys of any type.
    KEYSPACE = 0 "@keyspace";
    /// Changes data.
    WRITE = 1 "@write";
    /// Reads data.
    READ = 2 "@read";
    /// Strings.
    STRING = 3 "@string";
    /// For administrators.
    ADMIN = 4 "@admin";
    /// Constant or logarithmic time.
    FAST = 5 "@fast";
    /// The others.
    SLOW = 6 "@slow";
    /// May wait.
    BLOCKING = 7 "@blocking";
    /// Harmful in the wrong hands.
    DANGEROUS = 8 "@dangerous";
    /// Concerns the connection.
    CONNECTION = 9 "@connection";
    /// Messages.
    PUBSUB = 10 "@pubsub";
    /// Transactions.
    TRANSACTION = 11 "@transaction";
    /// Bitmaps.
    BITMAP = 12 "@bitmap";
    /// HyperLogLog.
    HYPERLOGLOG = 13 "@hyperloglog";
}

/// What a command does with its keys, as key specifications say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpec {
    /// For the first key, or all: RO, RW, OW or RM, then access, update, insert or delete.
    pub first: &'static [&'static str],
    /// For the second key and those behind it, where they differ from the first.
    pub second: &'static [&'static str],
    /// A remark on keys that no specification can express.
    pub notes: &'static str,
}

impl KeySpec {
    /// No keys.
    pub const NONE: KeySpec = KeySpec { first: &[], second: &[], notes: "" };

    /// Stands where keys do, and is none.
    pub const NOT_KEYS: KeySpec = KeySpec::all(&["not_key"]);

    /// The same for all keys.
    pub const fn all(flags: &'static [&'static str]) -> KeySpec {
        KeySpec { first: flags, second: &[], notes: "" }
    }
}

/// Groups of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Keys of any type.
    Generic,
    /// Strings.
    String,
    /// Strings as arrays of bits.
    Bitmap,
    /// Strings that count distinct elements.
    HyperLogLog,
    /// Connections.
    Connection,
    /// The server.
    Server,
    /// Transactions.
    Transactions,
    /// Messages.
    PubSub,
}

impl Group {
    /// Its name in COMMAND DOCS.
    pub fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::Bitmap => "bitmap",
            Group::HyperLogLog => "hyperloglog",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Transactions => "transactions",
            Group::PubSub => "pubsub",
        }
    }
}
