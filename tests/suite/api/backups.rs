//! Backups: everything of one seq, restored whole or not at all.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream;
use ringdb::{Bytes, ColumnFamilyOptions, Db, Durability, ErrorKind};

use crate::fixture::{Fixture, Place, assert_sound, block_on, fails, family, get, put};
use crate::restores::{Content, chunks, content, streamed};
use crate::rng::Rng;

fn restored(chunks: Vec<Bytes>) -> (Place, Db) {
    let place = Place::new();
    block_on(place.restoring(place.options(), streamed(chunks))).expect("the backup is restored");
    let db = place.open();
    (place, db)
}

/// What a backup of the database holds, by way of another database.
fn copied(db: &Db) -> Content {
    let (_place, copy) = restored(chunks(db));
    let content = content(&copy).unwrap();
    assert_sound(&copy);
    block_on(copy.close()).unwrap();
    content
}

#[test]
fn every_row_comes_back_wherever_it_lay() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let mut rng = Rng::new(1);
    for n in 0..3000u32 {
        put(&rows, n.to_be_bytes(), rng.bytes(n as usize % 700));
    }
    block_on(db.checkpoint()).unwrap();
    for n in (0..3000u32).step_by(7) {
        block_on(rows.delete(n.to_be_bytes())).unwrap();
        put(&rows, [&n.to_be_bytes()[..], b"+"].concat(), rng.bytes(20));
    }
    block_on(rows.delete_range(100u32.to_be_bytes()..200u32.to_be_bytes())).unwrap();
    let sizes = [0, 1, 65_536, 65_537, 1 << 20, (1 << 20) + 1, (3 << 20) + 5];
    for (n, size) in sizes.into_iter().enumerate() {
        put(&rows, format!("sized {n}"), rng.bytes(size));
    }
    put(&rows, vec![0xFF; ringdb::KEY_BYTES_MAX], rng.bytes(65_536));
    family(&db, "empty");
    family(&db, "an ünïcode näme");
    assert_eq!(copied(&db), content(&db).unwrap());
}

#[test]
fn a_report_counts_what_was_restored() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "ada", "1815");
    let last = put(&rows, "alan", vec![7; 100_000]);
    let place = Place::new();
    let mut backup = db.backup();
    assert_eq!(backup.seq(), None);
    let head = block_on(backup.try_next()).unwrap().unwrap();
    assert_eq!(backup.seq(), Some(last));
    put(&rows, "late", "not in it");
    let mut all = vec![head];
    while let Some(chunk) = block_on(backup.try_next()).unwrap() {
        all.push(chunk);
    }
    let report = block_on(place.restoring(place.options(), streamed(all))).unwrap();
    assert_eq!((report.seq, report.families, report.rows), (last, 1, 2));
    assert_eq!(report.bytes, 3 + 4 + 4 + 100_000);
    let copy = place.open();
    assert_eq!(get(&family(&copy, "rows"), "late"), None);
}

#[test]
fn families_keep_their_options() {
    let Fixture { place: _place, db, .. } = Fixture::new();
    let unlogged = ColumnFamilyOptions::new().unlogged();
    let cache = block_on(db.create_column_family("cache", unlogged)).unwrap();
    put(&cache, "k", "v");
    let (_place, copy) = restored(chunks(&db));
    let logged = |db: &Db| -> Vec<_> {
        db.stat().families.iter().map(|family| (family.name.clone(), family.logged)).collect()
    };
    assert_eq!(logged(&copy), [("cache".into(), false), ("rows".into(), true)]);
    assert_eq!(get(&family(&copy, "cache"), "k"), Some(b"v".to_vec()));
}

#[test]
fn pieces_may_be_of_any_size() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "ada", vec![1; 70_000]);
    put(&rows, "alan", vec![2; 3000]);
    let whole = Bytes::from(chunks(&db).concat());
    for size in [1, 7, 4096, whole.len()] {
        let pieces = whole.chunks(size).map(|piece| whole.slice_ref(piece));
        let (_place, copy) = restored(pieces.collect());
        assert_eq!(content(&copy).unwrap(), content(&db).unwrap(), "{size}");
    }
}

