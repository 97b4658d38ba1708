//! Where a checkpoint puts its pages: free runs in key order, a bounded part of them unsynced.
//!
//! Nodes that lie one behind another gather in a buffer and are one write. A buffer that is not full yet waits for more of them, or
//! for [`Writer::settle`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ringdb_frames::Room;
use ringdb_uring::Buf;
use ringdb_uring::planted::{self, Bug};

use crate::alloc::runs::Runs;
use crate::engine::Engine;
use crate::error::{ErrorKind, Result};
use crate::format::FILE_PAGES_MAX;
use crate::format::blob::BlobRef;
use crate::format::node_ref::NodeRef;
use crate::format::value::ExtentValue;
use crate::ids::{Extent, PAGE_BYTES, PageId};
use crate::page::space::Taker;
use crate::page::unpublished::Unpublished;
use crate::tree::Sink;

/// Pages taken at a time, so that nodes written one after another lie one after another.
const RUN_PAGES: u32 = 128;

/// Bytes of neighbouring nodes that are written at once, at most, unless one node is longer.
const WRITE_BYTES: usize = 256 << 10;

/// Bytes written but not synced at most: the flush of each commit carries them. A sync is begun for each half of them.
const UNSYNCED_BYTES_MAX: usize = 16 << 20;

/// A blob is written in pieces of so many bytes.
const BLOB_PIECE_BYTES: usize = 1 << 20;
const _: () = assert!(BLOB_PIECE_BYTES.is_multiple_of(PAGE_BYTES));

type Written = Pin<Box<dyn Future<Output = (usize, std::io::Result<()>, Buf)> + Send>>;

/// Neighbouring nodes on their way to the file.
struct Gathered {
    page: PageId,
    buf: Buf,
    len: usize,
}

impl Gathered {
    /// Whether a node lies behind the others and there is room for it.
    fn takes(&self, page: PageId, len: usize) -> bool {
        let end = self.page.byte_offset() + self.len as u64;
        end == page.byte_offset() && self.len + len <= self.buf.len()
    }

    fn is_full(&self) -> bool {
        self.len == self.buf.len()
    }

    fn push(&mut self, bytes: &[u8]) {
        self.buf[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

pub(crate) struct Writer<'a> {
    engine: &'a Arc<Engine>,
    taker: Taker,
    run: Extent,
    queue: VecDeque<Gathered>,
    /// Buffers whose writes ended.
    spare: Vec<Buf>,
    in_flight: FuturesUnordered<Written>,
    in_flight_bytes: usize,
    /// Bytes issued since the last sync was begun.
    unsynced_bytes: usize,
    /// That sync, of as many bytes at most.
    syncing: Option<ringdb_uring::Sync>,
    /// What the new superblock names for the first time.
    placed: Vec<Extent>,
    /// Values, in extents that their writers allocated, that trees name for the first time.
    values: Vec<Extent>,
    /// What the new superblock no longer names.
    retired: Vec<Extent>,
    /// Values that no superblock ever named and nothing reads from now on.
    superseded: Vec<Extent>,
    /// Whether the base of the node being replaced was in the cache.
    warm: bool,
    extents: Extents,
    /// Kept back from nodes for what comes behind them in one piece.
    kept: Vec<Extent>,
    /// Where there is room in front of this page, nothing is placed behind it.
    below: Option<PageId>,
    written_bytes: u64,
}

/// What becomes of the extents of rows that a merge takes out of its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extents {
    /// Nothing names them any more.
    Retire,
    /// Another tree names them from now on.
    Move,
}

/// What changes hands when a checkpoint is published.
pub(crate) struct Changes {
    pub(crate) placed: Runs,
    pub(crate) retired: Runs,
    pub(crate) superseded: Vec<Extent>,
}

/// How much a writer had placed and retired at some time.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    placed: usize,
    retired: usize,
    values: usize,
    superseded: usize,
}

