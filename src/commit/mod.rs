//! The commit pipeline: reserve, order, apply, flush, show.
//!
//! 1. *Reserve.* `admit` looks whether memtables, log and places have room. If not, the task joins a
//!    queue, first come first served; nothing has happened yet and it may leave. (I11)
//! 2. *Order.* Under the one short lock: refuse if poisoned or closed, check the families, take
//!    the next seq, copy the record into the open group. Nothing waits after it has a seq. (I4)
//! 3. *Apply.* Outside the lock, in parallel with all others: insert into the memtables, mark the
//!    place. A panic in between poisons.
//! 4. *Flush.* The ring's owner pulls groups one at a time through [`Feed`]: no leader among the
//!    committers, no condition variable.
//! 5. *Show.* Counters advance over contiguous prefixes and wake the waiters in order.
//!
//! Lock order: `state edit` (in `db`) before `order` before `space`; `sealer` and the places' locks are leaves. A change of the catalog
//! is shown, and wakes, under `state edit`.

mod change;
mod changed;
mod claim;
mod exclusive;
pub(crate) mod footprint;
pub(crate) mod group;
#[cfg(all(test, ringdb_loom))]
mod models;
mod order;
mod places;
mod queue;
pub(crate) mod signal;
mod submission;
mod watch;
pub(crate) mod window;
#[cfg(test)]
mod window_tests;

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ringdb_uring::threads::atomic::{AtomicU64, Ordering};
use ringdb_uring::threads::{Mutex, MutexGuard};
use ringdb_uring::{Buf, Feed, Io, Next, Pending};

use crate::commit::group::ClosedGroup;
use crate::commit::order::{Flight, Regroup};
use crate::commit::signal::Signal;
use crate::error::{Error, ErrorKind, Result};
use crate::format::group::{self as group_format, GROUP_HEADER_BYTES, GroupHeader};
use crate::ids::{FamilyId, Generation, Incarnation, Seq};
use crate::log::{GroupPlace, LogPosition, Segment};
use crate::memtable::Pool;
use crate::options::{Grouping, Shares};
use crate::state::{Family, Generational};

pub(crate) use change::Request;
pub(crate) use changed::Changed;
pub(crate) use claim::charge_bytes;
pub(crate) use order::{Gate, Order};
use places::places_for;
pub(crate) use places::{Places, Shown};
pub(crate) use queue::Ticket;
pub(crate) use submission::{Admission, Submission, apply_op, row_kind};

/// A log that has been idle for this long is sealed, so that only an unsealed last group can be
/// mistaken for a torn tail.
const SEAL_AFTER: Duration = Duration::from_millis(10);

/// Ordered commits on their way to durable and visible.
pub(crate) struct Pipeline {
    io: Io,
    order: Mutex<Order>,
    sealer: Mutex<Sealer>,
    pub(crate) places: Places,
    failure: OnceLock<Error>,
    /// Segments are wanted.
    pub(crate) keeper: Signal,
    /// A checkpoint is wanted, or something it waits for happened.
    pub(crate) checkpointer: Signal,
    generation: AtomicU64,
    groups: AtomicU64,
    commits: AtomicU64,
    waiting: AtomicU64,
    /// Whether commits are accepted, or why not.
    pub(crate) changed: Changed,
}

/// What a freeze found in order at the seq that it chose.
pub(crate) struct Cut {
    pub(crate) seq: Seq,
    /// Every family with its name, ascending by id.
    pub(crate) catalog: Vec<(Arc<str>, Arc<Family>)>,
    pub(crate) next_family: FamilyId,
    /// The first segment that is still needed.
    pub(crate) log_from: Segment,
}

/// What links a group to the one before; used by whoever drives, one at a time.
struct Sealer {
    file_id: [u8; 16],
    incarnation: Incarnation,
    previous_crc: u32,
}

