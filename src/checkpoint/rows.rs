//! The rows of a frozen memtable, as changes.

use std::ops::Bound;

use bytes::Bytes;

use crate::checkpoint::merge::Source;
use crate::checkpoint::writer::Writer;
use crate::error::Result;
use crate::format::value::ExtentValue;
use crate::ids::Seq;
use crate::memtable::{Drained, Kind, Memtable, Scanned};
use crate::read::lookup::decoded;
use crate::tree::{Changes, RowValue};

/// Keys taken out of a memtable at a time.
const DRAIN_KEYS: usize = 256;

/// The newest version of every key of a frozen memtable, in key order.
pub(super) struct Rows<'a> {
    table: &'a Memtable,
    seq: Seq,
    next: Option<Bound<Bytes>>,
    /// Values with extents that a tree is going to name.
    named: Vec<ExtentValue>,
    /// Those that none ever will.
    superseded: Vec<ExtentValue>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(table: &'a Memtable, seq: Seq) -> Rows<'a> {
        let (named, superseded) = (Vec::new(), Vec::new());
        Rows { table, seq, next: Some(Bound::Unbounded), named, superseded }
    }

    /// The rows are in a tree: it names the values that they have.
    pub(super) fn hand_over(self, writer: &mut Writer<'_>) {
        self.named.iter().for_each(|value| writer.name_value(value));
        self.superseded.iter().for_each(|value| writer.supersede(value));
    }

    /// The family was dropped: no tree will ever name its values.
    pub(super) fn drop_values(mut self, writer: &mut Writer<'_>) {
        while !self.drain().is_empty() {}
        let values = self.named.iter().chain(&self.superseded);
        values.for_each(|value| writer.supersede(value));
    }

    /// Some rows; none at the end.
    fn drain(&mut self) -> Changes {
        let mut changes = Changes::default();
        let Some(next) = self.next.take() else { return changes };
        let from = next.as_ref().map(|key| &key[..]);
        let (named, superseded) = (&mut self.named, &mut self.superseded);
        let scanned = self.table.drain(from, self.seq, DRAIN_KEYS, |drained| match drained {
            Drained::Superseded(reference) => superseded.push(decoded(reference)),
            Drained::Newest { kind, key, value } => {
                if kind == Kind::Extent {
                    named.push(decoded(value));
                }
                changes.push(key, row_value(kind, value));
            }
        });
        if scanned == Scanned::More {
            self.next = changes.last_key().map(|key| Bound::Excluded(Bytes::copy_from_slice(key)));
        }
        changes
    }
}

fn row_value(kind: Kind, value: &[u8]) -> RowValue<'_> {
    match kind {
        Kind::Put => RowValue::Inline(value),
        Kind::Extent => RowValue::Extent(value),
        Kind::Delete => RowValue::Tombstone,
    }
}

impl Source for Rows<'_> {
    async fn more(&mut self, _: &mut Writer<'_>) -> Result<Changes> {
        Ok(self.drain())
    }
}
