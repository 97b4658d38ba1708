//! Which frames are free.
//!
//! A map of busy bits, zero at first, and the border below which frames have been used before. Fresh frames above it are
//! taken only when no used one fits, from low to high, so memory is touched no sooner than it is needed.
//!
//! Frames are taken under the cache's lock, and given back without it: the garbage of an epoch is collected
//! by whoever comes by, a reader included, and readers take no lock. Lists of free frames would need one, and
//! would not show which frames are neighbours.

use crate::apart::Apart;
use crate::arena::{Pages, Zeroed};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const WORD_BITS: usize = u64::BITS as usize;

pub(crate) struct Space {
    busy: Zeroed<AtomicU64>,
    frames: usize,
    /// Free frames below the border. Raised after the bits are cleared: what it counts can be found.
    recycled: Apart<AtomicUsize>,
}

/// The part that changes under the lock only.
#[derive(Default)]
pub(crate) struct Border {
    /// First frame that was never used.
    pub(crate) fresh: usize,
    /// Where the next search begins.
    cursor: usize,
}

impl Space {
    pub(crate) fn new(frames: usize) -> Space {
        Space {
            busy: Zeroed::new(frames.div_ceil(WORD_BITS), Pages::Small),
            frames,
            recycled: Apart(AtomicUsize::new(0)),
        }
    }

    pub(crate) fn frames(&self) -> usize {
        self.frames
    }

    pub(crate) fn free(&self, border: &Border) -> usize {
        self.recycled.load(Ordering::Acquire) + self.frames - border.fresh
    }

    /// Takes that many neighbouring frames and returns the first.
    pub(crate) fn take(&self, border: &mut Border, run: usize) -> Option<usize> {
        if let Some(first) = self.take_recycled(border, run) {
            return Some(first);
        }
        let left = self.frames - border.fresh;
        if left >= run {
            let first = border.fresh;
            border.fresh += run;
            self.mark_busy(first..first + run);
            return Some(first);
        }
        if left == 0 {
            return None;
        }
        // Too few fresh ones for this run, but perhaps together with their used neighbours.
        border.fresh = self.frames;
        self.recycled.fetch_add(left, Ordering::Release);
        self.take_recycled(border, run)
    }

    /// Gives frames back that nobody can see any more.
    pub(crate) fn give(&self, frames: Range<usize>) {
        let run = frames.len();
        for (word, mask) in words(frames) {
            let before = self.busy[word].fetch_and(!mask, Ordering::Release);
            debug_assert_eq!(before & mask, mask, "what is given back was taken");
        }
        self.recycled.fetch_add(run, Ordering::Release);
    }

    fn take_recycled(&self, border: &mut Border, run: usize) -> Option<usize> {
        if self.recycled.load(Ordering::Acquire) < run {
            return None;
        }
        let first = self
            .find(border.cursor..border.fresh, run)
            .or_else(|| self.find(0..border.fresh, run))?;
        border.cursor = first + run;
        self.mark_busy(first..first + run);
        self.recycled.fetch_sub(run, Ordering::Relaxed);
        Some(first)
    }

    /// `Acquire` from those that gave the frames back: whatever was read in them has been read.
    fn mark_busy(&self, frames: Range<usize>) {
        for (word, mask) in words(frames) {
            let before = self.busy[word].fetch_or(mask, Ordering::Acquire);
            debug_assert_eq!(before & mask, 0, "what is taken was free");
        }
    }

    /// First run of free frames in the range, a word at a time.
    fn find(&self, range: Range<usize>, run: usize) -> Option<usize> {
        let (mut start, mut at) = (range.start, range.start);
        while at < range.end {
            let inside = WORD_BITS - at % WORD_BITS;
            let word = self.busy[at / WORD_BITS].load(Ordering::Relaxed) >> (at % WORD_BITS);
            if word & 1 == 1 {
                at += (word.trailing_ones() as usize).min(inside);
                start = at;
                continue;
            }
            at += (word.trailing_zeros() as usize).min(inside);
            if at.min(range.end) - start >= run {
                return Some(start);
            }
        }
        None
    }
}

/// The words of the map that a range of frames lies in, each with its bits.
fn words(frames: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let Range { start, end } = frames;
    (start / WORD_BITS..end.div_ceil(WORD_BITS)).map(move |word| {
        let low = start.saturating_sub(word * WORD_BITS);
        let high = (end - word * WORD_BITS).min(WORD_BITS);
        (word, u64::MAX << low & u64::MAX >> (WORD_BITS - high))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_split_at_words() {
        let check = |range: Range<usize>, expected: &[(usize, u64)]| {
            assert_eq!(words(range).collect::<Vec<_>>(), expected);
        };
        check(0..1, &[(0, 1)]);
        check(3..5, &[(0, 0b11000)]);
        check(0..64, &[(0, u64::MAX)]);
        check(63..66, &[(0, 1 << 63), (1, 0b11)]);
        check(64..65, &[(1, 1)]);
    }

    #[test]
    fn frames_come_from_the_low_end_and_used_ones_first() {
        let (space, mut border) = (Space::new(100), Border::default());
        assert_eq!(space.take(&mut border, 1), Some(0));
        assert_eq!(space.take(&mut border, 3), Some(1));
        assert_eq!(space.take(&mut border, 1), Some(4));
        space.give(1..4);
        assert_eq!(space.free(&border), 98);
        assert_eq!(space.take(&mut border, 4), Some(5));
        assert_eq!(space.take(&mut border, 2), Some(1));
        assert_eq!(space.take(&mut border, 1), Some(3));
        assert_eq!(border.fresh, 9);
    }

    #[test]
    fn a_run_is_found_across_words_and_not_among_scattered_frames() {
        let (space, mut border) = (Space::new(128), Border::default());
        for frame in 0..128 {
            assert_eq!(space.take(&mut border, 1), Some(frame));
        }
        assert_eq!(space.take(&mut border, 1), None);
        for frame in (0..40).step_by(2) {
            space.give(frame..frame + 1);
        }
        assert_eq!(space.take(&mut border, 2), None);
        space.give(50..82);
        assert_eq!(space.take(&mut border, 32), Some(50));
        assert_eq!(space.take(&mut border, 2), None);
        assert_eq!(space.free(&border), 20);
    }

    #[test]
    fn a_last_run_may_join_fresh_frames_to_used_ones() {
        let (space, mut border) = (Space::new(4), Border::default());
        assert_eq!(space.take(&mut border, 3), Some(0));
        space.give(1..3);
        assert_eq!(space.take(&mut border, 3), Some(1));
        assert_eq!(space.take(&mut border, 1), None);
    }
}
