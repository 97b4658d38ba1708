//! What all handles of one open file and its background thread share, and the thread itself.
//!
//! Life: `open` builds it and starts the thread; the thread serves, or parks while others drive;
//! a close (or the drop of the last handle) lets it drain to zero in flight, stop the backend,
//! release the lock and tell who waits. If the owner fails (its own panic, the feed's, or a ring
//! that cannot be entered), everyone who waits or asks later gets the cause, and the thread stays
//! only to release the lock when the file is closed.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::buf::Buf;
use crate::calls::Calls;
use crate::errors::OwnerGone;
use crate::feed::Feed;
use crate::fork::Birth;
use crate::owner::{Owner, Served};
#[cfg(target_os = "linux")]
use crate::pool::{PIECE_BYTES, Pool};
use crate::queue::{Core, Request};
use crate::report::{Report, SyncMethod};
use crate::sim::{Ran, SimFile};
use crate::standby::Standbys;
use crate::storage::Storage;
use crate::threads::atomic::{AtomicBool, Ordering};
use crate::threads::{Mutex, thread};
use crate::turns::Turns;
use crate::wake::{Urgency, Wake};

/// How long the background thread stays out of the way of whoever drives. Short enough for most
/// appointments of a feed: a driver that leaves one behind then need not wake it.
const DRIVEN_NAP: Duration = Duration::from_millis(10);

/// Who takes work out of the queue.
pub(crate) enum Executor {
    /// The holder of the role; with memory that its ring knows, if it has any.
    #[cfg(target_os = "linux")]
    Owner(Option<Arc<Pool>>),
    /// A pool of threads.
    Pool,
    /// Whoever pushed it, at once.
    Caller(SimFile),
}

/// How far a close has come.
enum Closing {
    No,
    Since(Instant, Vec<Waker>),
    Over,
}

/// One open file.
pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    pub(crate) wake: Wake,
    pub(crate) path: PathBuf,
    pub(crate) report: Mutex<Report>,
    pub(crate) birth: Birth,
    pub(crate) executor: Executor,
    /// The file of threads that help, one at a time; none where nobody does, and once closed.
    pub(crate) helped: Mutex<Option<Arc<dyn Calls>>>,
    pub(crate) role: Mutex<Option<Owner>>,
    pub(crate) standbys: Standbys,
    pub(crate) turns: Turns,
    feed: Mutex<Option<Arc<dyn Feed>>>,
    feed_is_set: AtomicBool,
    closing: Mutex<Closing>,
    pub(crate) is_closing: AtomicBool,
    storage: Mutex<Option<Storage>>,
}

/// What `open` prepared.
pub(crate) struct Parts {
    pub(crate) core: Arc<Core>,
    pub(crate) wake: Wake,
    pub(crate) path: PathBuf,
    pub(crate) report: Report,
    pub(crate) executor: Executor,
    /// The file, if threads may help.
    pub(crate) file: Option<Arc<dyn Calls>>,
    pub(crate) owner: Owner,
    pub(crate) storage: Storage,
}

impl Shared {
    /// Shares the parts and starts the background thread.
    pub(crate) fn start(parts: Parts) -> io::Result<Arc<Shared>> {
        let shared = Arc::new(Shared {
            core: parts.core,
            wake: parts.wake,
            path: parts.path,
            report: Mutex::new(parts.report),
            birth: Birth::now(),
            executor: parts.executor,
            helped: Mutex::new(parts.file),
            role: Mutex::new(Some(parts.owner)),
            standbys: Standbys::default(),
            turns: Turns::new(),
            feed: Mutex::new(None),
            feed_is_set: AtomicBool::new(false),
            closing: Mutex::new(Closing::No),
            is_closing: AtomicBool::new(false),
            storage: Mutex::new(Some(parts.storage)),
        });
        let served = shared.clone();
        let thread =
            thread::Builder::new().name("ringdb-owner".into()).spawn(move || served.background());
        match thread {
            Ok(thread) => shared.wake.set_background(thread.thread().clone()),
            Err(error) => {
                shared.tear_down();
                return Err(error);
            }
        }
        Ok(shared)
    }

