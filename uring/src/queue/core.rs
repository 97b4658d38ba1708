//! The queue behind its lock, with what all who use it share.

use std::io;
use std::sync::OnceLock;

use crate::errors::{OwnerGone, Refused};
use crate::feed::FeedWrite;
use crate::fork::Birth;
use crate::queue::{Queue, Request};
use crate::report::SyncMethod;
use crate::stats::Counters;
use crate::threads::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use crate::threads::{Condvar, Mutex};
use crate::wake::Urgency;
use crate::work::{Resize, Work};

/// The sync methods by their numbers.
const METHODS: [SyncMethod; 3] =
    [SyncMethod::DsyncWrite, SyncMethod::WriteThenSync, SyncMethod::WriteThenFullSync];
const _: () = assert!(METHODS[1] as u8 == 1 && METHODS[2] as u8 == 2);

/// Why nothing more is taken in.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// The file was closed.
    Closed,
    /// The owner failed.
    Gone(OwnerGone),
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        match refusal {
            Refusal::Closed => Refused::Closed.into(),
            Refusal::Gone(gone) => gone.into(),
        }
    }
}

/// Behind a write of the feed a thread that helps makes up to so many acts: whoever writes next comes before that, or nobody does for
/// a while.
const HELPED_MAX: u32 = 64;

struct Guarded {
    queue: Queue,
    refusal: Option<Refusal>,
    workers_stop: bool,
}

/// The queue behind its lock, and what goes with it.
pub(crate) struct Core {
    guarded: Mutex<Guarded>,
    work_waits: Condvar,
    pushes: AtomicU64,
    /// Acts that threads which help have made since the last write of the feed.
    helped_behind_feed: AtomicU32,
    len_bytes: AtomicU64,
    method: AtomicU8,
    sync_failed: AtomicBool,
    /// Before its lock is asked for by what may run in a forked child: a thread of the parent's may have held it.
    pub(crate) birth: Birth,
    /// What the first sync that failed was told; there a moment after the flag is up.
    sync_error: OnceLock<String>,
    pub(crate) stats: Counters,
}

impl Core {
    pub(crate) fn new(queue: Queue, method: SyncMethod, len_bytes: u64) -> Core {
        Core {
            guarded: Mutex::new(Guarded { queue, refusal: None, workers_stop: false }),
            work_waits: Condvar::new(),
            pushes: AtomicU64::new(0),
            helped_behind_feed: AtomicU32::new(HELPED_MAX),
            len_bytes: AtomicU64::new(len_bytes),
            method: AtomicU8::new(method as u8),
            sync_failed: AtomicBool::new(false),
            birth: Birth::now(),
            sync_error: OnceLock::new(),
            stats: Counters::default(),
        }
    }

    /// Takes a request in, or answers at once if it is refused. Its place if it has to stand in
    /// line, and whom to wake for it.
    pub(crate) fn push(&self, request: Request) -> (Option<u64>, Urgency) {
        let mut guarded = self.guarded.lock();
        if let Some(refusal) = guarded.refusal.clone() {
            drop(guarded);
            request.answer(Err(refusal.into()));
            return (None, Urgency::None);
        }
        let urgency = guarded.queue.urgency(&request);
        let place = guarded.queue.push(request);
        self.pushes.fetch_add(1, Ordering::SeqCst);
        drop(guarded);
        (place, urgency)
    }

    /// How many requests were taken in, and more: it changes when there may be something new to pop.
    pub(crate) fn pushes(&self) -> u64 {
        self.pushes.load(Ordering::SeqCst)
    }

    /// Says that there may be something new to pop, though nothing was pushed: what ended elsewhere made room, or a sync ready. False if
    /// nobody should come for it.
    pub(crate) fn announces_news(&self) -> bool {
        let is_due = self.guarded.lock().queue.is_due();
        if is_due {
            self.pushes.fetch_add(1, Ordering::SeqCst);
        }
        is_due
    }

    /// Forgets a request that still stands in line.
    pub(crate) fn withdraw(&self, number: u64) {
        let withdrawn = self.guarded.lock().queue.withdraw(number);
        drop(withdrawn);
    }

    /// The next act, if there is one.
    pub(crate) fn pop(&self) -> Option<Work> {
        self.guarded.lock().queue.pop()
    }

    /// The next act for a thread that helps, while the feed writes; and whether that let others in from the line.
    pub(crate) fn pop_to_help(&self) -> Option<(Work, bool)> {
        if self.helped_behind_feed.load(Ordering::Relaxed) >= HELPED_MAX {
            return None;
        }
        let mut guarded = self.guarded.lock();
        let stood = guarded.queue.standing();
        let work = guarded.queue.pop_to_help()?;
        let let_in = guarded.queue.standing() < stood;
        drop(guarded);
        self.helped_behind_feed.fetch_add(1, Ordering::Relaxed);
        Some((work, let_in))
    }

    /// The next act, waiting for one; `None` when the workers are to stop.
    pub(crate) fn pop_wait(&self) -> Option<Work> {
        let mut guarded = self.guarded.lock();
        loop {
            if let Some(work) = guarded.queue.pop() {
                if guarded.queue.is_due() {
                    self.wake_one(); // And that one wakes the next.
                }
                return Some(work);
            }
            if guarded.workers_stop {
                return None;
            }
            self.stats.syscalls.bump();
            self.work_waits.wait(&mut guarded);
        }
    }

    /// Wakes a worker, if there is something it should come for.
    pub(crate) fn wake_worker(&self) {
        if self.guarded.lock().queue.is_due() {
            self.wake_one();
        }
    }

    fn wake_one(&self) {
        if self.work_waits.notify_one() {
            self.stats.syscalls.bump();
            self.stats.wakeups.bump();
        }
    }

