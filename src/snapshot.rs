//! Pinned views, and the bound on what they may pin.
//!
//! A forgotten snapshot cannot stop the writers: one that is too old, or whose state keeps too
//! much space from being reused, expires, oldest first, and its reads say so.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use ringdb_uring::threads::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::ids::Seq;
use crate::state::{Generational, State};

/// A seq and the state that shows it, held until it expires or is dropped.
pub(crate) struct Pinned {
    pub(crate) seq: Seq,
    state: RwLock<Option<Arc<State>>>,
    since: Instant,
}

impl Pinned {
    pub(crate) fn new(seq: Seq, state: Arc<State>) -> Arc<Pinned> {
        Arc::new(Pinned { seq, state: RwLock::new(Some(state)), since: Instant::now() })
    }

    /// The state, unless the snapshot has expired.
    pub(crate) fn state(&self) -> Result<Arc<State>> {
        self.state.read().clone().ok_or_else(|| self.expired())
    }

    /// As `state`, for a step that waits for nothing: it counts no reference, and expiry waits for it.
    pub(crate) fn held_still(&self) -> Result<MappedRwLockReadGuard<'_, State>> {
        let state = RwLockReadGuard::try_map(self.state.read(), |state| state.as_deref());
        state.map_err(|_| self.expired())
    }

    fn expired(&self) -> Error {
        let error = Error::new(ErrorKind::SnapshotExpired, "the snapshot has expired");
        error.with_detail(format!("seq {}", self.seq.0))
    }

    fn expire(&self) {
        let state = self.state.write().take();
        drop(state);
    }
}

/// Pinned views that may be held for long.
#[derive(Default)]
pub(crate) struct Snapshots(Mutex<Vec<Weak<Pinned>>>);

impl Snapshots {
    /// Makes the view subject to expiry.
    pub(crate) fn register(&self, pinned: &Arc<Pinned>) {
        let mut list = self.0.lock();
        if list.len() == list.capacity() {
            list.retain(|known| known.strong_count() > 0);
        }
        list.push(Arc::downgrade(pinned));
    }

    /// Expires what is older than `age_max`.
    pub(crate) fn expire_older(&self, age_max: Duration) {
        for pinned in self.held().filter(|pinned| pinned.since.elapsed() > age_max) {
            pinned.expire();
        }
    }

    /// Expires the oldest view that still pins a state; false if there is none.
    pub(crate) fn expire_oldest(&self) -> bool {
        let oldest = self
            .held()
            .filter(|pinned| pinned.state.read().is_some())
            .min_by_key(|pinned| pinned.seq);
        if let Some(oldest) = &oldest {
            oldest.expire();
        }
        oldest.is_some()
    }

    /// Memory of memtables that are in no tree of theirs and kept by these views alone, in bytes.
    pub(crate) fn memtable_bytes(&self, current: &State) -> u64 {
        let tables = |state: &State| -> Vec<Arc<Generational>> {
            state.families.iter().flat_map(|view| view.memtables.iter().cloned()).collect()
        };
        let mut counted: HashSet<_> = tables(current).iter().map(Arc::as_ptr).collect();
        let mut bytes = 0;
        for state in self.held().filter_map(|pinned| pinned.state.read().clone()) {
            let kept = tables(&state).into_iter().filter(|kept| counted.insert(Arc::as_ptr(kept)));
            bytes += kept.map(|kept| kept.table.bytes() as u64).sum::<u64>();
        }
        bytes
    }

    fn held(&self) -> impl Iterator<Item = Arc<Pinned>> {
        let mut list = self.0.lock();
        list.retain(|known| known.strong_count() > 0);
        list.iter().filter_map(Weak::upgrade).collect::<Vec<_>>().into_iter()
    }
}
