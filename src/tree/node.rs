//! The bytes that leaf and inner nodes share, and the search in them.
//!
//! ```text
//! off len field
//!   0   1 kind      1: leaf, 2: inner
//!   1   1 level     0: leaf
//!   2   2 pages     of the node
//!   4   4 keys      rows of a leaf; separators of an inner node, one less than children
//!   8   4 prefix    bytes that all keys begin with
//!  12   4 used      bytes of the node; all behind them are zero
//!  16   8 page      where the node lies
//!  24   4 family    that it belongs to
//!  28  36 reserved  zero; room for a nonce and a tag
//!  64  8k heads     of each key: its first 8 bytes behind the prefix, as a number that orders as the bytes do, zero padded
//!      4s slots     of each key: offset of its record, kind of its value in the top two bits; s = k + 1, the last slot has `used`
//!     20c children  of an inner node: c = k + 1
//!       p prefix
//!         records   of each key: its length less one (2), what is behind prefix and head, and in a leaf the value
//! ```
//!
//! The heads lie side by side, so that a search touches few cache lines and compares numbers; a record is touched only to
//! confirm. A key is stored by its whole length, because a padded head does not tell `a` from `a\0`. Lengths are stored less
//! one, so that the longest key, 65536 bytes, fits in two bytes (there is no empty key).
//!
//! There is no checksum inside: the parent holds it (I7).

use std::cmp::Ordering;
use std::ops::Range;

use crate::format::codec::behind;
use crate::format::node_ref::NODE_PAGES_MAX;
use crate::ids::{FamilyId, PAGE_BYTES, PageId};

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 64;
/// Bytes of a head.
pub(super) const HEAD_BYTES: usize = 8;
/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = 4;
/// Bytes in front of each record: the key's length.
pub(super) const LEN_BYTES: usize = 2;
/// Bytes of an inner node's entry for a child.
pub(super) const CHILD_BYTES: usize = 20;
/// Where the header says which family the node belongs to.
const FAMILY_AT: usize = 24;
/// Where the reserved bytes of the header begin.
pub(super) const RESERVED_AT: usize = 28;

/// Blocks of heads whose ends a search probes first.
const BLOCKS: usize = 16;

/// Bits of a slot that are the record's offset.
pub(super) const OFFSET_BITS: u32 = 30;
/// Kinds of nodes.
pub(super) const KIND_LEAF: u8 = 1;
pub(super) const KIND_INNER: u8 = 2;

/// Bytes of the longest key.
pub(crate) const KEY_BYTES_MAX: usize = 1 << 16;
/// Bytes of the longest value that lies in a row.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 16;
/// The highest level. Inner nodes have four children or more but at the edges of what was rewritten, so no file gets there.
pub(crate) const LEVEL_MAX: u8 = 15;

const ROW_BYTES_MAX: usize =
    HEAD_BYTES + 2 * SLOT_BYTES + LEN_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX;
const _: () = assert!(HEADER_BYTES + ROW_BYTES_MAX <= NODE_PAGES_MAX * PAGE_BYTES);
const _: () = assert!(HEADER_BYTES.is_multiple_of(HEAD_BYTES));
const _: () = assert!(NODE_PAGES_MAX * PAGE_BYTES < 1 << OFFSET_BITS);

/// The sum of a node's bytes that its parent holds: crc32c, salted with the file's id and the node's place.
pub(crate) fn node_crc(file_id: &[u8; 16], page: PageId, bytes: &[u8]) -> u32 {
    crate::format::checksum::of_pages(file_id, page, bytes)
}

/// The level of a node that was checked.
#[inline]
pub(super) fn level_of(node: &[u8]) -> u8 {
    node[1]
}

/// Whether a node that was checked is a leaf of that family.
#[inline]
pub(super) fn is_leaf_of(node: &[u8], family: FamilyId) -> bool {
    node[0] == KIND_LEAF && bytes_at(node, FAMILY_AT) == family.0.to_le_bytes()
}

/// `N` bytes at `at` of a node that was checked.
pub(super) fn bytes_at<const N: usize>(node: &[u8], at: usize) -> [u8; N] {
    *node[at..].first_chunk().expect("the node was checked")
}

/// A number of four bytes at `at`, as an index.
pub(super) fn index_at(node: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes_at(node, at)) as usize
}

/// The head of what is left of a key behind the common prefix.
pub(super) fn head_of(suffix: &[u8]) -> u64 {
    if let Some(head) = suffix.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; HEAD_BYTES];
    head[..suffix.len()].copy_from_slice(suffix);
    u64::from_be_bytes(head)
}

