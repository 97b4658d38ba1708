//! The compactions under way, and which slice is next.
//!
//! The one with the least left goes first: small trees are many and cheap to merge, and would pile up behind a large merge.
//! A slice that finds no room ends all of them: the trees are as good as before. One that meets a node that cannot be read ends
//! those of its family. They are chosen again after the next checkpoint.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::checkpoint::compaction::{Compaction, Goal};
use crate::checkpoint::flush::Trees;
use crate::checkpoint::policy::{self, TREES_AT_MOST, TREES_BEHIND};
use crate::checkpoint::publish;
use crate::checkpoint::reader::is_unreadable;
use crate::checkpoint::writer::Writer;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{FamilyId, PAGE_BYTES};
use crate::state::{FamilyView, Tree};

/// A slice writes this part of the memory for memtables, which fill while it runs.
const SLICE_SHARE: u64 = 2;
/// Bytes that it writes at most. Catalog and free map are written for each, so that it should not be short.
const SLICE_BYTES_MAX: u64 = 32 << 20;

/// Pages that a slice needs besides what it merges: catalog and free map; and for each source the path to where it is cut.
pub(super) const BESIDES_PAGES: u64 = 8;
const PATH_PAGES: u64 = 4;
/// Fewer are not worth a superblock.
pub(super) const SLICE_PAGES_MIN: u64 = 4;

pub(super) struct Compactions {
    under_way: Vec<Compaction>,
    /// Families whose trees are to be looked at.
    changed: BTreeSet<FamilyId>,
    /// Families that are to have one tree.
    to_one: BTreeSet<FamilyId>,
    /// No slice is tried before the next checkpoint.
    postponed: bool,
    /// Nor one of these families, whose trees could not be read.
    aside: BTreeSet<FamilyId>,
}

/// What became of a slice.
pub(super) enum Sliced {
    /// It was published.
    Some,
    /// There is nothing to be merged.
    Nothing,
    /// Nothing more of its family is merged for the time being, and why.
    SetAside(Error),
    /// Nothing more is merged for the time being, and why.
    Postponed(Error),
}

impl Compactions {
    /// Whatever was under way when the database was closed is decided anew.
    pub(super) fn new(engine: &Engine) -> Compactions {
        let state = engine.state();
        let several = state.families.iter().filter(|view| view.trees.len() > 1);
        let changed = several.map(|view| view.family.id).collect();
        let (under_way, to_one, aside) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        Compactions { under_way, changed, to_one, postponed: false, aside }
    }

    /// Whether the tree is being merged.
    pub(super) fn has(&self, tree: &Tree) -> bool {
        self.under_way.iter().any(|compaction| compaction.has(tree))
    }

    /// These families may have more trees now.
    pub(super) fn flushed(&mut self, families: impl Iterator<Item = FamilyId>) {
        self.changed.extend(families);
        self.try_again();
    }

    fn try_again(&mut self) {
        self.postponed = false;
        self.changed.append(&mut self.aside);
    }

    /// Whether a family has so many trees that merging goes before flushing.
    pub(super) fn is_behind(&self, engine: &Engine) -> bool {
        let state = engine.state();
        let mut families = self.under_way.iter().map(|compaction| compaction.family);
        !self.postponed
            && families
                .any(|id| state.view(id).is_some_and(|view| view.trees.len() >= TREES_BEHIND))
    }

    /// Nothing is merged any more in families with too many trees: the newest takes rows.
    pub(super) fn give_way(&mut self, engine: &Engine) {
        let state = engine.state();
        self.under_way.retain(|compaction| {
            let view = state.view(compaction.family);
            view.is_some_and(|view| view.trees.len() < TREES_AT_MOST)
        });
    }

    /// Every family is to have one tree, and slices are tried for it although one failed before.
    pub(super) fn merge_all(&mut self, engine: &Engine) {
        let state = engine.state();
        let several = state.families.iter().filter(|view| view.trees.len() > 1);
        self.to_one.extend(several.map(|view| view.family.id));
        self.try_again();
    }

    /// What [`Compactions::merge_all`] asked for is not wanted any more.
    pub(super) fn stop_merging_all(&mut self) {
        self.to_one.clear();
        let (stopped, going_on): (Vec<_>, Vec<_>) =
            self.under_way.drain(..).partition(|compaction| compaction.goal == Goal::One);
        self.under_way = going_on;
        self.changed.extend(stopped.iter().map(|compaction| compaction.family));
    }

    /// Whether any family has several trees, and nothing says that they cannot be merged now.
    pub(super) fn could_merge(&self, engine: &Engine) -> bool {
        let state = engine.state();
        let could =
            |view: &Arc<FamilyView>| view.trees.len() > 1 && !self.aside.contains(&view.family.id);
        !self.postponed && state.families.iter().any(could)
    }

    /// Whether all that [`Compactions::merge_all`] asked for is done.
    pub(super) fn are_merged(&self) -> bool {
        self.to_one.is_empty()
    }

