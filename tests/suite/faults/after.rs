//! What a database is after one failure: poisoned, closed, opened again.

use futures::FutureExt;
use ringdb::sim::{Call, Choice, Disk, Fault, Times};
use ringdb::{ColumnFamily, Error, ErrorKind, Seq};

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

/// A load of one row whose `nth` write fails from the commit on: what was answered, and whether the row is there after reopening.
fn ingest_with_a_failing_write(nth: u64) -> (Result<Option<Seq>, Error>, bool) {
    let disk = Disk::new();
    let db = block_on(options().open_sim(&disk)).unwrap();
    let rows = family(&db, "rows");
    block_on(db.checkpoint()).unwrap();
    let mut ingest = rows.ingest();
    block_on(ingest.put("a", "1")).unwrap();
    disk.faults().add(Call::Write, nth, ONCE);
    let answer = block_on(ingest.commit());
    let _ = block_on(db.close());
    drop((rows, db));
    disk.faults().clear();
    let db = block_on(options().open_sim(&disk)).unwrap();
    (answer, get(&family(&db, "rows"), "a").is_some())
}

#[test]
fn a_load_that_may_be_found_after_reopening_says_so() {
    let (mut failed, mut found) = (0, 0);
    for nth in 0.. {
        let (answer, is_there) = ingest_with_a_failing_write(nth);
        match answer {
            Ok(_) if failed > 0 => break,
            Ok(_) => assert!(is_there),
            Err(error) => {
                assert!(!is_there || error.outcome_unknown(), "write {nth}: {error:?}");
                (failed, found) = (failed + 1, found + u64::from(is_there));
            }
        }
    }
    assert!(found > 0, "none of {failed} loads that failed was found again");
}

#[test]
fn what_was_durable_before_a_failure_is_still_said_to_be() {
    let disk = Disk::new();
    let db = block_on(options().open_sim(&disk)).unwrap();
    let rows = family(&db, "rows");
    let durable = block_on(rows.put("a", "1")).unwrap();
    disk.faults().add(Call::Write, 0, Fault::Fail(Times::Forever));
    let commit = block_on(db.batch().put(&rows, "b", "2").submit()).unwrap();
    let seq = commit.seq();
    assert!(block_on(commit).unwrap_err().outcome_unknown());
    block_on(db.durable(durable)).unwrap();
    let error = fails(block_on(db.durable(seq)), ErrorKind::Poisoned);
    assert!(error.outcome_unknown(), "{error:?}");
}
