//! When nobody commits for a while, all trees of a family become one: reads look in one place, and what was replaced gives its
//! pages back, to the file system as well.
//!
//! One alarm is set while there is something to be merged or cut off, and none else. At the alarm, commits that came meanwhile set another;
//! if none came, merging begins, and it ends with the first commit that does. What was merged by then stays merged.
//!
//! A simulated disk has no idle time: what is written to it must not depend on how fast a test runs.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use ringdb_uring::BackendKind;

use crate::blocking::alarm;
use crate::checkpoint::compactions::Compactions;
use crate::checkpoint::shrink::Shrinking;
use crate::engine::Engine;
use crate::ids::Seq;

/// A database without commits for this long is idle.
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// Whether anybody commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    /// Nothing is known yet, or there is nothing to be merged.
    Unknown,
    /// There were commits up to this one, and are to be none until then.
    Watched { last: Seq, until: Instant },
    /// None came for so long; the merging goes on until one comes.
    Merging { last: Seq },
}

impl Idle {
    /// Waits until the checkpointer has something to do.
    pub(super) async fn wait(
        &mut self,
        engine: &Engine,
        compactions: &mut Compactions,
        shrinking: &Shrinking,
    ) {
        self.watch(engine, compactions, shrinking);
        let raised = pin!(engine.pipeline.checkpointer.raised());
        let Idle::Watched { last, until } = *self else { return raised.await };
        if let Either::Right(_) = select(raised, pin!(alarm(until))).await {
            *self = match engine.pipeline.order().last == last {
                true => Idle::Merging { last },
                false => Idle::Unknown,
            };
            if let Idle::Merging { last } = *self {
                engine.pipeline.order().idle_since = Some(last);
                compactions.merge_all(engine);
            }
            engine.pipeline.checkpointer.raise();
        }
    }

    fn watch(&mut self, engine: &Engine, compactions: &Compactions, shrinking: &Shrinking) {
        let has_failed = engine.pipeline.failure().is_some();
        let has_work = || compactions.could_merge(engine) || shrinking.is_wanted(engine);
        if has_failed || is_simulated(engine) || !has_work() {
            self.end(engine);
        } else if *self == Idle::Unknown {
            let last = engine.pipeline.order().last;
            *self = Idle::Watched { last, until: Instant::now() + IDLE_AFTER };
        }
    }

    /// Whether trees are merged because nobody commits.
    pub(super) fn is_merging(self) -> bool {
        matches!(self, Idle::Merging { .. })
    }

    /// Ends the merging if there are commits again.
    pub(super) fn look(
        &mut self,
        engine: &Engine,
        compactions: &mut Compactions,
        shrinking: &mut Shrinking,
    ) {
        if engine.pipeline.order().is_idle_no_more() {
            compactions.stop_merging_all();
            shrinking.stop(engine);
            self.end(engine);
        }
    }

    /// There are commits again, or somebody wants the trees merged whoever commits.
    pub(super) fn end(&mut self, engine: &Engine) {
        engine.pipeline.order().idle_since = None;
        *self = Idle::Unknown;
    }
}

fn is_simulated(engine: &Engine) -> bool {
    engine.io.report().backend == BackendKind::Sim
}