/// Everything a pipeline starts from.
pub(crate) struct Start {
    pub(crate) file_id: [u8; 16],
    pub(crate) incarnation: Incarnation,
    pub(crate) generation: Generation,
    pub(crate) last: Seq,
    pub(crate) log: LogPosition,
    pub(crate) shares: Shares,
    pub(crate) grouping: Grouping,
    pub(crate) next_family: FamilyId,
    pub(crate) pool: Arc<Pool>,
}

impl Pipeline {
    pub(crate) fn new(io: Io, start: Start) -> Pipeline {
        let sealer =
            Sealer { file_id: start.file_id, incarnation: start.incarnation, previous_crc: 0 };
        Pipeline {
            io,
            sealer: Mutex::new(sealer),
            places: Places::new(start.last, places_for(start.shares.memtable_bytes_max)),
            failure: OnceLock::new(),
            keeper: Signal::default(),
            checkpointer: Signal::default(),
            generation: AtomicU64::new(start.generation.0),
            order: Mutex::new(Order::new(start)),
            groups: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            changed: Changed::default(),
        }
    }

    /// The lock of the commit order. Hold it shortly; never across an await.
    pub(crate) fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock()
    }

    /// Why nothing more is accepted, if a write or sync failed. (I8)
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.get().cloned()
    }

    /// Poisons: every waiter gets the cause, nothing is retried. (I8)
    pub(crate) fn poison(&self, cause: Error) {
        if self.failure.set(cause).is_err() {
            return;
        }
        let queue = std::mem::take(&mut self.order.lock().queue);
        queue.tickets().for_each(|ticket| ticket.wake());
        self.places.wake_all();
        self.keeper.raise();
        self.checkpointer.raise();
        self.changed.notify();
    }

    /// Whether `close` was called.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.order.lock().gate, Gate::Closed)
    }

    /// The newest superblock is this one.
    pub(crate) fn set_generation(&self, generation: Generation) {
        self.generation.store(generation.0, Ordering::Release);
    }

    /// Groups written, and logged or unlogged commits ordered, since open.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.groups.load(Ordering::Relaxed), self.commits.load(Ordering::Relaxed))
    }

    /// Whether the commit can be seen; registers the task if not.
    pub(crate) fn poll_shown(&self, seq: Seq, context: &mut Context<'_>) -> Poll<Result<()>> {
        if self.places.poll_visible(seq, context) {
            return Poll::Ready(Ok(()));
        }
        self.poll_failed()
    }

    /// Resolves once all up to `seq` are visible.
    pub(crate) async fn visible(&self, seq: Seq) -> Result<()> {
        poll_fn(|context| match self.places.watch_visible(seq, context) {
            true => Poll::Ready(Ok(())),
            false => self.poll_failed(),
        })
        .await
    }

    /// Resolves once all up to `seq` survive power loss, as far as they are logged.
    pub(crate) async fn durable(&self, seq: Seq) -> Result<()> {
        self.force(seq);
        // Also where a write has failed since: what was durable before that still is.
        poll_fn(|context| match self.places.watch_durable(seq, context) {
            true => Poll::Ready(Ok(())),
            false => self.poll_failed(),
        })
        .await?;
        // Whoever learns that a commit is durable may look for it.
        self.visible(seq).await
    }

    pub(crate) fn poll_failed(&self) -> Poll<Result<()>> {
        match self.failure() {
            None if !self.io.is_here() => Poll::Ready(Err(forked())),
            Some(cause) => Poll::Ready(Err(cause.with_outcome_unknown())),
            None => Poll::Pending,
        }
    }

    /// Has a group written that covers `seq`, even if no logged commit needs one.
    fn force(&self, seq: Seq) {
        let mut order = self.order.lock();
        let covered = order.flight.is_some_and(|flight| flight.last >= seq);
        if covered || self.places.durable() >= seq {
            return;
        }
        order.forced = true;
        let full = order.group.is_empty() && !order.log_has_room_for_seal();
        drop(order);
        if full {
            self.keeper.raise();
        }
        self.io.kick();
    }

    /// Has a group written, an empty one if there are no commits.
    pub(crate) fn write_group(&self) {
        self.order.lock().forced = true;
        self.io.kick();
    }

    /// Begins a freeze: successors in front of every family written since the last one. The
    /// caller publishes them, then calls [`Pipeline::freeze`].
    pub(crate) fn dirty(&self) -> Vec<Arc<Family>> {
        self.order.lock().dirty.clone()
    }

    /// Chooses the freeze's seq. Fails with the families that became dirty in the meantime, which
    /// need successors first.
    pub(crate) fn freeze<'a>(
        &self,
        successors: impl ExactSizeIterator<Item = &'a Arc<Generational>>,
    ) -> std::result::Result<Cut, Vec<Arc<Family>>> {
        let mut order = self.order.lock();
        if order.dirty.len() > successors.len() {
            return Err(order.dirty[successors.len()..].to_vec());
        }
        let seq = order.last;
        successors.for_each(|successor| successor.starts_after(seq));
        order.unlogged_frozen = order.has_unlogged();
        order.dirty.clear();
        order.ranges_wanted = false;
        order.memory_wanted = false;
        order.epoch += 1;
        order.cover.freeze();
        order.log.freeze();
        order.memory.freeze();
        let (names, next_family) = (order.names.clone(), order.next_family);
        let log_from = order.log.first_after(seq);
        drop(order);
        let named = names.iter().map(|(name, family)| (name.clone(), family.clone()));
        let mut catalog: Vec<_> = named.collect();
        catalog.sort_by_key(|(_, family)| family.id);
        Ok(Cut { seq, catalog, next_family, log_from })
    }

    /// Nothing more is accepted: those who wait for room look again and are told so.
    pub(crate) fn refuse_waiters(&self) {
        let queue = std::mem::take(&mut self.order.lock().queue);
        queue.tickets().for_each(|ticket| ticket.wake());
        self.changed.notify();
    }

    /// The frozen memtables are in the trees.
    pub(crate) fn thaw(&self) {
        {
            let mut order = self.order.lock();
            let frozen = std::mem::take(&mut order.memory.frozen);
            order.cover.thaw(frozen);
            order.unlogged_frozen = false;
            // The first in the queue looks again, and says so again if this was not enough.
            order.memory_wanted = false;
        }
        self.wake_front();
    }

    /// Lets the first in the queue look again.
    pub(crate) fn wake_front(&self) {
        let front = self.order.lock().queue.front().cloned();
        front.iter().for_each(|ticket| ticket.wake());
    }

    /// Room may have come back because places were swept.
    pub(crate) fn wake_front_if_waiting(&self) {
        if self.waiting.load(Ordering::SeqCst) != 0 {
            self.wake_front();
        }
    }

    fn close_group(&self, mut order: MutexGuard<'_, Order>) -> Next {
        let last = order.last;
        let spare = order.spare.take().unwrap_or_else(|| Buf::zeroed(order.group_bytes));
        let mut closed = order.group.take(spare);
        let place = order.log.place(group::padded(closed.len) as u64, last);
        order.flight = Some(Flight { last, commits: closed.commits });
        (order.regroup, order.paced, order.forced, order.seal_at) = (None, false, false, None);
        let front = order.queue.front().cloned();
        drop(order);
        if place.opened {
            self.keeper.raise();
            // The log grew by a segment: it may be long enough for a checkpoint now.
            self.checkpointer.raise();
        }
        front.iter().for_each(|ticket| ticket.wake());
        closed.fill();
        self.seal(closed, place, last)
    }

    fn seal(&self, mut closed: ClosedGroup, place: GroupPlace, last: Seq) -> Next {
        let mut sealer = self.sealer.lock();
        let seal = closed.commits == 0;
        let header = GroupHeader {
            len_bytes: u32::try_from(closed.len - GROUP_HEADER_BYTES).expect("below 4 GiB"),
            previous_crc: sealer.previous_crc,
            incarnation: sealer.incarnation,
            segment: place.ordinal,
            first_seq: if seal { Seq(last.0 + 1) } else { closed.first },
            last_seq: last,
            // A checkpoint may have made later commits durable since the group was closed.
            durable: self.places.durable().min(last),
            generation: Generation(self.generation.load(Ordering::Acquire)),
            commits: closed.commits,
        };
        let sealed = group_format::seal(&mut closed.buf, &header, &sealer.file_id);
        sealer.previous_crc = sealed.crc;
        self.groups.fetch_add(1, Ordering::Relaxed);
        Next::Write { offset: place.offset_bytes, buf: closed.buf, len: sealed.len_bytes }
    }
}

