//! Making one tree of several, a slice at a time.
//!
//! ```text
//! base     ├───────────┤ merged ├─────────── unread ───────────┤       oldest of the trees, or none
//! sources  ├ ─ ─ cut off ─ ─ ─ ┤K├──────── what is left ───────┤       each younger one
//! ```
//!
//! A slice merges the rows of the sources below some key K into the base, and cuts them off the sources. Both become visible
//! with one superblock, so each row, node and extent is in one tree at any time (I9), the file does not double, and a
//! crash loses nothing: the trees that it finds are a family's trees like any others. The next slice begins where the sources
//! now begin. Flushes go on between slices.
//!
//! A family's oldest tree is a base: leaves of it that do not change are kept. Others have filters, which must know every key,
//! so of them a new tree is made.
//!
//! Which trees are being merged is only remembered in memory. Meanwhile they take no new rows, so that a source never has an older
//! version of a row that the base has already.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use ringdb_uring::planted::{self, Bug};

use crate::checkpoint::filters;
use crate::checkpoint::flush::Trees;
use crate::checkpoint::merge::{Nothing, Task};
use crate::checkpoint::sources::Sources;
use crate::checkpoint::writer::{Extents, Writer};
use crate::engine::Engine;
use crate::error::Result;
use crate::format::node_ref::TreeRoot;
use crate::ids::FamilyId;
use crate::state::{Charged, FamilyView, Filters, Kept, Tree};
use crate::tree::{Filter, RangeDelete, Tombstones};

/// Some trees of a family that become one.
pub(super) struct Compaction {
    pub(super) family: FamilyId,
    pub(super) goal: Goal,
    /// The tree that takes the rows, once there is one.
    base: Option<Arc<Kept>>,
    /// Newest first.
    sources: Vec<Arc<Kept>>,
    filter: MadeFilter,
}

/// The filter of the tree that is made.
enum MadeFilter {
    /// It has none: it is the family's oldest, or there was no room.
    Never,
    /// It is begun with the first slice: many compactions may wait.
    Wanted,
    /// It knows the keys that were merged so far.
    Begun(Charged),
}

/// Why trees are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Their sizes call for it.
    BySize,
    /// The family is to have one tree.
    One,
}

/// What a slice came to, to be published.
pub(super) struct Slice {
    pub(super) trees: Trees,
    pub(super) base: Option<Arc<Kept>>,
    /// Whether nothing is left to be merged.
    pub(super) is_last: bool,
}

impl Compaction {
    /// Prepares to make one of a run of a family's trees.
    pub(super) fn new(view: &FamilyView, run: Range<usize>, goal: Goal) -> Compaction {
        let has_oldest = run.end == view.trees.len();
        let trees = &view.trees[run];
        let (base, sources) = match trees.split_last() {
            Some((oldest, younger)) if has_oldest => (Some(oldest.kept.clone()), younger),
            _ => (None, trees),
        };
        let filter = if base.is_some() { MadeFilter::Never } else { MadeFilter::Wanted };
        let sources = sources.iter().map(|tree| tree.kept.clone()).collect();
        Compaction { family: view.family.id, goal, base, sources, filter }
    }

    /// Whether the tree is part of it.
    pub(super) fn has(&self, tree: &Tree) -> bool {
        self.is_source(tree) || self.is_base(tree)
    }

    fn is_source(&self, tree: &Tree) -> bool {
        self.sources.iter().any(|source| tree.is(source))
    }

    fn is_base(&self, tree: &Tree) -> bool {
        self.base.as_ref().is_some_and(|base| tree.is(base))
    }

    /// Pages of the trees that are left to be merged, of a family's.
    pub(super) fn left_pages(&self, trees: &[Tree]) -> u64 {
        self.left(trees).map(|tree| tree.root.pages).sum()
    }

