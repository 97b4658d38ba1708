//! How nodes and trees are named, and what is said of those that are wrong.

use super::node::level_of;
pub(crate) use crate::format::node_ref::{NodeRef, TreeRoot};

impl TreeRoot {
    /// The root as something to fetch.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted { node: self.root, level: self.height }
    }
}

/// A node that a step needs, and the level that it has to be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    /// The node.
    pub node: NodeRef,
    /// Levels below it; zero means that it is a leaf.
    pub level: u8,
}

impl Wanted {
    /// Whether a node that was checked, for whomever, may be decoded as this one.
    #[inline]
    pub(crate) fn may_be(&self, checked: &[u8]) -> bool {
        level_of(checked) == self.level
    }
}

/// A node that contradicts its parent although it is sound by itself. Only a hostile file or a bug makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt {
    /// The node.
    pub node: NodeRef,
    /// What is wrong, as half a sentence.
    pub what: &'static str,
}
