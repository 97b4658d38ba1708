//! Merging sorted changes into a tree, copy on write.
//!
//! A merge walks the base from left to right and decides for each subtree, by its fences: nothing changes in it, then it is
//! *kept* by reference, unread; or something may, then it is opened. Rows of opened leaves, changed, flow into the
//! [`output`], which cuts them into full nodes; opened nodes are retired. Into no base at all, a merge is the bulk builder.
//!
//! Invariants:
//!
//! - M1 Nothing is retired before it is known to change. An opened node is *clean* until a change in a leaf below proves to
//!   have an effect; then all clean nodes on the path turn *rewritten* at once, outermost first: each is retired and its
//!   children so far are kept. A node that stays clean is kept whole. So deletes that miss cost reads, never writes.
//! - M2 Rows and children are pushed in key order on every level. To keep a subtree of level n closes what is pending on the
//!   levels up to n.
//! - M3 Where that would leave less than a quarter of a node, the subtree is opened and its first leaf, or its first children,
//!   join what is pending. It is asked on the way into a subtree; inside a clean one nothing becomes pending, so it need not
//!   be asked again. Only at the right edge of the tree, where no neighbour follows, a small node may remain, one a level.
//! - M4 The changes below a leaf's upper fence are applied before the next leaf is looked at. Range deletes are older than all
//!   changes. A leaf that they cover is dropped unread unless extents are in it; changes in its range go on as if into an
//!   empty leaf.
//!
//! A merge may also be told to move nodes ([`moves`]): a leaf in the wrong place is written again as if a row in it had changed, and
//! inner nodes are opened to find such leaves.
//!
//! Changes are fed by the caller, some hundred at a time: where they come from may have to be waited for, and a merge never
//! waits. It asks for more while it still has enough to see which leaves will be wanted.
//!
//! Memory is the opened nodes of one path, two nodes a level of output, and the changes that were fed. A node that
//! contradicts its parent ends the merge with [`Corrupt`]: what was written by then is to be freed by the caller.
//!
//! Rejected: to share a small node with the neighbour on its left as well. That one was kept, or written, long ago; one small
//! node at the right edge costs nothing and the next merge there takes it in.

mod changes;
mod moves;
mod output;
mod path;
mod ranges;
mod rewrite;

pub(crate) use changes::Changes;
pub(crate) use moves::Moves;
pub(crate) use ranges::RangeDelete;

use self::changes::Queue;
use self::output::Output;
use self::path::{Frame, OpenLeaf, Purpose, State, Target};
use self::ranges::Ranges;
use super::refs::{Corrupt, NodeRef, TreeRoot, Wanted};
use crate::format::value::ExtentValue;
use crate::ids::{FamilyId, PageId};

/// Nodes that are written at most before a step yields, give or take what one change completes: some 40 µs of work. A step that ends
/// because it wants changes goes on counting: a bulk build, which wants nothing else, would never yield.
const NODES_PER_YIELD: usize = 4;
/// Changes that are looked at in one round of a step, at most.
const CHANGES_PER_ROUND: usize = 64;
/// Rounds of a step at most: a round looks at one child, or at a few dozen changes.
const ROUNDS_PER_STEP: usize = 1024;

/// What becomes of deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tombstones {
    /// Older trees are below this one: a delete leaves a row that hides theirs.
    Keep,
    /// This is the oldest tree: a delete leaves nothing.
    Drop,
}

/// What a merge is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub family: FamilyId,
    pub file_id: [u8; 16],
    pub tombstones: Tombstones,
}

/// Where a merge puts what it makes and leaves what it replaces. All are called in key order of the nodes.
pub(crate) trait Sink {
    /// Allocates a run of pages for the next node.
    fn place(&mut self, pages: u16) -> PageId;
    /// Takes a node's bytes, to be written where it was placed.
    fn write(&mut self, node: NodeRef, bytes: &[u8]);
    /// A node of the base is not part of the new tree.
    fn retire(&mut self, node: NodeRef);
    /// A value of the base is not part of the new tree.
    fn retire_extent(&mut self, value: ExtentValue);
}

/// What a merge asks for, or came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MergeStep {
    /// Fetch this node, check it, and give it to the next step.
    Need(Wanted),
    /// Feed it more changes, or say that none follow, and go on.
    Feed,
    /// A bounded piece of work is done; go on when it suits.
    Yield,
    /// The new tree; `None` if no row is left.
    Done(Option<TreeRoot>),
}

