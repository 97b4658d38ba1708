//! Where the parts of a file lie: the format as `src/format` and `src/tree/node.rs` document it,
//! read without trust and without the engine's own decoders.

use std::collections::HashSet;
use std::ops::Range;

/// Bytes of a page.
pub const PAGE: usize = 8192;
/// Bytes of a block: of a superblock, of a segment's head.
pub const BLOCK: usize = 4096;
/// Bytes of a tree in the catalog: its root, and its filter's blob.
pub const TREE_ENTRY: usize = 72;
/// Where the blob stands in them.
pub const FILTER_AT: usize = 48;
/// From a copy of the superblock to its second place.
pub const COPIES_APART: usize = 512 << 10;

/// Nodes and segments that are looked at, at most: an edited file may name itself.
const VISITS_MAX: usize = 4096;

/// A part that edits choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All fields of the superblock.
    Superblock,
    /// One chapter in it.
    Chapter,
    /// The catalog's blob.
    Catalog,
    /// A root in the catalog.
    Root,
    /// The free map's blob.
    FreeMap,
    /// A filter's blob.
    Filter,
    /// A node of a tree.
    Node,
    /// The head of a segment.
    SegmentHead,
    /// A group, its head included.
    Group,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Kind; 9] = [
        Kind::Superblock,
        Kind::Chapter,
        Kind::Catalog,
        Kind::Root,
        Kind::FreeMap,
        Kind::Filter,
        Kind::Node,
        Kind::SegmentHead,
        Kind::Group,
    ];
}

/// A part and its place in the file.
#[derive(Clone, Debug)]
pub struct Region {
    /// What it is.
    pub kind: Kind,
    /// Its bytes.
    pub place: Range<usize>,
}

/// A reference to a node, wherever it stands.
#[derive(Clone, Copy, Debug)]
pub struct NodeAt {
    /// Where the reference's checksum stands.
    pub crc_at: usize,
    /// First page.
    pub page: u64,
    /// Where the node's bytes begin, and how many there are.
    pub start: usize,
    /// Bytes of the node.
    pub len: usize,
}

/// A group and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct GroupAt {
    /// Where it begins.
    pub start: usize,
    /// Head and payload.
    pub len: usize,
    /// Counted from the front of its segment: where the next one would begin.
    pub end_in_segment: usize,
    /// Its segment's ordinal.
    pub ordinal: u64,
}

/// A little-endian number of `N` bytes, if it lies inside.
pub fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(bytes.get(at..)?.first_chunk::<N>()?);
    Some(u64::from_le_bytes(wide))
}

/// The bytes of some pages, if they lie inside.
pub fn pages(bytes: &[u8], page: u64, len: u64) -> Option<Range<usize>> {
    let start = usize::try_from(page).ok()?.checked_mul(PAGE)?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    (end <= bytes.len()).then_some(start..end)
}

/// The first copy of the newest generation.
pub fn newest_slot(bytes: &[u8]) -> usize {
    let generation = |slot: &usize| number::<8>(bytes, slot + 40);
    [0, BLOCK].into_iter().max_by_key(generation).expect("there are two slots")
}

/// The bytes of a blob, from where its reference stands.
pub fn blob(bytes: &[u8], at: usize) -> Option<(u64, Range<usize>)> {
    let (page, len) = (number::<8>(bytes, at)?, number::<8>(bytes, at + 16)?);
    Some((page, pages(bytes, page, len)?))
}

/// Where the catalog's roots stand.
pub fn roots(bytes: &[u8], slot_at: usize) -> Vec<usize> {
    let mut roots = Vec::new();
    let Some((_, place)) = blob(bytes, slot_at + 96) else { return roots };
    let mut at = place.start + 8;
    while at + 8 <= place.end && roots.len() < VISITS_MAX {
        let (Some(name), Some(trees)) = (number::<1>(bytes, at + 5), number::<2>(bytes, at + 6))
        else {
            break;
        };
        at += 8 + name as usize;
        for _ in 0..trees {
            if at + TREE_ENTRY > place.end {
                return roots;
            }
            roots.push(at);
            at += TREE_ENTRY;
        }
    }
    roots
}

/// The filters of the catalog's trees: where the reference stands, its first page, its bytes.
pub fn filters(bytes: &[u8], slot_at: usize) -> Vec<(usize, u64, Range<usize>)> {
    let references = roots(bytes, slot_at).into_iter().map(|at| at + FILTER_AT);
    let filter = |at| blob(bytes, at).map(|(page, place)| (at, page, place));
    references.filter_map(filter).filter(|(_, _, place)| !place.is_empty()).collect()
}

