//! The changes that a merge applies, and a bounded look ahead.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::node::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::format::value::ExtentValue;

/// Checksums of a reference that fits into a row.
const CRCS_MAX: usize = VALUE_BYTES_MAX / size_of::<u32>();

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

impl Change {
    /// Bytes of the value, or of the reference to it.
    pub(crate) fn value_len(&self) -> usize {
        match self {
            Change::Put(value) => value.len(),
            Change::Extent(value) => value.crcs.len() * size_of::<u32>(),
            Change::Delete => 0,
        }
    }
}

/// Changes in key order, each key once: those that were fed and that no round has taken.
#[derive(Default)]
pub(super) struct Changes {
    queue: VecDeque<(Bytes, Change)>,
    last_key: Bytes,
    /// None follow behind the queue.
    ended: bool,
}

impl Changes {
    /// Appends changes.
    pub(super) fn feed(&mut self, changes: impl IntoIterator<Item = (Bytes, Change)>) {
        assert!(!self.ended, "nothing follows the end");
        for (key, change) in changes {
            assert!((1..=KEY_BYTES_MAX).contains(&key.len()), "keys are 1 to 65536 bytes");
            assert!(key > self.last_key, "changes come in key order, each key once");
            match &change {
                Change::Put(value) => {
                    assert!(value.len() <= VALUE_BYTES_MAX, "larger values have extents");
                }
                Change::Extent(value) => {
                    assert!(value.crcs.len() <= CRCS_MAX, "values are bounded");
                }
                Change::Delete => {}
            }
            self.last_key = key.clone();
            self.queue.push_back((key, change));
        }
    }

    /// None follow.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Whether a round that takes so many might come to the end of what is known.
    pub(super) fn is_low(&self, round: usize) -> bool {
        !self.ended && self.queue.len() <= round
    }

    /// The next change, if its key is below `high`.
    pub(super) fn peek_below(&self, high: Option<&[u8]>) -> Option<&(Bytes, Change)> {
        let next = self.queue.front()?;
        high.is_none_or(|high| &next.0[..] < high).then_some(next)
    }

    /// Takes the next change.
    pub(super) fn next(&mut self) -> Option<(Bytes, Change)> {
        self.queue.pop_front()
    }

    /// The next keys, as far as they are known.
    pub(super) fn keys_ahead(&self) -> impl Iterator<Item = &[u8]> {
        self.queue.iter().map(|(key, _)| &key[..])
    }
}