    /// Hands a request to whoever does the work; its place if it has to stand in line.
    pub(crate) fn push(&self, request: Request) -> Option<u64> {
        #[cfg(target_os = "linux")]
        let is_read = matches!(request, Request::Read(_));
        let (place, urgency) = self.core.push(request);
        match &self.executor {
            #[cfg(target_os = "linux")]
            Executor::Owner(_) => {
                self.wake.wake(urgency, &self.core.stats);
                if is_read && urgency != Urgency::None && self.wake.is_late() {
                    // Perhaps it waits for this processor, whose thread may have much more to do.
                    self.turns.give();
                }
            }
            Executor::Pool if urgency == Urgency::None => {}
            Executor::Pool => self.core.wake_worker(),
            Executor::Caller(_) => self.run_caller(),
        }
        place
    }

    /// What ended outside of the role may have made room for more, or a sync ready.
    pub(crate) fn tell_of_room(&self) {
        if !self.core.announces_news() {
            return;
        }
        match &self.executor {
            #[cfg(target_os = "linux")]
            Executor::Owner(_) => self.wake.wake(Urgency::Now, &self.core.stats),
            Executor::Pool => self.core.wake_worker(),
            Executor::Caller(_) => {}
        }
    }

    /// A buffer to read into.
    pub(crate) fn read_buf(&self, len_bytes: usize) -> Buf {
        #[cfg(target_os = "linux")]
        if let Executor::Owner(Some(pool)) = &self.executor
            && len_bytes == PIECE_BYTES
            && let Some(buf) = pool.take()
        {
            return buf;
        }
        Buf::zeroed(len_bytes)
    }

    /// Does the queue's work on this thread, where that is how it is done.
    pub(crate) fn run_caller(&self) {
        if let Executor::Caller(file) = &self.executor
            && file.run(&self.core) == Ran::Idle
        {
            self.queue_is_idle();
        }
    }

    /// Later durable writes use this method.
    pub(crate) fn choose_sync_method(&self, method: SyncMethod, reason: String) {
        let mut report = self.report.lock();
        self.core.set_method(method);
        report.sync_method = method;
        report.sync_reason = reason;
    }

    /// The feed may have something.
    pub(crate) fn kick(&self) {
        self.wake.wake(Urgency::Kick, &self.core.stats);
    }

    /// The feed, once it is set.
    pub(crate) fn feed(&self) -> Option<Arc<dyn Feed>> {
        if !self.feed_is_set.load(Ordering::Acquire) {
            return None;
        }
        self.feed.lock().clone()
    }

    /// Sets the feed, once.
    pub(crate) fn set_feed(&self, feed: Arc<dyn Feed>) {
        let before = self.feed.lock().replace(feed);
        assert!(before.is_none(), "the feed is set once");
        self.feed_is_set.store(true, Ordering::SeqCst);
        self.wake.wake(Urgency::Now, &self.core.stats);
    }

    /// Other openers in this process are refused from now on.
    pub(crate) fn settle(&self) {
        if let Some(storage) = &*self.storage.lock()
            && !self.is_closing.load(Ordering::SeqCst)
        {
            storage.settle();
        }
    }

    /// Other openers in this process wait from now on.
    pub(crate) fn closing(&self) {
        if let Some(storage) = &*self.storage.lock() {
            storage.closing();
        }
    }

    /// Refuses new work and lets the background thread drain and leave.
    pub(crate) fn begin_close(&self) {
        self.core.close();
        {
            let mut closing = self.closing.lock();
            if let Closing::No = *closing {
                *closing = Closing::Since(Instant::now(), Vec::new());
                self.is_closing.store(true, Ordering::SeqCst);
            }
        }
        self.closing();
        self.wake.unpark(&self.core.stats);
    }

