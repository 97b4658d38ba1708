//! The log's place in the file: a chain of segments, each named by the one before.
//!
//! ```text
//! superblock ─▶ [header│group│group│…] ─▶ [header│group│…] ─▶ [header│    ] ─▶ (successor)
//!                  used, kept             current             ready            allocated
//! ```
//!
//! A segment is *ready* once its blocks are written and its header, which names its successor, is
//! durable. A group goes into the current segment if it fits there, else it opens a ready one.
//! Groups never span segments. The keeper makes segments ready ahead of need; admission lets no
//! commit in that the current or a ready segment could not take, so a group that is closed always
//! has its place. (I4)

use std::collections::VecDeque;

use crate::ids::{BLOCK_BYTES, Extent, PageId, Seq};

/// Ready segments the keeper holds ahead of the current one.
pub(crate) const READY_SEGMENTS: usize = 2;

/// First byte of a segment that a group may take.
pub(crate) const SEGMENT_BODY_BYTES: u64 = BLOCK_BYTES as u64;

/// A segment whose header is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) extent: Extent,
    pub(crate) ordinal: u64,
}

impl Segment {
    /// Bytes of groups it can take when empty.
    fn body_bytes(self) -> u64 {
        self.extent.len_bytes() - SEGMENT_BODY_BYTES
    }
}

/// A segment that holds groups up to a seq.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsedSegment {
    pub(crate) segment: Segment,
    /// Where its groups end, from its first byte.
    pub(crate) end_bytes: u64,
    pub(crate) last: Seq,
}

/// Where the next group goes, and what the log holds.
#[derive(Debug)]
pub(crate) struct LogPosition {
    current: Segment,
    offset_bytes: u64,
    /// Where the last group begins.
    last_group_bytes: u64,
    last: Seq,
    /// Bytes of groups since the memtables were frozen last.
    unfrozen_bytes: u64,
    used: VecDeque<UsedSegment>,
    ready: VecDeque<Segment>,
    /// The largest group that waited for room since the last segment was made ready.
    wanted_bytes: u64,
    leaving: Leaving,
}

/// Whether the log is to leave the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// For segments in front of this page, once there are some.
    Below(PageId),
    /// With the next group, for the ready segment of this ordinal.
    For(u64),
}

/// Where a closed group is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupPlace {
    pub(crate) ordinal: u64,
    pub(crate) offset_bytes: u64,
    /// The group opened a segment, so the keeper has work.
    pub(crate) opened: bool,
}

impl LogPosition {
    /// A log that continues in an empty segment; `used` are older ones still to be kept.
    pub(crate) fn new(current: Segment, used: VecDeque<UsedSegment>, last: Seq) -> LogPosition {
        let ready = VecDeque::with_capacity(READY_SEGMENTS + 1);
        LogPosition {
            current,
            offset_bytes: SEGMENT_BODY_BYTES,
            last_group_bytes: SEGMENT_BODY_BYTES,
            last,
            unfrozen_bytes: 0,
            used,
            ready,
            wanted_bytes: 0,
            leaving: Leaving::No,
        }
    }

    /// The largest padded group that could be placed now.
    pub(crate) fn room_bytes(&self) -> u64 {
        let ready = self.ready.iter().map(|segment| segment.body_bytes()).max();
        self.current_room_bytes().max(ready.unwrap_or(0))
    }

    fn current_room_bytes(&self) -> u64 {
        self.current.extent.len_bytes() - self.offset_bytes
    }

    /// Gives a group its place. Ready segments that are too small for it are passed over.
    pub(crate) fn place(&mut self, padded_bytes: u64, last: Seq) -> GroupPlace {
        assert!(padded_bytes <= self.room_bytes(), "admission let in more than the log can take");
        let mut opened = self.leave(padded_bytes);
        while padded_bytes > self.current_room_bytes() {
            self.open_next();
            opened = true;
        }
        let offset_bytes = self.current.extent.start.byte_offset() + self.offset_bytes;
        self.last_group_bytes = self.offset_bytes;
        self.offset_bytes += padded_bytes;
        self.unfrozen_bytes += padded_bytes;
        self.last = last;
        GroupPlace { ordinal: self.current.ordinal, offset_bytes, opened }
    }

