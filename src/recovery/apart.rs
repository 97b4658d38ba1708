//! Work that is done on a thread of its own.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;

/// Work on its way: by a thread of its own, or by whoever waits for it, if there is no thread to be had.
pub(super) struct Apart<In, Out> {
    work: fn(In) -> Out,
    /// Until somebody begins with it.
    given: Arc<Mutex<Option<In>>>,
    helper: Option<JoinHandle<Out>>,
}

impl<In: Send + 'static, Out: Send + 'static> Apart<In, Out> {
    pub(super) fn begin(given: In, work: fn(In) -> Out) -> Apart<In, Out> {
        let given = Arc::new(Mutex::new(Some(given)));
        let theirs = given.clone();
        let helper = Builder::new().name("ringdb-replay".to_owned());
        let helper = helper.spawn(move || work(take(&theirs))).ok();
        Apart { work, given, helper }
    }

    /// Whether there is no other thread to wait for.
    pub(super) fn is_over(&self) -> bool {
        self.helper.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub(super) fn wait(mut self) -> Out {
        match self.helper.take() {
            Some(helper) => helper.join().unwrap_or_else(|panic| resume_unwind(panic)),
            None => (self.work)(take(&self.given)),
        }
    }
}

impl<In, Out> Drop for Apart<In, Out> {
    /// No thread goes on behind an opening that failed. It blocks recovery's own thread, and nobody else's.
    fn drop(&mut self) {
        if let Some(helper) = self.helper.take() {
            // A panic there comes second to the error, or the panic, for which this is dropped.
            drop(helper.join());
        }
    }
}

fn take<In>(given: &Mutex<Option<In>>) -> In {
    given.lock().take().expect("one thread does the work")
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn double(given: u32) -> u32 {
        2 * given
    }

    #[test]
    fn without_a_thread_whoever_waits_does_the_work() {
        assert_eq!(Apart::begin(4, double).wait(), 8);
        let given = Arc::new(Mutex::new(Some(5)));
        let apart = Apart { work: double as fn(u32) -> u32, given, helper: None };
        assert!(apart.is_over());
        assert_eq!(apart.wait(), 10);
    }

    #[test]
    fn a_panic_reaches_whoever_waits() {
        let apart = Apart::begin((), |()| panic!("of the work"));
        assert!(catch_unwind(AssertUnwindSafe(|| apart.wait())).is_err());
    }

    #[test]
    fn what_is_dropped_is_over() {
        let done = Arc::new(AtomicBool::new(false));
        let work = |done: Arc<AtomicBool>| {
            std::thread::yield_now();
            done.store(true, Ordering::Relaxed);
        };
        drop(Apart::begin(done.clone(), work));
        assert!(done.load(Ordering::Relaxed));
    }
}
