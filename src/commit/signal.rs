//! A flag that one task waits for and anybody raises.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use futures::future::{Either, select};
use futures::task::AtomicWaker;
use ringdb_uring::threads::atomic::{AtomicBool, Ordering};

/// Raised any number of times before it is seen, it is seen once.
#[derive(Default)]
pub(crate) struct Signal {
    raised: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    pub(crate) fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Resolves once the flag is up, and takes it down. One waiter at a time.
    pub(crate) async fn raised(&self) {
        poll_fn(|context| {
            if self.raised.swap(false, Ordering::AcqRel) {
                return Poll::Ready(());
            }
            self.waker.register(context.waker());
            match self.raised.swap(false, Ordering::AcqRel) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

/// Which of two signals was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raised {
    This,
    Other,
}

impl Signal {
    /// Resolves once one of them is up, and takes that one down; if both are, this one.
    pub(crate) async fn raised_before(&self, other: &Signal) -> Raised {
        match select(pin!(self.raised()), pin!(other.raised())).await {
            Either::Left(_) => Raised::This,
            Either::Right(_) => Raised::Other,
        }
    }
}

/// Lets others on this thread have a turn.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
