//! What one sorted source of a scan has in a window: own rows, a memtable, or a leaf of a tree.
//!
//! A source lives for one step of the scan, under its guard: nothing is locked or pinned between
//! steps, and a scan that is dropped leaves nothing behind. (I11)

use std::ops::{Bound, Range};

use bytes::Bytes;

use crate::ids::Seq;
use crate::memtable::{self, Copied, Kind, Memtable, Scanned};
use crate::page::cache::{Page, View};
use crate::read::chunk::{Content, HEADER_BYTES, KeyAt, Rows};
use crate::read::span::{Span, as_slice, is_nearer, is_within};
use crate::tree::{Direction, Leaf, LeafAt, Pages, RowValue, VALUE_BYTES_MAX};
use crate::value::Value;

/// Bytes of a leaf's rows that are asked for at once: as many lines as a processor waits for.
const NEAR_BYTES_MAX: usize = 4096;

/// A row of a transaction's own.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) key: Bytes,
    /// `None`: it was deleted.
    pub(crate) value: Option<Bytes>,
}

/// The rows of one source, in the order of the scan.
pub(crate) struct Source<'a> {
    /// Newer sources have smaller ages.
    pub(crate) age: usize,
    ends: Ends,
    kind: Of<'a>,
}

/// Where the rows of a source end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// Perhaps behind the window.
    Elsewhere,
    /// With the window, when its end had been moved so often.
    After(usize),
}

enum Of<'a> {
    Own(&'a [Row]),
    Memtable { copied: Copied, rows: Range<usize> },
    Tree { leaf: Leaf<'a>, rows: Range<usize>, direction: Direction },
}

/// Where a window ends, as far as its sources have said.
pub(crate) struct Window<'s> {
    span: &'s Span,
    /// Nearer than the span's end, if one is.
    far: Option<Bound<Value>>,
    /// How often the end was moved.
    moves: usize,
}

impl<'s> Window<'s> {
    pub(crate) fn new(span: &'s Span) -> Window<'s> {
        Window { span, far: None, moves: 0 }
    }

    #[inline]
    fn far(&self) -> Bound<&[u8]> {
        self.far.as_ref().map_or_else(|| self.span.far(), as_slice)
    }

    /// Ends the window at this key, unless it ends before.
    fn end_at(&mut self, key: KeyAt<'_>, includes: bool) -> Ends {
        if !is_nearer(self.span.direction, |far| key.order(far), includes, self.far()) {
            return Ends::Elsewhere;
        }
        let key = key.to_value();
        self.far = Some(if includes { Bound::Included(key) } else { Bound::Excluded(key) });
        self.moves += 1;
        Ends::After(self.moves)
    }

    /// Takes away what lies behind the end.
    pub(crate) fn cut(&self, source: &mut Source<'_>) {
        if source.ends != Ends::After(self.moves) {
            source.cut(self.span.direction, self.far());
        }
    }

    /// The end, if it is not the span's.
    pub(crate) fn into_far(self) -> Option<Bound<Value>> {
        self.far
    }
}

impl<'a> Source<'a> {
    /// Rows that are all there.
    pub(crate) fn of_own(rows: &'a [Row], age: usize) -> Source<'a> {
        Source { age, ends: Ends::Elsewhere, kind: Of::Own(rows) }
    }

    /// Up to `max` rows of the leaf that a scan came to. What the leaf does not tell ends the window.
    #[inline]
    pub(crate) fn of_leaf(
        pages: &View<'a>,
        at: LeafAt<Page<'a>>,
        max: usize,
        age: usize,
        window: &mut Window<'_>,
    ) -> Source<'a> {
        let direction = window.span.direction;
        let leaf = Leaf::new(at.page.bytes());
        let all = match direction {
            Direction::Forward => at.row..leaf.len(),
            Direction::Backward => 0..at.row,
        };
        let len = all.len().min(max);
        let rows = match direction {
            Direction::Forward => all.start..all.start + len,
            Direction::Backward => all.end - len..all.end,
        };
        let bytes = leaf.rows_range(&rows);
        pages.bring_near(at.page, bytes.start..bytes.end.min(bytes.start + NEAR_BYTES_MAX));
        let ends = if len < all.len() {
            let last = match direction {
                Direction::Forward => rows.end - 1,
                Direction::Backward => rows.start,
            };
            window.end_at(KeyAt::Parts(leaf.key(last)), true)
        } else if let Some(fence) = at.fence() {
            window.end_at(KeyAt::Parts(fence), direction == Direction::Backward)
        } else {
            Ends::Elsewhere
        };
        Source { age, ends, kind: Of::Tree { leaf, rows, direction } }
    }