/// How many bytes two keys have in common at their front.
pub(super) fn common_len(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

/// The keys of a node.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    node: &'a [u8],
    heads: &'a [[u8; HEAD_BYTES]],
    slots: &'a [[u8; SLOT_BYTES]],
    prefix: &'a [u8],
}

impl<'a> Keys<'a> {
    /// The keys of a checked node in which `gap` bytes lie between slots and prefix.
    #[inline]
    pub(super) fn new(node: &'a [u8], gap: usize) -> Keys<'a> {
        let len = index_at(node, 4);
        let prefix_len = index_at(node, 8);
        let (heads, rest) = node[HEADER_BYTES..].split_at(len * HEAD_BYTES);
        let (slots, rest) = rest.split_at((len + 1) * SLOT_BYTES);
        let prefix = &rest[gap..gap + prefix_len];
        Keys { node, heads: heads.as_chunks().0, slots: slots.as_chunks().0, prefix }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    /// Bytes of a key, at most, that do not lie in its record.
    #[inline]
    pub(super) fn front_bytes(&self) -> usize {
        self.prefix.len() + HEAD_BYTES
    }

    #[inline]
    fn head(&self, index: usize) -> u64 {
        u64::from_le_bytes(self.heads[index])
    }

    #[inline]
    fn slot(&self, index: usize) -> u32 {
        u32::from_le_bytes(self.slots[index])
    }

    /// What the slot says about the value.
    #[inline]
    pub(super) fn kind(&self, index: usize) -> u32 {
        self.slot(index) >> OFFSET_BITS
    }

    /// The key at `index`, and what its record holds behind it.
    #[inline]
    pub(super) fn record(&self, index: usize) -> (Key<'a>, &'a [u8]) {
        let record = &self.node[self.record_range(index)];
        let len = usize::from(u16::from_le_bytes(bytes_at(record, 0))) + 1;
        let rest_len = (len - self.prefix.len()).saturating_sub(HEAD_BYTES);
        let (rest, value) = record[LEN_BYTES..].split_at(rest_len);
        (Key { prefix: self.prefix, head: self.head(index), rest, len }, value)
    }

    /// What stands in front of copies of these keys' records.
    #[inline]
    pub(super) fn front(&self) -> Front {
        let mut bytes = [0; FRONT_BYTES];
        let head_at = HEADER_OF_COPY_BYTES + self.prefix.len();
        if head_at + HEAD_BYTES <= FRONT_BYTES {
            bytes[HEADER_OF_COPY_BYTES..head_at].copy_from_slice(self.prefix);
        }
        Front { bytes, head_at }
    }

    /// Appends the row at `index` of a leaf, the key put together and the value behind it; and in front of it what `header` makes
    /// of their lengths.
    #[inline]
    pub(super) fn copy_row(
        &self,
        index: usize,
        front: &mut Front,
        out: &mut Vec<u8>,
        header: impl FnOnce(usize, usize) -> [u8; HEADER_OF_COPY_BYTES],
    ) {
        let record = &self.node[self.record_range(index)];
        let (len, rest) = record.split_first_chunk().expect("the node was checked");
        let key_len = usize::from(u16::from_le_bytes(*len)) + 1;
        let suffix_len = key_len - self.prefix.len();
        let head_len = suffix_len.min(HEAD_BYTES);
        let header = header(key_len, rest.len() + head_len - suffix_len);
        let head = self.head(index).to_be_bytes();
        let Front { bytes, head_at } = front;
        match bytes.get_mut(*head_at..*head_at + HEAD_BYTES) {
            // All at once, and then without what is too much.
            Some(place) => {
                place.copy_from_slice(&head);
                bytes[..HEADER_OF_COPY_BYTES].copy_from_slice(&header);
                let end = out.len() + *head_at + head_len;
                out.extend_from_slice(bytes);
                out.truncate(end);
            }
            None => {
                out.extend_from_slice(&header);
                out.extend_from_slice(self.prefix);
                out.extend_from_slice(&head[..head_len]);
            }
        }
        out.extend_from_slice(rest);
    }

    #[inline]
    fn record_range(&self, index: usize) -> Range<usize> {
        self.records_range(&(index..index + 1))
    }

    /// Where the records of these keys lie in the node.
    #[inline]
    pub(super) fn records_range(&self, keys: &Range<usize>) -> Range<usize> {
        const OFFSET: u32 = (1 << OFFSET_BITS) - 1;
        (self.slot(keys.start) & OFFSET) as usize..(self.slot(keys.end) & OFFSET) as usize
    }

    /// The place of `key`, or the place where it would be.
    #[inline]
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(suffix) = behind(key, self.prefix) else {
            return Err(if key < self.prefix { 0 } else { self.len() });
        };
        let head = head_of(suffix);
        let mut low = self.heads_below(head);
        let mut high = low;
        if low < self.len() && self.head(low) == head {
            high = low + 1;
            if high < self.len() && self.head(high) == head {
                high += self.heads[high..].partition_point(|&at| u64::from_le_bytes(at) == head);
            }
        }
        while low < high {
            let middle = low.midpoint(high);
            match self.record(middle).0.cmp_suffix(suffix) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Where the record of `key` is, if it is here: of the first key with its head.
    #[inline]
    pub(super) fn likely_record(&self, key: &[u8]) -> Range<usize> {
        let head = behind(key, self.prefix).map_or(0, head_of);
        let index = self.heads_below(head).min(self.len().saturating_sub(1));
        self.record_range(index)
    }

    /// How many heads are below `head`.
    ///
    /// The heads are rarely in a processor's cache, so what counts is how many misses wait for one another. A binary search
    /// of an inner node waits for four or five; this probes the ends of sixteen blocks, which wait for nothing, and
    /// then reads one block.
    #[inline]
    fn heads_below(&self, head: u64) -> usize {
        let below = |at: &[u8; HEAD_BYTES]| usize::from(u64::from_le_bytes(*at) < head);
        let block = self.len().div_ceil(BLOCKS).max(1);
        let ends = self.heads.chunks_exact(block).map(|heads| below(&heads[block - 1]));
        let start = ends.sum::<usize>() * block;
        let end = self.len().min(start + block);
        start + self.heads[start..end].iter().map(below).sum::<usize>()
    }
}

/// Bytes in front of the copy of a row, whatever they say.
pub(crate) const HEADER_OF_COPY_BYTES: usize = 8;
/// Bytes that are copied in front of what is left of a row: a short prefix fits. Whoever has room for as many more than the rows take
/// needs no more.
pub(crate) const FRONT_BYTES: usize = 32;

/// What is copied in front of what is left of a row: a header, the prefix of all keys, and the head of its key.
pub(super) struct Front {
    bytes: [u8; FRONT_BYTES],
    head_at: usize,
}

/// A key of a node, in the parts that it is stored in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key<'a> {
    prefix: &'a [u8],
    head: u64,
    rest: &'a [u8],
    len: usize,
}

impl Key<'_> {
    /// Bytes of the whole key.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends the whole key.
    #[inline]
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        let head_len = (self.len - self.prefix.len()).min(HEAD_BYTES);
        out.reserve(self.len);
        out.extend_from_slice(self.prefix);
        out.extend_from_slice(&self.head.to_be_bytes()[..head_len]);
        out.extend_from_slice(self.rest);
    }

