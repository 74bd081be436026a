//! Starting, watching and stopping a scrub: see `log/scrub.rs`.

use super::Engine;
use crate::log::scrub::{DamagedPlace, ScrubThread, Shared, Target};
use crate::log::segments::{Segment, SegmentState};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How far a scrub is, or what the last one found.
#[derive(Debug, Clone, Default)]
pub struct ScrubStatus {
    /// One runs.
    pub running: bool,
    /// It has been told to stop, and still waits for the disk.
    pub stopping: bool,
    /// Bytes that it has read, or that the last one read.
    pub bytes_read: u64,
    /// Bytes that it has to read.
    pub bytes_total: u64,
    /// When a scrub last began, in Unix milliseconds; 0 for never.
    pub started_ms: u64,
    /// When a scrub last had read everything, in Unix milliseconds; 0 for never.
    pub finished_ms: u64,
    /// Damaged places that it has found.
    pub damaged: u64,
    /// The first thousand of them; [`Engine::scrub_status`] gives them, the statistics do not.
    pub places: Vec<DamagedPlace>,
}

/// The engine's side of scrubs.
#[derive(Debug, Default)]
pub(crate) struct Scrubber {
    shared: Arc<Shared>,
    thread: Option<ScrubThread>,
    total: u64,
    started_ms: u64,
    /// Of the scrub before this one.
    finished_ms: u64,
}

impl Scrubber {
    fn running(&self) -> bool {
        self.thread.is_some() && !self.shared.ended.load(Ordering::Acquire)
    }

    fn stopping(&self) -> bool {
        self.running() && self.thread.as_ref().is_some_and(ScrubThread::is_stopped)
    }

    /// How far it is, without the places.
    pub(crate) fn progress(&self) -> ScrubStatus {
        let running = self.running();
        let findings = self.shared.findings();
        ScrubStatus {
            running,
            stopping: running && self.stopping(),
            bytes_read: self.shared.read.load(Ordering::Relaxed),
            bytes_total: self.total,
            started_ms: self.started_ms,
            finished_ms: findings.finished_ms.max(self.finished_ms),
            damaged: findings.damaged,
            places: Vec::new(),
        }
    }
}

impl Engine {
    /// Starts to read the whole log from the disk, on a thread of its own, and to check every record and
    /// group up to what is durable now; `false` if that is being done already, or one that was told to
    /// stop has not ended. The waker is called at its
    /// end. Damage is logged and told by [`Self::scrub_status`]; nothing is changed.
    ///
    /// # Errors
    /// If no thread can be had.
    pub fn scrub(&mut self) -> std::io::Result<bool> {
        if self.scrubber.running() {
            return Ok(false);
        }
        let mut targets: Vec<Target> =
            self.segments.iter().map(|(_, segment)| self.target(segment)).collect();
        targets.sort_by_key(|target| target.id);
        let shared = Arc::new(Shared::default());
        shared.rate.store(self.options.scrub_rate, Ordering::Relaxed);
        let total = targets.iter().map(|target| target.end).sum();
        let waker = self.options.waker.clone();
        let thread = ScrubThread::start(&self.home, targets, shared.clone(), move || waker())?;
        let finished_ms = self.scrubber.progress().finished_ms;
        let started_ms = self.now_ms;
        self.scrubber = Scrubber { shared, thread: Some(thread), total, started_ms, finished_ms };
        Ok(true)
    }

    /// A segment, as far as its bytes are durable and so have to be whole.
    fn target(&self, segment: &Segment) -> Target {
        let durable = self.durable.get().position;
        let end = match segment.state {
            SegmentState::Sealed => segment.bytes,
            _ if segment.id < durable.segment => segment.bytes,
            _ if segment.id == durable.segment => durable.offset,
            _ => segment.bytes.min(crate::format::segment::HEADER as u64),
        };
        Target { id: segment.id, file: segment.file.clone(), path: segment.path.clone(), end }
    }

    /// How far the scrub is, or what the last one found.
    pub fn scrub_status(&self) -> ScrubStatus {
        let places = self.scrubber.shared.findings().places.clone();
        ScrubStatus { places, ..self.scrubber.progress() }
    }

    /// Tells a running scrub to end, and does not wait for that; `false` if none runs or one has been told
    /// already. What it has found stays to be seen.
    pub fn stop_scrub(&mut self) -> bool {
        let told = self.scrubber.running() && !self.scrubber.stopping();
        if let Some(thread) = &mut self.scrubber.thread {
            thread.stop();
        }
        told
    }

    /// Changes how fast a scrub reads, the running one included, in bytes a second; 0 is no limit.
    pub fn set_scrub_rate(&mut self, bytes: u64) {
        self.options.scrub_rate = bytes;
        self.scrubber.shared.rate.store(bytes, Ordering::Relaxed);
    }
}
