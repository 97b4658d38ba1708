//! The copy-on-write B+tree on disk: its nodes, how they are searched, merged and walked.
//!
//! Everything here is pure. A descent, a merge and a walk are steps that never wait: where a node is missing they name it
//! ([`Wanted`]), the caller fetches it, checks it once ([`check`]) and takes the next step. A node that passed [`check`] is
//! decoded without a failure path; a node that did not pass must never be given to anything else here.
//!
//! What must hold:
//!
//! - a node is never changed; a merge writes new nodes and retires those that they replace (I2);
//! - the parent, or the catalog, holds a node's checksum (I7);
//! - the rows of a subtree lie in `[low, high)`: `low` is the separator in front of it in the nearest ancestor that has one,
//!   `high` the one behind it;
//! - levels fall by one from parent to child and are checked, so that no descent is longer than [`LEVEL_MAX`] + 1, whatever a
//!   hostile file says. Nothing here recurses.
//!
//! | file | noun |
//! |---|---|
//! | `node` | the bytes that leaf and inner nodes share, and the search in them |
//! | `leaf`, `inner` | views of a checked node |
//! | `check` | the one look at a node that has just been read |
//! | `encode`, `pack` | rows to bytes; which rows share a node |
//! | `filter` | which keys are certainly not in a tree |
//! | `search`, `seek` | descents of lookups, of scans |
//! | `place` | where a row lies, for whoever comes back without a descent |
//! | `merge` | sorted changes into a tree |
//! | `walk` | every node of a tree |

mod check;
mod encode;
mod filter;
mod inner;
mod leaf;
mod merge;
mod node;
mod pack;
mod place;
mod refs;
mod search;
mod seek;
mod walk;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use crate::format::value::ExtentValue;
pub(crate) use check::{Expected, check};
pub(crate) use filter::{Filter, KeyHash};
pub(crate) use inner::Inner;
#[cfg(test)]
pub(crate) use inner::{Child, Holds};
pub(crate) use leaf::{Leaf, RowValue};
pub(crate) use merge::{Changes, Merge, MergeStep, Moves, RangeDelete, Settings, Sink, Tombstones};
#[cfg(test)]
pub(crate) use node::node_crc;
pub(crate) use node::{FRONT_BYTES, HEADER_OF_COPY_BYTES, Key, VALUE_BYTES_MAX};
pub(crate) use place::RowPlace;
pub(crate) use refs::{Corrupt, Wanted};
#[cfg(test)]
pub(crate) use refs::{NodeRef, TreeRoot};
pub(crate) use search::{Pages, RowAt, Step, find, find_in_leaf, find_many, row_at};
pub(crate) use seek::{Direction, LeafAt, seek_leaf, upcoming_leaves};
pub(crate) use walk::{Leaves, Walk, WalkStep};

/// How many children a checked node has; none if it is a leaf.
pub(crate) fn child_count(node: &[u8]) -> usize {
    if node[0] == node::KIND_INNER { Inner::new(node).len() } else { 0 }
}