impl Feed for Pipeline {
    fn next(&self, now: Instant) -> Next {
        if self.failure.get().is_some() {
            return Next::Idle;
        }
        let mut order = self.order.lock();
        if let Some(until) = order.waits_for_more(now) {
            order.paced = true;
            return Next::At(until);
        }
        order.paced = false;
        if !order.group.is_empty() {
            return self.close_group(order);
        }
        order.regroup = None;
        // No commit asked for room for an empty group. In a full log the seal waits, as commits
        // do, until the keeper has a segment and kicks.
        if !order.log_has_room_for_seal() {
            return Next::Idle;
        }
        match order.seal_at {
            _ if order.forced => self.close_group(order),
            None => Next::Idle,
            Some(at) if now < at => Next::At(at),
            Some(_) => self.close_group(order),
        }
    }

    fn pending(&self, now: Instant) -> Pending {
        if self.failure.get().is_some() {
            return Pending::Nothing;
        }
        let mut order = self.order.lock();
        if let Some(until) = order.waits_for_more(now) {
            // Before the first commit is back nobody waits: that one will kick.
            order.paced = !order.group.is_empty();
            return match order.paced {
                true => Pending::At(until),
                false => order.seal_at.map_or(Pending::Nothing, Pending::At),
            };
        }
        if !order.group.is_empty() {
            return Pending::Write;
        }
        match order.seal_at {
            _ if !order.log_has_room_for_seal() => Pending::Nothing,
            _ if order.forced => Pending::Write,
            None => Pending::Nothing,
            Some(at) if now < at => Pending::At(at),
            Some(_) => Pending::Write,
        }
    }

