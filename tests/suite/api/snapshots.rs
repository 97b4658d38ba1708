//! Snapshots: repeatable, unmoved by later writes, bounded.

use std::ops::ControlFlow;
use std::time::Duration;

use futures::FutureExt;
use ringdb::ErrorKind;

use crate::fixture::{Fixture, assert_sound, block_on, fails, family, keys, put};
use crate::rng::Rng;

#[test]
fn a_snapshot_is_not_moved_by_later_writes() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "a", "1");
    put(&rows, "b", "1");
    let snapshot = db.snapshot();
    put(&rows, "a", "2");
    put(&rows, "c", "1");
    block_on(rows.delete("b")).unwrap();
    for _ in 0..2 {
        let value = block_on(snapshot.get(&rows, "a")).unwrap().expect("it was put before");
        assert_eq!(&*value, b"1");
        assert!(block_on(snapshot.get(&rows, "c")).unwrap().is_none());
        assert_eq!(keys(snapshot.iter(&rows)), ["a", "b"]);
        assert_eq!(keys(snapshot.range(&rows, "b"..).rev()), ["b"]);
        block_on(db.checkpoint()).unwrap();
    }
    assert_eq!(keys(rows.iter()), ["a", "c"]);
    drop(snapshot);
    assert_sound(&db);
}

#[test]
fn a_snapshot_is_not_moved_by_a_range_delete() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    for key in ["a", "b", "c"] {
        put(&rows, key, "1");
    }
    let snapshot = db.snapshot();
    let mut batch = db.batch();
    batch.delete_range(&rows, "a".."c");
    block_on(batch.commit()).unwrap();
    put(&rows, "b", "new");
    assert_eq!(keys(snapshot.iter(&rows)), ["a", "b", "c"]);
    assert_eq!(keys(rows.iter()), ["b", "c"]);
    block_on(db.checkpoint()).unwrap();
    assert_eq!(keys(snapshot.iter(&rows)), ["a", "b", "c"]);
    assert_eq!(keys(rows.iter()), ["b", "c"]);
}

#[test]
fn a_snapshot_sees_several_families_at_one_seq() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let other = family(&db, "other");
    let mut batch = db.batch();
    batch.put(&rows, "n", "1").put(&other, "n", "1");
    let seq = block_on(batch.commit()).unwrap();
    let snapshot = db.snapshot();
    assert!(snapshot.seq() >= seq);
    batch.put(&rows, "n", "2").put(&other, "n", "2");
    block_on(batch.commit()).unwrap();
    for family in [&rows, &other] {
        let value = block_on(snapshot.get(family, "n")).unwrap().expect("both were put");
        assert_eq!(&*value, b"1");
    }
}

#[test]
fn each_of_many_snapshots_keeps_its_own_version() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let snapshots: Vec<_> = (0..40u32)
        .map(|n| {
            put(&rows, "key", n.to_be_bytes());
            if n % 7 == 0 {
                block_on(db.checkpoint()).unwrap();
            }
            db.snapshot()
        })
        .collect();
    for (n, snapshot) in (0u32..).zip(&snapshots) {
        let value = block_on(snapshot.get(&rows, "key")).unwrap().expect("it was put");
        assert_eq!(*value, n.to_be_bytes());
    }
}

#[test]
fn a_snapshot_keeps_reading_a_dropped_family() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "a", "1");
    block_on(db.checkpoint()).unwrap();
    let snapshot = db.snapshot();
    let range = snapshot.iter(&rows);
    block_on(db.drop_column_family("rows")).unwrap();
    block_on(db.checkpoint()).unwrap();
    assert_eq!(keys(range), ["a"]);
    drop(snapshot);
    assert_sound(&db);
}

