//! Pinned views, and the bound on what they may pin.
//!
//! A forgotten snapshot cannot stop the writers: one that is too old, or whose state keeps too
//! much space from being reused, expires, oldest first, and its reads say so. Views that keep nothing
//! of that are left alone: also where the space is kept by a read that was polled once and forgotten,
//! which nobody can make give it back.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use ringdb_uring::threads::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::ids::Seq;
use crate::state::{Generational, Hold, State};

/// A seq and the state that shows it, held until it expires or is dropped.
pub(crate) struct Pinned {
    pub(crate) seq: Seq,
    state: RwLock<Option<Arc<State>>>,
    since: Instant,
    /// It was found too old while somebody looked at it: whoever asks next is told that it has expired.
    is_too_old: AtomicBool,
}

impl Pinned {
    pub(crate) fn new(seq: Seq, state: Arc<State>) -> Arc<Pinned> {
        let (state, is_too_old) = (RwLock::new(Some(state)), AtomicBool::new(false));
        Arc::new(Pinned { seq, state, since: Instant::now(), is_too_old })
    }

    /// The state, unless the snapshot has expired.
    pub(crate) fn state(&self) -> Result<Arc<State>> {
        let not_yet = !self.is_too_old.load(Ordering::Relaxed);
        let state = self.state.read().clone().filter(|_| not_yet);
        state.ok_or_else(|| self.expired())
    }

    /// As `state`, for a step that counts no reference and puts off expiry. What it lends is looked at by closures of the
    /// caller's, which may read again.
    pub(crate) fn held_still(&self) -> Result<MappedRwLockReadGuard<'_, State>> {
        if self.is_too_old.load(Ordering::Relaxed) {
            return Err(self.expired());
        }
        let held = self.state.read_recursive();
        let state = RwLockReadGuard::try_map(held, |state| state.as_deref());
        state.map_err(|_| self.expired())
    }

    /// Whether it has not expired, and what its state keeps is so.
    fn keeps(&self, is_so: impl FnOnce(&Arc<Hold>) -> bool) -> bool {
        self.state.read().as_ref().is_some_and(|state| is_so(&state.hold))
    }

    fn expired(&self) -> Error {
        let error = Error::new(ErrorKind::SnapshotExpired, "the snapshot has expired");
        error.with_detail(format!("seq {}", self.seq.0))
    }

    /// Gives the state back, unless somebody is looking at it: it is nobody's part to wait for that.
    fn expire(&self) -> bool {
        let state = self.state.try_write().map(|mut state| state.take());
        state.is_some()
    }
}

/// Pinned views that may be held for long.
#[derive(Default)]
pub(crate) struct Snapshots(Mutex<Vec<Weak<Pinned>>>);

impl Snapshots {
    /// A view of this state that is subject to expiry.
    pub(crate) fn pin(&self, seq: Seq, state: Arc<State>) -> Arc<Pinned> {
        let pinned = Pinned::new(seq, state);
        self.register(&pinned);
        pinned
    }

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
            // A scan that shows row after row may be looking at it whenever somebody comes by. It ends, and the next turn takes the state.
            if !pinned.expire() {
                pinned.is_too_old.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Expires every view whose state keeps this hold; whether there was one.
    pub(crate) fn expire_holding(&self, hold: &Arc<Hold>) -> bool {
        let held = self.held().filter(|pinned| pinned.keeps(|kept| Arc::ptr_eq(kept, hold)));
        held.filter(|pinned| pinned.expire()).count() > 0
    }

    /// Expires the oldest view that may keep memtables which the current state does not, those before its last publication, and that
    /// nobody is looking at; false if there is none.
    pub(crate) fn expire_oldest(&self, current: &Arc<Hold>) -> bool {
        let is_older = |pinned: &Arc<Pinned>| pinned.keeps(|kept| !Arc::ptr_eq(kept, current));
        let mut older: Vec<_> = self.held().filter(is_older).collect();
        older.sort_by_key(|pinned| pinned.seq);
        older.into_iter().any(|pinned| pinned.expire())
    }

    /// Memory of memtables that are in no tree of theirs and kept by these views alone, in bytes.
    pub(crate) fn memtable_bytes(&self, current: &State) -> u64 {
        let tables = |state: &State| -> Vec<Arc<Generational>> {
            state.families.iter().flat_map(|view| view.memtables.iter().cloned()).collect()
        };
        // Views of the current state keep nothing besides it, and those of another are as one. Without any all families are not
        // gone through.
        let mut seen = HashSet::from([std::ptr::from_ref(current)]);
        let held = self.held().filter_map(|pinned| pinned.state.read().clone());
        let past: Vec<_> = held.filter(|state| seen.insert(Arc::as_ptr(state))).collect();
        if past.is_empty() {
            return 0;
        }
        let mut counted: HashSet<_> = tables(current).iter().map(Arc::as_ptr).collect();
        let mut bytes = 0;
        for state in past {
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
