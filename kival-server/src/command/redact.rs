//! What may be shown of a command to others than its client: everything but its secrets.

use super::Command;
use super::options::is_word;
use crate::config::Setting;
use crate::resp::Args;

/// What stands in place of a secret, as in Redis.
const REDACTED: &[u8] = b"(redacted)";

/// The arguments of a command, its secrets hidden.
pub fn redacted<'a>(command: &Command, args: Args<'a>) -> Vec<&'a [u8]> {
    let mut shown: Vec<&[u8]> = args.iter().collect();
    for index in (command.secrets)(args) {
        if let Some(secret) = shown.get_mut(index) {
            *secret = REDACTED;
        }
    }
    shown
}

/// Everything behind the name.
pub(super) fn all_arguments(args: Args<'_>) -> Vec<usize> {
    (1..args.len()).collect()
}

/// The user and the password of HELLO's AUTH.
pub(super) fn of_hello(args: Args<'_>) -> Vec<usize> {
    let mut at = 2;
    while let Some(option) = args.get(at) {
        if is_word(option, "auth") && at + 2 < args.len() {
            return vec![at + 1, at + 2];
        }
        at += 2;
    }
    Vec::new()
}

/// The values of settings that are secret.
pub(super) fn of_config_set(args: Args<'_>) -> Vec<usize> {
    let is_secret = |name: &[u8]| Setting::find(name).is_some_and(Setting::is_secret);
    (2..args.len()).step_by(2).filter(|&at| is_secret(&args[at])).map(|at| at + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::super::resolve;
    use super::*;
    use crate::resp::Batch;

    #[track_caller]
    fn check(words: &str, expected: &str) {
        let batch = Batch::from_args(words.split(' '));
        let args = batch.command(0);
        let shown = redacted(resolve(args).unwrap().command, args).join(&b' ');
        assert_eq!(String::from_utf8(shown).unwrap(), expected);
    }

    #[test]
    fn secrets_are_not_shown() {
        check("auth pw", "auth (redacted)");
        check("AUTH user pw", "AUTH (redacted) (redacted)");
        check("hello 3 AUTH u pw SETNAME n", "hello 3 AUTH (redacted) (redacted) SETNAME n");
        check("hello 3 SETNAME auth AUTH u pw", "hello 3 SETNAME auth AUTH (redacted) (redacted)");
        check("hello", "hello");
        check("config set hz 1 REQUIREPASS pw port 1", "config set hz 1 REQUIREPASS (redacted) port 1");
        check("config set requirepass", "config set requirepass");
        check("set auth pw", "set auth pw");
    }
}
