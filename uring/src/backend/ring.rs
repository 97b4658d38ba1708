//! The `io_uring` backend.
//!
//! Invariants:
//! - What the kernel may touch (buffers, vectors, the bell's counter) lives in a slot of this
//!   struct until its completion was seen, or is leaked. (I1)
//! - The submission queue has room for everything the limits allow at once, the feed and the bell
//!   included, so an entry never has to wait for room and the completion queue never overflows.
//! - A completion is matched by slot and generation; one that matches nothing is counted and
//!   ignored. Short transfers are resumed from where they ended; what the kernel cancelled because
//!   a submitting thread exited, or put off, is submitted again, bounded. Nothing else is retried.
//! - An error of `io_uring_enter` says nothing about the entries: only the completions do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use io_uring::{IoUring, cqueue, squeue, types};
use rustix::io::Errno;

use crate::backend::Backend;
use crate::backend::flight::{BELL_TAG, Bell, FEED_TAG, FeedFlight, Flight, Landing, TAG_MASK};
use crate::backend::perform::write_durably;
use crate::backend::setup::Ready;
use crate::calls::{TRANSIENT_MAX, resize};
use crate::errors::copy;
use crate::feed::{FeedDone, FeedWrite};
use crate::file::OsFile;
use crate::queue::{Core, Limits};
use crate::slots::Slots;
use crate::work::{Resize, Work};

/// After as many writes of the feed without a read, the next one that finds nothing else in flight is a plain call: a direct
/// durable write through the ring ends in two kernel workers before its owner is woken, a call in the caller itself. What comes
/// meanwhile has to wait for it, so it is not done where reads are about.
///
/// Nor beside page writes that are in flight. One ends in the kernel by a step of the thread that submitted it, and keeps the file
/// system from being frozen until then; the call waits where somebody has begun to freeze it, so that neither would ever go on.
const FEEDS_WITHOUT_READ_MIN: u32 = 4;

/// The ring and all that is in it.
pub(crate) struct Ring {
    ring: IoUring,
    file: Arc<OsFile>,
    feed_file: Arc<OsFile>,
    core: Arc<Core>,
    flights: Slots<Flight>,
    feed: Option<FeedFlight>,
    /// A write of the feed that is made by a plain call if nothing else is in flight by then.
    alone: Option<FeedWrite>,
    /// Writes of the feed since the last read came.
    feeds_without_read: u32,
    feeds: u64,
    feed_over: Option<FeedDone>,
    over: Vec<(Work, io::Result<()>)>,
    /// Cuts the file off when nothing is in flight; nothing is begun here before that but the feed's writes.
    cut: Option<Work>,
    bell: Bell,
    completions: Vec<cqueue::Entry>,
}

impl Ring {
    /// Takes over a ring that was set up for these files and limits.
    pub(crate) fn new(
        ready: Ready,
        file: Arc<OsFile>,
        feed_file: Arc<OsFile>,
        core: Arc<Core>,
        limits: Limits,
    ) -> Ring {
        Ring {
            ring: ready.ring,
            file,
            feed_file,
            core,
            flights: Slots::with_capacity(limits.in_flight_max()),
            feed: None,
            alone: None,
            feeds_without_read: 0,
            feeds: 0,
            feed_over: None,
            over: Vec::new(),
            cut: None,
            bell: Bell::new(ready.event),
            completions: Vec::new(),
        }
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the entry's pointers lead into a flight, the feed's flight or the bell, which
        // keep their memory until the completion was seen or leak it.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("the ring has an entry for everything within the limits");
    }

    fn launch_feed(&mut self, write: FeedWrite) {
        self.feeds += 1;
        let mut flight = FeedFlight::new(write, self.feeds);
        let entry = flight.entry();
        self.feed = Some(flight);
        self.push(&entry);
    }

    fn feed_flies(&self) -> bool {
        self.feed.is_some() || self.alone.is_some()
    }

    fn launch(&mut self, flight: Flight) {
        let key = self.flights.insert(flight);
        let flight = self.flights.get_mut(key).expect("it was just inserted");
        let entry = flight.entry(&self.core).user_data(key);
        self.push(&entry);
    }

    /// By a plain call, as kernels before 6.9 cannot in the ring, and whoever writes to the file waits for it either way. Not beside
    /// writes that are in flight, for the same reason as the feed's calls.
    fn cut_off(&mut self) {
        if !self.flights.is_empty() || self.feed.is_some() {
            return;
        }
        let Some(work) = self.cut.take() else { return };
        let Work::Resize(_, to, _) = &work else { unreachable!("the work cuts the file off") };
        let result = resize(&*self.file, self.core.len_bytes(), *to, &self.core.stats);
        self.core.finish(work, result);
    }

