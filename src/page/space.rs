//! Which pages are free now, which will be, and how the file grows.
//!
//! Two sets are kept. `unnamed` holds every page that the newest superblock, or the checkpoint
//! being built on it, does not name; it is what the next free map says. `free` is the part of it
//! that may be handed out now: not in the log, not under a value on its way, not retired and
//! perhaps still read. After a crash `free` is rebuilt from `unnamed` by taking out what the log
//! holds and names, so a crash leaks nothing and needs no journal of allocations. (I9)
//!
//! Growth leaves the reserve and the promise to the next checkpoint alone (`alloc/reserve`); it
//! lengthens the file first and takes pages then. A checkpoint takes pages from a *plan* that may
//! go beyond the file, and lengthens the file before it writes: a merge places its nodes in steps
//! that do not wait.
//!
//! A retired page returns to `free` when every state that could name it is gone: the states of a
//! checkpoint share one hold, and the oldest hold that is still kept keeps all younger retirements.

use std::sync::{Arc, Weak};

use ringdb_uring::threads::Mutex;

use crate::alloc::free_space::FreeSpace;
use crate::alloc::reserve::{Need, promised_pages, relief_nodes, reserve_pages};
use crate::ids::{Extent, PAGE_BYTES, PageId};
use crate::page::retired::Retirements;
use crate::state::Hold;

/// Smallest step by which the file grows, in pages.
const GROWTH_PAGES_MIN: u64 = 32;
/// Largest step by which the file grows beyond what is asked, in pages.
const GROWTH_PAGES_MAX: u64 = (64 << 20) / PAGE_BYTES as u64;
/// Part of the file by which it grows.
const GROWTH_FRACTION: u64 = 16;

pub(crate) struct Space {
    free: FreeSpace,
    unnamed: FreeSpace,
    retired: Retirements,
    /// Extents whose writers were dropped; the kernel may still write to them.
    orphans: Vec<Extent>,
    /// Pages that have a place in the file, whether it has grown that far yet or not.
    pages: u64,
    /// Pages the file has.
    grown_pages: u64,
    growth: Growth,
    /// Steps by which the file grows are at most this long since one was refused, in pages.
    step_pages_max: u64,
    /// Pages that the checkpoint of what is in the memtables is going to need.
    promised_pages: u64,
    drawing: Drawing,
    asked: Asked,
}

/// Growths under way, and the longest file that they were asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    growths: usize,
    pages: u64,
}

/// How much of the promise the checkpoint under way has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drawing {
    /// None is under way.
    Nothing,
    /// What it has, and what was promised for what it writes.
    Pages { drawn: u64, due: u64 },
}

/// Who takes pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taker {
    /// Of those that were promised to it.
    Checkpoint,
    /// Of those that were promised to nobody.
    Ingest,
}

/// How the last growth of the file went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    Open,
    Refused,
}

/// What a file holds, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occupancy {
    pub(crate) file: u64,
    pub(crate) free: u64,
    pub(crate) retired: u64,
    pub(crate) unnamed: u64,
}

impl Space {
    /// `unnamed` as the superblock's free map says; `free` without what the log holds.
    pub(crate) fn new(unnamed: FreeSpace, free: FreeSpace, pages: u64) -> Space {
        Space {
            free,
            unnamed,
            retired: Retirements::default(),
            orphans: Vec::new(),
            pages,
            grown_pages: pages,
            growth: Growth::Open,
            step_pages_max: GROWTH_PAGES_MAX,
            promised_pages: 0,
            drawing: Drawing::Nothing,
            asked: Asked::default(),
        }
    }

    /// A contiguous run inside the file, or how many pages the file lacks for it.
    pub(crate) fn try_allocate(
        &mut self,
        pages: u32,
        need: Need,
    ) -> std::result::Result<Extent, u64> {
        self.reclaim();
        let lacks = self.lacks(u64::from(pages), need);
        if lacks > 0 {
            return Err(lacks);
        }
        // Values and log segments stay where they are, so they should not be at the end.
        let low = self.free.allocate_below(PageId(self.grown_pages), pages, pages);
        match low.or_else(|| self.free.allocate(pages)) {
            Some(extent) if extent.end().0 <= self.grown_pages => Ok(extent),
            // A checkpoint has planned that far, and its own growth is on the way.
            Some(beyond) => {
                self.free.free(beyond);
                Err(u64::from(pages))
            }
            None => Err(u64::from(pages) - self.free.tail_pages()),
        }
    }

