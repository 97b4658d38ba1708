//! The queue: what was asked and not yet given to the device, and in which order it may go.
//!
//! Rules, whatever the backend:
//! - Reads, writes, syncs and changes of the length have a share each of what may be in the kernel at once, so none starves another; of
//!   the writes, durable ones go first. Writes of the log are the feed's and always find room.
//! - Changes of the length are made one at a time, in the order in which they were submitted.
//! - A sync is given out only after every write submitted before it has completed. Writes carry an
//!   epoch; each sync ends one; the sync is ready when all epochs up to its own have none left. A
//!   linked chain in the ring was rejected: it breaks on a short write.
//! - One sync is in flight at a time, and all that are ready share the next one.
//! - At most `queued_max` operations wait inside. Further ones stand in line, first come first
//!   served, and only as long as their futures live: a drop withdraws them. (I10)
//!
//! [`Queue`] is pure: no I/O, no lock. [`Core`] is the queue behind its lock, with what is shared
//! around it.

mod core;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;

use crate::buf::Buf;
use crate::coalesce::{Elevator, RUN_PARTS_MAX};
use crate::op::Reply;
use crate::report::SyncMethod;
use crate::settings::Coalesce;
use crate::wake::Urgency;
use crate::work::{Part, Resize, Waiter, Work};

pub(crate) use core::Core;

/// What a caller asks for.
pub(crate) enum Request {
    /// Fill a buffer.
    Read(Part),
    /// Write a page.
    Write(Part),
    /// Write durably, by this method.
    Durable(SyncMethod, Part),
    /// Make everything before it durable.
    Sync(Reply),
    /// Change the length of the file.
    Resize(Resize, Reply),
}

impl Request {
    /// Sends the result.
    pub(crate) fn answer(self, result: io::Result<()>) {
        match self {
            Request::Read(part) | Request::Write(part) | Request::Durable(_, part) => {
                part.reply.send(result, part.buf);
            }
            Request::Sync(reply) | Request::Resize(_, reply) => reply.send(result, Buf::empty()),
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

    /// The most operations that are ever in the kernel: both shares, a sync and a change of the length.
    #[cfg(target_os = "linux")]
    pub(crate) fn in_flight_max(&self) -> usize {
        self.reads + self.writes + 2
    }
}

/// With so many reads in flight one is over soon, and the next ones go with its end: to wake the owner for each costs more than it
/// waits, a sixteenth of a read's time.
const READS_OFTEN_OVER: usize = 16;
/// So many of them do not wait for that.
const READS_TOGETHER: usize = 8;

#[derive(Default)]
struct Flying {
    reads: usize,
    writes: usize,
    write_bytes: usize,
    syncs: usize,
    resizes: usize,
}

/// The queue itself, without lock or clock.
pub(crate) struct Queue {
    limits: Limits,
    line: BTreeMap<u64, Request>,
    numbers: u64,
    queued: usize,
    reads: VecDeque<Part>,
    writes: Elevator,
    durables: VecDeque<(u64, SyncMethod, Part)>,
    resizes: VecDeque<(u64, Resize, Reply)>,
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
            resizes: VecDeque::new(),
            syncs: VecDeque::new(),
            ready: Vec::new(),
            epochs: VecDeque::from([0]),
            epoch_first: 0,
            flying: Flying::default(),
        }
    }

