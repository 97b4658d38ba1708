//! Loads: any number of rows in any order, all of them or none.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ringdb::sim::{Call, Choice, Disk, Fault, Times};
use ringdb::{Bytes, ColumnFamily, ColumnFamilyOptions, Db, ErrorKind, Ingest, Options, Seq};

use crate::fixture::{
    Fixture, Place, assert_sound, block_on, fails, family, get, put, resumes, rows_of,
};
use crate::restores::{self, Content, content, streamed};
use crate::rng::Rng;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Memory that a few thousand rows exceed.
const MEMORY_BYTES: usize = 4 << 20;

fn small() -> Fixture {
    Fixture::with(|options| options.memory_bytes(MEMORY_BYTES))
}

fn take(ingest: &mut Ingest, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
    block_on(ingest.put(key, value)).expect("the row is taken");
}

fn load(family: &ColumnFamily, rows: &[(Vec<u8>, Vec<u8>)]) -> Option<Seq> {
    let mut ingest = family.ingest();
    rows.iter().for_each(|(key, value)| take(&mut ingest, key, value));
    block_on(ingest.commit()).expect("the rows are loaded")
}

fn all(family: &ColumnFamily) -> Rows {
    block_on(rows_of(family.iter())).expect("the rows are read").into_iter().collect()
}

fn trees(db: &Db) -> u32 {
    db.stat().families.iter().find(|family| family.name == "rows").expect("it is there").trees
}

/// Rows in key order, many times what is held in memory.
fn many(count: u32, rng: &mut Rng) -> Vec<(Vec<u8>, Vec<u8>)> {
    let row = |n: u32| (format!("{n:08}").into_bytes(), rng.bytes(150));
    (0..count).map(row).collect()
}

/// Loads rows in the order that is given, and looks at all of them before and after opening again.
fn check(rows: &[(Vec<u8>, Vec<u8>)]) -> Fixture {
    let fixture = small();
    let expected: Rows = rows.iter().cloned().collect();
    let seq = load(&fixture.rows, rows).expect("there are rows");
    assert_eq!(fixture.db.snapshot().seq(), seq);
    assert!(all(&fixture.rows) == expected, "all rows are there, and no others");
    assert_sound(&fixture.db);
    let fixture = fixture.reopened();
    assert!(all(&fixture.rows) == expected, "all rows are there after opening again");
    fixture
}

#[test]
fn rows_in_key_order_become_one_tree_and_are_written_once() {
    let rows = many(40_000, &mut Rng::new(1));
    let fixture = check(&rows);
    let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
    let stat = fixture.db.stat();
    assert_eq!(trees(&fixture.db), 1);
    // Runs that were merged would take as much again.
    assert!(stat.file_bytes < bytes as u64 * 5 / 2, "{} of {bytes} bytes", stat.file_bytes);
}

#[test]
fn rows_in_any_order_are_sorted_however_many_they_are() {
    let mut rng = Rng::new(2);
    let mut rows = many(40_000, &mut rng);
    for n in (1..rows.len()).rev() {
        rows.swap(n, rng.below(n + 1));
    }
    check(&rows);
    rows.sort_unstable_by(|left, right| right.cmp(left));
    check(&rows);
}

#[test]
fn of_rows_with_the_same_key_the_last_one_counts() {
    let mut rng = Rng::new(3);
    let row = |_| (vec![rng.below(200) as u8; 1 + rng.below(3)], rng.bytes(400));
    let rows: Vec<_> = (0..8000).map(row).collect();
    check(&rows);
    let twice: Vec<_> = rows.iter().flat_map(|row| [row.clone(), row.clone()]).collect();
    check(&twice);
}

#[test]
fn large_values_have_extents_and_those_that_are_replaced_are_free_again() {
    let mut rng = Rng::new(4);
    let mut rows = Vec::new();
    for n in 0..60u8 {
        let len = [10, 70_000, 1_500_000, 65_536, 65_537][usize::from(n) % 5];
        rows.push((vec![n % 40], rng.bytes(len)));
        rows.push((vec![n % 7, 1], rng.bytes(30_000)));
    }
    let fixture = check(&rows);
    block_on(fixture.rows.clear()).unwrap();
    block_on(fixture.db.checkpoint()).unwrap();
    assert_sound(&fixture.db);
}

