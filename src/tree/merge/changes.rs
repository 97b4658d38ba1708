//! The changes that a merge applies, and a bounded look ahead.

use std::collections::VecDeque;

use super::super::encode::Span;
use super::super::leaf::RowValue;
use super::super::node::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Keys and what becomes of them, in one buffer: a value, one in an extent of its own, or, with a tombstone, nothing.
///
/// Rejected: key and value as `Bytes` of their own. To count those references was a tenth of the time of a sorted load.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    arena: Vec<u8>,
    spans: Vec<Span>,
}

impl Changes {
    /// None yet, with memory for so many bytes of keys and values.
    pub(crate) fn with_capacity(bytes: usize) -> Changes {
        Changes { arena: Vec::with_capacity(bytes), spans: Vec::new() }
    }

    /// Appends a change.
    #[inline]
    pub(crate) fn push(&mut self, key: &[u8], value: RowValue<'_>) {
        self.push_with(|out| out.extend_from_slice(key), value);
    }

    /// Appends a change whose key is written by the closure.
    #[inline]
    pub(crate) fn push_with(&mut self, key: impl FnOnce(&mut Vec<u8>), value: RowValue<'_>) {
        let start = self.arena.len();
        key(&mut self.arena);
        let key_len = self.arena.len() - start;
        self.arena.extend_from_slice(value.bytes());
        self.spans.push(Span::new(start, key_len, value.bytes().len(), value.kind()));
    }

    /// Brings them into key order; of each key the last one stays.
    pub(crate) fn sort(&mut self) {
        let arena = &self.arena;
        self.spans.sort_by(|left, right| left.key(arena).cmp(right.key(arena)));
        self.spans.dedup_by(|later, kept| {
            let same = later.key(arena) == kept.key(arena);
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes of keys and values.
    pub(crate) fn row_bytes(&self) -> usize {
        self.arena.len()
    }

    /// Bytes of memory in use.
    pub(crate) fn len_bytes(&self) -> usize {
        self.arena.len() + size_of_val(&self.spans[..])
    }

    /// The key at `index`.
    pub(crate) fn key(&self, index: usize) -> &[u8] {
        self.spans[index].key(&self.arena)
    }

    /// The change at `index`.
    pub(crate) fn row(&self, index: usize) -> (&[u8], RowValue<'_>) {
        let span = &self.spans[index];
        (span.key(&self.arena), RowValue::of(span.kind, span.value(&self.arena)))
    }

    pub(crate) fn last_key(&self) -> Option<&[u8]> {
        self.spans.last().map(|span| span.key(&self.arena))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys_from(0)
    }

    fn keys_from(&self, first: usize) -> impl Iterator<Item = &[u8]> {
        self.spans[first..].iter().map(|span| span.key(&self.arena))
    }
}

/// Changes in key order, each key once: those that were fed and that no round has taken.
#[derive(Default)]
pub(super) struct Queue {
    /// None of them empty; of the first so many are gone.
    parts: VecDeque<Changes>,
    taken: usize,
    /// Changes that are left.
    len: usize,
    last_key: Vec<u8>,
    /// None follow behind the queue.
    ended: bool,
}

impl Queue {
    /// Appends changes.
    pub(super) fn feed(&mut self, changes: Changes) {
        assert!(!self.ended, "nothing follows the end");
        let Some(last) = changes.last_key() else { return };
        let mut before = &self.last_key[..];
        for index in 0..changes.len() {
            let (key, value) = changes.row(index);
            assert!((1..=KEY_BYTES_MAX).contains(&key.len()), "keys are 1 to 65536 bytes");
            assert!(key > before, "changes come in key order, each key once");
            assert!(value.bytes().len() <= VALUE_BYTES_MAX, "larger values have extents");
            before = key;
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(last);
        self.len += changes.len();
        self.parts.push_back(changes);
    }

    /// None follow.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Whether a round that takes so many might come to the end of what is known.
    pub(super) fn is_low(&self, round: usize) -> bool {
        !self.ended && self.len <= round
    }

    /// The next change.
    pub(super) fn peek(&self) -> Option<(&[u8], RowValue<'_>)> {
        self.parts.front().map(|part| part.row(self.taken))
    }

    /// The next change, if its key is below `high`.
    pub(super) fn peek_below(&self, high: Option<&[u8]>) -> Option<(&[u8], RowValue<'_>)> {
        self.peek().filter(|(key, _)| high.is_none_or(|high| *key < high))
    }

    /// Takes the next change away.
    pub(super) fn pass(&mut self) {
        let Some(part) = self.parts.front() else { return };
        (self.taken, self.len) = (self.taken + 1, self.len - 1);
        if self.taken == part.len() {
            self.parts.pop_front();
            self.taken = 0;
        }
    }

    /// The next keys, as far as they are known.
    pub(super) fn keys_ahead(&self) -> impl Iterator<Item = &[u8]> {
        let first = self.parts.iter().take(1).flat_map(|part| part.keys_from(self.taken));
        first.chain(self.parts.iter().skip(1).flat_map(Changes::keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(rows: &str) -> Changes {
        let mut changes = Changes::default();
        for row in rows.split_whitespace() {
            changes.push(&row.as_bytes()[..1], RowValue::Inline(&row.as_bytes()[1..]));
        }
        changes
    }

    fn text(rows: impl Iterator<Item = Vec<u8>>) -> String {
        rows.map(|row| String::from_utf8(row).unwrap() + " ").collect()
    }

    #[test]
    fn sorted_changes_have_of_each_key_the_last() {
        let mut some = changes("b1 a1 c1 a2 b2 a3");
        some.sort();
        let rows = (0..some.len()).map(|index| some.row(index));
        let rows = rows.map(|(key, value)| [key, value.bytes()].concat());
        assert_eq!((text(rows), some.last_key()), ("a3 b2 c1 ".to_owned(), Some(&b"c"[..])));
    }

    #[test]
    fn a_queue_goes_from_one_part_to_the_next() {
        let mut queue = Queue::default();
        queue.feed(changes("a b c"));
        queue.feed(Changes::default());
        queue.feed(changes("d e"));
        let ahead = |queue: &Queue| text(queue.keys_ahead().map(<[u8]>::to_vec));
        assert_eq!(ahead(&queue), "a b c d e ");
        queue.pass();
        assert_eq!((ahead(&queue), queue.is_low(4)), ("b c d e ".to_owned(), true));
        queue.pass();
        queue.pass();
        assert_eq!(queue.peek_below(Some(b"d")), None);
        assert_eq!(queue.peek_below(Some(b"e")), Some((&b"d"[..], RowValue::Inline(b""))));
        queue.end();
        queue.pass();
        queue.pass();
        assert_eq!((queue.peek(), queue.is_low(0)), (None, false));
    }

    #[test]
    #[should_panic(expected = "in key order")]
    fn parts_follow_one_another_in_key_order() {
        let mut queue = Queue::default();
        queue.feed(changes("a b"));
        queue.feed(changes("b c"));
    }
}
