//! The housekeeping thread: it prepares the next segment before it is needed, seals full ones, and
//! raises the sequence limit, so that the engine task never waits for a directory or a manifest.

use super::Home;
use super::backup::{self, Backup};
use super::hint_file::{Summed, write_and_tally, write_from_segment};
use super::reserve::ReserveFile;
use super::scan::read_segment_header;
use super::segments::Tally;
use super::sync::{SyncWaiter, Waker};
use crate::engine::space::is_no_space;
use crate::format::group::Position;
use crate::format::manifest::{Sealed, SegmentEntry};
use crate::format::segment::{SegmentHeader, file_name};
use crate::fs::{File, write_all_at};
use crate::priority;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// How far the limit stands above what has been issued, at least, after it was raised. An unclean stop
/// skips at most this much.
pub(crate) const SEQUENCE_RESERVE: u64 = 1 << 26;

/// A segment that is ready to be appended to.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) id: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) header_size: u64,
    /// Wall time of its creation, in Unix milliseconds.
    pub(crate) created_ms: u64,
}

/// What is asked of the thread.
#[derive(Debug)]
pub(crate) enum Job {
    /// Create the next segment and name it in the manifest.
    Prepare,
    /// Take an open segment without a group out of the manifest, and away; one that was lent for a large value?
    Discard { id: u64, file: Arc<dyn File>, header_size: u64, lent: bool },
    /// Wait until a full segment is synced, write its hint, mark it sealed.
    Seal { id: u64, file: Arc<dyn File>, header_size: u64, length: u64, durable: (SyncWaiter, u64) },
    /// Write the hint of a sealed segment that has none of use.
    WriteHint { id: u64, file: Arc<dyn File>, length: u64 },
    /// Promise not to issue a sequence above this.
    RaiseLimit(u64),
    /// Make the reserve hold this many bytes.
    FillReserve { file: ReserveFile, bytes: u64 },
    /// Link all that is sealed into a new directory, and remove those beyond the newest so many.
    Backup { into: PathBuf, keep: usize, floor: u64 },
}

/// What it answers.
#[derive(Debug)]
pub(crate) enum News {
    /// The next segment is ready.
    Prepared(Prepared),
    /// A segment is gone.
    Discarded { lent: bool },
    /// A segment is sealed.
    Sealed { id: u64, summary: Sealed, tally: Tally },
    /// A hint stands.
    HintWritten,
    /// The limit is now this.
    LimitRaised(u64),
    /// The reserve holds what it was to hold.
    ReserveFilled,
    /// A backup is made.
    BackedUp(Backup),
    /// A job failed; it may be asked for again.
    Failed { job: Job, cause: String, no_space: bool },
}

/// The thread's handle.
pub(crate) struct Keeper {
    jobs: Option<Sender<Job>>,
    news: Receiver<News>,
    hands: Hands,
}

/// Who does the jobs.
enum Hands {
    Thread(JoinHandle<()>),
    /// The engine's owner, a job at a time.
    Lockstep(Desk),
    Gone,
}

/// Where jobs come in and news goes out.
struct Desk {
    home: Home,
    inbox: Receiver<Job>,
    outbox: Sender<News>,
    waker: Waker,
}

impl Desk {
    /// Does a job; `false` if nobody wants to know.
    fn serve(&self, job: Job) -> bool {
        let answer = match do_job(&self.home, &job) {
            Ok(answer) => answer,
            Err(error) => {
                let no_space = is_no_space(&error);
                News::Failed { job, cause: error.to_string(), no_space }
            }
        };
        let heard = self.outbox.send(answer).is_ok();
        (self.waker)();
        heard
    }
}

impl Keeper {
    /// Starts the thread; none in lockstep.
    pub(crate) fn start(home: Home, waker: Waker, lockstep: bool) -> io::Result<Keeper> {
        let (jobs, inbox) = channel::<Job>();
        let (outbox, news) = channel();
        let desk = Desk { home, inbox, outbox, waker };
        let hands = if lockstep {
            Hands::Lockstep(desk)
        } else {
            let work = move || {
                priority::step_back();
                while desk.inbox.recv().is_ok_and(|job| desk.serve(job)) {}
            };
            Hands::Thread(std::thread::Builder::new().name("kival-keeper".into()).spawn(work)?)
        };
        Ok(Keeper { jobs: Some(jobs), news, hands })
    }

    /// In lockstep: does the next job, if there is one.
    pub(crate) fn step(&self) -> bool {
        match &self.hands {
            Hands::Lockstep(desk) => desk.inbox.try_recv().is_ok_and(|job| desk.serve(job)),
            Hands::Thread(_) | Hands::Gone => false,
        }
    }

