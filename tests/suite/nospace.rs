//! A disk that is full, at every level: refused cleanly, left by deletes alone, used again.

use ringdb::sim::Disk;
use ringdb::{ColumnFamily, Db, Error, ErrorKind, Options, Result};

use crate::fixture::{
    Watchdog, assert_sound, block_on, fails, family, get, resumes, say, scale, seed,
};
use crate::oracle::Base;
use crate::workload::{Recorder, options};

/// The least that a database takes: a file of so many bytes can be opened, and written to.
const LEAST_BYTES: u64 = 1 << 20;
/// More than this a new database never takes.
const NEW_BYTES_MAX: u64 = 2 << 20;
/// The largest disk that is filled.
const CAPACITY_BYTES_MAX: u64 = 5 << 20;
/// Where each delete has a checkpoint of its own, a smaller one.
const CAPACITY_BYTES_MAX_BY_ROWS: u64 = 5 << 19;
/// Commits that a full disk must have refused, at the latest.
const COMMITS_MAX: usize = 4000;

/// How rows are taken away.
#[derive(Clone, Copy, Debug)]
enum Relief {
    EachRow,
    Ranges,
    Family,
}

/// A commit of rows: how many, and how long their values are.
#[derive(Clone, Copy, Debug)]
struct Rows {
    rows: usize,
    value_bytes: usize,
}

const ROWS: [Rows; 4] = [
    Rows { rows: 8, value_bytes: 500 },
    Rows { rows: 4, value_bytes: 3000 },
    Rows { rows: 1, value_bytes: 30_000 },
    Rows { rows: 1, value_bytes: 200_000 },
];

fn key(commit: usize, row: usize) -> String {
    format!("{commit:05}-{row:02}")
}

/// Fills until a commit is refused, and says how many were not.
fn fill(recorder: &mut Recorder, rows: Rows, context: &str) -> usize {
    for commit in 0..COMMITS_MAX {
        let mut changes = recorder.changes();
        for row in 0..rows.rows {
            changes = changes.put("rows", key(commit, row), rows.value_bytes);
        }
        changes.commit();
        if let Some(error) = recorder.errors.pop() {
            assert_no_space(&error, context);
            return commit;
        }
    }
    panic!("{context}: the disk is never full");
}

fn assert_no_space(error: &Error, context: &str) {
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{context}: {error:?}");
    assert!(error.is_retryable() && !error.outcome_unknown(), "{context}: {error:?}");
    assert!(std::error::Error::source(error).is_some(), "{context}: the cause is kept");
}

fn relieve(recorder: &mut Recorder, relief: Relief, rows: Rows, commits: usize) {
    match relief {
        Relief::EachRow => {
            for commit in 0..commits {
                let mut changes = recorder.changes();
                for row in 0..rows.rows {
                    changes = changes.delete("rows", key(commit, row));
                }
                changes.commit();
            }
        }
        Relief::Ranges => {
            for commit in (0..commits).step_by(10) {
                let (low, high) = (key(commit, 0), key(commit + 10, 0));
                recorder.changes().delete_range("rows", &low, &high).commit();
            }
        }
        Relief::Family => {
            recorder.drop_family("rows");
            recorder.create("rows");
        }
    }
}

/// Fill, delete, refill, on a disk of so many bytes; how many commits each fill took.
fn at(capacity: u64, rows: Rows, relief: Relief, seed: u64) -> Option<(usize, usize)> {
    let context = format!("{capacity} bytes, {rows:?}, {relief:?}, seed {seed}");
    let disk = Disk::traced();
    disk.faults().set_capacity(Some(capacity));
    let mut recorder = match Recorder::open(&disk, options(), seed) {
        Ok(recorder) => recorder,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{context}: {error:?}");
            return None;
        }
    };
    recorder.create("rows");
    assert!(recorder.errors.is_empty(), "{context}: {:?}", recorder.errors);
    let first = fill(&mut recorder, rows, &context);
    let health = recorder.db.health();
    health.reads.as_ref().expect("reads go on");
    if let Err(cause) = &health.writes {
        assert_no_space(cause, &context);
    }
    let family = block_on(recorder.db.existing_column_family("rows")).unwrap();
    assert_eq!(get(&family, key(0, 0)).is_some(), first > 0, "{context}");
    drop(family);
    relieve(&mut recorder, relief, rows, first);
    assert!(recorder.errors.is_empty(), "{context}: {:?}", recorder.errors);
    recorder.checkpoint();
    assert!(recorder.errors.is_empty(), "{context}: {:?}", recorder.errors);
    // Not all of it need be free yet: trees are merged for room when somebody needs it.
    let second = fill(&mut recorder, rows, &context);
    relieve(&mut recorder, Relief::Ranges, rows, second);
    // Space is back: everything goes on.
    disk.faults().set_capacity(None);
    resumes(|| {
        recorder.changes().put("rows", "again", 30_000).commit();
        recorder.errors.pop().map_or(Ok(()), Err)
    });
    recorder.checkpoint();
    assert!(recorder.errors.is_empty(), "{context}: {:?}", recorder.errors);
    recorder.db.health().writes.expect("writes go on");
    assert_sound(&recorder.db);
    let recorded = recorder.close(&Base::default());
    let floor = recorded.floor(recorded.points);
    recorded.verify(&disk, floor).unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
    Some((first, second))
}

