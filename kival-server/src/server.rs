//! The server put together: storage, engine task, listeners, signals.

use crate::config::{Config, Loaded, OnCorruption};
use crate::engine_task::cron::{compaction_policy, scrub_rate, sync_policy};
use crate::engine_task::monitor::Monitors;
use crate::engine_task::rates::Rates;
use crate::engine_task::server_state::{Counters, Saves, ServerState};
use crate::engine_task::slow::{Latencies, SlowLog};
use crate::engine_task::store::Store;
use crate::engine_task::{EngineTask, Event, Inbox};
use crate::limits;
use crate::logging::LogHandle;
use crate::net::connection::Lines;
use crate::net::doors::Doors;
use crate::net::listener;
use crate::net::shared::Shared;
use crate::process::resident_memory;
use kival_engine::fs::{FileSystem, MemoryFs, RealFs};
use kival_engine::{Engine, OpenError, OpenReport, Options, WriteError};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, channel, unbounded_channel};
use tokio::task::JoinSet;

/// Requests that the engine task's channel holds before connections have to wait.
const QUEUED_REQUESTS: usize = 1024;
/// How long connections may take to send their last replies.
const LAST_REPLIES: Duration = Duration::from_secs(2);

/// Why the server did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The store cannot be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// No connection could be taken.
    #[error("{0}; choose another with --port or --bind, or stop the program that has it")]
    Listen(String),
    /// The runtime refused.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    /// The store could not be closed cleanly.
    #[error("the store was not closed cleanly ({0}); the next start recovers it as after a crash")]
    Close(#[from] WriteError),
}

/// A server with its store opened and its sockets bound.
pub struct Server {
    fs: Arc<dyn FileSystem>,
    task: EngineTask,
    inbox: Inbox,
    doors: Arc<Doors>,
    lines: Lines,
}

/// The file system that a configuration asks for.
pub fn file_system(config: &Config) -> Arc<dyn FileSystem> {
    if config.in_memory { Arc::new(MemoryFs::default()) } else { Arc::new(RealFs) }
}

impl Server {
    /// Opens the store on `fs` and binds the sockets. To be called inside a runtime.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(
        loaded: Loaded,
        fs: Arc<dyn FileSystem>,
        log: Option<LogHandle>,
    ) -> Result<Server, ServerError> {
        let config = loaded.config;
        let memory_at_start = resident_memory().map_or(0, |memory| memory.now);
        let wake = Arc::new(Notify::new());
        let engine = open(&config, fs.clone(), wake.clone())?;
        let doors = Arc::new(Doors::open(&config).map_err(ServerError::Listen)?);
        for addr in doors.addresses() {
            tracing::info!(%addr, "listening");
        }
        let shared = Arc::new(Shared::new(&config));
        let (requests, request_receiver) = channel(QUEUED_REQUESTS);
        let (events, event_receiver) = unbounded_channel();
        let state = ServerState {
            config,
            // Absolute, wherever the process goes.
            config_file: loaded.file.map(|file| std::path::absolute(&file).unwrap_or(file)),
            log,
            run_id: run_id(),
            started: Instant::now(),
            started_at: SystemTime::now(),
            memory_at_start,
            port: doors.port(),
            doors: doors.clone(),
            counters: Counters::default(),
            rates: Rates::new(Instant::now()),
            slow_log: SlowLog::default(),
            latencies: Latencies::default(),
            monitors: Monitors::default(),
            saves: Saves::default(),
            pause: None,
            unblocked: false,
            active_expire: true,
            reload: false,
            shutdown: false,
            changed_settings: Vec::new(),
            purge: false,
            durability_changed: false,
        };
        let task = EngineTask::new(Store::new(engine), state, shared.clone(), events.clone());
        let inbox = Inbox { requests: request_receiver, events: event_receiver, wake };
        Ok(Server { fs, task, inbox, doors, lines: Lines { requests, events, shared } })
    }

    /// The port that is served.
    pub fn port(&self) -> u16 {
        self.doors.port()
    }

    /// Ends the server, as SIGTERM does, when something is sent.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.lines.events.clone())
    }

    /// Serves until it is told to end: by a signal, by SHUTDOWN or by a [`Stopper`].
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn run(self) -> Result<(), ServerError> {
        let mut accepting = JoinSet::new();
        accepting.spawn(listener::accept(self.doors, self.lines.clone()));
        accepting.spawn(wait_for_signals(self.lines.events.clone()).map_err(ServerError::Signals)?);
        // The channels close when the last connection has gone.
        drop(self.lines);
        let wake = self.inbox.wake.clone();
        let reopen = |config: &Config| open(config, self.fs.clone(), wake.clone());
        let store = self.task.run(self.inbox, reopen).await?;
        let flushed = async { while accepting.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_REPLIES, flushed).await.is_err() {
            tracing::warn!("some clients did not take their last replies");
        }
        store.into_engine().close()?;
        tracing::info!("the store is closed; good-bye");
        Ok(())
    }
}

