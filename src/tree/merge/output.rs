//! The tree that a merge makes: rows and children that are pending on each level, and the counts.
//!
//! Nodes come out in key order and bottom up: a node's place and checksum are known when its parent is written.

use super::super::encode::{Label, Rows, encode};
use super::super::inner::{Child, Holds};
use super::super::leaf::{Kind, RowValue};
use super::super::node::{LEVEL_MAX, common_len, node_crc};
use super::super::pack::{Cut, Pending};
use super::super::refs::{NodeRef, TreeRoot};
use super::{Settings, Sink};
use crate::format::value::ExtentValue;

/// What is being built.
pub(super) struct Output {
    settings: Settings,
    /// Index 0: rows of leaves. Index n: children of nodes of level n, each with its lower fence.
    levels: Vec<Pending>,
    /// Not above the first pending row, and above all rows in front of it.
    fence: Vec<u8>,
    counts: Counts,
    /// The bytes of one node.
    node: Vec<u8>,
    /// Nodes written so far.
    pub written: usize,
}

/// They saturate: a base that counted itself wrong must not stop us.
#[derive(Clone, Copy, Default)]
struct Counts {
    rows: u64,
    bytes: u64,
    pages: u64,
    extent_pages: u64,
}

impl Output {
    pub(super) fn new(settings: Settings, base: Option<&TreeRoot>) -> Output {
        let counts = base.map_or_else(Counts::default, |base| Counts {
            rows: base.rows,
            bytes: base.bytes,
            pages: base.pages,
            extent_pages: base.extent_pages,
        });
        let levels = vec![Pending::new(0)];
        Output { settings, levels, fence: Vec::new(), counts, node: Vec::new(), written: 0 }
    }

    /// Says where the rows that are pushed next may begin: behind `low`. Rows that wait already keep their own fence.
    pub(super) fn begin_rows(&mut self, low: &[u8]) {
        if self.levels[0].is_empty() {
            self.fence.clear();
            self.fence.extend_from_slice(low);
        }
    }

    /// Appends a row; its key is written by the closure.
    pub(super) fn push<S: Sink>(
        &mut self,
        sink: &mut S,
        key: impl FnOnce(&mut Vec<u8>),
        value: RowValue<'_>,
    ) {
        let bytes = |out: &mut Vec<u8>| out.extend_from_slice(value.bytes());
        self.levels[0].push(value.kind(), key, bytes);
        self.settle(sink, 0);
    }

    /// Counts a row that was not in the base.
    pub(super) fn count_added(&mut self, key_len: usize, value: RowValue<'_>) {
        let bytes = (key_len + value.bytes().len()) as u64;
        let extent = value.extent_value().map_or(0, |value| value.extent.pages);
        let Counts { rows, bytes: all_bytes, extent_pages, .. } = &mut self.counts;
        *rows = rows.saturating_add(1);
        *all_bytes = all_bytes.saturating_add(bytes);
        *extent_pages = extent_pages.saturating_add(u64::from(extent));
    }

    /// Counts a row of the base that is gone, and retires its extent.
    pub(super) fn count_removed<S: Sink>(
        &mut self,
        sink: &mut S,
        key_len: usize,
        value: RowValue<'_>,
    ) {
        self.count_dropped(1, (key_len + value.bytes().len()) as u64);
        if let Some(value) = value.extent_value() {
            self.retire_extent(sink, value);
        }
    }

    /// Counts rows of the base that are gone, none with an extent.
    pub(super) fn count_dropped(&mut self, rows: u64, bytes: u64) {
        self.counts.rows = self.counts.rows.saturating_sub(rows);
        self.counts.bytes = self.counts.bytes.saturating_sub(bytes);
    }

    fn retire_extent<S: Sink>(&mut self, sink: &mut S, value: ExtentValue) {
        let pages = u64::from(value.extent.pages);
        self.counts.extent_pages = self.counts.extent_pages.saturating_sub(pages);
        sink.retire_extent(value);
    }

    /// Gives back a node of the base.
    pub(super) fn retire<S: Sink>(&mut self, sink: &mut S, node: NodeRef) {
        self.counts.pages = self.counts.pages.saturating_sub(u64::from(node.pages));
        sink.retire(node);
    }

    /// Whether what is pending up to `level` would make a node of less than a quarter if a node of `level` followed now.
    pub(super) fn is_small(&self, level: u8) -> bool {
        let mut waits = false;
        for pending in self.levels.iter().take(usize::from(level) + 1) {
            waits |= !pending.is_empty();
            if waits && pending.is_small() {
                return true;
            }
        }
        // Levels that do not exist yet would have to be made for a few children.
        waits && self.levels.len() <= usize::from(level)
    }

    /// Takes a subtree of the base as it is.
    pub(super) fn keep<S: Sink>(&mut self, sink: &mut S, child: Child, level: u8, low: &[u8]) {
        for below in 0..=usize::from(level) {
            self.close(sink, below);
        }
        self.push_child(child, usize::from(level) + 1, low);
        self.settle(sink, usize::from(level) + 1);
    }