fn at_every_capacity(name: &'static str, relief: Relief) {
    let seed = seed(name, 17);
    let watchdog = Watchdog::new(name);
    let steps = 4 * scale() as u64;
    let capacity_max = match relief {
        Relief::EachRow => CAPACITY_BYTES_MAX_BY_ROWS,
        Relief::Ranges | Relief::Family => CAPACITY_BYTES_MAX,
    };
    let (mut runs, mut refused) = (0, 0);
    for rows in ROWS {
        for step in 0..=steps {
            let span = capacity_max - LEAST_BYTES / 2;
            let capacity = LEAST_BYTES / 2 + span * step / steps;
            watchdog.step(format!("{rows:?}, {capacity}"));
            runs += 1;
            let Some((first, second)) = at(capacity, rows, relief, seed) else {
                assert!(capacity < NEW_BYTES_MAX, "a new database takes less");
                refused += 1;
                continue;
            };
            // What was free before is free again, but for crumbs and the log of the deletes.
            assert!(second * 2 >= first, "{rows:?}, {capacity}: {first} before, {second} after");
        }
    }
    say(format!("{name}: {runs} disks filled, deleted from and filled again, {refused} too small"));
    assert!(refused > 0 && runs > refused, "a dead knob must show");
}

#[test]
fn a_full_disk_is_left_by_deleting_row_by_row() {
    at_every_capacity("nospace rows", Relief::EachRow);
}

#[test]
fn a_full_disk_is_left_by_deleting_ranges() {
    at_every_capacity("nospace ranges", Relief::Ranges);
}

#[test]
fn a_full_disk_is_left_by_dropping_a_family() {
    at_every_capacity("nospace family", Relief::Family);
}

fn opened(disk: &Disk) -> Result<(Db, ColumnFamily)> {
    let db = block_on(options().open_sim(disk))?;
    let rows = family(&db, "rows");
    Ok((db, rows))
}

/// Puts until the disk is full; how many there are.
fn filled(rows: &ColumnFamily) -> u32 {
    filled_from(rows, 0)
}

fn filled_from(rows: &ColumnFamily, first: u32) -> u32 {
    let value = vec![7; 8000];
    for n in 0..COMMITS_MAX as u32 {
        if let Err(error) = block_on(rows.put((first + n).to_be_bytes(), &value)) {
            assert_no_space(&error, "the fill");
            return n;
        }
    }
    panic!("the disk is never full");
}

