//! Proving that a database is what it should be: every page read and verified, every page of the
//! file accounted for exactly once. (I7, I9)
//!
//! It runs beside commits and checkpoints, in the future of whoever asked. Between two checkpoints
//! it notes what the newest superblock names and what is free; from then on it holds that state
//! like a snapshot does, so the pages stay what they are while newer checkpoints go on elsewhere.
//!
//! It reads past the cache, a bounded number of pages ahead, and goes on behind whatever is wrong:
//! a node that cannot be read costs the knowledge of what is below it, and nothing else. Then pages
//! that nobody names are no defect of their own.

mod account;
mod ahead;
mod log;

use std::sync::Arc;

use futures::channel::oneshot;
use ringdb_uring::{Buf, TRANSFER_BYTES_MAX};

use crate::commit::closed;
use crate::engine::{Command, Engine};
use crate::error::{Error, Result};
use crate::format::blob::BlobRef;
use crate::format::copies::{self, CopyState};
use crate::format::superblock::{COPY_OFFSETS, Refused, SUPERBLOCK_BYTES, Superblock};
use crate::format::value::ExtentValue;
use crate::format::{catalog, free_map};
use crate::ids::{Extent, PAGE_BYTES, PageId};
use crate::large;
use crate::report::{CheckProgress, CheckReport, Defect};
use crate::snapshot::Pinned;
use crate::state::{FamilyView, State, Tree};
use crate::tree::{Corrupt, Filter, KeyHash, Leaf, Leaves, Walk, WalkStep, Wanted};

use ahead::Ahead;
use log::Log;

/// Defects that a report lists at most.
const DEFECTS_MAX: usize = 1000;

/// Nodes that a walk names ahead of need, at most.
const UPCOMING_MAX: usize = 64;

/// Told how far the check is.
pub(crate) type Watch = Box<dyn FnMut(CheckProgress) + Send>;

/// What a check looks at.
struct Found {
    superblock: Superblock,
    unnamed: Vec<Extent>,
    file_pages: u64,
    pinned: Arc<Pinned>,
    /// Copies of the superblock that are damaged: offset, and how.
    copies: Vec<(u64, String)>,
    log: Log,
}

/// A check under way.
struct Check {
    engine: Arc<Engine>,
    report: CheckReport,
    progress: CheckProgress,
    watch: Option<Watch>,
    pages_ahead: u32,
    live: Vec<(Extent, &'static str)>,
    /// Whether all that is live was found.
    complete: bool,
}

/// Reads and verifies everything that the newest superblock names, and the log.
pub(crate) async fn check(
    engine: Arc<Engine>,
    pages_ahead: u32,
    watch: Option<Watch>,
) -> Result<CheckReport> {
    let (report, progress) = (CheckReport::default(), CheckProgress::default());
    let live = Vec::new();
    let mut check = Check { engine, report, progress, watch, pages_ahead, live, complete: true };
    let found = find(&check.engine).await?;
    let views = trees_of(&*found.pinned.held_still()?);
    check.progress.total_bytes = total_bytes(&found, &views);
    for (offset, what) in &found.copies {
        check.defect_at(None, *offset, what.clone());
    }
    check.catalog(&found).await?;
    check.log(&found.log).await?;
    for view in &views {
        for tree in &view.trees {
            check.filter(&found.pinned, view, tree).await?;
            check.tree(&found.pinned, view, tree).await?;
        }
    }
    check.account(&found);
    Ok(check.report)
}

/// What is looked at. It keeps no page from being reused: that is the pinned view's part, until it expires.
fn trees_of(state: &State) -> Vec<FamilyView> {
    let trees = |view: &Arc<FamilyView>| FamilyView {
        family: view.family.clone(),
        memtables: Vec::new(),
        trees: view.trees.clone(),
    };
    state.families.iter().map(trees).collect()
}

fn total_bytes(found: &Found, families: &[FamilyView]) -> u64 {
    let trees = families.iter().flat_map(|view| view.trees.iter());
    let pages = trees.map(Tree::pages).sum::<u64>();
    let Superblock { catalog, free_map, .. } = &found.superblock;
    let blobs = u64::from(catalog.extent.pages) + u64::from(free_map.extent.pages);
    // What roots of a hostile file claim need not be a number of bytes.
    (pages + blobs).saturating_mul(PAGE_BYTES as u64).saturating_add(found.log.bytes())
}

impl Check {
    /// What is wrong counts only while the database is open and the pages are held.
    fn still(&self, pinned: &Pinned) -> Result<()> {
        if self.engine.pipeline.is_closed() {
            return Err(closed());
        }
        pinned.state().map(drop)
    }

