//! The queue: what was asked and not yet given to the device, and in which order it may go.
//!
//! Rules, whatever the backend:
//! - Reads, page writes, durable writes, syncs and growth have a share each of what may be in the
//!   kernel at once, so none starves another and log writes always find room.
//! - A sync is given out only after every write submitted before it has completed. Writes carry an
//!   epoch; each sync ends one; the sync is ready when all epochs up to its own have none left. A
//!   linked chain in the ring was rejected: it breaks on a short write.
//! - One sync is in flight at a time, and all that are ready share the next one.
//! - At most `queued_max` operations wait inside. Further ones stand in line, first come first
//!   served, and only as long as their futures live: a drop withdraws them. (I10)
//!
//! [`Queue`] is pure; [`Core`] is the queue behind its lock with what is shared around it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::buf::Buf;
use crate::coalesce::Elevator;
use crate::errors::{OwnerGone, Refused};
use crate::op::Reply;
use crate::report::SyncMethod;
use crate::settings::Coalesce;
use crate::stats::Counters;
use crate::work::{Part, Waiter, Work};

/// What a caller asks for.
pub(crate) enum Request {
    /// Fill a buffer.
    Read(Part),
    /// Write a page.
    Write(Part),
    /// Write durably.
    Durable(Part),
    /// Make everything before it durable.
    Sync(Reply),
    /// Lengthen the file.
    Grow(u64, Reply),
}

impl Request {
    /// Sends the result.
    pub(crate) fn answer(self, result: io::Result<()>) {
        match self {
            Request::Read(part) | Request::Write(part) | Request::Durable(part) => {
                part.reply.send(result, part.buf);
            }
            Request::Sync(reply) | Request::Grow(_, reply) => reply.send(result, Buf::empty()),
        }
    }
}

/// Shares of what may be in the kernel at once, and the bound of the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Reads in flight.
    pub(crate) reads: usize,
    /// Runs of page writes and durable writes in flight.
    pub(crate) writes: usize,
    /// Bytes of page writes in flight: each log write queues behind them in the device.
    pub(crate) write_bytes: usize,
    /// Operations that wait inside.
    pub(crate) queued_max: usize,
}

/// Bytes of page writes in flight, whatever the depth: about a millisecond of a fast disk.
const WRITE_BYTES_IN_FLIGHT_MAX: usize = 2 << 20;

/// Operations that wait inside, per operation in the kernel.
const QUEUED_PER_DEPTH: usize = 8;

impl Limits {
    /// Three quarters of the depth for reads, one for writes, at least one of each.
    pub(crate) fn of_depth(depth: u32) -> Limits {
        let depth = depth as usize;
        Limits {
            reads: (depth * 3 / 4).max(1),
            writes: (depth / 4).max(1),
            write_bytes: WRITE_BYTES_IN_FLIGHT_MAX,
            queued_max: (depth * QUEUED_PER_DEPTH).max(1),
        }
    }

    /// The most operations that are ever in the kernel: both shares, a sync and a growth.
    pub(crate) fn in_flight_max(&self) -> usize {
        self.reads + self.writes + 2
    }
}

#[derive(Default)]
struct Flying {
    reads: usize,
    writes: usize,
    write_bytes: usize,
    syncs: usize,
    grows: usize,
}

/// The queue itself, without lock or clock.
pub(crate) struct Queue {
    limits: Limits,
    line: BTreeMap<u64, Request>,
    numbers: u64,
    queued: usize,
    reads: VecDeque<Part>,
    writes: Elevator,
    durables: VecDeque<(u64, Part)>,
    grows: VecDeque<(u64, u64, Reply)>,
    syncs: VecDeque<(u64, Waiter)>,
    ready: Vec<Waiter>,
    epochs: VecDeque<usize>,
    epoch_first: u64,
    flying: Flying,
}

impl Queue {
    pub(crate) fn new(limits: Limits, coalesce: Coalesce) -> Queue {
        Queue {
            limits,
            line: BTreeMap::new(),
            numbers: 0,
            queued: 0,
            reads: VecDeque::new(),
            writes: Elevator::new(coalesce),
            durables: VecDeque::new(),
            grows: VecDeque::new(),
            syncs: VecDeque::new(),
            ready: Vec::new(),
            epochs: VecDeque::from([0]),
            epoch_first: 0,
            flying: Flying::default(),
        }
    }

    /// Takes a request in, or into the line; then its place there is the answer.
    pub(crate) fn push(&mut self, request: Request) -> Option<u64> {
        self.numbers += 1;
        if self.queued < self.limits.queued_max && self.line.is_empty() {
            self.admit(self.numbers, request);
            return None;
        }
        self.line.insert(self.numbers, request);
        Some(self.numbers)
    }

