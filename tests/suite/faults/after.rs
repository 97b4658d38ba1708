//! What a database is after one failure: poisoned, closed, opened again.

use futures::FutureExt;
use ringdb::sim::{Call, Choice, Disk, Fault, Times};
use ringdb::{ColumnFamily, ErrorKind};

use super::ONCE;
use crate::fixture::{block_on, fails, family, get, put};
use crate::rng::Rng;
use crate::workload::options;

#[test]
fn a_poisoned_database_closes_and_opens_again() {
    let disk = Disk::new();
    let db = block_on(options().open_sim(&disk)).unwrap();
    let rows = family(&db, "rows");
    put(&rows, "a", "1");
    disk.faults().add(Call::Write, 0, Fault::Fail(Times::Forever));
    let error = block_on(rows.put("b", "2")).expect_err("the write fails");
    assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Poisoned), "{error:?}");
    assert!(error.outcome_unknown(), "the commit may be found after reopening");
    let error = fails(block_on(rows.put("c", "3")), ErrorKind::Poisoned);
    assert!(!error.outcome_unknown(), "it was refused before it was ordered");
    assert!(std::error::Error::source(&error).is_some(), "the cause is kept: {error:?}");
    assert_eq!(get(&rows, "a").as_deref(), Some(&b"1"[..]));
    // What a poisoned close answers is not promised; that it ends is.
    let _ = block_on(db.close());
    drop((rows, db));
    disk.faults().clear();
    let db = block_on(options().open_sim(&disk)).unwrap();
    let rows = family(&db, "rows");
    assert_eq!(get(&rows, "a").as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&rows, "c"), None);
    put(&rows, "d", Rng::new(1).bytes(100));
}

/// Puts a large value and drops the put while its sync, which fails, is under way.
fn leave_a_failing_sync(disk: &Disk, rows: &ColumnFamily) {
    let mut put_large = rows.put("large", vec![7; 100_000]);
    let writes = disk.faults().calls().writes;
    while disk.faults().calls().writes == writes {
        disk.pause();
        assert!((&mut put_large).now_or_never().is_none(), "the disk is paused");
        disk.resume();
    }
    // The value is written; its sync waits, and then it has no caller any more.
    disk.pause();
    assert!((&mut put_large).now_or_never().is_none(), "the disk is paused");
    disk.faults().add(Call::Sync, 0, ONCE);
    drop(put_large);
    disk.resume();
}

#[test]
fn a_failed_sync_that_nobody_waits_for_poisons_all_the_same() {
    let disk = Disk::new();
    let db = block_on(options().open_sim(&disk)).unwrap();
    let rows = family(&db, "rows");
    put(&rows, "a", "1");
    // The write that was waited for may have been the keeper's: then the put was left too early.
    while disk.faults().injected().failed == 0 {
        leave_a_failing_sync(&disk, &rows);
    }
    // It covered all that was written before, by whomever.
    let error = block_on(rows.put("b", "2")).expect_err("what the sync covered is undefined");
    assert_eq!(error.kind(), ErrorKind::Poisoned, "{error:?}");
    fails(block_on(db.checkpoint()), ErrorKind::Poisoned);
    assert_eq!(get(&rows, "a").as_deref(), Some(&b"1"[..]), "reads go on");
}

#[test]
fn a_length_that_a_failed_sync_covered_is_not_relied_upon() {
    let disk = Disk::traced();
    let db = block_on(options().open_sim(&disk)).unwrap();
    let rows = family(&db, "rows");
    put(&rows, "a", "1");
    disk.faults().add(Call::Sync, 0, ONCE);
    let error = block_on(rows.put("large", vec![7; 1 << 20])).expect_err("the sync fails");
    assert_eq!(error.kind(), ErrorKind::Poisoned, "{error:?}");
    // What a poisoned close answers is not promised; that it ends is.
    let _ = block_on(db.close());
    drop((rows, db));
    // The file is longer than any superblock says, and the device may never hear of it.
    let db = block_on(options().open_sim(&disk)).unwrap();
    put(&family(&db, "rows"), "b", "2");
    block_on(db.close()).unwrap();
    let image = disk.image(disk.crash_points() - 1, Choice::None);
    let db = block_on(options().open_sim(&image)).unwrap();
    let rows = family(&db, "rows");
    assert_eq!(get(&rows, "a").as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&rows, "b").as_deref(), Some(&b"2"[..]));
}
