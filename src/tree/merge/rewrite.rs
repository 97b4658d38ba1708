//! The steps of a merge inside one node: what changes in it, and what goes into the output.

use super::super::inner::Holds;
use super::super::leaf::{Leaf, RowValue};
use super::super::refs::Corrupt;
use super::output::Output;
use super::path::{Fate, Frame, OpenLeaf, Purpose, State, Target};
use super::{CHANGES_PER_ROUND, Merge, Sink, Tombstones};
use crate::tree::refs::Wanted;

impl Merge {
    /// Decides what becomes of the next child, or leaves the node that has no more.
    pub(super) fn choose<S: Sink>(&mut self, sink: &mut S) -> Result<(), Corrupt> {
        let Some(frame) = self.path.last() else { return self.finish(sink) };
        if frame.is_over() {
            self.leave(sink);
            return Ok(());
        }
        let (child, low) = frame.child(frame.index);
        let high = frame.child_high(frame.index);
        let (level, fate) = (frame.child_level(), frame.fate);
        self.ranges.advance(&low);
        let ranged = self.ranges.touch_below(high.as_deref());
        let touched = ranged || self.changes.peek_below(high.as_deref()).is_some();
        let moves = self.moves.as_mut();
        let moves = moves.is_some_and(|m| m.open(child.node, level, &low, high.as_deref()));
        let joins = fate == Fate::Rewritten && self.output.is_small(level);
        if !touched && !joins && !moves {
            if fate == Fate::Rewritten {
                self.output.keep(sink, child, level, &low);
            }
            self.pass_child();
            return Ok(());
        }
        let covered = ranged && self.ranges.cover(&low, high.as_deref());
        if level == 0 && covered && child.holds == Holds::Rows {
            self.rewrite_path(sink);
            self.output.count_dropped(u64::from(child.rows), u64::from(child.bytes));
            self.output.retire(sink, child.node);
            self.output.begin_rows(&low);
            self.state = State::Merging(OpenLeaf::empty(low, high)); // (M4)
            return Ok(());
        }
        let wanted = Wanted { node: child.node, level };
        let purpose = match (joins, moves) {
            (true, _) => Purpose::Join,
            (false, true) => Purpose::Move,
            (false, false) => Purpose::Change,
        };
        self.state = State::Wanting(Target { wanted, low, high, purpose });
        Ok(())
    }

    /// Takes the node that was asked for.
    pub(super) fn accept<S: Sink>(&mut self, sink: &mut S, bytes: &[u8]) -> Result<(), Corrupt> {
        let State::Wanting(target) = std::mem::replace(&mut self.state, State::Between) else {
            panic!("a merge is given only nodes that it asks for");
        };
        let (wanted, purpose) = (target.wanted, target.purpose);
        if wanted.level == 0 {
            let leaf = OpenLeaf::open(target, bytes)?;
            match purpose {
                Purpose::Change => self.state = State::Probing(leaf),
                Purpose::Move | Purpose::Join => self.rewrite_leaf(sink, leaf),
            }
            return Ok(());
        }
        let mut frame = Frame::open(target, bytes)?;
        if purpose == Purpose::Join {
            frame.fate = Fate::Rewritten;
            self.output.retire(sink, wanted.node);
        }
        self.path.push(frame);
        if purpose == Purpose::Move && self.moves.as_ref().is_some_and(|m| m.concern(wanted.node)) {
            self.rewrite_path(sink);
        }
        Ok(())
    }

    /// Passes over changes without effect until one has some, or the leaf is over and stays.
    pub(super) fn probe<S: Sink>(&mut self, sink: &mut S, leaf: OpenLeaf) {
        let view = Leaf::new(&leaf.bytes);
        if self.ranges.rows(&view, 0).is_some() {
            return self.rewrite_leaf(sink, leaf);
        }
        for _ in 0..CHANGES_PER_ROUND {
            let Some((key, value)) = self.changes.peek_below(leaf.high.as_deref()) else {
                return self.keep_leaf(sink);
            };
            let deletes = value == RowValue::Tombstone;
            let effect = match (view.find(key), self.settings.tombstones) {
                (None, Tombstones::Drop) | (Some(RowValue::Tombstone), Tombstones::Keep) => {
                    !deletes
                }
                (None, Tombstones::Keep) | (Some(_), _) => true,
            };
            if effect {
                return self.rewrite_leaf(sink, leaf);
            }
            self.changes.pass();
        }
        self.state = State::Probing(leaf);
    }

