//! Waking the owner, as rarely as possible.
//!
//! Whoever holds the role publishes its mood before it may stop looking:
//!
//! ```text
//!   Busy     it runs, and will look at the queue and the feed again before it sleeps; or it left the role and will name somebody
//!   Flying   it sleeps in the backend while a write of the feed is in flight
//!   Asleep   it sleeps in the backend, no write of the feed in flight
//!   Parked   nobody holds the role, or it is being left
//!   Woken    somebody saw one of the others and woke the sleeper
//! ```
//!
//! Invariant: a sleeper stores its mood, then looks once more at queue and feed, then sleeps; a
//! waker publishes its work, then reads the mood. With sequential consistency one of the two sees
//! the other, so no work is left behind. One waker per sleep wins the exchange and makes the call.
//!
//! Not everything deserves a wake-up. While a write of the feed is in flight its end wakes the
//! owner anyway and it asks the feed then, so a kick does nothing. Page writes do not wake a
//! sleeper that waits for anything: they gather until its next completion, and coalesce; only a
//! full run of them does. Reads gather so where many are in flight.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::backend::Bell;
use crate::stats::Counters;
use crate::threads::atomic::{AtomicU8, AtomicU64, Ordering, fence};
use crate::threads::thread::Thread;

/// What the holder of the role is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    Busy,
    Flying,
    Asleep,
    Parked,
    Woken,
}

const MOODS: [Mood; 5] = [Mood::Busy, Mood::Flying, Mood::Asleep, Mood::Parked, Mood::Woken];

/// What a waker has for the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// The feed may have something.
    Kick,
    /// Somebody waits for it: a read, a sync, a durable write.
    Now,
    /// It gains from company: a page write.
    Batch,
    /// Nothing: the request was refused.
    None,
}

impl Urgency {
    fn disturbs(self, mood: Mood) -> bool {
        match mood {
            Mood::Busy | Mood::Woken => false,
            Mood::Flying => self == Urgency::Now,
            Mood::Asleep => matches!(self, Urgency::Now | Urgency::Kick),
            Mood::Parked => self != Urgency::None,
        }
    }
}

/// The owner's mood, and the means to change it.
pub(crate) struct Wake {
    mood: AtomicU8,
    bell: Bell,
    /// From when on an owner that was woken, and does not run yet, is late.
    late_from: AtomicU64,
    background: OnceLock<Thread>,
    parked_until: AtomicU64,
    kept: AtomicU64,
    origin: Instant,
}

/// An owner that was woken runs sooner, unless the processors are busy: to wake one that sleeps takes some tens of microseconds.
const LATE_AFTER: Duration = Duration::from_micros(30);

/// The background thread is not parked; no appointment is kept.
const AWAKE: u64 = 0;
/// The background thread is parked without an appointment.
const FOR_EVER: u64 = u64::MAX;

impl Wake {
    pub(crate) fn new(bell: Bell) -> Wake {
        Wake {
            mood: AtomicU8::new(Mood::Busy as u8),
            bell,
            late_from: AtomicU64::new(0),
            background: OnceLock::new(),
            parked_until: AtomicU64::new(AWAKE),
            kept: AtomicU64::new(AWAKE),
            origin: Instant::now(),
        }
    }

    /// Names the thread that serves when nobody drives.
    pub(crate) fn set_background(&self, thread: Thread) {
        let _ = self.background.set(thread);
    }