    /// Takes a request out of the line, if it still stands there.
    pub(crate) fn withdraw(&mut self, number: u64) -> Option<Request> {
        self.line.remove(&number)
    }

    /// The next act, if the shares have room for one.
    pub(crate) fn pop(&mut self) -> Option<Work> {
        let work = self.choose()?;
        while self.queued < self.limits.queued_max
            && let Some((number, request)) = self.line.pop_first()
        {
            self.admit(number, request);
        }
        Some(work)
    }

    /// Takes note that an act given out by [`Queue::pop`] is over. A durable write whose method has
    /// two steps goes on to its sync with [`Queue::sync_after`].
    pub(crate) fn landed(&mut self, work: &Work) {
        match work {
            Work::Read(_) => self.flying.reads -= 1,
            Work::Write(run) => {
                self.flying.writes -= 1;
                self.flying.write_bytes -= run.len_bytes();
                self.completed(run.epoch, run.parts.len());
            }
            Work::Durable(epoch, _) => {
                self.flying.writes -= 1;
                self.completed(*epoch, 1);
            }
            Work::Sync(_) => self.flying.syncs -= 1,
            Work::Grow(epoch, ..) => {
                self.flying.grows -= 1;
                self.completed(*epoch, 1);
            }
        }
    }

    /// A durable write whose bytes have been written waits for the next sync.
    pub(crate) fn sync_after(&mut self, part: Part) {
        self.queued += 1;
        self.ready.push(Waiter::Durable(part));
    }

    /// Whether nothing waits and nothing flies.
    pub(crate) fn is_idle(&self) -> bool {
        let Flying { reads, writes, syncs, grows, .. } = self.flying;
        self.queued == 0 && self.line.is_empty() && reads + writes + syncs + grows == 0
    }

    /// Everything that was not given out, to be refused.
    fn drain(&mut self) -> Vec<Request> {
        let waiter = |waiter| match waiter {
            Waiter::Sync(reply) => Request::Sync(reply),
            Waiter::Durable(part) => Request::Durable(part),
        };
        self.queued = 0;
        let mut all: Vec<Request> = std::mem::take(&mut self.line).into_values().collect();
        all.extend(self.reads.drain(..).map(Request::Read));
        all.extend(self.writes.drain().map(Request::Write));
        all.extend(self.durables.drain(..).map(|(_, part)| Request::Durable(part)));
        all.extend(self.grows.drain(..).map(|(_, len, reply)| Request::Grow(len, reply)));
        all.extend(self.syncs.drain(..).map(|(_, sync)| waiter(sync)));
        all.extend(self.ready.drain(..).map(waiter));
        all
    }

    fn admit(&mut self, number: u64, request: Request) {
        self.queued += 1;
        let epoch = self.epoch_first + self.epochs.len() as u64 - 1;
        let current = self.epochs.back_mut().expect("the current epoch is never removed");
        match request {
            Request::Read(part) => self.reads.push_back(part),
            Request::Write(part) => {
                *current += 1;
                self.writes.push(epoch, number, part);
            }
            Request::Durable(part) => {
                *current += 1;
                self.durables.push_back((epoch, part));
            }
            Request::Grow(len_bytes, reply) => {
                *current += 1;
                self.grows.push_back((epoch, len_bytes, reply));
            }
            Request::Sync(reply) => {
                self.syncs.push_back((epoch, Waiter::Sync(reply)));
                self.epochs.push_back(0);
                self.advance();
            }
        }
    }

    fn choose(&mut self) -> Option<Work> {
        let work = self
            .choose_read()
            .or_else(|| self.choose_sync())
            .or_else(|| self.choose_durable())
            .or_else(|| self.choose_grow())
            .or_else(|| self.choose_write())?;
        self.queued -= match &work {
            Work::Write(run) => run.parts.len(),
            Work::Sync(waiters) => waiters.len(),
            Work::Read(_) | Work::Durable(..) | Work::Grow(..) => 1,
        };
        Some(work)
    }

    fn choose_read(&mut self) -> Option<Work> {
        if self.flying.reads >= self.limits.reads {
            return None;
        }
        let part = self.reads.pop_front()?;
        self.flying.reads += 1;
        Some(Work::Read(part))
    }

    fn choose_sync(&mut self) -> Option<Work> {
        if self.flying.syncs > 0 || self.ready.is_empty() {
            return None;
        }
        self.flying.syncs += 1;
        Some(Work::Sync(std::mem::take(&mut self.ready)))
    }

