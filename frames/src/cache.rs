//! The handle: reading with a guard, inserting, removing.

use crate::guard::{Frame, Guard};
use crate::near;
use crate::shared::{Claim, Retired, Shared};
use crate::shortcuts::Shortcut;
use crate::table::Search;
use crate::tag::{LENGTH_MAX, PAGE_END, Tag};
use crossbeam_epoch as epoch;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Longest node that is cached, in frames.
pub const NODE_FRAMES_MAX: usize = LENGTH_MAX;
/// Largest page number that is cached.
pub const PAGE_MAX: u64 = PAGE_END - 1;

/// Frame numbers, plus one, are 32 bits in table and hints, and the table has at least two entries for each frame.
const FRAMES_END: usize = 1 << 31;
/// How often one `insert` tries to get garbage collected. Two advances of the epoch are needed, one for each; the rest
/// is for readers that come in between.
const ROUNDS_MAX: usize = 4;

/// What `insert` may do to find room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// Evict nodes that were not used lately.
    Evict,
    /// Use free frames only: for read-ahead that must push out nothing.
    IfFree,
}

/// Whether a node may have shortcuts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum May {
    /// Not now.
    Not,
    /// It may, and others had them noted.
    Note,
    /// It may from now on, and has none yet.
    NoteAll,
}

/// Counters of a cache at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CacheStats {
    /// Bytes of all frames in use: nodes, those being filled, and those evicted that guards may still see.
    pub bytes: usize,
    /// What `bytes` never exceeds.
    pub bytes_max: usize,
    /// Nodes that can be found.
    pub nodes: usize,
    /// Frames in use, `bytes` counted in frames.
    pub frames: usize,
    /// Nodes evicted to make room, since the beginning.
    pub evictions: u64,
    /// Nodes inserted, since the beginning.
    pub inserts: u64,
}

/// A cache of nodes, bounded in bytes. Share it by reference or in an `Arc`.
///
/// See the crate's documentation for how it works and why that is sound.
pub struct Cache {
    shared: Arc<Shared>,
}

impl Cache {
    /// A cache of at most `bytes_max` bytes in frames of `frame_bytes`, and `shortcut_bytes` for shortcuts beside them, 8 for
    /// each. It takes address space at once, memory as it fills. With less than one frame it is legal and caches nothing.
    ///
    /// # Panics
    ///
    /// If `frame_bytes` is not a power of two, if there would be 2³¹ frames or more, or if the address space is too small.
    pub fn new(bytes_max: usize, frame_bytes: usize, shortcut_bytes: usize) -> Cache {
        assert!(frame_bytes.is_power_of_two(), "a frame of {frame_bytes} bytes");
        let frames = bytes_max / frame_bytes;
        assert!(frames < FRAMES_END, "a cache of {frames} frames");
        let frame_shift = frame_bytes.trailing_zeros();
        Cache { shared: Arc::new(Shared::new(frames, frame_shift, shortcut_bytes)) }
    }