    /// Publishes that the holder of the role is about to stop looking; look once more afterwards.
    pub(crate) fn publish(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The holder of the role is looking again.
    pub(crate) fn busy(&self) {
        self.mood.store(Mood::Busy as u8, Ordering::SeqCst);
    }

    /// Whether somebody woke the sleeper that was.
    pub(crate) fn was_woken(&self) -> bool {
        fence(Ordering::SeqCst);
        self.mood() == Mood::Woken
    }

    /// Whether nobody holds the role, or not for long.
    pub(crate) fn is_left(&self) -> bool {
        matches!(self.mood(), Mood::Parked | Mood::Woken)
    }

    /// A thread outside the role will keep this appointment, unless somebody does already.
    pub(crate) fn keeps(&self, alarm: Instant) -> bool {
        !self.background_keeps(alarm)
            && self.kept.swap(self.ticks(Some(alarm)), Ordering::SeqCst) != self.ticks(Some(alarm))
    }

    /// The thread that kept this appointment does not any more.
    pub(crate) fn keeps_no_more(&self, alarm: Instant) {
        let (ticks, order) = (self.ticks(Some(alarm)), Ordering::SeqCst);
        // Another appointment may have taken its place.
        let _ = self.kept.compare_exchange(ticks, AWAKE, order, order);
    }

    /// Whether a thread outside the role keeps this appointment.
    pub(crate) fn is_kept(&self, alarm: Instant) -> bool {
        self.kept.load(Ordering::SeqCst) == self.ticks(Some(alarm)) || self.background_keeps(alarm)
    }

    fn background_keeps(&self, alarm: Instant) -> bool {
        self.parked_until.load(Ordering::SeqCst) != AWAKE && !self.oversleeps(Some(alarm))
    }

    fn mood(&self) -> Mood {
        MOODS[self.mood.load(Ordering::SeqCst) as usize]
    }

    /// Wakes the owner if it sleeps and this is worth it.
    pub(crate) fn wake(&self, urgency: Urgency, stats: &Counters) {
        fence(Ordering::SeqCst);
        let mood = self.mood();
        if !urgency.disturbs(mood) {
            return;
        }
        // Before anybody can find it woken.
        self.late_from.store(self.late_from_now(), Ordering::Relaxed);
        let order = Ordering::SeqCst;
        let won = self.mood.compare_exchange(mood as u8, Mood::Woken as u8, order, order);
        match won {
            Err(_) => {} // It moved on after the work was published: it looks before it sleeps.
            Ok(_) if mood == Mood::Parked => self.unpark(stats),
            Ok(_) => {
                stats.wakeups.bump();
                self.bell.ring(stats);
            }
        }
    }

    /// Whether the owner was woken, and has not looked for as long as it takes to run on a processor that sleeps. One who asks is told,
    /// and the next one when it is as late again.
    pub(crate) fn is_late(&self) -> bool {
        if self.mood() != Mood::Woken {
            return false;
        }
        let late_from = self.late_from.load(Ordering::Relaxed);
        let (now, order) = (self.ticks(Some(Instant::now())), Ordering::Relaxed);
        now >= late_from
            && self
                .late_from
                .compare_exchange(late_from, self.late_from_now(), order, order)
                .is_ok()
    }

    fn late_from_now(&self) -> u64 {
        self.ticks(Some(Instant::now() + LATE_AFTER))
    }

    /// Lets the background thread look, whatever the mood.
    pub(crate) fn unpark(&self, stats: &Counters) {
        if let Some(thread) = self.background.get() {
            if self.parked_until.load(Ordering::SeqCst) != AWAKE {
                stats.wakeups.bump();
                stats.syscalls.bump();
            }
            thread.unpark();
        }
    }

    /// The background thread says until when it parks. It must then try the role once more, or
    /// have said so while it held the role.
    pub(crate) fn parks_until(&self, alarm: Option<Instant>) {
        self.parked_until.store(self.ticks(alarm), Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The background thread is back.
    pub(crate) fn parks_no_more(&self) {
        self.parked_until.store(AWAKE, Ordering::SeqCst);
    }

    /// Whether the background thread sleeps past this appointment.
    pub(crate) fn oversleeps(&self, alarm: Option<Instant>) -> bool {
        fence(Ordering::SeqCst);
        alarm.is_some() && self.parked_until.load(Ordering::SeqCst) > self.ticks(alarm)
    }

    fn ticks(&self, alarm: Option<Instant>) -> u64 {
        let Some(alarm) = alarm else { return FOR_EVER };
        let nanos = alarm.saturating_duration_since(self.origin).as_nanos();
        u64::try_from(nanos).unwrap_or(FOR_EVER).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_that_was_woken_is_late_after_a_while_until_it_looks() {
        let (wake, stats) = (Wake::new(Bell::Silent), Counters::default());
        assert!(!wake.is_late(), "it runs");
        wake.publish(Mood::Asleep);
        wake.wake(Urgency::Batch, &stats);
        assert!(!wake.is_late(), "it may sleep on");
        wake.wake(Urgency::Now, &stats);
        wake.late_from.store(u64::MAX, Ordering::Relaxed);
        assert!(!wake.is_late(), "it still has time");
        wake.late_from.store(0, Ordering::Relaxed);
        assert!(wake.is_late());
        assert_ne!(wake.late_from.load(Ordering::Relaxed), 0, "it has time again");
        wake.late_from.store(0, Ordering::Relaxed);
        wake.busy();
        assert!(!wake.is_late(), "it looks");
    }
}
