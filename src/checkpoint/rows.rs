//! The rows of a frozen memtable, as changes.

use std::ops::Bound;

use bytes::Bytes;

use crate::checkpoint::merge::Source;
use crate::checkpoint::writer::Writer;
use crate::error::Result;
use crate::format::value::ExtentValue;
use crate::ids::Seq;
use crate::memtable::{Drained, Entry, Kind, Memtable, Scanned};
use crate::read::lookup::decoded;
use crate::tree::Change;

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
        let mut rows = Vec::new();
        while self.drain(&mut rows) {
            rows.clear();
        }
        let values = self.named.iter().chain(&self.superseded);
        values.for_each(|value| writer.supersede(value));
    }

    /// Appends some rows; false if there were none.
    fn drain(&mut self, out: &mut Vec<(Bytes, Change)>) -> bool {
        let Some(next) = self.next.take() else { return false };
        let from = next.as_ref().map(|key| &key[..]);
        let mut drained = Drained::default();
        if self.table.drain(from, self.seq, DRAIN_KEYS, &mut drained) == Scanned::More {
            self.next = drained.rows.last().map(|entry| Bound::Excluded(entry.key_bytes()));
        }
        let superseded = drained.superseded.iter().map(|entry| decoded(entry.value()));
        self.superseded.extend(superseded);
        out.extend(drained.rows.iter().map(|entry| (entry.key_bytes(), self.change(entry))));
        !drained.rows.is_empty()
    }

    fn change(&mut self, entry: &Entry) -> Change {
        match entry.kind {
            Kind::Put => Change::Put(entry.value_bytes()),
            Kind::Delete => Change::Delete,
            Kind::Extent => {
                let value = decoded(entry.value());
                self.named.push(value.clone());
                Change::Extent(value)
            }
        }
    }
}

impl Source for Rows<'_> {
    async fn more(&mut self, _: &mut Writer<'_>, out: &mut Vec<(Bytes, Change)>) -> Result<()> {
        self.drain(out);
        Ok(())
    }
}
