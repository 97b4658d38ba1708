//! Opening, closing, families, checkpoints and other waits.

use std::cell::RefCell;
use std::thread::JoinHandle;

use ringdb::{Db, Durability, ErrorKind};

use crate::cancel::{every_k, well};
use crate::fixture::{Fixture, Place, assert_sound, block_on, family, get, put};

#[test]
fn an_opening_that_is_dropped_leaves_a_database_that_opens() {
    let place = Place::new();
    every_k(
        "Open",
        |_| place.opening(place.options()),
        |polls, db| {
            well(db);
            let db = place.open();
            put(&family(&db, "rows"), "polls", polls.to_le_bytes());
            assert_sound(&db);
            block_on(db.close()).unwrap();
        },
    );
}

#[test]
fn a_first_opening_that_is_dropped_leaves_nothing_or_a_database() {
    every_k(
        "Open of a new file",
        |_| {
            let place = Place::new();
            let opening = place.opening(place.options());
            // The place goes with the future: what was left there is looked at inside.
            async move { (opening.await, place).0 }
        },
        |_, db| well(db),
    );
    let mut place = Place::new();
    every_k(
        "Open of a new file, then again",
        |_| {
            place = Place::new();
            place.opening(place.options())
        },
        |_, db| well(db),
    );
    assert_sound(&place.open());
}

#[test]
fn family_changes_that_are_dropped_happen_or_do_not() {
    let Fixture { place: _place, db, .. } = Fixture::new();
    let usable = |name: &str| put(&family(&db, name), "a", "1");
    every_k(
        "column_family",
        |n| db.column_family(format!("f {n}")),
        |n, made| {
            well(made);
            usable(&format!("f {n}"));
        },
    );
    every_k(
        "existing",
        |_| db.existing_column_family("f 0"),
        |_, found| {
            well(found);
        },
    );
    every_k(
        "drop",
        |n| {
            usable(&format!("d {n}"));
            db.drop_column_family(format!("d {n}"))
        },
        |n, done| {
            well(done);
            usable(&format!("d {n}"));
        },
    );
    every_k(
        "rename",
        |n| {
            usable(&format!("from {n}"));
            db.rename_column_family(format!("from {n}"), format!("to {n}"))
        },
        |n, done| {
            well(done);
            usable(&format!("from {n}"));
            usable(&format!("to {n}"));
        },
    );
    block_on(db.checkpoint()).unwrap();
    assert_sound(&db);
}

#[test]
fn waits_that_are_dropped_hurt_nobody() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let mut n = 0u32;
    let mut some = || {
        n += 1;
        put(&rows, n.to_be_bytes(), vec![1; 5000])
    };
    for _ in 0..10 {
        every_k(
            "checkpoint",
            |_| {
                some();
                db.checkpoint()
            },
            |_, done| well(done),
        );
    }
    every_k(
        "compact",
        |_| {
            some();
            db.compact()
        },
        |_, done| well(done),
    );
    every_k("sync", |_| db.sync(), |_, done| well(done));
    every_k(
        "visible",
        |_| {
            let mut batch = db.batch();
            batch.put(&rows, "n", "x");
            block_on(batch.submit()).unwrap().visible()
        },
        |_, done| well(done),
    );
    every_k(
        "durable",
        |_| {
            let mut batch = db.batch();
            batch.put(&rows, "n", "x").durability(Durability::Buffered);
            db.durable(block_on(batch.submit()).unwrap().seq())
        },
        |_, done| well(done),
    );
    every_k(
        "check",
        |_| db.check(),
        |_, report| {
            assert!(report.is_none_or(|report| report.unwrap().defects.is_empty()));
        },
    );
    block_on(db.checkpoint()).unwrap();
    assert_sound(&db);
}

#[test]
fn a_wait_for_other_health_that_is_dropped_hurts_nobody() {
    let held: RefCell<Option<JoinHandle<()>>> = RefCell::new(None);
    every_k(
        "health_changed",
        |_| {
            let place = Place::new();
            let db = place.open();
            let changed = db.health_changed(&db.health());
            let closes = move || {
                block_on(db.close()).unwrap();
                drop(place);
            };
            *held.borrow_mut() = Some(std::thread::spawn(closes));
            changed
        },
        |_, health| {
            assert!(health.is_none_or(|health| health.writes.is_err()));
            held.take().expect("somebody closes").join().expect("it was closed");
        },
    );
}

#[test]
fn a_close_that_is_dropped_can_be_closed_again() {
    let held: RefCell<Option<(Place, Db)>> = RefCell::new(None);
    every_k(
        "close",
        |_| {
            let place = Place::new();
            let db = place.open();
            put(&family(&db, "rows"), "a", "1");
            let close = db.close();
            *held.borrow_mut() = Some((place, db));
            close
        },
        |_, done| {
            well(done);
            let (place, db) = held.take().expect("it was opened");
            // Dropped, closing may have gone on.
            if let Err(error) = block_on(db.close()) {
                assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
            }
            drop(db);
            let db = place.open();
            assert!(get(&family(&db, "rows"), "a").is_some());
            assert_sound(&db);
        },
    );
}
