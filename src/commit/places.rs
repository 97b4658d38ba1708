//! Places in the total order: which commits are applied, which are visible, and who waits.
//!
//! Every commit in flight has one place in a ring, found by its seq alone. A committer marks its
//! place when its memtable inserts are done; `visible` is advanced over the contiguous prefix, and
//! the waiters of that prefix are woken in order. (I4)
//!
//! - A commit that waits for its group is shown by whoever tells that the group is durable, so the
//!   wake-ups of a group mostly come from who wrote it and not from a task that wants to go on.
//! - A place is reused only after the sweep that made its commit visible has passed it, because a
//!   commit is ordered only while `next_seq - swept` is below their number.
//! - One thread advances at a time. A second one leaves a note in `advancing` and goes on; the
//!   first looks again before it stops, so no mark is lost and nobody waits. (I10)
//! - A waiter registers under its place's lock and only while its seq is not visible; the sweep
//!   stores `visible` before it takes that lock. So a wake-up is never lost, and a late waiter
//!   never overwrites the waker of the place's next life.

use std::task::{Context, Waker};

use ringdb_uring::threads::atomic::{AtomicU64, Ordering};
use ringdb_uring::threads::{Mutex, in_one_order};

use crate::commit::watch::Watchers;
use crate::ids::Seq;

/// Most commits that may be ordered and not yet visible; a power of two.
pub(crate) const PLACES_MAX: u64 = 1 << 14;
const _: () = assert!(PLACES_MAX.is_power_of_two());
/// Fewest of them.
const PLACES_MIN: u64 = 1 << 10;
/// Memory for memtables that justifies one place, which costs about a fiftieth of it.
const MEMTABLE_BYTES_PER_PLACE: usize = 2 << 10;

/// How many places a database with so much memory for memtables has. A model checker counts each.
pub(crate) fn places_for(memtable_bytes_max: usize) -> u64 {
    if cfg!(any(ringdb_loom, ringdb_shuttle)) {
        return 4;
    }
    let places = (memtable_bytes_max / MEMTABLE_BYTES_PER_PLACE) as u64;
    places.next_power_of_two().clamp(PLACES_MIN, PLACES_MAX)
}

/// What a commit waits for before it may be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Only once its group is durable.
    WhenDurable,
    /// As soon as it is applied and all before it are visible.
    WhenApplied,
}

pub(crate) struct Places {
    ring: Box<[Place]>,
    /// As far as somebody has looked.
    applied: AtomicU64,
    visible: AtomicU64,
    swept: AtomicU64,
    durable: AtomicU64,
    advancing: AtomicU64,
    visible_watchers: Watchers,
    durable_watchers: Watchers,
}

struct Place {
    /// `seq << 1 | shown when applied`, once applied; an older life's value before.
    mark: AtomicU64,
    waiter: Mutex<Option<(u64, Waker)>>,
}

impl Places {
    /// Everything up to `last` is applied, durable and visible.
    ///
    /// The number of places is a power of two.
    pub(crate) fn new(last: Seq, places: u64) -> Places {
        assert!(places.is_power_of_two());
        let place = || Place { mark: AtomicU64::new(0), waiter: Mutex::new(None) };
        Places {
            ring: (0..places).map(|_| place()).collect(),
            applied: AtomicU64::new(last.0),
            visible: AtomicU64::new(last.0),
            swept: AtomicU64::new(last.0),
            durable: AtomicU64::new(last.0),
            advancing: AtomicU64::new(0),
            visible_watchers: Watchers::default(),
            durable_watchers: Watchers::default(),
        }
    }

    pub(crate) fn visible(&self) -> Seq {
        Seq(self.visible.load(Ordering::SeqCst))
    }

    /// All up to here are in the memtables.
    pub(crate) fn applied(&self) -> Seq {
        let mut applied = self.applied.load(Ordering::Acquire).max(self.visible().0);
        while self.mark(applied + 1).is_some() {
            applied += 1;
        }
        self.applied.fetch_max(applied, Ordering::AcqRel);
        Seq(applied)
    }

