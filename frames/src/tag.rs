//! What a frame holds, in one atomic word.
//!
//! ```text
//! bit  0     occupied   zero: free, being filled, inside a longer node, or waiting for guards
//! bit  1     used       read since the clock's hand last came by
//! bit  2     seen       asked once whether it may have shortcuts
//! bit  3     current    may have shortcuts: what is read now names it
//! bits 4..9  length     frames of the node, less one
//! bits 9..64 page
//! ```
//!
//! One word, so that a hit has one line to miss: page, length and the used bit come together. A used byte in an
//! array of its own was the other way; it costs a second line, and saves only a compare-and-exchange once
//! per round of the hand.

use crate::arena::{Pages, Zeroed};
use crate::near;
use std::sync::atomic::{AtomicU64, Ordering};

const OCCUPIED: u64 = 1;
const USED: u64 = 2;
const SEEN: u64 = 4;
const CURRENT: u64 = 8;
const LENGTH_SHIFT: u32 = 4;
const LENGTH_MASK: u64 = 31;
const PAGE_SHIFT: u32 = 9;

/// Longest node, in frames.
pub(crate) const LENGTH_MAX: usize = LENGTH_MASK as usize + 1;
/// First page number that does not fit.
pub(crate) const PAGE_END: u64 = 1 << (u64::BITS - PAGE_SHIFT);

/// One reading of a frame's tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tag(u64);

impl Tag {
    /// The tag of a node just filled: not yet used.
    pub(crate) fn new(page: u64, frames: usize) -> Tag {
        debug_assert!(page < PAGE_END && (1..=LENGTH_MAX).contains(&frames));
        Tag(page << PAGE_SHIFT | (frames as u64 - 1) << LENGTH_SHIFT | OCCUPIED)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 & OCCUPIED == 0
    }

    pub(crate) fn is_used(self) -> bool {
        self.0 & USED != 0
    }

    pub(crate) fn is_seen(self) -> bool {
        self.0 & SEEN != 0
    }

    #[inline]
    pub(crate) fn is_current(self) -> bool {
        self.0 & CURRENT != 0
    }

    pub(crate) fn page(self) -> u64 {
        self.0 >> PAGE_SHIFT
    }

    /// Frames of the node; one if there is none, so that whoever steps over tags always steps.
    pub(crate) fn frames(self) -> usize {
        (self.0 >> LENGTH_SHIFT & LENGTH_MASK) as usize + 1
    }

    /// Whether the frame holds that page. Numbers from [`PAGE_END`] on are held by none.
    #[inline]
    pub(crate) fn holds(self, page: u64) -> bool {
        self.0 >> PAGE_SHIFT == page && self.0 & OCCUPIED != 0
    }
}

/// The tags of all frames.
pub(crate) struct Tags(Zeroed<AtomicU64>);

impl Tags {
    pub(crate) fn new(frames: usize) -> Tags {
        Tags(Zeroed::new(frames, Pages::Huge))
    }

    /// What the frame holds; empty if there is no such frame. `Acquire`: the bytes that the tag speaks of are there.
    #[inline]
    pub(crate) fn load(&self, frame: usize) -> Tag {
        Tag(self.0.get(frame).map_or(0, |word| word.load(Ordering::Acquire)))
    }

    /// As [`Tags::load`], but only a node of that page, which it also marks as used.
    #[inline]
    pub(crate) fn load_used(&self, frame: usize, page: u64) -> Option<Tag> {
        let word = self.0.get(frame)?;
        let tag = Tag(word.load(Ordering::Acquire));
        if !tag.holds(page) {
            return None;
        }
        if !tag.is_used() {
            mark_used(word, tag);
        }
        Some(tag)
    }

    /// As [`Tags::load`], but only a node that is current, which it also marks as used.
    #[inline]
    pub(crate) fn load_current(&self, frame: usize) -> Option<Tag> {
        let word = self.0.get(frame)?;
        let tag = Tag(word.load(Ordering::Acquire));
        if !tag.is_current() {
            return None;
        }
        if !tag.is_used() {
            mark_used(word, tag);
        }
        Some(tag)
    }

    /// Asks the processor for the frame's tag.
    #[inline]
    pub(crate) fn bring_near(&self, frame: usize) {
        if let Some(word) = self.0.get(frame) {
            near::bring_near(word);
        }
    }

