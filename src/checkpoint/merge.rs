//! Merging frozen memtables into trees.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::checkpoint::freeze::{Frozen, FrozenFamily};
use crate::checkpoint::reader::Reader;
use crate::checkpoint::writer::Writer;
use crate::commit::signal::yield_now;
use crate::engine::Engine;
use crate::error::Result;
use crate::format::node_ref::TreeRoot;
use crate::format::value::ExtentValue;
use crate::ids::{FamilyId, Seq};
use crate::memtable::{Drained, Entry, Kind, Memtable, Scanned};
use crate::read::lookup::decoded;
use crate::state::FamilyView;
use crate::tree::{
    Change, Leaves, Merge, MergeStep, RangeDelete, Settings, Tombstones, Walk, WalkStep,
};

/// Nodes that a merge names ahead of need.
const READ_AHEAD_NODES: usize = 32;

/// Keys taken out of a memtable at a time.
const DRAIN_KEYS: usize = 256;

/// The trees of every family that changed.
pub(crate) type Trees = HashMap<FamilyId, Vec<TreeRoot>>;

pub(crate) async fn merge(
    engine: &Arc<Engine>,
    frozen: &Frozen,
    writer: &mut Writer<'_>,
) -> Result<Trees> {
    let mut trees = Trees::new();
    for part in &frozen.families {
        let id = part.family.id;
        let view = engine.state().view(id).cloned();
        let Some(view) = view else { continue };
        let dropped = part.family.dropped().is_some_and(|seq| seq <= frozen.seq);
        let merged = match dropped {
            true => {
                drop_values(&part.memtable.table, frozen.seq, writer);
                drop_trees(engine, &view, writer).await?;
                Vec::new()
            }
            false => merge_family(engine, &view, part, frozen.seq, writer).await?,
        };
        trees.insert(id, merged);
    }
    Ok(trees)
}

async fn merge_family(
    engine: &Arc<Engine>,
    view: &FamilyView,
    part: &FrozenFamily,
    seq: Seq,
    writer: &mut Writer<'_>,
) -> Result<Vec<TreeRoot>> {
    let id = view.family.id;
    let table = &part.memtable.table;
    let settings = Settings { family: id, file_id: engine.file_id, tombstones: Tombstones::Drop };
    let ranges = table.range_deletes(seq).into_iter();
    let ranges = ranges.map(|range| RangeDelete { low: range.low, high: Some(range.high) });
    let values = Rc::new(RefCell::new(Values::default()));
    let changes = Changes::new(table, seq, values.clone());
    let mut merge = Merge::new(view.trees.first().copied(), changes, ranges.collect(), settings);
    let mut reader = Reader::new(engine, id);
    let mut step = merge.step(writer, None);
    let root = loop {
        match step.map_err(|corrupt| reader.contradiction(&corrupt))? {
            MergeStep::Done(root) => break root,
            MergeStep::Yield => {
                writer.flush().await?;
                yield_now().await;
                step = merge.step(writer, None);
            }
            MergeStep::Need(wanted) => {
                reader.read_ahead(merge.upcoming(READ_AHEAD_NODES));
                let node = reader.fetch(wanted).await?;
                writer.set_warm(node.is_cached());
                step = reader.with_bytes(&node, |bytes| merge.step(writer, Some(bytes)));
                writer.flush().await?;
            }
        }
    };
    drop(merge);
    values.take().hand_over(writer);
    writer.flush().await?;
    Ok(root.into_iter().collect())
}

/// Values with extents that the frozen memtable held.
#[derive(Default)]
struct Values {
    named: Vec<ExtentValue>,
    superseded: Vec<ExtentValue>,
}

impl Values {
    fn hand_over(self, writer: &mut Writer<'_>) {
        self.named.iter().for_each(|value| writer.name_value(value));
        self.superseded.iter().for_each(|value| writer.supersede(value));
    }
}

/// The newest version of every key of a frozen memtable, in key order.
struct Changes<'a> {
    table: &'a Memtable,
    seq: Seq,
    next: Option<Bound<Bytes>>,
    chunk: std::vec::IntoIter<Entry>,
    values: Rc<RefCell<Values>>,
}

impl<'a> Changes<'a> {
    fn new(table: &'a Memtable, seq: Seq, values: Rc<RefCell<Values>>) -> Changes<'a> {
        let (next, chunk) = (Some(Bound::Unbounded), Vec::new().into_iter());
        Changes { table, seq, next, chunk, values }
    }

    fn refill(&mut self) {
        let Some(next) = self.next.take() else { return };
        let from = next.as_ref().map(|key| &key[..]);
        let mut drained = Drained::default();
        if self.table.drain(from, self.seq, DRAIN_KEYS, &mut drained) == Scanned::More {
            self.next = drained.rows.last().map(|entry| Bound::Excluded(entry.key_bytes()));
        }
        let superseded = drained.superseded.iter().map(|entry| decoded(entry.value()));
        self.values.borrow_mut().superseded.extend(superseded);
        self.chunk = drained.rows.into_iter();
    }
}

impl Iterator for Changes<'_> {
    type Item = (Bytes, Change);

    fn next(&mut self) -> Option<(Bytes, Change)> {
        if self.chunk.as_slice().is_empty() {
            self.refill();
        }
        let entry = self.chunk.next()?;
        let change = match entry.kind {
            Kind::Put => Change::Put(entry.value_bytes()),
            Kind::Delete => Change::Delete,
            Kind::Extent => {
                let value = decoded(entry.value());
                self.values.borrow_mut().named.push(value.clone());
                Change::Extent(value)
            }
        };
        Some((entry.key_bytes(), change))
    }
}

/// The values of a dropped family that no tree ever named.
fn drop_values(table: &Memtable, seq: Seq, writer: &mut Writer<'_>) {
    let values = Rc::new(RefCell::new(Values::default()));
    Changes::new(table, seq, values.clone()).for_each(drop);
    let mut values = values.take();
    values.superseded.append(&mut values.named);
    values.hand_over(writer);
}

/// Retires every page of a dropped family's trees.
async fn drop_trees(
    engine: &Arc<Engine>,
    view: &FamilyView,
    writer: &mut Writer<'_>,
) -> Result<()> {
    let mut reader = Reader::new(engine, view.family.id);
    for tree in &view.trees {
        let mut walk = Walk::new(tree, Leaves::WithExtents);
        let mut step = walk.step(None);
        loop {
            match step.map_err(|corrupt| reader.contradiction(&corrupt))? {
                WalkStep::Done => break,
                WalkStep::Unread(node) => writer.retire_pages(node.extent()),
                WalkStep::Extent(value) => writer.retire_pages(value.extent),
                WalkStep::Need(wanted) => {
                    reader.read_ahead(walk.upcoming(READ_AHEAD_NODES));
                    let node = reader.fetch(wanted).await?;
                    writer.retire_pages(wanted.node.extent());
                    step = reader.with_bytes(&node, |bytes| walk.step(Some(bytes)));
                    continue;
                }
            }
            step = walk.step(None);
        }
    }
    Ok(())
}
