//! Making one tree of the rows of an ingest, of any number and in any order, in bounded memory.
//!
//! ```text
//! rows ─▶ pieces, sorted ─▶ runs: trees that nothing names ─▶ merged, some at a time ─▶ one tree
//! ```
//!
//! It runs in the caller's own task, beside checkpoints, and names nothing: its pages are allocated like any others and
//! listed as free by every superblock, so that a crash leaks none. The tree is durable when it is handed over. Dropped at any
//! point, it gives back what it wrote.

use std::sync::Arc;

use crate::alloc::reserve::promised_pages;
use crate::checkpoint::filters;
use crate::checkpoint::inlet::{Inlet, Intake};
use crate::checkpoint::merge::{Source, Task};
use crate::checkpoint::sources::{Keys, Sources};
use crate::checkpoint::writer::Writer;
use crate::engine::{Engine, Loaded};
use crate::error::Result;
use crate::format::node_ref::TreeRoot;
use crate::ids::PageId;
use crate::page::space::Taker;
use crate::page::unpublished::Unpublished;
use crate::state::{Charged, Family, Tree};
use crate::tree::{Changes, Filter, KeyHash, Tombstones};

/// Part of the memory for memtables that an ingest holds rows in, besides two pieces.
const HELD_SHARE: usize = 8;
/// A piece is this part of them, so that sorting one takes a millisecond or so.
const PIECE_SHARE: usize = 4;
/// Bytes of a piece at most.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// Runs of one rank that become one of the next.
const RUNS_MERGED: usize = 16;
/// Bytes of a row in a leaf besides key and value, at most.
const ROW_BYTES: usize = 32;
/// Pages of the path to the leaf that rows go to, besides those of the rows.
const PATH_PAGES: u64 = 8;

/// Bytes of the pieces in which rows are to come.
pub(crate) fn piece_bytes(engine: &Engine) -> usize {
    (held_bytes(engine) / PIECE_SHARE).min(PIECE_BYTES_MAX)
}

fn held_bytes(engine: &Engine) -> usize {
    engine.shares.memtable_bytes_max / HELD_SHARE
}

/// A tree of some of the rows, each key once.
struct Run {
    root: TreeRoot,
    /// How often its rows were merged.
    rank: u32,
    nodes: Unpublished,
}

struct Load<'a> {
    engine: &'a Arc<Engine>,
    family: &'a Family,
    writer: Writer<'a>,
    /// In the order in which they came: later ones have the newer rows.
    runs: Vec<Run>,
}

/// Takes rows in until there are no more; the tree of all of them, if there were any.
pub(crate) async fn load(
    engine: Arc<Engine>,
    family: Arc<Family>,
    inlet: Arc<Inlet>,
) -> Result<Option<Box<Loaded>>> {
    let values = Unpublished::new(&engine.space);
    let mut intake = Intake::new(&inlet, held_bytes(&engine), values);
    let writer = Writer::for_taker(&engine, Taker::Ingest);
    let mut load = Load { engine: &engine, family: &family, writer, runs: Vec::new() };
    while !intake.is_over() {
        intake.begin_run();
        load.run(&mut intake).await?;
        while load.is_due() {
            let from = load.runs.len() - RUNS_MERGED;
            load.merge(from, &mut None, &mut intake.values).await?;
        }
    }
    let Some((low, high)) = intake.bounds.take() else { return Ok(None) };
    let (tree, mut pages) = load.finish(&mut intake.values).await?;
    pages.absorb(intake.values);
    Ok(Some(Box::new(Loaded { family: family.clone(), tree, low, high, pages })))
}

