//! Bringing frozen memtables into trees.
//!
//! Where the rows lie close together in the newest tree, they are merged into it. Where they do not, nearly every leaf of a
//! large tree would be written again for a few rows each, so they become a new tree in front of the others, for the
//! [`compaction`](super::compaction) to make one of several later.
//!
//! A merge in place writes leaves besides the rows, and no promise covers those: where there is no room for them the rows become
//! a tree too, which needs about their own bytes.
//!
//! Range deletes are carried out in every older tree at once: leaves that they cover are dropped unread. So no tree has to
//! remember any.
//!
//! The rows of all families wait in the log for one checkpoint, so a node that cannot be read must not stop it: rows that were to be
//! merged into its tree become one of their own, which reads nothing. Only a range delete whose border lies in such a node has no way
//! around it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::alloc::reserve::promised_pages;
use crate::checkpoint::estimate::{self, Cost, Sample};
use crate::checkpoint::filters;
use crate::checkpoint::freeze::{Frozen, FrozenFamily};
use crate::checkpoint::merge::{Nothing, Task};
use crate::checkpoint::policy::{self, TREES_AT_MOST, TREES_FILLED_MAX};
use crate::checkpoint::reader::{Reader, is_unreadable};
use crate::checkpoint::rows::Rows;
use crate::checkpoint::writer::Writer;
use crate::engine::{Engine, Loaded};
use crate::error::Result;
use crate::ids::{FamilyId, Seq};
use crate::memtable::{self, Memtable};
use crate::state::{Kept, Tree};
use crate::tree::{Leaves, RangeDelete, Tombstones, Walk, WalkStep};

/// Nodes that a walk names ahead of need.
const READ_AHEAD_NODES: usize = 32;

/// The trees of every family that changed, newest first.
pub(crate) type Trees = HashMap<FamilyId, Vec<Tree>>;

/// What a flush may take of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// All that is free, and what the file can grow by.
    Ample,
    /// The same, but others wait: nothing is read.
    Quick,
    /// There was not enough for more than the rows: nothing is read, and no filter written.
    Scarce,
}

/// Brings the frozen memtables of all families into trees. `busy` trees are being made one of others, and take no rows.
pub(super) async fn flush(
    engine: &Arc<Engine>,
    frozen: &Frozen,
    means: Means,
    busy: impl Fn(FamilyId, &Tree) -> bool,
    writer: &mut Writer<'_>,
) -> Result<Trees> {
    let mut trees = Trees::new();
    for part in &frozen.families {
        let id = part.family.id;
        let view = engine.state().view(id).cloned();
        let Some(view) = view else { continue };
        let dropped = part.family.dropped().is_some_and(|seq| seq <= frozen.seq);
        let flushed = match dropped {
            true => {
                Rows::new(&part.memtable.table, frozen.seq).drop_values(writer);
                drop_trees(engine, id, &view.trees, writer).await?;
                Vec::new()
            }
            false => {
                let takes_rows = view.trees.first().is_some_and(|tree| !busy(id, tree));
                let flush = Flush { engine, id, part, seq: frozen.seq, means };
                flush.run(view.trees.clone(), takes_rows, writer).await?
            }
        };
        trees.insert(id, flushed);
    }
    Ok(trees)
}

/// Puts a tree in front of those of its family.
pub(super) fn put_in_front(
    engine: &Engine,
    trees: &mut Trees,
    loaded: &Loaded,
    writer: &mut Writer<'_>,
) {
    let kept = |id| engine.state().view(id).map(|view| view.trees.clone()).unwrap_or_default();
    let id = loaded.family.id;
    trees.entry(id).or_insert_with(|| kept(id)).insert(0, loaded.tree.clone());
    writer.name_pages(&loaded.pages);
}

/// One family's part.
struct Flush<'a> {
    engine: &'a Arc<Engine>,
    id: FamilyId,
    part: &'a FrozenFamily,
    seq: Seq,
    means: Means,
}

/// Where rows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Newest,
    New,
}