    /// Copies the whole key to so many bytes.
    #[inline]
    pub(crate) fn copy_to(&self, out: &mut [u8]) {
        let (prefix, suffix) = out.split_at_mut(self.prefix.len());
        prefix.copy_from_slice(self.prefix);
        self.copy_suffix_to(suffix);
    }

    /// Copies what is behind the prefix.
    #[inline]
    fn copy_suffix_to(&self, out: &mut [u8]) {
        let head = self.head.to_be_bytes();
        match out.split_first_chunk_mut() {
            Some((first, rest)) => {
                *first = head;
                rest.copy_from_slice(self.rest);
            }
            None => out.copy_from_slice(&head[..out.len()]),
        }
    }

    /// Copies the whole key over another one, whose prefix is `before`: of two keys of one node the second's is there already.
    #[inline]
    pub(crate) fn copy_over(&self, before: &mut *const [u8], out: &mut [u8]) {
        match std::ptr::eq(*before, self.prefix) {
            true => self.copy_suffix_to(&mut out[self.prefix.len()..]),
            false => self.copy_to(out),
        }
        *before = self.prefix;
    }

    /// The whole key.
    pub(crate) fn to_vec(self) -> Vec<u8> {
        let mut key = Vec::new();
        self.write_to(&mut key);
        key
    }

    /// Whether it is that key.
    #[inline]
    pub(super) fn is(&self, other: &[u8]) -> bool {
        let Some(suffix) = behind(other, self.prefix) else { return false };
        self.len == other.len()
            && self.head == head_of(suffix)
            && self.rest == suffix.get(HEAD_BYTES..).unwrap_or_default()
    }

