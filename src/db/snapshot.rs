//! Snapshots.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use bytes::Bytes;

use crate::db::Db;
use crate::db::column_family::ColumnFamily;
use crate::db::get::{Contains, Get, MultiGet, Target};
use crate::db::get_with::GetWith;
use crate::db::keys::together;
use crate::db::range::{self, Range};
use crate::ids::Seq;
use crate::read::span::Span;
use crate::snapshot::Pinned;
use crate::value::Value;

/// Everything that was visible at one seq, over all column families.
///
/// A cheap clone. Held for too long, or keeping too much space from being reused, it expires and
/// its reads answer `SnapshotExpired`; see `Options::snapshot_age_max`.
#[derive(Clone)]
pub struct Snapshot {
    db: Db,
    pinned: Arc<Pinned>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("seq", &self.seq()).finish()
    }
}

impl Snapshot {
    pub(crate) fn latest(db: &Db) -> Snapshot {
        let engine = db.engine();
        let (seq, state) = engine.read_view();
        let pinned = Pinned::new(seq, arc_swap::Guard::into_inner(state));
        // In a forked child its reads are refused, and a lock may be held for ever.
        if engine.here().is_ok() {
            engine.snapshots.register(&pinned);
        }
        Snapshot { db: db.clone(), pinned }
    }

    /// The last commit that it shows.
    pub fn seq(&self) -> Seq {
        self.pinned.seq
    }

    fn target(&self, family: &ColumnFamily) -> Target {
        family.target_at(self.db.engine(), &self.pinned)
    }

    /// Reads a key.
    ///
    /// # Errors
    ///
    /// As [`Get`].
    pub fn get(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Get {
        Get::new(self.target(family), Value::copied(key.as_ref()))
    }

    /// Reads a key and lends its value to a closure; see [`ColumnFamily::get_with`].
    ///
    /// # Errors
    ///
    /// As [`GetWith`].
    pub fn get_with<T, F>(
        &self,
        family: &ColumnFamily,
        key: impl AsRef<[u8]>,
        look: F,
    ) -> GetWith<F>
    where
        F: FnOnce(Option<&[u8]>) -> T,
    {
        GetWith::new(self.target(family), Value::copied(key.as_ref()), look)
    }

    /// Reads many keys.
    ///
    /// # Errors
    ///
    /// As [`MultiGet`].
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        family: &ColumnFamily,
        keys: impl IntoIterator<Item = K>,
    ) -> MultiGet {
        MultiGet::new(self.target(family), together(keys))
    }

    /// Whether a key is there.
    ///
    /// # Errors
    ///
    /// As [`Get`].
    pub fn contains(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Contains {
        Contains::new(self.target(family), Bytes::copy_from_slice(key.as_ref()))
    }

    /// The rows of a range of keys.
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
        let engine = self.db.engine();
        let origin = family.origin_at(engine, &self.pinned, &span);
        Range::new(engine.clone(), origin, span)
    }
}