impl Flush<'_> {
    fn table(&self) -> &Memtable {
        &self.part.memtable.table
    }

    /// The trees of the family with the rows in them.
    async fn run(
        self,
        trees: Vec<Tree>,
        takes_rows: bool,
        writer: &mut Writer<'_>,
    ) -> Result<Vec<Tree>> {
        let ranges = self.table().range_deletes(self.seq);
        if ranges.iter().any(memtable::RangeDelete::is_of_all_keys) {
            drop_trees(self.engine, self.id, &trees, writer).await?;
            return Ok(self.build(&[], writer).await?.into_iter().collect());
        }
        let ranges = ranges.into_iter();
        let ranges = ranges.map(|range| RangeDelete { low: range.low, high: Some(range.high) });
        let ranges: Vec<_> = ranges.collect();
        let target = self.target(&trees, takes_rows).await;
        let before = writer.mark();
        match self.bring(&trees, &ranges, target, writer).await {
            Err(error)
                if is_unreadable(&error)
                    && target == Target::Newest
                    && trees.len() < TREES_FILLED_MAX =>
            {
                writer.take_back(before).await?;
                self.bring(&trees, &ranges, Target::New, writer).await
            }
            brought => brought,
        }
    }

    /// Carries out the range deletes, and puts the rows where they go.
    async fn bring(
        &self,
        trees: &[Tree],
        ranges: &[RangeDelete],
        target: Target,
        writer: &mut Writer<'_>,
    ) -> Result<Vec<Tree>> {
        let (newest, trees) = match (target, trees) {
            (Target::Newest, [newest, older @ ..]) => (Some(newest), older),
            (Target::Newest, []) | (Target::New, _) => (None, trees),
        };
        let mut older = Vec::new();
        if !ranges.is_empty() {
            // From the oldest on: whether one is the oldest depends on what is left of those.
            for tree in trees.iter().rev() {
                let tombstones = tombstones_over(&older);
                older.extend(self.without_ranges(tree, ranges, tombstones, writer).await?);
            }
            older.reverse();
        } else {
            older = trees.to_vec();
        }
        let merged = match newest {
            Some(tree) => self.merge_into(tree, ranges.to_vec(), &older, writer).await?,
            None => self.build(&older, writer).await?,
        };
        older.splice(..0, merged);
        Ok(older)
    }

    async fn target(&self, trees: &[Tree], takes_rows: bool) -> Target {
        let Some(newest) = trees.first() else { return Target::New };
        let stays_apart = self.means != Means::Ample && trees.len() < TREES_FILLED_MAX;
        if !takes_rows || stays_apart {
            return Target::New;
        }
        if trees.len() >= TREES_AT_MOST {
            return Target::Newest;
        }
        let sample = Sample::of(self.table(), self.seq);
        let is_oldest = trees.len() == 1;
        if !is_oldest && !has_room(&newest.kept, &sample) {
            return Target::New;
        }
        let mut reader = Reader::new(self.engine, self.id);
        // What cannot be read for an estimate could not be merged into either.
        let Ok(cost) = estimate::cost(&mut reader, newest, &sample).await else {
            return Target::New;
        };
        let merges = match policy::is_worth_merging(cost) {
            true => self.fits(cost).await,
            false => self.gives_room(cost),
        };
        if merges { Target::Newest } else { Target::New }
    }

    /// Whether the file has, or can have, what is written beyond the pages that were promised to the rows.
    async fn fits(&self, cost: Cost) -> bool {
        let beyond = cost.pages().saturating_sub(promised_pages(cost.rows_bytes));
        let spare = self.engine.space.lock().spare_pages();
        beyond <= spare || self.engine.pages_to_merge(beyond).await == beyond
    }

    /// On a full disk what is replaced or deleted is to give its pages back at once, if there are pages to do so.
    fn gives_room(&self, cost: Cost) -> bool {
        self.engine.is_full() && 2 * cost.pages() <= self.engine.space.lock().spare_pages()
    }

    fn task(&self, tree: Option<&Tree>, tombstones: Tombstones) -> Task<'_> {
        Task {
            engine: self.engine,
            family: self.id,
            base: tree.map(|tree| tree.root),
            ranges: Vec::new(),
            tombstones,
        }
    }

    /// What is left of an older tree.
    async fn without_ranges(
        &self,
        tree: &Tree,
        ranges: &[RangeDelete],
        tombstones: Tombstones,
        writer: &mut Writer<'_>,
    ) -> Result<Option<Tree>> {
        let task = Task { ranges: ranges.to_vec(), ..self.task(Some(tree), tombstones) };
        let root = task.run(&mut Nothing, None, writer).await?;
        if root.is_none() {
            writer.retire_pages(tree.kept.blob.extent);
        }
        Ok(root.map(|root| tree.with_root(root)))
    }

    /// The newest tree with the rows in it.
    async fn merge_into(
        &self,
        tree: &Tree,
        ranges: Vec<RangeDelete>,
        older: &[Tree],
        writer: &mut Writer<'_>,
    ) -> Result<Option<Tree>> {
        let mut rows = Rows::new(self.table(), self.seq);
        let known = tree.kept.filter().filter(|_| self.may_have_filter(older));
        let mut filter = known.map(|filter| self.engine.filters.replacement(filter.clone()));
        let task = Task { ranges, ..self.task(Some(tree), tombstones_over(older)) };
        let root = task.run(&mut rows, filter.as_deref_mut(), writer).await?;
        rows.hand_over(writer);
        writer.retire_pages(tree.kept.blob.extent);
        filters::attach(root, filter, writer).await
    }

    /// A family's oldest tree has none.
    fn may_have_filter(&self, older: &[Tree]) -> bool {
        !older.is_empty() && self.means != Means::Scarce
    }

    /// A tree of the rows alone.
    async fn build(&self, older: &[Tree], writer: &mut Writer<'_>) -> Result<Option<Tree>> {
        let mut rows = Rows::new(self.table(), self.seq);
        let keys = self.table().keys() as u64;
        let has_filter = self.may_have_filter(older);
        let mut filter = has_filter.then(|| self.engine.filters.begin(keys, 0)).flatten();
        let task = self.task(None, tombstones_over(older));
        let root = task.run(&mut rows, filter.as_deref_mut(), writer).await?;
        rows.hand_over(writer);
        filters::attach(root, filter, writer).await
    }
}