    fn done(&self, result: io::Result<()>, buf: Buf, took: Duration) {
        if let Err(cause) = result {
            let error = Error::new(ErrorKind::Poisoned, "a log write failed; reopen the database");
            self.poison(error.with_detail(self.io.path().display().to_string()).with_source(cause));
            return;
        }
        if let Some(cause) = self.io.failed_sync() {
            // Its caller may have left; what it covered may have been ours. (I8)
            let error = Error::new(ErrorKind::Poisoned, "a sync failed; reopen the database");
            return self.poison(error.with_source(cause));
        }
        let now = Instant::now();
        let mut order = self.order.lock();
        let Flight { last, commits } = order.flight.take().expect("done follows a write");
        if buf.len() == order.group_bytes {
            order.spare = Some(buf);
        }
        order.flush.observe(took);
        let until = now + order.flush.get();
        order.regroup = match order.grouping {
            Grouping::Shared => Regroup::behind(commits, order.group.commits(), until),
            Grouping::PerCommit => None,
        };
        // An empty group is a seal itself; only commits need one.
        order.seal_at = (commits > 0).then_some(now + SEAL_AFTER);
        drop(order);
        self.places.note_durable(last);
    }

    fn tell(&self) {
        self.places.show_durable();
        self.wake_front_if_waiting();
    }

    fn abandoned(&self, cause: io::Error) {
        let error = Error::new(
            ErrorKind::Poisoned,
            "the owner of the file's I/O failed; reopen the database",
        );
        self.poison(error.with_detail(self.io.path().display().to_string()).with_source(cause));
    }
}

/// Why everything is refused in a forked child: the threads that would answer are the parent's.
pub(crate) fn forked() -> Error {
    Error::new(ErrorKind::Unsupported, "a forked child cannot use its parent's database")
}

/// Why a commit is refused after `close`.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the database is closed")
}