#[test]
fn a_closure_that_looks_at_a_snapshot_holds_nobody_up() {
    let Fixture { place: _place, db, rows } =
        Fixture::with(|options| options.snapshot_pinned_bytes_max(1));
    put(&rows, "a", "first");
    let snapshot = db.snapshot();
    let look = |value: Option<&[u8]>| {
        assert_eq!(value, Some(&b"first"[..]));
        let expire = || {
            for round in 0..3 {
                put(&rows, "a", Rng::new(round).bytes(50_000));
                block_on(db.checkpoint()).unwrap();
            }
            // The bound is looked at when the checkpointer is done with a command.
            assert_sound(&db);
        };
        std::thread::scope(|scope| scope.spawn(expire).join().unwrap());
        let again = snapshot.get(&rows, "a").now_or_never().expect("memory has it");
        again.unwrap().map(|value| value.to_vec())
    };
    assert_eq!(
        block_on(snapshot.get_with(&rows, "a", look)).unwrap().as_deref(),
        Some(&b"first"[..])
    );
    block_on(db.checkpoint()).unwrap();
    assert_sound(&db);
    fails(block_on(snapshot.get(&rows, "a")), ErrorKind::SnapshotExpired);
}

/// Rounds of overwriting after which a snapshot that may pin 1 MiB must be gone.
const ROUNDS_MAX: u64 = 64;

#[test]
fn a_snapshot_that_pins_too_much_expires_and_the_writers_go_on() {
    let Fixture { place: _place, db, rows } =
        Fixture::with(|options| options.memory_bytes(8 << 20).snapshot_pinned_bytes_max(1 << 20));
    put(&rows, "a", "first");
    let snapshot = db.snapshot();
    let expired = (0..ROUNDS_MAX).any(|round| {
        let mut batch = db.batch();
        for n in 0..500u32 {
            batch.put(&rows, n.to_be_bytes(), Rng::new(round).bytes(1000));
        }
        block_on(batch.commit()).unwrap();
        block_on(db.checkpoint()).unwrap();
        match block_on(snapshot.get(&rows, "a")) {
            Ok(value) => {
                assert_eq!(value.as_deref(), Some(&b"first"[..]));
                false
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::SnapshotExpired, "{error:?}");
                true
            }
        }
    });
    assert!(expired, "{ROUNDS_MAX} rounds of 500 KB are pinned beyond 1 MiB");
    put(&rows, "a", "second");
    assert_sound(&db);
}

#[test]
fn a_scan_that_is_looked_at_whenever_it_is_found_too_old_ends() {
    const ROWS: u32 = 10_000;
    let Fixture { place: _place, db, rows } =
        Fixture::with(|options| options.memory_bytes(64 << 20).snapshot_age_max(Duration::ZERO));
    let mut batch = db.batch();
    for n in 0..ROWS {
        batch.put(&rows, n.to_be_bytes(), "old");
    }
    block_on(batch.commit()).unwrap();
    block_on(db.checkpoint()).unwrap();
    // Into memory, so that the scan need not wait for anything.
    for n in 0..ROWS {
        assert!(block_on(rows.contains(n.to_be_bytes())).unwrap());
    }
    let ended_in_time = || {
        let snapshot = db.snapshot();
        let mut shown = 0;
        let range = snapshot.iter(&rows);
        let scanned = block_on(range.for_each_with(|key, _| {
            assert_eq!(key, u32::to_be_bytes(shown));
            shown += 1;
            if shown == 100 {
                // Behind a checkpoint snapshots are looked through, and then comes the next one.
                block_on(db.checkpoint()).unwrap();
                block_on(db.checkpoint()).unwrap();
            }
            ControlFlow::<()>::Continue(())
        }));
        fails(scanned, ErrorKind::SnapshotExpired);
        let read = block_on(snapshot.get(&rows, 1u32.to_be_bytes()));
        fails(read, ErrorKind::SnapshotExpired);
        (100..ROWS).contains(&shown)
    };
    // The checkpoint before may still look for old ones when the snapshot is made.
    assert!((0..100).any(|_| ended_in_time()));
}
