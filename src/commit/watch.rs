//! Tasks that wait for a counter rather than for a commit of their own.

use std::task::{Context, Waker};

use ringdb_uring::threads::atomic::{AtomicUsize, Ordering};
use ringdb_uring::threads::{Mutex, in_one_order};

use crate::ids::Seq;

/// Wakers by the seq they wait for. Costs a load while nobody waits.
#[derive(Default)]
pub(crate) struct Watchers {
    count: AtomicUsize,
    list: Mutex<Vec<(Seq, Waker)>>,
}

impl Watchers {
    /// Whether `reached` says that `seq` is reached; if not, the task is woken once it may be.
    pub(crate) fn poll(
        &self,
        seq: Seq,
        context: &mut Context<'_>,
        reached: impl Fn() -> Seq,
    ) -> bool {
        if reached() >= seq {
            return true;
        }
        let mut list = self.list.lock();
        let known = list.iter().any(|(at, waker)| *at == seq && waker.will_wake(context.waker()));
        if !known {
            list.push((seq, context.waker().clone()));
        }
        self.count.store(list.len(), Ordering::SeqCst);
        in_one_order();
        // The counter moved before `wake_through` looked at the count, or that look sees us.
        reached() >= seq
    }

    pub(crate) fn wake_through(&self, seq: Seq) {
        in_one_order();
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let due: Vec<_> = {
            let mut list = self.list.lock();
            let due = list.extract_if(.., |(at, _)| *at <= seq).collect();
            self.count.store(list.len(), Ordering::SeqCst);
            due
        };
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }
}
