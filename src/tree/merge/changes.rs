//! The changes that a merge applies, and a bounded look ahead.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::node::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::format::value::ExtentValue;

/// Checksums of the largest value: its reference lies in a row.
const CRCS_MAX: usize = 1024;

/// Changes that are held to see which leaves will be wanted.
const AHEAD_MAX: usize = 256;
/// Bytes of them, keys and values.
const AHEAD_BYTES_MAX: usize = 1 << 20;

/// What becomes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It has this value now.
    Put(Bytes),
    /// It has this value now, which lies in an extent of its own.
    Extent(ExtentValue),
    /// It is gone.
    Delete,
}

/// Changes in key order, each key once.
pub(super) struct Changes<I> {
    source: I,
    ahead: VecDeque<(Bytes, Change)>,
    ahead_bytes: usize,
    last_key: Bytes,
}

impl<I: Iterator<Item = (Bytes, Change)>> Changes<I> {
    pub(super) fn new(source: I) -> Changes<I> {
        Changes { source, ahead: VecDeque::new(), ahead_bytes: 0, last_key: Bytes::new() }
    }

    /// The next change, if its key is below `high`.
    pub(super) fn peek_below(&mut self, high: Option<&[u8]>) -> Option<&(Bytes, Change)> {
        if self.ahead.is_empty() {
            self.pull();
        }
        let next = self.ahead.front()?;
        high.is_none_or(|high| &next.0[..] < high).then_some(next)
    }

    /// Takes the next change.
    pub(super) fn next(&mut self) -> Option<(Bytes, Change)> {
        if self.ahead.is_empty() {
            self.pull();
        }
        let next = self.ahead.pop_front()?;
        self.ahead_bytes -= next.0.len() + value_len(&next.1);
        Some(next)
    }

    /// The next keys, as far as the look ahead reaches.
    pub(super) fn keys_ahead(&mut self) -> impl Iterator<Item = &[u8]> {
        while self.ahead.len() < AHEAD_MAX && self.ahead_bytes < AHEAD_BYTES_MAX && self.pull() {}
        self.ahead.iter().map(|(key, _)| &key[..])
    }

    fn pull(&mut self) -> bool {
        let Some((key, change)) = self.source.next() else { return false };
        assert!((1..=KEY_BYTES_MAX).contains(&key.len()), "keys are 1 to 65536 bytes");
        assert!(key > self.last_key, "changes come in key order, each key once");
        match &change {
            Change::Put(value) => {
                assert!(value.len() <= VALUE_BYTES_MAX, "larger values have extents");
            }
            Change::Extent(value) => assert!(value.crcs.len() <= CRCS_MAX, "values are bounded"),
            Change::Delete => {}
        }
        self.ahead_bytes += key.len() + value_len(&change);
        self.last_key = key.clone();
        self.ahead.push_back((key, change));
        true
    }
}

fn value_len(change: &Change) -> usize {
    match change {
        Change::Put(value) => value.len(),
        Change::Extent(value) => value.crcs.len() * size_of::<u32>(),
        Change::Delete => 0,
    }
}
