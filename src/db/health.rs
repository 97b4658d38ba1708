//! What a database can still do, and waiting for that to change.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::blocking;
use crate::commit::closed;
use crate::db::Db;
use crate::engine::Engine;
use crate::error::Result;

/// What the database can still do, reads and writes apart.
///
/// | writes fail with | because | and accept again |
/// |---|---|---|
/// | `NoSpace` | the file cannot grow | when a commit finds room: after deletes, or on a larger disk |
/// | `Corrupt`, `Io` | a checkpoint met a page that it cannot read | never, most likely |
/// | `Poisoned` | a write or sync failed | after reopening |
/// | `Closed` | `close` was called | after reopening |
///
/// Reads fail with `Closed` only, as a whole; a page that cannot be read fails those that need it.
/// While writes fail with `NoSpace`, deletes and drops are accepted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// Whether reads are answered.
    pub reads: Result<()>,
    /// Whether commits are accepted, and if not, why.
    pub writes: Result<()>,
    /// Changes before this one.
    count: u64,
}

impl Db {
    /// What the database can still do.
    ///
    /// # Examples
    ///
    /// ```
    /// # ringdb::block_on(async {
    /// let db = ringdb::Db::in_memory().await?;
    /// let health = db.health();
    /// assert!(health.reads.is_ok() && health.writes.is_ok());
    /// let (changed, closed) = (db.health_changed(&health), db.close());
    /// closed.await?;
    /// let reason = changed.await.writes.unwrap_err();
    /// assert_eq!(reason.kind(), ringdb::ErrorKind::Closed);
    /// # Ok::<(), ringdb::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn health(&self) -> Health {
        health(self.engine())
    }

    /// Resolves to the health as it is then, once it has changed since `seen`: a failure that
    /// poisons, a full disk and its end, closing. At once if it has changed already.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is harmless; no change is lost to who asks again with the same `seen`.
    pub fn health_changed(&self, seen: &Health) -> HealthChanged {
        let engine = self.engine().clone();
        let waiter = engine.pipeline.changed.waiter();
        HealthChanged { engine, waiter, seen: seen.count }
    }
}

fn health(engine: &Engine) -> Health {
    // In a forked child a thread of the parent's may hold the lock for ever.
    if let Err(forked) = engine.here() {
        return Health { reads: Err(forked.clone()), writes: Err(forked), count: 0 };
    }
    let pipeline = &engine.pipeline;
    // Before what it counts: a change in between is told once too often rather than never.
    let count = pipeline.changed.count();
    let is_closed = pipeline.is_closed();
    let refusal = match is_closed {
        true => Some(closed()),
        false => pipeline.hindrance(),
    };
    let told = |cause| match cause {
        None => Ok(()),
        Some(cause) => Err(cause),
    };
    let reads = told(is_closed.then(closed));
    Health { reads, writes: told(pipeline.failure().or(refusal)), count }
}

/// Resolves once the health of a database has changed; see [`Db::health_changed`].
///
/// # Cancel safety
///
/// Dropping it is harmless.
#[must_use = "futures do nothing until polled"]
pub struct HealthChanged {
    engine: Arc<Engine>,
    waiter: u64,
    seen: u64,
}

impl Future for HealthChanged {
    type Output = Health;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Health> {
        let changed = &self.engine.pipeline.changed;
        if self.engine.here().is_err() || changed.poll(self.waiter, self.seen, context) {
            return Poll::Ready(health(&self.engine));
        }
        blocking::note(&self.engine.io);
        Poll::Pending
    }
}

impl Drop for HealthChanged {
    fn drop(&mut self) {
        if self.engine.here().is_ok() {
            self.engine.pipeline.changed.leave(self.waiter);
        }
    }
}
