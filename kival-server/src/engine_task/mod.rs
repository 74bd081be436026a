//! The engine task: the only one that touches the engine.
//!
//! A turn takes what the channel holds, runs it, appends once, and sends the replies: at once, or when
//! what they depend on is on disk. Handlers run to their end without waiting; what has to wait parks
//! (`park`). Other tasks talk to this one through [`Request`]s only.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the loop and its turn |
//! | `connections.rs` | what connections say, and their backlogs |
//! | `run.rs` | one command: gates, handler, reply |
//! | `deliver.rs` | replies: what they depend on, limits on what waits |
//! | `meter.rs`, `statistics.rs`, `slow.rs` | what commands cost, and which were slow |
//! | `cron.rs`, `rates.rs` | what happens by the clock, and how fast counters rise |
//! | `gather.rs` | syncs that wait for company |
//! | `park.rs`, `pause.rs`, `waits.rs`, `follow.rs` | commands that wait |
//! | `channels.rs`, `messages.rs`, `monitor.rs` | who listens to messages or commands, and their way out |
//! | `tracking.rs` | what clients have cached |
//! | `large.rs` | commands that put a large value |
//! | `migrate.rs` | keys that go to another server |
//! | `store.rs`, `reload.rs` | the engine as handlers see it |
//! | `transaction.rs`, `watch.rs` | MULTI to EXEC, and what WATCH sees |
//! | `warm.rs` | loads ahead of what commands will look up |
//! | `session.rs`, `server_state.rs` | clients and server as handlers see them |

pub mod channels;
mod connections;
pub mod cron;
mod deliver;
pub mod follow;
mod gather;
mod large;
mod messages;
mod meter;
pub mod migrate;
pub mod monitor;
pub mod park;
pub mod pause;
pub mod rates;
mod reload;
mod run;
pub mod server_state;
pub mod session;
pub mod slow;
pub mod statistics;
pub mod store;
pub mod tracking;
pub mod transaction;
mod waits;
mod warm;
pub mod watch;

use crate::config::{AppendFsync, Config};
use crate::net::outbox::Outbox;
use crate::net::shared::Shared;
use crate::net::transfer::Sent;
use crate::resp::{Batch, ErrorReply, Output};
use crate::server::ServerError;
use deliver::Waiting;
use follow::FeedResult;
use gather::Gathering;
use kival_engine::{Engine, LargeWritten, OpenError};
use large::Larges;
use migrate::{Migration, Migrations};
use park::{Parked, ReadResult};
use server_state::ServerState;
use session::{Clients, Standing};
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Store;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, oneshot};
use tokio::time::{MissedTickBehavior, interval};

/// Requests that one turn takes from the channel.
const TURN_REQUESTS: usize = 256;
/// The engine is maintained this often also where `hz` is less: what `everysec` promises does not hang on it.
const UPKEEP_EVERY: Duration = Duration::from_millis(100);
/// A turn that has staged this many bytes is committed before the next command runs.
const TURN_BYTES: usize = 4 << 20;

/// Names a connection: its slot among the clients, and its id, which tells it from an earlier one there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// Slot in [`Clients`].
    pub slot: usize,
    /// The client's id.
    pub id: u64,
}

/// What a connection has to say, in its order.
#[derive(Debug)]
pub struct Request {
    /// Which one.
    pub client: ClientKey,
    /// What.
    pub said: Said,
}

/// What a connection may say.
#[derive(Debug)]
pub enum Said {
    /// All commands that one read of its socket completed.
    Batch(Batch),
    /// It broke the protocol: the error, if there is one, goes out behind its replies; then it is closed.
    Broke(Option<ErrorReply>),
    /// It sends no more; it may still read.
    Ended,
    /// It has gone.
    Gone,
}

/// Everything else that the engine task is told.
#[derive(Debug)]
pub enum Event {
    /// A connection was accepted; it is told its name.
    Connected {
        /// The descriptor of its socket.
        fd: i32,
        /// Its address.
        addr: SocketAddr,
        /// The address it connected to.
        laddr: SocketAddr,
        /// Where its replies go.
        outbox: Outbox,
        /// Where its name goes, and whether it counts as authenticated.
        name: oneshot::Sender<(ClientKey, bool)>,
    },
    /// A connection was refused for `maxclients`.
    Refused,
    /// The values of a parked command were read.
    Read(ClientKey, ReadResult),
    /// The large value of a parked command was written, or could not be.
    LargeWritten(ClientKey, Box<LargeWritten>),
    /// The change feed was read for a client.
    Changes(ClientKey, FeedResult),
    /// Keys were sent to another server for a client.
    Migrated(ClientKey, Box<Migration>, Sent),
    /// The server is to end.
    Shutdown,
}

