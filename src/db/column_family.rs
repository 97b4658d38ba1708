//! Handles of column families.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::Operations;
use crate::db::DbHandle;
use crate::db::done::Task;
use crate::db::get::{At, Contains, Get, MultiGet, Target, foreign};
use crate::db::get_with::GetWith;
use crate::db::keys::together;
use crate::db::range::{self, Origin, Range};
use crate::db::write::{Submit, Write};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Durability;
use crate::read::span::Span;
use crate::snapshot::Pinned;
use crate::state::Family;
use crate::tree::Direction;
use crate::value::Value;

/// A named, independent ordered key space of a database.
///
/// A cheap clone. Every read touches a counter of its handle, so tasks that read much should each have a clone of their own: one that
/// is shared by several processors slows them all.
pub struct ColumnFamily {
    handle: Arc<Handle>,
}

/// What a handle's futures share.
pub(crate) struct Handle {
    db: Arc<DbHandle>,
    pub(crate) family: Arc<Family>,
    durability: Durability,
}

impl Handle {
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        self.db.engine()
    }

    pub(crate) fn db(&self) -> &Arc<DbHandle> {
        &self.db
    }
}

impl Clone for ColumnFamily {
    fn clone(&self) -> ColumnFamily {
        ColumnFamily::new(&self.handle.db, &self.handle.family, self.handle.durability)
    }
}

impl std::fmt::Debug for ColumnFamily {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColumnFamily").field("name", &self.handle.family.name()).finish()
    }
}

impl ColumnFamily {
    pub(crate) fn new(
        db: &Arc<DbHandle>,
        family: &Arc<Family>,
        durability: Durability,
    ) -> ColumnFamily {
        let handle = Handle { db: db.clone(), family: family.clone(), durability };
        ColumnFamily { handle: Arc::new(handle) }
    }

    pub(crate) fn family(&self) -> &Arc<Family> {
        &self.handle.family
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// Whether the handle belongs to that open database.
    pub(crate) fn belongs_to(&self, engine: &Arc<Engine>) -> bool {
        Arc::ptr_eq(self.handle.engine(), engine)
    }

    pub(crate) fn durability(&self) -> Durability {
        self.handle.durability
    }

    /// What a read through a pinned view of that database looks at.
    pub(crate) fn target_at(&self, engine: &Arc<Engine>, pinned: &Arc<Pinned>) -> Target {
        let at = match self.belongs_to(engine) {
            true => At::Pinned(pinned.clone()),
            false => At::Foreign,
        };
        Target { handle: self.handle.clone(), at }
    }

    /// What a scan through a pinned view of that database sees.
    pub(crate) fn origin_at(
        &self,
        engine: &Arc<Engine>,
        pinned: &Arc<Pinned>,
        span: &Span,
    ) -> Origin {
        match self.belongs_to(engine) {
            false => Origin::Refused(foreign()),
            true if range::is_reversed(span) => Origin::Refused(reversed()),
            true => Origin::Pinned(self.handle.family.clone(), pinned.clone()),
        }
    }

    /// The family's name now.
    pub fn name(&self) -> String {
        self.handle.family.name().to_string()
    }

    /// The same family with another durability for the writes through this handle.
    pub fn with_durability(&self, durability: Durability) -> ColumnFamily {
        ColumnFamily::new(&self.handle.db, &self.handle.family, durability)
    }

    /// Gives a key a value: 1 byte to 64 KiB of key, up to 1 GiB of value.
    ///
    /// # Errors
    ///
    /// As [`Write`].
    ///
    /// # Cancel safety
    ///
    /// As [`Write`].
    ///
    /// # Examples
    ///
    /// ```
    /// # ringdb::block_on(async {
    /// let db = ringdb::Db::in_memory().await?;
    /// let users = db.column_family("users").await?;
    /// users.put("ada", "1815").await?;
    /// assert_eq!(users.get("ada").await?.as_deref(), Some(&b"1815"[..]));
    /// # Ok::<(), ringdb::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Write {
        self.write(|operations, family| operations.put(family, key.as_ref(), value.as_ref()))
    }

    /// As [`put`](ColumnFamily::put), without copying a value above 64 KiB at the call.
    pub fn put_bytes(&self, key: impl AsRef<[u8]>, value: Bytes) -> Write {
        self.write(|operations, family| operations.put_bytes(family, key.as_ref(), value))
    }

