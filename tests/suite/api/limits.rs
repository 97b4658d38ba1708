//! Documented limits, both sides of each, answered by typed errors.

use std::ops::Bound;

use bytes::Bytes;
use ringdb::sim::Disk;
use ringdb::{BATCH_RANGE_DELETES_MAX, ColumnFamily, Db, Durability, ErrorKind, Options};

use crate::fixture::{Fixture, block_on, fails, family, get, keys, put};

const KEY_BYTES_MAX: usize = 64 << 10;
const VALUE_BYTES_MAX: usize = 1 << 30;

#[test]
fn an_empty_key_is_an_invalid_argument() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    fails(block_on(rows.put("", "x")), ErrorKind::InvalidArgument);
    fails(block_on(rows.delete("")), ErrorKind::InvalidArgument);
    let tx = block_on(db.begin()).unwrap();
    tx.put(&rows, "", "x");
    fails(block_on(tx.commit()), ErrorKind::InvalidArgument);
}

#[test]
fn the_longest_key_is_put_and_one_byte_more_is_refused() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, vec![1; KEY_BYTES_MAX], "x");
    assert!(get(&rows, vec![1; KEY_BYTES_MAX]).is_some());
    fails(block_on(rows.put(vec![1; KEY_BYTES_MAX + 1], "x")), ErrorKind::TooLarge);
    fails(block_on(rows.delete(vec![1; KEY_BYTES_MAX + 1])), ErrorKind::TooLarge);
    let mut batch = db.batch();
    batch.put(&rows, "fine", "x").put(&rows, vec![1; KEY_BYTES_MAX + 1], "x");
    fails(block_on(batch.commit()), ErrorKind::TooLarge);
    assert_eq!(get(&rows, "fine"), None);
}

#[test]
fn a_value_above_one_gibibyte_is_refused() {
    let Fixture { place: _place, rows, .. } = Fixture::new();
    let zeros = Bytes::from(vec![0; VALUE_BYTES_MAX + 1]);
    fails(block_on(rows.put_bytes("a", zeros)), ErrorKind::TooLarge);
    assert_eq!(get(&rows, "a"), None);
}

#[test]
fn a_batch_above_its_budget_is_refused_and_nothing_of_it_is_done() {
    let Fixture { place: _place, db, rows } =
        Fixture::with(|options| options.memory_bytes(8 << 20));
    let mut batch = db.batch();
    for n in 0..16_000u32 {
        batch.put(&rows, n.to_be_bytes(), [0; 1000]);
    }
    assert!(batch.bytes() > 16_000_000);
    fails(block_on(batch.commit()), ErrorKind::TooLarge);
    assert_eq!(block_on(rows.len()).unwrap(), 0);
    put(&rows, "a", "the database goes on");
}

#[test]
fn keys_and_references_of_large_values_count_in_the_budget_of_a_batch() {
    let Fixture { place: _place, db, rows } =
        Fixture::with(|options| options.memory_bytes(4 << 20));
    let mut batch = db.batch();
    for n in 0..40u8 {
        batch.put(&rows, vec![n; KEY_BYTES_MAX], vec![n; (64 << 10) + 1]);
    }
    fails(block_on(batch.commit()), ErrorKind::TooLarge);
    assert_eq!(block_on(rows.len()).unwrap(), 0);
}

#[test]
fn a_batch_deletes_so_many_ranges_and_not_one_more() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let batch_of = |ranges: usize| {
        let mut batch = db.batch();
        batch.put(&rows, "a", "1").put(&rows, "z", "1");
        for _ in 0..ranges {
            batch.delete_range(&rows, "a".."b");
        }
        batch
    };
    fails(block_on(batch_of(BATCH_RANGE_DELETES_MAX + 1).commit()), ErrorKind::TooLarge);
    assert_eq!(block_on(rows.len()).unwrap(), 0);
    let mut batch = batch_of(BATCH_RANGE_DELETES_MAX);
    // Each range deletes what was put before it once: a key that the batch put, and deleted, is not deleted again.
    assert_eq!(batch.len(), 2 + BATCH_RANGE_DELETES_MAX + 1);
    block_on(batch.commit()).unwrap();
    assert_eq!(keys(rows.iter()), ["z"]);
}

#[test]
fn ranges_may_begin_behind_the_longest_key_and_be_empty() {
    let Fixture { place: _place, rows, .. } = Fixture::new();
    let longest = vec![0xFF; KEY_BYTES_MAX];
    put(&rows, &longest, "1");
    let behind = (Bound::Excluded(longest.clone()), Bound::Unbounded);
    block_on(rows.delete_range(behind)).unwrap();
    let empty = (Bound::Excluded(longest.clone()), Bound::Excluded(longest.clone()));
    block_on(rows.delete_range(empty)).unwrap();
    assert!(block_on(rows.contains(&longest)).unwrap());
    block_on(rows.delete_range(longest.clone()..)).unwrap();
    assert!(!block_on(rows.contains(&longest)).unwrap());
}