/// A merge under way.
pub(crate) struct Merge {
    base: Option<TreeRoot>,
    settings: Settings,
    changes: Queue,
    ranges: Ranges,
    moves: Option<Moves>,
    output: Output,
    path: Vec<Frame>,
    state: State,
    /// Nodes written by then are enough for once.
    enough: usize,
    /// Whether anything changed: else the base stays.
    changed: bool,
}

impl Merge {
    /// Prepares to apply the changes that will be fed, and older than them `range_deletes`, in any order.
    ///
    /// With [`Tombstones::Keep`] the range deletes take rows of this tree only; what they mean for older trees is the
    /// caller's to remember.
    pub(crate) fn new(
        base: Option<TreeRoot>,
        range_deletes: Vec<RangeDelete>,
        settings: Settings,
    ) -> Merge {
        Merge {
            base,
            settings,
            changes: Queue::default(),
            ranges: Ranges::new(range_deletes),
            moves: None,
            output: Output::new(settings, base.as_ref()),
            path: Vec::new(),
            state: State::Start,
            enough: NODES_PER_YIELD,
            changed: false,
        }
    }

    /// Has it move nodes as well.
    pub(crate) fn moving(self, moves: Moves) -> Merge {
        Merge { moves: Some(moves), ..self }
    }

    /// What is left to be moved, once all is done.
    pub(crate) fn moved(self) -> Option<Moves> {
        self.moves
    }

    /// Appends changes, which follow those before in key order, each key once.
    pub(crate) fn feed(&mut self, changes: Changes) {
        self.changes.feed(changes);
    }

    /// No more changes follow.
    pub(crate) fn end(&mut self) {
        self.changes.end();
    }

    /// Goes on until a node or changes are needed, enough is done for once, or all is. `node` is the one that was needed, checked.
    pub(crate) fn step<S: Sink>(
        &mut self,
        sink: &mut S,
        node: Option<&[u8]>,
    ) -> Result<MergeStep, Corrupt> {
        if let Some(bytes) = node {
            self.enough = self.output.written + NODES_PER_YIELD;
            self.accept(sink, bytes)?;
        }
        for _ in 0..ROUNDS_PER_STEP {
            if self.changes.is_low(CHANGES_PER_ROUND) {
                return Ok(MergeStep::Feed);
            }
            match std::mem::replace(&mut self.state, State::Between) {
                State::Start => self.start(),
                State::Between => self.choose(sink)?,
                State::Wanting(target) => {
                    let wanted = target.wanted;
                    self.state = State::Wanting(target);
                    return Ok(MergeStep::Need(wanted));
                }
                State::Probing(leaf) => self.probe(sink, leaf),
                State::Merging(leaf) => self.merge_some(sink, leaf, self.enough),
                State::Done(tree) => {
                    self.state = State::Done(tree);
                    return Ok(MergeStep::Done(tree));
                }
            }
            if self.output.written >= self.enough {
                break;
            }
        }
        self.enough = self.output.written + NODES_PER_YIELD;
        Ok(MergeStep::Yield)
    }

    /// Nodes that will be needed soon, most urgent first, as far as the changes are known: for reading ahead.
    pub(crate) fn upcoming(&self, max: usize) -> Vec<Wanted> {
        let mut upcoming = Vec::new();
        for frame in self.path.iter().rev() {
            if upcoming.len() >= max {
                break;
            }
            frame.upcoming(self.changes.keys_ahead(), max, &mut upcoming);
            if let Some(moves) = &self.moves {
                frame.upcoming_moves(moves, max, &mut upcoming);
            }
        }
        upcoming
    }

    fn start(&mut self) {
        let Some(base) = self.base else {
            self.changed = true;
            self.state = State::Merging(OpenLeaf::empty(Vec::new(), None));
            return;
        };
        let idle = self.changes.peek_below(None).is_none() && !self.ranges.touch_below(None);
        let moves = self.moves.as_mut();
        let moves = moves.is_some_and(|moves| moves.open(base.root, base.height, &[], None));
        self.state = if idle && !moves {
            State::Done(self.base)
        } else {
            let (wanted, low, high) = (base.wanted(), Vec::new(), None);
            let purpose = if moves { Purpose::Move } else { Purpose::Change };
            State::Wanting(Target { wanted, low, high, purpose })
        };
    }
}
