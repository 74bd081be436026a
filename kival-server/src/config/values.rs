//! Types of fields that choose one of a few words, and the one that hides what it holds.

use std::fmt;

/// An enum whose variants are words of a setting, in the order in which Redis lists them in its errors.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// The words, in the order of the variants.
            pub const WORDS: &[&str] = &[$($word),+];
            /// The variants, in the order of the words.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word that stands for this variant in files and replies.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

words! {
    /// When a write is made durable.
    AppendFsync {
        /// Once a second, after the reply: a crash of the machine can lose about a second of writes.
        EverySec = "everysec",
        /// Before the reply.
        Always = "always",
        /// When the operating system sees fit.
        No = "no",
    }
}

impl AppendFsync {
    /// The one of the two that promises more.
    pub fn stricter(self, other: AppendFsync) -> AppendFsync {
        let promise = |policy| match policy {
            AppendFsync::No => 0,
            AppendFsync::EverySec => 1,
            AppendFsync::Always => 2,
        };
        if promise(other) > promise(self) { other } else { self }
    }
}

words! {
    /// What a start does about damaged files.
    OnCorruption {
        /// The server does not start.
        Refuse = "refuse",
        /// It serves what is sound.
        Quarantine = "quarantine",
    }
}

words! {
    /// Who may call DEBUG.
    DebugCommand {
        /// Nobody.
        No = "no",
        /// Every client.
        Yes = "yes",
        /// Clients that connect from this machine.
        Local = "local",
    }
}

words! {
    /// How much is logged.
    LogLevel {
        /// Everything, also what helps only in finding a fault of kival itself.
        Debug = "debug",
        /// Much, such as each connection.
        Verbose = "verbose",
        /// What an operator wants to know.
        Notice = "notice",
        /// Only what needs attention.
        Warning = "warning",
    }
}

words! {
    /// What a line of the log looks like.
    LogFormat {
        /// For people.
        Text = "text",
        /// A JSON object a line, for programs.
        Json = "json",
    }
}

/// A password: compared and sent, but never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps a password of any bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The password itself, for comparing it; it belongs in no log.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is no password.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret(none)" } else { "Secret(hidden)" })
    }
}
