//! Column families: made, listed, renamed, dropped; handles that outlive them; thousands of them.

use futures::future::{join_all, try_join_all};
use ringdb::{ColumnFamilyOptions, ErrorKind};

use crate::fixture::{Fixture, assert_sound, block_on, fails, family, get, keys, put};

#[test]
fn families_are_key_spaces_of_their_own() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let other = family(&db, "other");
    put(&rows, "a", "1");
    assert_eq!(get(&other, "a"), None);
    put(&other, "a", "2");
    assert_eq!(get(&rows, "a").as_deref(), Some(&b"1"[..]));
    assert_eq!(db.column_families(), ["other", "rows"]);
    assert_eq!((rows.name(), other.name()), ("rows".into(), "other".into()));
}

#[test]
fn opening_a_family_twice_gives_the_same_rows() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "a", "1");
    assert_eq!(get(&family(&db, "rows"), "a").as_deref(), Some(&b"1"[..]));
    let existing = block_on(db.existing_column_family("rows")).unwrap();
    assert_eq!(get(&existing, "a").as_deref(), Some(&b"1"[..]));
}

#[test]
fn a_family_is_created_once_and_found_only_if_it_exists() {
    let Fixture { place: _place, db, .. } = Fixture::new();
    fails(block_on(db.existing_column_family("new")), ErrorKind::NotFound);
    block_on(db.create_column_family("new", ColumnFamilyOptions::new())).unwrap();
    let again = db.create_column_family("new", ColumnFamilyOptions::new());
    fails(block_on(again), ErrorKind::AlreadyExists);
    fails(block_on(db.drop_column_family("nothing")), ErrorKind::NotFound);
    fails(block_on(db.rename_column_family("nothing", "x")), ErrorKind::NotFound);
    fails(block_on(db.rename_column_family("new", "rows")), ErrorKind::AlreadyExists);
}

#[test]
fn one_of_many_creators_wins_and_the_others_open() {
    let Fixture { place: _place, db, .. } = Fixture::new();
    let create = || db.create_column_family("new", ColumnFamilyOptions::new());
    let outcomes = block_on(join_all((0..16).map(|_| create())));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let opened = block_on(try_join_all((0..16).map(|_| db.column_family("both")))).unwrap();
    put(&opened[0], "a", "1");
    assert!(opened.iter().all(|family| get(family, "a").is_some()));
}

#[test]
fn a_stale_handle_fails_even_after_a_new_family_takes_its_name() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "a", "old");
    block_on(db.drop_column_family("rows")).unwrap();
    assert!(db.column_families().is_empty());
    let check = || {
        fails(block_on(rows.put("a", "1")), ErrorKind::NotFound);
        fails(block_on(rows.delete("a")), ErrorKind::NotFound);
        fails(block_on(rows.get("a")), ErrorKind::NotFound);
        fails(block_on(rows.multi_get(["a"])), ErrorKind::NotFound);
        fails(block_on(rows.contains("a")), ErrorKind::NotFound);
        fails(block_on(rows.first()), ErrorKind::NotFound);
        fails(block_on(rows.len()), ErrorKind::NotFound);
        fails(block_on(rows.iter().try_next()), ErrorKind::NotFound);
    };
    check();
    let fresh = family(&db, "rows");
    check();
    assert_eq!(get(&fresh, "a"), None);
    put(&fresh, "a", "new");
    check();
    assert_eq!(get(&fresh, "a").as_deref(), Some(&b"new"[..]));
}

#[test]
fn a_renamed_family_keeps_its_rows_and_its_handles() {
    let fixture = Fixture::new();
    put(&fixture.rows, "a", "1");
    block_on(fixture.db.rename_column_family("rows", "renamed")).unwrap();
    assert_eq!(fixture.rows.name(), "renamed");
    put(&fixture.rows, "b", "2");
    assert_eq!(fixture.db.column_families(), ["renamed"]);
    fails(block_on(fixture.db.existing_column_family("rows")), ErrorKind::NotFound);
    let fixture = fixture.reopened();
    assert_eq!(fixture.db.column_families(), ["renamed", "rows"]);
    assert_eq!(keys(family(&fixture.db, "renamed").iter()), ["a", "b"]);
    assert_eq!(keys(fixture.rows.iter()), [""; 0]);
}

