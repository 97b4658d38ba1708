//! Turns that threads give away before they sleep.
//!
//! What a blocked thread waits for is a step of one that lost its processor, or over soon. A turn that it gives away costs a
//! microsecond or two; a sleep and the wake-up behind it cost some ten, and tens more where the processor slept too. That holds
//! while turns come back soon. A thread that computes keeps one for milliseconds, and whoever gave it away stays behind that thread
//! even when woken, where one that slept would come first. So a turn that was away for long is the last one, for
//! a multiple of that time.
//!
//! A thread that works beside them gives turns away too, so that they need not wait for the end of its work. It has a fifth of
//! its time for that at least.

use std::time::{Duration, Instant};

use crate::threads::atomic::{AtomicU64, Ordering};
use crate::threads::thread;

/// Turns that a thread gives away where few wait. A model checker tries every order anyway.
const FEW: u32 = if cfg!(any(ringdb_loom, ringdb_shuttle)) { 0 } else { 3 };
/// The same where many wait: they take turns for about as long as a disk takes to write.
const MANY: u32 = 8 * FEW;
/// More than this for each processor are many: there is another one to run when one gives way.
const MANY_FROM: usize = 2;

/// A turn that is away for longer was taken by a thread that computes: who only waits in turn is back before that.
const AWAY_MAX: Duration = Duration::from_millis(1);
/// Turns are kept for so many times as long as the last one was away: a fifth of the time may be lost that way.
const KEPT_TIMES: u32 = 4;
/// A thread that works keeps its turns for this part of the time that the last one was away, and works.
const WORK_PART: u32 = 4;
/// What was away for longer was held, or its machine was, and that tells nothing of others.
const COUNTED_MAX: Duration = Duration::from_millis(100);

/// Whether threads give their turns away: the blocked ones of a file, or one that works beside them.
#[derive(Debug)]
pub struct Turns {
    processors: usize,
    /// A turn that is away is time that its work lacks; who waits has nothing else to do.
    is_work: bool,
    origin: Instant,
    /// Nanoseconds behind the origin up to which turns are kept.
    kept_until: AtomicU64,
}

impl Turns {
    /// Of threads that wait.
    pub(crate) fn new() -> Turns {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
        let kept_until = AtomicU64::new(0);
        Turns { processors, is_work: false, origin: Instant::now(), kept_until }
    }

    /// Of a thread that works.
    pub fn of_work() -> Turns {
        Turns { is_work: true, ..Turns::new() }
    }

    /// How many turns a thread gives away before it sleeps, when so many wait.
    pub(crate) fn before_sleep(&self, waiting: usize) -> u32 {
        if waiting > MANY_FROM * self.processors { MANY } else { FEW }
    }

    /// Gives this thread's turn away, unless turns are kept: for up to 0.4 s behind one that was away for more than a millisecond,
    /// four times as long as that one, and by a thread that works a quarter as long behind any other. Says whether it did.
    pub fn give(&self) -> bool {
        let before = Instant::now();
        if self.are_kept(before) {
            return false;
        }
        thread::yield_now();
        self.came_back(before, Instant::now());
        true
    }

    fn are_kept(&self, now: Instant) -> bool {
        self.nanos(now) < self.kept_until.load(Ordering::Relaxed)
    }

    fn came_back(&self, before: Instant, now: Instant) {
        let away = now.saturating_duration_since(before).min(COUNTED_MAX);
        let kept = match away > AWAY_MAX {
            true => away * KEPT_TIMES,
            false if self.is_work => away / WORK_PART,
            false => return,
        };
        self.kept_until.fetch_max(self.nanos(now + kept), Ordering::Relaxed);
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_kept_for_a_while_behind_one_that_was_away_for_long() {
        let turns = Turns::new();
        let (start, soon, long) = (turns.origin, AWAY_MAX / 2, AWAY_MAX * 3);
        turns.came_back(start, start + soon);
        assert!(!turns.are_kept(start + soon));
        turns.came_back(start, start + long);
        assert!(turns.are_kept(start + long));
        assert!(turns.are_kept(start + long * KEPT_TIMES));
        assert!(!turns.are_kept(start + long * (KEPT_TIMES + 1)));
        // One that was away for less, and began before, takes nothing back.
        turns.came_back(start, start + AWAY_MAX * 2);
        assert!(turns.are_kept(start + long * KEPT_TIMES));
        let hour = start + Duration::from_secs(3600);
        turns.came_back(start, hour);
        assert!(turns.are_kept(hour) && !turns.are_kept(hour + COUNTED_MAX * (KEPT_TIMES + 1)));
    }

    #[test]
    fn a_thread_that_works_has_a_fifth_of_its_time() {
        let turns = Turns::of_work();
        let (start, away) = (turns.origin, AWAY_MAX / 2);
        turns.came_back(start, start + away);
        assert!(turns.are_kept(start + away + away / 5));
        assert!(!turns.are_kept(start + away + away / 3));
        turns.came_back(start, start + 2 * AWAY_MAX);
        assert!(turns.are_kept(start + 9 * AWAY_MAX));
    }

    #[test]
    fn more_turns_are_given_where_many_wait() {
        let turns = Turns { processors: 4, ..Turns::new() };
        assert_eq!((turns.before_sleep(1), turns.before_sleep(8)), (FEW, FEW));
        assert_eq!((turns.before_sleep(9), turns.before_sleep(1000)), (MANY, MANY));
    }
}
