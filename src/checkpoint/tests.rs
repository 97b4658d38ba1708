//! A checkpointer in the test's own hands: what it does in the few moments that no call from outside can choose.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::channel::oneshot;
use ringdb_uring::sim::Disk;

use super::flush::Means;
use super::policy::TREES_FILLED_MAX;
use super::shrink::Shrinking;
use super::writer::Writer;
use super::{Checkpointer, filters};
use crate::alloc::reserve::Need;
use crate::blocking::block_on;
use crate::engine::{Command, Loaded};
use crate::error::ErrorKind;
use crate::format::node_ref::{NodeRef, TreeRoot};
use crate::ids::Extent;
use crate::options::Options;
use crate::{ColumnFamily, ColumnFamilyOptions, Db};

/// Families whose catalog is longer than any run that is promised.
const FAMILIES: usize = 400;

/// Keeps the checkpointer of a database waiting for as long as it is there.
struct Held(#[expect(dead_code, reason = "dropped, it lets go")] oneshot::Sender<()>);

async fn hold(db: &Db) -> Held {
    let (begin, begun) = oneshot::channel();
    let (end, ended) = oneshot::channel::<()>();
    let wait = async move {
        let _ = begin.send(());
        let _ = ended.await;
    };
    db.engine().command(Command::Between(Box::pin(wait)));
    begun.await.expect("the checkpointer takes commands");
    Held(end)
}

async fn database(disk: &Disk) -> (Db, Held) {
    database_with(disk, 4 << 20).await
}

async fn database_with(disk: &Disk, memory_bytes: usize) -> (Db, Held) {
    let db = Options::new().memory_bytes(memory_bytes).open_sim(disk).await.unwrap();
    let held = hold(&db).await;
    (db, held)
}

/// Brings a row into a tree of its own.
async fn add_tree(checkpointer: &mut Checkpointer<'_>, family: &ColumnFamily, n: usize) {
    family.put(format!("{n:04}"), "row").await.unwrap();
    flush_with(checkpointer, Means::Scarce).await;
}

async fn flush_with(checkpointer: &mut Checkpointer<'_>, means: Means) {
    let frozen = checkpointer.freeze();
    let attempt = checkpointer.attempt(&frozen, None, means).await;
    checkpointer.conclude(frozen, attempt).await.unwrap();
}

fn trees(family: &ColumnFamily, db: &Db) -> usize {
    db.engine().state().view(family.family().id).map_or(0, |view| view.trees.len())
}

/// Rows that lie in a tree and are to be published.
async fn load(family: &ColumnFamily, db: &Db, key: &str) -> Loaded {
    let mut ingest = family.ingest();
    ingest.put(key, "loaded").await.unwrap();
    let mut commit = ingest.commit();
    loop {
        assert!((&mut commit).now_or_never().is_none(), "the checkpointer is held");
        if let Some(Command::Ingest(loaded, _)) = db.engine().take_commands().pop() {
            return *loaded;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_load_makes_room_for_its_tree_by_merging_and_freezes_nothing_meanwhile() {
    block_on(async {
        let (db, _held) = database(&Disk::new()).await;
        let family = db.column_family("a").await.unwrap();
        let mut checkpointer = Checkpointer::new(db.engine());
        for n in 0..TREES_FILLED_MAX - 1 {
            add_tree(&mut checkpointer, &family, n).await;
        }
        // Somebody waits for all trees to be merged, and for the file to be cut off then.
        let (reply, _answer) = oneshot::channel();
        checkpointer.compacting.push(reply);
        checkpointer.shrinking = Shrinking::behind_the_log();
        family.put("more", "row").await.unwrap();
        let checkpoints = db.metrics().checkpoints;
        checkpointer.check_trees(family.family().id).await.unwrap();
        assert!(trees(&family, &db) + 2 <= TREES_FILLED_MAX);
        // What a checkpoint froze and could not write would be passed over by the load's superblock.
        assert_eq!(db.metrics().checkpoints, checkpoints);
    });
}

/// Rows of a family with several leaves.
const ROWS: u32 = 600;

/// Keys of neighbouring numbers lie far apart.
fn key(number: u32) -> [u8; 4] {
    number.wrapping_mul(0x9E37_79B1).to_be_bytes()
}

/// Puts rows in one batch, and has them flushed.
async fn flush(db: &Db, family: &ColumnFamily, numbers: impl Iterator<Item = u32>) {
    let mut batch = db.batch();
    for number in numbers {
        batch.put(family, key(number), [7; 300]);
    }
    batch.commit().await.unwrap();
    db.checkpoint().await.unwrap();
}

/// Makes the roots of all trees of a family unreadable for as long as the faults last; nothing of them is in memory.
fn damage(disk: &Disk, db: &Db, family: &ColumnFamily) {
    let state = db.engine().state().clone();
    let view = state.view(family.family().id).expect("it exists");
    for tree in &view.trees {
        let extent = tree.root.root.extent();
        let start = extent.start.byte_offset();
        disk.faults().add_bad_range(start..start + extent.len_bytes());
    }
}

/// Opens a database in which the family `damaged` was filled by `fill`, and its trees cannot be read.
async fn damaged(disk: &Disk, fill: impl AsyncFn(&Db, &ColumnFamily)) -> (Db, ColumnFamily) {
    let open = || Options::new().memory_bytes(4 << 20).open_sim(disk);
    let db = open().await.unwrap();
    let family = db.column_family("damaged").await.unwrap();
    fill(&db, &family).await;
    db.close().await.unwrap();
    drop((db, family));
    let db = open().await.unwrap();
    let family = db.column_family("damaged").await.unwrap();
    damage(disk, &db, &family);
    (db, family)
}

#[test]
fn a_node_that_cannot_be_read_keeps_no_rows_in_the_log() {
    // One leaf, into which rows would be merged; several, of which it would be estimated what that costs.
    for rows in [1, ROWS] {
        block_on(async {
            let disk = Disk::new();
            let (db, family) =
                damaged(&disk, async |db, family| flush(db, family, 0..rows).await).await;
            let whole = db.column_family("whole").await.unwrap();
            for n in 0..3 {
                family.put([n], "new").await.unwrap();
                whole.put([n], "new").await.unwrap();
                db.checkpoint().await.unwrap();
            }
            assert_eq!(family.get([1]).await.unwrap().as_deref(), Some(&b"new"[..]));
            assert_eq!(family.get(key(0)).await.unwrap_err().kind(), ErrorKind::Io);
            assert_eq!(whole.len().await.unwrap(), 3);
            assert_eq!(
                trees(&family, &db),
                2,
                "the rows of later checkpoints go where the first did"
            );
            disk.faults().clear();
            assert_eq!(family.len().await.unwrap(), u64::from(rows) + 3);
            db.compact().await.unwrap();
            assert_eq!(trees(&family, &db), 1);
            let defects = db.check().await.unwrap().defects;
            assert!(defects.is_empty(), "{defects:?}");
        });
    }
}

#[test]
fn a_family_that_cannot_be_read_is_cleared_and_dropped_and_the_pages_of_what_was_not_read_are_lost()
{
    for clears in [true, false] {
        block_on(async {
            let disk = Disk::new();
            let (db, family) =
                damaged(&disk, async |db, family| flush(db, family, 0..ROWS).await).await;
            let other = db.column_family("other").await.unwrap();
            other.put("a", "row").await.unwrap();
            match clears {
                true => drop(family.clear().await.unwrap()),
                false => db.drop_column_family("damaged").await.unwrap(),
            }
            db.checkpoint().await.unwrap();
            assert_eq!(trees(&family, &db), 0);
            let defects = db.check().await.unwrap().defects;
            let lost = |what: &str| what.starts_with("a page is lost");
            assert!(!defects.is_empty() && defects.iter().all(|defect| lost(&defect.what)));
            assert_eq!(other.get("a").await.unwrap().as_deref(), Some(&b"row"[..]));
        });
    }
}

#[test]
fn families_are_merged_beside_one_that_cannot_be_read() {
    block_on(async {
        let disk = Disk::new();
        let fill = async |db: &Db, family: &ColumnFamily| {
            let whole = db.column_family("whole").await.unwrap();
            for family in [family, &whole] {
                flush(db, family, 0..ROWS).await;
                flush(db, family, (0..ROWS).step_by(60)).await;
            }
        };
        let (db, family) = damaged(&disk, fill).await;
        let whole = db.column_family("whole").await.unwrap();
        assert_eq!((trees(&family, &db), trees(&whole, &db)), (2, 2));
        assert_eq!(db.compact().await.unwrap_err().kind(), ErrorKind::Io);
        let deadline = Instant::now() + Duration::from_secs(60);
        while trees(&whole, &db) > 1 {
            assert!(Instant::now() < deadline, "nothing is merged behind the failure");
            std::thread::yield_now();
        }
        assert_eq!(trees(&family, &db), 2);
        disk.faults().clear();
        db.compact().await.unwrap();
        assert_eq!(trees(&family, &db), 1);
    });
}

/// Takes the free pages of the file, so many as may be taken for that, one by one, and lets it not grow.
fn fill(disk: &Disk, db: &Db, need: Need) -> Vec<Extent> {
    disk.faults().set_capacity(Some(db.stat().file_bytes));
    let mut space = db.engine().space.lock();
    std::iter::from_fn(|| space.try_allocate(1, need).ok()).collect()
}

#[test]
fn a_filter_that_finds_no_pages_in_a_row_is_left_out() {
    block_on(async {
        let disk = Disk::new();
        let (db, _held) = database(&disk).await;
        let engine = db.engine();
        let taken = fill(&disk, &db, Need::Relief);
        assert!(taken.len() > 20);
        taken.iter().step_by(2).for_each(|extent| engine.space.lock().release(*extent));
        let mut writer = Writer::new(engine);
        let root = NodeRef { page: writer.place_pages(1).start, pages: 1, crc: 0 };
        let root = TreeRoot { root, height: 0, rows: 1, bytes: 1, pages: 1, extent_pages: 0 };
        for (keys, has_filter) in [(20_000, false), (1000, true)] {
            let filter = engine.filters.begin(keys, 0);
            let tree = filters::attach(Some(root), filter, &mut writer).await;
            let kept = tree.unwrap().expect("it has a root").kept;
            assert_eq!(
                (kept.filter().is_some(), !kept.blob.extent.is_empty()),
                (has_filter, has_filter)
            );
        }
        assert_eq!(writer.pending().0.len(), 2, "the root and one filter");
        writer.abandon();
    });
}

#[test]
fn nodes_leave_the_only_run_that_the_catalog_fits_into() {
    block_on(async {
        let disk = Disk::new();
        // Enough for the memtables of all families.
        let (db, _held) = database_with(&disk, 16 << 20).await;
        let engine = db.engine();
        for n in 0..FAMILIES {
            let family = db.column_family(format!("{n:0200}")).await.unwrap();
            family.put("a", "row").await.unwrap();
        }
        let mut checkpointer = Checkpointer::new(engine);
        flush_with(&mut checkpointer, Means::Ample).await;
        for n in 0..4 {
            let family = db.column_family(format!("{n:0200}")).await.unwrap();
            family.put("b", "row").await.unwrap();
        }
        let taken = fill(&disk, &db, Need::Relief);
        let catalog = engine.superblock.lock().catalog.extent.pages;
        let run =
            |extents: &&[Extent]| extents.windows(2).all(|pair| pair[0].end() == pair[1].start);
        let run = taken.windows(catalog as usize + 1).find(run).expect("the file had a long run");
        let apart = taken.iter().step_by(2).filter(|extent| !run.contains(extent));
        let apart = apart.filter(|extent| {
            extent.end() < run[0].start || extent.start > run[catalog as usize].end()
        });
        apart.chain(run).for_each(|extent| engine.space.lock().release(*extent));
        checkpointer.checkpoint().await.unwrap();
        assert!(engine.superblock.lock().catalog.extent.start >= run[0].start);
    });
}

#[test]
fn where_there_is_room_for_the_rows_alone_they_have_no_filter() {
    block_on(async {
        let (db, _held) = database(&Disk::new()).await;
        let family = db.column_family("a").await.unwrap();
        let mut checkpointer = Checkpointer::new(db.engine());
        for (n, means) in [Means::Scarce, Means::Quick, Means::Scarce].into_iter().enumerate() {
            family.put([n as u8], "row").await.unwrap();
            flush_with(&mut checkpointer, means).await;
        }
        let state = db.engine().state().clone();
        let trees = state.view(family.family().id).expect("it exists").trees.iter();
        let filters: Vec<_> = trees.map(|tree| tree.kept.filter().is_some()).collect();
        assert_eq!(filters, [false, true, false]);
        assert_eq!(family.len().await.unwrap(), 3);
    });
}

#[test]
fn a_load_leaves_no_family_with_more_trees_than_the_catalog_has_room_for() {
    block_on(async {
        let (db, _held) = database(&Disk::new()).await;
        let full = db.column_family("full").await.unwrap();
        let other = db.column_family("other").await.unwrap();
        let mut checkpointer = Checkpointer::new(db.engine());
        for n in 0..TREES_FILLED_MAX as u8 {
            for first in *b"abcd" {
                full.put([first, n], [n; 10_000]).await.unwrap();
            }
            flush_with(&mut checkpointer, Means::Scarce).await;
        }
        checkpointer.compactions.flushed(std::iter::once(full.family().id));
        assert!(checkpointer.merge_some().await, "a slice of all of them");
        assert_eq!(trees(&full, &db), TREES_FILLED_MAX);
        full.put("b", "row").await.unwrap();
        let loaded = load(&other, &db, "a").await;
        checkpointer.ingest(loaded).await.unwrap();
        assert_eq!(trees(&full, &db), TREES_FILLED_MAX);
        assert_eq!(full.len().await.unwrap(), 4 * TREES_FILLED_MAX as u64 + 1);
        assert_eq!(other.len().await.unwrap(), 1);
    });
}

#[test]
fn drops_and_deletes_of_ranges_are_carried_out_before_a_load_has_the_order_to_itself() {
    let checkpoints = async |change: &str| {
        let (db, _held) = database(&Disk::new()).await;
        let [family, other] =
            [db.column_family("a").await.unwrap(), db.column_family("b").await.unwrap()];
        let mut checkpointer = Checkpointer::new(db.engine());
        add_tree(&mut checkpointer, &other, 0).await;
        match change {
            "put" => drop(other.put("a", "row").await.unwrap()),
            "range" => drop(other.delete_range("a".."b").await.unwrap()),
            "clear" => drop(other.clear().await.unwrap()),
            "drop" => db.drop_column_family("b").await.unwrap(),
            _ => unreachable!("there are no others"),
        }
        let before = db.metrics().checkpoints;
        let loaded = load(&family, &db, "a").await;
        checkpointer.ingest(loaded).await.unwrap();
        db.metrics().checkpoints - before
    };
    block_on(async {
        for (change, expected) in [("put", 1), ("range", 2), ("clear", 2), ("drop", 2)] {
            assert_eq!(checkpoints(change).await, expected, "{change}");
        }
    });
}

#[test]
fn what_a_full_log_has_no_room_to_tell_of_a_checkpoint_makes_durable() {
    block_on(async {
        let disk = Disk::new();
        let options = Options::new().memory_bytes(4 << 20).segment_bytes_max(64 << 10);
        let db = options.open_sim(&disk).await.unwrap();
        let rows = db.column_family("rows").await.unwrap();
        let unlogged = ColumnFamilyOptions::new().unlogged();
        let unlogged = db.create_column_family("unlogged", unlogged).await.unwrap();
        // Nobody makes segments ready meanwhile; not for ever, as a seal may take the last block before the put that was to have it.
        let (step, started) = (Duration::from_secs(60), Instant::now());
        let (begin, begun) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let wait = async move {
            let _ = begin.send(());
            let _ = ended.recv_timeout(step);
        };
        db.engine().command(Command::Between(Box::pin(wait)));
        begun.recv().expect("the checkpointer takes commands");
        while db.engine().pipeline.order().log_has_room_for_seal() {
            rows.put("a", "row").await.unwrap();
            assert!(started.elapsed() < step, "the log does not fill");
        }
        let seq = unlogged.put("a", "row").await.unwrap();
        let _taken = fill(&disk, &db, Need::Growth);
        let before = db.metrics().checkpoints;
        drop(end);
        let (mut durable, deadline) = (db.durable(seq), Instant::now() + step);
        let durable = loop {
            if let Some(durable) = (&mut durable).now_or_never() {
                break durable;
            }
            assert!(Instant::now() < deadline, "it waits for ever");
            std::thread::yield_now();
        };
        durable.unwrap();
        assert!(db.metrics().checkpoints > before, "by a checkpoint");
    });
}
