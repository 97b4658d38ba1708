//! Running a future on a thread that has nothing else to do.
//!
//! A thread that would only wait may drive the ring itself; then a commit costs no hop. Futures
//! that must wait for a ring leave it here, and `block_on` drives it until it is woken.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use ringdb_uring::Io;

thread_local! {
    /// What the future that this thread blocks on waits for; `None` outside of `block_on`.
    static WAITING_FOR: RefCell<Option<Option<Io>>> = const { RefCell::new(None) };
}

/// Runs a future to its end on this thread, driving the ring of the database that it waits for.
///
/// For programs and threads without an async runtime. Inside a runtime's task it would block the
/// runtime.
///
/// # Examples
///
/// ```
/// let db = ringdb::block_on(ringdb::Db::in_memory())?;
/// # Ok::<(), ringdb::Error>(())
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let wake = Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(wake.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        let before = WAITING_FOR.replace(Some(None));
        let polled = future.as_mut().poll(&mut context);
        let io = WAITING_FOR.replace(before).flatten();
        if let Poll::Ready(output) = polled {
            return output;
        }
        let woken = || wake.woken.load(Ordering::Acquire);
        if let Some(io) = io {
            io.drive(&woken);
        }
        while !wake.woken.swap(false, Ordering::AcqRel) {
            thread::park();
        }
    }
}

/// The future being polled waits for this ring.
pub(crate) fn note(io: &Io) {
    WAITING_FOR.with_borrow_mut(|waiting| {
        if let Some(place) = waiting {
            place.get_or_insert_with(|| io.clone());
        }
    });
}

struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