    /// How much a request that is about to be pushed deserves to wake somebody.
    pub(crate) fn urgency(&self, request: &Request) -> Urgency {
        match request {
            Request::Read(_)
                if self.flying.reads >= READS_OFTEN_OVER
                    && !(self.reads.len() + 1).is_multiple_of(READS_TOGETHER) =>
            {
                Urgency::Batch
            }
            Request::Read(_) | Request::Durable(..) | Request::Sync(_) => Urgency::Now,
            Request::Write(_) if (self.writes.len() + 1).is_multiple_of(RUN_PARTS_MAX) => {
                Urgency::Now // A full run gains nothing from waiting.
            }
            Request::Write(_) | Request::Resize(..) => Urgency::Batch,
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
        let work = self.choose_read().or_else(|| self.choose_but_read())?;
        Some(self.taken(work))
    }

    /// The next act for a thread that helps: not a read, which others make many of at once, nor a cut.
    pub(crate) fn pop_to_help(&mut self) -> Option<Work> {
        if let Some((_, Resize::Shrink(_), _)) = self.resizes.front() {
            return None;
        }
        let work = self.choose_but_read()?;
        Some(self.taken(work))
    }

    fn taken(&mut self, work: Work) -> Work {
        self.queued -= match &work {
            Work::Write(run) => run.parts.len(),
            Work::Sync(waiters) => waiters.len(),
            Work::Read(_) | Work::Durable(..) | Work::Resize(..) => 1,
        };
        while self.queued < self.limits.queued_max
            && let Some((number, request)) = self.line.pop_first()
        {
            self.admit(number, request);
        }
        work
    }

    /// Whether a worker of a pool should come for something. One writer of pages is enough until
    /// more than a run is waiting: they gather meanwhile, and coalesce.
    pub(crate) fn is_due(&self) -> bool {
        let (limits, flying) = (&self.limits, &self.flying);
        let writes = self.writes.len();
        let page = writes > RUN_PARTS_MAX || writes > 0 && flying.writes == 0;
        !self.reads.is_empty() && flying.reads < limits.reads
            || !self.ready.is_empty() && flying.syncs == 0
            || !self.durables.is_empty() && flying.writes < limits.writes
            || !self.resizes.is_empty() && flying.resizes == 0
            || page && flying.writes < limits.writes && flying.write_bytes < limits.write_bytes
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
            Work::Durable(epoch, ..) => {
                self.flying.writes -= 1;
                self.completed(*epoch, 1);
            }
            Work::Sync(_) => self.flying.syncs -= 1,
            Work::Resize(epoch, ..) => {
                self.flying.resizes -= 1;
                self.completed(*epoch, 1);
            }
        }
    }

    /// A durable write whose bytes have been written waits for the next sync.
    pub(crate) fn sync_after(&mut self, part: Part) {
        self.queued += 1;
        self.ready.push(Waiter::Durable(part));
    }

    /// How many stand in line.
    pub(crate) fn standing(&self) -> usize {
        self.line.len()
    }

    /// Whether anything waits.
    pub(crate) fn has_waiting(&self) -> bool {
        self.queued > 0 || !self.line.is_empty()
    }

    /// Whether nothing waits and nothing flies.
    pub(crate) fn is_idle(&self) -> bool {
        let Flying { reads, writes, syncs, resizes, .. } = self.flying;
        !self.has_waiting() && reads + writes + syncs + resizes == 0
    }

    /// Everything that was not given out, to be refused.
    fn drain(&mut self) -> Vec<Request> {
        let waiter = |waiter| match waiter {
            Waiter::Sync(reply) => Request::Sync(reply),
            // Only its answer is left.
            Waiter::Durable(part) => Request::Write(part),
        };
        self.queued = 0;
        let mut all: Vec<Request> = std::mem::take(&mut self.line).into_values().collect();
        all.extend(self.reads.drain(..).map(Request::Read));
        all.extend(self.writes.drain().map(Request::Write));
        all.extend(self.durables.drain(..).map(|(_, method, part)| Request::Durable(method, part)));
        all.extend(self.resizes.drain(..).map(|(_, to, reply)| Request::Resize(to, reply)));
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
            Request::Durable(method, part) => {
                *current += 1;
                self.durables.push_back((epoch, method, part));
            }
            Request::Resize(to, reply) => {
                *current += 1;
                self.resizes.push_back((epoch, to, reply));
            }
            Request::Sync(reply) => {
                self.syncs.push_back((epoch, Waiter::Sync(reply)));
                self.epochs.push_back(0);
                self.advance();
            }
        }
    }

    fn choose_but_read(&mut self) -> Option<Work> {
        self.choose_sync()
            .or_else(|| self.choose_durable())
            .or_else(|| self.choose_resize())
            .or_else(|| self.choose_write())
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
        let (epoch, method, part) = self.durables.pop_front()?;
        self.flying.writes += 1;
        Some(Work::Durable(epoch, method, part))
    }

    fn choose_resize(&mut self) -> Option<Work> {
        if self.flying.resizes > 0 {
            return None;
        }
        let (epoch, to, reply) = self.resizes.pop_front()?;
        self.flying.resizes += 1;
        Some(Work::Resize(epoch, to, reply))
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