    /// How the key orders against another, without putting it together.
    pub(crate) fn order(&self, other: &[u8]) -> Ordering {
        let Some(suffix) = behind(other, self.prefix) else {
            return self.prefix.cmp(other);
        };
        self.head.cmp(&head_of(suffix)).then_with(|| self.cmp_suffix(suffix))
    }

    /// How the key orders against one that lies in any node.
    pub(crate) fn order_key(&self, other: &Key<'_>) -> Ordering {
        match self.prefix == other.prefix {
            true => self.order_in_node(other),
            // As a rule, for keys of two trees: their leaves are not divided alike.
            false => {
                let (head, other_head) = (self.head.to_be_bytes(), other.head.to_be_bytes());
                order_of_parts(self.parts(&head), other.parts(&other_head))
            }
        }
    }

    fn parts<'b>(&'b self, head: &'b [u8; HEAD_BYTES]) -> [&'b [u8]; 3] {
        let head_len = (self.len - self.prefix.len()).min(HEAD_BYTES);
        [self.prefix, &head[..head_len], self.rest]
    }

    /// How the key orders against one of the same prefix and head.
    #[inline]
    fn cmp_suffix(&self, suffix: &[u8]) -> Ordering {
        let rest = suffix.get(HEAD_BYTES..).unwrap_or_default();
        let own_len = self.len - self.prefix.len();
        self.rest.cmp(rest).then(own_len.cmp(&suffix.len()))
    }

    /// How two keys of one node order.
    pub(super) fn order_in_node(&self, other: &Key<'_>) -> Ordering {
        let rest = || self.rest.cmp(other.rest).then(self.len.cmp(&other.len));
        self.head.cmp(&other.head).then_with(rest)
    }
}

/// How two keys order whose parts are of other lengths.
fn order_of_parts(mut one: [&[u8]; 3], mut other: [&[u8]; 3]) -> Ordering {
    loop {
        let first = |parts: &[&[u8]; 3]| parts.iter().position(|part| !part.is_empty());
        let (at, other_at) = match (first(&one), first(&other)) {
            (Some(at), Some(other_at)) => (at, other_at),
            (at, other_at) => return at.is_some().cmp(&other_at.is_some()),
        };
        let shared = one[at].len().min(other[other_at].len());
        let (head, rest) = one[at].split_at(shared);
        let (other_head, other_rest) = other[other_at].split_at(shared);
        match head.cmp(other_head) {
            Ordering::Equal => (one[at], other[other_at]) = (rest, other_rest),
            order => return order,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key whose node keeps so many bytes of it in its prefix.
    fn key(bytes: &[u8], prefix: usize) -> Key<'_> {
        let (prefix, suffix) = bytes.split_at(prefix.min(bytes.len()));
        let rest = suffix.get(HEAD_BYTES..).unwrap_or_default();
        Key { prefix, head: head_of(suffix), rest, len: bytes.len() }
    }

    #[test]
    fn keys_of_two_nodes_order_as_their_bytes_do_wherever_they_are_divided() {
        let long = b"a shared part, and another one";
        let mut keys: Vec<Vec<u8>> = (0..long.len()).map(|len| long[..len].to_vec()).collect();
        keys.extend((0..long.len()).map(|len| [&long[..len], b"\0"].concat()));
        keys.extend((0..long.len()).map(|len| [&long[..len], b"\xFFz"].concat()));
        for (one, other) in keys.iter().flat_map(|one| keys.iter().map(move |other| (one, other))) {
            for (prefix, other_prefix) in [(0, 1), (2, 9), (12, 3), (20, 40)] {
                let order = key(one, prefix).order_key(&key(other, other_prefix));
                assert_eq!(order, one.cmp(other), "{one:?} {prefix}, {other:?} {other_prefix}");
            }
        }
    }

    #[test]
    fn a_key_is_copied_over_another_one() {
        let node = b"prefix and eight bytes, and more";
        let (mut prefix, mut out): (*const [u8], Vec<u8>) = (&[], Vec::new());
        for (len, prefix_len) in [(32, 6), (32, 6), (20, 6), (9, 6), (6, 6), (32, 10), (12, 0)] {
            let key = key(&node[..len], prefix_len);
            out.resize(len, b'?');
            key.copy_over(&mut prefix, &mut out);
            assert_eq!(out, &node[..len]);
            if prefix_len > 0 {
                out[0] = b'?';
                key.copy_over(&mut prefix, &mut out);
                assert_eq!(out[0], b'?', "the prefix is there already");
                out[0] = node[0];
            }
        }
    }
}
