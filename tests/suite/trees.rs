//! Families of several trees: flushes that become trees of their own, and the merging of them.

use std::collections::BTreeMap;

use ringdb::{ColumnFamily, Db, Options, Snapshot, sim::Disk};

use crate::fixture::{Watchdog, assert_sound, block_on, family, get, put, rows_of, scale, seed};
use crate::rng::Rng;

/// Values of this many bytes, two dozen of them in a leaf.
const VALUE_BYTES: usize = 300;
/// Rows of a tree with many leaves.
const ROWS: u32 = 1500;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The least memory, so that slices are short.
pub fn options() -> Options {
    Options::new().memory_bytes(4 << 20).segment_bytes_max(64 << 10)
}

pub fn open(disk: &Disk) -> (Db, ColumnFamily) {
    let db = block_on(options().open_sim(disk)).expect("the database opens");
    let rows = family(&db, "rows");
    (db, rows)
}

pub fn key(number: u32) -> Vec<u8> {
    // Keys of neighbouring numbers lie far apart.
    let scattered = number.wrapping_mul(0x9E37_79B1);
    [&scattered.to_be_bytes()[..], b" row"].concat()
}

fn value(number: u32, round: u32) -> Vec<u8> {
    let mut rng = Rng::new(u64::from(number) << 32 | u64::from(round));
    rng.bytes(VALUE_BYTES)
}

/// Puts rows in one batch, and has them flushed.
pub fn flush(db: &Db, rows: &ColumnFamily, numbers: impl Iterator<Item = u32>, round: u32) {
    let mut batch = db.batch();
    for number in numbers {
        batch.put(rows, key(number), value(number, round));
    }
    block_on(batch.commit()).expect("the rows are put");
    block_on(db.checkpoint()).expect("the rows are flushed");
}

pub fn trees(db: &Db) -> u32 {
    db.stat().families.iter().find(|family| family.name == "rows").expect("it is there").trees
}

/// A family with an old tree of many rows and a young one of every hundredth, overwritten.
fn two_trees(disk: &Disk) -> (Db, ColumnFamily) {
    let (db, rows) = open(disk);
    flush(&db, &rows, 0..ROWS, 0);
    flush(&db, &rows, (0..ROWS).step_by(100), 1);
    assert_eq!(trees(&db), 2);
    (db, rows)
}

pub fn round_of(rows: &ColumnFamily, number: u32) -> Option<u32> {
    let found = get(rows, key(number))?;
    Some((0..9).find(|round| value(number, *round) == found).expect("it is one of the values"))
}

#[test]
fn scattered_rows_become_a_tree_of_their_own_and_neighbours_do_not() {
    let disk = Disk::new();
    let (db, rows) = open(&disk);
    flush(&db, &rows, 0..ROWS, 0);
    let mut batch = db.batch();
    for number in 0..500_u32 {
        batch.put(&rows, [b"\xFF behind all others ", &number.to_be_bytes()[..]].concat(), "");
    }
    block_on(batch.commit()).unwrap();
    let before = db.metrics().flush_bytes;
    block_on(db.checkpoint()).unwrap();
    assert_eq!(trees(&db), 1, "they lie side by side");
    assert!(db.metrics().flush_bytes - before < 100_000);
    flush(&db, &rows, (0..ROWS).step_by(100), 1);
    assert_eq!(trees(&db), 2);
    assert_sound(&db);
}

#[test]
fn the_newest_tree_decides_and_deletes_hide_what_older_ones_hold() {
    let disk = Disk::new();
    let (db, rows) = two_trees(&disk);
    let mut batch = db.batch();
    for number in (0..ROWS).step_by(50) {
        batch.delete(&rows, key(number));
    }
    block_on(batch.commit()).unwrap();
    block_on(db.checkpoint()).unwrap();
    let expected = |number| (!u32::is_multiple_of(number, 50)).then_some(0);
    let check = |db: &Db, rows: &ColumnFamily| {
        let keys: Vec<_> = (0..ROWS).map(key).collect();
        let many = block_on(rows.multi_get(&keys)).unwrap();
        for number in 0..ROWS {
            assert_eq!(round_of(rows, number), expected(number), "{number}");
            assert_eq!(many[number as usize].is_some(), expected(number).is_some());
            assert_eq!(block_on(rows.contains(key(number))).unwrap(), expected(number).is_some());
        }
        assert_eq!(block_on(rows.len()).unwrap(), u64::from(ROWS - ROWS / 50));
        assert_sound(db);
    };
    check(&db, &rows);
    block_on(db.close()).unwrap();
    drop((db, rows));
    let (db, rows) = open(&disk);
    assert!(trees(&db) > 1);
    check(&db, &rows);
    block_on(db.compact()).unwrap();
    assert_eq!(trees(&db), 1);
    check(&db, &rows);
    assert_eq!(rows.approximate_len(), u64::from(ROWS - ROWS / 50), "no delete is left");
}

#[test]
fn range_deletes_reach_every_tree() {
    let disk = Disk::new();
    let (db, rows) = two_trees(&disk);
    let (low, high) = ([0x40].to_vec(), [0xC0].to_vec());
    block_on(rows.delete_range(low.clone()..high.clone())).unwrap();
    put(&rows, [0x80], "again");
    block_on(db.checkpoint()).unwrap();
    let left = (0..ROWS).map(key).filter(|key| *key < low || *key >= high).count();
    assert_eq!(block_on(rows.len()).unwrap(), left as u64 + 1);
    assert_sound(&db);
    block_on(db.batch().clear(&rows).commit()).unwrap();
    block_on(db.checkpoint()).unwrap();
    assert_eq!((block_on(rows.len()).unwrap(), trees(&db)), (0, 0));
    assert_sound(&db);
}