impl Sink for Writer<'_> {
    fn place(&mut self, pages: u16) -> PageId {
        let extent = self.allocate(u32::from(pages));
        self.placed.push(extent);
        extent.start
    }

    fn write(&mut self, node: NodeRef, bytes: &[u8]) {
        let room = if self.warm { Room::Evict } else { Room::IfFree };
        self.engine.pages.keep(node, bytes, room);
        self.written_bytes += bytes.len() as u64;
        if let Some(last) = self.queue.back_mut()
            && last.takes(node.page, bytes.len())
        {
            return last.push(bytes);
        }
        let mut gathered = Gathered { page: node.page, buf: self.buffer(bytes.len()), len: 0 };
        gathered.push(bytes);
        self.queue.push_back(gathered);
    }

    fn retire(&mut self, node: NodeRef) {
        if planted::is(Bug::PagesFreedEarly) {
            let mut space = self.engine.space.lock();
            space.unname(node.extent());
            return space.release(node.extent());
        }
        self.retired.push(node.extent());
    }

    fn retire_extent(&mut self, value: ExtentValue) {
        if self.extents == Extents::Retire || planted::is(Bug::MovedValuesFreed) {
            self.retired.push(value.extent);
        }
    }
}

impl<'a> Writer<'a> {
    pub(crate) fn new(engine: &'a Arc<Engine>) -> Writer<'a> {
        Writer::for_taker(engine, Taker::Checkpoint)
    }

    pub(crate) fn for_taker(engine: &'a Arc<Engine>, taker: Taker) -> Writer<'a> {
        Writer {
            engine,
            taker,
            run: Extent::default(),
            queue: VecDeque::new(),
            spare: Vec::new(),
            in_flight: FuturesUnordered::new(),
            in_flight_bytes: 0,
            unsynced_bytes: 0,
            syncing: None,
            placed: Vec::new(),
            values: Vec::new(),
            retired: Vec::new(),
            superseded: Vec::new(),
            warm: false,
            extents: Extents::Retire,
            kept: Vec::new(),
            below: None,
            written_bytes: 0,
        }
    }

    /// What becomes of the extents that are taken out from now on.
    pub(crate) fn set_extents(&mut self, extents: Extents) {
        self.extents = extents;
    }

    /// A writer that places in front of a page what has room there.
    pub(crate) fn below(engine: &'a Arc<Engine>, limit: PageId) -> Writer<'a> {
        Writer { below: Some(limit), ..Writer::new(engine) }
    }

    /// Bytes of pages written so far.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Nodes written from now on replace ones that readers had in the cache, or not.
    pub(crate) fn set_warm(&mut self, warm: bool) {
        self.warm = warm;
    }

    /// A value that lies in its extent already is named by a tree.
    pub(crate) fn name_value(&mut self, value: &ExtentValue) {
        self.values.push(value.extent);
    }

    /// A value was overwritten before any tree named it.
    pub(crate) fn supersede(&mut self, value: &ExtentValue) {
        self.superseded.push(value.extent);
    }

    /// Retires pages that are no node of a merge: blobs, dropped trees.
    pub(crate) fn retire_pages(&mut self, extent: Extent) {
        if !extent.is_empty() {
            self.retired.push(extent);
        }
    }

    /// Takes a run of pages for the new superblock to name.
    pub(crate) fn place_pages(&mut self, pages: u32) -> Extent {
        let extent = self.allocate(pages);
        self.placed.push(extent);
        extent
    }

    /// The same, if so many lie free in a row or the file grows by them. What was placed before stays.
    pub(crate) async fn place_if_room(&mut self, pages: u32) -> Result<Option<Extent>> {
        // What was placed has to be had.
        self.grow().await?;
        let extent = self.place_pages(pages);
        match self.grow().await {
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                self.placed.pop();
                self.engine.space.lock().give_back(extent, self.taker);
                Ok(None)
            }
            grown => grown.map(|()| Some(extent)),
        }
    }

    /// Keeps a run of so many pages back, if the file has one: nodes take the longest first.
    pub(crate) fn keep_back(&mut self, pages: u32) {
        let mut space = self.engine.space.lock();
        match space.allocate_up_to(pages, self.taker) {
            Some(run) if run.pages == pages => self.kept.push(run),
            Some(short) => space.give_back(short, self.taker),
            None => {}
        }
    }

    /// What was kept back is for whoever comes next.
    pub(crate) fn give_kept(&mut self) {
        let mut space = self.engine.space.lock();
        self.kept.drain(..).for_each(|run| space.give_back(run, self.taker));
    }

    fn allocate(&mut self, pages: u32) -> Extent {
        if self.run.pages < pages {
            let (mut space, taker) = (self.engine.space.lock(), self.taker);
            if !self.run.is_empty() {
                space.give_back(self.run, taker);
            }
            let most = RUN_PAGES.max(pages);
            let low = self.below.and_then(|limit| space.allocate_below(limit, pages, most, taker));
            self.run = match low.or_else(|| space.allocate_up_to(most, taker)) {
                Some(run) if run.pages >= pages => run,
                Some(short) => {
                    space.give_back(short, taker);
                    space.allocate(pages, taker)
                }
                None => space.allocate(pages, taker),
            };
        }
        let extent = Extent { start: self.run.start, pages };
        self.run = Extent { start: extent.end(), pages: self.run.pages - pages };
        for page in extent.start.0..extent.end().0 {
            // A reader of an older state may have brought the page's former life back.
            self.engine.pages.forget(PageId(page));
        }
        extent
    }

    /// A buffer for the node that was placed last, which is so long, and what follows it in its run.
    fn buffer(&mut self, len: usize) -> Buf {
        let bytes = len.max(self.write_bytes().min(len + self.run.len_bytes() as usize));
        let spare = if bytes == self.write_bytes() { self.spare.pop() } else { None };
        spare.unwrap_or_else(|| Buf::zeroed(bytes))
    }

    fn write_bytes(&self) -> usize {
        WRITE_BYTES.min(self.in_flight_bytes_max()) / PAGE_BYTES * PAGE_BYTES
    }

    fn in_flight_bytes_max(&self) -> usize {
        self.engine.shares.nodes_in_flight_bytes_max
    }

    /// Issues what was queued, within the bounds, but for the buffer that is not full yet.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        self.grow().await?;
        while self.queue.len() > 1 || self.queue.front().is_some_and(Gathered::is_full) {
            self.issue_first().await?;
        }
        Ok(())
    }

    async fn issue_first(&mut self) -> Result<()> {
        let Some(Gathered { page, buf, len }) = self.queue.pop_front() else { return Ok(()) };
        self.issue(page, buf, len).await
    }

    /// Writes a blob into pages of its own.
    pub(crate) async fn write_blob(&mut self, bytes: &[u8]) -> Result<BlobRef> {
        let extent = self.place_pages(BlobRef::pages(bytes.len()) as u32);
        self.write_placed_blob(bytes, extent).await
    }

    /// Writes a blob into pages that were placed for it.
    pub(crate) async fn write_placed_blob(
        &mut self,
        bytes: &[u8],
        extent: Extent,
    ) -> Result<BlobRef> {
        self.grow().await?;
        let (mut at, end) = (0, extent.len_bytes() as usize);
        while at < end {
            let len = (end - at).min(BLOB_PIECE_BYTES);
            let piece = &bytes[at.min(bytes.len())..(at + len).min(bytes.len())];
            let mut buf = Buf::zeroed(len);
            buf[..piece.len()].copy_from_slice(piece);
            self.issue(PageId(extent.start.0 + (at / PAGE_BYTES) as u64), buf, len).await?;
            self.written_bytes += len as u64;
            at += len;
        }
        Ok(BlobRef::of(bytes, extent, &self.engine.file_id))
    }

    /// What was placed is what must be had; the rest of the run is not.
    pub(crate) async fn grow(&mut self) -> Result<()> {
        match self.engine.grow().await {
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                self.release_run();
                self.engine.grow().await
            }
            grown => grown,
        }
    }

