//! Opening, creating, locking and closing.

use std::collections::BTreeMap;
use std::fs;

use ringdb::{BackendKind, Create, Db, Durability, ErrorKind, Options};

use crate::fixture::{
    Fixture, Kind, Place, assert_sound, block_on, fails, family, get, put, rows_of,
};

#[test]
fn a_missing_file_is_not_found_unless_it_may_be_created() {
    let place = Place::new();
    let never = || place.options().create(Create::Never);
    fails(place.open_with(never()), ErrorKind::NotFound);
    let db = place.open_with(place.options().create(Create::Always)).unwrap();
    block_on(db.close()).unwrap();
    drop(db);
    let always = place.options().create(Create::Always);
    fails(place.open_with(always), ErrorKind::AlreadyExists);
    place.open_with(never()).unwrap();
}

#[test]
fn a_second_opener_is_told_that_the_file_is_locked() {
    let Fixture { place, db, rows } = Fixture::new();
    fails(place.open_with(place.options()), ErrorKind::Locked);
    put(&rows, "a", "still works");
    block_on(db.close()).unwrap();
    let db = place.open();
    assert!(get(&family(&db, "rows"), "a").is_some());
}

#[cfg(unix)]
#[test]
fn hard_links_and_symlinks_meet_the_same_lock() {
    let place = Place::of(Kind::Auto);
    let db = place.open();
    let beside = |name: &str| place.path().with_file_name(name);
    fs::hard_link(place.path(), beside("hard.ring")).unwrap();
    std::os::unix::fs::symlink(place.path(), beside("soft.ring")).unwrap();
    for name in ["hard.ring", "soft.ring"] {
        fails(block_on(Db::open(beside(name))), ErrorKind::Locked);
    }
    block_on(db.close()).unwrap();
    block_on(Db::open(beside("hard.ring"))).unwrap();
}

#[test]
fn an_open_waits_for_a_dropped_database_to_finish() {
    let place = Place::new();
    for n in 0..20u32 {
        let db = place.open();
        let rows = family(&db, "rows");
        if n > 0 {
            assert_eq!(get(&rows, "n"), Some((n - 1).to_be_bytes().to_vec()));
        }
        put(&rows, "n", n.to_be_bytes());
    }
}

#[test]
fn everything_is_refused_after_close() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "a", "1");
    block_on(db.close()).unwrap();
    fails(block_on(rows.get("a")), ErrorKind::Closed);
    fails(block_on(rows.get_with("a", |value| value.is_some())), ErrorKind::Closed);
    fails(block_on(rows.contains("a")), ErrorKind::Closed);
    fails(block_on(rows.multi_get(["a", "b"])), ErrorKind::Closed);
    fails(block_on(rows.iter().try_next()), ErrorKind::Closed);
    fails(block_on(rows.put("a", "2")), ErrorKind::Closed);
    fails(block_on(rows.delete("a")), ErrorKind::Closed);
    fails(block_on(db.batch().put(&rows, "a", "2").commit()), ErrorKind::Closed);
    fails(block_on(db.begin()), ErrorKind::Closed);
    fails(block_on(rows.compare_and_swap("a", Some(b"not this"), Some(b"2"))), ErrorKind::Closed);
    let (mut empty, mut full) = (db.batch(), db.batch());
    full.put(&rows, "a", "2");
    for _ in 0..2 {
        // Nothing was taken out, so nothing was lost.
        fails(empty.try_submit(), ErrorKind::Closed);
        fails(full.try_submit(), ErrorKind::Closed);
    }
    fails(block_on(db.column_family("new")), ErrorKind::Closed);
    fails(block_on(db.drop_column_family("rows")), ErrorKind::Closed);
    fails(block_on(db.checkpoint()), ErrorKind::Closed);
    fails(block_on(db.sync()), ErrorKind::Closed);
    fails(db.health().reads, ErrorKind::Closed);
    fails(db.health().writes, ErrorKind::Closed);
    if let Err(error) = block_on(db.close()) {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
    }
}

#[test]
fn close_lets_the_commits_in_flight_finish() {
    let Fixture { place, db, rows } = Fixture::new();
    let mut commits = Vec::new();
    for n in 0..100u32 {
        let mut batch = db.batch();
        batch.put(&rows, n.to_be_bytes(), "x");
        commits.push(block_on(batch.submit()).unwrap());
    }
    block_on(db.close()).unwrap();
    for commit in commits {
        commit.wait().unwrap();
    }
    let db = place.open();
    assert_eq!(block_on(family(&db, "rows").len()).unwrap(), 100);
}

#[test]
fn a_clean_close_leaves_nothing_to_replay() {
    let fixture = Fixture::new();
    for n in 0..100u32 {
        put(&fixture.rows, n.to_be_bytes(), "x");
    }
    let fixture = fixture.reopened();
    assert_eq!(fixture.db.recovery().commits, 0, "{:?}", fixture.db.recovery());
}

