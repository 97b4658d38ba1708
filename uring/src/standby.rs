//! Threads that block, and could own the I/O meanwhile.
//!
//! A thread that finds the role taken stands by. Whoever leaves the role with work left hands it
//! to one of them: its own result is most likely part of that work, so this hop is one it had to
//! make anyway. A thread that was nominated drives, or hands on if its result came meanwhile, so
//! a nomination is never lost. The background thread is asked only if nobody stands by.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Wake;

use crate::stats::Counters;
use crate::threads::Mutex;
use crate::threads::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::threads::thread::{self, Thread};

/// Entries that are left of threads long gone, at most beside as many that stand by.
const GONE_MAX: usize = 32;

const AWAY: u8 = 0;
const STANDS_BY: u8 = 1;
const NOMINATED: u8 = 2;

/// A thread that waits for a future and has nothing else to do; it is the future's waker.
#[derive(Debug)]
pub struct Blocked {
    thread: Thread,
    woken: AtomicBool,
    standing: AtomicU8,
}

impl Blocked {
    /// The calling thread, not woken yet.
    pub fn here() -> Arc<Blocked> {
        Arc::new(Blocked {
            thread: thread::current(),
            woken: AtomicBool::new(false),
            standing: AtomicU8::new(AWAY),
        })
    }

    /// Whether it was woken since the last [`Blocked::settle`].
    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    /// Whether it was woken, and not again until the next time.
    pub fn settle(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn is_nominated(&self) -> bool {
        self.standing.load(Ordering::SeqCst) == NOMINATED
    }

    /// Does not stand by any more. True if it was nominated.
    pub(crate) fn leaves(&self) -> bool {
        self.standing.swap(AWAY, Ordering::SeqCst) == NOMINATED
    }

    fn stands_by(&self) -> bool {
        self.standing.load(Ordering::SeqCst) == STANDS_BY
    }

    fn nominate(&self) -> bool {
        let order = Ordering::SeqCst;
        !self.is_woken()
            && self.standing.compare_exchange(STANDS_BY, NOMINATED, order, order).is_ok()
    }
}

impl Wake for Blocked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Those who stand by for one file, first come first.
#[derive(Default)]
pub(crate) struct Standbys(Mutex<Line>);

#[derive(Default)]
struct Line {
    threads: VecDeque<Arc<Blocked>>,
    purge_at: usize,
}

impl Standbys {
    /// The thread stands by from now on.
    pub(crate) fn join(&self, blocked: &Arc<Blocked>) {
        blocked.standing.store(STANDS_BY, Ordering::SeqCst);
        let mut line = self.0.lock();
        if line.threads.len() >= line.purge_at {
            line.threads.retain(|thread| thread.stands_by());
            line.purge_at = 2 * line.threads.len() + GONE_MAX;
        }
        line.threads.push_back(blocked.clone());
    }

    /// Lets the first who still waits take the role over. False if nobody does.
    pub(crate) fn nominate(&self, stats: &Counters) -> bool {
        let mut line = self.0.lock();
        while let Some(blocked) = line.threads.pop_front() {
            if blocked.nominate() {
                drop(line);
                stats.wakeups.bump();
                stats.syscalls.bump();
                blocked.thread.unpark();
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_who_still_waits_is_nominated() {
        let (stats, standbys) = (Counters::default(), Standbys::default());
        let threads: Vec<_> = (0..3).map(|_| Blocked::here()).collect();
        threads.iter().for_each(|thread| standbys.join(thread));
        threads[0].clone().wake();
        assert!(standbys.nominate(&stats));
        assert!(!threads[0].leaves() && threads[1].leaves() && !threads[2].leaves());
        assert!(!standbys.nominate(&stats), "the third left");
    }

    #[test]
    fn the_line_keeps_few_who_are_gone() {
        let standbys = Standbys::default();
        for _ in 0..1000 {
            let blocked = Blocked::here();
            standbys.join(&blocked);
            blocked.leaves();
        }
        assert!(standbys.0.lock().threads.len() <= GONE_MAX + 1);
    }
}
