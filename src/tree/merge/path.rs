//! Where a merge is in its base: the opened nodes from the root down.

use std::ops::Range;

use super::super::inner::{Child, Inner};
use super::super::leaf::Leaf;
use super::super::node::{HEADER_BYTES, SLOT_BYTES};
use super::super::refs::{Corrupt, TreeRoot, Wanted};
use super::moves::Moves;

/// What a merge does next.
pub(super) enum State {
    /// Nothing was done yet.
    Start,
    /// The next child of the innermost opened node is to be looked at.
    Between,
    /// A node is asked for.
    Wanting(Target),
    /// It is not known yet whether anything in this leaf changes.
    Probing(OpenLeaf),
    /// The rows of this leaf are on their way into the output.
    Merging(OpenLeaf),
    /// Over.
    Done(Option<TreeRoot>),
}

/// A node that is asked for, and the keys that may be in it.
pub(super) struct Target {
    pub wanted: Wanted,
    pub low: Vec<u8>,
    pub high: Option<Vec<u8>>,
    pub purpose: Purpose,
}

/// Why a node is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Something in it may change.
    Change,
    /// It, or something below it, may lie where it may not.
    Move,
    /// What is pending in front of it is too small for a node (M3).
    Join,
}

/// Whether an opened node is replaced (M1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing changed in it so far.
    Clean,
    /// It is retired, and its children so far are in the output.
    Rewritten,
}

/// An opened inner node.
pub(super) struct Frame {
    pub wanted: Wanted,
    pub bytes: Vec<u8>,
    pub low: Vec<u8>,
    pub high: Option<Vec<u8>>,
    /// The child that is looked at.
    pub index: usize,
    pub fate: Fate,
}

impl Frame {
    /// Opens a checked node, if its separators are inside its parent's.
    pub(super) fn open(target: Target, bytes: &[u8]) -> Result<Frame, Corrupt> {
        let Target { wanted, low, high, .. } = target;
        let inner = Inner::new(bytes);
        if let Some(last) = inner.separators().checked_sub(1) {
            let above = inner.separator(0).order(&low).is_gt();
            let below = high.as_ref().is_none_or(|high| inner.separator(last).order(high).is_lt());
            if !above || !below {
                return Err(Corrupt { node: wanted.node, what: "separators are outside the node" });
            }
        }
        let bytes = bytes.to_vec();
        Ok(Frame { wanted, bytes, low, high, index: 0, fate: Fate::Clean })
    }

    /// Whether all children were looked at.
    pub(super) fn is_over(&self) -> bool {
        self.index == Inner::new(&self.bytes).len()
    }

    /// Level of the children.
    pub(super) fn child_level(&self) -> u8 {
        self.wanted.level - 1
    }

    /// A child and its lower fence.
    pub(super) fn child(&self, index: usize) -> (Child, Vec<u8>) {
        let inner = Inner::new(&self.bytes);
        (inner.entry(index), inner.low(index, &self.low))
    }

    /// The upper fence of a child.
    pub(super) fn child_high(&self, index: usize) -> Option<Vec<u8>> {
        Inner::new(&self.bytes).high(index, self.high.as_deref())
    }

    /// Appends the children behind the present one in whose ranges `keys` are, which ascend.
    pub(super) fn upcoming<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
        max: usize,
        upcoming: &mut Vec<Wanted>,
    ) {
        let inner = Inner::new(&self.bytes);
        let mut last = self.index;
        for key in keys {
            let outside = self.high.as_ref().is_some_and(|high| key >= &high[..]);
            if outside || upcoming.len() >= max {
                return;
            }
            let index = inner.child_index(key);
            if index > last {
                upcoming.push(Wanted { node: inner.child(index), level: self.child_level() });
                last = index;
            }
        }
    }

    /// Appends the children behind the present one that are opened because of where they lie.
    pub(super) fn upcoming_moves(&self, moves: &Moves, max: usize, upcoming: &mut Vec<Wanted>) {
        let (inner, level) = (Inner::new(&self.bytes), self.child_level());
        let children = (self.index + 1..inner.len()).map(|index| inner.child(index));
        let opened = children.filter(|child| level > 0 || moves.concern(*child));
        let room = max.saturating_sub(upcoming.len());
        upcoming.extend(opened.map(|node| Wanted { node, level }).take(room));
    }
}

/// A leaf whose rows are looked at.
pub(super) struct OpenLeaf {
    /// The leaf, unless it stands for rows that were dropped unread, or for a tree that is not there.
    pub wanted: Option<Wanted>,
    pub bytes: Vec<u8>,
    pub low: Vec<u8>,
    pub high: Option<Vec<u8>>,
    /// The next row.
    pub row: usize,
    /// The next rows that a range deletes, as far as they are looked for.
    pub deleted: Option<Range<usize>>,
}

impl OpenLeaf {
    /// Opens a checked leaf, if its rows are inside its parent's separators.
    pub(super) fn open(target: Target, bytes: &[u8]) -> Result<OpenLeaf, Corrupt> {
        let Target { wanted, low, high, .. } = target;
        let leaf = Leaf::new(bytes);
        let last = leaf.key(leaf.len() - 1);
        let below = high.as_ref().is_none_or(|high| last.order(high).is_lt());
        if leaf.key(0).order(&low).is_lt() || !below {
            return Err(Corrupt { node: wanted.node, what: "keys are outside the leaf" });
        }
        let (bytes, wanted) = (bytes.to_vec(), Some(wanted));
        Ok(OpenLeaf { wanted, bytes, low, high, row: 0, deleted: None })
    }

    /// A leaf without rows, for changes between these fences.
    pub(super) fn empty(low: Vec<u8>, high: Option<Vec<u8>>) -> OpenLeaf {
        const USED: usize = HEADER_BYTES + SLOT_BYTES;
        let mut bytes = vec![0; USED];
        bytes[HEADER_BYTES..].copy_from_slice(&(USED as u32).to_le_bytes());
        OpenLeaf { wanted: None, bytes, low, high, row: 0, deleted: None }
    }
}
