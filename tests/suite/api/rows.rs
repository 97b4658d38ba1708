//! Puts, deletes, gets and batches.

use std::future::poll_fn;

use bytes::Bytes;
use futures::FutureExt;
use ringdb::{ErrorKind, Value};

use crate::fixture::{Fixture, assert_sound, block_on, fails, family, get, keys, put, rows_of};
use crate::rng::Rng;

#[test]
fn multi_get_of_many_keys_in_memory_gives_the_runtime_its_turns() {
    let Fixture { place: _place, rows, .. } = Fixture::new();
    put(&rows, "a", "1");
    let keys = std::iter::repeat_n("a", 20_000);
    let (mut get, mut turns) = (rows.multi_get(keys), 0);
    let values = block_on(poll_fn(|context| {
        turns += 1;
        get.poll_unpin(context)
    }));
    assert_eq!(values.unwrap().into_iter().flatten().count(), 20_000);
    assert!(turns >= 4, "{turns} polls");
}

#[test]
fn what_was_put_is_read_and_what_was_deleted_is_not() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    assert_eq!(get(&rows, "ada"), None);
    put(&rows, "ada", "1815");
    assert_eq!(get(&rows, "ada").as_deref(), Some(&b"1815"[..]));
    put(&rows, "ada", "1816");
    assert_eq!(get(&rows, "ada").as_deref(), Some(&b"1816"[..]));
    block_on(rows.delete("ada")).unwrap();
    assert_eq!(get(&rows, "ada"), None);
    block_on(rows.delete("never was")).unwrap();
    assert_sound(&db);
}

#[test]
fn rows_survive_closing_and_opening_again() {
    let fixture = Fixture::new();
    for n in 0..500u32 {
        let row = fixture.rows.with_durability(ringdb::Durability::Buffered);
        block_on(row.put(n.to_be_bytes(), format!("value {n}"))).unwrap();
    }
    let fixture = fixture.reopened();
    for n in 0..500u32 {
        assert_eq!(get(&fixture.rows, n.to_be_bytes()), Some(format!("value {n}").into_bytes()));
    }
    assert_sound(&fixture.db);
}

#[test]
fn put_bytes_and_put_store_the_same() {
    let Fixture { place: _place, rows, .. } = Fixture::new();
    block_on(rows.put_bytes("key", Bytes::from_static(b"value"))).unwrap();
    assert_eq!(get(&rows, "key").as_deref(), Some(&b"value"[..]));
}

#[test]
fn a_value_becomes_bytes() {
    let Fixture { place: _place, rows, .. } = Fixture::new();
    put(&rows, "key", "value");
    let value: Value = block_on(rows.get("key")).unwrap().expect("it was put");
    assert_eq!(Bytes::from(value), Bytes::from_static(b"value"));
}

#[test]
fn a_value_is_lent_wherever_it_lies() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let large = vec![7; 100_000];
    put(&rows, "small", "1815");
    put(&rows, "large", &large);
    put(&rows, "gone", "1912");
    let lent = |key: &str| block_on(rows.get_with(key, |value| value.map(<[u8]>::to_vec)));
    let check = |gone: Option<&[u8]>| {
        assert_eq!(lent("small").unwrap().as_deref(), Some(&b"1815"[..]));
        assert_eq!(lent("large").unwrap().as_deref(), Some(&large[..]));
        assert_eq!(lent("gone").unwrap().as_deref(), gone);
        assert_eq!(lent("never was").unwrap(), None);
    };
    check(Some(b"1912"));
    block_on(db.checkpoint()).unwrap();
    check(Some(b"1912"));
    let before = db.snapshot();
    block_on(rows.delete("gone")).unwrap();
    check(None);
    block_on(db.checkpoint()).unwrap();
    check(None);
    let len = |value: Option<&[u8]>| value.map(<[u8]>::len);
    assert_eq!(block_on(before.get_with(&rows, "gone", len)).unwrap(), Some(4));
    fails(block_on(rows.get_with("", len)), ErrorKind::InvalidArgument);
    block_on(db.drop_column_family(rows.name())).unwrap();
    fails(block_on(rows.get_with("small", len)), ErrorKind::NotFound);
}