    /// One call into the kernel. Ok whether or not something came of it: the loop looks.
    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        for _ in 0..TRANSIENT_MAX {
            self.core.stats.syscalls.bump();
            let submitter = self.ring.submitter();
            let entered = match timeout {
                None => submitter.submit_and_wait(want),
                Some(timeout) => {
                    let time = types::Timespec::from(timeout);
                    submitter.submit_with_args(want, &types::SubmitArgs::new().timespec(&time))
                }
            };
            let Err(error) = entered else { return Ok(()) };
            match Errno::from_io_error(&error) {
                Some(Errno::INTR | Errno::TIME) => return Ok(()),
                Some(Errno::AGAIN | Errno::BUSY) if !self.ring.completion().is_empty() => {
                    return Ok(()); // It asks to be relieved of completions first.
                }
                Some(Errno::AGAIN | Errno::BUSY) => std::thread::yield_now(),
                _ => return Err(error),
            }
        }
        Err(io::Error::from(Errno::AGAIN))
    }

    /// Sorts what the kernel completed into `feed_over` and `over`.
    fn reap(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        completions.extend(self.ring.completion());
        for completion in completions.drain(..) {
            let (key, result) = (completion.user_data(), completion.result());
            match key & TAG_MASK {
                FEED_TAG => self.reap_feed(key, result),
                BELL_TAG => self.bell.heard(),
                _ => self.reap_flight(key, result),
            }
        }
        self.completions = completions;
    }

    fn reap_feed(&mut self, key: u64, result: i32) {
        let Some(mut flight) = self.feed.take_if(|flight| flight.key == key) else {
            return self.core.stats.stale.bump();
        };
        match flight.landed(result, &self.core) {
            Landing::Again => {
                let entry = flight.entry();
                self.feed = Some(flight);
                self.push(&entry);
            }
            Landing::Over(result) => {
                self.core.feed_landed(&flight.write, &result);
                self.feed_over = Some(flight.write.over(result));
            }
        }
    }

    fn reap_flight(&mut self, key: u64, result: i32) {
        let Some(flight) = self.flights.get_mut(key) else {
            return self.core.stats.stale.bump();
        };
        let landing = flight.landed(result, &self.file, &self.core);
        let flight = self.flights.remove(key).expect("it was just found");
        match landing {
            Landing::Again => self.launch(flight),
            Landing::Over(result) => self.over.push((flight.work, result)),
        }
    }
}

impl Backend for Ring {
    fn start_feed(&mut self, write: FeedWrite) {
        assert!(!self.feed_flies() && self.feed_over.is_none(), "one write of the feed at a time");
        match self.flights.is_empty() && self.feeds_without_read >= FEEDS_WITHOUT_READ_MIN {
            true => self.alone = Some(write),
            false => self.launch_feed(write),
        }
        self.feeds_without_read = self.feeds_without_read.saturating_add(1);
    }

    fn pump(&mut self) {
        self.cut_off();
        while self.cut.is_none()
            && let Some(work) = self.core.pop()
        {
            match work {
                Work::Resize(_, to, _) if to.holds(self.core.len_bytes()) => {
                    self.core.finish(work, Ok(()));
                }
                Work::Resize(_, Resize::Shrink(_), _) => {
                    self.cut = Some(work);
                    self.cut_off();
                }
                Work::Read(_) => {
                    self.feeds_without_read = 0;
                    self.launch(Flight::new(work));
                }
                _ => self.launch(Flight::new(work)),
            }
        }
    }

    fn is_deaf(&self) -> bool {
        self.alone.is_some() && self.flights.is_empty()
    }

    fn in_flight(&self) -> usize {
        self.flights.len() + usize::from(self.feed_flies()) + usize::from(self.cut.is_some())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if let Some(write) = self.alone.take() {
            if self.flights.is_empty() {
                let result = write_durably(&*self.feed_file, &self.core, &write);
                self.core.feed_landed(&write, &result);
                self.feed_over = Some(write.over(result));
                self.cut_off();
                return Ok(());
            }
            self.launch_feed(write);
        }
        if let Some(entry) = self.bell.arm() {
            self.push(&entry);
        }
        self.enter(1, timeout)?;
        self.reap();
        self.cut_off();
        Ok(())
    }

    fn feed_done(&mut self) -> Option<FeedDone> {
        self.feed_over.take()
    }

    fn settle(&mut self) {
        for (work, result) in self.over.drain(..) {
            self.core.finish(work, result);
        }
    }

    fn abandon(mut self: Box<Self>, error: &io::Error) -> Option<FeedDone> {
        self.settle();
        self.bell.abandon();
        self.cut.take().into_iter().for_each(|cut| cut.answer(Err(copy(error))));
        for flight in self.flights.drain() {
            flight.abandon(error);
        }
        let lost = self.feed.take().map(|flight| flight.abandon(copy(error)));
        let unsent = self.alone.take().map(|write| write.over(Err(copy(error))));
        self.feed_over.take().or(lost).or(unsent)
    }

    fn stop(mut self: Box<Self>) {
        assert_eq!(self.in_flight(), 0, "a backend is stopped when nothing is in flight");
        // The kernel still has the bell's counter: ring it, so that it comes back.
        for _ in 0..TRANSIENT_MAX {
            if !self.bell.is_armed() {
                return;
            }
            self.bell.ring(&self.core.stats);
            if self.enter(1, None).is_err() {
                break;
            }
            self.reap();
        }
        self.bell.abandon();
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
