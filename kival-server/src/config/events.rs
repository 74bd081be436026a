//! Which events of keys are told: `notify-keyspace-events`.

use super::error::ValueFault;
use std::fmt;

/// Classes of events, and the two ways in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NotifyEvents(u16);

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident = $bit:literal $letter:literal;)*) => {
        impl NotifyEvents {
            $($(#[$doc])* pub const $name: NotifyEvents = NotifyEvents(1 << $bit);)*
        }

        /// The letters, in the order in which they are shown.
        const LETTERS: &[(u8, NotifyEvents)] = &[$(($letter, NotifyEvents::$name)),*];
    };
}

classes! {
    /// Commands on keys of any type.
    GENERIC = 0 b'g';
    /// Commands on strings.
    STRING = 1 b'$';
    /// Commands on lists.
    LIST = 2 b'l';
    /// Commands on sets.
    SET = 3 b's';
    /// Commands on hashes.
    HASH = 4 b'h';
    /// Commands on sorted sets.
    SORTED_SET = 5 b'z';
    /// Keys whose time has come.
    EXPIRED = 6 b'x';
    /// Keys that had to make room.
    EVICTED = 7 b'e';
    /// Commands on streams.
    STREAM = 8 b't';
    /// Events of modules.
    MODULE = 9 b'd';
    /// On channels of keys: `__keyspace@<db>__:<key>`.
    BY_KEY = 10 b'K';
    /// On channels of events: `__keyevent@<db>__:<event>`.
    BY_EVENT = 11 b'E';
    /// Look-ups of keys that are not there.
    KEY_MISS = 12 b'm';
    /// Keys that were not there before.
    NEW = 13 b'n';
}

/// What `A` stands for.
const ALL: NotifyEvents = NotifyEvents((1 << 10) - 1);

impl NotifyEvents {
    /// Nothing.
    pub const NONE: NotifyEvents = NotifyEvents(0);

    /// Whether nothing is told.
    #[inline]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` is in it.
    #[inline]
    pub fn has(self, other: NotifyEvents) -> bool {
        self.0 & other.0 == other.0
    }

    /// Reads letters in any order.
    pub(super) fn parse(text: &[u8]) -> Result<NotifyEvents, ValueFault> {
        text.iter().try_fold(NotifyEvents::NONE, |events, letter| {
            let known = LETTERS.iter().find(|(known, _)| known == letter).map(|(_, class)| *class);
            let more = known.or((*letter == b'A').then_some(ALL)).ok_or(ValueFault::NotEvents)?;
            Ok(NotifyEvents(events.0 | more.0))
        })
    }
}

impl fmt::Display for NotifyEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.has(ALL);
        if all {
            f.write_str("A")?;
        }
        let shown = LETTERS.iter().filter(|(_, class)| self.has(*class) && !(all && ALL.has(*class)));
        shown.clone().try_for_each(|(letter, _)| write!(f, "{}", char::from(*letter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str) {
        assert_eq!(
            NotifyEvents::parse(text.as_bytes()).map(|events| events.to_string()),
            Ok(shown.to_owned())
        );
    }

    #[test]
    fn letters_are_shown_in_one_order() {
        check("", "");
        check("KEA", "AKE");
        check("gxn", "gxn");
        check("mKEg$lshzxetd", "AKEm");
        check("dt", "td");
        check("nK", "Kn");
        assert_eq!(NotifyEvents::parse(b"KAq"), Err(ValueFault::NotEvents));
    }

    #[test]
    fn all_is_not_what_must_be_asked_for_by_name() {
        let all = NotifyEvents::parse(b"A").expect("letters");
        assert!(all.has(NotifyEvents::EXPIRED) && all.has(NotifyEvents::GENERIC));
        assert!(
            !all.has(NotifyEvents::KEY_MISS) && !all.has(NotifyEvents::NEW) && !all.has(NotifyEvents::BY_KEY)
        );
    }
}