    /// The trees that are left to be merged, of a family's.
    pub(super) fn left<'t>(&self, trees: &'t [Tree]) -> impl Iterator<Item = &'t Tree> {
        trees.iter().filter(|tree| self.is_source(tree))
    }

    /// Merges the rows up to a bound; all that is written is the writer's to publish.
    pub(super) async fn slice(
        &mut self,
        engine: &Arc<Engine>,
        trees: &[Tree],
        bound_bytes: u64,
        writer: &mut Writer<'_>,
    ) -> Result<Slice> {
        let base = trees.iter().find(|tree| self.is_base(tree)).cloned();
        let sources: Vec<Tree> = self.left(trees).cloned().collect();
        self.filter.begin(&engine.filters, &sources);
        let is_oldest = trees.last().is_some_and(|tree| self.has(tree));
        let forgets_deletes = is_oldest || planted::is(Bug::DeletesForgotten);
        let task = Task {
            engine,
            family: self.family,
            base: base.as_ref().map(|base| base.root),
            ranges: Vec::new(),
            tombstones: if forgets_deletes { Tombstones::Drop } else { Tombstones::Keep },
        };
        let mut rows = Sources::new(engine, self.family, &sources, bound_bytes, writer);
        let root = task.run(&mut rows, self.filter.made(), writer).await?;
        let (cut, superseded) = rows.finish();
        superseded.into_iter().for_each(|extent| writer.retire_pages(extent));
        writer.set_extents(Extents::Move);
        let mut left = Vec::new();
        for source in &sources {
            left.push(self.cut_off(engine, source, cut.as_ref(), writer).await?);
        }
        writer.set_extents(Extents::Retire);
        let merged = self.merged(base.as_ref(), root, cut.is_none(), writer).await?;
        let kept = merged.as_ref().map(|tree| tree.kept.clone());
        let trees = self.replace(trees, merged, left);
        let trees = Trees::from([(self.family, trees)]);
        Ok(Slice { trees, base: kept, is_last: cut.is_none() })
    }

    /// A slice was published.
    pub(super) fn advance(&mut self, slice_base: Option<Arc<Kept>>) {
        self.base = slice_base;
    }

    /// What is left of a source from `cut` on.
    async fn cut_off(
        &self,
        engine: &Arc<Engine>,
        source: &Tree,
        cut: Option<&Bytes>,
        writer: &mut Writer<'_>,
    ) -> Result<Option<Tree>> {
        let ranges = vec![RangeDelete { low: Bytes::new(), high: cut.cloned() }];
        let (family, base) = (self.family, Some(source.root));
        let task = Task { engine, family, base, ranges, tombstones: Tombstones::Keep };
        let root = task.run(&mut Nothing, None, writer).await?;
        if root.is_none() {
            writer.retire_pages(source.kept.blob.extent);
        }
        Ok(root.map(|root| source.with_root(root)))
    }

    /// The tree that takes the rows. One that is not whole yet has no filter.
    async fn merged(
        &mut self,
        base: Option<&Tree>,
        root: Option<TreeRoot>,
        is_whole: bool,
        writer: &mut Writer<'_>,
    ) -> Result<Option<Tree>> {
        if let Some(base) = base {
            // It has become the family's oldest by what was deleted; its filter does not know the new keys.
            writer.retire_pages(base.kept.blob.extent);
        }
        let filter = if is_whole { self.filter.take() } else { None };
        filters::attach(root, filter, writer).await
    }

    /// The family's trees after a slice.
    fn replace(&self, trees: &[Tree], merged: Option<Tree>, left: Vec<Option<Tree>>) -> Vec<Tree> {
        let (mut merged, mut left) = (merged, left.into_iter());
        let has_base = trees.iter().any(|tree| self.is_base(tree));
        let mut after = Vec::with_capacity(trees.len() + 1);
        for tree in trees {
            if self.is_source(tree) {
                if !has_base {
                    after.extend(merged.take());
                }
                after.extend(left.next().flatten());
            } else if self.is_base(tree) {
                after.extend(merged.take());
            } else {
                after.push(tree.clone());
            }
        }
        after
    }
}

impl MadeFilter {
    /// Makes one for the rows of all sources, if it is wanted and memory has room for it when theirs are gone.
    fn begin(&mut self, filters: &Arc<Filters>, sources: &[Tree]) {
        match self {
            MadeFilter::Never | MadeFilter::Begun(_) => return,
            MadeFilter::Wanted => {}
        }
        let rows = sources.iter().map(|tree| tree.root.rows).sum();
        let replaced = sources.iter().filter_map(|tree| tree.kept.filter());
        let begun = filters.begin(rows, replaced.map(Filter::len_bytes).sum());
        *self = begun.map_or(MadeFilter::Never, MadeFilter::Begun);
    }

    fn made(&mut self) -> Option<&mut Filter> {
        match self {
            MadeFilter::Never | MadeFilter::Wanted => None,
            MadeFilter::Begun(filter) => Some(filter),
        }
    }

    fn take(&mut self) -> Option<Charged> {
        match std::mem::replace(self, MadeFilter::Never) {
            MadeFilter::Never | MadeFilter::Wanted => None,
            MadeFilter::Begun(filter) => Some(filter),
        }
    }
}
