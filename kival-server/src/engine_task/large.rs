//! Commands that set a key to a large argument: they park until a thread that may wait has written it where it will
//! stand in the log, and then run again. One at a time; the others wait for their turn, and everybody else goes on.
//!
//! A value that a handler makes itself, the second one of a command and those of a transaction are written in the
//! turn, as small ones are.

use super::park::Parked;
use super::{ClientKey, EngineTask, Event};
use crate::command::LargeArg;
use crate::resp::Args;
use bytes::Bytes;
use kival_engine::{LargeStart, LargeWritten};
use std::collections::VecDeque;

/// Large arguments on their way to the disk.
#[derive(Default)]
pub(super) struct Larges {
    /// Those that wait, in the order in which they came.
    queue: VecDeque<Wanted>,
    /// Whose turn it is.
    holder: Option<ClientKey>,
    /// Whether its value is being written.
    writing: bool,
    /// The value, and those that were used: what frees their memory takes a while.
    value: Option<Bytes>,
    spent: Vec<Bytes>,
}

struct Wanted {
    client: ClientKey,
    key_size: usize,
    value: Bytes,
}

impl EngineTask {
    /// Has a value written for a command that is to run again, if it is one of its arguments, and this was not
    /// tried before.
    pub(super) fn want_large(&mut self, client: ClientKey, args: Args<'_>, wanted: LargeArg) -> bool {
        let place = (0..args.len()).find(|&index| LargeArg::new(wanted.key_size, &args[index]) == wanted);
        match place {
            Some(index) if self.larges.holder != Some(client) => {
                let LargeArg { key_size, .. } = wanted;
                self.larges.queue.push_back(Wanted { client, key_size, value: args.bytes(index) });
                true
            }
            _ => false,
        }
    }

    /// Begins to write the next value if none is under way. Stands between turns.
    pub(super) fn begin_large(&mut self) {
        if !self.larges.spent.is_empty() {
            let spent = std::mem::take(&mut self.larges.spent);
            tokio::task::spawn_blocking(move || drop(spent));
        }
        while self.larges.holder.is_none()
            && let Some(wanted) = self.larges.queue.pop_front()
        {
            let Wanted { client, key_size, value } = &wanted;
            let client = *client;
            if !self.is_here(client) {
                self.larges.spent.push(wanted.value);
                continue;
            }
            match self.store.engine().begin_large(*key_size, value.clone()) {
                LargeStart::Later => return self.larges.queue.push_front(wanted),
                // As it comes, in the turn: with the error that there is.
                LargeStart::Never => {
                    self.hold_large(client, wanted.value);
                    self.unpark(client);
                    self.ready.push_back(client);
                }
                LargeStart::Begun(write) => {
                    self.hold_large(client, wanted.value);
                    self.larges.writing = true;
                    let events = self.events.clone();
                    tokio::task::spawn_blocking(move || {
                        // When the server has ended nobody waits for it.
                        let _ = events.send(Event::LargeWritten(client, Box::new(write.write())));
                    });
                }
            }
        }
    }

    fn hold_large(&mut self, client: ClientKey, value: Bytes) {
        (self.larges.holder, self.larges.value) = (Some(client), Some(value));
    }

    /// A value was written, or could not be: then its command meets the lack itself.
    pub(super) fn large_written(&mut self, client: ClientKey, written: LargeWritten) {
        self.larges.writing = false;
        if let Err(error) = self.store.engine().end_large(written) {
            tracing::debug!(%error, "a large value is written in its turn");
        }
        if !self.is_here(client) {
            return self.release_large();
        }
        self.unpark(client);
        self.resume_with_values(client);
    }

    fn unpark(&mut self, client: ClientKey) {
        let session = self.clients.get_mut(client.slot).filter(|session| session.id == client.id);
        if let Some(session) = session
            && matches!(session.parked, Some(Parked::Reading))
        {
            session.parked = None;
        }
    }

    /// Whether it is this client's turn.
    pub(super) fn holds_large(&self, client: ClientKey) -> bool {
        self.larges.holder == Some(client)
    }

    /// A client whose turn it may be has gone.
    pub(super) fn forget_large(&mut self, client: ClientKey) {
        let (kept, gone) =
            std::mem::take(&mut self.larges.queue).into_iter().partition(|w| w.client != client);
        self.larges.queue = kept;
        self.larges.spent.extend(VecDeque::<Wanted>::into_iter(gone).map(|wanted| wanted.value));
        if self.holds_large(client) && !self.larges.writing {
            self.release_large();
        }
    }

    /// The command whose turn it was has run: it has used its value, or did not need it.
    pub(super) fn release_large(&mut self) {
        self.larges.holder = None;
        self.larges.spent.extend(self.larges.value.take());
        self.store.engine().give_up_large();
    }
}