    /// How many pages the file lacks for so many to be had.
    pub(crate) fn lacks(&self, pages: u64, need: Need) -> u64 {
        match need {
            Need::Growth => {
                let reserved = pages + reserve_pages(self.pages);
                let all = (reserved + self.outstanding_pages()).saturating_sub(self.free.pages());
                // The reserve must take nodes of any size.
                all.max(reserved.saturating_sub(self.free.whole_pages()))
            }
            Need::Relief => pages.saturating_sub(self.free.pages()),
        }
    }

    /// Free pages beyond what was promised and half of the reserve.
    pub(crate) fn spare_pages(&self) -> u64 {
        let kept = reserve_pages(self.pages) / 2 + self.outstanding_pages();
        self.free.pages().saturating_sub(kept)
    }

    /// What is promised and was not taken yet.
    fn outstanding_pages(&self) -> u64 {
        match self.drawing {
            Drawing::Nothing => self.promised_pages,
            Drawing::Pages { drawn, due } => {
                self.promised_pages.saturating_sub(due) + due.saturating_sub(drawn)
            }
        }
    }

    /// Promises pages to the checkpoint of so many bytes of memtables, or answers how many pages
    /// the file lacks for that.
    pub(crate) fn promise(&mut self, bytes: u64) -> std::result::Result<(), u64> {
        self.reclaim();
        let before = std::mem::replace(&mut self.promised_pages, promised_pages(bytes));
        match self.lacks(0, Need::Growth) {
            0 => Ok(()),
            lacks => {
                self.promised_pages = before;
                Err(lacks)
            }
        }
    }

    /// Promises no more than what so many bytes need that are in the memtables already.
    pub(crate) fn promise_only(&mut self, bytes: u64) {
        self.promised_pages = promised_pages(bytes);
    }

    /// Nodes that deletes may touch before the next checkpoint.
    pub(crate) fn relief_nodes(&self, node_pages: u64) -> u64 {
        relief_nodes(self.free.pages().saturating_sub(self.promised_pages), node_pages)
    }

    /// A checkpoint of so many bytes begins to take what was promised to it.
    pub(crate) fn begin_drawing(&mut self, bytes: u64) {
        self.drawing = Drawing::Pages { drawn: 0, due: promised_pages(bytes) };
    }

    /// It is done, or has given up.
    pub(crate) fn end_drawing(&mut self) {
        self.drawing = Drawing::Nothing;
    }

    fn draw(&mut self, extent: Extent, taker: Taker) -> Extent {
        if let (Drawing::Pages { drawn, .. }, Taker::Checkpoint) = (&mut self.drawing, taker) {
            *drawn += u64::from(extent.pages);
        }
        extent
    }

    /// A contiguous run for a checkpoint; extends the file's plan if none is free. The caller grows
    /// the file to [`Space::wanted_pages`] before it writes there.
    pub(crate) fn allocate(&mut self, pages: u32, taker: Taker) -> Extent {
        self.reclaim();
        let lacks = self.lacks_for(pages, taker);
        if lacks == 0
            && let Some(extent) = self.free.allocate(pages)
        {
            return self.draw(extent, taker);
        }
        let from = self.pages;
        self.plan(from + self.step_pages(lacks.max(u64::from(pages))));
        let extent = self.free.allocate(pages).expect("the file was extended by as much");
        self.draw(extent, taker)
    }

    /// A run of at most that many pages for a checkpoint, where one is free without growing the
    /// file.
    pub(crate) fn allocate_up_to(&mut self, pages: u32, taker: Taker) -> Option<Extent> {
        self.reclaim();
        if self.lacks_for(pages, taker) > 0 {
            return None;
        }
        self.free.allocate_up_to(pages).map(|extent| self.draw(extent, taker))
    }

    /// The lowest run in front of `limit`, of so many pages at least and at most; nothing if there
    /// is none. Never beyond the file.
    pub(crate) fn allocate_below(
        &mut self,
        limit: PageId,
        least: u32,
        most: u32,
        taker: Taker,
    ) -> Option<Extent> {
        self.reclaim();
        if self.lacks_for(least, taker) > 0 {
            return None;
        }
        let limit = limit.min(PageId(self.grown_pages));
        self.free.allocate_below(limit, least, most).map(|extent| self.draw(extent, taker))
    }