#[test]
fn a_drop_without_close_loses_nothing_that_was_acknowledged() {
    let Fixture { place, db, rows } = Fixture::new();
    for n in 0..300u32 {
        put(&rows, n.to_be_bytes(), "x");
    }
    drop((db, rows));
    let db = place.open();
    assert_eq!(block_on(family(&db, "rows").len()).unwrap(), 300);
    assert_sound(&db);
}

#[test]
fn rows_that_were_replayed_change_like_others() {
    let Fixture { place, db, rows } = Fixture::with(|options| options.segment_bytes_max(256 << 10));
    // Little else is in the log: rows stay where they were read.
    let (key, value) =
        (|n: u32| n.wrapping_mul(0x9E37_79B1).to_be_bytes(), |n: u32| [n as u8; 400]);
    let mut expected = BTreeMap::new();
    for first in (0..6000u32).step_by(50) {
        let mut batch = db.batch();
        for n in first..first + 50 {
            batch.put(&rows, key(n), value(n));
            expected.insert(key(n).to_vec(), value(n).to_vec());
        }
        block_on(batch.commit()).unwrap();
    }
    drop((db, rows));
    let db = place.open();
    assert!(db.recovery().commits >= 120, "{:?}", db.recovery());
    let mut fixture = Fixture { rows: family(&db, "rows"), db, place };
    for _ in 0..2 {
        let Fixture { db, rows, .. } = &fixture;
        assert!(block_on(rows_of(rows.iter())).unwrap().into_iter().eq(expected.clone()));
        let before = db.snapshot();
        for n in 0..6000 {
            let other = (n % 4 == 1).then(|| value(n + 1));
            let mut batch = db.batch();
            match (n % 4, &other) {
                (0, _) => batch.delete(rows, key(n)),
                (_, Some(other)) => batch.put(rows, key(n), other),
                (2, None) => batch.put(rows, key(n + 10_000), b"new"),
                _ => continue,
            };
            batch.durability(Durability::Buffered);
            block_on(batch.commit()).unwrap();
        }
        assert!(block_on(rows_of(before.iter(rows))).unwrap().into_iter().eq(expected.clone()));
        drop(before);
        for n in 0..6000 {
            match n % 4 {
                0 => drop(expected.remove(&key(n)[..])),
                1 => drop(expected.insert(key(n).to_vec(), value(n + 1).to_vec())),
                2 => drop(expected.insert(key(n + 10_000).to_vec(), b"new".to_vec())),
                _ => {}
            }
        }
        assert!(block_on(rows_of(rows.iter())).unwrap().into_iter().eq(expected.clone()));
        block_on(db.checkpoint()).unwrap();
        fixture = fixture.reopened();
    }
    assert!(block_on(rows_of(fixture.rows.iter())).unwrap().into_iter().eq(expected));
    assert_sound(&fixture.db);
}

#[test]
fn a_new_database_is_small() {
    let Fixture { db, rows, place } = Fixture::new();
    put(&rows, "a", "1");
    block_on(db.close()).unwrap();
    assert!(db.stat().file_bytes < 2 << 20, "{:?}", db.stat());
    if let Ok(metadata) = fs::metadata(place.path()) {
        assert!(metadata.len() < 2 << 20, "{} bytes", metadata.len());
    }
}

#[cfg(unix)]
#[test]
fn the_file_is_readable_by_its_owner_only_and_nothing_lies_beside_it() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::of(Kind::Auto);
    let db = place.open();
    let mode = fs::metadata(place.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let directory = place.path().parent().unwrap().to_owned();
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1);
    drop(db);
}

#[test]
fn what_is_not_our_file_is_refused_and_left_alone() {
    let check = |contents: &[u8]| {
        let place = Place::of(Kind::Auto);
        fs::write(place.path(), contents).unwrap();
        let error = block_on(place.options().open(place.path())).err();
        let error = error.unwrap_or_else(|| panic!("{} bytes were opened", contents.len()));
        let kind = error.kind();
        let typed = [ErrorKind::Corrupt, ErrorKind::Version, ErrorKind::Unsupported];
        assert!(typed.contains(&kind), "{} bytes: {error:?}", contents.len());
        assert!(fs::read(place.path()).unwrap() == contents, "the file was changed");
    };
    check(b"");
    check(b"#!/bin/sh\n");
    check(&[0; 4096]);
    check(&vec![0; 3 << 20]);
    check(&vec![0xff; 1 << 20]);
    check(&crate::rng::Rng::new(1).bytes(1 << 20));
}