    fn open_next(&mut self) {
        let next = self.ready.pop_front().expect("room_bytes counted a segment that fits");
        self.used.push_back(self.current());
        (self.current, self.offset_bytes) = (next, SEGMENT_BODY_BYTES);
    }

    /// Leaves for the segment that it is to leave for, unless the group does not fit there; says whether that is settled now.
    fn leave(&mut self, padded_bytes: u64) -> bool {
        let Leaving::For(ordinal) = self.leaving else { return false };
        self.leaving = Leaving::No;
        let there = self.ready.iter().find(|segment| segment.ordinal == ordinal);
        if there.is_some_and(|segment| padded_bytes <= segment.body_bytes()) {
            while self.current.ordinal < ordinal {
                self.open_next();
            }
        }
        true
    }

    /// The log is to leave for segments in front of a page; the keeper finds some.
    pub(crate) fn leave_for(&mut self, limit: PageId) {
        self.leaving = Leaving::Below(limit);
    }

    /// Where segments are wanted that it can leave for.
    pub(crate) fn leaves_for(&self) -> Option<PageId> {
        match self.leaving {
            Leaving::Below(limit) => Some(limit),
            Leaving::No | Leaving::For(_) => None,
        }
    }

    /// With the next group it leaves for the first ready segment that is good, as are those behind it, if they are enough. False if
    /// they are not.
    pub(crate) fn leave_now(&mut self, is_good: impl Fn(Extent) -> bool) -> bool {
        let good = self.ready.iter().rev().take_while(|segment| is_good(segment.extent));
        let Some(first) = good.take(READY_SEGMENTS + 1).nth(READY_SEGMENTS) else { return false };
        self.leaving = Leaving::For(first.ordinal);
        true
    }

    /// It stays where it is after all.
    pub(crate) fn stay(&mut self) {
        self.leaving = Leaving::No;
    }