    /// How many pages the file lacks for one who may not have those of others.
    fn lacks_for(&self, pages: u32, taker: Taker) -> u64 {
        match taker {
            Taker::Checkpoint => 0,
            Taker::Ingest => self.lacks(pages.into(), Need::Growth),
        }
    }

    /// Gives back what was allocated and not used.
    pub(crate) fn give_back(&mut self, extent: Extent, taker: Taker) {
        if let (Drawing::Pages { drawn, .. }, Taker::Checkpoint) = (&mut self.drawing, taker) {
            *drawn = drawn.saturating_sub(extent.pages.into());
        }
        self.release(extent);
    }

    /// Gives back what was allocated and never named.
    pub(crate) fn release(&mut self, extent: Extent) {
        self.free.free(extent);
        if self.growth == Growth::Refused {
            self.shrink_plan();
        }
    }

    /// The checkpoint being built names the extent, which was allocated.
    pub(crate) fn name(&mut self, extent: Extent) {
        self.unnamed.take(extent).expect("what is allocated is not named yet");
    }

    /// The checkpoint being built no longer names the extent. It stays out of `free` until
    /// `retire` hands it to the states that may still read it.
    pub(crate) fn unname(&mut self, extent: Extent) {
        self.unnamed.free(extent);
    }

    /// Extents that the states under `holder` were the last to name.
    pub(crate) fn retire(&mut self, holder: Weak<Hold>, extents: Vec<Extent>) {
        self.retired.add(holder, extents);
    }

    /// Frees what nobody holds any more.
    pub(crate) fn reclaim(&mut self) {
        while let Some(extents) = self.retired.take_released() {
            extents.into_iter().for_each(|extent| self.free.free(extent));
        }
    }

    /// Extents that may still be written to although nobody wants them.
    pub(crate) fn orphan(&mut self, extents: Vec<Extent>) {
        // Nobody writes to an extent before the file has grown to hold it.
        let (unwritten, written): (Vec<_>, Vec<_>) =
            extents.into_iter().partition(|extent| extent.end().0 > self.grown_pages);
        self.orphans.extend(written);
        unwritten.into_iter().for_each(|extent| self.release(extent));
    }

    /// Bytes that held states keep from being reused.
    pub(crate) fn retired_bytes(&self) -> u64 {
        self.retired.pages() * PAGE_BYTES as u64
    }

    /// What the oldest of these states keep; nothing of the others is reused before.
    pub(crate) fn oldest_held(&self) -> Option<Arc<Hold>> {
        self.retired.oldest_held()
    }

    pub(crate) fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    /// Extents whose writers were dropped so far. A sync that starts now ends after every write
    /// to them; then they can be released.
    pub(crate) fn take_orphans(&mut self) -> Vec<Extent> {
        std::mem::take(&mut self.orphans)
    }

    /// The pages that the next free map must list.
    pub(crate) fn unnamed(&self) -> &FreeSpace {
        &self.unnamed
    }

    /// Pages the file has, whatever is planned.
    pub(crate) fn grown_pages(&self) -> u64 {
        self.grown_pages
    }

    /// How long the file must be, in pages, before what was allocated may be written.
    pub(crate) fn wanted_pages(&self) -> Option<u64> {
        (self.pages > self.grown_pages).then_some(self.pages)
    }

    /// The file has grown.
    pub(crate) fn grown_to(&mut self, pages: u64) {
        self.grown_pages = self.grown_pages.max(pages);
        self.growth = Growth::Open;
        self.step_pages_max = (2 * self.step_pages_max).min(GROWTH_PAGES_MAX);
        // Another growth failed meanwhile, and the plan had gone back.
        if self.grown_pages > self.pages {
            self.plan(self.grown_pages);
        }
    }

    /// The file could not grow: the plan goes back to what it has, as the pages beyond that come
    /// back from those who wanted them. Else there would be free pages that are in no file.
    pub(crate) fn growth_refused(&mut self) {
        self.growth = Growth::Refused;
        self.shrink_plan();
    }

