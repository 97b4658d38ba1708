//! The index: which leaf covers a key. Immutable; a split swaps in a copy.
//!
//! Heads of sixteen bytes behind the prefix that all borders share, in one array: a million rows
//! have some five thousand borders, 90 KiB. The first leaf has no lower border, so its head is
//! never compared.
//!
//! The copy is 24 bytes per leaf, once per some 180 new keys: quadratic, and still cheap at the size
//! of a memtable. Over the first six million rows all copying of bytes, leaves included, was a sixth
//! of the time of the inserts. Much larger memtables would want an index of two levels.

use bytes::Bytes;

use super::head::{Against, against, common_len, head16};
use super::leaves::{LeafId, Leaves};

/// A leaf, and how often it had been split when the index was made.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub(super) id: LeafId,
    pub(super) splits: u32,
}

pub(super) struct Index {
    prefix: Bytes,
    heads: Box<[u128]>,
    named: Box<[Named]>,
}

impl Index {
    /// The index of one leaf that covers everything.
    pub(super) fn of_one(id: LeafId) -> Index {
        let named = Box::new([Named { id, splits: 0 }]);
        Index { prefix: Bytes::new(), heads: Box::new([0]), named }
    }

    /// The index of leaves whose lows ascend; all but the first have one.
    pub(super) fn of(named: Box<[Named]>, leaves: &Leaves) -> Index {
        let low = |named: &Named| &leaves.leaf(named.id).low;
        let prefix = match &named[1..] {
            [] => Bytes::new(),
            [first, .., last] => low(first).slice(..common_len(low(first), low(last))),
            [only] => low(only).clone(),
        };
        let heads = heads(&named, prefix.len(), leaves);
        Index { prefix, heads, named }
    }

    pub(super) fn len(&self) -> usize {
        self.named.len()
    }

    pub(super) fn at(&self, place: usize) -> Named {
        self.named[place]
    }

    /// The place of the leaf that covers `key`.
    pub(super) fn find(&self, leaves: &Leaves, key: &[u8]) -> usize {
        if self.len() == 1 {
            return 0;
        }
        let rest = match against(key, &self.prefix) {
            Against::Below => return 0,
            Against::Above => return self.len() - 1,
            Against::Within(rest) => rest,
        };
        let head = head16(rest);
        let borders = &self.heads[1..];
        let start = borders.partition_point(|&border| border < head);
        if borders.get(start) != Some(&head) {
            return start;
        }
        let ties = borders[start..].partition_point(|&border| border == head);
        let tied = &self.named[start + 1..start + 1 + ties];
        start + tied.partition_point(|named| leaves.leaf(named.id).low <= key)
    }

    /// The index after the leaf at `place` gave its upper part to the leaf `right`, which is among
    /// `leaves` already.
    pub(super) fn with_split(&self, place: usize, right: LeafId, leaves: &Leaves) -> Index {
        let low = &leaves.leaf(right).low;
        let mut named = inserted(&self.named, place + 1, Named { id: right, splits: 0 });
        named[place].splits += 1;
        let shared = match self.len() {
            1 => low.len(),
            _ => common_len(&self.prefix, low),
        };
        let prefix = low.slice(..shared);
        let heads = if self.len() > 1 && shared == self.prefix.len() {
            inserted(&self.heads, place + 1, head16(&low[shared..]))
        } else {
            heads(&named, shared, leaves)
        };
        Index { prefix, heads, named }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.heads) + size_of_val(&*self.named)
    }
}

/// The heads of all borders, behind so many bytes that they share.
fn heads(named: &[Named], shared: usize, leaves: &Leaves) -> Box<[u128]> {
    let lows = named[1..].iter().map(|named| &leaves.leaf(named.id).low);
    std::iter::once(0).chain(lows.map(|low| head16(&low[shared..]))).collect()
}

fn inserted<T: Copy>(items: &[T], place: usize, item: T) -> Box<[T]> {
    let mut longer = Vec::with_capacity(items.len() + 1);
    longer.extend_from_slice(&items[..place]);
    longer.push(item);
    longer.extend_from_slice(&items[place..]);
    longer.into_boxed_slice()
}