    /// Whether it has not left yet and still is to.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving != Leaving::No
    }

    /// All its segments, those without groups among them.
    pub(crate) fn extents(&self) -> impl Iterator<Item = Extent> {
        let held = self.segments().map(|used| used.segment);
        held.chain(self.ready.iter().copied()).map(|segment| segment.extent)
    }

    fn current(&self) -> UsedSegment {
        let (segment, end_bytes, last) = (self.current, self.offset_bytes, self.last);
        UsedSegment { segment, end_bytes, last }
    }

    /// The memtables are frozen: a checkpoint makes what came so far needless.
    pub(crate) fn freeze(&mut self) {
        self.unfrozen_bytes = 0;
    }

    /// Bytes of groups whose rows are in memtables that are not frozen.
    pub(crate) fn unfrozen_bytes(&self) -> u64 {
        self.unfrozen_bytes
    }

    /// Where the last group begins, from the front of the current segment.
    pub(crate) fn last_group_bytes(&self) -> u64 {
        self.last_group_bytes
    }

    /// Every segment of the log that holds groups, from the oldest on.
    pub(crate) fn segments(&self) -> impl Iterator<Item = UsedSegment> {
        self.used.iter().copied().chain([self.current()])
    }

    pub(crate) fn wants_segment(&self) -> bool {
        self.ready.len() < READY_SEGMENTS || self.room_bytes() < self.wanted_bytes
    }

    /// A commit waits for this much room.
    pub(crate) fn want(&mut self, bytes: u64) {
        self.wanted_bytes = self.wanted_bytes.max(bytes);
    }

    pub(crate) fn wanted_bytes(&self) -> u64 {
        self.wanted_bytes
    }

    pub(crate) fn add_ready(&mut self, segment: Segment) {
        self.ready.push_back(segment);
        if self.room_bytes() >= self.wanted_bytes {
            self.wanted_bytes = 0;
        }
    }

    /// Segments before this one, where the newest superblock lets a replay begin, leave the log.
    ///
    /// Not those up to the checkpoint's seq: the segment that was current at the freeze may have
    /// taken no group since, and the superblock names it all the same.
    pub(crate) fn release_before(&mut self, first: Segment) -> Vec<Segment> {
        let keep = self.used.iter().position(|used| used.segment == first);
        let keep = keep.unwrap_or(self.used.len());
        self.used.drain(..keep).map(|used| used.segment).collect()
    }

    /// The first segment with groups above `seq`, or the one that the next group may go to.
    pub(crate) fn first_after(&self, seq: Seq) -> Segment {
        let kept = self.used.iter().find(|used| used.last > seq);
        kept.map_or(self.current, |used| used.segment)
    }

    /// Pages of all segments, the ready ones too.
    #[cfg(test)]
    pub(crate) fn pages(&self) -> u64 {
        self.extents().map(|extent| u64::from(extent.pages)).sum()
    }

    /// Bytes of groups, older segments counted whole.
    pub(crate) fn used_bytes(&self) -> u64 {
        let used = self.used.iter().map(|used| used.segment.extent.len_bytes()).sum::<u64>();
        used + self.offset_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(ordinal: u64, pages: u32) -> Segment {
        Segment { extent: Extent { start: PageId(ordinal * 100), pages }, ordinal }
    }

    #[test]
    fn groups_fill_a_segment_and_open_the_next() {
        let mut log = LogPosition::new(segment(1, 2), VecDeque::new(), Seq(0));
        log.add_ready(segment(2, 2));
        let first = log.place(8192, Seq(1));
        assert_eq!((first.ordinal, first.offset_bytes, first.opened), (1, 819_200 + 4096, false));
        let second = log.place(8192, Seq(2));
        assert_eq!((second.ordinal, second.offset_bytes, second.opened), (2, 1_642_496, true));
        assert_eq!(log.first_after(Seq(0)).ordinal, 1);
        assert_eq!(log.first_after(Seq(1)).ordinal, 2);
        assert_eq!(log.release_before(segment(2, 2)), vec![segment(1, 2)]);
    }

    #[test]
    fn a_ready_segment_that_is_too_small_is_passed_over() {
        let mut log = LogPosition::new(segment(1, 1), VecDeque::new(), Seq(0));
        log.add_ready(segment(2, 1));
        log.add_ready(segment(3, 8));
        assert_eq!(log.room_bytes(), 8 * 8192 - 4096);
        assert_eq!(log.place(32_768, Seq(9)).ordinal, 3);
        assert_eq!(log.release_before(segment(3, 8)).len(), 2);
    }

    #[test]
    fn the_segment_that_a_checkpoint_names_is_kept_though_the_next_group_left_it() {
        let mut log = LogPosition::new(segment(1, 2), VecDeque::new(), Seq(0));
        log.add_ready(segment(2, 2));
        log.place(8192, Seq(7));
        let named = log.first_after(Seq(7));
        assert_eq!((named.ordinal, log.place(8192, Seq(8)).ordinal), (1, 2));
        assert_eq!(log.release_before(named), vec![]);
    }

    #[test]
    fn the_log_leaves_for_the_first_of_enough_segments_with_the_next_group() {
        let mut log = LogPosition::new(segment(9, 2), VecDeque::new(), Seq(0));
        let is_good = |extent: Extent| extent.start < PageId(500);
        log.add_ready(segment(8, 2));
        log.leave_for(PageId(500));
        for ordinal in 1..=3 {
            assert!(!log.leave_now(is_good));
            let low = Segment { ordinal: 9 + ordinal, ..segment(ordinal, 2) };
            log.add_ready(low);
        }
        assert!(log.leave_now(is_good) && log.is_leaving());
        let place = log.place(4096, Seq(0));
        assert_eq!((place.ordinal, place.opened, log.is_leaving()), (10, true, false));
        assert_eq!(log.first_after(Seq(0)).ordinal, 10);
        assert_eq!(log.release_before(segment(1, 2)).len(), 2);
        assert!(!log.wants_segment());
    }

    #[test]
    fn a_group_that_is_too_large_for_the_segment_it_would_leave_for_lets_the_log_stay() {
        let mut log = LogPosition::new(segment(1, 8), VecDeque::new(), Seq(0));
        (2..5).for_each(|ordinal| log.add_ready(segment(ordinal, 1)));
        log.leave_for(PageId(900));
        assert!(log.leave_now(|_| true));
        let place = log.place(32_768, Seq(3));
        assert_eq!((place.ordinal, place.opened, log.is_leaving()), (1, true, false));
    }

    #[test]
    #[should_panic(expected = "admission")]
    fn a_group_without_a_place_is_our_mistake() {
        LogPosition::new(segment(1, 1), VecDeque::new(), Seq(0)).place(8192, Seq(1));
    }
}
