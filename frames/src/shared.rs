//! What the cache's handle and the garbage that waits for guards own together.

use crate::apart::Apart;
use crate::arena::{Arena, Pages};
use crate::clock::Clock;
use crate::hints::{HintSlots, Hints};
use crate::shortcuts::Shortcuts;
use crate::space::{Border, Space};
use crate::table::Table;
use crate::tag::{Tag, Tags};
use parking_lot::{Mutex, MutexGuard};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// All hints together may take this part of the arena's size.
const HINT_SHARE: usize = 32;
/// Most frames that one `insert` evicts: they go by in one piece of garbage.
const BATCH_MAX: usize = 64;
/// Pages that are made past before others get the lock.
const PAST_BATCH: usize = 64;
/// Most frames that are kept free ahead.
const AHEAD_MAX: usize = 256;
/// The part of the frames that may wait for guards. A reader that loses its core under a guard stops the epoch for
/// milliseconds, and what can wait meanwhile is what can be inserted; a guard kept for ever makes this part useless.
const WAITING_SHARE: usize = 8;
/// Caches from this many frames on keep some free ahead, so that `insert` seldom waits for an epoch.
const AHEAD_FRAMES_MIN: usize = 1024;

/// Read by readers; the padded parts are the writers'.
pub(crate) struct Shared {
    arena: Arena,
    frame_shift: u32,
    pub(crate) tags: Tags,
    pub(crate) hints: HintSlots,
    pub(crate) table: Table,
    pub(crate) shortcuts: Shortcuts,
    /// What is current changes with it, under the lock.
    turn: AtomicU64,
    space: Space,
    limits: Limits,
    /// Frames that were emptied and not yet given back to the space.
    waiting: Apart<AtomicUsize>,
    ledger: Apart<Mutex<Ledger>>,
}

/// What follows from the size.
struct Limits {
    hint_bytes: usize,
    batch: usize,
    /// Free frames below which some are evicted ahead.
    ahead: usize,
    /// Frames waiting for guards from which on none are evicted.
    waiting: usize,
}

/// What changes under the lock.
#[derive(Default)]
struct Ledger {
    border: Border,
    clock: Clock,
    limbo: Vec<Retired>,
    hint_bytes: usize,
    nodes: usize,
    inserts: u64,
    evictions: u64,
}

/// A node that no new reader can find; dropping it while an old one could read would be wrong.
pub(crate) struct Retired {
    frames: Range<usize>,
    hints: Option<Hints>,
}

/// Answer to a wish for frames.
pub(crate) enum Claim {
    /// The page is there already.
    Present,
    /// These are the caller's, until it publishes them.
    Taken(usize),
    /// None now; some after the garbage that comes with this answer, if any.
    Full,
}

/// Counts under the lock.
pub(crate) struct Counts {
    pub(crate) frames_held: usize,
    pub(crate) nodes: usize,
    pub(crate) inserts: u64,
    pub(crate) evictions: u64,
}

impl Shared {
    pub(crate) fn new(frames: usize, frame_shift: u32, shortcut_bytes: usize) -> Shared {
        let len_bytes = frames << frame_shift;
        let batch = (frames / 64).clamp(1, BATCH_MAX);
        let ahead = if frames < AHEAD_FRAMES_MIN { 0 } else { (frames / 64).min(AHEAD_MAX) };
        Shared {
            arena: Arena::new(len_bytes, Pages::Huge),
            frame_shift,
            tags: Tags::new(frames),
            hints: HintSlots::new(frames),
            table: Table::new(frames),
            shortcuts: Shortcuts::new(shortcut_bytes),
            turn: AtomicU64::new(0),
            space: Space::new(frames),
            limits: Limits {
                hint_bytes: len_bytes / HINT_SHARE,
                batch,
                ahead,
                waiting: (frames / WAITING_SHARE).max(2 * batch),
            },
            waiting: Apart(AtomicUsize::new(0)),
            ledger: Apart(Mutex::default()),
        }
    }

    pub(crate) fn frames(&self) -> usize {
        self.space.frames()
    }

    pub(crate) fn frame_shift(&self) -> u32 {
        self.frame_shift
    }

    /// Address of a frame's first byte.
    #[inline]
    pub(crate) fn frame_address(&self, frame: usize) -> NonNull<u8> {
        debug_assert!(frame < self.frames());
        // SAFETY: the arena holds all frames, and `frame` is one of them.
        unsafe { self.arena.base().add(frame << self.frame_shift) }
    }

    /// The page's frame, exactly, at the price of the lock.
    pub(crate) fn find_locked(&self, page: u64) -> Option<usize> {
        let _ledger = self.ledger.lock();
        self.probe(page)
    }

    /// Frames for the page if any are free.
    pub(crate) fn claim_free(&self, page: u64, run: usize) -> Claim {
        let mut ledger = self.ledger.lock();
        if self.probe(page).is_some() {
            return Claim::Present;
        }
        self.space.take(&mut ledger.border, run).map_or(Claim::Full, Claim::Taken)
    }

