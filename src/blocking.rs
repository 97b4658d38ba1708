//! Running a future on a thread that has nothing else to do.
//!
//! A thread that would only wait may drive the ring itself; then a commit costs no hop. Futures
//! that must wait for a ring leave it here, and `block_on` drives it until it is woken.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use ringdb_uring::threads::{thread, thread_local};
use ringdb_uring::{Blocked, Io};

#[cfg(not(ringdb_shuttle))]
mod alarm;

/// Turns that a thread gives away for a step of another one before it waits in earnest. A model checker tries every order anyway.
const STEP_TURNS: u32 = if cfg!(any(ringdb_loom, ringdb_shuttle)) { 0 } else { 8 };

thread_local! {
    /// What the poll under way left behind; `None` outside of `block_on`.
    static LEFT: RefCell<Option<Left>> = const { RefCell::new(None) };
    /// What the thread did not have to wait with the last time, to be used again.
    static FRESH: Cell<Option<Arc<Blocked>>> = const { Cell::new(None) };
}

/// What a poll inside of `block_on` leaves to be done after it.
#[derive(Default)]
struct Left {
    /// The ring that the future waits for.
    waits_for: Option<Io>,
    /// The ring whose owner has not been told that there is more: the thread may be it itself.
    owed: Option<Io>,
    /// It waits for a step of another thread, which needs no more than a processor for it.
    waits_for_step: bool,
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
    let blocked = fresh();
    let waker = Waker::from(blocked.clone());
    let mut context = Context::from_waker(&waker);
    let mut waited = false;
    loop {
        let collecting = Collecting::begin();
        let polled = future.as_mut().poll(&mut context);
        let left = collecting.end();
        if let Poll::Ready(output) = polled {
            left.owed.iter().for_each(Io::kick);
            if !waited {
                FRESH.with(|fresh| fresh.set(Some(blocked)));
            }
            return output;
        }
        waited = true;
        left.wait(&blocked);
        blocked.settle();
    }
}

/// The calling thread, with nobody who could wake it yet. A read that is ready at once waits for
/// nothing, and making this anew was a tenth of it.
fn fresh() -> Arc<Blocked> {
    let kept = FRESH.with(Cell::take).filter(|kept| Arc::strong_count(kept) == 1);
    kept.unwrap_or_else(Blocked::here)
}

/// The poll under way, whose leavings are collected; what was left before it comes back behind it.
struct Collecting {
    before: Option<Left>,
}

impl Collecting {
    fn begin() -> Collecting {
        Collecting { before: LEFT.with(|left| left.replace(Some(Left::default()))) }
    }

    /// The poll is over.
    fn end(mut self) -> Left {
        let left = self.restore();
        std::mem::forget(self);
        left
    }

    fn restore(&mut self) -> Left {
        LEFT.with(|left| left.replace(self.before.take())).unwrap_or_default()
    }
}

impl Drop for Collecting {
    /// The future panicked: what the thread owes others is paid all the same.
    fn drop(&mut self) {
        self.restore().owed.iter().for_each(Io::kick);
    }
}

impl Left {
    /// Waits until woken, driving the ring that the future waits for.
    fn wait(mut self, blocked: &Arc<Blocked>) {
        if self.waits_for_step {
            self.owed.take().iter().for_each(Io::kick);
            if gives_turns_until(|| blocked.is_woken()) {
                return;
            }
        }
        let kick = || self.owed.iter().for_each(Io::kick);
        match &self.waits_for {
            Some(io) if self.owed.as_ref().is_none_or(|owed| owed.is_same(io)) => {
                io.block(blocked, &kick);
            }
            Some(io) => {
                kick();
                io.block(blocked, &|| ());
            }
            None => {
                kick();
                while !blocked.is_woken() {
                    thread::park();
                }
            }
        }
    }
}

/// Gives turns away, as many as a step of another thread may need; says whether it happened.
///
/// A sleep would cost each of those who wait for it a wake-up, by the thread that is behind already, and the woken ones take a
/// processor from others, which may be in the midst of such a step. So threads that compute get turns, too: who waits here computes as
/// they do, and has its share as they have theirs.
fn gives_turns_until(happened: impl Fn() -> bool) -> bool {
    let mut turns = STEP_TURNS;
    while !happened() {
        if turns == 0 {
            return false;
        }
        turns -= 1;
        thread::yield_now();
    }
    true
}

/// Runs a future to its end on a thread of our own, which never drives: it would keep the ring from
/// those who wait for commits.
pub(crate) fn wait_for<F: Future>(future: F) -> F::Output {
    #[cfg(ringdb_shuttle)]
    return shuttle::future::block_on(future);
    #[cfg(not(ringdb_shuttle))]
    alarm::run(None, future)
}

/// The same on a thread that works on the file beside commits: it makes what it waits for itself, where that is quicker.
pub(crate) fn work_for<F: Future>(io: &Io, future: F) -> F::Output {
    #[cfg(ringdb_shuttle)]
    return wait_for(future);
    #[cfg(not(ringdb_shuttle))]
    alarm::run(Some(io), future)
}

/// Resolves at that time, inside of [`wait_for`] and [`work_for`], whose thread sleeps until then unless it is woken. A model has no clock: there
/// it never does.
pub(crate) async fn alarm(at: Instant) {
    #[cfg(ringdb_shuttle)]
    return std::future::pending().await;
    #[cfg(not(ringdb_shuttle))]
    std::future::poll_fn(|_| alarm::poll(at)).await
}

/// The future being polled waits for this ring.
pub(crate) fn note(io: &Io) {
    LEFT.with(|left| {
        if let Some(left) = &mut *left.borrow_mut() {
            left.waits_for.get_or_insert_with(|| io.clone());
        }
    });
}

/// The future being polled waits for a step of another thread, which lost its processor or is about to take it.
pub(crate) fn note_step() {
    LEFT.with(|left| left.borrow_mut().iter_mut().for_each(|left| left.waits_for_step = true));
}

/// Tells the owner now what this thread owes it, because the poll under way may go on for long.
pub(crate) fn pay() {
    let owed = LEFT.with(|left| left.borrow_mut().as_mut().and_then(|left| left.owed.take()));
    owed.iter().for_each(Io::kick);
}

/// Tells the owner of this ring that there is more; a thread that is about to drive it need not
/// be woken for by another, which would only take the ring away.
pub(crate) fn kick(io: &Io) {
    let owed = LEFT.with(|left| match &mut *left.borrow_mut() {
        // A second ring is told at once.
        Some(left) => left.owed.get_or_insert_with(|| io.clone()).is_same(io),
        None => false,
    });
    if !owed {
        io.kick();
    }
}