    /// Moves rows and changes of a leaf into the output until the leaf is over or enough was written.
    pub(super) fn merge_some<S: Sink>(&mut self, sink: &mut S, mut leaf: OpenLeaf, enough: usize) {
        for _ in 0..CHANGES_PER_ROUND {
            if self.output.written >= enough {
                break;
            }
            let view = Leaf::new(&leaf.bytes);
            let next = self.changes.peek_below(leaf.high.as_deref());
            let place = next.map(|(key, _)| match leaf.row == view.len() {
                true => Err(leaf.row), // behind all rows, as those before
                false => view.search(key),
            });
            let end = place.map_or(view.len(), |place| place.unwrap_or_else(|place| place));
            self.copy_rows(sink, &mut leaf, end);
            let Some(place) = place else {
                self.pass_child();
                return;
            };
            if place.is_ok() {
                let (key, value) = Leaf::new(&leaf.bytes).row(end);
                self.output.count_removed(sink, key.len(), value);
                leaf.row = end + 1;
            }
            let (key, value) = self.changes.peek().expect("it was looked at");
            apply(&mut self.output, sink, self.settings.tombstones, key, value);
            self.changes.pass();
        }
        self.state = State::Merging(leaf);
    }

    /// Copies rows up to `end` but those that a range deletes.
    fn copy_rows<S: Sink>(&mut self, sink: &mut S, leaf: &mut OpenLeaf, end: usize) {
        let view = Leaf::new(&leaf.bytes);
        while leaf.row < end {
            if leaf.deleted.as_ref().is_some_and(|deleted| deleted.end <= leaf.row) {
                leaf.deleted = self.ranges.rows(&view, leaf.row);
            }
            let deleted = leaf.deleted.clone().unwrap_or(end..end);
            for row in leaf.row..deleted.start.min(end) {
                self.copy_row(sink, &view, row);
            }
            for row in deleted.start.max(leaf.row)..deleted.end.min(end) {
                let (key, value) = view.row(row);
                self.output.count_removed(sink, key.len(), value);
            }
            leaf.row = deleted.end.min(end);
        }
    }

    fn copy_row<S: Sink>(&mut self, sink: &mut S, leaf: &Leaf<'_>, row: usize) {
        let (key, value) = leaf.row(row);
        match (value, self.settings.tombstones) {
            // The tree has become the oldest one.
            (RowValue::Tombstone, Tombstones::Drop) => {
                self.output.count_removed(sink, key.len(), value);
            }
            (RowValue::Tombstone, Tombstones::Keep)
            | (RowValue::Inline(_) | RowValue::Extent(_), _) => {
                self.output.push(sink, |out| key.write_to(out), value);
            }
        }
    }

    /// The leaf's rows go into the output, changed.
    fn rewrite_leaf<S: Sink>(&mut self, sink: &mut S, mut leaf: OpenLeaf) {
        self.rewrite_path(sink);
        if let Some(wanted) = leaf.wanted {
            self.output.retire(sink, wanted.node);
        }
        self.output.begin_rows(&leaf.low);
        leaf.deleted = self.ranges.rows(&Leaf::new(&leaf.bytes), 0);
        self.state = State::Merging(leaf);
    }

    /// Turns all clean nodes of the path into rewritten ones, outermost first (M1).
    fn rewrite_path<S: Sink>(&mut self, sink: &mut S) {
        self.changed = true;
        for frame in self.path.iter_mut().filter(|frame| frame.fate == Fate::Clean) {
            frame.fate = Fate::Rewritten;
            self.output.retire(sink, frame.wanted.node);
            for index in 0..frame.index {
                let (child, low) = frame.child(index);
                self.output.keep(sink, child, frame.child_level(), &low);
            }
        }
    }

    /// Nothing in the leaf changed.
    fn keep_leaf<S: Sink>(&mut self, sink: &mut S) {
        self.keep_child(sink);
        self.pass_child();
    }

    /// All children of the innermost node were looked at.
    fn leave<S: Sink>(&mut self, sink: &mut S) {
        let frame = self.path.pop().expect("a node is left that was entered");
        if frame.fate == Fate::Clean {
            self.keep_child(sink);
        }
        self.pass_child();
    }

    /// Keeps the present child, unless its parent is clean and thereby keeps it with all others.
    fn keep_child<S: Sink>(&mut self, sink: &mut S) {
        let Some(frame) = self.path.last() else { return };
        if frame.fate == Fate::Rewritten {
            let (child, low) = frame.child(frame.index);
            self.output.keep(sink, child, frame.child_level(), &low);
        }
    }

    fn pass_child(&mut self) {
        if let Some(frame) = self.path.last_mut() {
            frame.index += 1;
        }
    }

    fn finish<S: Sink>(&mut self, sink: &mut S) -> Result<(), Corrupt> {
        if !self.changed {
            self.state = State::Done(self.base);
            return Ok(());
        }
        let tree = self.output.finish(sink).map_err(|what| {
            let base = self.base.expect("a tree that was built from nothing is low");
            Corrupt { node: base.root, what }
        })?;
        self.state = State::Done(tree);
        Ok(())
    }
}

/// Puts what becomes of a key into the output.
fn apply<S: Sink>(
    output: &mut Output,
    sink: &mut S,
    tombstones: Tombstones,
    key: &[u8],
    value: RowValue<'_>,
) {
    if (value, tombstones) == (RowValue::Tombstone, Tombstones::Drop) {
        return;
    }
    output.count_added(key.len(), value);
    output.push(sink, |out| out.extend_from_slice(key), value);
}
