//! Transactions: optimistic, serializable.
//!
//! A transaction reads at `applied`, so that a hot key is not limited to one success per flush,
//! and remembers what it read; its commit goes through the pipeline like every other and is
//! refused if a commit in between wrote what it read. It resolves when its own seq is durable,
//! and so is everything that it read. A conflict leaves nothing behind.

mod update;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use ringdb_uring::threads::Mutex;

use crate::batch::Operations;
use crate::commit::footprint::ReadSet;
use crate::commit::signal::yield_now;
use crate::db::column_family::ColumnFamily;
use crate::db::get::{Contains, Get, Target};
use crate::db::range::{self, Origin, Range};
use crate::db::write::{Submit, Write};
use crate::db::{Db, Task};
use crate::error::{Error, ErrorKind};
use crate::ids::{FamilyId, Seq};
use crate::options::Durability;
use crate::read::source::Row;
use crate::read::span::{Span, as_slice};
use crate::snapshot::Pinned;
use crate::value::Value;

/// Attempts of `transact` before it gives up and hands the conflict to its caller.
const ATTEMPTS_MAX: u32 = 128;

/// Attempts that follow one another at once.
const HASTY_ATTEMPTS: u32 = 8;

/// A transaction: a snapshot, its own writes on top, and what it read.
///
/// A cheap clone of one transaction, so that it can be handed to helpers; nearly all methods take `&self`. Dropped without `commit`,
/// nothing happened. Committing ends it for all clones: what they put afterwards is not written.
///
/// It may read commits that are not durable yet. Its own commit resolves when they are, also without writes; so what it saw is
/// confirmed by that alone.
///
/// It should be short. Some 18,000 commits of a key each are remembered, fewer if they have more keys, and a transaction that began
/// before them meets a conflict. Others may be false too: commits of more than 256 keys, and transactions that read more than
/// 65,536, count as ranges. It has no range deletes: scan the range and delete its keys, at most an eighth of
/// [`Options::memory_bytes`](crate::Options::memory_bytes) in all.
#[derive(Clone)]
#[must_use = "a transaction does nothing until it is committed"]
pub struct Transaction {
    shared: Arc<Shared>,
}

struct Shared {
    db: Db,
    pinned: Arc<Pinned>,
    set: Mutex<Set>,
}

struct Set {
    reads: ReadSet,
    operations: Operations,
    /// What the operations come to, for reads of the transaction's own writes.
    writes: BTreeMap<(FamilyId, Bytes), Option<Bytes>>,
    durability: Durability,
    /// A clone was committed.
    is_over: bool,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("read_seq", &self.read_seq()).finish()
    }
}

impl Transaction {
    fn begin(db: &Db) -> Transaction {
        let engine = db.engine();
        // A state loaded after `applied` may have trees newer than it only if a checkpoint was
        // published in between; those hold visible commits, or one that is just being shown, so
        // looking again ends.
        let (seq, state) = loop {
            let applied = engine.pipeline.places.applied();
            let state = engine.state().clone();
            if state.checkpoint_seq <= applied {
                break (applied, state);
            }
            std::thread::yield_now();
        };
        let pinned = engine.snapshots.pin(seq, state);
        let set = Set {
            reads: ReadSet::default(),
            operations: Operations::default(),
            writes: BTreeMap::new(),
            durability: engine.options.durability,
            is_over: false,
        };
        Transaction { shared: Arc::new(Shared { db: db.clone(), pinned, set: Mutex::new(set) }) }
    }

    /// The last commit that it reads.
    pub fn read_seq(&self) -> Seq {
        self.shared.pinned.seq
    }

