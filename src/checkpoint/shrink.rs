//! Giving room at the end of the file back to the file system.
//!
//! When the trees of a family have become one, and much of the file is free, what is in use would have room in front of some page
//! L. Then, step by step, with commits and reads going on:
//!
//! 1. *The log leaves.* The keeper makes segments ready in front of L, the next group goes there, and a checkpoint lets the
//!    segments before go.
//! 2. *Nodes move.* Every node that reaches beyond L is written again in front of it, in slices, each published like a slice of a
//!    merge. Inner nodes say where their children are, so nothing else is read.
//! 3. *The free end is cut off*: it is taken out of use, a superblock says so, both its copies, and then the file is cut. A crash
//!    in between leaves a longer file, which is found as growth that was never recorded. (I6)
//!
//! L leaves room for the reserve, for what is promised to memtables and for some more, and it is not worth it for less than a
//! fraction of the file: so the next commits do not grow it again at once.
//!
//! Values with extents of their own stay where they are, and so do pages that a snapshot holds: the file ends behind the last of
//! them. What is tried once is not tried again before something new was flushed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringdb_uring::planted::{self, Bug};

use crate::alloc::reserve::{promised_pages, reserve_pages};
use crate::checkpoint::compactions;
use crate::checkpoint::flush::Trees;
use crate::checkpoint::keeper::first_pages;
use crate::checkpoint::merge::Task;
use crate::checkpoint::writer::Writer;
use crate::engine::Engine;
use crate::error::Result;
use crate::ids::{FamilyId, PAGE_BYTES, PageId};
use crate::state::{Kept, State, Tree};
use crate::tree::{Moves, Tombstones};

/// This part of what is in use stays free besides what is reserved and promised.
const SLACK_SHARE: u64 = 64;
/// And so many pages.
const SLACK_PAGES: u64 = 32;
/// Less than this part of what is in use is not worth it.
const WORTH_SHARE: u64 = 32;
/// Nor are fewer pages.
const WORTH_PAGES_MIN: u64 = 96;
/// Segments that the log has at least: in use, ready, named, and one more.
const LOG_SEGMENTS: u64 = 5;
/// Catalog and free map move only with the superblock that says so, and give their pages back with the next.
const CUTS_MAX: u32 = 3;

/// How far it is.
enum Stage {
    Resting,
    /// The log is about to leave for pages in front of some limit.
    Log,
    /// It has left, and what was in memory is in trees.
    Left,
    /// These trees may reach beyond it; of the last one the nodes from the key on.
    Nodes {
        limit: PageId,
        trees: Vec<(FamilyId, Arc<Kept>)>,
        from: Vec<u8>,
    },
    /// The end is to be cut off, so many times at most.
    End {
        limit: PageId,
        cuts: u32,
    },
}

/// What is to be done next.
pub(super) enum Step {
    /// Something was done; there is more.
    Some,
    /// Somebody raises the checkpointer when it can go on.
    Waits,
    /// A checkpoint, for the log to be let go, and the merging of what it leaves.
    Checkpoint,
    Done,
}

pub(super) struct Shrinking {
    stage: Stage,
    /// Nothing was flushed since it was tried.
    settled: bool,
}

impl Shrinking {
    pub(super) fn new() -> Shrinking {
        Shrinking { stage: Stage::Resting, settled: false }
    }

    /// The log has left, and the checkpoint that lets its old segments go is next.
    #[cfg(test)]
    pub(super) fn behind_the_log() -> Shrinking {
        Shrinking { stage: Stage::Log, settled: false }
    }

    /// Something was flushed, or somebody asks.
    pub(super) fn unsettle(&mut self) {
        self.settled = false;
    }

    /// Whether there is something to be done, or under way.
    pub(super) fn is_wanted(&self, engine: &Engine) -> bool {
        match self.stage {
            Stage::Resting => !self.settled && limit(engine).is_some(),
            Stage::Log | Stage::Left | Stage::Nodes { .. } | Stage::End { .. } => true,
        }
    }

    /// There are commits again.
    pub(super) fn stop(&mut self, engine: &Engine) {
        if !matches!(self.stage, Stage::Resting) {
            self.stage = Stage::Resting;
            engine.pipeline.order().log.stay();
        }
    }

    /// Not before something new is flushed.
    pub(super) fn give_up(&mut self, engine: &Engine) {
        self.stop(engine);
        self.settled = true;
    }

    /// Does some of it.
    pub(super) async fn step(&mut self, engine: &Arc<Engine>) -> Result<Step> {
        match std::mem::replace(&mut self.stage, Stage::Resting) {
            Stage::Resting => Ok(self.start(engine)),
            Stage::Log if engine.pipeline.order().log.is_leaving() => {
                self.stage = Stage::Log;
                Ok(Step::Waits)
            }
            Stage::Log => {
                self.stage = Stage::Left;
                Ok(Step::Checkpoint)
            }
            Stage::Left => {
                engine.drain_recycled();
                let limit = limit(engine);
                self.settled = limit.is_none();
                let Some(limit) = limit else { return Ok(Step::Done) };
                self.stage = nodes(engine, limit);
                Ok(Step::Some)
            }
            Stage::Nodes { limit, mut trees, from } => {
                engine.drain_recycled();
                let Some((family, kept)) = trees.pop() else {
                    self.stage = Stage::End { limit, cuts: 0 };
                    return Ok(Step::Some);
                };
                let rest = move_some(engine, limit, family, &kept, from).await?;
                let from = rest.unwrap_or_default();
                if !from.is_empty() {
                    trees.push((family, kept));
                }
                self.stage = Stage::Nodes { limit, trees, from };
                Ok(Step::Some)
            }
            Stage::End { limit, cuts } => {
                if cuts < CUTS_MAX && cut(engine, limit, cuts).await? {
                    self.stage = Stage::End { limit, cuts: cuts + 1 };
                    return Ok(Step::Some);
                }
                self.settled = true;
                Ok(Step::Done)
            }
        }
    }

