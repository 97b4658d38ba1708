//! A file that gets shorter: how short, what stays at its end, and what must not be lost.

use std::collections::BTreeMap;

use ringdb::sim::{Call, Choice, Disk, Fault, Times};
use ringdb::{Backend, ColumnFamily, Db, ErrorKind, Options};

use crate::fixture::{assert_sound, block_on, eventually, fails, family, rows_of};

/// Bytes of a row's value; with its key and what a leaf has besides, two dozen rows share a leaf.
const VALUE_BYTES: usize = 400;
/// Rows of a file that is large beside the log and the reserve.
const ROWS: u32 = 50_000;
const BATCH: u32 = 2000;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn key(number: u32) -> Vec<u8> {
    let scattered = number.wrapping_mul(0x9E37_79B1);
    [&scattered.to_be_bytes()[..], &number.to_be_bytes()[..], b" a row's key"].concat()
}

fn value(number: u32, round: u32) -> Vec<u8> {
    [number.to_be_bytes(), round.to_be_bytes()].concat().repeat(VALUE_BYTES / 8)
}

/// Puts rows and removes half of them; what is left.
fn fill(db: &Db, rows: &ColumnFamily) -> Rows {
    let mut model = Rows::new();
    for first in (0..ROWS).step_by(BATCH as usize) {
        let mut batch = db.batch();
        for number in first..first + BATCH {
            batch.put(rows, key(number), value(number, 0));
            model.insert(key(number), value(number, 0));
        }
        block_on(batch.commit()).expect("the rows are put");
    }
    for first in (0..ROWS).step_by(BATCH as usize) {
        let mut batch = db.batch();
        for number in (first..first + BATCH).filter(|number| !number.is_multiple_of(2)) {
            batch.delete(rows, key(number));
            model.remove(&key(number));
        }
        block_on(batch.commit()).expect("the rows are deleted");
    }
    model
}

fn check(db: &Db, rows: &ColumnFamily, model: &Rows) {
    let found = block_on(rows_of(rows.iter())).expect("the rows are read");
    let found: Rows = found.into_iter().collect();
    assert!(found == *model, "{} rows, {} expected", found.len(), model.len());
    assert_sound(db);
}

fn payload(model: &Rows) -> u64 {
    model.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
}

/// Leaves a file that is at most five quarters of its rows, and checks it before and after it is opened again.
fn shrinks(open: impl Fn() -> Db, len_bytes: impl Fn() -> u64) {
    let db = open();
    let rows = family(&db, "rows");
    let model = fill(&db, &rows);
    block_on(db.checkpoint()).expect("it is written");
    let before = len_bytes();
    block_on(db.compact()).expect("it is compacted");
    let (file, payload) = (len_bytes(), payload(&model));
    assert!(before > 2 * payload, "{before} bytes before, {payload} in rows");
    assert!(file * 4 <= payload * 5, "{file} bytes for {payload}, {:?}", db.stat());
    assert_eq!(db.stat().file_bytes, file);
    check(&db, &rows, &model);
    let generation = db.stat().generation;
    block_on(db.compact()).expect("it is compacted again");
    assert!(db.stat().generation <= generation + 1, "there is nothing left to be done");
    block_on(db.close()).expect("it closes");
    drop((db, rows));
    assert!(len_bytes() <= file + (64 << 10));
    let db = open();
    let rows = family(&db, "rows");
    check(&db, &rows, &model);
    block_on(rows.put("one more", "row")).expect("it grows again");
    block_on(db.close()).expect("it closes");
}

/// Little memory, so that there are many trees, and a log that is small beside the rows.
fn options() -> Options {
    Options::new().memory_bytes(8 << 20)
}

#[test]
fn a_simulated_file_is_as_short_as_what_is_left() {
    let disk = Disk::new();
    let open = || block_on(options().open_sim(&disk)).expect("it opens");
    shrinks(open, || file_bytes(&disk));
}

fn file_bytes(disk: &Disk) -> u64 {
    let path = disk.paths().pop().expect("the database is a file");
    disk.contents(&path).expect("it has contents").len() as u64
}

#[test]
fn a_file_is_as_short_as_what_is_left_with_each_backend() {
    for backend in [Backend::Auto, Backend::Pwrite] {
        let directory = tempfile::tempdir().expect("a directory is made");
        let path = directory.path().join("short.ring");
        let open = || {
            let options = options().backend(backend);
            block_on(options.open(&path)).expect("it opens")
        };
        shrinks(open, || std::fs::metadata(&path).expect("it is there").len());
    }
}

