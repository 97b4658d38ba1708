//! The window: what recent commits wrote, for the validation of optimistic transactions.
//!
//! Every commit leaves its footprint here under the commit lock, in seq order; a transaction that
//! read at `after` commits only if no commit after `after` wrote what it read. No lock in here: the
//! commit lock is the lock.
//!
//! Footprints lie in chunks. The newest chunk is open and belongs to the lock; the others are
//! sealed, never change again, and can be shared. So the long part of a validation runs outside the
//! lock over sealed chunks, and the part inside meets at most the open chunk and what was sealed in
//! between:
//!
//! ```text
//!  lock    window.sealed(after, &mut sealed) -> up to     (or, if window.backlog(after)
//!  unlock  sealed.conflicts(after, &reads)                is small, all at once:)
//!  lock    window.conflicts(up to, &reads), take the seq, push the own footprint
//! ```
//!
//! Invariants
//! - The window knows every commit above `reach`. A transaction that read below it cannot be
//!   validated: `Overrun`, which is a conflict.
//! - A push copies and does not allocate, once all chunks exist: the oldest chunk is emptied and
//!   opened again. Only if a validation still holds that one is a new one allocated in its place.
//!
//! Rejected: a table of hash to last seq. It answers in one step per key read, and costs a cache
//! miss per key written, under the lock, in every commit, whether transactions run or not.

use std::collections::VecDeque;
use std::sync::Arc;

use super::footprint::{
    Detail, FOOTPRINT_KEYS_MAX, FOOTPRINT_RANGES_MAX, Footprint, KeyPrint, RangePrint, Reads,
};
use crate::ids::Seq;

/// Keys in a chunk; the most that a validation meets under the lock is a chunk or two.
const CHUNK_KEYS_MAX: usize = 512;
/// Ranges in a chunk.
const CHUNK_RANGES_MAX: usize = 64;
/// Commits in a chunk.
const CHUNK_COMMITS_MAX: usize = 512;
/// Keys after a transaction's read seq up to which it is as well validated under the lock at once:
/// about two microseconds.
pub(crate) const BACKLOG_INSIDE_MAX: usize = 512;
const _: () = assert!(FOOTPRINT_KEYS_MAX <= CHUNK_KEYS_MAX);
const _: () = assert!(FOOTPRINT_RANGES_MAX <= CHUNK_RANGES_MAX);

/// Bytes of a chunk.
const CHUNK_BYTES: usize = CHUNK_KEYS_MAX * size_of::<KeyPrint>()
    + CHUNK_RANGES_MAX * size_of::<RangePrint>()
    + CHUNK_COMMITS_MAX * size_of::<Mark>();

/// Whether a transaction may commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing that it read was written since.
    Clear,
    /// Something that it read was written since, or may have been.
    Conflict,
    /// The window no longer reaches back to its read seq.
    Overrun,
}

/// A commit in a chunk, and where its prints end.
#[derive(Clone, Copy)]
struct Mark {
    seq: Seq,
    keys_end: u32,
    ranges_end: u32,
}

struct Chunk {
    marks: Vec<Mark>,
    keys: Vec<KeyPrint>,
    ranges: Vec<RangePrint>,
}

/// The footprints of recent commits, bounded in bytes.
pub(crate) struct Window {
    /// Oldest first; never empty, and the last one is open and shared with nobody.
    chunks: VecDeque<Arc<Chunk>>,
    chunks_max: usize,
    reach: Seq,
}

/// Sealed chunks, taken out of the window to be checked without the lock. Reusable.
#[derive(Default)]
pub(crate) struct Sealed(Vec<Arc<Chunk>>);

impl Window {
    /// An empty window for commits above `reach`. It takes up to `bytes_max`, and two chunks of 28
    /// KiB at least.
    pub(crate) fn new(reach: Seq, bytes_max: usize) -> Window {
        let chunks_max = (bytes_max / CHUNK_BYTES).max(2);
        let mut chunks = VecDeque::with_capacity(chunks_max);
        chunks.push_back(Arc::new(Chunk::new()));
        Window { chunks, chunks_max, reach }
    }

    /// Leaves what the commit `seq` writes. Every commit must come by here or by `skip`, in seq
    /// order.
    pub(crate) fn push(&mut self, seq: Seq, footprint: &Footprint) {
        if footprint.0.detail == Detail::Everything {
            return self.skip(seq);
        }
        if !self.open().has_room(footprint) {
            self.seal();
        }
        let open = self.open();
        assert!(open.last() < Some(seq), "commits come in seq order");
        open.push(seq, footprint);
    }

    /// Gives up on all commits up to `seq`: what they wrote is not known, and transactions that
    /// read before conflict.
    ///
    /// For commits without a footprint: while no transaction is open nobody needs to build one.
    pub(crate) fn skip(&mut self, seq: Seq) {
        self.reach = self.reach.max(seq);
    }

