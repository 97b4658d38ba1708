//! Threads that block, and could own the I/O meanwhile.
//!
//! A thread that finds the role taken stands by. Whoever leaves the role with work left hands it
//! to one of them: its own result is most likely part of that work, so this hop is one it had to
//! make anyway. A thread that was nominated drives, or hands on if its result came meanwhile, so
//! a nomination is never lost. The background thread is asked only if nobody stands by.
//!
//! A thread stands by for one file at a time. Entries of a line outlive that, so what a thread stands by for is said by the thread, and
//! only its own line can nominate it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Wake;

use crate::stats::Counters;
use crate::threads::Mutex;
use crate::threads::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::threads::thread::{self, Thread};

/// Entries that are left of threads long gone, at most beside as many that stand by.
const GONE_MAX: usize = 32;

/// It stands by for no line; else the line's address, which is even, and once nominated the number behind it.
const AWAY: usize = 0;

/// A thread that waits for a future and has nothing else to do; it is the future's waker.
#[derive(Debug)]
pub struct Blocked {
    thread: Thread,
    woken: AtomicBool,
    standing: AtomicUsize,
}

impl Blocked {
    /// The calling thread, not woken yet.
    pub fn here() -> Arc<Blocked> {
        Arc::new(Blocked {
            thread: thread::current(),
            woken: AtomicBool::new(false),
            standing: AtomicUsize::new(AWAY),
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

    fn stands_by_for(&self, line: usize) -> bool {
        self.standing.load(Ordering::SeqCst) == line
    }

    fn nominate_for(&self, line: usize) -> bool {
        let order = Ordering::SeqCst;
        !self.is_woken() && self.standing.compare_exchange(line, line + 1, order, order).is_ok()
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
pub(crate) struct Standbys {
    line: Mutex<Line>,
    /// So many stand by.
    standing: AtomicUsize,
}

#[derive(Default)]
struct Line {
    threads: VecDeque<Arc<Blocked>>,
    purge_at: usize,
}

impl Standbys {
    /// What threads say that stand by here.
    fn line(&self) -> usize {
        std::ptr::from_ref(&self.line).addr()
    }

    /// The thread stands by from now on, until it leaves. How many do.
    pub(crate) fn join(&self, blocked: &Arc<Blocked>) -> usize {
        blocked.standing.store(self.line(), Ordering::SeqCst);
        let mut line = self.line.lock();
        if line.threads.len() >= line.purge_at {
            line.threads.retain(|thread| thread.stands_by_for(self.line()));
            line.purge_at = 2 * line.threads.len() + GONE_MAX;
        }
        line.threads.push_back(blocked.clone());
        drop(line);
        self.standing.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether the thread, which joined, was nominated.
    pub(crate) fn has_nominated(&self, blocked: &Blocked) -> bool {
        blocked.standing.load(Ordering::SeqCst) == self.line() + 1
    }

    /// The thread, which joined, does not stand by any more. True if it was nominated.
    pub(crate) fn leave(&self, blocked: &Blocked) -> bool {
        self.standing.fetch_sub(1, Ordering::Relaxed);
        blocked.standing.swap(AWAY, Ordering::SeqCst) == self.line() + 1
    }

    /// Lets the first who still waits take the role over. False if nobody does.
    pub(crate) fn nominate(&self, stats: &Counters) -> bool {
        let mut line = self.line.lock();
        while let Some(blocked) = line.threads.pop_front() {
            if blocked.nominate_for(self.line()) {
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
        let waiting: Vec<usize> = threads.iter().map(|thread| standbys.join(thread)).collect();
        assert_eq!(waiting, [1, 2, 3]);
        threads[0].clone().wake();
        assert!(standbys.nominate(&stats) && standbys.has_nominated(&threads[1]));
        let left: Vec<bool> = threads.iter().map(|thread| standbys.leave(thread)).collect();
        assert_eq!(left, [false, true, false]);
        assert!(!standbys.nominate(&stats), "the third left");
    }

    #[test]
    fn who_stands_by_for_another_file_is_not_nominated() {
        let (stats, standbys, others) =
            (Counters::default(), Standbys::default(), Standbys::default());
        let thread = Blocked::here();
        assert_eq!(standbys.join(&thread), 1);
        assert!(!standbys.leave(&thread));
        assert_eq!(others.join(&thread), 1);
        assert!(!standbys.nominate(&stats), "it is away, though its entry is there");
        assert!(others.nominate(&stats) && others.leave(&thread));
    }

    #[test]
    fn the_line_keeps_few_who_are_gone() {
        let standbys = Standbys::default();
        for _ in 0..1000 {
            let blocked = Blocked::here();
            assert_eq!(standbys.join(&blocked), 1, "those before it left");
            standbys.leave(&blocked);
        }
        assert!(standbys.line.lock().threads.len() <= GONE_MAX + 1);
    }
}
