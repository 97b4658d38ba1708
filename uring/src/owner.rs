//! The owner: one loop, whoever runs it.
//!
//! Each turn asks the feed, takes what the queue offers, sleeps until something completes, and
//! hands the results back. The role moves: the background thread runs the loop when nobody else
//! does and parks outside the role when nothing is left, so that a caller who would only block can
//! take the role and drive, and its commit then costs no hop between threads at all.
//!
//! The feed goes first: its write is asked for before the queue is looked at, and its result is
//! handed back before the others. Who waits for it is told last, by a driver after it has left the role: those who come back
//! find it free, and whoever completes the next write makes it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::errors::{OwnerGone, copy};
use crate::feed::{Feed, FeedDone, FeedWrite, Next, Pending};
use crate::shared::Shared;
use crate::wake::Mood;

/// How long appointments of the feed may hold up a close.
const CLOSE_ALARM_MAX: Duration = Duration::from_secs(1);

/// What the holder of the role has: the backend and where the feed stands.
pub(crate) struct Owner {
    backend: Box<dyn Backend>,
    feed: Option<Arc<dyn Feed>>,
    feed_flies: bool,
    /// A write of the feed is over, and who waits for it has not been told.
    owes_word: bool,
    alarm: Option<Instant>,
    pushes_seen: u64,
}

enum Turn {
    Worked,
    Idle,
}

/// How the background thread's service ended.
pub(crate) enum Served {
    /// Nothing to do until woken, or until the appointment.
    Parked(Option<Instant>),
    /// Closing, and nothing is left.
    Drained,
}

/// How a driver leaves the role.
pub(crate) enum Left {
    /// There is something to do: somebody has to take over.
    Working,
    /// Nothing to do until the appointment.
    Quiet(Option<Instant>),
}

impl Owner {
    pub(crate) fn new(backend: Box<dyn Backend>) -> Owner {
        Owner {
            backend,
            feed: None,
            feed_flies: false,
            owes_word: false,
            alarm: None,
            pushes_seen: 0,
        }
    }

    /// Runs until there is nothing to do.
    pub(crate) fn serve(&mut self, shared: &Shared) -> io::Result<Served> {
        loop {
            match self.turn(shared)? {
                Turn::Worked => {
                    self.tell();
                    continue;
                }
                Turn::Idle => shared.wake.publish(Mood::Parked),
            }
            if self.finds_work(shared) {
                shared.wake.busy();
                continue;
            }
            return Ok(match self.is_drained(shared) {
                true => Served::Drained,
                false => Served::Parked(self.alarm),
            });
        }
    }

    /// Runs until `done`, or until there is nothing to run; or until a write of the feed is over and nothing else in flight: who waits
    /// for it is told without the role. True if `done`.
    pub(crate) fn drive(&mut self, shared: &Shared, done: &dyn Fn() -> bool) -> io::Result<bool> {
        while !done() {
            if let Turn::Idle = self.turn(shared)? {
                return Ok(done());
            }
            if self.backend.in_flight() == 0 && self.owes_word {
                return Ok(false);
            }
            self.tell();
        }
        Ok(true)
    }

    /// The feed, if who waits for its last write has not been told. The caller does.
    pub(crate) fn take_word(&mut self) -> Option<Arc<dyn Feed>> {
        let owes_word = std::mem::take(&mut self.owes_word);
        if owes_word { self.feed.clone() } else { None }
    }

    /// Tells who waits for the last write of the feed, if nobody did.
    fn tell(&mut self) {
        self.take_word().into_iter().for_each(|feed| feed.tell());
    }

