//! The rows of several trees as the changes of a merge: in key order, of each key the newest.
//!
//! Leaves are read ahead of need, some of each tree. Where the bound of a slice is reached, the rows end, and [`Sources::cut`]
//! is the first key that is left.

use std::sync::Arc;

use bytes::Bytes;

use crate::checkpoint::merge::Source;
use crate::checkpoint::reader::Reader;
use crate::checkpoint::writer::Writer;
use crate::commit::signal::yield_now;
use crate::engine::Engine;
use crate::error::Result;
use crate::ids::{Extent, FamilyId};
use crate::read::lookup::decoded;
use crate::state::Tree;
use crate::tree::{Changes, Leaf, Leaves, RowValue, Walk, WalkStep};

/// Nodes of each tree that are read ahead, and of all of them together, but for one each.
const READ_AHEAD_NODES: usize = 16;
const READ_AHEAD_ALL: usize = 128;
/// Rows handed out at a time, and bytes of keys and values after which there are no more of them.
const ROWS: usize = 256;
const ROWS_BYTES: usize = 1 << 20;
/// For each byte that a slice may write it reads so many at most: deletes write little.
const READ_SHARE: u64 = 2;
/// A slice that a flush waits for ends once it has written this part of its bound.
const HURRIED_SHARE: u64 = 8;
/// And one of an idle database that is idle no more: this part.
const IDLE_NO_MORE_SHARE: u64 = 64;

/// The rows of several trees.
pub(super) struct Sources<'a> {
    engine: &'a Engine,
    /// Newest first.
    trees: Vec<TreeRows<'a>>,
    /// Bytes that the slice may write, more or less.
    bound_bytes: u64,
    written_before: u64,
    begun: bool,
    superseded: Vec<Extent>,
    cut: Option<Bytes>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(
        engine: &'a Arc<Engine>,
        family: FamilyId,
        trees: &[Tree],
        bound_bytes: u64,
        writer: &Writer<'_>,
    ) -> Sources<'a> {
        let ahead = (READ_AHEAD_ALL / trees.len().max(1)).clamp(1, READ_AHEAD_NODES);
        Sources {
            engine,
            trees: trees.iter().map(|tree| TreeRows::new(engine, family, tree, ahead)).collect(),
            bound_bytes,
            written_before: writer.written_bytes(),
            begun: false,
            superseded: Vec::new(),
            cut: None,
        }
    }

    /// The first key that was not handed out, none if all were; and extents of rows that newer ones replaced.
    pub(super) fn finish(self) -> (Option<Bytes>, Vec<Extent>) {
        (self.cut, self.superseded)
    }

    fn is_over(&self, writer: &Writer<'_>) -> bool {
        let written = writer.written_bytes() - self.written_before;
        let read = self.trees.iter().map(|tree| tree.read_bytes).sum::<u64>();
        let done = written.max(read / READ_SHARE);
        self.begun && (done >= self.bound_bytes || self.is_hurried(done))
    }

    /// Whether others wait for the slice to end.
    fn is_hurried(&self, done: u64) -> bool {
        let order = self.engine.pipeline.order();
        let has_done = |share| done >= self.bound_bytes / share;
        has_done(HURRIED_SHARE) && order.memory.is_half_active()
            || has_done(IDLE_NO_MORE_SHARE) && order.is_idle_no_more()
    }

    /// The tree whose first row is next, once each tree has its first row.
    async fn first(&mut self) -> Result<Option<usize>> {
        let mut first: Option<usize> = None;
        for index in 0..self.trees.len() {
            if self.trees[index].head().is_none() {
                self.trees[index].fill().await?;
            }
            let Some(key) = self.trees[index].head() else { continue };
            let least = first.and_then(|first| self.trees[first].head());
            if least.is_none_or(|least| key < least) {
                first = Some(index);
            }
        }
        Ok(first)
    }

    /// Takes the first row and drops what older trees say of its key.
    fn take(&mut self, first: usize, out: &mut Changes) {
        let (newer, older) = self.trees.split_at_mut(first + 1);
        let tree = &mut newer[first];
        let (key, value) = tree.rows.row(tree.taken);
        for older in older {
            if older.head() != Some(key) {
                continue;
            }
            if let (_, RowValue::Extent(reference)) = older.rows.row(older.taken) {
                self.superseded.push(decoded(reference).extent);
            }
            older.taken += 1;
        }
        out.push(key, value);
        tree.taken += 1;
    }
}

impl Source for Sources<'_> {
    async fn more(&mut self, writer: &mut Writer<'_>) -> Result<Changes> {
        let mut changes = Changes::default();
        if self.is_over(writer) {
            let first = self.first().await?.and_then(|first| self.trees[first].head());
            self.cut = first.map(Bytes::copy_from_slice);
            return Ok(changes);
        }
        while changes.len() < ROWS && changes.row_bytes() < ROWS_BYTES {
            let Some(first) = self.first().await? else { break };
            self.take(first, &mut changes);
        }
        self.begun |= !changes.is_empty();
        writer.set_warm(self.trees.iter().any(|tree| tree.is_warm));
        Ok(changes)
    }
}

/// The keys of one tree, in order.
pub(super) struct Keys<'a>(TreeRows<'a>);

impl<'a> Keys<'a> {
    pub(super) fn new(engine: &'a Arc<Engine>, family: FamilyId, tree: &Tree) -> Keys<'a> {
        Keys(TreeRows::new(engine, family, tree, READ_AHEAD_NODES))
    }

    /// The rows of the next leaf, none at the end. Others have their turn in between.
    pub(super) async fn more(&mut self) -> Result<Option<Changes>> {
        self.0.fill().await?;
        yield_now().await;
        let rows = std::mem::take(&mut self.0.rows);
        Ok((!rows.is_empty()).then_some(rows))
    }
}

/// The rows of one tree.
struct TreeRows<'a> {
    reader: Reader<'a>,
    walk: Walk,
    ahead: usize,
    /// Of the present leaf; the first so many are gone.
    rows: Changes,
    taken: usize,
    read_bytes: u64,
    /// Whether the present leaf was in the cache.
    is_warm: bool,
}

