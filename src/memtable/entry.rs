//! One version of one key, and all versions of one key.
//!
//! An entry does not copy: its row is a slice of the batch's own buffer, key bytes first, value
//! bytes behind them. Versions of a key live together and not as neighbours in the leaf, so that a
//! counter updated a million times neither fills leaves with ties nor makes `get` walk: the newest
//! version is the last of a vector sorted by seq, any other is a binary search away. (A linked
//! chain, newest first, was rejected: an old snapshot would walk it under the leaf's lock.)

use bytes::Bytes;

use crate::ids::Seq;

/// What a version says about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The value's bytes are here.
    Put,
    /// The value's bytes are in an extent of their own; here is the encoded reference.
    Extent,
    /// The key is gone.
    Delete,
}

/// A version of a key as it lies in the memtable, and as scans hand it out: a clone shares the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) seq: Seq,
    row: Bytes,
    key_len: u32,
    pub(crate) kind: Kind,
}

/// The answer of a lookup; the value shares the memtable's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) seq: Seq,
    pub(crate) kind: Kind,
    pub(crate) value: Bytes,
}

#[cfg(test)]
/// The answer of a lookup, lent for the time of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoundRef<'a> {
    pub(crate) seq: Seq,
    pub(crate) kind: Kind,
    pub(crate) value: &'a [u8],
}

impl Entry {
    /// A version whose row is `key_len` bytes of key, then the value.
    pub(crate) fn new(seq: Seq, kind: Kind, row: Bytes, key_len: usize) -> Entry {
        assert!(key_len <= row.len(), "the key is a part of the row");
        let key_len = u32::try_from(key_len).expect("a batch, and so a key, is below 4 GiB");
        Entry { seq, row, key_len, kind }
    }

    /// The key's bytes.
    pub(crate) fn key(&self) -> &[u8] {
        &self.row[..self.key_len as usize]
    }

    /// The key, sharing the row.
    pub(crate) fn key_bytes(&self) -> Bytes {
        self.row.slice(..self.key_len as usize)
    }

    /// The value's bytes, or the encoded reference of its extent; empty for a delete.
    pub(crate) fn value(&self) -> &[u8] {
        &self.row[self.key_len as usize..]
    }

    /// The value, sharing the row.
    pub(crate) fn value_bytes(&self) -> Bytes {
        self.row.slice(self.key_len as usize..)
    }

    /// Bytes of key and value.
    pub(crate) fn row_bytes(&self) -> usize {
        self.row.len()
    }

    /// What this version answers to a lookup.
    pub(super) fn found(&self) -> Found {
        Found { seq: self.seq, kind: self.kind, value: self.value_bytes() }
    }

    #[cfg(test)]
    pub(super) fn lent(&self) -> FoundRef<'_> {
        FoundRef { seq: self.seq, kind: self.kind, value: self.value() }
    }

    /// The same key, deleted at `seq`.
    pub(super) fn deleted(&self, seq: Seq) -> Entry {
        Entry { seq, row: self.key_bytes(), key_len: self.key_len, kind: Kind::Delete }
    }
}

/// All versions of one key, oldest first; never empty.
///
/// Versions of equal seq are operations of one batch: the later operation is the later version, and
/// wins.
pub(super) enum Versions {
    One(Entry),
    /// Boxed, because most keys have one version and the slot should be as small as that.
    #[expect(clippy::box_collection, reason = "keeps a slot of the leaf at 48 bytes")]
    Many(Box<Vec<Entry>>),
}

const _: () = assert!(size_of::<Versions>() == 48 && size_of::<Entry>() == 48);

impl Versions {
    pub(super) fn all(&self) -> &[Entry] {
        match self {
            Versions::One(entry) => std::slice::from_ref(entry),
            Versions::Many(entries) => entries,
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        self.first().key()
    }

    pub(super) fn key_bytes(&self) -> Bytes {
        self.first().key_bytes()
    }

    fn first(&self) -> &Entry {
        match self {
            Versions::One(entry) => entry,
            Versions::Many(entries) => &entries[0],
        }
    }

    /// The newest version at or below `at`.
    pub(super) fn visible(&self, at: Seq) -> Option<&Entry> {
        self.all()[..self.count_until(at)].last()
    }

    /// How many versions are at or below `at`; nearly always all.
    pub(super) fn count_until(&self, at: Seq) -> usize {
        let all = self.all();
        match all.last() {
            Some(newest) if newest.seq <= at => all.len(),
            _ => all.partition_point(|entry| entry.seq <= at),
        }
    }

    /// Adds a version; gives the heap bytes that this took.
    pub(super) fn add(&mut self, entry: Entry) -> usize {
        let before = self.heap_bytes();
        let place = self.count_until(entry.seq);
        match self {
            Versions::One(only) => {
                let mut entries = Vec::with_capacity(2);
                entries.push(only.clone());
                entries.insert(place, entry);
                *self = Versions::Many(Box::new(entries));
            }
            Versions::Many(entries) => entries.insert(place, entry),
        }
        self.heap_bytes() - before
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Versions::One(_) => 0,
            Versions::Many(entries) => {
                size_of::<Vec<Entry>>() + entries.capacity() * size_of::<Entry>()
            }
        }
    }
}
