//! The database as a program sees it.

pub(crate) mod column_family;
pub(crate) mod done;
pub(crate) mod get;
mod get_with;
pub(crate) mod keys;
pub(crate) mod range;
pub(crate) mod write;

mod backup;
mod batch;
mod catalog;
mod check;
mod health;
mod info;
mod ingest;
#[cfg(test)]
mod ingest_tests;
#[cfg(all(test, ringdb_shuttle))]
mod models;
#[cfg(test)]
mod recovery_tests;
mod restore;
mod snapshot;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use futures::channel::oneshot;
use ringdb_uring::sim::Disk;
use ringdb_uring::threads::thread;

use crate::blocking::wait_for;
use crate::checkpoint;
use crate::engine::{Command, Engine};
use crate::error::{Error, ErrorKind, Result};
use crate::format::catalog::Logging;
use crate::ids::Seq;
use crate::options::{Durability, Options, Place};
use crate::recovery;

pub use backup::{Backup, TryNextChunk};
pub use batch::Batch;
pub use check::Check;
pub use column_family::ColumnFamily;
pub use done::Task;
pub use get::{Contains, Get, MultiGet};
pub use get_with::GetWith;
pub use health::{Health, HealthChanged};
pub use info::{
    BackendKind, BackendReport, CheckProgress, CheckReport, Defect, FamilyStat, Metrics, Stat,
};
pub use ingest::{Ingest, PutRow};
pub use range::{ForEachWith, Range, TryNext, TryNextWith};
pub use snapshot::Snapshot;
pub use write::{Commit, Submit, Visible, Write};

/// What is decided when a column family is created.
///
/// # Examples
///
/// ```
/// # ringdb::block_on(async {
/// use ringdb::{ColumnFamilyOptions, Db};
///
/// let db = Db::in_memory().await?;
/// let cache = db.create_column_family("cache", ColumnFamilyOptions::new().unlogged()).await?;
/// cache.put("page", "rendered").await?;
/// # Ok::<(), ringdb::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ColumnFamilyOptions {
    logging: Logging,
}

impl ColumnFamilyOptions {
    /// The defaults: a logged family.
    pub fn new() -> ColumnFamilyOptions {
        ColumnFamilyOptions::default()
    }

    /// Commits cost no log and resolve when visible; after a crash the family is as of the last
    /// checkpoint. A batch that touches a logged family too is logged whole.
    pub fn unlogged(mut self) -> ColumnFamilyOptions {
        self.logging = Logging::Unlogged;
        self
    }
}

/// An open database: a cheap clone, shared by all tasks.
///
/// When the last handle is dropped, what was acknowledged is kept and the file is let go in the
/// background; [`Db::close`] does so with an answer.
#[derive(Clone)]
pub struct Db {
    handle: Arc<DbHandle>,
}

/// Lives as long as any handle does.
pub(crate) struct DbHandle {
    engine: Arc<Engine>,
}

impl DbHandle {
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

impl Drop for DbHandle {
    fn drop(&mut self) {
        if self.engine.here().is_err() {
            return;
        }
        // (I12) Our threads finish what was ordered and then let the file go; an open waits.
        self.engine.io.announce_close();
        self.engine.command(Command::Abandon);
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("path", &self.engine().io.path()).finish()
    }
}

impl Options {
    /// Opens the database at `path`, recovering it if it was not closed.
    ///
    /// # Errors
    ///
    /// `NotFound`, `AlreadyExists`, `Locked`, `Corrupt`, `Version`, `NoSpace`, `Unsupported`, `Io`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the database is opened and at once let go again, or not opened.
    pub fn open(self, path: impl AsRef<Path>) -> Task<Db> {
        open(Place::path(path), self)
    }

    /// Opens a database on a simulated disk, for crash tests.
    ///
    /// # Errors
    ///
    /// As [`Options::open`].
    #[cfg(feature = "sim")]
    pub fn open_sim(self, disk: &Disk) -> Task<Db> {
        open(Place::disk(disk), self)
    }
}

/// Opening reads and syncs, so it has a thread of its own, which then becomes the checkpointer's.
fn open(place: Place, options: Options) -> Task<Db> {
    Task::without_engine(async move {
        let (reply, opened) = oneshot::channel();
        let work = move || match wait_for(recovery::open(place, options)) {
            Err(error) => drop(reply.send(Err(error))),
            Ok((engine, keeper)) => {
                if let Err(error) = checkpoint::join_chapters(&engine) {
                    wait_for(engine.io.close());
                    return drop(reply.send(Err(error)));
                }
                let handle = Arc::new(DbHandle { engine: engine.clone() });
                // If nobody waits any more, dropping the handle lets the file go.
                drop(reply.send(Ok(Db { handle })));
                checkpoint::run(engine, keeper);
            }
        };
        let spawned = thread::Builder::new().name("ringdb-checkpoint".to_owned()).spawn(work);
        spawned.map_err(|cause| {
            Error::new(ErrorKind::Io, "a thread could not be started").with_source(cause)
        })?;
        let opened = opened.await;
        let db = opened.map_err(|_| Error::new(ErrorKind::Closed, "opening was abandoned"))??;
        // Only now: had this future been dropped, another open would have had to wait. (I12)
        db.engine().io.settle();
        Ok(db)
    })
}

impl Db {
    /// Opens or creates the database at `path` with the default options.
    ///
    /// # Errors
    ///
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Task<Db> {
        Options::new().open(path)
    }