    /// Merges and publishes a slice, if there is one.
    pub(super) async fn slice(&mut self, engine: &Arc<Engine>) -> Sliced {
        if self.postponed || engine.pipeline.failure().is_some() {
            return Sliced::Nothing;
        }
        self.choose(engine);
        let Some(index) = self.next(engine) else { return Sliced::Nothing };
        let mut compaction = self.under_way.swap_remove(index);
        match run(engine, &mut compaction).await {
            Ok(Progress::Some) => self.under_way.push(compaction),
            Ok(Progress::All) => self.end(&compaction),
            // The trees of other families can be read all the same.
            Err(error) if is_unreadable(&error) => {
                self.set_aside(compaction.family);
                return Sliced::SetAside(error);
            }
            Err(error) => {
                self.postpone(&compaction);
                return Sliced::Postponed(error);
            }
        }
        Sliced::Some
    }

    fn end(&mut self, compaction: &Compaction) {
        self.changed.insert(compaction.family);
        match compaction.goal {
            Goal::BySize => {}
            Goal::One => drop(self.to_one.remove(&compaction.family)),
        }
    }

    fn set_aside(&mut self, family: FamilyId) {
        self.aside.insert(family);
        self.to_one.remove(&family);
        self.under_way.retain(|compaction| compaction.family != family);
    }

    fn postpone(&mut self, failed: &Compaction) {
        self.postponed = true;
        self.to_one.clear();
        let given_up = self.under_way.drain(..).map(|compaction| compaction.family);
        self.changed.extend(given_up.chain([failed.family]));
    }

    /// Begins what the sizes of changed families' trees call for, and what was asked for.
    fn choose(&mut self, engine: &Engine) {
        let state = engine.state();
        for id in std::mem::take(&mut self.changed).difference(&self.aside) {
            let Some(view) = state.view(*id) else { continue };
            while let Some(run) = policy::choose(&self.sizes(view)) {
                self.under_way.push(Compaction::new(engine, view, run, Goal::BySize));
            }
        }
        self.to_one.retain(|id| state.view(*id).is_some_and(|view| view.trees.len() > 1));
        for id in self.to_one.clone() {
            let Some(view) = state.view(id) else { continue };
            if self.sizes(view).iter().all(Option::is_some) {
                let all = 0..view.trees.len();
                self.under_way.push(Compaction::new(engine, view, all, Goal::One));
            }
        }
    }

    /// Pages of a family's trees; none of those that are being merged.
    fn sizes(&self, view: &FamilyView) -> Vec<Option<u64>> {
        let size = |tree: &Tree| (!self.has(tree)).then_some(tree.root.pages);
        view.trees.iter().map(size).collect()
    }

    /// The one with the least left. Those of dropped families, or with nothing left, are forgotten.
    fn next(&mut self, engine: &Engine) -> Option<usize> {
        let state = engine.state();
        let left = |compaction: &Compaction| {
            let view = state.view(compaction.family)?;
            let pages = compaction.left(&view.trees).map(|tree| tree.root.pages).sum::<u64>();
            (pages > 0 && view.family.dropped().is_none()).then_some(pages)
        };
        let (left_some, over): (Vec<_>, Vec<_>) =
            self.under_way.drain(..).partition(|compaction| left(compaction).is_some());
        self.under_way = left_some;
        over.iter().for_each(|compaction| self.end(compaction));
        (0..self.under_way.len()).min_by_key(|&index| left(&self.under_way[index]))
    }
}

/// How far a compaction is.
enum Progress {
    Some,
    All,
}

async fn run(engine: &Arc<Engine>, compaction: &mut Compaction) -> Result<Progress> {
    let view = engine.state().view(compaction.family).cloned();
    let Some(view) = view else { return Ok(Progress::All) };
    let bytes = slice_bytes(engine);
    let sources = compaction.left(&view.trees).count() as u64;
    let besides = BESIDES_PAGES + PATH_PAGES * sources;
    let pages = engine.pages_to_merge(bytes / PAGE_BYTES as u64 + besides).await;
    let pages = pages.saturating_sub(besides);
    if pages < SLICE_PAGES_MIN {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = Error::new(ErrorKind::NoSpace, "there is no room to merge trees");
        return Err(error.with_source(full));
    }
    let bound_bytes = pages * PAGE_BYTES as u64;
    engine.settle_orphans().await?;
    let mut writer = Writer::new(engine);
    let merged = compaction.slice(engine, &view.trees, bound_bytes, &mut writer).await;
    engine.merge_bytes.fetch_add(writer.written_bytes(), Ordering::Relaxed);
    let slice = merged.map(|slice| (slice.trees, (slice.base, slice.is_last)));
    let (base, is_last) = publish_slice(engine, slice, writer).await?;
    compaction.advance(base);
    Ok(if is_last { Progress::All } else { Progress::Some })
}

/// Publishes what a slice came to, or gives back what it wrote.
pub(super) async fn publish_slice<T>(
    engine: &Arc<Engine>,
    slice: Result<(Trees, T)>,
    mut writer: Writer<'_>,
) -> Result<T> {
    let published = match slice {
        Ok((trees, outcome)) => {
            let published = publish::publish_trees(engine, trees, &mut writer).await;
            published.map(|()| outcome)
        }
        Err(error) => Err(error),
    };
    match published {
        Ok(_) => engine.pipeline.keeper.raise(),
        Err(_) => writer.abandon(),
    }
    published
}

/// Bytes that a slice may write.
pub(super) fn slice_bytes(engine: &Engine) -> u64 {
    (engine.shares.memtable_bytes_max as u64 / SLICE_SHARE).min(SLICE_BYTES_MAX)
}
