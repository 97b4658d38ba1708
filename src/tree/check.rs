//! The one look at a node that has just been read, after which decoding cannot fail.
//!
//! The checksum has been compared before (it proves that these are the bytes that were written, not that they are sound: the
//! file may be hostile). What is checked here makes every slice of the views in bounds and every search meaningful: lengths,
//! offsets, order, heads, and that all that means nothing is zero. That the rows lie between the parent's separators is for
//! merges and walks to see; a search does not depend on it.

use super::inner::Child;
use super::leaf::Kind;
use super::node::{
    CHILD_BYTES, HEAD_BYTES, HEADER_BYTES, KIND_INNER, KIND_LEAF, Key, Keys, LEN_BYTES, LEVEL_MAX,
    OFFSET_BITS, RESERVED_AT, SLOT_BYTES, bytes_at, index_at,
};
use super::refs::Wanted;
use crate::format::node_ref::NODE_PAGES_MAX;
use crate::format::{FILE_PAGES_MAX, lies_inside};
use crate::ids::{FamilyId, PAGE_BYTES};

/// What a node has to be, by the one that refers to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// The node and its level.
    pub wanted: Wanted,
    /// The column family of the tree.
    pub family: FamilyId,
}

/// Whether `node` is sound, and the one expected; else what is wrong, as half a sentence.
pub(crate) fn check(node: &[u8], expected: Expected) -> Result<(), &'static str> {
    check_header(node, expected)?;
    let leaf = expected.wanted.level == 0;
    let (count, prefix_len) = (index_at(node, 4), index_at(node, 8));
    let used = index_at(node, 12);
    // Counts are below 2^32, so nothing here overflows 64 bits.
    let children = if leaf { 0 } else { count as u64 + 1 };
    let prefix_at = HEADER_BYTES as u64
        + count as u64 * (HEAD_BYTES + SLOT_BYTES) as u64
        + SLOT_BYTES as u64
        + children * CHILD_BYTES as u64;
    let records_at = prefix_at + prefix_len as u64;
    let inside = used <= node.len() && records_at <= used as u64;
    ensure(inside, "node's parts exceed it")?;
    ensure(!leaf || count > 0, "leaf is empty")?;
    ensure(count > 0 || prefix_len == 0, "prefix without a key")?;
    ensure(is_zero(&node[used..]), "slack is not zero")?;
    check_slots(node, count, records_at as usize, used)?;
    check_records(node, count, children as usize * CHILD_BYTES, leaf)?;
    check_children(node, children as usize, prefix_at as usize, expected.wanted.level)
}

fn ensure(sound: bool, what: &'static str) -> Result<(), &'static str> {
    if sound { Ok(()) } else { Err(what) }
}

fn check_header(node: &[u8], expected: Expected) -> Result<(), &'static str> {
    let Wanted { node: reference, level } = expected.wanted;
    let pages = usize::from(reference.pages);
    ensure((1..=NODE_PAGES_MAX).contains(&pages), "node has an impossible size")?;
    ensure(node.len() == pages * PAGE_BYTES, "node is cut short")?;
    ensure(level <= LEVEL_MAX, "tree is too high")?;
    let kind = if level == 0 { KIND_LEAF } else { KIND_INNER };
    ensure(node[0] == kind, "node is of another kind")?;
    ensure(node[1] == level, "node is of another level")?;
    ensure(node[2..4] == reference.pages.to_le_bytes(), "node has another size")?;
    ensure(node[16..24] == reference.page.0.to_le_bytes(), "node belongs to another place")?;
    ensure(node[24..28] == expected.family.0.to_le_bytes(), "node belongs to another family")?;
    ensure(is_zero(&node[RESERVED_AT..HEADER_BYTES]), "reserved byte is not zero")
}

/// Records follow each other without gaps and fill the node up to `used`.
fn check_slots(node: &[u8], count: usize, records: usize, used: usize) -> Result<(), &'static str> {
    let slots_at = HEADER_BYTES + count * HEAD_BYTES;
    let (slots, _) = node[slots_at..slots_at + (count + 1) * SLOT_BYTES].as_chunks();
    let mut end = records;
    let mut gap = 0;
    for (index, slot) in slots.iter().enumerate() {
        let slot = u32::from_le_bytes(*slot);
        let offset = (slot & ((1 << OFFSET_BITS) - 1)) as usize;
        let follows = if index == 0 { offset == end } else { offset >= end + gap };
        ensure(follows && offset <= used, "records are out of order")?;
        ensure(index < count || slot as usize == used, "records do not fill the node")?;
        (end, gap) = (offset, LEN_BYTES);
    }
    Ok(())
}

/// Keys ascend, and are what their heads and lengths say; values are possible.
fn check_records(node: &[u8], count: usize, gap: usize, leaf: bool) -> Result<(), &'static str> {
    let prefix_len = index_at(node, 8);
    let (slots_at, heads_at) = (HEADER_BYTES + count * HEAD_BYTES, HEADER_BYTES);
    let keys = Keys::new(node, gap);
    let mut last: Option<Key<'_>> = None;
    for index in 0..count {
        let offset =
            |index| index_at(node, slots_at + index * SLOT_BYTES) & ((1 << OFFSET_BITS) - 1);
        let (start, end) = (offset(index), offset(index + 1));
        let key_len = usize::from(u16::from_le_bytes(bytes_at(node, start))) + 1;
        ensure(key_len >= prefix_len, "key is shorter than the prefix")?;
        let suffix_len = key_len - prefix_len;
        let rest_len = suffix_len.saturating_sub(HEAD_BYTES);
        ensure(LEN_BYTES + rest_len <= end - start, "key exceeds its record")?;
        let head = u64::from_le_bytes(bytes_at(node, heads_at + index * HEAD_BYTES));
        let padding = (HEAD_BYTES - suffix_len.min(HEAD_BYTES)) as u32 * 8;
        let padded = padding == 0 || head << (u64::BITS - padding) == 0;
        ensure(padded, "head is not padded with zeros")?;
        let (key, value) = keys.record(index);
        let ascends = last.is_none_or(|last| last.order_in_node(&key).is_lt());
        ensure(ascends, "keys do not ascend")?;
        last = Some(key);
        let kind = keys.kind(index);
        let sound = if leaf { Kind::is_sound(kind, value) } else { kind == 0 && value.is_empty() };
        ensure(sound, "value is impossible")?;
    }
    Ok(())
}

fn check_children(node: &[u8], count: usize, end: usize, level: u8) -> Result<(), &'static str> {
    let (entries, _) = node[end - count * CHILD_BYTES..end].as_chunks();
    for entry in entries {
        let child = Child::decode(entry);
        let pages = usize::from(child.node.pages);
        ensure((1..=NODE_PAGES_MAX).contains(&pages), "child has an impossible size")?;
        let possible = lies_inside(child.node.extent(), FILE_PAGES_MAX);
        ensure(possible, "child is at an impossible place")?;
        ensure(entry[13] <= 1, "child has an unknown flag")?;
        let counted = if level == 1 { child.rows > 0 } else { child.rows == 0 && child.bytes == 0 };
        ensure(counted, "child is counted wrong")?;
    }
    Ok(())
}

/// Whether all bytes are zero, without a branch per byte.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|chunk| chunk.iter().fold(0, |all, &byte| all | byte) == 0)
}