    /// Closes all levels: the root of what was built.
    pub(super) fn finish<S: Sink>(
        &mut self,
        sink: &mut S,
    ) -> Result<Option<TreeRoot>, &'static str> {
        let mut level = 0;
        while level < self.levels.len() {
            let top = self.levels[level + 1..].iter().all(Pending::is_empty);
            let pending = &self.levels[level];
            if level > 0 && top && pending.len() == 1 {
                return self.root(entry(pending.rows(), 0).node, level - 1).map(Some);
            }
            self.close(sink, level);
            level += 1;
        }
        Ok(None)
    }

    fn root(&self, root: NodeRef, height: usize) -> Result<TreeRoot, &'static str> {
        let Counts { rows, bytes, pages, extent_pages } = self.counts;
        let height = u8::try_from(height).ok().filter(|&height| height <= LEVEL_MAX);
        let height = height.ok_or("tree is too high")?;
        // A base that counted too few is corrected as far as it has to be.
        let pages = pages.max(u64::from(root.pages));
        Ok(TreeRoot { root, height, rows, bytes, pages, extent_pages })
    }

    fn push_child(&mut self, child: Child, level: usize, fence: &[u8]) {
        while self.levels.len() <= level {
            let next = u8::try_from(self.levels.len()).expect("each level has fewer nodes");
            self.levels.push(Pending::new(next));
        }
        let key = |out: &mut Vec<u8>| out.extend_from_slice(fence);
        let entry = |out: &mut Vec<u8>| out.extend_from_slice(&child.encode());
        self.levels[level].push(Kind::Inline, key, entry);
    }

    /// Writes the nodes that are complete, from `level` upwards.
    fn settle<S: Sink>(&mut self, sink: &mut S, level: usize) {
        let mut level = level;
        while level < self.levels.len() {
            let before = self.written;
            while let Some(cut) = self.levels[level].ready() {
                self.emit(sink, level, cut);
            }
            if before == self.written {
                return;
            }
            level += 1;
        }
    }

    /// Writes all that is pending on a level.
    fn close<S: Sink>(&mut self, sink: &mut S, level: usize) {
        let Some(pending) = self.levels.get(level) else { return };
        for cut in pending.last_cuts() {
            self.emit(sink, level, cut);
        }
        self.settle(sink, level + 1);
    }

    /// Writes the first rows of a level as a node and gives the level above its entry.
    fn emit<S: Sink>(&mut self, sink: &mut S, level: usize, cut: Cut) {
        let pages = u16::try_from(cut.pages).expect("a node has at most 32 pages");
        let page = sink.place(pages);
        let family = self.settings.family;
        let label = Label { level: self.levels[level].level(), pages, page, family };
        let rows = self.levels[level].rows().first(cut.rows);
        encode(&mut self.node, rows, label);
        let crc = node_crc(&self.settings.file_id, page, &self.node);
        let node = NodeRef { page, pages, crc };
        let child = child_of(node, rows, label.level);
        sink.write(node, &self.node);
        self.counts.pages = self.counts.pages.saturating_add(u64::from(pages));
        self.written += 1;
        let fence = self.take_fence(level, cut);
        self.levels[level].consume(cut);
        self.push_child(child, level + 1, &fence);
    }

    /// The lower fence of the node that a cut makes. Behind a leaf the next one begins at the shortest key that separates.
    fn take_fence(&mut self, level: usize, cut: Cut) -> Vec<u8> {
        let rows = self.levels[level].rows();
        if level > 0 {
            return rows.key(0).to_vec();
        }
        let next = rows.spans.get(cut.rows).map_or_else(Vec::new, |_| {
            let (last, next) = (rows.key(cut.rows - 1), rows.key(cut.rows));
            next[..=common_len(last, next)].to_vec()
        });
        std::mem::replace(&mut self.fence, next)
    }
}

/// What the parent will say of a node of these rows.
fn child_of(node: NodeRef, rows: Rows<'_>, level: u8) -> Child {
    if level > 0 {
        let extents = (0..rows.spans.len()).any(|index| entry(rows, index).holds == Holds::Extents);
        return Child { node, holds: holds(extents), rows: 0, bytes: 0 };
    }
    let bytes: usize = rows.spans.iter().map(|span| span.key_len() + span.value_len()).sum();
    Child {
        node,
        holds: holds(rows.spans.iter().any(|span| span.kind == Kind::Extent)),
        rows: u16::try_from(rows.spans.len()).expect("a node has at most 18,000 rows"),
        bytes: u32::try_from(bytes).expect("18,000 keys are below 2 GiB"),
    }
}

fn holds(extents: bool) -> Holds {
    if extents { Holds::Extents } else { Holds::Rows }
}

/// The child that a row of an inner node is.
fn entry(rows: Rows<'_>, index: usize) -> Child {
    Child::decode(rows.value(index).first_chunk().expect("entries have one size"))
}