    fn start(&mut self, engine: &Engine) -> Step {
        let Some(limit) = limit(engine).filter(|_| !self.settled) else {
            self.settled = true;
            return Step::Done;
        };
        engine.uncover();
        engine.drain_recycled();
        let log = Log::of(engine);
        if log.pages > LOG_SEGMENTS * log.least_pages || log.end > limit {
            engine.pipeline.order().log.leave_for(limit);
            engine.pipeline.keeper.raise();
            self.stage = Stage::Log;
            return Step::Waits;
        }
        self.stage = nodes(engine, limit);
        Step::Some
    }
}

/// What the log takes of the file.
struct Log {
    pages: u64,
    end: PageId,
    /// Pages of the smallest segments.
    least_pages: u64,
}

impl Log {
    fn of(engine: &Engine) -> Log {
        let named = engine.named_segment().extent;
        let order = engine.pipeline.order();
        let extents = || order.log.extents().chain([named]);
        Log {
            pages: extents().map(|extent| u64::from(extent.pages)).sum(),
            end: extents().map(|extent| extent.end()).max().unwrap_or_default(),
            least_pages: first_pages(&engine.options).into(),
        }
    }
}

/// The page in front of which all has room that is in use, if it is worth the trouble.
fn limit(engine: &Engine) -> Option<PageId> {
    let log = Log::of(engine);
    let movable =
        log.pages.saturating_sub(LOG_SEGMENTS * log.least_pages) + engine.recycled_pages();
    let promised = promised_pages(engine.least_cover_bytes() as u64);
    let mut space = engine.space.lock();
    let pages = space.occupancy().file;
    let used = space.used_pages().saturating_sub(movable);
    let kept = reserve_pages(used + used / 16) + promised + used / SLACK_SHARE + SLACK_PAGES;
    let limit = used + kept;
    let worth = (used / WORTH_SHARE).max(WORTH_PAGES_MIN);
    (pages >= limit + worth).then_some(PageId(limit))
}

/// All trees are to be looked at.
fn nodes(engine: &Engine, limit: PageId) -> Stage {
    let trees = |state: &State| {
        let views = state.families.iter();
        let trees = views.flat_map(|view| view.trees.iter().map(|tree| (view.family.id, tree)));
        trees.map(|(family, tree)| (family, tree.kept.clone())).collect()
    };
    Stage::Nodes { limit, trees: trees(&engine.state()), from: Vec::new() }
}

/// Moves and publishes some nodes of a tree; the key from which on others are left.
async fn move_some(
    engine: &Arc<Engine>,
    limit: PageId,
    family: FamilyId,
    kept: &Arc<Kept>,
    from: Vec<u8>,
) -> Result<Option<Vec<u8>>> {
    let view = engine.state().view(family).cloned();
    let Some(view) = view.filter(|view| view.family.dropped().is_none()) else { return Ok(None) };
    let Some(index) = view.trees.iter().position(|tree| tree.is(kept)) else { return Ok(None) };
    let pages = compactions::slice_bytes(engine) / PAGE_BYTES as u64;
    let pages =
        engine.space.lock().spare_pages().min(pages).saturating_sub(compactions::BESIDES_PAGES);
    if pages < compactions::SLICE_PAGES_MIN {
        return Ok(None);
    }
    engine.settle_orphans().await?;
    let mut writer = Writer::below(engine, limit);
    let tree = &view.trees[index];
    let (base, ranges) = (Some(tree.root), Vec::new());
    let task = Task { engine, family, base, ranges, tombstones: Tombstones::Keep };
    let moved = task.move_nodes(Moves::new(limit, from, pages), &mut writer).await;
    engine.merge_bytes.fetch_add(writer.written_bytes(), Ordering::Relaxed);
    let slice = moved.map(|(root, rest)| {
        let moved = root.filter(|root| *root != tree.root).map(|root| tree.with_root(root));
        let trees = moved.map(|moved| replaced(family, &view.trees, index, moved));
        (trees.unwrap_or_default(), rest)
    });
    compactions::publish_slice(engine, slice, writer).await
}

fn replaced(family: FamilyId, trees: &[Tree], index: usize, by: Tree) -> Trees {
    let mut trees = trees.to_vec();
    trees[index] = by;
    Trees::from([(family, trees)])
}

/// Cuts the free end off, if it is worth a superblock. The first one moves catalog and free map as well.
async fn cut(engine: &Arc<Engine>, limit: PageId, cuts: u32) -> Result<bool> {
    let blobs = {
        let superblock = engine.superblock.lock();
        [superblock.catalog.extent, superblock.free_map.extent]
    };
    let moves = cuts == 0 && blobs.iter().any(|extent| extent.end() > limit);
    engine.uncover();
    let ahead = promised_pages(engine.least_cover_bytes() as u64);
    {
        let mut space = engine.space.lock();
        let pages = space.occupancy().file;
        let shortest = (pages - space.tail_pages()).max(limit.0);
        if shortest + WORTH_PAGES_MIN > pages && !moves {
            return Ok(false);
        }
        space.cut_towards(shortest, ahead);
    }
    if planted::is(Bug::FileCutEarly) {
        engine.cut_off().await?;
    }
    engine.settle_orphans().await?;
    let writer = Writer::below(engine, limit);
    compactions::publish_slice(engine, Ok((Trees::new(), ())), writer).await?;
    engine.cut_off().await?;
    Ok(true)
}
