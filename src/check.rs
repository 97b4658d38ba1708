//! Proving that a database is what it should be: every page read and verified, every page of the
//! file accounted for exactly once. (I7, I9)
//!
//! It runs on the checkpointer's thread between checkpoints, so the set of live pages stands
//! still while commits and reads go on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::Error;
use crate::format::node_ref::TreeRoot;
use crate::ids::{Extent, PageId};
use crate::large;
use crate::report::{CheckReport, Defect};
use crate::state::FamilyView;
use crate::tree::{Corrupt, Leaves, Walk, WalkStep};

/// Defects that a report lists at most.
const DEFECTS_MAX: usize = 1000;

/// Reads and verifies everything that the newest superblock names.
pub(crate) async fn check(engine: &Arc<Engine>) -> CheckReport {
    let mut check = Check { engine, report: CheckReport::default(), live: Vec::new() };
    let state = engine.state().clone();
    for view in &state.families {
        for tree in &view.trees {
            check.tree(view, tree).await;
        }
    }
    check.account();
    check.report
}

struct Check<'a> {
    engine: &'a Arc<Engine>,
    report: CheckReport,
    live: Vec<(Extent, &'static str)>,
}

impl Check<'_> {
    async fn tree(&mut self, view: &FamilyView, tree: &TreeRoot) {
        let mut walk = Walk::new(tree, Leaves::All);
        let mut step = walk.step(None);
        loop {
            match step {
                Err(corrupt) => return self.contradiction(view, &corrupt),
                Ok(WalkStep::Done) => break,
                Ok(WalkStep::Unread(node)) => self.live.push((node.extent(), "a leaf")),
                Ok(WalkStep::Extent(value)) => {
                    self.live.push((value.extent, "a large value"));
                    self.report.pages += u64::from(value.extent.pages);
                    if let Err(error) = large::read(self.engine, &value).await {
                        self.broken(view, value.extent.start, &error);
                    }
                }
                Ok(WalkStep::Need(wanted)) => {
                    self.live.push((wanted.node.extent(), "a node"));
                    // Past the cache: the file is what is checked.
                    match self.engine.pages.read(wanted, view.family.id).await {
                        Ok(bytes) => {
                            self.report.pages += u64::from(wanted.node.pages);
                            step = walk.step(Some(&bytes));
                            continue;
                        }
                        Err(error) => {
                            self.broken(view, wanted.node.page, &error);
                            walk.skip();
                        }
                    }
                }
            }
            step = walk.step(None);
        }
        let counts = walk.counts();
        self.report.rows += counts.rows;
        if counts != *tree && self.report.defects.is_empty() {
            let what = format!("the tree has {counts:?}, its root says {tree:?}");
            self.defect(Some(view), tree.root.page, what);
        }
    }

    /// Live and unnamed pages together are the file, and no page is twice.
    fn account(&mut self) {
        let superblock = self.engine.superblock.lock().clone();
        self.live.push((superblock.catalog.extent, "the catalog"));
        self.live.push((superblock.free_map.extent, "the free map"));
        let (unnamed, pages): (Vec<Extent>, u64) = {
            let space = self.engine.space.lock();
            (space.unnamed().extents().collect(), space.occupancy().file)
        };
        let mut all: BTreeMap<PageId, (Extent, &'static str)> = BTreeMap::new();
        let superblocks = crate::format::SUPERBLOCK_PAGES
            .map(|page| (Extent { start: page, pages: 1 }, "a superblock"));
        let free = unnamed.into_iter().map(|extent| (extent, "free"));
        for (extent, what) in
            superblocks.into_iter().chain(free).chain(std::mem::take(&mut self.live))
        {
            if let Some((_, other)) = all.insert(extent.start, (extent, what)) {
                self.defect(None, extent.start, format!("a page is {what} and {other}"));
            }
        }
        let mut expected = PageId(0);
        for (start, (extent, what)) in &all {
            if *start != expected && self.report.defects.len() < DEFECTS_MAX {
                let wrong = if *start > expected { "is lost before" } else { "overlaps" };
                self.defect(None, *start, format!("a page {wrong} {what}"));
            }
            expected = extent.end();
        }
        if expected.0 != pages {
            self.defect(
                None,
                expected,
                format!("{} pages of {pages} are accounted for", expected.0),
            );
        }
    }

    fn broken(&mut self, view: &FamilyView, page: PageId, error: &Error) {
        self.defect(Some(view), page, format!("{error:?}"));
    }

    fn contradiction(&mut self, view: &FamilyView, corrupt: &Corrupt) {
        self.defect(Some(view), corrupt.node.page, corrupt.what.to_owned());
    }

    fn defect(&mut self, view: Option<&FamilyView>, page: PageId, what: String) {
        if self.report.defects.len() < DEFECTS_MAX {
            let family = view.map(|view| view.family.name().to_string());
            let (page, offset) = (Some(page.0), page.byte_offset());
            self.report.defects.push(Defect { family, page, offset, what });
        }
    }
}
