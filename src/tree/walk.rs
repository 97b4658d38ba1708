//! Every node of a tree, parents before children, left to right: for `check`, `stat`, compaction and dropped families.

use super::inner::{Child, Holds, Inner};
use super::leaf::Leaf;
use super::refs::{Corrupt, NodeRef, TreeRoot, Wanted};
use crate::format::value::ExtentValue;

/// Which leaves a walk reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// All: to verify them.
    All,
    /// Those with values that have extents of their own: to find out what the tree occupies.
    WithExtents,
}

/// What a walk asks for, or came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WalkStep {
    /// The next node: fetch it, check it, and give it to the next step.
    Need(Wanted),
    /// The next node is a leaf that need not be read.
    Unread(NodeRef),
    /// A value of the leaf that was given last.
    Extent(ExtentValue),
    /// All was seen.
    Done,
}

/// A walk under way.
///
/// In a hostile file a node may be below itself, or below many others: whoever must not walk for ever remembers the pages that
/// it saw and [skips](Walk::skip) a node that comes again. (Levels fall, so no walk is deeper than a tree may be.)
pub(crate) struct Walk {
    leaves: Leaves,
    path: Vec<Frame>,
    wanted: Option<Target>,
    extents: std::vec::IntoIter<ExtentValue>,
    /// What was seen so far. At the end it is what the root has to say.
    counts: TreeRoot,
}

struct Frame {
    wanted: Wanted,
    bytes: Vec<u8>,
    low: Vec<u8>,
    high: Option<Vec<u8>>,
    index: usize,
}

struct Target {
    wanted: Wanted,
    low: Vec<u8>,
    high: Option<Vec<u8>>,
    /// What the parent says of it; the root has none.
    child: Option<Child>,
}

impl Walk {
    /// Prepares to visit every node of `tree`.
    pub(crate) fn new(tree: &TreeRoot, leaves: Leaves) -> Walk {
        let (low, high, child) = (Vec::new(), None, None);
        Walk {
            leaves,
            path: Vec::new(),
            wanted: Some(Target { wanted: tree.wanted(), low, high, child }),
            extents: Vec::new().into_iter(),
            counts: TreeRoot { rows: 0, bytes: 0, pages: 0, extent_pages: 0, ..*tree },
        }
    }

    /// Goes on to the next node or value. `node` is the one that was needed, checked.
    pub(crate) fn step(&mut self, node: Option<&[u8]>) -> Result<WalkStep, Corrupt> {
        if let Some(bytes) = node {
            let target = self.wanted.take().expect("a walk is given only nodes that it asks for");
            self.accept(target, bytes)?;
        }
        if let Some(value) = self.extents.next() {
            self.counts.extent_pages += u64::from(value.extent.pages);
            return Ok(WalkStep::Extent(value));
        }
        if let Some(target) = &self.wanted {
            return Ok(WalkStep::Need(target.wanted));
        }
        Ok(self.next_child())
    }

    /// What was counted. After [`WalkStep::Done`] of a sound tree it equals the root that was given.
    pub(crate) fn counts(&self) -> TreeRoot {
        self.counts
    }

    /// Passes over the node that was asked for, and all below it: it cannot be read.
    pub(crate) fn skip(&mut self) {
        self.wanted = None;
    }

    /// The next siblings of the node that is asked for, to be read ahead.
    pub(crate) fn upcoming(&self, max: usize) -> Vec<Wanted> {
        let Some(frame) = self.path.last() else { return Vec::new() };
        let (inner, level) = (Inner::new(&frame.bytes), frame.wanted.level - 1);
        let entries = (frame.index..inner.len()).map(|index| inner.entry(index));
        let read = entries.filter(|child| self.reads(child, level));
        read.take(max).map(|child| Wanted { node: child.node, level }).collect()
    }

    fn reads(&self, child: &Child, level: u8) -> bool {
        level > 0 || self.leaves == Leaves::All || child.holds == Holds::Extents
    }

    fn next_child(&mut self) -> WalkStep {
        loop {
            let Some(frame) = self.path.last_mut() else { return WalkStep::Done };
            let (inner, level) = (Inner::new(&frame.bytes), frame.wanted.level - 1);
            if frame.index == inner.len() {
                self.path.pop();
                continue;
            }
            let index = frame.index;
            frame.index += 1;
            let child = inner.entry(index);
            let wanted = Wanted { node: child.node, level };
            let low = inner.low(index, &frame.low);
            let high = inner.high(index, frame.high.as_deref());
            if self.reads(&child, level) {
                self.wanted = Some(Target { wanted, low, high, child: Some(child) });
                return WalkStep::Need(wanted);
            }
            self.counts.pages += u64::from(child.node.pages);
            self.count_rows(usize::from(child.rows), u64::from(child.bytes));
            return WalkStep::Unread(child.node);
        }
    }

    fn count_rows(&mut self, rows: usize, bytes: u64) {
        self.counts.rows += rows as u64;
        self.counts.bytes += bytes;
    }

    fn accept(&mut self, target: Target, bytes: &[u8]) -> Result<(), Corrupt> {
        self.counts.pages += u64::from(target.wanted.node.pages);
        if target.wanted.level == 0 {
            self.visit_leaf(&target, bytes)
        } else {
            self.visit_inner(target, bytes)
        }
    }

    fn visit_leaf(&mut self, target: &Target, bytes: &[u8]) -> Result<(), Corrupt> {
        let leaf = Leaf::new(bytes);
        let (first, last) = (leaf.key(0), leaf.key(leaf.len() - 1));
        let below = target.high.as_ref().is_none_or(|high| last.order(high).is_lt());
        target.ensure(first.order(&target.low).is_ge() && below, "keys are outside the leaf")?;
        let rows = || (0..leaf.len()).map(|index| leaf.row(index));
        let row_bytes = rows().map(|(key, value)| (key.len() + value.bytes().len()) as u64).sum();
        let extents: Vec<ExtentValue> =
            rows().filter_map(|(_, value)| value.extent_value()).collect();
        if let Some(child) = target.child {
            let counted =
                usize::from(child.rows) == leaf.len() && u64::from(child.bytes) == row_bytes;
            target.ensure(counted, "leaf is not counted right")?;
            let holds = (child.holds == Holds::Extents) != extents.is_empty();
            target.ensure(holds, "leaf is not marked right")?;
        }
        self.count_rows(leaf.len(), row_bytes);
        self.extents = extents.into_iter();
        Ok(())
    }

    fn visit_inner(&mut self, target: Target, bytes: &[u8]) -> Result<(), Corrupt> {
        let inner = Inner::new(bytes);
        if let Some(last) = inner.separators().checked_sub(1) {
            let above = inner.separator(0).order(&target.low).is_gt();
            let high = target.high.as_ref();
            let below = high.is_none_or(|high| inner.separator(last).order(high).is_lt());
            target.ensure(above && below, "separators are outside the node")?;
        }
        let extents = (0..inner.len()).any(|index| inner.entry(index).holds == Holds::Extents);
        let marked = target.child.is_none_or(|child| (child.holds == Holds::Extents) == extents);
        target.ensure(marked, "node is not marked right")?;
        let Target { wanted, low, high, .. } = target;
        self.path.push(Frame { wanted, bytes: bytes.to_vec(), low, high, index: 0 });
        Ok(())
    }
}

impl Target {
    fn ensure(&self, sound: bool, what: &'static str) -> Result<(), Corrupt> {
        if sound { Ok(()) } else { Err(Corrupt { node: self.wanted.node, what }) }
    }
}