    /// Writes the first bytes of a buffer to a page and those behind it.
    async fn issue(&mut self, page: PageId, buf: Buf, len: usize) -> Result<()> {
        let in_flight_max = self.in_flight_bytes_max();
        let held = buf.len();
        while self.in_flight_bytes + held > in_flight_max && self.in_flight_bytes > 0 {
            self.settle_one().await?;
        }
        if self.unsynced_bytes + len > UNSYNCED_BYTES_MAX / 2 {
            self.begin_sync().await?;
        }
        let write = self.engine.io.write(page.byte_offset(), buf, len);
        self.in_flight.push(Box::pin(async move {
            let (result, buf) = write.await;
            (held, result, buf)
        }));
        self.in_flight_bytes += held;
        self.unsynced_bytes += len;
        Ok(())
    }

    /// All so far was written when this returns.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        if !self.queue.is_empty() {
            self.grow().await?;
        }
        while !self.queue.is_empty() {
            self.issue_first().await?;
        }
        while !self.in_flight.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<()> {
        if let Some((held, result, buf)) = self.in_flight.next().await {
            self.in_flight_bytes -= held;
            result.map_err(|cause| self.engine.poison("a page write failed", cause))?;
            if buf.len() == self.write_bytes() {
                self.spare.push(buf);
            }
        }
        Ok(())
    }

    /// Everything written so far survives power loss when this returns.
    pub(crate) async fn sync(&mut self) -> Result<()> {
        self.settle().await?;
        self.begin_sync().await?;
        self.finish_sync().await
    }

    /// Has what was issued so far synced while more is written, once that before it is.
    async fn begin_sync(&mut self) -> Result<()> {
        self.finish_sync().await?;
        if !planted::is(Bug::PagesNotSynced) {
            self.syncing = Some(self.engine.io.sync());
        }
        self.unsynced_bytes = 0;
        Ok(())
    }

    async fn finish_sync(&mut self) -> Result<()> {
        let Some(syncing) = self.syncing.take() else { return Ok(()) };
        syncing.await.map_err(|cause| self.engine.poison("a sync failed", cause))
    }

    /// Hands over what was placed inside the file so far.
    pub(crate) fn hand_over(&mut self, pages: &mut Unpublished) {
        let grown_pages = self.engine.space.lock().grown_pages();
        let inside = |extent: &mut Extent| extent.end().0 <= grown_pages;
        self.placed.extract_if(.., inside).for_each(|extent| pages.add(extent));
    }

    /// Pages that lie written already are named by the new superblock. They stay others' to free if it fails.
    pub(crate) fn name_pages(&mut self, pages: &Unpublished) {
        self.values.extend(pages.extents());
    }

    /// What was placed so far and what is retired so far.
    pub(crate) fn pending(&self) -> (Vec<Extent>, Vec<Extent>) {
        ([&self.placed[..], &self.values].concat(), self.retired.clone())
    }

    /// All that changes hands when the checkpoint is published.
    pub(crate) fn changes(&mut self) -> Changes {
        self.release_run();
        let (placed, retired) = self.pending();
        [&mut self.placed, &mut self.values, &mut self.retired].into_iter().for_each(Vec::clear);
        let of = |extents| Runs::of(extents, FILE_PAGES_MAX).expect("a free map was made of them");
        let (placed, retired) = (of(placed), of(retired));
        Changes { placed, retired, superseded: std::mem::take(&mut self.superseded) }
    }

    fn release_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        if !run.is_empty() {
            self.engine.space.lock().give_back(run, self.taker);
        }
    }

    /// What it has placed and retired by now.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            placed: self.placed.len(),
            retired: self.retired.len(),
            values: self.values.len(),
            superseded: self.superseded.len(),
        }
    }

    /// What came since comes to nothing: what was placed is free after the next sync, and what was retired stays.
    pub(crate) async fn take_back(&mut self, mark: Mark) -> Result<()> {
        // Nothing is on its way to pages that others may have then.
        self.settle().await?;
        self.retired.truncate(mark.retired);
        self.values.truncate(mark.values);
        self.superseded.truncate(mark.superseded);
        self.engine.space.lock().orphan(self.placed.split_off(mark.placed));
        Ok(())
    }

    /// The checkpoint failed: its own pages become free after the next sync. Values stay with
    /// the memtables that hold them.
    pub(crate) fn abandon(&mut self) {
        self.release_run();
        self.give_kept();
        self.engine.space.lock().orphan(std::mem::take(&mut self.placed));
    }
}

#[cfg(test)]
mod tests;