    /// Lets the workers leave once nothing is left to pop.
    pub(crate) fn stop_workers(&self) {
        self.guarded.lock().workers_stop = true;
        self.work_waits.notify_all();
    }

    /// Ends an act: takes note, then answers outside the lock. True if that left the queue idle.
    pub(crate) fn finish(&self, work: Work, result: io::Result<()>) -> bool {
        let result = self.made_durable(&work, result);
        self.count(&work, &result);
        if let Work::Resize(_, to, _) = &work {
            self.resized(*to, result.is_ok());
        }
        let mut guarded = self.guarded.lock();
        guarded.queue.landed(&work);
        let is_half_done = result.is_ok()
            && matches!(&work, Work::Durable(_, method, _) if method.has_two_steps());
        let result = match &guarded.refusal {
            // Nobody makes its sync any more.
            Some(Refusal::Gone(gone)) if is_half_done => Err(gone.clone().into()),
            _ => result,
        };
        let work = match work {
            Work::Durable(_, _, part) if is_half_done && result.is_ok() => {
                guarded.queue.sync_after(part);
                return false;
            }
            work => work,
        };
        let idle = guarded.queue.is_idle();
        drop(guarded);
        work.answer(result);
        idle
    }

    /// After a sync that failed none succeeds. What it covered may be lost, though it looks as if it had been written, and the kernel
    /// tells of an error once: whoever wrote before it and syncs behind it must not take that for a success.
    fn made_durable(&self, work: &Work, result: io::Result<()>) -> io::Result<()> {
        match (work, &result) {
            (Work::Sync(_), Err(cause)) => self.note_failed_sync(cause),
            (Work::Sync(_) | Work::Durable(..), Ok(())) => {
                return self.failed_sync().map_or(result, Err);
            }
            _ => {}
        }
        result
    }

    fn note_failed_sync(&self, cause: &io::Error) {
        // The flag first: until it is up, others may rely on what this sync covered.
        self.sync_failed.store(true, Ordering::SeqCst);
        self.sync_error.get_or_init(|| cause.to_string());
    }

    /// Refuses everything from now on; what was taken in will still be done.
    pub(crate) fn close(&self) {
        self.guarded.lock().refusal.get_or_insert(Refusal::Closed);
    }

    /// Refuses everything from now on, and answers all that waits with the cause.
    pub(crate) fn fail(&self, gone: &OwnerGone) {
        let mut guarded = self.guarded.lock();
        guarded.refusal = Some(Refusal::Gone(gone.clone()));
        let waiting = guarded.queue.drain();
        drop(guarded);
        for request in waiting {
            request.answer(Err(gone.clone().into()));
        }
    }

    /// What to tell after a sync that failed, even one whose caller had left, or one of the feed.
    pub(crate) fn failed_sync(&self) -> Option<io::Error> {
        if !self.sync_failed.load(Ordering::SeqCst) {
            return None;
        }
        let what = "a sync before this one failed";
        Some(match self.sync_error.get() {
            Some(cause) => io::Error::other(format!("{what}: {cause}")),
            None => io::Error::other(what),
        })
    }

    /// Whether anything waits.
    pub(crate) fn has_waiting(&self) -> bool {
        self.guarded.lock().queue.has_waiting()
    }

    /// Whether nothing waits and nothing flies.
    pub(crate) fn is_idle(&self) -> bool {
        self.guarded.lock().queue.is_idle()
    }

    /// How writes are made durable. It may change: each write asks once, and keeps to the answer.
    pub(crate) fn method(&self) -> SyncMethod {
        METHODS[usize::from(self.method.load(Ordering::Relaxed))]
    }

    /// Later writes are made durable so; those that have begun keep to their method.
    pub(crate) fn set_method(&self, method: SyncMethod) {
        self.method.store(method as u8, Ordering::Relaxed);
    }

    /// Length of the file.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes.load(Ordering::Acquire)
    }

    /// The end that a failed cut was to leave is believed, wherever the file ends: a growth from
    /// there on is right for both.
    fn resized(&self, to: Resize, well: bool) {
        match to {
            Resize::Grow(min) if well => drop(self.len_bytes.fetch_max(min, Ordering::AcqRel)),
            Resize::Grow(_) => {}
            Resize::Shrink(max) => drop(self.len_bytes.fetch_min(max, Ordering::AcqRel)),
        }
    }

    /// Takes note of how a write of the feed ended.
    pub(crate) fn feed_landed(&self, write: &FeedWrite, result: &io::Result<()>) {
        self.helped_behind_feed.store(0, Ordering::Relaxed);
        match result {
            Err(cause) => {
                self.stats.failed.bump();
                if write.method.has_two_steps() {
                    self.note_failed_sync(cause);
                }
            }
            Ok(()) => {
                self.stats.durable_writes.bump();
                self.stats.durable_bytes.add(write.len as u64);
            }
        }
    }

    fn count(&self, work: &Work, result: &io::Result<()>) {
        let stats = &self.stats;
        if result.is_err() {
            return stats.failed.bump();
        }
        match work {
            Work::Read(part) => {
                stats.reads.bump();
                stats.read_bytes.add(part.len as u64);
            }
            Work::Write(run) => {
                stats.writes.add(run.parts.len() as u64);
                stats.coalesced.add(run.parts.len() as u64 - 1);
                stats.write_bytes.add(run.len_bytes() as u64);
            }
            Work::Durable(_, _, part) => {
                stats.durable_writes.bump();
                stats.durable_bytes.add(part.len as u64);
            }
            Work::Sync(_) => stats.syncs.bump(),
            Work::Resize(..) => {}
        }
    }
}
