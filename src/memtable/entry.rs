//! What a memtable answers: copies of its rows, so that no lock outlives the answer.

use std::ops::Range;

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

/// The answer of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) seq: Seq,
    pub(crate) kind: Kind,
    pub(crate) value: Bytes,
}

/// Rows that a scan took out of a memtable, copied one after another.
#[derive(Default)]
pub(crate) struct Copied {
    bytes: Vec<u8>,
    rows: Vec<CopiedRow>,
}

#[derive(Clone, Copy)]
struct CopiedRow {
    start: usize,
    end: usize,
    key_len: u32,
    kind: Kind,
}

impl Copied {
    /// The key of a row.
    pub(crate) fn key(&self, index: usize) -> &[u8] {
        self.key_of(&self.rows[index])
    }

    fn key_of(&self, row: &CopiedRow) -> &[u8] {
        &self.bytes[row.start..][..row.key_len as usize]
    }

    /// How many rows come before the first one whose key is not within.
    pub(crate) fn count_within(&self, within: impl Fn(&[u8]) -> bool) -> usize {
        self.rows.partition_point(|row| within(self.key_of(row)))
    }

    /// What a row says of its key, and its value: the encoded reference of its extent, or nothing for a delete.
    pub(crate) fn value(&self, index: usize) -> (Kind, &[u8]) {
        let CopiedRow { start, end, key_len, kind, .. } = self.rows[index];
        (kind, &self.bytes[start + key_len as usize..end])
    }

    /// The keys in their order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.rows.iter().map(|row| self.key_of(row))
    }

    /// Bytes of the keys and values of these rows.
    pub(crate) fn bytes_of(&self, rows: &Range<usize>) -> usize {
        self.rows[rows.clone()].iter().map(|row| row.end - row.start).sum()
    }

    /// Copies a row whose key is so long.
    pub(super) fn push(&mut self, kind: Kind, row: &[u8], key_len: u32) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(row);
        self.rows.push(CopiedRow { start, end: self.bytes.len(), key_len, kind });
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}