#[test]
fn a_backup_beside_writers_is_of_one_seq() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let other = family(&db, "other");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Each writer moves a counter of its own in both families, in one batch.
        for writer in 0..3u32 {
            let (db, rows, other, stop) = (&db, rows.clone(), other.clone(), &stop);
            scope.spawn(move || {
                for n in 0u64.. {
                    let mut batch = db.batch();
                    batch.put(&rows, writer.to_be_bytes(), n.to_be_bytes());
                    batch.put(&other, writer.to_be_bytes(), n.to_be_bytes());
                    // The same rows again: a backup is not to take longer the faster they are.
                    let row = (n % 4096) << 8 | u64::from(writer);
                    batch.put(&rows, row.to_be_bytes(), vec![1; 300]);
                    batch.durability(Durability::Buffered);
                    block_on(batch.commit()).unwrap();
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        // And one changes the catalog: at each seq exactly one family has the name.
        let (db_, stop_) = (&db, &stop);
        scope.spawn(move || {
            family(db_, "named");
            while !stop_.load(Ordering::Relaxed) {
                block_on(db_.rename_column_family("named", "away")).unwrap();
                block_on(db_.create_column_family("named", ColumnFamilyOptions::new())).unwrap();
                block_on(db_.drop_column_family("away")).unwrap();
            }
        });
        for round in 0..6 {
            if round % 2 == 1 {
                block_on(db.checkpoint()).unwrap();
            }
            let before = db.snapshot();
            let found = copied(&db);
            for writer in 0..3u32 {
                let key = writer.to_be_bytes();
                let at = |name: &str| found[name].iter().find(|(found, _)| *found == key);
                assert_eq!(at("rows"), at("other"), "round {round}, writer {writer}");
                let known = block_on(before.get(&rows, key)).unwrap();
                assert!(known.as_deref() <= at("rows").map(|(_, value)| &value[..]));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_was_damaged_is_never_restored() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    for n in 0..50u32 {
        put(&rows, n.to_be_bytes(), vec![n as u8; 40]);
    }
    put(&rows, "large", vec![9; 70_000]);
    let whole = chunks(&db).concat();
    let mut rng = Rng::new(5);
    let damaged = |place: &Place, bytes: Vec<u8>| {
        let restored = block_on(place.restoring(place.options(), streamed(vec![bytes.into()])));
        fails(restored, ErrorKind::Corrupt);
        assert!(place.files().is_empty(), "{:?}", place.files());
    };
    let place = Place::new();
    for _ in 0..40 {
        let mut flipped = whole.clone();
        let at = rng.below(flipped.len());
        flipped[at] ^= 1 << rng.below(8);
        damaged(&place, flipped);
        damaged(&place, whole[..rng.below(whole.len())].to_vec());
    }
    damaged(&place, Vec::new());
    damaged(&place, [&whole[..], b"x"].concat());
    damaged(&place, whole.repeat(2));
    damaged(&place, std::fs::read(file!()).unwrap_or(b"no backup".repeat(9)));
}

#[test]
fn a_database_that_is_there_is_left_alone() {
    let Fixture { place, db, rows } = Fixture::new();
    put(&rows, "ada", "1815");
    let backup = chunks(&db);
    put(&rows, "ada", "later");
    let again = || block_on(place.restoring(place.options(), streamed(backup.clone())));
    fails(again(), ErrorKind::AlreadyExists);
    block_on(db.close()).unwrap();
    fails(again(), ErrorKind::AlreadyExists);
    drop((db, rows));
    assert_eq!(get(&family(&place.open(), "rows"), "ada"), Some(b"later".to_vec()));
    assert_eq!(place.files().len(), 1);
}

#[test]
fn an_error_of_the_source_is_passed_on() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "ada", "1815");
    let mut pieces: Vec<io::Result<Bytes>> = chunks(&db).into_iter().map(Ok).collect();
    pieces.insert(2, Err(io::Error::other("the tape broke")));
    let place = Place::new();
    let restored = block_on(place.restoring(place.options(), stream::iter(pieces)));
    let error = fails(restored, ErrorKind::Io);
    let cause = std::error::Error::source(&error).expect("it has a cause");
    assert_eq!(cause.to_string(), "the tape broke");
    assert!(place.files().is_empty());
}

#[test]
fn a_backup_of_a_closed_database_says_so() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "ada", vec![7; 100_000]);
    let mut backup = db.backup();
    block_on(backup.try_next()).unwrap();
    let late = db.backup();
    block_on(db.close()).unwrap();
    let place = Place::new();
    fails(block_on(place.restoring(place.options(), late)), ErrorKind::Closed);
    // One that had begun cannot go on either, and ends with its error.
    let told = loop {
        match block_on(backup.try_next()) {
            Ok(Some(_)) => {}
            told => break told,
        }
    };
    fails(told, ErrorKind::Closed);
    assert_eq!(block_on(backup.try_next()).unwrap(), None);
    assert!(place.files().is_empty());
}