    pub(crate) fn durable(&self) -> Seq {
        Seq(self.durable.load(Ordering::SeqCst))
    }

    /// Whether so many commits after `last` may be ordered.
    pub(crate) fn has_room(&self, last: Seq, commits: usize) -> bool {
        last.0 + commits as u64 - self.swept.load(Ordering::SeqCst) < self.ring.len() as u64
    }

    /// The commit's inserts are done.
    pub(crate) fn mark_applied(&self, seq: Seq, shown: Shown) {
        let when_applied = u64::from(shown == Shown::WhenApplied);
        self.place(seq.0).mark.store(seq.0 << 1 | when_applied, Ordering::SeqCst);
        in_one_order();
        // Either the group is seen to be durable here, or the mark is seen by whoever notes it and then tells.
        if shown == Shown::WhenApplied || self.durable() >= seq {
            self.advance();
        }
    }

    /// All up to `seq` survive power loss. (I3)
    pub(crate) fn mark_durable(&self, seq: Seq) {
        self.note_durable(seq);
        self.show_durable();
    }

    /// All up to `seq` survive power loss; who waits for that is told by [`Places::show_durable`]. (I3)
    pub(crate) fn note_durable(&self, seq: Seq) {
        self.durable.fetch_max(seq.0, Ordering::SeqCst);
    }

    /// Shows what is durable, and wakes who waits for it.
    pub(crate) fn show_durable(&self) {
        in_one_order();
        self.durable_watchers.wake_through(self.durable());
        self.advance();
    }

    /// Whether `seq` is visible; if not, the task is woken once it is.
    pub(crate) fn poll_visible(&self, seq: Seq, context: &mut Context<'_>) -> bool {
        if self.visible() >= seq {
            return true;
        }
        let mut waiter = self.place(seq.0).waiter.lock();
        if self.visible() >= seq {
            return true;
        }
        match &mut *waiter {
            Some((registered, waker)) if *registered == seq.0 => {
                waker.clone_from(context.waker());
            }
            empty_or_old => *empty_or_old = Some((seq.0, context.waker().clone())),
        }
        false
    }

    /// Whether the commit waits for nothing but threads that are about to insert, as far as the first one that is not visible tells.
    pub(crate) fn waits_for_insert(&self, seq: Seq) -> bool {
        self.mark(seq.0) == Some(Shown::WhenApplied) && self.mark(self.visible().0 + 1).is_none()
    }

    /// As `poll_visible`, for a task that has no commit of its own.
    pub(crate) fn watch_visible(&self, seq: Seq, context: &mut Context<'_>) -> bool {
        self.visible_watchers.poll(seq, context, || self.visible())
    }

    /// Whether `seq` is durable; if not, the task is woken once it is.
    pub(crate) fn watch_durable(&self, seq: Seq, context: &mut Context<'_>) -> bool {
        self.durable_watchers.poll(seq, context, || self.durable())
    }

    /// Wakes every waiter, for an end that no commit survives.
    pub(crate) fn wake_all(&self) {
        for place in &self.ring {
            let waiter = place.waiter.lock().take();
            if let Some((_, waker)) = waiter {
                waker.wake();
            }
        }
        self.visible_watchers.wake_through(Seq(u64::MAX));
        self.durable_watchers.wake_through(Seq(u64::MAX));
    }

    fn place(&self, seq: u64) -> &Place {
        &self.ring[seq as usize & (self.ring.len() - 1)]
    }

    /// When a commit that is applied is shown; nothing before it is, or if its place has gone to
    /// a later one.
    fn mark(&self, seq: u64) -> Option<Shown> {
        let mark = self.place(seq).mark.load(Ordering::SeqCst);
        (mark >> 1 == seq).then_some(match mark & 1 {
            0 => Shown::WhenDurable,
            _ => Shown::WhenApplied,
        })
    }

    fn advance(&self) {
        if self.advancing.fetch_add(1, Ordering::AcqRel) != 0 {
            return;
        }
        let mut notes = 1;
        loop {
            self.advance_visible();
            let exchanged =
                self.advancing.compare_exchange(notes, 0, Ordering::AcqRel, Ordering::Acquire);
            match exchanged {
                Ok(_) => return,
                Err(more) => notes = more,
            }
        }
    }

