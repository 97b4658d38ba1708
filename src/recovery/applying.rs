//! Rows that are put into their memtables on a thread of their own, while the end of the log is looked through.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::recovery::rows::Rows;

/// Rows on their way.
pub(super) struct Applying {
    /// Until somebody puts them in.
    rows: Arc<Mutex<Option<Rows>>>,
    /// None if there is no thread to be had.
    helper: Option<JoinHandle<usize>>,
}

impl Applying {
    pub(super) fn begin(rows: Rows) -> Applying {
        let rows = Arc::new(Mutex::new(Some(rows)));
        let helper = std::thread::Builder::new().name("ringdb-replay".to_owned());
        let theirs = rows.clone();
        let helper = helper.spawn(move || apply(&theirs)).ok();
        Applying { rows, helper }
    }

    /// Ends when all are in; gives the bytes that their memtables keep besides.
    pub(super) fn wait(self) -> usize {
        match self.helper {
            Some(helper) => helper.join().unwrap_or_else(|panic| resume_unwind(panic)),
            None => apply(&self.rows),
        }
    }
}

fn apply(rows: &Mutex<Option<Rows>>) -> usize {
    let rows = rows.lock().take();
    rows.map_or(0, Rows::apply)
}