#[test]
fn a_load_without_rows_is_no_commit() {
    let Fixture { place: _place, db, rows } = small();
    put(&rows, "a", "1");
    let before = db.snapshot().seq();
    assert_eq!(load(&rows, &[]), None);
    assert_eq!(db.snapshot().seq(), before);
}

#[test]
fn loaded_rows_replace_older_ones_and_newer_ones_replace_them() {
    let fixture = small();
    let Fixture { db, rows, .. } = &fixture;
    for n in 0..30u8 {
        put(rows, [n], "in a tree");
    }
    block_on(db.checkpoint()).unwrap();
    for n in 10..20u8 {
        put(rows, [n], "in memory");
        block_on(rows.delete([n + 10])).unwrap();
    }
    let mut ingest = rows.ingest();
    for n in (0..30u8).step_by(2) {
        take(&mut ingest, [n], "loaded");
    }
    put(rows, [8], "while rows are put");
    let before = db.snapshot();
    assert_eq!(all(rows).len(), 20, "nothing is visible yet");
    let seq = block_on(ingest.commit()).unwrap().expect("there are rows");
    assert!(put(rows, [0], "later") > seq);
    block_on(rows.delete([2])).unwrap();
    let seen = |n: u8| get(rows, [n]).map(|value| String::from_utf8(value).unwrap());
    let expected = [
        (0, Some("later")),
        (1, Some("in a tree")),
        (2, None),
        (8, Some("loaded")),
        (11, Some("in memory")),
        (12, Some("loaded")),
        (20, Some("loaded")),
        (21, None),
    ];
    for (key, value) in expected {
        assert_eq!(seen(key).as_deref(), value, "{key}");
    }
    let old = block_on(before.get(rows, [12])).unwrap().expect("it was there");
    assert_eq!(&old[..], b"in memory");
    let now = all(rows);
    block_on(db.compact()).unwrap();
    assert_eq!((all(rows), trees(db)), (now.clone(), 1));
    drop(before);
    assert_sound(db);
    let fixture = fixture.reopened();
    assert_eq!(all(&fixture.rows), now);
}

#[test]
fn a_tree_in_front_of_others_has_a_filter() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let before = db.metrics().filter_bytes;
    load(&rows, &many(2000, &mut Rng::new(5)));
    assert_eq!(db.metrics().filter_bytes, before, "the oldest needs none");
    load(&rows, &many(1000, &mut Rng::new(6)));
    assert_eq!(trees(&db), 2);
    assert!(db.metrics().filter_bytes >= before + 1000);
    assert_eq!(get(&rows, "00001999").map(|value| value.len()), Some(150));
    assert_sound(&db);
}

#[test]
fn a_transaction_that_read_in_the_range_conflicts() {
    let Fixture { place: _place, db, rows } = small();
    put(&rows, "k", "1");
    let begin = |key: &str| {
        let tx = block_on(db.begin()).unwrap();
        block_on(tx.get(&rows, key)).unwrap();
        tx.put(&rows, "result", "1");
        tx
    };
    let (inside, between, last, outside) = (begin("k"), begin("m"), begin("p"), begin("z"));
    load(&rows, &[(b"k".to_vec(), b"2".to_vec()), (b"p".to_vec(), b"2".to_vec())]);
    fails(block_on(inside.commit()), ErrorKind::Conflict);
    fails(block_on(between.commit()), ErrorKind::Conflict);
    fails(block_on(last.commit()), ErrorKind::Conflict);
    block_on(outside.commit()).expect("nothing that it read was loaded");
    block_on(begin("k").commit()).expect("it read what was loaded");
}

#[test]
fn a_bad_row_is_refused_and_the_others_are_loaded() {
    let Fixture { place: _place, rows, .. } = small();
    let mut ingest = rows.ingest();
    take(&mut ingest, "a", "1");
    fails(block_on(ingest.put("", "1")), ErrorKind::InvalidArgument);
    fails(block_on(ingest.put(vec![1; (64 << 10) + 1], "1")), ErrorKind::TooLarge);
    take(&mut ingest, vec![1; 64 << 10], vec![2; 64 << 10]);
    block_on(ingest.commit()).unwrap();
    assert_eq!(all(&rows).len(), 2);
}

