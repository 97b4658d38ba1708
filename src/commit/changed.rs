//! Tasks that wait until something about the database has changed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use parking_lot::Mutex;

/// A count of changes, and who waits for the next.
#[derive(Default)]
pub(crate) struct Changed {
    count: AtomicU64,
    waiting: Mutex<Vec<Waiter>>,
    next_waiter: AtomicU64,
}

/// One waiting task; a future that is dropped takes its own back.
struct Waiter {
    id: u64,
    waker: Waker,
}

impl Changed {
    /// How many changes there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Something changed: everybody who waits is woken.
    pub(crate) fn notify(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_iter().for_each(|waiter| waiter.waker.wake());
    }

    /// A name for a future that is going to wait.
    pub(crate) fn waiter(&self) -> u64 {
        self.next_waiter.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether there were more changes than `seen`; if not, the task is woken at the next.
    pub(crate) fn poll(&self, id: u64, seen: u64, context: &mut Context<'_>) -> bool {
        if self.count() != seen {
            return true;
        }
        let mut waiting = self.waiting.lock();
        match waiting.iter_mut().find(|waiter| waiter.id == id) {
            Some(known) => known.waker.clone_from(context.waker()),
            None => waiting.push(Waiter { id, waker: context.waker().clone() }),
        }
        // The count moves before the list is taken: either we see it, or we are in the list.
        self.count() != seen
    }

    /// The future does not wait any more.
    pub(crate) fn leave(&self, id: u64) {
        self.waiting.lock().retain(|waiter| waiter.id != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::task::noop_waker;

    #[test]
    fn whoever_leaves_is_not_remembered_and_whoever_waits_is_told_once() {
        let changed = Changed::default();
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        let (first, second) = (changed.waiter(), changed.waiter());
        for _ in 0..3 {
            assert!(!changed.poll(first, 0, &mut context));
            assert!(!changed.poll(second, 0, &mut context));
        }
        assert_eq!(changed.waiting.lock().len(), 2);
        changed.leave(first);
        assert_eq!(changed.waiting.lock().len(), 1);
        changed.notify();
        assert_eq!(changed.waiting.lock().len(), 0);
        assert!(changed.poll(second, 0, &mut context));
        assert!(!changed.poll(second, 1, &mut context));
    }
}