    /// Up to `max` rows of a memtable. If it has more, the last one ends the window.
    pub(crate) fn of_memtable(
        table: &Memtable,
        at: Seq,
        max: usize,
        age: usize,
        window: &mut Window<'_>,
    ) -> Source<'a> {
        let (near, far) = (window.span.near(), window.far());
        let (low, high, direction) = match window.span.direction {
            Direction::Forward => (near, far, memtable::Direction::Forward),
            Direction::Backward => (far, near, memtable::Direction::Backward),
        };
        let (copied, scanned) = table.scan(low, high, at, direction, max);
        let rows = 0..copied.len();
        let ends = match (scanned, rows.end.checked_sub(1)) {
            (Scanned::More, Some(last)) => window.end_at(KeyAt::Whole(copied.key(last)), true),
            (Scanned::More, None) | (Scanned::End, _) => Ends::After(window.moves),
        };
        Source { age, ends, kind: Of::Memtable { copied, rows } }
    }

    fn cut(&mut self, direction: Direction, far: Bound<&[u8]>) {
        match &mut self.kind {
            Of::Own(rows) => {
                let within = |row: &Row| is_within(direction, |far| row.key[..].cmp(far), far);
                *rows = &rows[..rows.partition_point(within)];
            }
            Of::Memtable { copied, rows } => {
                let within = |key: &[u8]| is_within(direction, |far| key.cmp(far), far);
                rows.end = copied.count_within(within);
            }
            Of::Tree { leaf, rows, .. } => match direction {
                Direction::Forward => rows.end = rows.end.min(end_of(leaf, far)),
                Direction::Backward => rows.start = rows.start.max(start_of(leaf, far)),
            },
        }
    }

    /// How many rows are left.
    pub(crate) fn len(&self) -> usize {
        match &self.kind {
            Of::Own(rows) => rows.len(),
            Of::Memtable { rows, .. } | Of::Tree { rows, .. } => rows.len(),
        }
    }

    /// How many rows of a transaction's own are left.
    pub(crate) fn own_len(&self) -> usize {
        match &self.kind {
            Of::Own(rows) => rows.len(),
            Of::Memtable { .. } | Of::Tree { .. } => 0,
        }
    }

    /// The next row, whose value is `None` if its key was deleted; there must be one.
    #[inline]
    pub(crate) fn row(&self) -> (KeyAt<'_>, Option<Content<'_>>) {
        match &self.kind {
            Of::Own(rows) => {
                (KeyAt::Whole(&rows[0].key), rows[0].value.as_ref().map(Content::Apart))
            }
            Of::Memtable { copied, rows } => {
                let content = match copied.value(rows.start) {
                    (Kind::Put, value) => Some(Content::Inline(value)),
                    (Kind::Extent, value) => Some(Content::Extent(value)),
                    (Kind::Delete, _) => None,
                };
                (KeyAt::Whole(copied.key(rows.start)), content)
            }
            Of::Tree { leaf, rows, direction } => {
                let (key, value) = leaf.row(next_index(rows, *direction));
                let content = match value {
                    RowValue::Inline(value) => Some(Content::Inline(value)),
                    RowValue::Extent(value) => Some(Content::Extent(value)),
                    RowValue::Tombstone => None,
                };
                (KeyAt::Parts(key), content)
            }
        }
    }