#[test]
fn an_empty_value_is_not_a_missing_one() {
    let Fixture { place: _place, rows, .. } = Fixture::new();
    put(&rows, "key", "");
    assert_eq!(get(&rows, "key"), Some(Vec::new()));
    assert!(block_on(rows.contains("key")).unwrap());
}

#[test]
fn contains_tells_what_get_would_find() {
    let Fixture { place: _place, rows, .. } = Fixture::new();
    put(&rows, "a", "1");
    assert!(block_on(rows.contains("a")).unwrap());
    assert!(!block_on(rows.contains("b")).unwrap());
    block_on(rows.delete("a")).unwrap();
    assert!(!block_on(rows.contains("a")).unwrap());
}

#[test]
fn multi_get_gives_values_of_every_length_from_trees_and_memtables() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let lens = [0, 1, 38, 39, 150, 1024, 1025, 5000, 70_000];
    let value = |len: usize, of: u8| (0..len).map(|n| (n % 251) as u8 ^ of).collect::<Vec<u8>>();
    let keys: Vec<_> = (0..200_usize).map(|n| format!("{n:03}")).collect();
    let len_of = |n: usize| lens[n * 7 % lens.len()];
    for (n, key) in keys.iter().enumerate() {
        put(&rows, key, value(len_of(n), n as u8));
    }
    block_on(db.checkpoint()).unwrap();
    for (n, key) in keys.iter().enumerate().filter(|(n, _)| n % 5 == 0) {
        put(&rows, key, value(len_of(n + 1), n as u8));
    }
    // Twice: the first time fetches leaves.
    for _ in 0..2 {
        let found = block_on(rows.multi_get(keys.iter().rev())).unwrap();
        for (n, found) in (0..keys.len()).rev().zip(found) {
            let len = len_of(if n % 5 == 0 { n + 1 } else { n });
            let found = found.expect("it was put");
            assert_eq!(found, value(len, n as u8), "{n}");
            assert_eq!(Bytes::from(found.clone()), Bytes::from(value(len, n as u8)), "{n}");
        }
    }
}

#[test]
fn keys_of_one_page_share_its_read() {
    let fixture = Fixture::new();
    let keys: Vec<_> = (0..64_u8).map(|n| [n]).collect();
    for key in &keys {
        put(&fixture.rows, key, b"");
    }
    block_on(fixture.db.checkpoint()).unwrap();
    let Fixture { place: _place, db, rows } = fixture.reopened();
    let before = db.metrics().page_reads;
    let found = block_on(rows.multi_get(&keys)).unwrap();
    assert!(found.iter().all(Option::is_some));
    assert_eq!(db.metrics().page_reads - before, 1);
}

#[test]
fn multi_get_answers_in_the_order_of_its_keys() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "b", "2");
    put(&rows, "a", "1");
    block_on(db.checkpoint()).unwrap();
    put(&rows, "c", "3");
    let found = block_on(rows.multi_get(["c", "nothing", "a", "b", "a"])).unwrap();
    let found: Vec<_> = found.iter().map(Option::as_deref).collect();
    let expected: [Option<&[u8]>; 5] = [Some(b"3"), None, Some(b"1"), Some(b"2"), Some(b"1")];
    assert_eq!(found, expected);
    assert!(block_on(rows.multi_get::<&str>([])).unwrap().is_empty());
}

#[test]
fn a_batch_over_families_is_seen_whole() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let other = family(&db, "other");
    put(&other, "old", "x");
    let mut batch = db.batch();
    batch.put(&rows, "a", "1").put(&other, "a", "2").delete(&other, "old");
    assert_eq!(batch.len(), 3);
    let seq = block_on(batch.commit()).unwrap();
    assert!(batch.is_empty(), "the content was taken out");
    assert_eq!(get(&rows, "a").as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&other, "a").as_deref(), Some(&b"2"[..]));
    assert_eq!(get(&other, "old"), None);
    assert!(db.snapshot().seq() >= seq);
}

