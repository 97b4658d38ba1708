//! The locks, atomics and threads that both crates use: real ones, or those of a model checker.
//!
//! With `--cfg ringdb_loom` or `--cfg ringdb_shuttle` the same code runs on types that choose who
//! goes next: loom tries every order of a few small parts and knows what weak memory may do;
//! shuttle draws schedules for the whole engine. The tests that use them are in modules named
//! `models`, and `.ci/models` runs them. No release is built so.

#[cfg(any(ringdb_loom, ringdb_shuttle))]
mod modeled;

#[cfg(any(ringdb_loom, ringdb_shuttle))]
pub use modeled::{Condvar, Mutex, MutexGuard, atomic, thread, thread_local};
#[cfg(not(any(ringdb_loom, ringdb_shuttle)))]
pub use parking_lot::{Condvar, Mutex, MutexGuard};
#[cfg(not(any(ringdb_loom, ringdb_shuttle)))]
pub use std::{sync::atomic, thread, thread_local};

/// Stands where an argument needs that all accesses with `SeqCst` have one order. They have, but
/// loom takes them for `AcqRel` and has to be told by a fence.
#[inline]
pub fn in_one_order() {
    #[cfg(ringdb_loom)]
    atomic::fence(atomic::Ordering::SeqCst);
}
