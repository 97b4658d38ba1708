//! Nodes that are written again, although nothing in them changes, for the place that they have.
//!
//! Inner nodes name the pages of their children, so leaves that may stay are never read.

use super::super::refs::NodeRef;
use crate::ids::PageId;

/// What is to leave the end of the file.
#[derive(Clone, Debug)]
pub(crate) struct Moves {
    /// No node is to reach beyond it.
    limit: PageId,
    /// All up to this key was looked at.
    from: Vec<u8>,
    /// Pages of leaves that may still be moved.
    pages: u64,
    rest: Option<Vec<u8>>,
}

impl Moves {
    /// Out of the pages from `limit` on go the nodes from the key on, leaves of about so many pages.
    pub(crate) fn new(limit: PageId, from: Vec<u8>, pages: u64) -> Moves {
        Moves { limit, from, pages, rest: None }
    }

    /// The key from which on nodes are left to be looked at, if any are.
    pub(crate) fn into_rest(self) -> Option<Vec<u8>> {
        self.rest
    }

    /// Whether the node lies where it may not.
    pub(super) fn concern(&self, node: NodeRef) -> bool {
        node.extent().end() > self.limit
    }

    /// Whether the child between these fences is to be opened: a leaf to be moved, an inner node to be looked at.
    pub(super) fn open(
        &mut self,
        node: NodeRef,
        level: u8,
        low: &[u8],
        high: Option<&[u8]>,
    ) -> bool {
        let was_seen = high.is_some_and(|high| high <= &self.from[..]);
        let stays = level == 0 && !self.concern(node);
        if was_seen || stays || self.rest.is_some() {
            return false;
        }
        if self.pages == 0 {
            self.rest = Some(low.to_vec());
            return false;
        }
        if level == 0 {
            self.pages = self.pages.saturating_sub(node.pages.into());
        }
        true
    }
}
