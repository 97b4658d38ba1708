//! A commit that has the order to itself.
//!
//! What is ingested has no record in the log: a superblock makes it durable. Were others ordered behind it before that, their
//! records could survive a crash that it does not, and the order would have a hole. (I4) So from before it takes its seq until it
//! is published no other commit takes one; they wait for room, as ever, and nothing waits after it has a seq.
//!
//! ```text
//! everybody's ─▶ held: what was ordered becomes visible ─▶ ordered: the superblock is written ─▶ shown ─▶ everybody's
//! ```
//!
//! If it comes to nothing, its seq is that of an empty commit; if nobody knows what came of it, it is not shown.

use ringdb_uring::threads::atomic::Ordering;

use crate::commit::footprint::Footprint;
use crate::commit::{Pipeline, Shown};
use crate::error::Result;
use crate::ids::Seq;

/// Who may take a seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Everybodys,
    /// One commit alone, which has none yet.
    Held,
    /// It has this one, and is not visible yet.
    Ordered(Seq),
}

/// The right to be the next commit; given up when dropped.
pub(crate) struct Exclusive<'a> {
    pipeline: &'a Pipeline,
}

impl Pipeline {
    /// Lets nobody else take a seq. One caller at a time.
    pub(crate) fn exclude(&self) -> Exclusive<'_> {
        self.order().turn = Turn::Held;
        Exclusive { pipeline: self }
    }

    /// The state holds what the exclusive commit brought, if there is one: it is visible.
    pub(crate) fn show_exclusive(&self) {
        let mut order = self.order();
        let Turn::Ordered(seq) = order.turn else { return };
        order.turn = Turn::Held;
        drop(order);
        // Whatever came before is visible, and it has no record that would have to be durable.
        self.places.mark_applied(seq, Shown::WhenApplied);
    }
}

impl Exclusive<'_> {
    /// Takes the next seq, once all up to the last one are visible.
    pub(crate) fn take_seq(&self, footprint: &Footprint) -> Result<Seq> {
        let mut order = self.pipeline.enter()?;
        order.last = Seq(order.last.0 + 1);
        let seq = order.last;
        order.turn = Turn::Ordered(seq);
        order.window.push(seq, footprint);
        self.pipeline.commits.fetch_add(1, Ordering::Relaxed);
        Ok(seq)
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        // After a failure nobody knows whether it happened, before the file was opened again. (I8)
        if self.pipeline.failure().is_none() {
            self.pipeline.show_exclusive();
        }
        self.pipeline.order().turn = Turn::Everybodys;
        self.pipeline.wake_front();
    }
}
