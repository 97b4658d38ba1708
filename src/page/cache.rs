//! The page cache: what is in a frame is read at once, what is not is fetched once.
//!
//! A node is verified against its parent's checksum and checked in its structure when it is
//! loaded, before anybody else sees it; afterwards decoding cannot fail. (I7) Readers that want
//! the same missing node share one read. A reader keeps the nodes it fetched in hand until its
//! descent ends, so it makes progress even where the cache has no room for them.

use std::collections::HashMap;
use std::ops::{Deref, Range};
use std::pin::Pin;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{Shared, WeakShared};
use ringdb_frames::{Cache, CacheStats, Frame, Guard, Room};
use ringdb_uring::planted::{self, Bug};
use ringdb_uring::threads::Mutex;
use ringdb_uring::{Buf, Io};

use crate::error::{Error, ErrorKind, Result};
use crate::format::lies_inside;
use crate::format::node_ref::NodeRef;
use crate::ids::{FamilyId, PAGE_BYTES, PageId};
use crate::options::Shares;
use crate::page::lookups::Lookups;
use crate::state::Hold;
use crate::tree::{self, Expected, Pages, Wanted};

type Loading = Pin<Box<dyn Future<Output = Result<Arc<Buf>>> + Send>>;
/// A node that is being fetched, shared by all who wait for it.
pub(crate) type Fetch = Shared<Loading>;

pub(crate) struct PageCache {
    frames: Cache,
    io: Io,
    file_id: [u8; 16],
    loading: Mutex<HashMap<PageId, WeakShared<Loading>>>,
}

/// Nodes that a reader fetched and keeps until its descent ends.
#[derive(Default)]
pub(crate) struct Held(Vec<(PageId, Arc<Buf>)>);

impl Held {
    pub(crate) fn add(&mut self, node: NodeRef, bytes: Arc<Buf>) {
        self.0.push((node.page, bytes));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn get(&self, page: PageId) -> Option<&[u8]> {
        self.0.iter().find(|(held, _)| *held == page).map(|(_, bytes)| &***bytes)
    }
}

/// What one synchronous step of a descent can see.
pub(crate) struct View<'g> {
    pub(super) frames: &'g Cache,
    pub(super) guard: &'g Guard,
    held: &'g Held,
}

/// A node's bytes during one step.
#[derive(Clone, Copy)]
pub(crate) enum Page<'a> {
    Frame(Frame<'a>),
    Held(&'a [u8]),
}

impl<'a> Page<'a> {
    /// The bytes, for as long as the step goes on.
    #[inline]
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Page::Frame(frame) => frame.bytes(),
            Page::Held(bytes) => bytes,
        }
    }
}

impl Deref for Page<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Page::Frame(frame) => frame,
            Page::Held(bytes) => bytes,
        }
    }
}

impl Pages for View<'_> {
    type Page<'a>
        = Page<'a>
    where
        Self: 'a;

    #[inline]
    fn root(&self, node: NodeRef) -> Option<Page<'_>> {
        match self.frames.get(node.page.0, self.guard) {
            Some(frame) => Some(Page::Frame(frame)),
            None => self.held.get(node.page).map(Page::Held),
        }
    }

    #[inline]
    fn child<'a>(
        &'a self,
        parent: Page<'a>,
        index: usize,
        node: NodeRef,
        front: usize,
    ) -> Option<Page<'a>> {
        let found = match &parent {
            Page::Frame(frame) => {
                self.frames.get_child(frame, index, node.page.0, front, self.guard)
            }
            Page::Held(_) => self.frames.get(node.page.0, self.guard),
        };
        match found {
            Some(frame) => Some(Page::Frame(frame)),
            None => self.held.get(node.page).map(Page::Held),
        }
    }

    #[inline]
    fn bring_near(&self, page: Page<'_>, bytes: Range<usize>) {
        match page {
            Page::Frame(frame) => frame.bring_near(bytes),
            // It was just read from the file.
            Page::Held(_) => {}
        }
    }
}

impl PageCache {
    pub(crate) fn new(io: Io, file_id: [u8; 16], shares: &Shares) -> PageCache {
        let frames = Cache::new(shares.cache_bytes_max, PAGE_BYTES, shares.shortcut_bytes_max);
        PageCache { frames, io, file_id, loading: Mutex::new(HashMap::new()) }
    }

