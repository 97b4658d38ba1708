//! Rows that a scan has read and not given yet, in one buffer.
//!
//! ```text
//! of each row   4 len   of the key
//!               4 len   of the value; the top bit: it is the reference of an extent; the next one: it lies apart
//!                       key, value
//! ```
//!
//! Behind the last row there may be zeros. Memory of its own for each row, key or value cost more than copying it. What a caller keeps keeps
//! the buffer, which is a window's rows: those of one leaf of every tree, and of memtables within their span.

use std::cmp::Ordering;
use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::read::lookup::{self, Stored};
use crate::tree::{FRONT_BYTES, HEADER_OF_COPY_BYTES, Key, Leaf};
use crate::value::{SHORT_BYTES_MAX, Value};

/// Bytes in front of each row.
pub(crate) const HEADER_BYTES: usize = HEADER_OF_COPY_BYTES;
/// Set in the length of a value that is a reference.
const EXTENT: u32 = 1 << 31;
/// Set in the length of a value that lies apart.
const APART: u32 = 1 << 30;

/// The value of a row.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    Inline(&'a [u8]),
    /// An encoded reference.
    Extent(&'a [u8]),
    /// A value too large to be copied.
    Apart(&'a Bytes),
}

/// A key as its source has it.
#[derive(Clone, Copy)]
pub(crate) enum KeyAt<'a> {
    Whole(&'a [u8]),
    /// As a node of a tree stores it.
    Parts(Key<'a>),
}

impl KeyAt<'_> {
    #[inline]
    fn len(&self) -> usize {
        match self {
            KeyAt::Whole(key) => key.len(),
            KeyAt::Parts(key) => key.len(),
        }
    }

    #[inline]
    pub(crate) fn order(&self, other: &[u8]) -> Ordering {
        match self {
            KeyAt::Whole(key) => (*key).cmp(other),
            KeyAt::Parts(key) => key.order(other),
        }
    }

    #[inline]
    pub(crate) fn order_key(&self, other: &KeyAt<'_>) -> Ordering {
        match (self, other) {
            (_, KeyAt::Whole(other)) => self.order(other),
            (KeyAt::Whole(key), KeyAt::Parts(other)) => other.order(key).reverse(),
            (KeyAt::Parts(key), KeyAt::Parts(other)) => key.order_key(other),
        }
    }

    pub(crate) fn to_value(self) -> Value {
        Value::made(self.len(), |out| match self {
            KeyAt::Whole(key) => out.copy_from_slice(key),
            KeyAt::Parts(key) => key.copy_to(out),
        })
    }
}

/// Rows on their way into a chunk.
pub(crate) struct Rows {
    bytes: Vec<u8>,
    apart: VecDeque<Bytes>,
}

impl Rows {
    /// Room for that many bytes, headers included.
    pub(crate) fn with_capacity(bytes: usize) -> Rows {
        Rows { bytes: Vec::with_capacity(bytes + FRONT_BYTES), apart: VecDeque::new() }
    }

    /// Adds a row behind the others.
    pub(crate) fn add(&mut self, key: &[u8], content: Content<'_>) {
        let (value, flag) = match content {
            Content::Inline(bytes) => (bytes, 0),
            Content::Extent(bytes) => (bytes, EXTENT),
            Content::Apart(bytes) => {
                self.apart.push_back(bytes.clone());
                (&[][..], APART)
            }
        };
        self.bytes.extend_from_slice(&header(key.len(), value.len(), flag));
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    /// The same for rows of a leaf, but those whose keys were deleted.
    #[inline]
    pub(crate) fn add_rows_of(&mut self, leaf: &Leaf<'_>, rows: impl Iterator<Item = usize>) {
        leaf.copy_rows(rows, &mut self.bytes, |key_len, value_len, is_extent| {
            header(key_len, value_len, if is_extent { EXTENT } else { 0 })
        });
    }
}

#[inline]
fn header(key_len: usize, value_len: usize, flag: u32) -> [u8; HEADER_BYTES] {
    (u64::from(value_len as u32 | flag) << 32 | u64::from(key_len as u32)).to_le_bytes()
}

/// Rows that wait to be taken.
#[derive(Default)]
pub(crate) struct Chunk {
    bytes: Bytes,
    /// How many of the bytes lie behind the last row.
    spare_bytes: usize,
    apart: VecDeque<Bytes>,
}

/// A row that is looked at where it lies. It is taken when this is dropped, looked at or not.
pub(crate) struct Lent<'a> {
    bytes: &'a mut Bytes,
    value_at: usize,
    end: usize,
}

impl Lent<'_> {
    /// Shows key and value.
    #[inline]
    pub(crate) fn show<T>(self, look: impl FnOnce(&[u8], &[u8]) -> T) -> T {
        look(&self.bytes[HEADER_BYTES..self.value_at], &self.bytes[self.value_at..self.end])
    }
}

impl Drop for Lent<'_> {
    #[inline]
    fn drop(&mut self) {
        self.bytes.advance(self.end);
    }
}