/// Every node below the roots, parents before their children.
pub fn nodes(bytes: &[u8], slot_at: usize) -> Vec<NodeAt> {
    let mut pending: Vec<NodeAt> = roots(bytes, slot_at)
        .into_iter()
        .filter_map(|at| node_at(bytes, at, number::<2>(bytes, at + 12)?))
        .collect();
    let (mut seen, mut nodes) = (HashSet::new(), Vec::new());
    while let Some(node) = pending.pop() {
        nodes.push(node);
        if !seen.insert(node.page) || nodes.len() > VISITS_MAX {
            continue;
        }
        let own = &bytes[node.start..node.start + node.len];
        if own[0] != 2 {
            continue;
        }
        let separators = number::<4>(own, 4).unwrap_or(0) as usize;
        let first = 64 + separators.saturating_mul(12) + 4;
        for child in 0..=separators.min(VISITS_MAX) {
            let at = first.saturating_add(child * 20);
            if at.saturating_add(20) > own.len() {
                break;
            }
            let pages = number::<1>(own, at + 12).unwrap_or(0);
            pending.extend(node_at(bytes, node.start + at, pages));
        }
    }
    nodes
}

fn node_at(bytes: &[u8], at: usize, node_pages: u64) -> Option<NodeAt> {
    let page = number::<8>(bytes, at)?;
    let place = pages(bytes, page, node_pages * PAGE as u64)?;
    (!place.is_empty()).then_some(NodeAt {
        crc_at: at + 8,
        page,
        start: place.start,
        len: place.len(),
    })
}

/// Where the chapters stand.
pub fn chapters(bytes: &[u8], slot_at: usize) -> Vec<usize> {
    let count = number::<1>(bytes, slot_at + 93).unwrap_or(0).min(32) as usize;
    (0..count).map(|index| slot_at + 256 + 64 * index).collect()
}

/// Heads of the segments of a chapter, with the bytes of each.
pub fn segments(bytes: &[u8], chapter_at: usize) -> Vec<Range<usize>> {
    let mut segments: Vec<Range<usize>> = Vec::new();
    let mut at = chapter_at + 8;
    while let (Some(page), Some(len)) = (number::<8>(bytes, at), number::<4>(bytes, at + 8)) {
        let place = pages(bytes, page, len * PAGE as u64).filter(|place| place.len() > BLOCK);
        let Some(place) = place.filter(|_| segments.len() < 64) else { break };
        if segments.iter().any(|known| known.start == place.start) {
            break;
        }
        // A successor that is still blank ends the log, and a checksum there would be damage.
        if bytes[place.start..place.start + BLOCK].iter().all(|byte| *byte == 0) {
            break;
        }
        at = place.start + 52;
        segments.push(place);
    }
    segments
}

/// The groups of a segment's own life.
pub fn groups(bytes: &[u8], segment: &Range<usize>) -> Vec<GroupAt> {
    let mut groups = Vec::new();
    let life = bytes[segment.start + 24..segment.start + 40].to_vec();
    let ordinal = number::<8>(bytes, segment.start + 32).unwrap_or(0);
    let mut start = segment.start + BLOCK;
    while start + 64 <= segment.end {
        let is_group =
            &bytes[start + 4..start + 8] == b"rgrp" && bytes[start + 16..start + 32] == life[..];
        let len = 64 + number::<4>(bytes, start + 8).unwrap_or(0) as usize;
        if !is_group || len > segment.end - start {
            break;
        }
        let next = start + len.next_multiple_of(BLOCK);
        groups.push(GroupAt { start, len, end_in_segment: next - segment.start, ordinal });
        start = next;
    }
    groups
}

/// Every part of a file that is whole.
pub fn regions(bytes: &[u8], slot_at: usize) -> Vec<Region> {
    let mut regions = Vec::new();
    let mut add = |kind, place| regions.push(Region { kind, place });
    add(Kind::Superblock, slot_at + 8..slot_at + 256);
    for (kind, at) in [(Kind::Catalog, 96), (Kind::FreeMap, 120)] {
        if let Some((_, place)) = blob(bytes, slot_at + at) {
            add(kind, place);
        }
    }
    roots(bytes, slot_at).into_iter().for_each(|at| add(Kind::Root, at..at + TREE_ENTRY));
    for (_, _, place) in filters(bytes, slot_at) {
        add(Kind::Filter, place);
    }
    for node in nodes(bytes, slot_at) {
        add(Kind::Node, node.start..node.start + node.len);
    }
    for chapter in chapters(bytes, slot_at) {
        add(Kind::Chapter, chapter..chapter + 64);
        for segment in segments(bytes, chapter) {
            add(Kind::SegmentHead, segment.start..segment.start + 64);
            for group in groups(bytes, &segment) {
                add(Kind::Group, group.start..group.start + group.len);
            }
        }
    }
    regions
}
