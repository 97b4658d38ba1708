//! Who has to go: CLOCK, over runs of frames.
//!
//! The hand goes round over the tags. A node used since it last came by is spared and its mark taken away; a node not
//! used goes. For a node of several frames the hand looks for as many neighbours that can all go (or have
//! gone). Longer policies (LRU lists, 2Q) write shared memory on a hit; this one reads it.

use crate::tag::Tags;
use std::ops::Range;

/// Frames the hand passes for one eviction before it stops sparing what is used: it moves under the lock, and a
/// cache full of used nodes must not make the others wait for a whole round.
const SPARED_MAX: usize = 1 << 14;

#[derive(Default)]
pub(crate) struct Clock {
    hand: usize,
}

impl Clock {
    /// Neighbouring frames, at least `run` of them, whose nodes go next. At least one node is among them, and none
    /// reaches out. `None` if there is no such place below `end`.
    ///
    /// An empty tag says nothing of its frame: it may be free, waiting for guards, being filled, or (behind a hand that
    /// stood still) inside a node. So the frames are a good guess, and only the nodes that begin there are evicted.
    pub(crate) fn victims(&mut self, tags: &Tags, end: usize, run: usize) -> Option<Range<usize>> {
        let patience = SPARED_MAX.min(2 * end) + run;
        let mut passed = 0;
        let mut window = Window::at(self.hand);
        while end > 0 && passed < patience + 2 * end {
            if self.hand >= end {
                self.hand = 0;
                window = Window::at(0);
            }
            let tag = tags.load(self.hand);
            let frame = self.hand;
            self.hand += tag.frames();
            passed += tag.frames();
            if tag.is_used() && passed <= patience {
                tags.clear_used(frame);
                window = Window::at(self.hand);
                continue;
            }
            window.has_node |= !tag.is_empty();
            if self.hand - window.start < run {
                continue;
            }
            if window.has_node {
                return Some(window.start..self.hand);
            }
            window = Window::at(self.hand);
        }
        None
    }
}

/// What the hand has passed without meeting anything to spare.
struct Window {
    start: usize,
    has_node: bool,
}

impl Window {
    fn at(start: usize) -> Window {
        Window { start, has_node: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tag::Tag;

    /// Tags as a text: `.` empty, `u` used, `n` not used, a digit: a node of that many frames, not used.
    fn tags(text: &str) -> Tags {
        let tags = Tags::new(text.len());
        for (frame, what) in text.chars().enumerate() {
            let page = frame as u64;
            match what {
                '.' => {}
                'n' | 'u' => tags.publish(frame, Tag::new(page, 1)),
                _ => tags.publish(frame, Tag::new(page, what.to_digit(10).unwrap() as usize)),
            }
            if what == 'u' {
                tags.load_used(frame, page);
            }
        }
        tags
    }

    fn check(text: &str, hand: usize, run: usize, expected: Option<Range<usize>>) {
        let mut clock = Clock { hand };
        assert_eq!(
            clock.victims(&tags(text), text.len(), run),
            expected,
            "{text} from {hand}, {run}"
        );
    }

    #[test]
    fn the_first_node_not_used_goes() {
        check("unn", 0, 1, Some(1..2));
        check("nuu", 1, 1, Some(0..1));
        check(".n.", 0, 1, Some(1..2));
        check("u2.n", 0, 1, Some(1..3));
    }

    #[test]
    fn if_all_are_used_the_second_round_takes_the_first() {
        check("uuuu", 2, 1, Some(2..3));
    }

    #[test]
    fn a_run_takes_neighbours_and_does_not_wrap() {
        check("nunn", 0, 2, Some(2..4));
        check("n.un", 3, 2, Some(0..2));
        check("u3..n", 0, 2, Some(1..4));
        check("nu", 0, 3, None);
    }

    #[test]
    fn an_empty_cache_has_no_victims() {
        check("", 0, 1, None);
        check("...", 0, 1, None);
        check("....", 0, 2, None);
    }
}