/// Ends a server from elsewhere.
#[derive(Debug, Clone)]
pub struct Stopper(UnboundedSender<Event>);

impl Stopper {
    /// Ends it; one that has ended already is not disturbed.
    pub fn stop(&self) {
        let _ = self.0.send(Event::Shutdown);
    }
}

fn wait_for_signals(
    events: UnboundedSender<Event>,
) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("received SIGTERM"),
            _ = interrupt.recv() => tracing::info!("received SIGINT"),
            () = events.closed() => return,
        }
        let _ = events.send(Event::Shutdown);
    })
}

fn open(config: &Config, fs: Arc<dyn FileSystem>, wake: Arc<Notify>) -> Result<Engine, OpenError> {
    let (engine, report) = Engine::open(options(config, fs, wake))?;
    tell_opened(config, &engine, &report);
    Ok(engine)
}

fn options(config: &Config, fs: Arc<dyn FileSystem>, wake: Arc<Notify>) -> Options {
    let defaults = Options::new(&config.dir);
    Options {
        fs,
        databases: config.databases,
        segment_size: config.segment_size,
        cache_size: config.cache_size,
        reserved_space: reserved_space(config),
        sync: sync_policy(config.appendfsync),
        on_corruption: match config.on_corruption {
            OnCorruption::Refuse => kival_engine::OnCorruption::Refuse,
            OnCorruption::Quarantine => kival_engine::OnCorruption::Quarantine,
        },
        compaction: compaction_policy(config),
        scrub_rate: scrub_rate(config),
        large_value: config.large_value_size,
        paged_from: config.paged_value_size,
        // Without a disk there is nothing to gain.
        runway_syncs: if config.in_memory { 0 } else { defaults.runway_syncs },
        waker: Arc::new(move || wake.notify_one()),
        ..defaults
    }
}

/// Bytes of disk space that a configuration keeps back: none where there is no disk.
pub fn reserved_space(config: &Config) -> u64 {
    if config.in_memory { 0 } else { config.reserved_space }
}

fn tell_opened(config: &Config, engine: &Engine, report: &OpenReport) {
    let seconds = report.elapsed.as_secs_f64();
    let rate = (report.keys as f64 / seconds.max(1e-6)) as u64;
    let dir = if config.in_memory {
        "memory only: nothing survives the end of this process".to_owned()
    } else {
        config.dir.canonicalize().unwrap_or_else(|_| config.dir.clone()).display().to_string()
    };
    tracing::info!(
        dir,
        keys = report.keys,
        bytes = report.bytes,
        segments = report.segments,
        seconds = format!("{seconds:.3}"),
        keys_per_second = rate,
        after = if report.clean { "a clean stop" } else { "a crash: the log was recovered" },
        "store opened"
    );
    limits::warn_of_memory(engine.stats().keydir_bytes);
}

/// 40 hexadecimal digits that no other start has.
fn run_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    let part = |n: u64| format!("{:016x}", RandomState::new().hash_one((n, std::process::id())));
    let mut id: String = (0..3).map(part).collect();
    id.truncate(40);
    id
}