    /// Deletes a key; succeeds if it is not there.
    ///
    /// # Errors
    ///
    /// As [`Write`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Write {
        self.write(|operations, family| operations.delete(family, key.as_ref()))
    }

    /// Deletes every key of a range.
    ///
    /// # Errors
    ///
    /// As [`Write`]; `InvalidArgument` for a reversed range.
    pub fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Write {
        self.write(|operations, family| add_range(operations, family, &range))
    }

    /// Deletes every key, as one range.
    ///
    /// # Errors
    ///
    /// As [`Write`].
    pub fn clear(&self) -> Write {
        self.delete_range::<&[u8]>(..)
    }

    fn write(&self, add: impl FnOnce(&mut Operations, &Arc<Family>)) -> Write {
        let mut operations = Operations::default();
        add(&mut operations, &self.handle.family);
        let engine = self.handle.engine().clone();
        Write::new(Submit::new(engine, operations, self.handle.durability))
    }

    /// Reads a key: ready at once if memory has the answer.
    ///
    /// # Errors
    ///
    /// As [`Get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Get {
        Get::new(self.target(), Value::copied(key.as_ref()))
    }

    /// Reads a key and lends its value to a closure, `None` if it is not there: a value in the cache
    /// is not copied. Resolves to what the closure returns.
    ///
    /// # Errors
    ///
    /// As [`GetWith`].
    ///
    /// # Cancel safety
    ///
    /// As [`GetWith`].
    ///
    /// # Examples
    ///
    /// ```
    /// # ringdb::block_on(async {
    /// let db = ringdb::Db::in_memory().await?;
    /// let users = db.column_family("users").await?;
    /// users.put("ada", "1815").await?;
    /// let digits = users.get_with("ada", |born| born.map_or(0, <[u8]>::len)).await?;
    /// assert_eq!(digits, 4);
    /// # Ok::<(), ringdb::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn get_with<T, F>(&self, key: impl AsRef<[u8]>, look: F) -> GetWith<F>
    where
        F: FnOnce(Option<&[u8]>) -> T,
    {
        GetWith::new(self.target(), Value::copied(key.as_ref()), look)
    }

    /// Reads many keys at one seq, fetching what is missing together.
    ///
    /// # Errors
    ///
    /// As [`MultiGet`].
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> MultiGet {
        MultiGet::new(self.target(), together(keys))
    }

    /// Whether a key is there.
    ///
    /// # Errors
    ///
    /// As [`Get`].
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Contains {
        Contains::new(self.target(), Bytes::copy_from_slice(key.as_ref()))
    }

    fn target(&self) -> Target {
        Target { handle: self.handle.clone(), at: At::Latest }
    }

    /// The rows of a range of keys, such as `range("a".."b")` or `range::<&str>(..)`.
    ///
    /// # Errors
    ///
    /// As [`Range`]; `InvalidArgument` for a reversed range, with the first row.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Range {
        self.scan(range::span_of(&range))
    }

    /// All rows.
    pub fn iter(&self) -> Range {
        self.range::<&[u8]>(..)
    }

    /// The rows whose keys begin with `prefix`.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Range {
        self.scan(range::span_of_prefix(prefix.as_ref()))
    }

    fn scan(&self, span: Span) -> Range {
        let origin = match range::is_reversed(&span) {
            true => Origin::Refused(reversed()),
            false => Origin::Latest(self.handle.family.clone()),
        };
        Range::new(self.handle.engine().clone(), origin, span)
    }

    /// The first row.
    ///
    /// # Errors
    ///
    /// As [`Range`].
    pub fn first(&self) -> Task<Option<(Value, Value)>> {
        self.edge(Direction::Forward)
    }

    /// The last row.
    ///
    /// # Errors
    ///
    /// As [`Range`].
    pub fn last(&self) -> Task<Option<(Value, Value)>> {
        self.edge(Direction::Backward)
    }

    fn edge(&self, direction: Direction) -> Task<Option<(Value, Value)>> {
        let span = Span { low: Bound::Unbounded, high: Bound::Unbounded, direction };
        let mut rows = self.scan(span);
        Task::new(self.handle.engine(), async move { rows.try_next().await })
    }

    /// How many rows there are. Exact, and so it reads all of them.
    ///
    /// # Errors
    ///
    /// As [`Range`].
    pub fn len(&self) -> Task<u64> {
        let mut rows = self.iter();
        Task::new(self.handle.engine(), async move {
            let mut count = 0;
            while rows.try_next().await?.is_some() {
                count += 1;
            }
            Ok(count)
        })
    }

    /// About how many rows there are, at once: those in the trees and every version in memory.
    pub fn approximate_len(&self) -> u64 {
        let state = self.handle.engine().state();
        state.view(self.handle.family.id).map_or(0, |view| view.approximate_rows())
    }
}

pub(crate) fn reversed() -> Error {
    Error::new(ErrorKind::InvalidArgument, "a range is reversed")
}

/// Adds the deletion of a range given as a caller gives it.
pub(crate) fn add_range<K: AsRef<[u8]>>(
    operations: &mut Operations,
    family: &Arc<Family>,
    range: &impl RangeBounds<K>,
) {
    // The smallest key above a key is the key with a zero byte behind it.
    let successor = |key: &K| [key.as_ref(), &[0]].concat();
    let low = match range.start_bound() {
        Bound::Unbounded => Vec::new(),
        Bound::Included(key) => key.as_ref().to_vec(),
        Bound::Excluded(key) => successor(key),
    };
    let high = match range.end_bound() {
        Bound::Unbounded => Vec::new(),
        Bound::Included(key) => successor(key),
        Bound::Excluded(key) if key.as_ref().is_empty() && low.is_empty() => return,
        Bound::Excluded(key) if key.as_ref().is_empty() => return operations.refuse_range(),
        // Nothing lies between a key and itself, for `range` too.
        Bound::Excluded(high) if is_between_itself(range.start_bound(), high) => return,
        Bound::Excluded(key) => key.as_ref().to_vec(),
    };
    operations.delete_range(family, &low, &high);
}

fn is_between_itself<K: AsRef<[u8]>>(low: Bound<&K>, high: &K) -> bool {
    matches!(low, Bound::Excluded(low) if low.as_ref() == high.as_ref())
}

/// A name of 1 to 255 bytes.
pub(crate) fn check_name(name: &str) -> Result<()> {
    match name.len() {
        0 => Err(Error::new(ErrorKind::InvalidArgument, "the name of a column family is empty")),
        1..=255 => Ok(()),
        _ => Err(Error::new(ErrorKind::TooLarge, "the name of a column family exceeds 255 bytes")),
    }
}