    fn choose_durable(&mut self) -> Option<Work> {
        if self.flying.writes >= self.limits.writes {
            return None;
        }
        let (epoch, part) = self.durables.pop_front()?;
        self.flying.writes += 1;
        Some(Work::Durable(epoch, part))
    }

    fn choose_grow(&mut self) -> Option<Work> {
        if self.flying.grows > 0 {
            return None;
        }
        let (epoch, len_bytes, reply) = self.grows.pop_front()?;
        self.flying.grows += 1;
        Some(Work::Grow(epoch, len_bytes, reply))
    }

    fn choose_write(&mut self) -> Option<Work> {
        let flying = &mut self.flying;
        if flying.writes >= self.limits.writes || flying.write_bytes >= self.limits.write_bytes {
            return None;
        }
        let run = self.writes.pop()?;
        flying.writes += 1;
        flying.write_bytes += run.len_bytes();
        Some(Work::Write(run))
    }

    fn completed(&mut self, epoch: u64, count: usize) {
        let index = (epoch - self.epoch_first) as usize;
        self.epochs[index] -= count;
        self.advance();
    }

    /// Leaves finished epochs behind; their syncs are ready.
    fn advance(&mut self) {
        while self.epochs.len() > 1 && self.epochs[0] == 0 {
            self.epochs.pop_front();
            self.epoch_first += 1;
        }
        while let Some((epoch, _)) = self.syncs.front()
            && *epoch < self.epoch_first
        {
            let (_, waiter) = self.syncs.pop_front().expect("the front was just seen");
            self.ready.push(waiter);
        }
    }
}

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
    len_bytes: AtomicU64,
    method: SyncMethod,
    pub(crate) stats: Counters,
}

impl Core {
    pub(crate) fn new(queue: Queue, method: SyncMethod, len_bytes: u64) -> Core {
        Core {
            guarded: Mutex::new(Guarded { queue, refusal: None, workers_stop: false }),
            work_waits: Condvar::new(),
            pushes: AtomicU64::new(0),
            len_bytes: AtomicU64::new(len_bytes),
            method,
            stats: Counters::default(),
        }
    }

    /// Takes a request in; its place if it has to stand in line; an answer at once if refused.
    pub(crate) fn push(&self, request: Request) -> Option<u64> {
        let mut guarded = self.guarded.lock();
        if let Some(refusal) = guarded.refusal.clone() {
            drop(guarded);
            request.answer(Err(refusal.into()));
            return None;
        }
        let place = guarded.queue.push(request);
        self.pushes.fetch_add(1, Ordering::SeqCst);
        drop(guarded);
        place
    }

    /// How many requests were taken in: it changes when there may be something new to pop.
    pub(crate) fn pushes(&self) -> u64 {
        self.pushes.load(Ordering::SeqCst)
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

    /// The next act, waiting for one; `None` when the workers are to stop.
    pub(crate) fn pop_wait(&self) -> Option<Work> {
        let mut guarded = self.guarded.lock();
        loop {
            if let Some(work) = guarded.queue.pop() {
                return Some(work);
            }
            if guarded.workers_stop {
                return None;
            }
            self.stats.syscalls.bump();
            self.work_waits.wait(&mut guarded);
        }
    }

    /// Wakes a worker for what was pushed.
    pub(crate) fn wake_worker(&self) {
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
        self.count(&work, &result);
        let mut guarded = self.guarded.lock();
        guarded.queue.landed(&work);
        let two_steps = self.method != SyncMethod::DsyncWrite;
        if two_steps
            && result.is_ok()
            && let Work::Durable(_, part) = work
        {
            guarded.queue.sync_after(part);
            return false;
        }
        let idle = guarded.queue.is_idle();
        drop(guarded);
        work.answer(result);
        idle
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

    /// Whether nothing waits and nothing flies.
    pub(crate) fn is_idle(&self) -> bool {
        self.guarded.lock().queue.is_idle()
    }

    /// How writes are made durable.
    pub(crate) fn method(&self) -> SyncMethod {
        self.method
    }

    /// Length of the file.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes.load(Ordering::Acquire)
    }

    /// Counts a write of the feed.
    pub(crate) fn count_feed(&self, len: usize, result: &io::Result<()>) {
        match result {
            Err(_) => self.stats.failed.bump(),
            Ok(()) => {
                self.stats.durable_writes.bump();
                self.stats.durable_bytes.add(len as u64);
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
            Work::Durable(_, part) => {
                stats.durable_writes.bump();
                stats.durable_bytes.add(part.len as u64);
            }
            Work::Sync(_) => stats.syncs.bump(),
            Work::Grow(_, len_bytes, _) => {
                self.len_bytes.fetch_max(*len_bytes, Ordering::AcqRel);
            }
        }
    }
}
