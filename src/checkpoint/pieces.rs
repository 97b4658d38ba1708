//! Rows as a caller gives them to an ingest: in pieces, each sorted by itself.

use std::collections::HashMap;

use crate::format::value::ExtentValue;
use crate::ids::PageId;
use crate::page::space::Reserved;
use crate::page::unpublished::Unpublished;
use crate::read::lookup::decoded;
use crate::tree::{Changes, RowValue};

/// Rows of several pieces that are merged at a time, and bytes of keys and values after which there are no more of them.
const ROWS: usize = 256;
const ROWS_BYTES: usize = 1 << 20;

/// Some rows, in the order in which they came.
#[derive(Default)]
pub(crate) struct Piece {
    rows: Changes,
    order: Order,
    values: Values,
}

/// The extents of large values, by their first pages: free again with what is left of the piece.
type Values = HashMap<PageId, Reserved>;

/// Whether keys ascend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Ascending,
    Any,
}

impl Piece {
    /// An empty one with memory for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Piece {
        Piece { rows: Changes::with_capacity(bytes), ..Piece::default() }
    }

    /// Bytes of memory that the rows take.
    pub(crate) fn len_bytes(&self) -> usize {
        self.rows.len_bytes()
    }

    /// Appends a row.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        self.add(key, RowValue::Inline(value));
    }

    /// Appends a row whose value was written.
    pub(crate) fn push_extent(&mut self, key: &[u8], value: &ExtentValue, reserved: Reserved) {
        self.values.insert(value.extent.start, reserved);
        self.add(key, RowValue::Extent(&value.encode()));
    }

    fn add(&mut self, key: &[u8], value: RowValue<'_>) {
        if self.rows.last_key().is_some_and(|last| last >= key) {
            self.order = Order::Any;
        }
        self.rows.push(key, value);
    }

    /// The rows in key order, of each key the last; and whether they came like that.
    pub(super) fn sort(mut self) -> (Sorted, Order) {
        if self.order == Order::Any {
            self.rows.sort();
        }
        (Sorted { rows: self.rows, taken: 0, values: self.values }, self.order)
    }
}

/// Rows in key order, to be taken from the front.
pub(super) struct Sorted {
    rows: Changes,
    taken: usize,
    values: Values,
}

impl Sorted {
    pub(super) fn first(&self) -> Option<&[u8]> {
        (self.taken < self.rows.len()).then(|| self.rows.key(self.taken))
    }

    pub(super) fn last(&self) -> Option<&[u8]> {
        self.first().and_then(|_| self.rows.last_key())
    }

    /// Bytes that it keeps in memory.
    pub(super) fn len_bytes(&self) -> usize {
        self.rows.len_bytes()
    }

    /// Takes the first row.
    fn take(&mut self, values: &mut Unpublished, out: &mut Changes) {
        self.name_value(self.taken, values);
        let (key, value) = self.rows.row(self.taken);
        out.push(key, value);
        self.taken += 1;
    }

    /// Takes all rows, if none were taken yet.
    fn take_all(&mut self, values: &mut Unpublished) -> Option<Changes> {
        if self.taken > 0 {
            return None;
        }
        if !self.values.is_empty() {
            (0..self.rows.len()).for_each(|index| self.name_value(index, values));
        }
        Some(std::mem::take(&mut self.rows))
    }

    /// The pages of a row's value are for a tree to name.
    fn name_value(&mut self, index: usize, values: &mut Unpublished) {
        let (_, RowValue::Extent(reference)) = self.rows.row(index) else { return };
        let extent = decoded(reference).extent;
        let reserved = self.values.remove(&extent.start).expect("it came with its row");
        values.add(extent);
        reserved.keep();
    }

    /// Drops the first row, if it has this key: a later one replaces it.
    fn skip(&mut self, key: &[u8]) {
        if self.first() == Some(key) {
            self.taken += 1;
        }
    }
}

/// Takes the first rows of all pieces together, of those with the same key the last piece's: a whole piece, if it is alone.
pub(super) fn take_some(pieces: &mut [Sorted], values: &mut Unpublished) -> Changes {
    if let [alone] = pieces
        && let Some(all) = alone.take_all(values)
    {
        return all;
    }
    let mut some = Changes::default();
    while some.len() < ROWS && some.row_bytes() < ROWS_BYTES {
        let Some(least) = least(pieces) else { break };
        pieces[least].take(values, &mut some);
        let key = some.last_key().expect("a row was taken");
        pieces[..least].iter_mut().for_each(|older| older.skip(key));
    }
    some
}

/// The last piece of those with the least first key.
fn least(pieces: &[Sorted]) -> Option<usize> {
    let mut least: Option<usize> = None;
    for (index, piece) in pieces.iter().enumerate() {
        let Some(key) = piece.first() else { continue };
        let before = least.and_then(|least| pieces[least].first());
        if before.is_none_or(|before| key <= before) {
            least = Some(index);
        }
    }
    least
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
        loop {
            let some = take_some(&mut pieces, &mut values);
            if some.is_empty() {
                break;
            }
            for index in 0..some.len() {
                let (key, value) = some.row(index);
                found.push(String::from_utf8([key, value.bytes()].concat()).unwrap());
            }
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