#[test]
fn the_last_write_of_a_key_in_a_batch_wins() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let mut batch = db.batch();
    batch.put(&rows, "a", "1").delete(&rows, "a").put(&rows, "a", "2");
    batch.put(&rows, "b", "1").delete(&rows, "b");
    block_on(batch.commit()).unwrap();
    assert_eq!(get(&rows, "a").as_deref(), Some(&b"2"[..]));
    assert_eq!(get(&rows, "b"), None);
}

#[test]
fn a_cleared_family_is_empty_and_takes_rows_again() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let other = family(&db, "other");
    for n in 0..300u32 {
        put(&rows, n.to_be_bytes(), vec![1; 100]);
        put(&other, n.to_be_bytes(), "kept");
    }
    block_on(db.checkpoint()).unwrap();
    put(&rows, [0xFF; 40], "in memory");
    let before = db.snapshot();
    block_on(rows.clear()).unwrap();
    assert_eq!(block_on(rows.len()).unwrap(), 0);
    assert_eq!(block_on(other.len()).unwrap(), 300);
    assert_eq!(block_on(rows_of(before.iter(&rows))).unwrap().len(), 301);
    put(&rows, "again", "1");
    block_on(db.checkpoint()).unwrap();
    assert_eq!(keys(rows.iter()), ["again"]);
}

#[test]
fn a_range_delete_spares_what_its_batch_puts_later() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    for key in ["a", "b", "c", "d"] {
        put(&rows, key, "old");
    }
    let mut batch = db.batch();
    batch.put(&rows, "bb", "gone").delete_range(&rows, "b".."d").put(&rows, "c", "new");
    block_on(batch.commit()).unwrap();
    assert_eq!(keys(rows.iter()), ["a", "c", "d"]);
    assert_eq!(get(&rows, "b"), None);
    assert_eq!(get(&rows, "c").as_deref(), Some(&b"new"[..]));
    block_on(db.checkpoint()).unwrap();
    assert_eq!(keys(rows.iter()), ["a", "c", "d"]);
    assert_sound(&db);
}

#[test]
fn a_batch_with_one_bad_change_does_nothing() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let gone = family(&db, "gone");
    block_on(db.drop_column_family("gone")).unwrap();
    let mut batch = db.batch();
    batch.put(&rows, "a", "1").put(&gone, "a", "1");
    fails(block_on(batch.commit()), ErrorKind::NotFound);
    let mut batch = db.batch();
    batch.put(&rows, "a", "1").put(&rows, "", "1");
    fails(block_on(batch.commit()), ErrorKind::InvalidArgument);
    assert_eq!(get(&rows, "a"), None);
    assert_eq!(block_on(rows.len()).unwrap(), 0);
}

#[test]
fn a_family_of_another_database_is_refused() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let stranger = Fixture::new();
    let mut batch = db.batch();
    batch.put(&rows, "a", "1").put(&stranger.rows, "a", "1");
    fails(block_on(batch.commit()), ErrorKind::InvalidArgument);
    assert_eq!(get(&rows, "a"), None);
    assert_eq!(get(&stranger.rows, "a"), None);
}

#[test]
fn an_empty_batch_commits() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "a", "1");
    block_on(db.batch().commit()).unwrap();
    assert_eq!(keys(rows.iter()), ["a"]);
}