    /// A database in memory, gone with its last handle.
    ///
    /// # Errors
    ///
    /// `Io` if its threads cannot be started.
    pub fn in_memory() -> Task<Db> {
        open(Place::disk(&Disk::new()), Options::new())
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.handle.engine
    }

    /// The database of a family's handle.
    pub(crate) fn of(family: &column_family::Handle) -> Db {
        Db { handle: family.db().clone() }
    }

    fn default_durability(&self) -> Durability {
        self.engine().options.durability
    }

    /// A batch that belongs to this database.
    pub fn batch(&self) -> Batch {
        Batch::new(self.engine().clone(), self.default_durability())
    }

    /// What is visible now, to be read as often as wanted.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::latest(self)
    }

    /// Resolves once the commit with that seq, and all before it, survive power loss. Commits to unlogged families do not count: for
    /// them there are [`Db::sync`] and [`Db::checkpoint`].
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a seq that no commit has; `Poisoned` if a log write failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is harmless.
    pub fn durable(&self, seq: Seq) -> Task<()> {
        let engine = self.engine().clone();
        Task::new(self.engine(), async move {
            if seq > engine.pipeline.order().last {
                let error = Error::new(ErrorKind::InvalidArgument, "no commit has that seq yet");
                return Err(error.with_detail(format!("seq {}", seq.0)));
            }
            engine.pipeline.durable(seq).await
        })
    }

    /// Resolves once every commit ordered so far survives power loss; checkpoints if commits to
    /// unlogged families are among them.
    ///
    /// # Errors
    ///
    /// `Closed`; `Poisoned` if a write failed; with commits to unlogged families as [`Db::checkpoint`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is harmless.
    pub fn sync(&self) -> Task<()> {
        let engine = self.engine().clone();
        let entered = engine.pipeline.enter();
        let entered = entered.map(|order| (order.has_unlogged(), order.last));
        match entered {
            Ok((true, _)) => self.checkpoint(),
            Ok((false, last)) => {
                Task::new(self.engine(), async move { engine.pipeline.durable(last).await })
            }
            Err(refusal) => Task::new(self.engine(), async move { Err(refusal) }),
        }
    }

    /// Writes everything committed so far into the trees.
    ///
    /// # Errors
    ///
    /// `NoSpace`, `Poisoned`, `Corrupt`, `Closed`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the checkpoint goes on.
    pub fn checkpoint(&self) -> Task<()> {
        self.ask(Command::Checkpoint)
    }

    /// Writes everything committed so far into the trees, and makes one tree of several in every
    /// family: reads look in one place, and what was overwritten or deleted gives its pages back.
    /// Commits, reads and checkpoints go on meanwhile; what they add may be in trees of its own.
    ///
    /// Then what lies at the end of the file moves to free pages in front, if there are many, and the file gets shorter. Values
    /// above 64 KiB do not move, nor what a snapshot sees: the file ends behind the last of them.
    ///
    /// It happens by itself as trees become many, and when nothing was committed for five seconds, unless the database is on a
    /// simulated disk. It stops when commits come.
    ///
    /// # Errors
    ///
    /// `NoSpace`, `Poisoned`, `Corrupt`, `Io`, `Closed`; what was merged by then stays merged. Where one family's trees cannot be read,
    /// those of others go on being merged. `Io` also if the file could not be cut off: nothing else is the worse for it.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the merging goes on.
    ///
    /// # Examples
    ///
    /// ```
    /// # ringdb::block_on(async {
    /// let db = ringdb::Db::in_memory().await?;
    /// let users = db.column_family("users").await?;
    /// users.put("ada", "1815").await?;
    /// db.compact().await?;
    /// assert!(db.stat().families.iter().all(|family| family.trees <= 1));
    /// # Ok::<(), ringdb::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn compact(&self) -> Task<()> {
        self.ask(Command::Compact)
    }

    /// Refuses new work, waits until everything in flight is done, checkpoints, and lets the file
    /// go. The next open has nothing to recover. From then on all handles refuse; a snapshot still answers what memory has of it.
    ///
    /// # Errors
    ///
    /// `Closed` if it was closed before; `NoSpace`, `Poisoned`: then nothing acknowledged is lost,
    /// and the next open recovers.
    ///
    /// # Cancel safety
    ///
    /// Dropped, closing goes on.
    pub fn close(&self) -> Task<()> {
        self.ask(Command::Close)
    }

    fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command + Send + 'static,
    ) -> Task<T> {
        let engine = self.engine().clone();
        Task::new(self.engine(), async move {
            let (reply, answer) = oneshot::channel();
            engine.command(command(reply));
            answer.await.map_err(|_| Error::new(ErrorKind::Closed, "the database is closed"))?
        })
    }

    fn family_handle(&self, family: &Arc<crate::state::Family>) -> ColumnFamily {
        ColumnFamily::new(&self.handle, family, self.default_durability())
    }
}

fn checked(name: &str) -> Result<String> {
    column_family::check_name(name)?;
    Ok(name.to_owned())
}