/// Deletes leave rows where older trees may have rows that they hide.
fn tombstones_over(older: &[Tree]) -> Tombstones {
    if older.is_empty() { Tombstones::Drop } else { Tombstones::Keep }
}

/// Whether the tree's filter, if it has one, can learn the keys.
fn has_room(kept: &Kept, sample: &Sample) -> bool {
    match kept.filter() {
        Some(filter) => filter.has_room_for(sample.new_keys(filter)),
        None => kept.blob.extent.is_empty(),
    }
}

/// Retires every page of trees whose rows are all gone. A node that cannot be read keeps its pages, and those of what it alone
/// names: they are lost, as a check says, and others are not.
async fn drop_trees(
    engine: &Arc<Engine>,
    id: FamilyId,
    trees: &[Tree],
    writer: &mut Writer<'_>,
) -> Result<()> {
    let mut reader = Reader::new(engine, id);
    for tree in trees {
        writer.retire_pages(tree.kept.blob.extent);
        let mut walk = Walk::new(&tree.root, Leaves::WithExtents);
        let mut step = walk.step(None);
        loop {
            match step {
                Ok(WalkStep::Done) => break,
                Ok(WalkStep::Unread(node)) => writer.retire_pages(node.extent()),
                Ok(WalkStep::Extent(value)) => writer.retire_pages(value.extent),
                Ok(WalkStep::Need(wanted)) => {
                    reader.read_ahead(wanted, walk.upcoming(READ_AHEAD_NODES));
                    match reader.fetch(wanted).await {
                        Ok(node) => {
                            step = reader.with_bytes(&node, |bytes| walk.step(Some(bytes)));
                            if step.is_ok() {
                                writer.retire_pages(wanted.node.extent());
                            }
                            continue;
                        }
                        Err(error) if is_unreadable(&error) => walk.skip(),
                        Err(error) => return Err(error),
                    }
                }
                // It contradicts its parent: the walk has passed over it.
                Err(_) => {}
            }
            step = walk.step(None);
        }
    }
    Ok(())
}
