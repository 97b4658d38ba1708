//! Rows as a caller gives them to an ingest: in pieces, each sorted by itself.

use std::vec::IntoIter;

use bytes::Bytes;

use crate::format::value::ExtentValue;
use crate::page::space::Reserved;
use crate::page::unpublished::Unpublished;
use crate::tree::Change;

/// Some rows, in the order in which they came.
#[derive(Default)]
pub(crate) struct Piece {
    bytes: Vec<u8>,
    rows: Vec<Row>,
    order: Order,
}

/// Whether keys ascend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Ascending,
    Any,
}

struct Row {
    start: u32,
    key_len: u32,
    value: Held,
}

/// Where a value is.
enum Held {
    /// So many bytes behind the key.
    Inline(u32),
    /// In an extent of its own, which is free again if the row is dropped.
    Extent(Box<(ExtentValue, Reserved)>),
}

impl Piece {
    /// An empty one with memory for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Piece {
        Piece { bytes: Vec::with_capacity(bytes), ..Piece::default() }
    }

    /// Bytes of memory that the rows take.
    pub(crate) fn len_bytes(&self) -> usize {
        self.bytes.len() + self.rows.len() * size_of::<Row>()
    }

    /// Appends a row.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        self.add(key, Held::Inline(value.len() as u32));
        self.bytes.extend_from_slice(value);
    }

    /// Appends a row whose value was written.
    pub(crate) fn push_extent(&mut self, key: &[u8], value: ExtentValue, reserved: Reserved) {
        self.add(key, Held::Extent(Box::new((value, reserved))));
    }

    fn add(&mut self, key: &[u8], value: Held) {
        if self.rows.last().is_some_and(|last| last.key(&self.bytes) >= key) {
            self.order = Order::Any;
        }
        // A piece is a few MiB at most.
        let (start, key_len) = (self.bytes.len() as u32, key.len() as u32);
        self.bytes.extend_from_slice(key);
        self.rows.push(Row { start, key_len, value });
    }

    /// The rows in key order, of each key the last; and whether they came like that.
    pub(super) fn sort(mut self) -> (Sorted, Order) {
        let bytes = Bytes::from(self.bytes);
        if self.order == Order::Any {
            self.rows.sort_by(|left, right| left.key(&bytes).cmp(right.key(&bytes)));
            self.rows.dedup_by(|later, kept| {
                let same = later.key(&bytes) == kept.key(&bytes);
                if same {
                    std::mem::swap(later, kept);
                }
                same
            });
        }
        (Sorted { bytes, rows: self.rows.into_iter() }, self.order)
    }
}

impl Row {
    fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize..][..self.key_len as usize]
    }
}

/// Rows in key order, to be taken from the front.
pub(super) struct Sorted {
    bytes: Bytes,
    rows: IntoIter<Row>,
}

impl Sorted {
    pub(super) fn first(&self) -> Option<&[u8]> {
        self.rows.as_slice().first().map(|row| row.key(&self.bytes))
    }

    pub(super) fn last(&self) -> Option<&[u8]> {
        self.rows.as_slice().last().map(|row| row.key(&self.bytes))
    }

    /// Bytes that it keeps in memory.
    pub(super) fn len_bytes(&self) -> usize {
        self.bytes.len() + self.rows.len() * size_of::<Row>()
    }

    /// Takes the first row; the pages of its value are for a tree to name.
    pub(super) fn take(&mut self, values: &mut Unpublished) -> Option<(Bytes, Change)> {
        let row = self.rows.next()?;
        let (start, end) = (row.start as usize, (row.start + row.key_len) as usize);
        let change = match row.value {
            Held::Inline(len) => Change::Put(self.bytes.slice(end..end + len as usize)),
            Held::Extent(held) => {
                let (value, reserved) = *held;
                values.add(value.extent);
                reserved.keep();
                Change::Extent(value)
            }
        };
        Some((self.bytes.slice(start..end), change))
    }

    /// Drops the first row, if it has this key: a later one replaces it.
    pub(super) fn skip(&mut self, key: &[u8]) {
        if self.first() == Some(key) {
            drop(self.rows.next());
        }
    }
}

/// Takes the row with the least key of all pieces; of those with the same key the last one's.
pub(super) fn take_least(
    pieces: &mut [Sorted],
    values: &mut Unpublished,
) -> Option<(Bytes, Change)> {
    if let [alone] = pieces {
        return alone.take(values);
    }
    let mut least: Option<usize> = None;
    for (index, piece) in pieces.iter().enumerate() {
        let Some(key) = piece.first() else { continue };
        let before = least.and_then(|least| pieces[least].first());
        if before.is_none_or(|before| key <= before) {
            least = Some(index);
        }
    }
    let least = least?;
    let row = pieces[least].take(values)?;
    pieces[..least].iter_mut().for_each(|older| older.skip(&row.0));
    Some(row)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ringdb_uring::threads::Mutex;

    use super::*;
    use crate::alloc::free_space::FreeSpace;
    use crate::page::space::Space;

    fn sorted(rows: &str) -> (Sorted, Order) {
        let mut piece = Piece::default();
        for row in rows.split_whitespace() {
            piece.push(&row.as_bytes()[..1], &row.as_bytes()[1..]);
        }
        piece.sort()
    }

    fn check(pieces: &[&str], expected: &str) {
        let free = FreeSpace::new(0);
        let space = Arc::new(Mutex::new(Space::new(free.clone(), free, 0)));
        let mut values = Unpublished::new(&space);
        let mut pieces: Vec<_> = pieces.iter().map(|rows| sorted(rows).0).collect();
        let mut found = Vec::new();
        while let Some((key, change)) = take_least(&mut pieces, &mut values) {
            let Change::Put(value) = change else { panic!("all are in place") };
            found.push(String::from_utf8([&key[..], &value[..]].concat()).unwrap());
        }
        assert_eq!(found.join(" "), expected);
    }

    #[test]
    fn of_each_key_the_last_row_counts() {
        check(&[""], "");
        check(&["b1 a1 c1 a2"], "a2 b1 c1");
        check(&["a1 a2 a3"], "a3");
        check(&["a1 c1", "b1 c2", "a2"], "a2 b1 c2");
        check(&["a1 b1", "c1 d1"], "a1 b1 c1 d1");
    }

    #[test]
    fn whether_rows_came_in_order_is_known() {
        assert_eq!(sorted("a1 b1 c1").1, Order::Ascending);
        assert_eq!(sorted("a1 a2").1, Order::Any);
        assert_eq!(sorted("b1 a1").1, Order::Any);
    }
}