#[test]
fn a_batch_that_lost_its_content_is_not_taken_for_an_empty_one() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let mut batch = db.batch();
    batch.put(&rows, "a", "1").put(&rows, "", "1");
    fails(block_on(batch.commit()), ErrorKind::InvalidArgument);
    fails(block_on(batch.commit()), ErrorKind::InvalidArgument);
    fails(block_on(batch.submit()), ErrorKind::InvalidArgument);
    fails(batch.try_submit(), ErrorKind::InvalidArgument);
    block_on(batch.put(&rows, "b", "1").commit()).unwrap();
    block_on(batch.commit()).expect("nothing was lost since");
    // Nobody knows what was in a commit that was dropped.
    drop(batch.put(&rows, "c", "1").commit());
    fails(block_on(batch.commit()), ErrorKind::InvalidArgument);
    assert_eq!(keys(rows.iter()), ["b"]);
}

#[test]
fn try_submit_of_a_large_value_is_no_reason_to_try_again() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let mut batch = db.batch();
    batch.put(&rows, "a", vec![1; (64 << 10) + 1]);
    let error = batch.try_submit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(!error.is_retryable());
    block_on(batch.commit()).unwrap();
    assert_eq!(keys(rows.iter()), ["a"]);
}

/// Sizes around each border: inline, one page, several pages, extents, a checksum a MiB.
const VALUE_BYTES: [usize; 22] = [
    0, 1, 63, 64, 1000, 1024, 2047, 2048, 4095, 4096, 4097, 8191, 8192, 8193, 32_768, 65_535,
    65_536, 65_537, 1_048_575, 1_048_576, 1_048_577, 5_000_001,
];

#[test]
fn values_of_every_size_come_back() {
    let fixture = Fixture::with(|options| options.memory_bytes(64 << 20));
    let expected: Vec<_> = (0u64..)
        .zip(VALUE_BYTES)
        .map(|(seed, len)| (format!("{len:08}"), Rng::new(seed).bytes(len)))
        .collect();
    for (key, value) in &expected {
        put(&fixture.rows, key, value);
    }
    let verify = |fixture: &Fixture| {
        for (key, value) in &expected {
            assert!(get(&fixture.rows, key).as_ref() == Some(value), "{key} differs");
        }
    };
    verify(&fixture);
    block_on(fixture.db.checkpoint()).unwrap();
    verify(&fixture);
    assert_sound(&fixture.db);
    let fixture = fixture.reopened();
    verify(&fixture);
    let rows = block_on(crate::fixture::rows_of(fixture.rows.iter())).unwrap();
    assert!(rows.iter().map(|(_, value)| value).eq(expected.iter().map(|(_, value)| value)));
    for (key, _) in &expected {
        block_on(fixture.rows.delete(key)).unwrap();
    }
    block_on(fixture.db.checkpoint()).unwrap();
    assert_sound(&fixture.db);
    assert_eq!(block_on(fixture.rows.len()).unwrap(), 0);
}

#[test]
fn keys_of_every_size_come_back_in_order() {
    let fixture = Fixture::new();
    for len in [1usize, 2, 7, 8, 9, 255, 256, 4096, 8192, 16_384, 65_535, 65_536] {
        for first in [b'a', b'm'] {
            put(&fixture.rows, vec![first; len], len.to_string());
        }
    }
    block_on(fixture.db.checkpoint()).unwrap();
    let fixture = fixture.reopened();
    let rows = block_on(crate::fixture::rows_of(fixture.rows.iter())).unwrap();
    assert_eq!(rows.len(), 24);
    assert!(rows.is_sorted());
    for (key, value) in rows {
        assert_eq!(key.len().to_string().into_bytes(), value);
    }
    assert_sound(&fixture.db);
}

#[test]
fn a_large_value_overwritten_by_a_small_one_gives_its_space_back() {
    let Fixture { place: _place, db, rows } =
        Fixture::with(|options| options.memory_bytes(64 << 20));
    let round = |seed: u64| {
        put(&rows, "big", Rng::new(seed).bytes(3 << 20));
        put(&rows, "big", "small");
        block_on(db.checkpoint()).unwrap();
    };
    (0..4).for_each(round);
    let before = db.stat().file_bytes;
    (4..24).for_each(round);
    assert!(db.stat().file_bytes <= before + (6 << 20), "{before} → {}", db.stat().file_bytes);
    assert_sound(&db);
}