#[test]
fn families_survive_reopening_and_dropped_ones_do_not() {
    let fixture = Fixture::new();
    for name in ["a", "b", "c"] {
        put(&family(&fixture.db, name), "key", name);
    }
    block_on(fixture.db.checkpoint()).unwrap();
    block_on(fixture.db.drop_column_family("b")).unwrap();
    let fixture = fixture.reopened();
    assert_eq!(fixture.db.column_families(), ["a", "c", "rows"]);
    assert_eq!(get(&family(&fixture.db, "c"), "key").as_deref(), Some(&b"c"[..]));
    assert_eq!(get(&family(&fixture.db, "b"), "key"), None);
    assert_sound(&fixture.db);
}

#[test]
fn a_family_can_be_dropped_while_it_is_scanned() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    for n in 0..2000u32 {
        let buffered = rows.with_durability(ringdb::Durability::Buffered);
        block_on(buffered.put(n.to_be_bytes(), [7; 100])).unwrap();
    }
    block_on(db.checkpoint()).unwrap();
    let mut range = rows.iter();
    block_on(range.try_next()).unwrap().expect("there are rows");
    block_on(db.drop_column_family("rows")).unwrap();
    block_on(db.checkpoint()).unwrap();
    assert_eq!(block_on(crate::fixture::rows_of(range)).unwrap().len(), 1999);
    assert_sound(&db);
}

#[test]
fn dropping_and_recreating_a_family_does_not_grow_the_file() {
    let Fixture { place: _place, db, .. } = Fixture::new();
    let round = || {
        let family = family(&db, "again");
        let mut batch = db.batch();
        for n in 0..500u32 {
            batch.put(&family, n.to_be_bytes(), [1; 500]);
        }
        block_on(batch.commit()).unwrap();
        block_on(db.checkpoint()).unwrap();
        block_on(db.drop_column_family("again")).unwrap();
    };
    (0..8).for_each(|_| round());
    let before = db.stat().file_bytes;
    (0..24).for_each(|_| round());
    assert!(db.stat().file_bytes <= before + (2 << 20), "{before} → {}", db.stat().file_bytes);
    assert_sound(&db);
}

#[test]
fn thousands_of_families_share_one_file() {
    const FAMILIES: usize = 3000;
    let fixture = Fixture::with(|options| options.memory_bytes(64 << 20));
    let names: Vec<_> = (0..FAMILIES).map(|n| format!("family-{n:05}")).collect();
    let opened =
        block_on(try_join_all(names.iter().map(|name| fixture.db.column_family(name)))).unwrap();
    block_on(try_join_all(opened.iter().map(|family| family.put("name", family.name())))).unwrap();
    assert_eq!(fixture.db.column_families().len(), FAMILIES + 1);
    drop(opened);
    let fixture = fixture.reopened();
    assert_eq!(fixture.db.column_families().len(), FAMILIES + 1);
    for name in names.iter().step_by(97) {
        let family = block_on(fixture.db.existing_column_family(name)).unwrap();
        assert_eq!(get(&family, "name").as_deref(), Some(name.as_bytes()));
    }
    let mut batch = fixture.db.batch();
    for name in names.iter().step_by(3) {
        let family = block_on(fixture.db.existing_column_family(name)).unwrap();
        batch.put(&family, "touched", "by one batch");
    }
    block_on(batch.commit()).unwrap();
    assert_sound(&fixture.db);
}

#[test]
fn what_begins_behind_a_drop_finds_no_family_and_what_began_before_goes_on() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "a", "1");
    let (before, tx) = (db.snapshot(), block_on(db.begin()).unwrap());
    block_on(db.drop_column_family("rows")).unwrap();
    assert_eq!(keys(before.iter(&rows)), ["a"]);
    assert!(block_on(tx.contains(&rows, "a")).unwrap());
    let (snapshot, tx) = (db.snapshot(), block_on(db.begin()).unwrap());
    let refused = ErrorKind::NotFound;
    fails(block_on(snapshot.get(&rows, "a")), refused);
    fails(block_on(snapshot.get_with(&rows, "a", |value| value.is_some())), refused);
    fails(block_on(snapshot.contains(&rows, "a")), refused);
    fails(block_on(snapshot.multi_get(&rows, ["a"])), refused);
    fails(block_on(snapshot.iter(&rows).try_next()), refused);
    fails(block_on(tx.get(&rows, "a")), refused);
    fails(block_on(tx.range(&rows, "a"..).try_next()), refused);
    fails(block_on(rows.compare_and_swap("a", Some(b"not this"), Some(b"2"))), refused);
    // The same once its trees are gone.
    block_on(db.checkpoint()).unwrap();
    fails(block_on(snapshot.get(&rows, "a")), refused);
    fails(block_on(db.snapshot().get(&rows, "a")), refused);
    assert_eq!(keys(before.iter(&rows)), ["a"]);
}