#[test]
fn family_names_have_limits() {
    let Fixture { place: _place, db, .. } = Fixture::new();
    fails(block_on(db.column_family("")), ErrorKind::InvalidArgument);
    fails(block_on(db.column_family("n".repeat(1 << 20))), ErrorKind::TooLarge);
    block_on(db.column_family("Ünïcode / with spaces")).unwrap();
    fails(
        block_on(db.rename_column_family("Ünïcode / with spaces", "")),
        ErrorKind::InvalidArgument,
    );
}

#[test]
fn reading_with_an_impossible_key_finds_nothing_or_says_why() {
    let Fixture { place: _place, rows, .. } = Fixture::new();
    put(&rows, "a", "1");
    for key in [Vec::new(), vec![1; KEY_BYTES_MAX + 1]] {
        match block_on(rows.get(&key)) {
            Ok(found) => assert!(found.is_none()),
            Err(error) => {
                let kind = error.kind();
                assert!(matches!(kind, ErrorKind::InvalidArgument | ErrorKind::TooLarge));
            }
        }
    }
}

#[test]
fn memory_stays_inside_its_budget_with_many_times_more_data() {
    const MEMORY_BYTES: usize = 8 << 20;
    let fixture = Fixture::with(|options| options.memory_bytes(MEMORY_BYTES));
    let (db, rows) = (&fixture.db, &fixture.rows);
    for chunk in 0..64u32 {
        let mut batch = db.batch();
        for n in 0..500u32 {
            batch.put(rows, (n * 64 + chunk).to_be_bytes(), [chunk as u8; 1000]);
        }
        batch.durability(Durability::Buffered);
        block_on(batch.commit()).unwrap();
        let metrics = db.metrics();
        let held = metrics.memtable_bytes + metrics.cache_bytes;
        assert!(held <= MEMORY_BYTES as u64, "{metrics:?}");
    }
    for n in (0..32_000u32).step_by(7) {
        assert_eq!(get(rows, n.to_be_bytes()), Some(vec![(n % 64) as u8; 1000]));
    }
    let metrics = db.metrics();
    assert!(metrics.memtable_bytes + metrics.cache_bytes <= MEMORY_BYTES as u64, "{metrics:?}");
    assert!(metrics.checkpoints > 0 && metrics.page_reads > 0, "{metrics:?}");
    crate::fixture::assert_sound(db);
}

/// So many families with a row in each.
fn families_with_a_row(db: &Db, count: usize) -> Vec<ColumnFamily> {
    let families: Vec<_> = (0..count).map(|n| family(db, &format!("family {n}"))).collect();
    for family in &families {
        put(family, "a", "1");
    }
    families
}

/// Memory that memtables take, and what was charged for it.
fn taken_and_charged(db: &Db) -> (u64, u64) {
    let taken = db.stat().families.iter().map(|family| family.memtable_bytes).sum();
    (taken, db.metrics().memtable_bytes)
}

#[test]
fn a_row_in_each_of_many_families_is_charged_what_it_takes() {
    let Fixture { place: _place, db, rows } =
        Fixture::with(|options| options.memory_bytes(4 << 20));
    let families = families_with_a_row(&db, 100);
    let (taken, charged) = taken_and_charged(&db);
    assert!(taken > 300_000 && taken <= charged, "{taken} bytes, {charged} charged");
    put(&families[7], "b", "1");
    assert_eq!(taken_and_charged(&db).1 - charged, 80 + 6, "it has its memtable already");
    block_on(db.checkpoint()).unwrap();
    assert_eq!(taken_and_charged(&db), (0, 0));
    // More than there is memory for all the same finds room, alone.
    let more: Vec<_> = (0..500).map(|n| family(&db, &format!("more {n}"))).collect();
    put(&rows, "a", "1");
    let mut batch = db.batch();
    for family in &more {
        batch.put(family, "a", "1");
    }
    block_on(batch.commit()).unwrap();
    assert_eq!(get(&more[499], "a"), Some(b"1".to_vec()));
}

#[test]
fn rows_of_a_replayed_log_are_charged_as_their_commits_were() {
    let disk = Disk::new();
    let open = || block_on(Options::new().memory_bytes(4 << 20).open_sim(&disk)).unwrap();
    let db = open();
    let families = families_with_a_row(&db, 20);
    let mut batch = db.batch();
    for n in 0..2000u32 {
        batch.put(&families[0], n.to_be_bytes(), "x");
    }
    block_on(batch.commit()).unwrap();
    let charged = taken_and_charged(&db).1;
    drop((families, db));
    let (taken, charged_anew) = taken_and_charged(&open());
    assert!(taken <= charged_anew, "{taken} bytes, {charged_anew} charged");
    // Not for what stands in front of a row in the log.
    assert!(
        (1..=2020 * 4).contains(&(charged - charged_anew)),
        "{charged} bytes before, {charged_anew} now"
    );
}
