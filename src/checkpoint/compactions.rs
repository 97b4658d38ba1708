//! The compactions under way, and which slice is next.
//!
//! The one with the least left goes first: small trees are many and cheap to merge, and would pile up behind a large merge. But
//! those of families with so many trees that a flush waits go before all others.
//! A slice that finds no room ends all of them: the trees are as good as before. One that meets a node that cannot be read ends
//! those of its family. They are chosen again after the next checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::checkpoint::compaction::{Compaction, Goal};
use crate::checkpoint::flush::Trees;
use crate::checkpoint::policy::{self, TREES_BEHIND};
use crate::checkpoint::publish;
use crate::checkpoint::reader::is_unreadable;
use crate::checkpoint::writer::Writer;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{FamilyId, PAGE_BYTES};
use crate::state::{FamilyView, State, Tree};

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
    /// By their families; each of these has some.
    under_way: BTreeMap<FamilyId, Vec<Compaction>>,
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
        let (under_way, to_one, aside) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Compactions { under_way, changed, to_one, postponed: false, aside }
    }

    /// Whether a tree of the family is being merged.
    pub(super) fn has(&self, family: FamilyId, tree: &Tree) -> bool {
        let of_family = self.under_way.get(&family);
        of_family.is_some_and(|some| some.iter().any(|compaction| compaction.has(tree)))
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
        let mut views = self.under_way.keys().filter_map(|id| state.view(*id));
        !self.postponed && views.any(|view| is_behind(view))
    }

    /// Nothing is merged any more in families with so many trees, for the time being: the newest takes rows.
    pub(super) fn give_way(&mut self, state: &State, trees: usize) {
        let is_low = |view: &Arc<FamilyView>| view.trees.len() < trees;
        let changed = &mut self.changed;
        self.under_way.retain(|id, _| {
            let is_kept = state.view(*id).is_some_and(is_low);
            // They are chosen again behind what they gave way to.
            changed.extend((!is_kept).then_some(*id));
            is_kept
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
        let stopped = self.remove(|compaction| compaction.goal != Goal::One);
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
        let state = engine.state().clone();
        self.forget_over(&state);
        self.choose(&state);
        let Some(mut compaction) = self.next(&state) else { return Sliced::Nothing };
        match run(engine, &mut compaction).await {
            Ok(Progress::Some) => self.begin(compaction),
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

    fn begin(&mut self, compaction: Compaction) {
        self.under_way.entry(compaction.family).or_default().push(compaction);
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
        self.under_way.remove(&family);
    }

    fn postpone(&mut self, failed: &Compaction) {
        self.postponed = true;
        self.to_one.clear();
        self.changed.extend(std::mem::take(&mut self.under_way).into_keys());
        self.changed.insert(failed.family);
    }

    /// Takes those away that are not to be kept.
    fn remove(&mut self, is_kept: impl Fn(&Compaction) -> bool) -> Vec<Compaction> {
        let mut removed = Vec::new();
        self.under_way.retain(|_, some| {
            removed.extend(some.extract_if(.., |compaction| !is_kept(compaction)));
            !some.is_empty()
        });
        removed
    }

    /// Those of dropped families end, and those with nothing left.
    fn forget_over(&mut self, state: &State) {
        let is_wanted = |compaction: &Compaction| {
            let view = state.view(compaction.family).filter(|view| is_there(view));
            view.is_some_and(|view| compaction.left_pages(&view.trees) > 0)
        };
        let over = self.remove(is_wanted);
        over.iter().for_each(|compaction| self.end(compaction));
    }

    /// Begins what the sizes of changed families' trees call for, and what was asked for.
    fn choose(&mut self, state: &State) {
        let mut changed = std::mem::take(&mut self.changed);
        changed.retain(|id| !self.aside.contains(id));
        for id in changed {
            let Some(view) = state.view(id).filter(|view| is_there(view)) else { continue };
            while let Some(run) = policy::choose(&self.sizes(view)) {
                self.begin(Compaction::new(view, run, Goal::BySize));
            }
        }
        let several = |view: &&Arc<FamilyView>| is_there(view) && view.trees.len() > 1;
        self.to_one.retain(|id| state.view(*id).is_some_and(|view| several(&view)));
        let at_rest = self.to_one.iter().filter(|id| !self.under_way.contains_key(id));
        let views: Vec<_> = at_rest.filter_map(|id| state.view(*id)).collect();
        for view in views {
            self.begin(Compaction::new(view, 0..view.trees.len(), Goal::One));
        }
    }

    /// Pages of a family's trees; none of those that are being merged.
    fn sizes(&self, view: &FamilyView) -> Vec<Option<u64>> {
        let size = |tree: &Tree| (!self.has(view.family.id, tree)).then_some(tree.root.pages);
        view.trees.iter().map(size).collect()
    }

    /// Takes the one that is next: of those that a flush waits for, or else of all, the one with the least left.
    fn next(&mut self, state: &State) -> Option<Compaction> {
        let mut first: Option<((bool, u64), FamilyId, usize)> = None;
        for (id, some) in &self.under_way {
            let Some(view) = state.view(*id) else { continue };
            for (index, compaction) in some.iter().enumerate() {
                let rank = (!is_behind(view), compaction.left_pages(&view.trees));
                if first.as_ref().is_none_or(|(least, ..)| rank < *least) {
                    first = Some((rank, *id, index));
                }
            }
        }
        let (_, id, index) = first?;
        let some = self.under_way.get_mut(&id)?;
        let compaction = some.swap_remove(index);
        if some.is_empty() {
            self.under_way.remove(&id);
        }
        Some(compaction)
    }
}

/// Whether the family has so many trees that a flush waits.
fn is_behind(view: &FamilyView) -> bool {
    view.trees.len() >= TREES_BEHIND
}

fn is_there(view: &FamilyView) -> bool {
    view.family.dropped().is_none()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::catalog::Logging;
    use crate::format::node_ref::{NodeRef, TreeRoot};
    use crate::ids::{PageId, Seq};
    use crate::memtable::Pool;
    use crate::state::Family;

    fn tree(pages: u64) -> Tree {
        let root = NodeRef { page: PageId(5), pages: 1, crc: 0 };
        Tree::plain(TreeRoot { root, height: 0, rows: 9, bytes: 90, pages, extent_pages: 0 })
    }

    /// A family for each list of the sizes of trees.
    fn state(sizes: &[&[u64]]) -> State {
        let views = sizes.iter().zip(0..).map(|(sizes, id)| {
            let family = Family::new(FamilyId(id), "a", Logging::Logged, Seq(0), &Pool::new(0));
            let trees = sizes.iter().map(|&pages| tree(pages)).collect();
            Arc::new(FamilyView { trees, ..FamilyView::empty(&family) })
        });
        let families = views.collect();
        State { hold: Arc::default(), checkpoint_seq: Seq(0), families }
    }

    /// Every family is to have one tree.
    fn all_to_one(state: &State) -> Compactions {
        let to_one = state.families.iter().map(|view| view.family.id).collect();
        let (under_way, changed) = (BTreeMap::new(), BTreeSet::new());
        let mut compactions =
            Compactions { under_way, changed, to_one, postponed: false, aside: BTreeSet::new() };
        compactions.choose(state);
        compactions
    }

    fn families_in_turn(state: &State) -> Vec<u32> {
        let mut compactions = all_to_one(state);
        let next = || compactions.next(state).map(|compaction| compaction.family.0);
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn the_least_is_merged_first_but_for_families_that_a_flush_waits_for() {
        let few = [7; TREES_BEHIND - 1];
        assert_eq!(families_in_turn(&state(&[&few, &[3, 9], &[5], &[2, 9]])), [3, 1, 0]);
        let many = [7; TREES_BEHIND];
        assert_eq!(families_in_turn(&state(&[&few, &[3, 9], &many, &[2, 9]])), [2, 3, 1, 0]);
    }

    #[test]
    fn trees_that_are_being_merged_are_not_chosen_again() {
        let state = state(&[&[1, 1], &[1, 1, 1, 1, 1, 100]]);
        let mut compactions = all_to_one(&state);
        compactions.changed.extend([FamilyId(0), FamilyId(1)]);
        compactions.choose(&state);
        assert_eq!(compactions.under_way.values().map(Vec::len).sum::<usize>(), 2);
        let has = |id: u32, tree: &Tree| compactions.has(FamilyId(id), tree);
        assert!(has(1, &state.families[1].trees[5]) && !has(0, &state.families[1].trees[5]));
    }

    #[test]
    fn a_family_whose_merging_gave_way_is_looked_at_again() {
        let state = state(&[&[1, 1], &[1, 1, 1, 1, 1]]);
        let mut compactions = all_to_one(&state);
        compactions.stop_merging_all();
        compactions.choose(&state);
        assert_eq!(compactions.under_way.keys().collect::<Vec<_>>(), [&FamilyId(1)]);
        compactions.give_way(&state, 5);
        assert!(compactions.under_way.is_empty());
        compactions.choose(&state);
        assert_eq!(compactions.under_way.keys().collect::<Vec<_>>(), [&FamilyId(1)]);
    }

    #[test]
    fn a_compaction_of_a_family_that_is_gone_or_has_nothing_left_ends() {
        let before = state(&[&[1, 1], &[1, 1], &[1, 1]]);
        let mut compactions = all_to_one(&before);
        let mut after = before.clone();
        after.remove(FamilyId(0));
        after.set(FamilyView { trees: vec![tree(1)], ..(*after.families[0]).clone() });
        after.families[1].family.mark_dropped(Seq(7));
        compactions.forget_over(&after);
        assert!(compactions.under_way.is_empty() && compactions.are_merged());
    }
}