    /// The node at `page`, if it is cached. Takes no lock (unless writers move table entries all the time), and
    /// writes shared memory only if the node was not used since the clock's hand came by.
    #[inline]
    pub fn get<'g>(&self, page: u64, guard: &'g Guard) -> Option<Frame<'g>> {
        match self.shared.table.search(page, |frame| self.frame(frame, page, guard)) {
            Search::Found(frame) => Some(frame),
            Search::Absent => None,
            Search::Moving => self.get_locked(page, guard),
        }
    }

    /// As [`Cache::get`], for child `index` of `parent`: first looks where that child was last seen, and remembers
    /// where it is found. Any index and any parent are safe; wrong ones cost the lookup.
    ///
    /// `front` is how many bytes of the child its reader will look at first: where the hint says the child is, they
    /// are asked for beside its tag, and not only when the tag has come.
    #[inline]
    pub fn get_child<'g>(
        &self,
        parent: &Frame<'g>,
        index: usize,
        page: u64,
        front: usize,
        guard: &'g Guard,
    ) -> Option<Frame<'g>> {
        // SAFETY: the guard outlives this call, and the hint is used in it only.
        let Some(hint) = (unsafe { self.shared.hints.child(parent.place(), index) }) else {
            return self.get(page, guard);
        };
        let place = hint.load(Ordering::Relaxed);
        if let Some(frame) = (place as usize).checked_sub(1) {
            near::ask_at(self.shared.frame_address(frame).as_ptr(), front);
            let found = self.frame(frame, page, guard);
            if found.is_some() {
                return found;
            }
        }
        let found = self.get(page, guard)?;
        hint.store(found.place() as u32 + 1, Ordering::Relaxed);
        Some(found)
    }

    /// Asks the processor for the place where a shortcut for this hash would be.
    #[inline]
    pub fn bring_shortcut_near(&self, hash: u64) {
        self.shared.shortcuts.bring_near(hash);
    }

    /// A shortcut that was noted for this hash, or for one like it.
    #[inline]
    pub fn shortcut(&self, hash: u64) -> Option<Shortcut> {
        self.shared.shortcuts.find(hash)
    }

    /// Asks the processor for what following a shortcut reads: besides the cache's own words these bytes of the node, as far as
    /// they lie in its first frame.
    #[inline]
    pub fn bring_near_by(&self, shortcut: Shortcut, bytes: impl IntoIterator<Item = Range<usize>>) {
        let frame = shortcut.frame();
        self.shared.tags.bring_near(frame);
        if frame >= self.shared.frames() {
            return;
        }
        let (start, len) = (self.shared.frame_address(frame), 1 << self.shared.frame_shift());
        for Range { start: first, end } in bytes {
            let (first, end) = (first.min(len), end.min(len));
            near::ask_at(start.as_ptr().wrapping_add(first), end.saturating_sub(first));
        }
    }

    /// The node that a shortcut leads to, if it is current in this turn: then whoever reads in this turn may find it by a
    /// descent, too. Which of its rows is meant, if any, is for the caller to find out.
    #[inline]
    pub fn follow<'g>(&self, shortcut: Shortcut, turn: u64, guard: &'g Guard) -> Option<Frame<'g>> {
        let frame = shortcut.frame();
        let tag = self.shared.tags.load_current(frame)?;
        // Only now: see the crate's documentation.
        (self.shared.turn() == turn).then(|| self.frame_of(frame, tag, guard))
    }

    /// Says that whoever reads in this turn finds the node by a descent, as the caller just did, and asks whether it may
    /// have shortcuts. The first to ask is told to wait: the node may be gone soon. The frame must be one of this cache.
    #[inline]
    pub fn ask_for_shortcuts(&self, frame: &Frame<'_>, turn: u64) -> May {
        let tag = self.shared.tags.load(frame.place());
        if tag.is_empty() || self.shared.turn() != turn {
            return May::Not;
        }
        if tag.is_current() {
            return May::Note;
        }
        if !tag.is_seen() {
            self.shared.tags.mark_seen(frame.place(), tag);
            return May::Not;
        }
        match self.shared.make_current(frame.place(), turn) {
            true => May::NoteAll,
            false => May::Not,
        }
    }

    /// Notes a shortcut for the hash: the place, below [`PLACE_END`](crate::PLACE_END), is the caller's to read. One that
    /// does not fit is not noted.
    #[inline]
    pub fn note(&self, hash: u64, frame: &Frame<'_>, place: u32) {
        self.shared.shortcuts.put(hash, frame.place(), place);
    }

    /// Begins a turn: no reader that knows of it finds one of the pages of `past` by a descent. Turns ascend from 0, and
    /// are told to readers only after this has returned.
    pub fn begin_turn(&self, turn: u64, past: impl IntoIterator<Item = u64>) {
        self.shared.begin_turn(turn, past.into_iter());
    }

    /// Copies a node into the cache. `children` is the number of children that [`Cache::get_child`] will be asked for.
    ///
    /// Returns whether the page is cached now. If it was already, nothing is replaced. It is not if there is no
    /// room: no free frame, and with [`Room::Evict`] none to be had either, because guards (perhaps the caller's own) may
    /// still see what was evicted. It never waits for a guard and never grows past the bound. Nodes of more than
    /// [`NODE_FRAMES_MAX`] frames or beyond [`PAGE_MAX`] are not cached.
    ///
    /// # Panics
    ///
    /// If the length is zero or not a multiple of the frame's.
    pub fn insert(&self, page: u64, bytes: &[u8], children: usize, room: Room) -> bool {
        let run = bytes.len() >> self.shared.frame_shift();
        let whole = run > 0 && run << self.shared.frame_shift() == bytes.len();
        assert!(whole, "a node of {} bytes", bytes.len());
        if run > NODE_FRAMES_MAX.min(self.shared.frames()) || page > PAGE_MAX {
            return false;
        }
        let claim = match room {
            Room::Evict => self.claim(page, run),
            Room::IfFree => self.shared.claim_free(page, run),
        };
        match claim {
            Claim::Present => true,
            Claim::Full => false,
            Claim::Taken(frame) => {
                self.fill(frame, bytes);
                self.shared.publish(page, frame, run, children);
                true
            }
        }
    }

    /// Forgets a page that was freed. Readers under a guard may finish.
    pub fn remove(&self, page: u64) {
        let garbage = self.shared.remove(page);
        if !garbage.is_empty() {
            self.defer(garbage, &epoch::pin());
        }
    }

    /// Counters. Takes the writers' lock for a moment.
    pub fn stats(&self) -> CacheStats {
        let counts = self.shared.counts();
        let frame_shift = self.shared.frame_shift();
        CacheStats {
            bytes: counts.frames_held << frame_shift,
            bytes_max: self.shared.frames() << frame_shift,
            nodes: counts.nodes,
            frames: counts.frames_held,
            evictions: counts.evictions,
            inserts: counts.inserts,
        }
    }

    /// The node in a frame, if its tag says that page.
    #[inline]
    fn frame<'g>(&self, frame: usize, page: u64, guard: &'g Guard) -> Option<Frame<'g>> {
        self.shared.tags.load_used(frame, page).map(|tag| self.frame_of(frame, tag, guard))
    }

    /// The node that the tag speaks of. The tag must have been loaded under that guard.
    #[inline]
    fn frame_of<'g>(&self, frame: usize, tag: Tag, _guard: &'g Guard) -> Frame<'g> {
        let len_bytes = tag.frames() << self.shared.frame_shift();
        // SAFETY: a tag is stored after its frames were filled, and no byte of them is written while a guard
        // lives that saw it (the crate's documentation has the proof); `'g` borrows that guard.
        let bytes = unsafe {
            std::slice::from_raw_parts(self.shared.frame_address(frame).as_ptr(), len_bytes)
        };
        Frame::new(bytes, frame as u32)
    }

    #[cold]
    fn get_locked<'g>(&self, page: u64, guard: &'g Guard) -> Option<Frame<'g>> {
        let frame = self.shared.find_locked(page)?;
        // May have been evicted since: then it is absent, which was true at some moment.
        self.frame(frame, page, guard)
    }

    /// Finds room for a run, evicting. Each round evicts, then lets the epoch advance if no guard is in the way.
    fn claim(&self, page: u64, run: usize) -> Claim {
        let mut guard = epoch::pin();
        for _ in 0..ROUNDS_MAX {
            let (claim, garbage) = self.shared.claim(page, run);
            if !garbage.is_empty() {
                self.defer(garbage, &guard);
            }
            let Claim::Full = claim else { return claim };
            guard.repin();
            guard.flush();
            guard.repin();
            guard.flush();
        }
        self.shared.claim_free(page, run)
    }

    /// Lets garbage be released after all guards of now, and hands it to all threads: this one may never come back.
    fn defer(&self, garbage: Vec<Retired>, guard: &epoch::Guard) {
        let shared = Arc::clone(&self.shared);
        // The proof of the crate's documentation hangs on this: unlinked before, released after.
        guard.defer(move || shared.release(garbage));
        guard.flush();
    }

    /// Copies into claimed frames, outside the lock: the first touch of a huge page takes the system a while.
    fn fill(&self, frame: usize, bytes: &[u8]) {
        let address = self.shared.frame_address(frame).as_ptr();
        // SAFETY: the frames are claimed, as many as the bytes need, so nobody else reads or writes them
        // until they are published; and `bytes` is not in them, as it is borrowed from elsewhere or from published ones.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address, bytes.len()) };
    }
}

impl Drop for Cache {
    /// The memory goes when the last guard of now does: frames borrow guards, not the cache.
    fn drop(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut guard = epoch::pin();
        guard.defer(move || drop(shared));
        for _ in 0..ROUNDS_MAX {
            guard.flush();
            guard.repin();
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("stats", &self.stats()).finish()
    }
}
