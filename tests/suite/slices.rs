//! Merging trees a slice at a time: how far it comes, what a failure leaves, and when it begins by itself.

use ringdb::sim::{Call, Disk, Fault, Times};
use ringdb::{ColumnFamily, Db, ErrorKind};

use crate::fixture::{assert_sound, block_on, eventually, fails, family};
use crate::trees::{flush, key, open, options, round_of, trees};

/// Several times what a slice may write.
const ROWS: u32 = 12_000;
/// A batch of rows.
const BATCH: u32 = 1500;

/// A family with a few trees of different sizes, more than the cache holds, of rows that lie apart.
fn large(db: &Db, rows: &ColumnFamily) {
    for first in (0..ROWS).step_by(BATCH as usize) {
        flush(db, rows, first..first + BATCH, 0);
    }
    block_on(db.compact()).expect("the trees are merged");
    flush(db, rows, (0..ROWS).step_by(20), 1);
    flush(db, rows, (10..ROWS).step_by(20), 2);
    assert_eq!(trees(db), 3);
}

fn check(db: &Db, rows: &ColumnFamily) {
    for number in (0..ROWS).step_by(5) {
        let expected = match number % 20 {
            0 => 1,
            10 => 2,
            _ => 0,
        };
        assert_eq!(round_of(rows, number), Some(expected), "{number}");
    }
    assert_sound(db);
}

/// Superblocks that were written but not by checkpoints.
fn slices(db: &Db) -> u64 {
    db.stat().generation - db.metrics().checkpoints
}

#[test]
fn a_large_merge_is_published_in_slices() {
    let disk = Disk::new();
    let (db, rows) = open(&disk);
    large(&db, &rows);
    let (before, file_bytes) = (slices(&db), db.stat().file_bytes);
    block_on(db.compact()).expect("the trees are merged");
    assert_eq!(trees(&db), 1);
    let taken = slices(&db) - before;
    assert!(taken > 2, "{taken} slices");
    let grown = db.stat().file_bytes.saturating_sub(file_bytes);
    assert!(grown < file_bytes / 2, "the file grew from {file_bytes} by {grown}");
    check(&db, &rows);
}

#[test]
fn a_slice_that_fails_leaves_what_was_merged_before_it() {
    let disk = Disk::new();
    let (db, rows) = open(&disk);
    large(&db, &rows);
    let mut most_slices = 0;
    // How many reads a slice needs depends on what the cache has.
    for nth in (150..400).step_by(50) {
        let (before, failed) = (slices(&db), disk.faults().injected().failed);
        disk.faults().add(Call::Read, nth, Fault::Fail(Times::Once));
        let compacted = block_on(db.compact());
        disk.faults().clear();
        if disk.faults().injected().failed == failed {
            break;
        }
        fails(compacted, ErrorKind::Io);
        db.health().writes.expect("commits go on");
        check(&db, &rows);
        if trees(&db) == 1 {
            break; // It failed behind the merging, where the file gets shorter.
        }
        most_slices = most_slices.max(slices(&db) - before);
    }
    assert!(most_slices > 0, "one failed behind others");
    block_on(db.compact()).expect("the next attempt goes on");
    assert_eq!(trees(&db), 1);
    check(&db, &rows);
}

#[test]
fn an_idle_database_merges_down_to_one_tree() {
    let directory = tempfile::tempdir().expect("a directory is made");
    let db = block_on(options().open(directory.path().join("idle.ring"))).expect("it opens");
    let rows = family(&db, "rows");
    flush(&db, &rows, 0..BATCH, 0);
    flush(&db, &rows, (0..BATCH).step_by(100), 1);
    assert!(eventually(|| trees(&db) == 1 && db.metrics().merge_bytes > 0));
    assert_eq!(round_of(&rows, 100), Some(1));
    assert_sound(&db);
    block_on(db.close()).expect("it closes");
}

/// Rows that lie apart are cheap to flush, each time as a tree of their own. What was learnt from that must not leave a full disk
/// without the pages that range deletes need.
#[test]
fn a_disk_full_of_trees_is_left_by_deleting_ranges() {
    let disk = Disk::new();
    let (db, rows) = open(&disk);
    disk.faults().set_capacity(Some(6 << 20));
    let put = |number: u32| -> ringdb::Result<()> {
        let mut batch = db.batch();
        for number in number..number + 60 {
            batch.put(&rows, key(number), [7; 900]);
        }
        block_on(batch.commit())?;
        block_on(db.checkpoint())
    };
    let fill = || (0..ROWS).step_by(60).find_map(|number| put(number).err().map(|e| (number, e)));
    let (first, refused) = fill().expect("the disk is full at last");
    assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused:?}");
    assert!(first >= 1200, "{first} rows had room");
    for low in (0..=255_u8).step_by(8) {
        let (low, high) = (vec![low], if low == 248 { vec![0xFF; 9] } else { vec![low + 8] });
        block_on(rows.delete_range(low..high)).expect("deletes have room");
        block_on(db.checkpoint()).expect("a checkpoint has room");
    }
    assert_eq!(block_on(rows.len()).expect("rows are read"), 0);
    assert_sound(&db);
    let (second, _) = fill().expect("the disk is full again");
    assert!(second * 2 >= first, "{first} rows before, {second} after");
    assert_sound(&db);
}