/// Replies that a turn has made, before its commit.
struct TurnReply {
    slot: usize,
    output: Output,
    depends: u64,
    /// The strictest policy under which its commands ran.
    policy: AppendFsync,
    /// Commands answered in it: so many errors if the append fails.
    replies: usize,
    batches: u32,
    /// What its client was before: an append that fails takes that back too.
    before: Standing,
}

impl TurnReply {
    /// Replies that depend on nothing in the log.
    fn free(slot: usize, output: Output, replies: usize, batches: u32, before: Standing) -> TurnReply {
        let policy = AppendFsync::No;
        TurnReply { slot, output, depends: 0, policy, replies, batches, before }
    }
}

/// The task's state.
pub struct EngineTask {
    store: Store,
    clients: Clients,
    server: ServerState,
    shared: Arc<Shared>,
    events: UnboundedSender<Event>,
    next_id: u64,
    turn: Vec<TurnReply>,
    /// Empty ones, with room.
    spare_outputs: Vec<Output>,
    /// Turns so far.
    turns: u64,
    /// Clients whose backlog can go on.
    ready: VecDeque<ClientKey>,
    /// Held replies by what they depend on.
    waiting: BinaryHeap<Waiting>,
    /// Clients in a wait for the log or the clock.
    waits: Vec<ClientKey>,
    /// A sync that others may still join.
    gathering: Gathering,
    /// Large arguments on their way to the disk.
    larges: Larges,
    /// Keys on their way to other servers.
    migrations: Migrations,
    /// Clients that have seen all changes there are, and wait for others.
    followers: Vec<ClientKey>,
    draining: Option<Instant>,
    /// Whether the disk does not keep up: what depends on the log then waits under `everysec` too.
    disk_is_behind: bool,
    /// The last reading of the clock: what has run since is not booked yet.
    clock: Instant,
    /// When the keys were last measured against the machine's memory.
    memory_watched: Instant,
}

/// The ends of the channels that the loop listens to.
pub struct Inbox {
    /// Requests, bounded.
    pub requests: Receiver<Request>,
    /// Events.
    pub events: UnboundedReceiver<Event>,
    /// Called by the engine's background threads.
    pub wake: Arc<Notify>,
}

impl EngineTask {
    /// A task over an opened engine.
    pub fn new(
        mut store: Store,
        server: ServerState,
        shared: Arc<Shared>,
        events: UnboundedSender<Event>,
    ) -> EngineTask {
        store.set_events(server.config.notify_keyspace_events);
        EngineTask {
            store,
            clients: Clients::default(),
            server,
            shared,
            events,
            next_id: 1,
            turn: Vec::new(),
            spare_outputs: Vec::new(),
            turns: 0,
            ready: VecDeque::new(),
            waiting: BinaryHeap::new(),
            waits: Vec::new(),
            gathering: Gathering::default(),
            larges: Larges::default(),
            migrations: Migrations::default(),
            followers: Vec::new(),
            draining: None,
            disk_is_behind: false,
            clock: Instant::now(),
            memory_watched: Instant::now(),
        }
    }

