//! Rows to the bytes of a node.

use super::leaf::Kind;
use super::node::{
    CHILD_BYTES, HEAD_BYTES, HEADER_BYTES, KIND_INNER, KIND_LEAF, LEN_BYTES, OFFSET_BITS,
    RESERVED_AT, SLOT_BYTES, common_len, head_of,
};
use crate::ids::{FamilyId, PAGE_BYTES, PageId};

/// Where the bytes of a row are in an arena: its key, then its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: u32,
    key_len: u32,
    value_len: u32,
    pub kind: Kind,
}

impl Span {
    #[inline]
    pub(super) fn new(start: usize, key_len: usize, value_len: usize, kind: Kind) -> Span {
        let bounded = |len| u32::try_from(len).expect("an arena is far below 4 GiB");
        let (start, key_len, value_len) = (bounded(start), bounded(key_len), bounded(value_len));
        Span { start, key_len, value_len, kind }
    }

    #[inline]
    pub(super) fn start(&self) -> usize {
        self.start as usize
    }

    #[inline]
    pub(super) fn key_len(&self) -> usize {
        self.key_len as usize
    }

    #[inline]
    pub(super) fn value_len(&self) -> usize {
        self.value_len as usize
    }

    #[inline]
    pub(super) fn key<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        &arena[self.start()..][..self.key_len()]
    }

    #[inline]
    pub(super) fn value<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        &arena[self.start() + self.key_len()..][..self.value_len()]
    }

    /// The same row once so many bytes in front of it are gone.
    pub(super) fn shifted(self, bytes: usize) -> Span {
        Span { start: self.start - bytes as u32, ..self }
    }
}

/// Rows on their way into a node: of a leaf, or a child's lower fence and its entry.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub arena: &'a [u8],
    pub spans: &'a [Span],
}

impl<'a> Rows<'a> {
    pub(super) fn key(&self, index: usize) -> &'a [u8] {
        self.spans[index].key(self.arena)
    }

    pub(super) fn value(&self, index: usize) -> &'a [u8] {
        self.spans[index].value(self.arena)
    }

    /// The first rows only.
    pub(super) fn first(self, len: usize) -> Rows<'a> {
        Rows { spans: &self.spans[..len], ..self }
    }

    fn without_first(self) -> Rows<'a> {
        Rows { spans: &self.spans[1..], ..self }
    }

    fn common_prefix(&self) -> &'a [u8] {
        let Some(last) = self.spans.len().checked_sub(1) else { return &[] };
        let first = self.key(0);
        &first[..common_len(first, self.key(last))]
    }
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label {
    pub level: u8,
    pub pages: u16,
    pub page: PageId,
    pub family: FamilyId,
}

/// Makes `node` the bytes of one; the caller has measured that the rows fit.
pub(super) fn encode(node: &mut Vec<u8>, rows: Rows<'_>, label: Label) {
    let len_bytes = usize::from(label.pages) * PAGE_BYTES;
    node.clear();
    node.reserve(len_bytes);
    if label.level == 0 {
        encode_header(node, KIND_LEAF, &label, rows);
        encode_keys(node, rows, &[]);
    } else {
        let separators = rows.without_first();
        encode_header(node, KIND_INNER, &label, separators);
        let mut children = Vec::with_capacity(rows.spans.len() * CHILD_BYTES);
        (0..rows.spans.len()).for_each(|index| children.extend_from_slice(rows.value(index)));
        encode_keys(node, separators, &children);
    }
    let used = u32::try_from(node.len()).expect("a node is at most 256 KiB");
    node[12..16].copy_from_slice(&used.to_le_bytes());
    assert!(node.len() <= len_bytes, "rows were measured to fit");
    node.resize(len_bytes, 0);
}

fn encode_header(node: &mut Vec<u8>, kind: u8, label: &Label, keys: Rows<'_>) {
    let count = u32::try_from(keys.spans.len()).expect("a node has at most 18,000 rows");
    let prefix = u32::try_from(keys.common_prefix().len()).expect("keys are at most 64 KiB");
    node.extend_from_slice(&[kind, label.level]);
    node.extend_from_slice(&label.pages.to_le_bytes());
    node.extend_from_slice(&count.to_le_bytes());
    node.extend_from_slice(&prefix.to_le_bytes());
    node.extend_from_slice(&[0; 4]);
    node.extend_from_slice(&label.page.0.to_le_bytes());
    node.extend_from_slice(&label.family.0.to_le_bytes());
    node.extend_from_slice(&[0; HEADER_BYTES - RESERVED_AT]);
}

/// Heads, slots, children, prefix, records. Only the records of a leaf hold values.
fn encode_keys(node: &mut Vec<u8>, keys: Rows<'_>, children: &[u8]) {
    let prefix = keys.common_prefix();
    let count = keys.spans.len();
    for index in 0..count {
        let head = head_of(&keys.key(index)[prefix.len()..]);
        node.extend_from_slice(&head.to_le_bytes());
    }
    let slots_len = (count + 1) * SLOT_BYTES;
    let mut offset = node.len() + slots_len + children.len() + prefix.len();
    for span in keys.spans {
        put_slot(node, offset, span.kind);
        let rest_len = (span.key_len() - prefix.len()).saturating_sub(HEAD_BYTES);
        let value_len = if children.is_empty() { span.value_len() } else { 0 };
        offset += LEN_BYTES + rest_len + value_len;
    }
    put_slot(node, offset, Kind::Inline);
    node.extend_from_slice(children);
    node.extend_from_slice(prefix);
    for index in 0..count {
        let key = keys.key(index);
        let stored_len = u16::try_from(key.len() - 1).expect("keys are 1 to 65536 bytes");
        node.extend_from_slice(&stored_len.to_le_bytes());
        node.extend_from_slice(key[prefix.len()..].get(HEAD_BYTES..).unwrap_or_default());
        if children.is_empty() {
            node.extend_from_slice(keys.value(index));
        }
    }
}

fn put_slot(node: &mut Vec<u8>, offset: usize, kind: Kind) {
    let offset = u32::try_from(offset).expect("a node is at most 256 KiB");
    let slot = offset | (kind as u32) << OFFSET_BITS;
    node.extend_from_slice(&slot.to_le_bytes());
}