    /// A step of so many pages was too long for the disk.
    pub(crate) fn step_refused(&mut self, pages: u64) {
        self.step_pages_max = self.step_pages_max.min(pages / 2).max(1);
    }

    /// Cuts a plan that the disk refused down, to half the step but to no less than what was
    /// allocated in it; false if there is nothing to cut.
    pub(crate) fn plan_less(&mut self) -> bool {
        let step = self.pages.saturating_sub(self.grown_pages);
        self.step_refused(step);
        let before = self.pages;
        self.pages = self.free.shrink_towards(self.grown_pages + step / 2);
        self.unnamed.shrink_towards(self.pages);
        self.pages < before
    }

    /// Pages that have a place in the file, and the step by which it grows for so many more.
    pub(crate) fn next_step(&self, pages: u64) -> (u64, u64) {
        (self.pages.max(self.grown_pages), self.step_pages(pages))
    }

    /// A growth to so many pages is asked of the file.
    pub(crate) fn ask(&mut self, pages: u64) {
        self.asked.growths += 1;
        self.asked.pages = self.asked.pages.max(pages);
    }

    /// It was answered, or nobody waits for the answer any more.
    pub(crate) fn answered(&mut self) {
        self.asked.growths -= 1;
        if self.asked.growths == 0 {
            self.asked.pages = 0;
        }
    }

    /// Takes the free pages at the end of the file out of use, down to so many pages at most, but
    /// not those of the reserve, of what is promised, and so many to be promised. Nobody allocates there before the file
    /// grows again; the superblock that knows no more of them comes first, then the file can be
    /// cut off behind [`Space::kept_pages`].
    pub(crate) fn cut_towards(&mut self, pages: u64, ahead: u64) {
        self.reclaim();
        let before = self.pages;
        self.shrink_plan_to(pages);
        // What is left may lie in crumbs: the reserve would have to be grown at once.
        let lacks = self.lacks(ahead, Need::Growth);
        if lacks > 0 {
            self.plan((self.pages + lacks).min(before));
        }
        self.grown_pages = self.grown_pages.min(self.pages);
    }

    /// How long the file must stay, in pages: growth that is under way counts.
    pub(crate) fn kept_pages(&self) -> u64 {
        self.pages.max(self.grown_pages).max(self.asked.pages)
    }

    /// Free pages at the end of the file.
    pub(crate) fn tail_pages(&mut self) -> u64 {
        self.reclaim();
        self.free.tail_pages()
    }

    /// Pages that are in use for something.
    pub(crate) fn used_pages(&mut self) -> u64 {
        self.reclaim();
        self.pages - self.free.pages()
    }

    fn step_pages(&self, pages: u64) -> u64 {
        let generous = (self.pages / GROWTH_FRACTION).clamp(GROWTH_PAGES_MIN, GROWTH_PAGES_MAX);
        pages.max(generous.min(self.step_pages_max))
    }

    fn shrink_plan(&mut self) {
        self.shrink_plan_to(self.grown_pages);
    }

    fn shrink_plan_to(&mut self, pages: u64) {
        self.pages = self.free.shrink_towards(pages);
        let unnamed = self.unnamed.shrink_towards(self.pages);
        assert_eq!(unnamed, self.pages, "free pages are unnamed");
    }

    pub(crate) fn occupancy(&self) -> Occupancy {
        Occupancy {
            file: self.pages,
            free: self.free.pages(),
            retired: self.retired.pages(),
            unnamed: self.unnamed.pages(),
        }
    }

    fn plan(&mut self, to: u64) {
        self.free.grow(self.pages, to);
        self.unnamed.grow(self.pages, to);
        self.pages = to;
    }
}

/// An extent on its way into a commit. Dropped before that, it becomes free again, but only after
/// a sync, because a write to it may still be in flight. (I1)
pub(crate) struct Reserved {
    pub(crate) extent: Extent,
    space: Arc<Mutex<Space>>,
}

impl Reserved {
    pub(crate) fn new(space: &Arc<Mutex<Space>>, extent: Extent) -> Reserved {
        Reserved { extent, space: space.clone() }
    }

    /// The commit that names the extent is ordered.
    pub(crate) fn keep(mut self) {
        self.extent = Extent::default();
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.extent.is_empty() {
            self.space.lock().orphan(vec![self.extent]);
        }
    }
}

#[cfg(test)]
mod tests;
