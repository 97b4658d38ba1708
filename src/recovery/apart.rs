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

    /// Whether nobody would have to wait.
    pub(super) fn is_over(&self) -> bool {
        self.helper.as_ref().is_some_and(JoinHandle::is_finished)
    }

    pub(super) fn wait(self) -> Out {
        match self.helper {
            Some(helper) => helper.join().unwrap_or_else(|panic| resume_unwind(panic)),
            None => (self.work)(take(&self.given)),
        }
    }
}

fn take<In>(given: &Mutex<Option<In>>) -> In {
    given.lock().take().expect("one thread does the work")
}