    /// Since when this file is being closed.
    pub(crate) fn closing_since(&self) -> Option<Instant> {
        match &*self.closing.lock() {
            Closing::Since(since, _) => Some(*since),
            Closing::No | Closing::Over => None,
        }
    }

    /// Ready when the lock is released.
    pub(crate) fn poll_closed(&self, waker: &Waker) -> Poll<()> {
        match &mut *self.closing.lock() {
            Closing::Over => Poll::Ready(()),
            Closing::No => unreachable!("a close was begun before it is waited for"),
            Closing::Since(_, wakers) => {
                if !wakers.iter().any(|known| known.will_wake(waker)) {
                    wakers.push(waker.clone());
                }
                Poll::Pending
            }
        }
    }

    /// A worker left the queue idle: a close may be waiting for that.
    pub(crate) fn queue_is_idle(&self) {
        if self.is_closing.load(Ordering::SeqCst) {
            self.wake.unpark(&self.core.stats);
        }
    }

    fn background(&self) {
        low_timer_slack();
        loop {
            let mut alarm = None;
            if let Some(mut role) = self.role.try_lock() {
                match self.serve(&mut role) {
                    Some(Served::Drained) => break,
                    Some(Served::Parked(until)) => alarm = until,
                    None if self.is_closing.load(Ordering::SeqCst) => break,
                    None => {}
                }
                self.wake.parks_until(alarm);
            } else {
                // Whoever drives says when it leaves whether that is early enough.
                alarm = Some(Instant::now() + DRIVEN_NAP);
                self.wake.parks_until(alarm);
                if !self.role.is_locked() {
                    continue;
                }
            }
            self.park(alarm);
        }
        self.tear_down();
    }

    /// Serves with the role in hand; `None` if the owner failed, now or before.
    fn serve(&self, role: &mut Option<Owner>) -> Option<Served> {
        let owner = role.as_mut()?;
        self.wake.busy();
        match guard(|| owner.serve(self)) {
            Ok(served) => Some(served),
            Err(gone) => {
                self.fail(role.take(), gone);
                None
            }
        }
    }

    fn park(&self, alarm: Option<Instant>) {
        self.core.stats.syscalls.bump();
        match alarm {
            None => thread::park(),
            Some(alarm) => {
                thread::park_timeout(alarm.saturating_duration_since(Instant::now()));
            }
        }
        self.wake.parks_no_more();
    }

    pub(crate) fn fail(&self, owner: Option<Owner>, gone: OwnerGone) {
        self.core.fail(&gone);
        if let Some(storage) = &mut *self.storage.lock() {
            storage.spoil();
        }
        let told = catch_unwind(AssertUnwindSafe(|| {
            if let Some(owner) = owner {
                owner.abandon(self, &gone);
            }
        }));
        drop(told); // A feed that panics while it is told knows by then.
    }

    fn tear_down(&self) {
        // Each is taken out of its lock first: what is dropped here may call back.
        let owner = self.role.lock().take();
        owner.into_iter().for_each(Owner::stop);
        let feed = self.feed.lock().take();
        drop(feed);
        // One that helps is waited for, and none does any more.
        let file = self.helped.lock().take();
        drop(file);
        let storage = self.storage.lock().take();
        drop(storage);
        let before = std::mem::replace(&mut *self.closing.lock(), Closing::Over);
        if let Closing::Since(_, wakers) = before {
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

/// Runs the owner's loop; a panic or a fatal error is the end of the owner.
pub(crate) fn guard<T>(run: impl FnOnce() -> io::Result<T>) -> Result<T, OwnerGone> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error)) => Err(OwnerGone { cause: error.to_string() }),
        Err(panic) => Err(OwnerGone { cause: format!("panic: {}", words_of(&*panic)) }),
    }
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(words), _) => words,
        (None, Some(words)) => words,
        (None, None) => "no message",
    }
}

/// Appointments of the feed are tens of microseconds away; the default slack is fifty.
#[cfg(target_os = "linux")]
fn low_timer_slack() {
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1_000));
}

#[cfg(not(target_os = "linux"))]
fn low_timer_slack() {}