impl From<Rows> for Chunk {
    fn from(mut rows: Rows) -> Chunk {
        // `Bytes` count references to a full vector only when it is shared, which one whose rows are lent never is.
        let spare_bytes = rows.bytes.capacity() - rows.bytes.len();
        rows.bytes.resize(rows.bytes.capacity(), 0);
        Chunk { bytes: rows.bytes.into(), spare_bytes, apart: rows.apart }
    }
}

impl Chunk {
    /// Takes the next row if its value lies here, as nearly all do.
    #[inline]
    pub(crate) fn pop_whole(&mut self) -> Option<(Value, Value)> {
        let (key_len, value_len) = self.header_of_whole()?;
        self.bytes.advance(HEADER_BYTES);
        Some((self.take(key_len), self.take(value_len)))
    }

    /// The same, and lends the row where it lies.
    #[inline]
    pub(crate) fn lend_whole(&mut self) -> Option<Lent<'_>> {
        let (key_len, value_len) = self.header_of_whole()?;
        let value_at = HEADER_BYTES + key_len as usize;
        Some(Lent { bytes: &mut self.bytes, value_at, end: value_at + value_len as usize })
    }

    /// Whether there is a next row.
    pub(crate) fn has_next(&self) -> bool {
        self.header().is_some()
    }

    /// Whether there is a next row, and its value lies here.
    pub(crate) fn is_next_whole(&self) -> bool {
        self.header_of_whole().is_some()
    }

    /// The header of the next row, if its value lies here.
    #[inline]
    fn header_of_whole(&self) -> Option<(u32, u32)> {
        self.header().filter(|(_, value_len)| value_len & (EXTENT | APART) == 0)
    }

    /// Takes the next row.
    pub(crate) fn pop(&mut self) -> Option<(Value, Stored)> {
        let (key_len, value_len) = self.header()?;
        self.bytes.advance(HEADER_BYTES);
        let key = self.take(key_len);
        let value = self.take(value_len & !(EXTENT | APART));
        let stored = match value_len & (EXTENT | APART) {
            0 => Stored::Inline(value),
            APART => Stored::Inline(Value::new(self.apart.pop_front().expect("one for each mark"))),
            _ => Stored::Extent(lookup::decoded(&value)),
        };
        Some((key, stored))
    }

    #[inline]
    fn header(&self) -> Option<(u32, u32)> {
        let header = self.bytes.first_chunk().filter(|_| self.bytes.len() > self.spare_bytes);
        let header = u64::from_le_bytes(*header?);
        Some((header as u32, (header >> 32) as u32))
    }

    #[inline]
    fn take(&mut self, len: u32) -> Value {
        let len = len as usize;
        if len > SHORT_BYTES_MAX {
            return Value::new(self.bytes.split_to(len));
        }
        let value = Value::copied(&self.bytes[..len]);
        self.bytes.advance(len);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory for rows of so many bytes, of which there may be less.
    fn filled(bytes: usize, rows: &[(&str, Content<'_>)]) -> Chunk {
        let mut out = Rows::with_capacity(bytes);
        rows.iter().for_each(|(key, content)| out.add(key.as_bytes(), *content));
        out.into()
    }

    fn value(text: &str) -> Value {
        Value::copied(text.as_ref())
    }

    #[test]
    fn rows_come_out_as_they_went_in() {
        let apart = Bytes::from_static(b"1912");
        let rows = [
            ("", Content::Inline(b"none")),
            ("a", Content::Inline(b"1815")),
            ("c", Content::Apart(&apart)),
            ("cc", Content::Inline(b"")),
        ];
        for spare in 0..40 {
            let mut chunk = filled(spare, &rows);
            let mut taken = Vec::new();
            while let Some((key, stored)) = chunk.pop() {
                let Stored::Inline(value) = stored else { panic!("no reference went in") };
                taken.push((key, value));
            }
            let expected = [("", "none"), ("a", "1815"), ("c", "1912"), ("cc", "")];
            assert_eq!(taken, expected.map(|(key, text)| (value(key), value(text))));
            assert!(!chunk.is_next_whole());
        }
    }

    #[test]
    fn whole_rows_are_lent_and_taken_until_one_is_not_whole() {
        let long = "long".repeat(30);
        let apart = Bytes::from_static(b"1912");
        let rows = [
            ("a", Content::Inline(b"1815")),
            ("b", Content::Inline(long.as_bytes())),
            ("c", Content::Inline(b"")),
            ("d", Content::Apart(&apart)),
        ];
        for spare in 0..40 {
            let mut chunk = filled(140 + spare, &rows);
            let lent =
                chunk.lend_whole().map(|row| row.show(|key, value| (key.to_vec(), value.to_vec())));
            assert_eq!(lent, Some((b"a".to_vec(), b"1815".to_vec())));
            assert_eq!(chunk.pop_whole(), Some((value("b"), value(&long))));
            assert!(chunk.is_next_whole());
            assert_eq!(chunk.pop_whole(), Some((value("c"), value(""))));
            assert!(!chunk.is_next_whole() && chunk.lend_whole().is_none());
            assert!(chunk.pop().is_some_and(|(key, _)| key == value("d")));
            assert!(chunk.pop().is_none() && chunk.pop_whole().is_none());
        }
    }
}