    async fn catalog(&mut self, found: &Found) -> Result<()> {
        let Superblock { catalog, free_map, file_pages, .. } = found.superblock;
        let file_id = self.engine.file_id;
        self.blob(&found.pinned, None, &catalog, "the catalog", |bytes| {
            catalog::decode(bytes, &catalog, &file_id).map(drop)
        })
        .await?;
        self.blob(&found.pinned, None, &free_map, "the free map", |bytes| {
            free_map::decode(bytes, &free_map, &file_id, file_pages).map(drop)
        })
        .await
    }

    async fn filter(&mut self, pinned: &Pinned, view: &FamilyView, tree: &Tree) -> Result<()> {
        let (blob, file_id) = (tree.kept.blob, self.engine.file_id);
        if blob.extent.is_empty() {
            return Ok(());
        }
        self.blob(pinned, Some(view), &blob, "a filter", |bytes| {
            Filter::decode(blob.open(bytes, &file_id)?).map(drop)
        })
        .await
    }

    async fn blob(
        &mut self,
        pinned: &Pinned,
        view: Option<&FamilyView>,
        blob: &BlobRef,
        name: &'static str,
        decode: impl Fn(&[u8]) -> std::result::Result<(), crate::format::Defect>,
    ) -> Result<()> {
        self.live.push((blob.extent, name));
        let (offset, len) = (blob.extent.start.byte_offset(), blob.extent.len_bytes());
        // A filter's place was never looked at: what is said to be large is not asked for.
        let file_bytes = self.engine.superblock.lock().file_pages.saturating_mul(PAGE_BYTES as u64);
        if len > file_bytes.min(TRANSFER_BYTES_MAX as u64) {
            self.defect_at(view, offset, format!("{name} of {len} bytes is not in the file"));
            return Ok(());
        }
        let (result, bytes) = self.engine.io.read(offset, Buf::zeroed(len as usize)).await;
        let what = match result {
            Err(cause) => Some(format!("reading {name} failed: {cause}")),
            Ok(()) => decode(&bytes).err().map(|defect| format!("{name} is damaged: {defect}")),
        };
        if let Some(what) = what {
            self.still(pinned)?;
            self.defect_at(view, offset, what);
        }
        self.advance(len);
        Ok(())
    }

    async fn tree(&mut self, pinned: &Pinned, view: &FamilyView, tree: &Tree) -> Result<()> {
        let root = &tree.root;
        let mut walk = Walk::new(root, Leaves::All);
        let mut ahead = Ahead::new(&self.engine, view.family.id, self.pages_ahead);
        let (defects_before, mut node) = (self.report.defect_count, None);
        loop {
            match walk.step(node.take().as_deref()) {
                Err(corrupt) => self.contradiction(view, &corrupt),
                Ok(WalkStep::Done) => break,
                Ok(WalkStep::Unread(node)) => self.live.push((node.extent(), "a leaf")),
                Ok(WalkStep::Extent(value)) => self.value(pinned, view, &value).await?,
                Ok(WalkStep::Need(wanted)) => {
                    self.live.push((wanted.node.extent(), "a node"));
                    match ahead.fetch(wanted, walk.upcoming(UPCOMING_MAX)).await {
                        Ok(bytes) => {
                            self.report.pages += u64::from(wanted.node.pages);
                            self.filtered(view, tree, wanted, &bytes);
                            node = Some(bytes);
                        }
                        Err(error) => {
                            self.still(pinned)?;
                            self.broken(view, wanted.node.page, &error);
                            self.complete &= wanted.level == 0;
                            walk.skip();
                        }
                    }
                    self.advance(wanted.node.extent().len_bytes());
                }
            }
        }
        let counts = walk.counts();
        self.report.rows += counts.rows;
        if counts != *root && self.report.defect_count == defects_before {
            let what = format!("the tree has {counts:?}, its root says {root:?}");
            self.defect_at(Some(view), root.root.page.byte_offset(), what);
        }
        Ok(())
    }