    /// The last look of a driver, after saying that it leaves.
    pub(crate) fn leave(&mut self, shared: &Shared) -> io::Result<Left> {
        // What came to its end last may have made room for more, or a sync ready, and nobody pushes that.
        self.pump(shared);
        if self.backend.in_flight() > 0 {
            shared.wake.busy();
            return Ok(Left::Working);
        }
        shared.wake.publish(Mood::Parked);
        if self.pushes_seen != shared.core.pushes() && shared.core.has_waiting() {
            return Ok(Left::Working);
        }
        self.adopt_feed(shared);
        let Some(feed) = &self.feed else { return Ok(Left::Quiet(None)) };
        Ok(match feed.pending(Instant::now()) {
            Pending::Write => Left::Working,
            Pending::At(instant) => Left::Quiet(Some(instant)),
            Pending::Nothing => Left::Quiet(None),
        })
    }

    /// Gives up: everyone who waits for what is in flight gets the cause.
    pub(crate) fn abandon(self, shared: &Shared, gone: &OwnerGone) {
        let error: io::Error = gone.clone().into();
        let lost = self.backend.abandon(&error);
        let owes_word = self.owes_word || lost.is_some();
        let feed = self.feed.or_else(|| shared.feed());
        let Some(feed) = feed else { return };
        // Whatever it does, those who wait for other writes must be told too.
        let done = || {
            lost.into_iter().for_each(|lost| feed.done(lost.result, lost.buf, lost.took));
            if owes_word {
                feed.tell();
            }
        };
        drop(catch_unwind(AssertUnwindSafe(done)));
        feed.abandoned(copy(&error));
    }

    /// Stops the backend; nothing is in flight.
    pub(crate) fn stop(self) {
        self.backend.stop();
    }

    fn turn(&mut self, shared: &Shared) -> io::Result<Turn> {
        self.ask(shared);
        self.pump(shared);
        if self.backend.in_flight() == 0 {
            return Ok(Turn::Idle);
        }
        if !self.backend.is_deaf() {
            shared.wake.publish(if self.feed_flies { Mood::Flying } else { Mood::Asleep });
            if self.pushes_seen != shared.core.pushes() || self.ask(shared) {
                shared.wake.busy();
                return Ok(Turn::Worked);
            }
        }
        let waited = self.backend.wait(self.alarm.map(until));
        shared.wake.busy();
        waited?;
        if let Some(done) = self.backend.feed_done() {
            self.feed_done(done);
        }
        self.backend.settle();
        Ok(Turn::Worked)
    }

    fn adopt_feed(&mut self, shared: &Shared) {
        if self.feed.is_none() {
            self.feed = shared.feed();
        }
    }

    /// Asks the feed for a write, if none is in flight. True if it had one.
    fn ask(&mut self, shared: &Shared) -> bool {
        if self.feed_flies {
            return false;
        }
        self.adopt_feed(shared);
        let Some(feed) = &self.feed else { return false };
        let now = Instant::now();
        match feed.next(now) {
            Next::Write { offset, buf, len } => {
                crate::io::check_range(offset, len, buf.len());
                self.alarm = None;
                self.feed_flies = true;
                let method = shared.core.method();
                self.backend.start_feed(FeedWrite { offset, buf, len, method, started: now });
            }
            Next::Idle => self.alarm = None,
            Next::At(instant) => self.alarm = Some(instant),
        }
        self.feed_flies
    }

    fn feed_done(&mut self, done: FeedDone) {
        self.feed_flies = false;
        let feed = self.feed.as_ref().expect("a write of the feed came from a feed");
        feed.done(done.result, done.buf, done.took);
        self.owes_word = true;
    }

    fn pump(&mut self, shared: &Shared) {
        self.pushes_seen = shared.core.pushes();
        self.backend.pump();
    }

    /// The last look before sleeping.
    fn finds_work(&mut self, shared: &Shared) -> bool {
        self.ask(shared) || self.pushes_seen != shared.core.pushes() && shared.core.has_waiting()
    }

    fn is_drained(&self, shared: &Shared) -> bool {
        let Some(since) = shared.closing_since() else { return false };
        let waits = self.alarm.is_some() && since.elapsed() < CLOSE_ALARM_MAX;
        !waits && shared.core.is_idle()
    }
}

fn until(instant: Instant) -> Duration {
    instant.saturating_duration_since(Instant::now())
}