    pub(crate) fn view<'g>(&'g self, guard: &'g Guard, held: &'g Held) -> View<'g> {
        View { frames: &self.frames, guard, held }
    }

    /// For lookups in a state that keeps `hold`.
    #[inline]
    pub(crate) fn lookups<'g>(
        &'g self,
        guard: &'g Guard,
        held: &'g Held,
        hold: &Hold,
    ) -> Lookups<'g> {
        Lookups::new(self.view(guard, held), hold)
    }

    /// Readers will be given a state that keeps `hold`, in which no tree names these pages any more.
    pub(crate) fn begin_turn(&self, hold: &Hold, retired: impl Iterator<Item = PageId>) {
        self.frames.begin_turn(hold.turn, retired.map(|page| page.0));
    }

    pub(crate) fn stats(&self) -> CacheStats {
        self.frames.stats()
    }

    /// The page was retired; nobody will ask for these bytes again.
    pub(crate) fn forget(&self, page: PageId) {
        self.frames.remove(page.0);
    }

    /// Keeps a node that was just written, if there is room to spare.
    pub(crate) fn keep(&self, node: NodeRef, bytes: &[u8], room: Room) {
        self.frames.insert(node.page.0, bytes, tree::child_count(bytes), room);
    }

    /// Whether the node is in a frame.
    pub(crate) fn has(&self, node: NodeRef) -> bool {
        self.frames.get(node.page.0, &ringdb_frames::pin()).is_some()
    }

    /// Fetches a node, or joins whoever is fetching it.
    pub(crate) fn load(self: &Arc<Self>, wanted: Wanted, family: FamilyId) -> Fetch {
        let page = wanted.node.page;
        let mut loading = self.loading.lock();
        if let Some(shared) = loading.get(&page).and_then(WeakShared::upgrade) {
            return shared;
        }
        // Fetches that all their readers dropped leave their entries behind.
        if loading.len() == loading.capacity() {
            loading.retain(|_, fetch| fetch.upgrade().is_some());
        }
        let fetch: Loading = Box::pin(self.clone().fetch(wanted, family));
        let shared = fetch.shared();
        loading.insert(page, shared.downgrade().expect("it has not been polled"));
        shared
    }

    /// Fetches that are remembered, dropped ones among them.
    #[cfg(test)]
    pub(crate) fn loading_entries(&self) -> usize {
        self.loading.lock().len()
    }

    async fn fetch(self: Arc<Self>, wanted: Wanted, family: FamilyId) -> Result<Arc<Buf>> {
        let fetched = self.read(wanted, family).await;
        if let Ok(bytes) = &fetched {
            self.keep(wanted.node, bytes, Room::Evict);
        }
        self.loading.lock().remove(&wanted.node.page);
        fetched.map(Arc::new)
    }

    /// Reads and checks a node past the cache. (I7)
    pub(crate) async fn read(&self, wanted: Wanted, family: FamilyId) -> Result<Buf> {
        let node = wanted.node;
        let place = |what: &str| {
            let path = self.io.path().display();
            let offset = node.page.byte_offset();
            format!("{path}: {what}, page {}, offset {offset}, family {}", node.page.0, family.0)
        };
        let corrupt = |what: &str| {
            let error = Error::new(ErrorKind::Corrupt, "a page is not what was written");
            error.with_detail(place(what))
        };
        if !lies_inside(node.extent(), self.io.len_bytes() / PAGE_BYTES as u64) {
            return Err(corrupt("it lies outside of the file"));
        }
        let (result, buf) =
            self.io.read(node.page.byte_offset(), self.io.read_buf(node.len_bytes())).await;
        result.map_err(|cause| {
            Error::of_read("reading a page failed", cause).with_detail(place("read"))
        })?;
        if planted::is(Bug::NodeNotVerified) {
            return Ok(buf);
        }
        node.verify(&buf, &self.file_id).map_err(|defect| corrupt(defect.what))?;
        tree::check(&buf, Expected { wanted, family }).map_err(corrupt)?;
        Ok(buf)
    }
}