#[test]
fn a_new_database_is_small() {
    let disk = Disk::new();
    let (db, rows) = opened(&disk).unwrap();
    block_on(rows.put("a", "1")).unwrap();
    block_on(db.checkpoint()).unwrap();
    block_on(db.close()).unwrap();
    let path = disk.paths().pop().expect("the database is a file");
    let bytes = disk.contents(&path).expect("it has contents").len() as u64;
    assert!(bytes <= NEW_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn a_full_disk_can_be_opened_again_and_left_then() {
    for clean in [true, false] {
        let disk = Disk::new();
        disk.faults().set_capacity(Some(4 << 20));
        let (db, rows) = opened(&disk).unwrap();
        let count = filled(&rows);
        if clean {
            block_on(db.close()).expect("a close needs no more than a checkpoint does");
        }
        drop((db, rows));
        let (db, rows) = opened(&disk).expect("opening needs no more than the reserve");
        // The log of before is free again, and that is not much.
        let count = count + filled_from(&rows, count);
        assert_eq!(get(&rows, (count - 1).to_be_bytes()).map(|value| value.len()), Some(8000));
        for n in 0..count {
            block_on(rows.delete(n.to_be_bytes())).expect("deletes live on the reserve");
        }
        assert!(filled(&rows) >= count / 2, "there is room again");
        assert_sound(&db);
    }
}

#[test]
fn a_full_disk_takes_what_replaces_other_rows() {
    let disk = Disk::new();
    disk.faults().set_capacity(Some(5 << 20));
    let (db, rows) = opened(&disk).unwrap();
    let count = filled(&rows);
    for n in 0..count / 2 {
        block_on(rows.delete(n.to_be_bytes())).unwrap();
    }
    // Many times what is free: each checkpoint gives back what the last one wrote.
    for round in 0..20u8 {
        for n in 0..20u32 {
            block_on(rows.put(n.to_be_bytes(), vec![round; 8000])).unwrap();
        }
    }
    for round in 0..20u8 {
        block_on(rows.put("large", vec![round; 300_000])).unwrap();
    }
    assert_sound(&db);
}

#[test]
fn a_full_disk_answers_who_makes_a_family() {
    let watchdog = Watchdog::new("a family on a full disk");
    for capacity in ((3 << 20)..(4 << 20)).step_by(64 << 10) {
        watchdog.step(format!("{capacity} bytes"));
        let disk = Disk::new();
        disk.faults().set_capacity(Some(capacity));
        let (db, rows) = opened(&disk).unwrap();
        let count = filled(&rows);
        for n in 0..count.min(8) {
            block_on(rows.delete(n.to_be_bytes())).expect("deletes live on the reserve");
            // There may be room for it by now, and there may be none: it is told, and holds nobody up.
            if let Err(error) = block_on(db.column_family(format!("more {n}"))) {
                assert_no_space(&error, "a family");
            }
        }
    }
}

#[test]
fn deletes_that_the_reserve_cannot_rewrite_are_refused_and_smaller_ones_are_not() {
    let disk = Disk::new();
    disk.faults().set_capacity(Some(4 << 20));
    let (db, rows) = opened(&disk).unwrap();
    let count = filled(&rows);
    let mut batch = db.batch();
    for n in 0..20_000u32 {
        batch.delete(&rows, n.to_be_bytes());
    }
    fails(block_on(batch.commit()), ErrorKind::NoSpace);
    assert!(get(&rows, 0u32.to_be_bytes()).is_some(), "nothing of it happened");
    block_on(rows.delete_range(0u32.to_be_bytes()..count.to_be_bytes())).unwrap();
    block_on(db.checkpoint()).unwrap();
    assert!(filled(&rows) > 0);
}

#[test]
fn pages_of_a_checkpoint_that_failed_are_not_lost() {
    let disk = Disk::new();
    // A checkpoint that rewrites far more than was ever seen before.
    disk.faults().set_capacity(Some(12 << 20));
    let options = Options::new().memory_bytes(8 << 20);
    let db = block_on(options.open_sim(&disk)).unwrap();
    let rows = family(&db, "rows");
    let mut count = 0u32;
    while block_on(rows.put(count.to_be_bytes(), vec![1; 1000])).is_ok() {
        count += 1;
    }
    block_on(db.checkpoint()).unwrap();
    let mut failed = 0;
    for round in 0..4u8 {
        for n in (0..count).step_by(7) {
            failed += u32::from(block_on(rows.put(n.to_be_bytes(), [round])).is_err());
        }
        failed += u32::from(block_on(db.checkpoint()).is_err());
    }
    say(format!("nospace: {failed} of {count} rewrites met a full disk"));
    block_on(rows.delete_range::<&[u8]>(..)).unwrap();
    disk.faults().set_capacity(None);
    block_on(db.checkpoint()).unwrap();
    assert_sound(&db);
    let stat = db.stat();
    assert!(stat.free_bytes * 2 > stat.file_bytes, "{stat:?}");
}

#[test]
fn rows_of_many_families_have_pages_promised_for_a_tree_of_each() {
    let disk = Disk::new();
    disk.faults().set_capacity(Some(6 << 20));
    let (db, rows) = opened(&disk).unwrap();
    let families: Vec<_> = (0..600).map(|n| family(&db, &format!("family {n}"))).collect();
    let count = filled(&rows);
    // A little room, for as many of them as there are pages for.
    for n in 0..150u32 {
        block_on(rows.delete(n.to_be_bytes())).unwrap();
    }
    block_on(db.checkpoint()).unwrap();
    let mut takers = 0;
    for (round, key) in ["a", "b", "c"].into_iter().enumerate() {
        disk.faults().set_capacity(Some((6 << 20) + ((round as u64) << 20)));
        let put = |family: &&ColumnFamily| block_on(family.put(key, "1")).is_ok();
        let taken: Vec<_> = families.iter().take_while(put).collect();
        takers += taken.len();
        block_on(db.checkpoint()).expect("what was taken has pages promised");
        for family in taken {
            assert_eq!(get(family, key), Some(b"1".to_vec()));
        }
    }
    say(format!("nospace: families got {takers} rows beside {count} others"));
    assert!(takers > 200 && takers < 3 * families.len(), "the disk was full, and had some room");
    assert_sound(&db);
}