    fn advance_visible(&self) {
        let before = self.visible.load(Ordering::Relaxed);
        let durable = self.durable.load(Ordering::Acquire);
        let mut visible = before;
        while let Some(shown) = self.mark(visible + 1) {
            if shown == Shown::WhenDurable && visible + 1 > durable {
                break;
            }
            visible += 1;
        }
        if visible == before {
            return;
        }
        self.visible.store(visible, Ordering::SeqCst);
        for seq in before + 1..=visible {
            let mut waiter = self.place(seq).waiter.lock();
            if let Some((_, waker)) = waiter.take_if(|(registered, _)| *registered <= seq) {
                drop(waiter);
                waker.wake();
            }
        }
        // Whoever waits for a place says so before it looks here, and we look for it afterwards.
        self.swept.store(visible, Ordering::SeqCst);
        self.visible_watchers.wake_through(Seq(visible));
    }
}

#[cfg(all(test, not(any(ringdb_loom, ringdb_shuttle))))]
mod tests {
    use super::*;
    use futures::task::noop_waker;

    #[test]
    fn a_hole_is_never_skipped() {
        let places = Places::new(Seq(10), PLACES_MAX);
        places.mark_durable(Seq(13));
        places.mark_applied(Seq(12), Shown::WhenDurable);
        assert_eq!(places.visible(), Seq(10));
        assert!(!places.waits_for_insert(Seq(12)));
        places.mark_applied(Seq(13), Shown::WhenApplied);
        assert!(places.waits_for_insert(Seq(13)) && !places.waits_for_insert(Seq(12)));
        places.mark_applied(Seq(11), Shown::WhenDurable);
        assert_eq!(places.visible(), Seq(13));
    }

    #[test]
    fn buffered_commits_follow_the_durable_prefix() {
        let places = Places::new(Seq(0), PLACES_MAX);
        places.mark_applied(Seq(1), Shown::WhenApplied);
        assert_eq!(places.visible(), Seq(1));
        places.mark_applied(Seq(2), Shown::WhenDurable);
        places.mark_applied(Seq(3), Shown::WhenApplied);
        assert_eq!((places.visible(), places.applied()), (Seq(1), Seq(3)));
        assert!(!places.waits_for_insert(Seq(3)));
        places.mark_durable(Seq(2));
        assert_eq!(places.visible(), Seq(3));
    }

    #[test]
    fn a_waiter_of_an_older_life_does_not_replace_the_next() {
        let places = Places::new(Seq(0), PLACES_MAX);
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        assert!(!places.poll_visible(Seq(1), &mut context));
        places.mark_applied(Seq(1), Shown::WhenApplied);
        assert!(!places.poll_visible(Seq(1 + PLACES_MAX), &mut context));
        assert!(places.poll_visible(Seq(1), &mut context));
        let waiter = places.place(1).waiter.lock();
        assert_eq!(waiter.as_ref().map(|(seq, _)| *seq), Some(1 + PLACES_MAX));
    }

    #[test]
    fn room_ends_when_all_places_are_taken() {
        let places = Places::new(Seq(0), PLACES_MAX);
        assert!(places.has_room(Seq(PLACES_MAX - 2), 1));
        assert!(!places.has_room(Seq(PLACES_MAX - 1), 1));
        assert!(places.has_room(Seq(0), PLACES_MAX as usize - 1));
        assert!(!places.has_room(Seq(0), PLACES_MAX as usize));
    }

    #[test]
    fn marks_from_many_threads_are_all_seen() {
        let places = Places::new(Seq(0), PLACES_MAX);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let places = &places;
                scope.spawn(move || {
                    for seq in (1..=8000).filter(|seq| seq % 4 == thread) {
                        places.mark_applied(Seq(seq), Shown::WhenApplied);
                    }
                });
            }
        });
        assert_eq!((places.applied(), places.visible()), (Seq(8000), Seq(8000)));
    }
}