/// A load whose rows were written in part.
fn begun(rows: &ColumnFamily) -> Ingest {
    let mut ingest = rows.ingest();
    many(20_000, &mut Rng::new(7)).iter().for_each(|(key, value)| take(&mut ingest, key, value));
    take(&mut ingest, "large", vec![1; 100_000]);
    ingest
}

#[test]
fn a_backup_has_a_load_if_it_began_behind_it() {
    let Fixture { place: _place, db, rows } = small();
    put(&rows, "old", "1");
    let (before, ingest) = (content(&db).unwrap(), begun(&rows));
    let mut backup = db.backup();
    let mut chunks = vec![block_on(backup.try_next()).unwrap().unwrap()];
    let seq = block_on(ingest.commit()).unwrap().expect("there are rows");
    assert!(backup.seq().expect("it has begun") < seq);
    while let Some(chunk) = block_on(backup.try_next()).unwrap() {
        chunks.push(chunk);
    }
    assert_eq!(restored(chunks), before);
    assert!(restored(restores::chunks(&db)) == content(&db).unwrap());
}

fn restored(chunks: Vec<Bytes>) -> Content {
    let place = Place::new();
    block_on(place.restoring(place.options(), streamed(chunks))).expect("the backup is restored");
    content(&place.open()).unwrap()
}

#[test]
fn a_family_may_be_cleared_before_a_load_and_after_it() {
    let fixture = small();
    let Fixture { db, rows, .. } = &fixture;
    load(rows, &many(2000, &mut Rng::new(12)));
    put(rows, "old", "1");
    let ingest = begun(rows);
    block_on(rows.clear()).unwrap();
    block_on(ingest.commit()).unwrap();
    assert_eq!(all(rows).len(), 20_001, "what was loaded came after");
    let mut ingest = rows.ingest();
    take(&mut ingest, "a", "1");
    block_on(ingest.commit()).unwrap();
    block_on(rows.clear()).unwrap();
    assert_eq!(all(rows).len(), 0);
    put(rows, "new", "1");
    assert_sound(db);
    let fixture = fixture.reopened();
    assert_eq!(all(&fixture.rows).len(), 1);
}

#[test]
fn a_family_without_a_log_keeps_what_was_loaded() {
    let disk = Disk::traced();
    let db = block_on(Options::new().memory_bytes(MEMORY_BYTES).open_sim(&disk)).unwrap();
    let unlogged = ColumnFamilyOptions::new().unlogged();
    let rows = block_on(db.create_column_family("rows", unlogged)).unwrap();
    load(&rows, &many(1000, &mut Rng::new(13)));
    let image = disk.image(disk.crash_points() - 1, Choice::None);
    let db = block_on(Options::new().memory_bytes(MEMORY_BYTES).open_sim(&image)).unwrap();
    assert_eq!(all(&family(&db, "rows")).len(), 1000);
}

#[test]
fn a_load_into_a_dropped_family_fails() {
    let Fixture { place: _place, db, rows } = small();
    let ingest = begun(&rows);
    block_on(db.drop_column_family("rows")).unwrap();
    fails(block_on(ingest.commit()), ErrorKind::NotFound);
    assert_sound(&db);
}

#[test]
fn a_load_after_close_fails() {
    let Fixture { place: _place, db, rows } = small();
    let (written, fresh) = (begun(&rows), rows.ingest());
    block_on(db.close()).unwrap();
    fails(block_on(written.commit()), ErrorKind::Closed);
    let mut ingest = fresh;
    let all_taken = many(5000, &mut Rng::new(9))
        .iter()
        .try_for_each(|(key, value)| block_on(ingest.put(key, value)));
    fails(all_taken, ErrorKind::Closed);
    fails(block_on(ingest.commit()), ErrorKind::Closed);
}