    /// Bytes that the rows take in a chunk.
    pub(crate) fn chunk_bytes(&self) -> usize {
        let bytes = match &self.kind {
            Of::Own(rows) => rows.iter().map(own_bytes).sum(),
            Of::Memtable { copied, rows } => copied.bytes_of(rows),
            Of::Tree { leaf, rows, .. } => leaf.bytes_of(rows),
        };
        bytes + self.len() * HEADER_BYTES
    }

    /// The key of the next row; there must be one.
    #[inline]
    pub(crate) fn key(&self) -> KeyAt<'_> {
        match &self.kind {
            Of::Own(rows) => KeyAt::Whole(&rows[0].key),
            Of::Memtable { copied, rows } => KeyAt::Whole(copied.key(rows.start)),
            Of::Tree { leaf, rows, direction } => {
                KeyAt::Parts(leaf.key(next_index(rows, *direction)))
            }
        }
    }

    /// Adds the next row; there must be one.
    #[inline]
    pub(crate) fn add_to(&self, out: &mut Rows) {
        match &self.kind {
            Of::Own(rows) => add_own(&rows[0], out),
            Of::Memtable { copied, rows } => add_copied(copied, rows.start, out),
            Of::Tree { leaf, rows, direction } => {
                out.add_rows_of(leaf, std::iter::once(next_index(rows, *direction)));
            }
        }
    }

    /// Adds all rows, as nothing lies between them or hides them.
    pub(crate) fn take_to(&mut self, out: &mut Rows) {
        match &mut self.kind {
            Of::Own(rows) => std::mem::take(rows).iter().for_each(|row| add_own(row, out)),
            Of::Memtable { copied, rows } => {
                std::mem::take(rows).for_each(|index| add_copied(copied, index, out));
            }
            Of::Tree { leaf, rows, direction } => {
                let rows = std::mem::take(rows);
                match direction {
                    Direction::Forward => out.add_rows_of(leaf, rows),
                    Direction::Backward => out.add_rows_of(leaf, rows.rev()),
                }
            }
        }
    }

    /// Goes on behind the next row; there must be one.
    #[inline]
    pub(crate) fn advance(&mut self) {
        match &mut self.kind {
            Of::Own(rows) => *rows = &rows[1..],
            Of::Memtable { rows, .. } | Of::Tree { rows, direction: Direction::Forward, .. } => {
                rows.start += 1
            }
            Of::Tree { rows, direction: Direction::Backward, .. } => rows.end -= 1,
        }
    }
}

/// The next of the rows of a leaf.
#[inline]
fn next_index(rows: &Range<usize>, direction: Direction) -> usize {
    match direction {
        Direction::Forward => rows.start,
        Direction::Backward => rows.end - 1,
    }
}

fn own_bytes(row: &Row) -> usize {
    let value = row.value.as_ref().filter(|value| value.len() <= VALUE_BYTES_MAX);
    row.key.len() + value.map_or(0, Bytes::len)
}

fn add_own(row: &Row, out: &mut Rows) {
    match &row.value {
        None => {}
        Some(value) if value.len() > VALUE_BYTES_MAX => out.add(&row.key, Content::Apart(value)),
        Some(value) => out.add(&row.key, Content::Inline(value)),
    }
}

fn add_copied(rows: &Copied, index: usize, out: &mut Rows) {
    match rows.value(index) {
        (Kind::Put, value) => out.add(rows.key(index), Content::Inline(value)),
        (Kind::Extent, value) => out.add(rows.key(index), Content::Extent(value)),
        (Kind::Delete, _) => {}
    }
}

fn end_of(leaf: &Leaf<'_>, high: Bound<&[u8]>) -> usize {
    match high {
        Bound::Unbounded => leaf.len(),
        Bound::Included(key) => leaf.upper_bound(key),
        Bound::Excluded(key) => leaf.lower_bound(key),
    }
}

fn start_of(leaf: &Leaf<'_>, low: Bound<&[u8]>) -> usize {
    match low {
        Bound::Unbounded => 0,
        Bound::Included(key) => leaf.lower_bound(key),
        Bound::Excluded(key) => leaf.upper_bound(key),
    }
}