    /// Runs until the server is told to end; gives the engine back to be closed. `open` opens the store again.
    ///
    /// # Errors
    /// The store was closed, and could not be opened again.
    pub async fn run(
        mut self,
        mut inbox: Inbox,
        open: impl Fn(&Config) -> Result<Engine, OpenError>,
    ) -> Result<Store, ServerError> {
        let mut requests = Vec::with_capacity(TURN_REQUESTS);
        let mut cron = interval(self.cron_period());
        cron.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut upkeep = interval(UPKEEP_EVERY);
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut event = None;
            let (mut news, mut tick) = (false, false);
            tokio::select! {
                biased;
                received = inbox.events.recv() => event = received,
                () = inbox.wake.notified() => news = true,
                _ = cron.tick() => tick = true,
                _ = upkeep.tick(), if self.cron_period() > UPKEEP_EVERY => news = true,
                _ = inbox.requests.recv_many(&mut requests, TURN_REQUESTS) => {}
                () = std::future::ready(()), if !self.ready.is_empty() || !requests.is_empty() => {}
            }
            // Whatever woke the loop: nothing that comes often may keep the requests waiting.
            while requests.len() < TURN_REQUESTS
                && let Ok(request) = inbox.requests.try_recv()
            {
                requests.push(request);
            }
            self.store.engine().tick();
            self.clock = Instant::now();
            while let Some(next) = event {
                self.handle(next);
                event = inbox.events.try_recv().ok();
            }
            if tick {
                self.cron();
                let period = self.cron_period();
                if cron.period() != period {
                    cron = interval(period);
                }
                self.clock = Instant::now();
            }
            self.end_pause();
            self.resume_ready();
            self.take_requests(&mut requests);
            self.end_turn();
            if self.server.reload {
                self = self.reload(&open)?;
            }
            self.see_to_waits();
            if news || tick {
                self.take_news();
            }
            self.begin_what_waits();
            self.apply_settings();
            if self.server.shutdown && self.draining.is_none() {
                self.begin_drain();
            }
            if self.draining.is_some() && self.drained(inbox.requests.is_empty()) {
                return Ok(self.finish());
            }
            // On one thread the connections must get their turn too.
            if !self.ready.is_empty() || self.gathering.is_on() {
                tokio::task::yield_now().await;
            }
            if self.gathering.is_on() {
                self.gather(&mut inbox.requests, &mut requests);
            }
        }
    }

    /// Does what commands of the turn have asked for on behalf of those that wait.
    fn see_to_waits(&mut self) {
        if std::mem::take(&mut self.server.unblocked) {
            self.end_waits();
            self.wake_followers();
        }
        if self.waits_for_log() {
            // WAITAOF wants the log on disk under any policy.
            self.store.engine().request_sync();
        }
    }

    /// Goes on with clients that can.
    fn resume_ready(&mut self) {
        for _ in 0..self.ready.len() {
            if let Some(client) = self.ready.pop_front() {
                self.resume(client);
            }
        }
    }

    /// Has threads begin what has to stand between turns.
    fn begin_what_waits(&mut self) {
        self.begin_large();
        self.begin_migrations();
    }

    /// Takes in what background threads have done, and answers who waits for that or for the clock.
    fn take_news(&mut self) {
        self.store.engine().maintain();
        self.note_syncs();
        self.watch_disk();
        self.note_backup();
        self.release_held();
        self.end_waits();
        self.wake_followers();
    }

    fn take_requests(&mut self, requests: &mut Vec<Request>) {
        warm::requests(self.store.engine_ref(), &self.clients, requests);
        for Request { client, said } in requests.drain(..) {
            match said {
                Said::Batch(batch) => self.take_batch(client, batch),
                Said::Broke(error) => self.break_off(client, error),
                Said::Ended => self.input_ended(client),
                Said::Gone => self.forget(client),
            }
            if self.store.engine_ref().staged_bytes() >= TURN_BYTES {
                self.end_turn();
                self.clock = Instant::now();
            }
        }
    }

    /// Counts changes from the last backup on.
    fn note_backup(&mut self) {
        let made = self.store.engine_ref().backups().made;
        let saves = &mut self.server.saves;
        if saves.made != made {
            (saves.made, saves.changes_saved) = (made, saves.changes_asked);
        }
    }

    fn cron_period(&self) -> Duration {
        Duration::from_secs(1) / self.server.config.hz.max(1)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connected { fd, addr, laddr, outbox, name } => {
                let client = self.connect(fd, addr, laddr, outbox);
                let authenticated =
                    self.clients.get(client.slot).is_some_and(|session| session.authenticated);
                if name.send((client, authenticated)).is_err() {
                    self.forget(client);
                }
            }
            Event::Refused => self.server.counters.rejected += 1,
            Event::Read(client, result) => self.values_read(client, result),
            Event::LargeWritten(client, written) => self.large_written(client, *written),
            Event::Changes(client, result) => self.changes_read(client, result),
            Event::Migrated(client, migration, sent) => self.migrated(client, migration, sent),
            Event::Shutdown => self.server.shutdown = true,
        }
    }

    /// Begins to end the server: no new connections, what is in flight is answered.
    fn begin_drain(&mut self) {
        tracing::info!("shutting down: answering what is in flight");
        self.shared.stop_accepting();
        // The pause does not outlast the server, and what has arrived elsewhere is not to be on both.
        self.settle_held_migrations();
        let patience = self.server.config.shutdown_timeout;
        self.draining = Some(Instant::now() + patience);
        self.store.engine().request_sync();
    }

    fn drained(&self, no_requests: bool) -> bool {
        let late = self.draining.is_some_and(|end| Instant::now() >= end);
        let reading = self.clients.iter().any(|session| matches!(session.parked, Some(Parked::Reading)));
        let under_way = reading || !self.migrations.are_over();
        late || (no_requests && self.ready.is_empty() && self.waiting.is_empty() && !under_way)
    }

    fn finish(mut self) -> Store {
        self.end_turn();
        if let Err(error) = self.store.engine().sync() {
            tracing::error!(%error, "the log could not be synced");
        }
        self.release_held();
        for session in self.clients.iter() {
            session.outbox.close();
        }
        self.store
    }
}