    /// Notes that the node was asked about, unless it changed since `tag` was loaded.
    pub(crate) fn mark_seen(&self, frame: usize, tag: Tag) {
        let (word, seen) = (&self.0[frame], tag.0 | SEEN);
        let _ = word.compare_exchange(tag.0, seen, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// From now on the node is current. Under the lock, and only of a frame that holds one. `Release`: whoever sees it sees the
    /// turn in which that was so.
    pub(crate) fn make_current(&self, frame: usize) {
        self.0[frame].fetch_or(CURRENT, Ordering::Release);
    }

    /// From now on it is not. Under the lock.
    pub(crate) fn make_past(&self, frame: usize) {
        self.0[frame].fetch_and(!CURRENT, Ordering::Release);
    }

    /// The frame's bytes are there: `Release` them to whoever sees the tag.
    pub(crate) fn publish(&self, frame: usize, tag: Tag) {
        self.0[frame].store(tag.0, Ordering::Release);
    }

    /// Takes the used mark away.
    pub(crate) fn clear_used(&self, frame: usize) {
        self.0[frame].fetch_and(!USED, Ordering::Relaxed);
    }

    /// From now on no new reader finds the frame; see the crate's documentation for those that did.
    pub(crate) fn empty(&self, frame: usize) {
        self.0[frame].store(0, Ordering::Relaxed);
    }
}

/// An exchange and not an `or`: the frame may have been emptied since, and must stay so.
#[cold]
fn mark_used(word: &AtomicU64, tag: Tag) {
    let _ = word.compare_exchange(tag.0, tag.0 | USED, Ordering::Relaxed, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_length_and_marks_do_not_overlap() {
        assert_eq!(Tag::new(0, 1).0, 0b1);
        assert_eq!(Tag::new(1, 1).0, 0b10_0000_0001);
        assert_eq!(Tag::new(1, 32).0, 0b11_1111_0001);
        assert_eq!(Tag::new(PAGE_END - 1, 32).0, !(USED | SEEN | CURRENT));
        let tag = Tag::new(PAGE_END - 1, 32);
        assert_eq!((tag.page(), tag.frames(), tag.is_used()), (PAGE_END - 1, 32, false));
    }

    #[test]
    fn a_page_beyond_the_word_is_held_by_nobody() {
        assert!(Tag::new(5, 1).holds(5));
        assert!(!Tag::new(5, 1).holds(5 + PAGE_END));
        assert!(!Tag(0).holds(0));
    }

    #[test]
    fn a_late_reader_does_not_revive_an_emptied_frame() {
        let tags = Tags::new(1);
        tags.publish(0, Tag::new(7, 1));
        let seen = tags.load(0);
        tags.empty(0);
        mark_used(&tags.0[0], seen);
        assert!(tags.load(0).is_empty());
    }

    #[test]
    fn a_node_is_current_from_one_call_to_the_other_and_a_new_one_is_not() {
        let tags = Tags::new(1);
        tags.publish(0, Tag::new(7, 3));
        assert_eq!(tags.load_current(0), None);
        tags.make_current(0);
        assert_eq!(tags.load_current(0).map(|tag| (tag.page(), tag.frames())), Some((7, 3)));
        assert!(tags.load(0).is_used() && tags.load(0).holds(7));
        tags.make_past(0);
        assert_eq!(tags.load_current(0), None);
        tags.make_current(0);
        tags.publish(0, Tag::new(8, 1));
        assert_eq!(tags.load_current(0), None);
    }

    #[test]
    fn a_late_look_does_not_mark_another_node() {
        let tags = Tags::new(1);
        tags.publish(0, Tag::new(7, 1));
        let seen = tags.load(0);
        tags.publish(0, Tag::new(8, 1));
        tags.mark_seen(0, seen);
        assert!(!tags.load(0).is_seen() && tags.load(0).holds(8));
        tags.mark_seen(0, tags.load(0));
        assert!(tags.load(0).is_seen() && tags.load(0).holds(8));
    }

    #[test]
    fn a_hit_marks_and_the_hand_clears() {
        let tags = Tags::new(1);
        tags.publish(0, Tag::new(7, 3));
        assert!(!tags.load(0).is_used());
        assert_eq!(tags.load_used(0, 8), None);
        assert!(tags.load_used(0, 7).is_some());
        assert!(tags.load(0).is_used() && tags.load(0).holds(7));
        tags.clear_used(0);
        assert_eq!(tags.load(0), Tag::new(7, 3));
    }
}