    /// Hands over a job.
    pub(crate) fn ask(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only after this sender: a failed send means that it panicked, which
            // shows as news that never comes; nothing acknowledged depends on it.
            let _ = jobs.send(job);
        }
    }

    /// The next answer, if there is one.
    pub(crate) fn news(&self) -> Option<News> {
        self.news.try_recv().ok()
    }

    /// Lets the thread finish what it was asked to do, and gives its last answers.
    pub(crate) fn finish(&mut self) -> Vec<News> {
        self.jobs = None;
        while self.step() {}
        if let Hands::Thread(thread) = std::mem::replace(&mut self.hands, Hands::Gone) {
            // A panic of the thread has already been printed; there is nothing to add here.
            let _ = thread.join();
        }
        self.news.try_iter().collect()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.finish();
    }
}

fn do_job(home: &Home, job: &Job) -> io::Result<News> {
    match job {
        Job::Prepare => {
            let prepared = create_log_segment(home)?;
            let id = prepared.id;
            let named = home.manifest.update(|manifest| {
                manifest.segments.push(SegmentEntry { id, merged: false, sealed: None });
            });
            if named.is_err() && !home.manifest.names(id) {
                let _ = home.fs.remove(&home.dir.join(file_name(id)));
            }
            named.map(|()| News::Prepared(prepared))
        }
        Job::Discard { id, file, header_size, lent } => {
            // On a full disk the manifest may want the very room that this file takes.
            let _ = file.truncate(*header_size);
            home.manifest.update(|manifest| manifest.segments.retain(|entry| entry.id != *id))?;
            // What stays is removed at the next open.
            let _ = home.fs.remove(&home.dir.join(file_name(*id)));
            Ok(News::Discarded { lent: *lent })
        }
        Job::Seal { id, file, header_size, length, durable: (waiter, sequence) } => {
            waiter.wait(*sequence).map_err(io::Error::other)?;
            let (summary, tally) = seal(home, *id, file, *header_size, *length)?;
            Ok(News::Sealed { id: *id, summary, tally })
        }
        Job::WriteHint { id, file, length } => {
            let header = read_segment_header(&**file, home.store, *id)?.map_err(io::Error::other)?;
            let first_group = Position { segment: *id, offset: header.size() };
            let written =
                write_from_segment(&*home.fs, &home.dir, home.store, file.clone(), first_group, *length)?;
            match written {
                Summed::Whole(_) => Ok(News::HintWritten),
                Summed::Broken(_, damage) => Err(io::Error::other(damage)),
            }
        }
        Job::RaiseLimit(limit) => {
            home.manifest.update(|manifest| manifest.sequence_limit = *limit)?;
            Ok(News::LimitRaised(*limit))
        }
        Job::FillReserve { file, bytes } => {
            file.fill(home, *bytes)?;
            Ok(News::ReserveFilled)
        }
        Job::Backup { into, keep, floor } => backup::make(home, into, *keep, *floor).map(News::BackedUp),
    }
}

/// Creates an empty log segment with the next id, durably. The manifest does not name it yet.
pub(crate) fn create_log_segment(home: &Home) -> io::Result<Prepared> {
    let id = home.manifest.issue_id()?;
    let header = SegmentHeader {
        store: home.store,
        id,
        created_ms: home.clock.now_ms(),
        inputs: Vec::new(),
        merged: false,
    };
    let path = home.dir.join(file_name(id));
    let create = || {
        let file = home.fs.create(&path)?;
        write_all_at(&*file, &header.encode(), 0)?;
        file.sync()?;
        home.fs.sync_dir(&home.dir)?;
        Ok(file)
    };
    // What cannot be removed now is removed at the next open.
    let file = create().inspect_err(|_: &io::Error| drop(home.fs.remove(&path)))?;
    Ok(Prepared { id, file, header_size: header.size(), created_ms: header.created_ms })
}

/// Writes the hint of a segment that is no longer appended to, and synced, and marks it sealed.
pub(crate) fn seal(
    home: &Home,
    id: u64,
    file: &Arc<dyn File>,
    header_size: u64,
    length: u64,
) -> io::Result<(Sealed, Tally)> {
    // Cuts off the runway and gives back what was reserved. A crash may undo it: what counts is the length that
    // the manifest knows, and no hint and no backup is made before this.
    file.truncate(length)?;
    let first_group = Position { segment: id, offset: header_size };
    let (summed, tally) =
        write_and_tally(&*home.fs, &home.dir, home.store, file.clone(), first_group, length)?;
    let summary = match summed {
        Summed::Whole(summary) => summary,
        Summed::Broken(place, damage) => {
            // What was written does not read back: the segment stays open, so that recovery judges it.
            let path = home.dir.join(file_name(id));
            return Err(io::Error::other(format!("{}: offset {}: {damage}", path.display(), place.offset)));
        }
    };
    home.manifest.update(|manifest| {
        if let Some(entry) = manifest.segments.iter_mut().find(|entry| entry.id == id) {
            entry.sealed = Some(summary);
            manifest.chain = manifest.chain.max(summary.highest);
        }
    })?;
    Ok((summary, tally))
}