impl Load<'_> {
    /// Builds the next run.
    async fn run(&mut self, intake: &mut Intake<'_>) -> Result<()> {
        let (root, nodes) = self.build(intake, None).await?;
        self.runs.extend(root.map(|root| Run { root, rank: 0, nodes }));
        Ok(())
    }

    /// A tree of the rows, which are the oldest that it is about.
    async fn build(
        &mut self,
        source: &mut impl Source,
        filter: Option<&mut Filter>,
    ) -> Result<(Option<TreeRoot>, Unpublished)> {
        let engine = self.engine;
        let mut nodes = Unpublished::new(&engine.space);
        let (base, ranges) = (None, Vec::new());
        let family = self.family.id;
        let task = Task { engine, family, base, ranges, tombstones: Tombstones::Drop };
        let mut source = Roomy { engine, family: self.family, source, nodes: &mut nodes };
        let root = task.run(&mut source, filter, &mut self.writer).await?;
        // Then pages can be freed at once.
        self.writer.settle().await?;
        self.writer.hand_over(&mut nodes);
        Ok((root, nodes))
    }

    fn is_due(&self) -> bool {
        let Some(newest) = self.runs.last() else { return false };
        let equal = self.runs.iter().rev().take_while(|run| run.rank == newest.rank);
        equal.count() >= RUNS_MERGED
    }

    /// Makes one of the runs from there on.
    async fn merge(
        &mut self,
        from: usize,
        filter: &mut Option<Charged>,
        values: &mut Unpublished,
    ) -> Result<()> {
        let trees: Vec<_> =
            self.runs[from..].iter().rev().map(|run| Tree::plain(run.root)).collect();
        let rank = self.runs.last().map_or(0, |run| run.rank + 1);
        let mut rows = Sources::new(self.engine, self.family.id, &trees, u64::MAX, &self.writer);
        let (root, nodes) = self.build(&mut rows, filter.as_deref_mut()).await?;
        let (_, superseded) = rows.finish();
        superseded.into_iter().for_each(|extent| values.release_some(extent));
        let merged: Vec<_> = self.runs.drain(from..).collect();
        merged.into_iter().for_each(|run| self.release(run.nodes));
        self.runs.extend(root.map(|root| Run { root, rank, nodes }));
        Ok(())
    }

    /// Frees the nodes of a run that was merged, and what the cache has of them.
    fn release(&self, nodes: Unpublished) {
        for extent in nodes.extents() {
            let pages = extent.start.0..extent.end().0;
            pages.for_each(|page| self.engine.pages.forget(PageId(page)));
        }
        nodes.release();
    }

    /// The tree of all rows, durable, and its nodes.
    async fn finish(&mut self, values: &mut Unpublished) -> Result<(Tree, Unpublished)> {
        let mut filter = self.begin_filter();
        match (self.runs.len(), &mut filter) {
            (1, None) => {}
            (1, Some(filter)) => self.learn(filter).await?,
            _ => self.merge(0, &mut filter, values).await?,
        }
        let Run { root, mut nodes, .. } = self.runs.pop().expect("there are rows");
        let tree = filters::attach(Some(root), filter, &mut self.writer).await?;
        self.writer.sync().await?;
        self.writer.hand_over(&mut nodes);
        Ok((tree.expect("it has a root"), nodes))
    }

    /// A filter, if there are older trees that the new one is in front of.
    fn begin_filter(&self) -> Option<Charged> {
        let has_older =
            self.engine.state().view(self.family.id).is_some_and(|view| !view.trees.is_empty());
        let rows = self.runs.iter().map(|run| run.root.rows).sum();
        has_older.then(|| self.engine.filters.begin(rows, 0)).flatten()
    }

    /// Has the filter know the keys of the only run: how many there would be was not known before.
    async fn learn(&mut self, filter: &mut Filter) -> Result<()> {
        let tree = Tree::plain(self.runs[0].root);
        let mut keys = Keys::new(self.engine, self.family.id, &tree);
        while let Some(leaf) = keys.more().await? {
            leaf.keys().for_each(|key| filter.insert(KeyHash::of(key)));
        }
        Ok(())
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.writer.abandon();
    }
}

/// A source that hands out rows once there is room in the file for them: as much as a checkpoint would be promised.
struct Roomy<'a, S> {
    engine: &'a Engine,
    family: &'a Family,
    source: &'a mut S,
    nodes: &'a mut Unpublished,
}

impl<S: Source> Source for Roomy<'_, S> {
    async fn more(&mut self, writer: &mut Writer<'_>) -> Result<Changes> {
        drop(self.engine.pipeline.enter()?);
        self.engine.exists(self.family)?;
        writer.hand_over(self.nodes);
        let changes = self.source.more(writer).await?;
        let bytes = changes.row_bytes() + changes.len() * ROW_BYTES;
        self.engine.make_room(promised_pages(bytes as u64) + PATH_PAGES).await?;
        Ok(changes)
    }
}