    /// Reads a key: the transaction's own write of it, else what its snapshot shows.
    ///
    /// # Errors
    ///
    /// As [`Get`].
    pub fn get(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Get {
        let key = Bytes::copy_from_slice(key.as_ref());
        match self.own_or_recorded(family, &key) {
            Some(own) => Get::known(self.target(family), own.map(Value::new)),
            None => Get::new(self.target(family), Value::new(key)),
        }
    }

    /// Whether a key is there.
    ///
    /// # Errors
    ///
    /// As [`Get`].
    pub fn contains(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Contains {
        let key = Bytes::copy_from_slice(key.as_ref());
        match self.own_or_recorded(family, &key) {
            Some(own) => Contains::known(self.target(family), own.is_some()),
            None => Contains::new(self.target(family), key),
        }
    }

    /// The rows of a range of keys, the transaction's own writes so far among them.
    ///
    /// The whole range counts as read, however much of it is taken.
    ///
    /// # Errors
    ///
    /// As [`Range`].
    pub fn range<K: AsRef<[u8]>>(
        &self,
        family: &ColumnFamily,
        range: impl RangeBounds<K>,
    ) -> Range {
        self.scan(family, range::span_of(&range))
    }

    /// All rows of a family.
    pub fn iter(&self, family: &ColumnFamily) -> Range {
        self.range::<&[u8]>(family, ..)
    }

    /// The rows whose keys begin with `prefix`.
    pub fn prefix(&self, family: &ColumnFamily, prefix: impl AsRef<[u8]>) -> Range {
        self.scan(family, range::span_of_prefix(prefix.as_ref()))
    }

    fn scan(&self, family: &ColumnFamily, span: Span) -> Range {
        let engine = self.shared.db.engine().clone();
        let origin = family.origin_at(&engine, &self.shared.pinned, &span);
        if let Origin::Refused(_) = origin {
            return Range::new(engine, origin, span);
        }
        let mut set = self.shared.set.lock();
        set.reads.range(family.family().id, as_slice(&span.low), as_slice(&span.high));
        let own = own_rows(&set.writes, family.family().id, &span);
        Range::new(engine, origin, span).with_own_rows(own)
    }

    /// Gives a key a value when the transaction commits: 1 byte to 64 KiB of key, up to 1 GiB of value. What is not accepted is told
    /// by the commit.
    pub fn put(&self, family: &ColumnFamily, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (key, value) = (key.as_ref(), value.as_ref());
        let mut set = self.shared.set.lock();
        if !family.belongs_to(self.shared.db.engine()) {
            return set.operations.refuse_family();
        }
        set.operations.put(family.family(), key, value);
        let place = (family.family().id, Bytes::copy_from_slice(key));
        set.writes.insert(place, Some(Bytes::copy_from_slice(value)));
    }

    /// Deletes a key when the transaction commits.
    pub fn delete(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) {
        let mut set = self.shared.set.lock();
        if !family.belongs_to(self.shared.db.engine()) {
            return set.operations.refuse_family();
        }
        set.operations.delete(family.family(), key.as_ref());
        set.writes.insert((family.family().id, Bytes::copy_from_slice(key.as_ref())), None);
    }

    /// When the commit resolves; by default as the database's options say.
    pub fn durability(&self, durability: Durability) {
        self.shared.set.lock().durability = durability;
    }

    /// Commits, if nothing that was read has been written since. Without writes it takes no seq and
    /// meets no conflict: it resolves to its read seq.
    ///
    /// # Errors
    ///
    /// `Conflict`: nothing happened, begin again. `InvalidArgument` if a clone was committed before. Else as [`Write`].
    ///
    /// # Cancel safety
    ///
    /// As [`Write`].
    pub fn commit(self) -> Write {
        let mut set = self.shared.set.lock();
        let mut operations = std::mem::take(&mut set.operations);
        if std::mem::replace(&mut set.is_over, true) {
            let message = "the transaction was committed by a clone of it";
            operations.refuse(ErrorKind::InvalidArgument, message);
        }
        let reads = std::mem::take(&mut set.reads).finish();
        let (engine, at) = (self.shared.db.engine().clone(), self.shared.pinned.seq);
        if operations.is_empty() {
            return Write::read_only(&engine, at, set.durability);
        }
        Write::new(Submit::new(engine, operations, set.durability).validated(reads, at))
    }

    fn target(&self, family: &ColumnFamily) -> Target {
        family.target_at(self.shared.db.engine(), &self.shared.pinned)
    }

    /// The transaction's own write of a key; if there is none, the key counts as read.
    fn own_or_recorded(&self, family: &ColumnFamily, key: &Bytes) -> Option<Option<Bytes>> {
        if !family.belongs_to(self.shared.db.engine()) {
            return None;
        }
        let mut set = self.shared.set.lock();
        let own = set.writes.get(&(family.family().id, key.clone())).cloned();
        if own.is_none() {
            set.reads.key(family.family().id, key);
        }
        own
    }
}

fn own_rows(
    writes: &BTreeMap<(FamilyId, Bytes), Option<Bytes>>,
    family: FamilyId,
    span: &Span,
) -> Vec<Row> {
    let low = match &span.low {
        Bound::Unbounded => Bound::Included((family, Bytes::new())),
        Bound::Included(key) => Bound::Included((family, key.clone().into())),
        Bound::Excluded(key) => Bound::Excluded((family, key.clone().into())),
    };
    let inside = |key: &[u8]| match as_slice(&span.high) {
        Bound::Unbounded => true,
        Bound::Included(high) => key <= high,
        Bound::Excluded(high) => key < high,
    };
    let rows = writes.range((low, Bound::Unbounded));
    let rows = rows.take_while(|((id, key), _)| *id == family && inside(key));
    rows.map(|((_, key), value)| Row { key: key.clone(), value: value.clone() }).collect()
}

impl Db {
    /// Begins a transaction.
    ///
    /// # Errors
    ///
    /// `Closed`, `Poisoned`, `Unsupported` in a forked child.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is harmless.
    pub fn begin(&self) -> Task<Transaction> {
        let db = self.clone();
        Task::new(self.engine(), async move {
            drop(db.engine().pipeline.enter()?);
            Ok(Transaction::begin(&db))
        })
    }

    /// Runs a closure in a transaction and commits; runs it again if it met a conflict, at most
    /// 128 times.
    ///
    /// # Errors
    ///
    /// The closure's error, with which nothing happened; `Conflict` after the last attempt; else
    /// as [`Write`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, the transaction happened whole or not at all.
    ///
    /// # Examples
    ///
    /// ```
    /// # ringdb::block_on(async {
    /// let db = ringdb::Db::in_memory().await?;
    /// let users = db.column_family("users").await?;
    /// let made = db
    ///     .transact(|tx| {
    ///         let users = users.clone();
    ///         async move {
    ///             if tx.contains(&users, "ada").await? {
    ///                 return Ok(false);
    ///             }
    ///             tx.put(&users, "ada", "1815");
    ///             Ok::<_, ringdb::Error>(true)
    ///         }
    ///     })
    ///     .await?;
    /// assert!(made);
    /// # Ok::<(), ringdb::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn transact<T, E, F, Fut>(&self, mut work: F) -> std::result::Result<T, E>
    where
        F: FnMut(Transaction) -> Fut + Send,
        Fut: Future<Output = std::result::Result<T, E>> + Send,
        E: From<Error> + Send,
        T: Send,
    {
        for attempt in 1..ATTEMPTS_MAX {
            let tx = self.begin().await?;
            let output = work(tx.clone()).await?;
            match tx.commit().await {
                Ok(_) => return Ok(output),
                Err(error) if error.kind() == ErrorKind::Conflict => self.after(attempt).await,
                Err(error) => return Err(error.into()),
            }
        }
        let tx = self.begin().await?;
        let output = work(tx.clone()).await?;
        tx.commit().await?;
        Ok(output)
    }

    /// Waits between a conflict and the next attempt.
    ///
    /// The commit that was in the way is ordered, and applied in a moment; unless its thread lost its processor just then. So a few
    /// attempts follow at once, and the others only when nothing can be in the way any more that was ordered by now.
    async fn after(&self, attempt: u32) {
        if attempt < HASTY_ATTEMPTS {
            return yield_now().await;
        }
        let pipeline = &self.engine().pipeline;
        let last = pipeline.order().last;
        // The next attempt hears of a failure.
        drop(pipeline.visible(last).await);
    }
}
