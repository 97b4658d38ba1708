//! A thread that waits for a future, and for a time that the future has named.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use ringdb_uring::{Io, Turns};

thread_local! {
    /// The earliest time that the poll under way waits for.
    static DUE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A thread that sleeps until it is woken.
struct Sleeper {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Sleeper {
    fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::Acquire)
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

/// Polls the future when it was woken and when an alarm is due, to its end. Meanwhile the thread helps with what waits for that file.
pub(super) fn run<F: Future>(helped: Option<&Io>, future: F) -> F::Output {
    let mut future = pin!(future);
    let thread = thread::current();
    let sleeper = Arc::new(Sleeper { thread, is_woken: AtomicBool::new(false) });
    let waker = Waker::from(sleeper.clone());
    let mut context = Context::from_waker(&waker);
    let turns = Turns::of_work();
    loop {
        let before = DUE.replace(None);
        let polled = future.as_mut().poll(&mut context);
        let due = DUE.replace(before);
        if let Poll::Ready(output) = polled {
            return output;
        }
        if let Some(io) = helped {
            let is_due = || due.is_some_and(|due| Instant::now() >= due);
            io.help(&|| sleeper.is_woken() || is_due());
        }
        sleep(&sleeper, due, &turns);
    }
}

fn sleep(sleeper: &Sleeper, due: Option<Instant>, turns: &Turns) {
    if sleeper.is_woken() {
        // It gave way of itself: to the threads of whoever commits as well.
        turns.give();
    }
    // Whatever else parks this thread may have taken a wake-up for its own.
    while !sleeper.is_woken.swap(false, Ordering::Acquire) {
        let Some(due) = due else {
            thread::park();
            continue;
        };
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

/// Ready at that time; before it, the thread is asked to poll again then.
pub(super) fn poll(at: Instant) -> Poll<()> {
    if Instant::now() >= at {
        return Poll::Ready(());
    }
    DUE.set(Some(DUE.get().map_or(at, |due| due.min(at))));
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::{Either, select};
    use std::time::Duration;

    async fn alarm(at: Instant) {
        std::future::poll_fn(|_| poll(at)).await
    }

    #[test]
    fn the_earliest_alarm_is_first() {
        let now = Instant::now();
        let soon = pin!(alarm(now + Duration::from_millis(5)));
        let late = pin!(alarm(now + Duration::from_secs(3600)));
        assert!(matches!(run(None, select(late, soon)), Either::Right(_)));
        assert!(now.elapsed() >= Duration::from_millis(5));
    }

    #[test]
    fn whoever_wakes_it_need_not_wait_for_the_alarm() {
        let (sender, receiver) = futures::channel::oneshot::channel();
        let waker = thread::spawn(move || sender.send(7));
        let late = pin!(alarm(Instant::now() + Duration::from_secs(3600)));
        let Either::Left((Ok(sent), _)) = run(None, select(receiver, late)) else {
            panic!("the alarm is an hour away");
        };
        assert_eq!(sent, 7);
        waker.join().expect("it was sent").expect("it was taken");
    }
}