impl<'a> TreeRows<'a> {
    fn new(engine: &'a Arc<Engine>, family: FamilyId, tree: &Tree, ahead: usize) -> TreeRows<'a> {
        TreeRows {
            reader: Reader::new(engine, family),
            walk: Walk::new(&tree.root, Leaves::All),
            ahead,
            rows: Changes::default(),
            taken: 0,
            read_bytes: 0,
            is_warm: false,
        }
    }

    fn head(&self) -> Option<&[u8]> {
        (self.taken < self.rows.len()).then(|| self.rows.key(self.taken))
    }

    /// Reads the next leaf, if there is one.
    async fn fill(&mut self) -> Result<()> {
        (self.rows, self.taken) = (Changes::default(), 0);
        let mut step = self.walk.step(None);
        while self.rows.is_empty() {
            step = match step.map_err(|corrupt| self.reader.contradiction(&corrupt))? {
                WalkStep::Done => return Ok(()),
                WalkStep::Extent(_) | WalkStep::Unread(_) => self.walk.step(None),
                WalkStep::Need(wanted) => {
                    self.reader.read_ahead(wanted, self.walk.upcoming(self.ahead));
                    let node = self.reader.fetch(wanted).await?;
                    self.read_bytes += wanted.node.len_bytes() as u64;
                    self.is_warm = node.is_cached();
                    let (rows, walk) = (&mut self.rows, &mut self.walk);
                    self.reader.with_bytes(&node, |bytes| {
                        if wanted.level == 0 {
                            *rows = rows_of(&Leaf::new(bytes));
                        }
                        walk.step(Some(bytes))
                    })
                }
            };
        }
        // A row outside of its parent's borders would come out of order.
        step.map(drop).map_err(|corrupt| self.reader.contradiction(&corrupt))
    }
}

fn rows_of(leaf: &Leaf<'_>) -> Changes {
    let mut rows = Changes::default();
    for index in 0..leaf.len() {
        let (key, value) = leaf.row(index);
        rows.push_with(|out| key.write_to(out), value);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocking::block_on;
    use crate::db::{ColumnFamily, Db};

    const VALUE_BYTES: usize = 1000;
    const NUMBERS: usize = 3000;

    /// Puts every `step`th row and deletes those that are divisible by 7, in a tree of its own.
    async fn flush(db: &Db, rows: &ColumnFamily, step: usize, round: u8) {
        let mut batch = db.batch();
        for number in (0..NUMBERS).step_by(step) {
            let key = format!("{number:04}");
            if number % 7 == 0 && round > 0 {
                batch.delete(rows, key);
            } else {
                batch.put(rows, key, [round; VALUE_BYTES]);
            }
        }
        batch.commit().await.expect("rows are put");
        db.checkpoint().await.expect("rows are flushed");
    }

    async fn three_trees() -> (Db, FamilyId, Vec<Tree>) {
        let db = Db::in_memory().await.expect("it opens");
        let rows = db.column_family("rows").await.expect("a family is made");
        flush(&db, &rows, 1, 0).await;
        flush(&db, &rows, 30, 1).await;
        flush(&db, &rows, 44, 2).await;
        let state = db.engine().state().clone();
        let view = state.families.iter().find(|view| view.trees.len() == 3).expect("three trees");
        (db.clone(), view.family.id, view.trees.clone())
    }

    /// Keys and values of all rows; `None` is a tombstone.
    async fn all(
        source: &mut Sources<'_>,
        writer: &mut Writer<'_>,
    ) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut rows = Vec::new();
        loop {
            let some = source.more(writer).await.expect("the rows are read");
            if some.is_empty() {
                return rows;
            }
            rows.extend((0..some.len()).map(|index| {
                let (key, value) = some.row(index);
                let is_put = value != RowValue::Tombstone;
                (key.to_vec(), is_put.then(|| value.bytes().to_vec()))
            }));
        }
    }

    #[test]
    fn of_each_key_the_newest_comes_in_order() {
        block_on(async {
            let (db, family, trees) = three_trees().await;
            let mut writer = Writer::new(db.engine());
            let mut source = Sources::new(db.engine(), family, &trees, 64 << 20, &writer);
            let rows = all(&mut source, &mut writer).await;
            assert_eq!(source.finish(), (None, Vec::new()));
            assert_eq!(rows.len(), NUMBERS);
            for (number, (key, value)) in rows.iter().enumerate() {
                assert_eq!(key, format!("{number:04}").as_bytes());
                let round = match number {
                    _ if number % 44 == 0 => 2,
                    _ if number % 30 == 0 => 1,
                    _ => 0,
                };
                let expected = match number % 7 {
                    0 if round > 0 => None,
                    _ => Some(vec![round; VALUE_BYTES]),
                };
                assert_eq!(*value, expected, "{number}");
            }
        });
    }

    #[test]
    fn the_first_key_that_is_left_is_where_a_slice_is_cut() {
        block_on(async {
            let (db, family, trees) = three_trees().await;
            let mut writer = Writer::new(db.engine());
            let mut source = Sources::new(db.engine(), family, &trees, 1, &writer);
            let rows = all(&mut source, &mut writer).await;
            assert!(!rows.is_empty() && rows.len() < NUMBERS, "{} rows", rows.len());
            let (cut, _) = source.finish();
            assert_eq!(cut, Some(Bytes::from(format!("{:04}", rows.len()))));
        });
    }
}
