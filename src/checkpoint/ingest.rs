//! Publishing what was ingested: one commit, one superblock.
//!
//! The rows lie in a tree already. What is in the memtables is older than they are and becomes trees below it, so a checkpoint
//! makes both durable and visible at once: a crash before its superblock leaves nothing of the ingest, and one after it has all.
//!
//! While that superblock is written no other commit takes a seq (see `commit::exclusive`). So most of the memtables' rows are
//! written before, by checkpoints of their own, and the few that come meanwhile become trees of their own, which reads nothing and
//! writes little more than them: that time is a few flushes of the device.

use std::iter;
use std::sync::Arc;

use crate::checkpoint::Checkpointer;
use crate::checkpoint::flush::Means;
use crate::checkpoint::policy::TREES_FILLED_MAX;
use crate::commit::footprint::Footprint;
use crate::commit::signal::yield_now;
use crate::engine::Loaded;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{FamilyId, Seq};
use crate::state::Family;

/// Bytes of memtables that are not worth a checkpoint of their own.
const FEW_BYTES: usize = 256 << 10;

/// Checkpoints before it, at most: beside writers that fill the memtables as fast as they are written, more would not help.
const CHECKPOINTS_MAX: usize = 4;

impl Checkpointer<'_> {
    /// Orders and publishes an ingest; its seq.
    pub(super) async fn ingest(&mut self, loaded: Loaded) -> Result<Seq> {
        let engine = self.engine;
        self.clear_the_way(loaded.family.id).await?;
        // A family that is full of trees takes its rows into the newest, as in every checkpoint.
        self.compactions.give_way(&engine.state(), TREES_FILLED_MAX);
        let exclusive = engine.pipeline.exclude();
        self.settle_order().await?;
        engine.exists(&loaded.family)?;
        let seq = exclusive.take_seq(&footprint(&loaded))?;
        let frozen = self.freeze();
        let attempt = self.attempt(&frozen, Some(&loaded), Means::Quick).await;
        drop(exclusive);
        let (family, published) = (loaded.family.id, attempt.is_ok());
        if published {
            loaded.pages.keep();
        }
        self.conclude(frozen, attempt).await?;
        self.compactions.flushed(iter::once(family));
        Ok(seq)
    }

    /// Leaves little to be done while nobody else is ordered.
    async fn clear_the_way(&mut self, family: FamilyId) -> Result<()> {
        let engine = self.engine;
        for _ in 0..CHECKPOINTS_MAX {
            self.check_trees(family).await?;
            if self.frozen.is_none() && self.has_few_rows() {
                return engine.settle_orphans().await;
            }
            self.checkpoint_all().await?;
        }
        self.check_trees(family).await
    }

    /// Whether what is in memory is written at once. Drops and deletes of ranges walk trees, however large those are.
    fn has_few_rows(&self) -> bool {
        let order = self.engine.pipeline.order();
        let has_walks =
            |family: &Arc<Family>| family.dropped().is_some() || family.next_range_deletes() > 0;
        order.memory.used() <= FEW_BYTES && !order.dirty.iter().any(has_walks)
    }

    /// The catalog has room for one more tree of the family, and one of its memtable.
    pub(super) async fn check_trees(&mut self, family: FamilyId) -> Result<()> {
        let engine = self.engine;
        let count = || engine.state().view(family).map_or(0, |view| view.trees.len());
        self.compactions.flushed(iter::once(family));
        // Nothing but merging: a checkpoint that failed here would leave something frozen.
        while count() + 2 > TREES_FILLED_MAX && self.merge_some().await {}
        if count() + 2 > TREES_FILLED_MAX {
            return Err(Error::new(ErrorKind::Busy, "the family's trees wait to be merged"));
        }
        Ok(())
    }

    /// Everything that was ordered is visible, and its places are free.
    async fn settle_order(&self) -> Result<()> {
        let pipeline = &self.engine.pipeline;
        let last = pipeline.order().last;
        pipeline.visible(last).await?;
        while !pipeline.places.has_room(last, 1) {
            yield_now().await;
        }
        Ok(())
    }
}

fn footprint(loaded: &Loaded) -> Footprint {
    let mut footprint = Footprint::default();
    footprint.delete_range(loaded.family.id, &loaded.low, &loaded.high);
    footprint
}