    /// Frames for the page, and garbage to be deferred: what is evicted for this page or ahead of the next.
    pub(crate) fn claim(&self, page: u64, run: usize) -> (Claim, Vec<Retired>) {
        let mut ledger = self.ledger.lock();
        if self.probe(page).is_some() {
            return (Claim::Present, Vec::new());
        }
        let taken = self.space.take(&mut ledger.border, run);
        let waiting = self.waiting.load(Ordering::Relaxed);
        match taken {
            None => self.evict(&mut ledger, run),
            Some(_) if self.space.free(&ledger.border) + waiting < self.limits.ahead => {
                self.evict(&mut ledger, 1);
            }
            Some(frame) => return (Claim::Taken(frame), Vec::new()),
        }
        (taken.map_or(Claim::Full, Claim::Taken), std::mem::take(&mut ledger.limbo))
    }

    /// Makes claimed and filled frames visible, unless the page came in meanwhile.
    pub(crate) fn publish(&self, page: u64, frame: usize, run: usize, children: usize) {
        let mut ledger = self.ledger.lock();
        if self.probe(page).is_some() {
            // Never published, so never seen: no guard has to be waited for.
            return self.space.give(frame..frame + run);
        }
        let hint_bytes = ledger.hint_bytes.saturating_add(Hints::bytes_for(children));
        if hint_bytes <= self.limits.hint_bytes
            && let Some(hints) = Hints::new(children)
        {
            ledger.hint_bytes = hint_bytes;
            self.hints.put(frame, hints);
        }
        self.tags.publish(frame, Tag::new(page, run));
        self.table.insert(page, frame);
        ledger.nodes += 1;
        ledger.inserts += 1;
    }

    /// The turn; `Acquire`, to be loaded behind a tag.
    #[inline]
    pub(crate) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }

    /// Begins a turn, in which those pages are not current.
    pub(crate) fn begin_turn(&self, turn: u64, past: impl Iterator<Item = u64>) {
        let mut ledger = self.ledger.lock();
        self.turn.store(turn, Ordering::Release);
        for (index, page) in past.enumerate() {
            if index % PAST_BATCH == PAST_BATCH - 1 {
                // Others want to insert.
                MutexGuard::bump(&mut ledger);
            }
            if let Some(frame) = self.probe(page) {
                self.tags.make_past(frame);
            }
        }
    }

    /// Makes the node in a frame current, if it is still there and the turn is that one. Nobody waits for it. The caller found
    /// the node under a guard that lives, so the frame holds that node or none.
    pub(crate) fn make_current(&self, frame: usize, turn: u64) -> bool {
        let Some(_ledger) = self.ledger.try_lock() else { return false };
        let may_be = self.turn() == turn && !self.tags.load(frame).is_empty();
        if may_be {
            self.tags.make_current(frame);
        }
        may_be
    }

    /// Takes a page out. Returns garbage to be deferred, once there is enough of it.
    pub(crate) fn remove(&self, page: u64) -> Vec<Retired> {
        let mut ledger = self.ledger.lock();
        let Some(frame) = self.probe(page) else { return Vec::new() };
        self.retire(&mut ledger, frame);
        if ledger.limbo.len() < self.limits.batch {
            return Vec::new();
        }
        std::mem::take(&mut ledger.limbo)
    }

    /// Gives garbage back to the space. Every guard that could have seen it is gone.
    pub(crate) fn release(&self, garbage: Vec<Retired>) {
        for retired in garbage {
            let run = retired.frames.len();
            drop(retired.hints);
            self.space.give(retired.frames);
            self.waiting.fetch_sub(run, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let ledger = self.ledger.lock();
        Counts {
            frames_held: self.frames() - self.space.free(&ledger.border),
            nodes: ledger.nodes,
            inserts: ledger.inserts,
            evictions: ledger.evictions,
        }
    }

    fn probe(&self, page: u64) -> Option<usize> {
        self.table.probe(page, |frame| self.tags.load(frame).holds(page).then_some(frame))
    }

    /// Evicts room for a run, or a batch of single frames; nothing if enough waits for guards already: a guard that is
    /// never dropped must not empty the cache.
    fn evict(&self, ledger: &mut Ledger, run: usize) {
        let batch = if run == 1 { self.limits.batch } else { run };
        if self.waiting.load(Ordering::Relaxed) >= self.limits.waiting.max(run) {
            return;
        }
        let mut evicted = 0;
        while evicted < batch {
            let end = ledger.border.fresh;
            let Some(victims) = ledger.clock.victims(&self.tags, end, run) else { return };
            evicted += victims.len();
            let mut frame = victims.start;
            while frame < victims.end {
                let tag = self.tags.load(frame);
                if !tag.is_empty() {
                    self.retire(ledger, frame);
                    ledger.evictions += 1;
                }
                frame += tag.frames();
            }
        }
    }

    /// Unlinks a node: table, tag, hints, in this order (moving table entries asks the tags).
    fn retire(&self, ledger: &mut Ledger, frame: usize) {
        let tag = self.tags.load(frame);
        debug_assert!(!tag.is_empty(), "only a node is retired");
        self.table.remove(tag.page(), frame, |frame| self.tags.load(frame).page());
        self.tags.empty(frame);
        let hints = self.hints.take(frame);
        ledger.hint_bytes -= hints.as_ref().map_or(0, Hints::len_bytes);
        ledger.nodes -= 1;
        self.waiting.fetch_add(tag.frames(), Ordering::Relaxed);
        ledger.limbo.push(Retired { frames: frame..frame + tag.frames(), hints });
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for frame in 0..self.ledger.get_mut().border.fresh {
            drop(self.hints.take(frame));
        }
    }
}