#[test]
fn a_dropped_family_gives_all_its_trees_back() {
    let disk = Disk::new();
    let (db, rows) = two_trees(&disk);
    let before = db.stat().tree_bytes;
    drop(rows);
    block_on(db.drop_column_family("rows")).unwrap();
    block_on(db.checkpoint()).unwrap();
    assert!(db.stat().tree_bytes < before / 10);
    assert_sound(&db);
}

#[test]
fn large_values_change_trees_without_being_written_again() {
    let disk = Disk::new();
    let (db, rows) = two_trees(&disk);
    let large = |round: u8| vec![round; 200_000];
    for round in 0..2 {
        for number in [7_u32, 700, 1400] {
            put(&rows, key(number), large(round));
        }
        // Enough for a tree of its own.
        flush(
            &db,
            &rows,
            (0..ROWS).step_by(70).filter(|number| number % 7 != 0 || *number == 0),
            2,
        );
    }
    put(&rows, key(700), "small again");
    block_on(db.checkpoint()).unwrap();
    let before = db.metrics().page_bytes;
    block_on(db.compact()).unwrap();
    assert!(trees(&db) == 1 && db.metrics().page_bytes - before < 3_000_000);
    for number in [7, 1400] {
        assert_eq!(get(&rows, key(number)), Some(large(1)));
    }
    assert_eq!(get(&rows, key(700)), Some(b"small again".to_vec()));
    assert_sound(&db);
    let tree_bytes = db.stat().tree_bytes;
    assert!(tree_bytes < 2_500_000, "{tree_bytes}: replaced values are free");
}

/// Random changes of rows that lie apart, compared with a map, with merging going on all the time.
struct Run {
    disk: Disk,
    db: Db,
    rows: ColumnFamily,
    model: Rows,
    snapshot: Option<(Snapshot, Rows)>,
    rng: Rng,
    most_trees: u32,
}

impl Run {
    fn new(seed: u64) -> Run {
        let disk = Disk::new();
        let (db, rows) = open(&disk);
        let (model, snapshot) = (Rows::new(), None);
        Run { disk, db, rows, model, snapshot, rng: Rng::new(seed), most_trees: 0 }
    }

    fn step(&mut self) {
        match self.rng.below(24) {
            0..=14 => self.write(),
            15 => self.delete_range(),
            16..=20 => {
                block_on(self.db.checkpoint()).unwrap();
                self.most_trees = self.most_trees.max(trees(&self.db));
            }
            21 => {
                let snapshot = self.db.snapshot();
                self.snapshot = Some((snapshot, self.model.clone()));
            }
            22 if self.rng.one_in(4) => block_on(self.db.compact()).unwrap(),
            22 => self.reopen(),
            _ => self.look(),
        }
    }

    fn write(&mut self) {
        let mut batch = self.db.batch();
        for _ in 0..self.rng.below(150) {
            let key = key(self.rng.below(4000) as u32);
            if self.rng.one_in(4) {
                batch.delete(&self.rows, &key);
                self.model.remove(&key);
            } else {
                let len = if self.rng.one_in(150) { 70_000 } else { self.rng.below(900) };
                let value = self.rng.bytes(len);
                batch.put(&self.rows, &key, &value);
                self.model.insert(key, value);
            }
        }
        block_on(batch.commit()).unwrap();
    }

    fn delete_range(&mut self) {
        let low = self.rng.bytes(2);
        let mut high = low.clone();
        high[0] = high[0].saturating_add(self.rng.below(20) as u8);
        high.push(1);
        block_on(self.rows.delete_range(low.clone()..high.clone())).unwrap();
        self.model.retain(|key, _| *key < low || *key >= high);
    }

    fn reopen(&mut self) {
        self.snapshot = None;
        block_on(self.db.close()).unwrap();
        (self.db, self.rows) = open(&self.disk);
        assert_sound(&self.db);
    }

    fn look(&mut self) {
        let expected: Vec<_> = self.model.clone().into_iter().collect();
        assert_eq!(block_on(rows_of(self.rows.iter())).unwrap(), expected);
        let keys: Vec<_> = (0..60).map(|_| key(self.rng.below(4000) as u32)).collect();
        let found = block_on(self.rows.multi_get(&keys)).unwrap();
        for (key, found) in keys.iter().zip(found) {
            assert_eq!(found.as_deref(), self.model.get(key).map(Vec::as_slice));
            assert_eq!(get(&self.rows, key).as_ref(), self.model.get(key));
        }
        if let Some((snapshot, model)) = &self.snapshot {
            let expected: Vec<_> = model.clone().into_iter().rev().collect();
            let rows = block_on(rows_of(snapshot.iter(&self.rows).rev())).unwrap();
            assert_eq!(rows, expected);
        }
    }
}

#[test]
fn many_trees_hold_what_a_map_holds() {
    let first = seed("trees", 1);
    let watchdog = Watchdog::new("trees");
    let mut most_trees = 0;
    for seed in (0..2 * scale() as u64).map(|n| first.wrapping_add(n)) {
        let mut run = Run::new(seed);
        for step in 0..250 {
            watchdog.step(format!("seed {seed}, step {step}"));
            run.step();
        }
        run.look();
        assert_sound(&run.db);
        most_trees = most_trees.max(run.most_trees);
    }
    assert!(most_trees > 4, "{most_trees} trees");
}
