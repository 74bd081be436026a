//! MONITOR: who is shown all commands, and the lines that show them.
//!
//! A command is shown when it has run, in a line that goes the way of messages: a change that could not be
//! appended is not shown, and to a client under `always` it is shown when it is on disk. Nothing is noted as
//! long as nobody looks.

use super::messages::Encoded;
use super::session::Session;
use super::{ClientKey, EngineTask};
use crate::command::{Command, Flags, redacted};
use crate::resp::{Args, Output, Reply, Sink};
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::SystemTime;

/// Who is shown the commands, and those to be shown.
#[derive(Debug, Default)]
pub struct Monitors {
    clients: Vec<ClientKey>,
    lines: Vec<String>,
}

impl Monitors {
    /// Shows all commands from the next one on to a client.
    pub fn add(&mut self, client: ClientKey) {
        self.clients.push(client);
    }

    /// Ends that.
    pub fn remove(&mut self, client: ClientKey) {
        self.clients.retain(|other| *other != client);
    }

    /// Notes a command that has run; `db` is the one that its client has selected now.
    #[inline]
    pub(super) fn note(&mut self, db: u32, addr: SocketAddr, command: &Command, args: Args<'_>) {
        if !self.clients.is_empty() {
            self.note_line(db, addr, command, args);
        }
    }

    #[cold]
    fn note_line(&mut self, db: u32, addr: SocketAddr, command: &Command, args: Args<'_>) {
        let secret = command.flags.has(Flags::ADMIN) || command.flags.has(Flags::SKIP_MONITOR);
        if !secret {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let mut line = format!("{}.{:06} [{db} {addr}]", now.as_secs(), now.subsec_micros());
            for arg in redacted(command, args) {
                line.push(' ');
                quote(arg, &mut line);
            }
            self.lines.push(line);
        }
    }
}

/// Writes an argument as Redis shows it: in quotes, with escapes for what is not visible ASCII.
fn quote(arg: &[u8], out: &mut String) {
    out.push('"');
    for &byte in arg {
        match byte {
            b'\\' | b'"' => out.extend(['\\', char::from(byte)]),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x07 => out.push_str("\\a"),
            0x08 => out.push_str("\\b"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => write!(out, "\\x{byte:02x}").expect("a string takes everything"),
        }
    }
    out.push('"');
}

impl EngineTask {
    /// Sends the lines of the command that has just run, to its own client behind its reply. Unlike messages they
    /// are replies: CLIENT REPLY leaves them out.
    #[inline]
    pub(super) fn show_commands(&mut self, client: ClientKey, session: &Session, output: &mut Output) {
        if !self.server.monitors.lines.is_empty() {
            self.show_lines(client, session, output);
        }
    }

    #[cold]
    fn show_lines(&mut self, client: ClientKey, session: &Session, output: &mut Output) {
        let depends = self.store.engine_ref().last_sequence();
        let mut receivers = self.server.monitors.clients.clone();
        receivers.retain(|receiver| {
            // Its own session is not among the others while its command runs. It is not shown its QUIT.
            let wanted = |session: &Session| session.manner.replies.are_sent() && !session.closing;
            if *receiver == client {
                wanted(session)
            } else {
                self.clients.get(receiver.slot).is_some_and(wanted)
            }
        });
        for line in std::mem::take(&mut self.server.monitors.lines) {
            let line = Reply::status(line);
            let mut encoded = Encoded::new(&line);
            for &receiver in &receivers {
                if receiver == client {
                    output.put_shared(encoded.bytes(session.protocol));
                } else {
                    self.deliver_to(receiver, depends, &mut encoded);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::resolve;
    use crate::resp::Batch;

    fn shown(args: &[&[u8]]) -> Vec<String> {
        let mut monitors = Monitors::default();
        let batch = Batch::from_args(args.iter().copied());
        let command = resolve(batch.command(0)).unwrap().command;
        let addr = ([127, 0, 0, 1], 5000).into();
        monitors.note(3, addr, command, batch.command(0));
        assert!(monitors.lines.is_empty(), "nobody looks");
        monitors.add(ClientKey { slot: 1, id: 1 });
        monitors.note(3, addr, command, batch.command(0));
        let behind_time = |line: String| line.split_once(' ').unwrap().1.to_owned();
        monitors.lines.into_iter().map(behind_time).collect()
    }

    #[test]
    fn commands_are_shown_as_redis_shows_them() {
        let line = r#"[3 127.0.0.1:5000] "Set" "a \"b\\" "\r\n\t\a\b\x00\xff~""#;
        assert_eq!(shown(&[b"Set", b"a \"b\\", b"\r\n\t\x07\x08\0\xff~"]), [line]);
        assert_eq!(shown(&[b"auth", b"pw"]), [r#"[3 127.0.0.1:5000] "auth" "(redacted)""#]);
        assert_eq!(shown(&[b"config", b"get", b"port"]), [""; 0]);
    }
}
