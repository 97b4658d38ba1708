//! Driving one merge: its nodes are fetched, its changes fed, and what it writes goes out within the bounds.

use std::sync::Arc;

use crate::checkpoint::reader::Reader;
use crate::checkpoint::writer::Writer;
use crate::commit::signal::yield_now;
use crate::engine::Engine;
use crate::error::Result;
use crate::format::node_ref::TreeRoot;
use crate::ids::FamilyId;
use crate::tree::{
    Changes, Filter, KeyHash, Merge, MergeStep, Moves, RangeDelete, Settings, Tombstones,
};

/// Nodes that a merge names ahead of need.
const READ_AHEAD_NODES: usize = 32;

/// Nodes and changes that a merge is given before others have a turn, as it may wait for none of them: nodes may all be in the
/// cache, and what is written little or nothing. Others are the threads of whoever commits as well: a driver that is woken on this
/// thread's processor runs when it gives way, whether the other processor sleeps or not, and all who wait for its group wait for that.
const ANSWERS_PER_TURN: u32 = 8;

/// Where the changes of a merge come from.
pub(super) trait Source {
    /// The next changes in key order, some hundred or a piece of an ingest; when there are none, no more follow.
    async fn more(&mut self, writer: &mut Writer<'_>) -> Result<Changes>;
}

/// No changes: a merge of range deletes alone.
pub(super) struct Nothing;

impl Source for Nothing {
    async fn more(&mut self, _: &mut Writer<'_>) -> Result<Changes> {
        Ok(Changes::default())
    }
}

/// One tree of one family, and what is to become of it.
pub(super) struct Task<'a> {
    pub(super) engine: &'a Arc<Engine>,
    pub(super) family: FamilyId,
    pub(super) base: Option<TreeRoot>,
    pub(super) ranges: Vec<RangeDelete>,
    pub(super) tombstones: Tombstones,
}

impl Task<'_> {
    /// Merges the changes, and has the filter know their keys. The new tree, if a row is left.
    pub(super) async fn run(
        self,
        source: &mut impl Source,
        filter: Option<&mut Filter>,
        writer: &mut Writer<'_>,
    ) -> Result<Option<TreeRoot>> {
        let (engine, family) = (self.engine, self.family);
        drive(&mut self.merge(), engine, family, source, filter, writer).await
    }

    /// Moves nodes to where the writer puts them. The new tree, and the key from which on nodes are left to be moved.
    pub(super) async fn move_nodes(
        self,
        moves: Moves,
        writer: &mut Writer<'_>,
    ) -> Result<(Option<TreeRoot>, Option<Vec<u8>>)> {
        let (engine, family) = (self.engine, self.family);
        let mut merge = self.merge().moving(moves);
        let root = drive(&mut merge, engine, family, &mut Nothing, None, writer).await?;
        Ok((root, merge.moved().and_then(Moves::into_rest)))
    }

    fn merge(self) -> Merge {
        let settings = Settings {
            family: self.family,
            file_id: self.engine.file_id,
            tombstones: self.tombstones,
        };
        Merge::new(self.base, self.ranges, settings)
    }
}

async fn drive(
    merge: &mut Merge,
    engine: &Arc<Engine>,
    family: FamilyId,
    source: &mut impl Source,
    mut filter: Option<&mut Filter>,
    writer: &mut Writer<'_>,
) -> Result<Option<TreeRoot>> {
    let mut reader = Reader::new(engine, family);
    writer.set_warm(false);
    let mut step = merge.step(writer, None);
    let mut answers = 0;
    loop {
        answers += 1;
        if answers == ANSWERS_PER_TURN {
            answers = 0;
            yield_now().await;
        }
        match step.map_err(|corrupt| reader.contradiction(&corrupt))? {
            MergeStep::Done(root) => {
                writer.flush().await?;
                return Ok(root);
            }
            MergeStep::Yield => {
                writer.flush().await?;
                yield_now().await;
                answers = 0;
                step = merge.step(writer, None);
            }
            MergeStep::Feed => {
                let changes = source.more(writer).await?;
                if let Some(filter) = &mut filter {
                    changes.keys().for_each(|key| filter.insert(KeyHash::of(key)));
                }
                match changes.is_empty() {
                    true => merge.end(),
                    false => merge.feed(changes),
                }
                step = merge.step(writer, None);
            }
            MergeStep::Need(wanted) => {
                reader.read_ahead(wanted, merge.upcoming(READ_AHEAD_NODES));
                let node = reader.fetch(wanted).await?;
                writer.set_warm(node.is_cached());
                step = reader.with_bytes(&node, |bytes| merge.step(writer, Some(bytes)));
                writer.flush().await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::blocking::block_on;
    use crate::db::Db;
    use crate::tree::RowValue;

    /// Deletes of keys that no row has, a few at a time.
    struct Misses(std::ops::Range<u32>);

    impl Source for Misses {
        async fn more(&mut self, _: &mut Writer<'_>) -> Result<Changes> {
            let mut changes = Changes::default();
            for number in self.0.by_ref().take(100) {
                changes.push(format!("{number:05}-").as_bytes(), RowValue::Tombstone);
            }
            Ok(changes)
        }
    }

    #[test]
    fn a_merge_that_waits_for_nothing_gives_others_their_turn() {
        let db = block_on(Db::in_memory()).expect("it opens");
        let rows = block_on(db.column_family("rows")).expect("a family is made");
        let mut batch = db.batch();
        for number in 0..10_000 {
            batch.put(&rows, format!("{number:05}"), [7; 500]);
        }
        block_on(batch.commit()).expect("rows are put");
        block_on(db.checkpoint()).expect("rows are flushed");
        let count = block_on(rows.len()).expect("all leaves are read");
        assert_eq!(count, 10_000);
        let (engine, family) = (db.engine(), rows.family().id);
        let base = engine.state().view(family).map(|view| view.trees[0].root);
        let reads = || engine.io.stats().reads;
        let before = reads();
        let mut writer = Writer::new(engine);
        let (ranges, mut misses, mut turns) = (Vec::new(), Misses(0..10_000), 0);
        let task = Task { engine, family, base, ranges, tombstones: Tombstones::Drop };
        let mut merging = Box::pin(task.run(&mut misses, None, &mut writer));
        while (&mut merging).now_or_never().is_none() {
            turns += 1;
        }
        // Some 700 leaves, and 100 times a hundred changes.
        assert!((80..160).contains(&turns), "{turns} turns");
        assert_eq!(reads(), before, "all leaves are in the cache");
    }
}
