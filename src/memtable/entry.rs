//! What a memtable answers: copies of its rows, so that no lock outlives the answer.

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

/// A version of a key as scans hand it out; rows of one scan share a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) seq: Seq,
    row: Bytes,
    key_len: u32,
    pub(crate) kind: Kind,
}

/// The answer of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) seq: Seq,
    pub(crate) kind: Kind,
    pub(crate) value: Bytes,
}

impl Entry {
    /// The key's bytes.
    pub(crate) fn key(&self) -> &[u8] {
        &self.row[..self.key_len as usize]
    }

    /// Bytes of key and value.
    pub(crate) fn row_bytes(&self) -> usize {
        self.row.len()
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
}

/// Rows on their way out of a memtable: copied one after another, and shared at the end.
#[derive(Default)]
pub(super) struct Copied {
    bytes: Vec<u8>,
    rows: Vec<CopiedRow>,
}

struct CopiedRow {
    seq: Seq,
    end: usize,
    key_len: u32,
    kind: Kind,
}

impl Copied {
    /// Copies a row whose key is so long.
    pub(super) fn push(&mut self, seq: Seq, kind: Kind, row: &[u8], key_len: u32) {
        self.bytes.extend_from_slice(row);
        self.rows.push(CopiedRow { seq, end: self.bytes.len(), key_len, kind });
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The rows, in the order in which they were copied.
    pub(super) fn into_entries(self) -> impl ExactSizeIterator<Item = Entry> {
        let bytes = Bytes::from(self.bytes);
        let mut start = 0;
        self.rows.into_iter().map(move |CopiedRow { seq, end, key_len, kind }| {
            let row = bytes.slice(start..end);
            start = end;
            Entry { seq, row, key_len, kind }
        })
    }
}
