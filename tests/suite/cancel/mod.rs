//! Each public future polled k times and dropped, for every k until it is done: neither the
//! database nor anybody who waits beside it is hurt.

mod openings;
mod reads;
mod writes;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use ringdb::{ColumnFamily, Result};

use crate::counts::{What, count};
use crate::fixture::{Watchdog, block_on, rows_of};

/// Polls after which a future that is not done never will be.
const POLLS_MAX: usize = 10_000;

/// Wakes one thread, and remembers that it did.
struct Bell {
    thread: Thread,
    rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.rung.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Polls so many times, each time after a wake-up, then drops the future.
pub fn poll_times<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let bell = Arc::new(Bell { thread: thread::current(), rung: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&bell));
    for poll in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        while poll + 1 < polls && !bell.rung.swap(false, Ordering::SeqCst) {
            thread::park();
        }
    }
    None
}

/// Runs a test for each k, from none to as many polls as the future needs.
fn every_k<F: Future>(
    name: &'static str,
    mut future: impl FnMut(usize) -> F,
    mut then: impl FnMut(usize, Option<F::Output>),
) {
    let watchdog = Watchdog::new(name);
    for polls in 0..POLLS_MAX {
        watchdog.step(format!("{polls} polls"));
        let output = poll_times(future(polls), polls);
        let done = output.is_some();
        then(polls, output);
        if done {
            println!("cancel {name}: done after {polls} polls");
            count(What::Dropped, "each after another number of polls", polls as u64);
            return;
        }
    }
    panic!("{name} is not done after {POLLS_MAX} polls");
}

/// If there is an outcome, it is a success.
#[track_caller]
fn well<T>(output: Option<Result<T>>) {
    if let Some(Err(error)) = output {
        panic!("{error:?}");
    }
}

/// The same keys on both sides.
#[track_caller]
fn assert_whole(rows: &ColumnFamily, other: &ColumnFamily) {
    let all = |family: &ColumnFamily| block_on(rows_of(family.iter())).unwrap();
    assert_eq!(all(rows), all(other));
}
