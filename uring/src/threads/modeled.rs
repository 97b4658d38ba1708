//! A model checker's types in the shape that the code is written for.
//!
//! A panic poisons nothing, as with the real locks. A time that may run out has always run out by
//! the time the waiter goes on: no schedule may depend on how long it was.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

#[cfg(ringdb_loom)]
use loom::sync as model;
#[cfg(ringdb_shuttle)]
use shuttle::sync as model;

pub use model::atomic;
#[cfg(ringdb_shuttle)]
pub use shuttle::thread_local;
#[cfg(ringdb_loom)]
pub use std::thread_local;

/// Threads that the model checker schedules.
pub mod thread {
    #[cfg(ringdb_loom)]
    pub use loom::thread::{Builder, JoinHandle, Thread, current, park, spawn, yield_now};
    #[cfg(ringdb_shuttle)]
    pub use shuttle::thread::{Builder, JoinHandle, Thread, current, park, spawn, yield_now};

    /// Lets others go first; the time is up afterwards.
    pub fn park_timeout(_: super::Duration) {
        yield_now();
    }
}

/// A lock.
#[derive(Default)]
pub struct Mutex<T>(model::Mutex<T>);

/// A lock that is held; let go only while its holder waits for a condition.
pub struct MutexGuard<'a, T> {
    lock: &'a Mutex<T>,
    held: Option<model::MutexGuard<'a, T>>,
}

const HELD: &str = "a guard lets go only inside of a wait";

impl<T> Mutex<T> {
    /// A free lock around a value.
    pub fn new(value: T) -> Mutex<T> {
        Mutex(model::Mutex::new(value))
    }

    /// Takes the lock, waiting for it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard { lock: self, held: Some(held) }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = match self.0.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { lock: self, held: Some(held) })
    }

    /// Whether somebody holds it now.
    pub fn is_locked(&self) -> bool {
        self.try_lock().is_none()
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().expect(HELD)
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect(HELD)
    }
}

/// How a wait for a time ended.
pub struct TimedOut;

/// A condition that holders of a lock wait for.
#[derive(Default)]
pub struct Condvar(model::Condvar);

impl Condvar {
    /// A condition nobody waits for.
    pub fn new() -> Condvar {
        Condvar(model::Condvar::new())
    }

    /// Gives the lock up until notified.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.held.take().expect(HELD);
        guard.held = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
    }

    /// Gives the lock up and lets others go first; the time is up afterwards.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> TimedOut {
        drop(guard.held.take());
        thread::yield_now();
        guard.held = guard.lock.lock().held.take();
        TimedOut
    }

    /// Wakes one who waits. Always true: the model's conditions do not count.
    pub fn notify_one(&self) -> bool {
        self.0.notify_one();
        true
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
