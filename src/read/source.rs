//! One sorted source of a scan: a memtable or a tree, read a chunk at a time.
//!
//! A source remembers only the bound from which its next chunk starts, so nothing is locked or
//! pinned between chunks, and a scan that is dropped leaves nothing behind. (I11)

use std::collections::VecDeque;
use std::ops::Bound;

use bytes::Bytes;

use crate::format::node_ref::TreeRoot;
use crate::ids::Seq;
use crate::memtable::{self, Entry, Kind, Memtable, Scanned};
use crate::page::cache::View;
use crate::tree::{self, Direction, Leaf, LeafAt, RowValue, Step, Wanted};

/// What a source says about a key.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Inline(Bytes),
    /// An encoded reference.
    Extent(Bytes),
    Deleted,
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) key: Bytes,
    pub(crate) content: Content,
}

/// The part of the key space that a scan covers.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) low: Bound<Bytes>,
    pub(crate) high: Bound<Bytes>,
    pub(crate) direction: Direction,
}

/// Rows that wait to be merged, and where the next ones come from.
#[derive(Debug)]
pub(crate) struct Source {
    rows: VecDeque<Row>,
    next: Option<Bound<Bytes>>,
}

impl Source {
    pub(crate) fn new(span: &Span) -> Source {
        let start = match span.direction {
            Direction::Forward => &span.low,
            Direction::Backward => &span.high,
        };
        Source { rows: VecDeque::new(), next: Some(start.clone()) }
    }

    /// Rows that are all there, in the order of the scan.
    pub(crate) fn of_rows(rows: Vec<Row>) -> Source {
        Source { rows: rows.into(), next: None }
    }

    /// Whether a chunk must be read before the next row is known.
    pub(crate) fn needs_rows(&self) -> bool {
        self.rows.is_empty() && self.next.is_some()
    }

    /// Where the next chunk starts.
    pub(crate) fn next_bound(&self) -> Option<Bound<&[u8]>> {
        self.next.as_ref().map(|bound| as_slice(bound))
    }

    pub(crate) fn head(&self) -> Option<&Bytes> {
        self.rows.front().map(|row| &row.key)
    }

    pub(crate) fn pop(&mut self) -> Option<Row> {
        self.rows.pop_front()
    }

    /// Reads up to `max` rows out of a memtable.
    pub(crate) fn fill_from_memtable(
        &mut self,
        table: &Memtable,
        at: Seq,
        span: &Span,
        max: usize,
    ) {
        let Some(next) = self.next.take() else { return };
        let (low, high, direction) = match span.direction {
            Direction::Forward => {
                (as_slice(&next), as_slice(&span.high), memtable::Direction::Forward)
            }
            Direction::Backward => {
                (as_slice(&span.low), as_slice(&next), memtable::Direction::Backward)
            }
        };
        let mut entries = Vec::new();
        let scanned = table.scan(low, high, at, direction, max, &mut entries);
        if scanned == Scanned::More {
            self.next = entries.last().map(|entry| Bound::Excluded(entry.key_bytes()));
        }
        self.rows.extend(entries.iter().map(row_of_entry));
    }

    /// Reads up to `max` rows out of one leaf of a tree, or names the page that is missing.
    pub(crate) fn fill_from_tree(
        &mut self,
        pages: &View<'_>,
        tree: &TreeRoot,
        span: &Span,
        max: usize,
    ) -> Option<Wanted> {
        let next = self.next.as_ref()?;
        match tree::seek_leaf(pages, tree, as_slice(next), span.direction) {
            Step::Missing(wanted) => Some(wanted),
            Step::Ready(at) => {
                self.take_leaf(at, span, max);
                None
            }
        }
    }

    fn take_leaf<P: std::ops::Deref<Target = [u8]>>(
        &mut self,
        at: LeafAt<P>,
        span: &Span,
        max: usize,
    ) {
        let leaf = Leaf::new(&at.page);
        let (from, to, order) = match span.direction {
            Direction::Forward => {
                let end = end_of(&leaf, &span.high);
                (at.row, end, Order::Ascending { ends: end < leaf.len() })
            }
            Direction::Backward => {
                let start = start_of(&leaf, &span.low);
                (start, at.row, Order::Descending { ends: start > 0 })
            }
        };
        let (rows, cut) = copy_rows(&leaf, from..to.max(from), &order, max);
        self.next = match (cut, order) {
            (true, _) => rows.last().map(|row| Bound::Excluded(row.key.clone())),
            (false, Order::Ascending { ends: true } | Order::Descending { ends: true }) => None,
            (false, Order::Ascending { ends: false }) => {
                at.fence.map(|fence| Bound::Included(fence.into()))
            }
            (false, Order::Descending { ends: false }) => {
                at.fence.map(|fence| Bound::Excluded(fence.into()))
            }
        };
        debug_assert!(self.rows.is_empty(), "a chunk is read when none is left");
        self.rows = rows.into();
    }
}

/// How the rows of a leaf are taken, and whether the span ends inside it.
enum Order {
    Ascending { ends: bool },
    Descending { ends: bool },
}

/// Copies rows into one buffer that they share; true if there were more than `max`.
fn copy_rows(
    leaf: &Leaf<'_>,
    range: std::ops::Range<usize>,
    order: &Order,
    max: usize,
) -> (Vec<Row>, bool) {
    let cut = range.len() > max;
    let len = range.len().min(max);
    let range = match order {
        Order::Ascending { .. } => range.start..range.start + len,
        Order::Descending { .. } => range.end - len..range.end,
    };
    let row_bytes = |(key, value): (tree::Key<'_>, RowValue<'_>)| key.len() + value.bytes().len();
    let bytes = range.clone().map(|index| row_bytes(leaf.row(index))).sum();
    let mut buffer = Vec::with_capacity(bytes);
    for index in range.clone() {
        let (key, value) = leaf.row(index);
        key.write_to(&mut buffer);
        buffer.extend_from_slice(value.bytes());
    }
    let mut rest = Bytes::from(buffer);
    let rows = range.map(|index| {
        let (key, value) = leaf.row(index);
        let key = rest.split_to(key.len());
        let bytes = rest.split_to(value.bytes().len());
        let content = match value {
            RowValue::Inline(_) => Content::Inline(bytes),
            RowValue::Extent(_) => Content::Extent(bytes),
            RowValue::Tombstone => Content::Deleted,
        };
        Row { key, content }
    });
    let mut rows: Vec<Row> = rows.collect();
    if let Order::Descending { .. } = order {
        rows.reverse();
    }
    (rows, cut)
}

fn row_of_entry(entry: &Entry) -> Row {
    let content = match entry.kind {
        Kind::Put => Content::Inline(entry.value_bytes()),
        Kind::Extent => Content::Extent(entry.value_bytes()),
        Kind::Delete => Content::Deleted,
    };
    Row { key: entry.key_bytes(), content }
}

fn end_of(leaf: &Leaf<'_>, high: &Bound<Bytes>) -> usize {
    match high {
        Bound::Unbounded => leaf.len(),
        Bound::Included(key) => leaf.upper_bound(key),
        Bound::Excluded(key) => leaf.lower_bound(key),
    }
}

fn start_of(leaf: &Leaf<'_>, low: &Bound<Bytes>) -> usize {
    match low {
        Bound::Unbounded => 0,
        Bound::Included(key) => leaf.lower_bound(key),
        Bound::Excluded(key) => leaf.upper_bound(key),
    }
}

pub(crate) fn as_slice(bound: &Bound<Bytes>) -> Bound<&[u8]> {
    bound.as_ref().map(|key| &key[..])
}