    /// The filter that lookups ask must know every key of a leaf.
    fn filtered(&mut self, view: &FamilyView, tree: &Tree, wanted: Wanted, node: &[u8]) {
        if wanted.level > 0 || tree.kept.filter().is_none() {
            return;
        }
        let leaf = Leaf::new(node);
        let known = |row| tree.may_hold(KeyHash::of(&leaf.key(row).to_vec()));
        if !(0..leaf.len()).all(known) {
            let what = "a key is not in the tree's filter".to_owned();
            self.defect_at(Some(view), wanted.node.page.byte_offset(), what);
        }
    }

    async fn value(
        &mut self,
        pinned: &Pinned,
        view: &FamilyView,
        value: &ExtentValue,
    ) -> Result<()> {
        self.live.push((value.extent, "a large value"));
        self.report.pages += u64::from(value.extent.pages);
        if let Err(error) = large::verify(&self.engine, value).await {
            self.still(pinned)?;
            self.broken(view, value.extent.start, &error);
        }
        self.advance(value.extent.len_bytes());
        Ok(())
    }

    fn advance(&mut self, bytes: u64) {
        self.progress.bytes += bytes;
        self.progress.defects = self.report.defect_count;
        if let Some(watch) = &mut self.watch {
            watch(self.progress);
        }
    }

    fn broken(&mut self, view: &FamilyView, page: PageId, error: &Error) {
        self.defect_at(Some(view), page.byte_offset(), format!("{error:?}"));
        // A leaf with values of their own may have been it.
        self.complete = false;
    }

    fn contradiction(&mut self, view: &FamilyView, corrupt: &Corrupt) {
        self.defect_at(Some(view), corrupt.node.page.byte_offset(), corrupt.what.to_owned());
        self.complete = false;
    }

    fn defect_at(&mut self, view: Option<&FamilyView>, offset: u64, what: String) {
        self.report.defect_count += 1;
        if self.report.defects.len() < DEFECTS_MAX {
            let family = view.map(|view| view.family.name().to_string());
            let page = Some(offset / PAGE_BYTES as u64);
            self.report.defects.push(Defect { family, page, offset, what });
        }
    }
}

/// Notes what there is, while no superblock is being written.
async fn find(engine: &Arc<Engine>) -> Result<Found> {
    let (reply, found) = oneshot::channel();
    let (asked, log) = (engine, Log::of(engine));
    let engine = engine.clone();
    let work = async move {
        let copies = damaged_copies(&engine).await;
        let (seq, state) = engine.read_view();
        let pinned = engine.snapshots.pin(seq, arc_swap::Guard::into_inner(state));
        let (unnamed, file_pages) = {
            let space = engine.space.lock();
            (space.unnamed().extents().collect(), space.occupancy().file)
        };
        let superblock = engine.superblock.lock().clone();
        let found = Found { superblock, unnamed, file_pages, pinned, copies, log };
        drop(reply.send(found));
    };
    asked.command(Command::Between(Box::pin(work)));
    found.await.map_err(|_| closed())
}

/// Copies of the superblock that are not what they should be.
async fn damaged_copies(engine: &Engine) -> Vec<(u64, String)> {
    let mut copies: [Vec<u8>; 4] = Default::default();
    let mut damaged = Vec::new();
    for (copy, offset) in copies.iter_mut().zip(COPY_OFFSETS) {
        match engine.io.read(offset, Buf::zeroed(SUPERBLOCK_BYTES)).await {
            (Ok(()), buf) => *copy = buf.to_vec(),
            (Err(cause), _) => {
                damaged.push((offset, format!("reading a superblock failed: {cause}")));
            }
        }
    }
    if !damaged.is_empty() {
        return damaged;
    }
    let [a0, a1, b0, b1] = &copies;
    match copies::choose([a0, a1, b0, b1]) {
        Ok((_, health)) => {
            let bad = health.bad().filter_map(|(offset, state)| match state {
                CopyState::Bad(refused) => {
                    Some((offset, format!("a copy of the superblock is damaged: {refused:?}")))
                }
                _ => None,
            });
            damaged.extend(bad);
        }
        Err(Refused::Defect(defect)) => damaged.push((defect.at, defect.what.to_owned())),
        Err(refused) => damaged.push((0, format!("no superblock is whole: {refused:?}"))),
    }
    damaged
}