    /// Compares what was read at `after` with every commit since.
    pub(crate) fn conflicts(&self, after: Seq, reads: &Reads) -> Verdict {
        if reads.is_empty() {
            return Verdict::Clear;
        }
        if after < self.reach {
            return Verdict::Overrun;
        }
        verdict(self.since(after), after, reads)
    }

    /// How many keys, about, `conflicts` would have to look at.
    pub(crate) fn backlog(&self, after: Seq) -> usize {
        self.since(after).map(|chunk| chunk.keys.len() + chunk.ranges.len()).sum()
    }

    /// Shares the sealed chunks with commits after `after`, to be checked without the lock. Gives
    /// the seq up to which they are complete, from which `conflicts` goes on later; `None` if the
    /// window does not reach back.
    pub(crate) fn sealed(&self, after: Seq, into: &mut Sealed) -> Option<Seq> {
        into.0.clear();
        if after < self.reach {
            return None;
        }
        into.0.extend(self.since(after).skip_while(|chunk| self.is_open(chunk)).cloned());
        Some(into.0.first().and_then(|newest| newest.last()).map_or(after, |seq| seq.max(after)))
    }

    /// The chunks with commits after `after`, newest first.
    fn since(&self, after: Seq) -> impl Iterator<Item = &Arc<Chunk>> {
        self.chunks.iter().rev().take_while(move |chunk| chunk.last() > Some(after))
    }

    fn is_open(&self, chunk: &Arc<Chunk>) -> bool {
        self.chunks.back().is_some_and(|open| Arc::ptr_eq(open, chunk))
    }

    fn open(&mut self) -> &mut Chunk {
        let open = self.chunks.back_mut().expect("there is always an open chunk");
        Arc::get_mut(open).expect("the open chunk is shared with nobody")
    }

    /// Closes the open chunk and opens another; the oldest one, if there are as many as there may
    /// be.
    fn seal(&mut self) {
        let oldest =
            if self.chunks.len() < self.chunks_max { None } else { self.chunks.pop_front() };
        let mut next = oldest.unwrap_or_else(|| Arc::new(Chunk::new()));
        if let Some(last) = next.last() {
            self.skip(last);
            match Arc::get_mut(&mut next) {
                Some(chunk) => chunk.clear(),
                None => next = Arc::new(Chunk::new()),
            }
        }
        self.chunks.push_back(next);
    }

    #[cfg(test)]
    /// Heap bytes that the window takes.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK_BYTES
    }
}

impl Sealed {
    /// Compares what was read at `after` with the commits since, as far as these chunks have them.
    pub(crate) fn conflicts(&self, after: Seq, reads: &Reads) -> Verdict {
        verdict(self.0.iter(), after, reads)
    }
}

fn verdict<'a>(
    mut chunks: impl Iterator<Item = &'a Arc<Chunk>>,
    after: Seq,
    reads: &Reads,
) -> Verdict {
    if chunks.any(|chunk| chunk.meets(after, reads)) { Verdict::Conflict } else { Verdict::Clear }
}

impl Chunk {
    fn new() -> Chunk {
        Chunk {
            marks: Vec::with_capacity(CHUNK_COMMITS_MAX),
            keys: Vec::with_capacity(CHUNK_KEYS_MAX),
            ranges: Vec::with_capacity(CHUNK_RANGES_MAX),
        }
    }

    fn clear(&mut self) {
        self.marks.clear();
        self.keys.clear();
        self.ranges.clear();
    }

    fn has_room(&self, footprint: &Footprint) -> bool {
        self.marks.len() < CHUNK_COMMITS_MAX
            && self.keys.len() + footprint.0.keys.len() <= CHUNK_KEYS_MAX
            && self.ranges.len() + footprint.0.ranges.len() <= CHUNK_RANGES_MAX
    }

    fn push(&mut self, seq: Seq, footprint: &Footprint) {
        self.keys.extend_from_slice(&footprint.0.keys);
        self.ranges.extend_from_slice(&footprint.0.ranges);
        let ends = (self.keys.len() as u32, self.ranges.len() as u32);
        self.marks.push(Mark { seq, keys_end: ends.0, ranges_end: ends.1 });
    }

    fn last(&self) -> Option<Seq> {
        self.marks.last().map(|mark| mark.seq)
    }

    fn meets(&self, after: Seq, reads: &Reads) -> bool {
        let first = self.marks.partition_point(|mark| mark.seq <= after);
        if reads.is_everything() {
            return first < self.marks.len();
        }
        let before = first.checked_sub(1).map(|place| self.marks[place]);
        let starts = before.map_or((0, 0), |mark| (mark.keys_end, mark.ranges_end));
        let (keys, ranges) = (&self.keys[starts.0 as usize..], &self.ranges[starts.1 as usize..]);
        keys.iter().any(|key| reads.meets_key(key))
            || ranges.iter().any(|range| reads.meets_range(range))
    }
}