#[test]
fn a_truncated_file_is_an_error_and_an_extended_one_is_not_wrong() {
    let place = Place::of(Kind::Auto);
    let db = place.open();
    let rows = family(&db, "rows");
    for n in 0..2000u32 {
        let buffered = rows.with_durability(ringdb::Durability::Buffered);
        block_on(buffered.put(n.to_be_bytes(), [9; 500])).unwrap();
    }
    block_on(db.close()).unwrap();
    drop((db, rows));
    let whole = fs::read(place.path()).unwrap();
    for len in [whole.len() / 2, 8192, 4096, 4095, 512, 1] {
        fs::write(place.path(), &whole[..len]).unwrap();
        match block_on(place.options().open(place.path())) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{len}: {error:?}"),
            Ok(db) => {
                let rows = family(&db, "rows");
                fails(block_on(rows.len()), ErrorKind::Corrupt);
            }
        }
    }
    let mut extended = whole;
    extended.extend_from_slice(&[0xaa; 100_000]);
    fs::write(place.path(), &extended).unwrap();
    let db = place.open();
    assert_eq!(block_on(family(&db, "rows").len()).unwrap(), 2000);
    assert_sound(&db);
}

#[test]
fn impossible_places_get_typed_errors_that_say_where_only_to_the_operator() {
    let place = Place::of(Kind::Auto);
    let missing_parent = place.path().join("nowhere").join("test.ring");
    fs::write(place.path(), "a file, not a directory").unwrap();
    let error = block_on(Db::open(&missing_parent)).expect_err("there is no such directory");
    assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Io), "{error:?}");
    let directory = place.path().parent().unwrap().to_owned();
    let error = block_on(Db::open(&directory)).expect_err("a directory is no database");
    let path = directory.display().to_string();
    assert!(!error.to_string().contains(&path), "Display is fit for a client: {error}");
    assert!(format!("{error:?}").contains(&path), "Debug tells the operator: {error:?}");
}

#[test]
fn a_database_in_memory_needs_no_file() {
    let db = block_on(Db::in_memory()).unwrap();
    let rows = family(&db, "rows");
    for n in 0..1000u32 {
        put(&rows, n.to_be_bytes(), "x");
    }
    block_on(db.checkpoint()).unwrap();
    assert_eq!(block_on(rows.len()).unwrap(), 1000);
    assert_eq!(db.backend().kind, BackendKind::Sim);
    assert_sound(&db);
    let other = block_on(Db::in_memory()).unwrap();
    assert!(other.column_families().is_empty(), "each is a database of its own");
    block_on(db.close()).unwrap();
}

#[test]
fn the_backend_is_the_one_of_this_run_and_says_why() {
    let Fixture { place: _place, db, .. } = Fixture::new();
    let report = db.backend();
    match Kind::of_this_run() {
        Kind::Auto => assert!(report.kind != BackendKind::Sim),
        Kind::Uring => assert_eq!(report.kind, BackendKind::Uring),
        Kind::Pwrite => assert_eq!(report.kind, BackendKind::Pwrite),
        Kind::Sim => assert_eq!(report.kind, BackendKind::Sim),
    }
    let measured = report.sync_method.contains("measured");
    assert_eq!(
        measured,
        report.kind != BackendKind::Sim && cfg!(target_os = "linux"),
        "{report:?}"
    );
    assert!(!report.reason.is_empty() && !report.sync_method.is_empty(), "{report:?}");
}

#[test]
fn files_of_one_backend_open_on_the_other() {
    let place = Place::of(Kind::Auto);
    let first = block_on(place.options().open(place.path())).unwrap();
    let kind = first.backend().kind;
    put(&family(&first, "rows"), "n", "auto");
    block_on(first.close()).unwrap();
    let pwrite = || Options::new().backend(ringdb::Backend::Pwrite);
    let second = block_on(pwrite().open(place.path())).unwrap();
    assert_eq!(second.backend().kind, BackendKind::Pwrite);
    assert_eq!(get(&family(&second, "rows"), "n").as_deref(), Some(&b"auto"[..]));
    put(&family(&second, "rows"), "n", "pwrite");
    block_on(second.close()).unwrap();
    let third = block_on(place.options().open(place.path())).unwrap();
    assert_eq!(third.backend().kind, kind);
    assert_eq!(get(&family(&third, "rows"), "n").as_deref(), Some(&b"pwrite"[..]));
    assert_sound(&third);
}

#[test]
fn seqs_are_never_reused_across_openings() {
    let mut fixture = Fixture::new();
    let mut last = put(&fixture.rows, "a", "0");
    for n in 0..5u32 {
        fixture = fixture.reopened();
        let seq = put(&fixture.rows, "a", n.to_be_bytes());
        assert!(seq > last, "{seq:?} after {last:?}");
        last = seq;
    }
}