#[test]
fn a_load_that_finds_the_disk_full_fails_and_the_database_goes_on() {
    let disk = Disk::new();
    let db = block_on(Options::new().memory_bytes(MEMORY_BYTES).open_sim(&disk)).unwrap();
    let rows = family(&db, "rows");
    disk.faults().set_capacity(Some(2 << 20));
    let mut ingest = rows.ingest();
    let loaded = many(40_000, &mut Rng::new(10))
        .iter()
        .try_for_each(|(key, value)| block_on(ingest.put(key, value)));
    fails(loaded, ErrorKind::NoSpace);
    fails(block_on(ingest.commit()), ErrorKind::NoSpace);
    assert!(block_on(rows.iter().try_next()).unwrap().is_none());
    put(&rows, "b", "1");
    load(&rows, &many(100, &mut Rng::new(11)));
    assert_eq!(all(&rows).len(), 101, "a smaller one finds room");
    disk.faults().set_capacity(None);
    resumes(|| block_on(rows.put("a", "1")));
    load(&rows, &many(1000, &mut Rng::new(11)));
    assert_eq!(all(&rows).len(), 1002);
    assert_sound(&db);
}

#[test]
fn a_load_that_meets_a_failing_write_is_not_shown_and_is_whole_or_nothing_afterwards() {
    let mut unknown = 0;
    for nth in 0.. {
        let disk = Disk::new();
        let open = || block_on(Options::new().memory_bytes(MEMORY_BYTES).open_sim(&disk)).unwrap();
        let (db, mut rng) = (open(), Rng::new(14));
        let rows = family(&db, "rows");
        load(&rows, &many(100, &mut rng));
        let mut ingest = rows.ingest();
        many(150, &mut rng).iter().for_each(|(key, value)| take(&mut ingest, key, value));
        let (seq, before) = (db.snapshot().seq(), all(&rows));
        disk.faults().add(Call::Write, nth, Fault::Fail(Times::Once));
        let loaded = block_on(ingest.commit());
        if disk.faults().injected().failed == 0 {
            loaded.expect("nothing failed");
            assert!(unknown > 0, "a superblock was among them");
            return;
        }
        if let Err(error) = &loaded {
            assert_eq!(error.kind(), ErrorKind::Poisoned, "{nth}: {error:?}");
            assert_eq!(db.snapshot().seq(), seq, "{nth}");
            assert!(all(&rows) == before, "{nth}: nothing of it is shown");
            unknown += 1;
        }
        disk.faults().clear();
        drop((db, rows));
        let found = all(&family(&open(), "rows")).len();
        assert!(found == 150 || loaded.is_err() && found == 100, "{nth}: {found} rows");
    }
}

#[test]
fn commits_and_reads_go_on_beside_loads_and_see_whole_ones() {
    const LOADS: u8 = 6;
    const LOADED: usize = 400;
    let fixture = small();
    let (rows, other) = (&fixture.rows, family(&fixture.db, "other"));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut seqs = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                seqs.push(put(&other, (seqs.len() as u32).to_be_bytes(), [1; 300]));
            }
            seqs
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let snapshot = fixture.db.snapshot();
                let counts = (0..LOADS).map(|load| {
                    block_on(rows_of(snapshot.prefix(rows, [load]))).expect("it is read").len()
                });
                let counts: Vec<_> = counts.collect();
                let whole = counts.iter().all(|count| [0, LOADED].contains(count));
                assert!(whole && counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
            }
        });
        let loaded = |number: u8| {
            let key = |n: usize| [&[number][..], &(n as u32).to_be_bytes()].concat();
            let all: Vec<_> = (0..LOADED).map(|n| (key(n), vec![number; 500])).collect();
            load(rows, &all).expect("there are rows")
        };
        let loads: Vec<_> = (0..LOADS).map(loaded).collect();
        is_over.store(true, Ordering::Relaxed);
        let mut seqs = writer.join().expect("the writer ends");
        let puts = seqs.len();
        seqs.extend(&loads);
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs.len(), puts + loads.len(), "each commit has a seq of its own");
        assert_eq!(block_on(other.len()).unwrap(), puts as u64);
    });
    assert_sound(&fixture.db);
    drop(other);
    let fixture = fixture.reopened();
    let count = block_on(fixture.rows.len()).unwrap();
    assert_eq!(count, LOADED as u64 * u64::from(LOADS));
}