#[test]
fn an_idle_file_gets_shorter_by_itself_and_then_nothing_is_done() {
    let directory = tempfile::tempdir().expect("a directory is made");
    let path = directory.path().join("idle.ring");
    let db = block_on(options().open(&path)).expect("it opens");
    let rows = family(&db, "rows");
    let model = fill(&db, &rows);
    let is_short =
        || std::fs::metadata(&path).expect("it is there").len() * 4 <= payload(&model) * 5;
    assert!(eventually(is_short), "{:?}", db.stat());
    let (generation, bytes) = (db.stat().generation, db.metrics().page_bytes);
    check(&db, &rows, &model);
    assert!(db.stat().generation <= generation + 2);
    assert!(db.metrics().page_bytes < bytes + (1 << 20));
    block_on(db.close()).expect("it closes");
}

#[test]
fn a_snapshot_keeps_its_rows_while_the_file_is_cut_off_around_them() {
    let disk = Disk::new();
    let db = block_on(options().open_sim(&disk)).expect("it opens");
    let rows = family(&db, "rows");
    let model = fill(&db, &rows);
    block_on(db.checkpoint()).expect("it is written");
    let snapshot = db.snapshot();
    block_on(rows.delete_range::<&[u8]>(..)).expect("all is deleted");
    block_on(db.compact()).expect("it is compacted");
    let found = block_on(rows_of(snapshot.iter(&rows))).expect("the snapshot is read");
    assert_eq!(found.len(), model.len());
    let held = file_bytes(&disk);
    assert!(held > payload(&model));
    drop(snapshot);
    block_on(db.compact()).expect("it is compacted");
    assert!(file_bytes(&disk) < 2 << 20, "{} bytes are left of {held}", file_bytes(&disk));
    check(&db, &rows, &Rows::new());
}

#[test]
fn on_a_full_disk_compacting_gives_room_back() {
    let disk = Disk::new();
    let db = block_on(options().open_sim(&disk)).expect("it opens");
    let rows = family(&db, "rows");
    let model = fill(&db, &rows);
    disk.faults().set_capacity(Some(file_bytes(&disk)));
    let before = file_bytes(&disk);
    block_on(db.compact()).expect("it is compacted");
    assert!(file_bytes(&disk) < before / 2, "{} of {before} bytes", file_bytes(&disk));
    check(&db, &rows, &model);
}

#[test]
fn a_cut_that_fails_leaves_a_longer_file_that_is_used() {
    let disk = Disk::new();
    let db = block_on(options().open_sim(&disk)).expect("it opens");
    let rows = family(&db, "rows");
    let model = fill(&db, &rows);
    let before = file_bytes(&disk);
    disk.faults().add(Call::Shrink, 0, Fault::Fail(Times::Forever));
    fails(block_on(db.compact()), ErrorKind::Io);
    db.health().writes.expect("commits go on");
    assert!(file_bytes(&disk) >= before);
    check(&db, &rows, &model);
    disk.faults().clear();
    block_on(db.compact()).expect("it is compacted");
    block_on(rows.put("one more", "row")).expect("it takes rows");
    block_on(db.close()).expect("it closes");
    drop((db, rows));
    let db = block_on(options().open_sim(&disk)).expect("the longer file opens");
    block_on(db.compact()).expect("it is compacted");
    assert!(file_bytes(&disk) * 4 <= payload(&model) * 5);
    assert_sound(&db);
}

/// Writers and readers go on while the file gets shorter, and power is lost then.
#[test]
fn what_is_put_while_the_file_gets_shorter_is_there_after_power_loss() {
    let disk = Disk::new();
    let db = block_on(options().open_sim(&disk)).expect("it opens");
    let rows = family(&db, "rows");
    let mut model = fill(&db, &rows);
    disk.start_trace();
    let (first, before) = (db.stat().file_bytes, file_bytes(&disk));
    std::thread::scope(|scope| {
        let compacting = scope.spawn(|| block_on(db.compact()));
        for number in ROWS..ROWS + 300 {
            block_on(rows.put(key(number), value(number, 1))).expect("the row is put");
            model.insert(key(number), value(number, 1));
        }
        compacting.join().expect("it ends").expect("it is compacted");
    });
    assert!(file_bytes(&disk) < before && db.stat().file_bytes < first);
    for choice in [Choice::None, Choice::All, Choice::Seeded(5)] {
        let image = disk.image(disk.crash_points() - 1, choice);
        let db = block_on(options().open_sim(&image)).expect("it opens");
        check(&db, &family(&db, "rows"), &model);
    }
    check(&db, &rows, &model);
}
