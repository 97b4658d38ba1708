//! One key read and written as one step; and reads that belong to another database.

use ringdb::{Durability, ErrorKind, KEY_BYTES_MAX};

use crate::fixture::{Fixture, block_on, fails, get, keys, put};

#[test]
fn a_swap_happens_only_over_the_expected_value() {
    let Fixture { place: _place, db: _db, rows } = Fixture::new();
    // What is there, what is expected, what is to be there, and what is there then.
    type Row = Option<&'static [u8]>;
    let swaps: [(Row, Row, Row, Row); 8] = [
        (None, None, Some(b"new"), Some(b"new")),
        (None, None, None, None),
        (None, Some(b"old"), Some(b"new"), None),
        (None, Some(b""), Some(b"new"), None),
        (Some(b"old"), Some(b"old"), Some(b"new"), Some(b"new")),
        (Some(b"old"), Some(b"old"), None, None),
        (Some(b"old"), None, Some(b"new"), Some(b"old")),
        (Some(b""), Some(b""), Some(b"new"), Some(b"new")),
    ];
    for (before, expected, new, after) in swaps {
        match before {
            Some(value) => drop(put(&rows, "key", value)),
            None => drop(block_on(rows.delete("key")).unwrap()),
        }
        let swapped = block_on(rows.compare_and_swap("key", expected, new)).unwrap();
        match swapped {
            Ok(()) => assert_eq!(before, expected),
            Err(current) => {
                assert_ne!(before, expected);
                assert_eq!(current.as_deref(), before);
            }
        }
        assert_eq!(get(&rows, "key").as_deref(), after, "{before:?} {expected:?} {new:?}");
    }
}

#[test]
fn an_update_gives_the_value_before() {
    let Fixture { place: _place, db: _db, rows } = Fixture::new();
    let append = |byte: u8| {
        move |old: Option<&[u8]>| {
            let mut new = old.unwrap_or_default().to_vec();
            new.push(byte);
            Some(new)
        }
    };
    assert_eq!(block_on(rows.fetch_update("key", append(1))).unwrap(), None);
    let before = block_on(rows.fetch_update("key", append(2))).unwrap();
    assert_eq!(before.as_deref(), Some(&[1][..]));
    let before = block_on(rows.fetch_update("key", |_| None::<Vec<u8>>)).unwrap();
    assert_eq!(before.as_deref(), Some(&[1, 2][..]));
    assert_eq!(get(&rows, "key"), None);
}

#[test]
fn updates_of_one_key_from_many_threads_lose_none() {
    const THREADS: u32 = 4;
    const UPDATES: u32 = 50;
    let Fixture { place: _place, db: _db, rows } = Fixture::new();
    let rows = rows.with_durability(Durability::Buffered);
    let number = |value: &[u8]| u32::from_le_bytes(value.try_into().expect("it has four bytes"));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut done = 0;
                while done < UPDATES {
                    let next =
                        move |old: Option<&[u8]>| Some((old.map_or(0, number) + 1).to_le_bytes());
                    match block_on(rows.fetch_update("count", next)) {
                        Ok(_) => done += 1,
                        // On a loaded machine one thread may lose every attempt.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
                    }
                }
            });
        }
    });
    assert_eq!(get(&rows, "count").as_deref().map(number), Some(THREADS * UPDATES));
}

/// The batch is ordered long before it is applied; meanwhile every attempt at its key is a conflict.
#[test]
fn an_update_outlasts_a_commit_that_is_long_in_being_applied() {
    const BATCHES: u32 = 8;
    let Fixture { place: _place, db, rows } = Fixture::new();
    std::thread::scope(|scope| {
        let batches = scope.spawn(|| {
            for round in 0..BATCHES {
                let mut batch = db.batch();
                for number in 0..20_000_u32 {
                    batch.put(&rows, number.to_be_bytes(), b"row");
                }
                batch.put(&rows, "key", round.to_le_bytes());
                batch.commit().wait().unwrap();
            }
        });
        while !batches.is_finished() {
            let same = |old: Option<&[u8]>| old.map(<[u8]>::to_vec);
            block_on(rows.fetch_update("key", same)).unwrap();
        }
    });
    assert_eq!(get(&rows, "key"), Some((BATCHES - 1).to_le_bytes().to_vec()));
}

#[test]
fn swaps_and_updates_with_bad_keys_are_refused() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let long = vec![b'k'; KEY_BYTES_MAX + 1];
    fails(block_on(rows.compare_and_swap("", None, Some(b"v"))), ErrorKind::InvalidArgument);
    fails(block_on(rows.compare_and_swap(&long, None, Some(b"v"))), ErrorKind::TooLarge);
    fails(block_on(rows.fetch_update("", |_| Some("v"))), ErrorKind::InvalidArgument);
    block_on(db.drop_column_family("rows")).unwrap();
    fails(block_on(rows.fetch_update("key", |_| Some("v"))), ErrorKind::NotFound);
}

#[test]
fn reads_of_a_family_of_another_database_are_refused() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let stranger = Fixture::new();
    put(&rows, "a", "ours");
    put(&stranger.rows, "a", "theirs");
    let (snapshot, tx) = (db.snapshot(), block_on(db.begin()).unwrap());
    let theirs = &stranger.rows;
    let refused = ErrorKind::InvalidArgument;
    fails(block_on(snapshot.get(theirs, "a")), refused);
    fails(block_on(snapshot.contains(theirs, "a")), refused);
    fails(block_on(snapshot.multi_get(theirs, ["a"])), refused);
    fails(block_on(snapshot.iter(theirs).try_next()), refused);
    fails(block_on(snapshot.prefix(theirs, "a").try_next()), refused);
    fails(block_on(tx.get(theirs, "a")), refused);
    fails(block_on(tx.contains(theirs, "a")), refused);
    fails(block_on(tx.range(theirs, "a"..).try_next()), refused);
    // Also where the two families have the same id and the transaction wrote to its own.
    tx.put(&rows, "a", "new");
    fails(block_on(tx.get(theirs, "a")), refused);
    assert_eq!(keys(snapshot.iter(&rows)), ["a"]);
    block_on(tx.commit()).unwrap();
}
