//! Puts, batches, commits and transactions: whole or not at all.

use std::cell::Cell;
use std::pin::Pin;

use futures::FutureExt;
use futures::future::join_all;
use ringdb::sim::{Choice, Disk};
use ringdb::{
    ColumnFamily, ColumnFamilyOptions, Db, Durability, Error, ErrorKind, Options, Submit,
};

use crate::cancel::{assert_whole, every_k, well};
use crate::fixture::{Fixture, Watchdog, assert_sound, block_on, family, get, put, rows_of};
use crate::rng::Rng;
use crate::workload::options;

#[test]
fn writes_that_are_dropped_happen_whole_or_not_at_all() {
    let fixture = Fixture::new();
    let other = family(&fixture.db, "other");
    let check = |durability, prefix: &'static str| {
        let mut batch = fixture.db.batch();
        let name = |polls: usize| format!("{prefix} {polls}");
        every_k(
            "batch.commit",
            |polls| {
                batch.put(&fixture.rows, name(polls), "1").put(&other, name(polls), "1");
                batch.durability(durability);
                batch.commit()
            },
            |polls, output| {
                let outcome = output.map(|seq| seq.unwrap());
                if polls == 0 || outcome.is_some() {
                    let expected = outcome.is_some();
                    assert_eq!(get(&fixture.rows, name(polls)).is_some(), expected);
                    assert_eq!(get(&other, name(polls)).is_some(), expected);
                }
            },
        );
    };
    for (durability, prefix) in [(Durability::Immediate, "i"), (Durability::Buffered, "b")] {
        (0..20).for_each(|_| check(durability, prefix));
    }
    drop(other);
    let fixture = fixture.reopened();
    assert_whole(&fixture.rows, &family(&fixture.db, "other"));
    assert_sound(&fixture.db);
}

#[test]
fn single_writes_that_are_dropped_hurt_nobody() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "kept", "1");
    let value = vec![3; 300_000];
    every_k("put", |n| rows.put(n.to_le_bytes(), "x"), |_, seq| well(seq));
    every_k(
        "put large",
        |n| rows.put(n.to_le_bytes(), &value),
        |_, seq| {
            well(seq);
        },
    );
    every_k("delete", |_| rows.delete("gone"), |_, seq| well(seq));
    put(&rows, "after", "1");
    block_on(db.checkpoint()).unwrap();
    assert_sound(&db);
    assert!(get(&rows, "kept").is_some());
}

#[test]
fn commits_that_are_dropped_after_submit_happen() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let last = Cell::new(None);
    every_k(
        "Commit",
        |polls| {
            let mut batch = db.batch();
            let commit = block_on(batch.put(&rows, polls.to_le_bytes(), "x").submit()).unwrap();
            last.set(Some(commit.seq()));
            commit
        },
        |polls, output| {
            well(output);
            block_on(db.durable(last.get().expect("it was submitted"))).unwrap();
            assert!(get(&rows, polls.to_le_bytes()).is_some(), "ordered: it will happen");
        },
    );
}

#[test]
fn a_dropped_wait_for_room_did_nothing_and_gives_its_turn_away() {
    let (disk, db, rows) = small();
    let value = vec![7; 32 << 10];
    let watchdog = Watchdog::new("Submit");
    for round in 0..6usize {
        watchdog.step(format!("round {round}"));
        disk.pause();
        // They stand in the line; every other one then leaves it.
        let mut waiting: Vec<_> =
            (0..8).map(|n| waits_for_room(&db, &rows, &format!("{round} {n}"), &value)).collect();
        let keys: Vec<_> = waiting.iter().map(|(key, _)| key.clone()).collect();
        let mut index = 0;
        waiting.retain(|_| {
            index += 1;
            index % 2 == 0
        });
        disk.resume();
        let submits = waiting.into_iter().map(|(_, submit)| submit);
        for commit in block_on(join_all(submits)) {
            block_on(commit.unwrap()).unwrap();
        }
        for (n, key) in keys.iter().enumerate() {
            assert_eq!(get(&rows, key).is_some(), n % 2 == 1, "{key}");
        }
    }
    block_on(db.close()).unwrap();
}

#[test]
fn who_waits_for_room_and_has_it_again_holds_up_nobody_who_comes_later() {
    let (disk, db, rows) = small();
    disk.pause();
    let (key, mut waiting) = waits_for_room(&db, &rows, "waits", &[7; 32 << 10]);
    disk.resume();
    // It is told, and does not look, as a thread that waits for its processor.
    until_room(&db, &rows);
    assert!(get(&rows, &key).is_none());
    let commit = waiting.as_mut().now_or_never().expect("there is room").unwrap();
    block_on(commit).unwrap();
    assert!(get(&rows, &key).is_some());
    block_on(db.close()).unwrap();
}

#[test]
fn later_commits_leave_the_room_that_one_waits_for() {
    let (disk, db, rows) = small();
    disk.pause();
    // Most of a group, which takes 256 KiB of 8 MiB for memtables, or of a segment.
    let wide = [vec![7; 60 << 10], vec![7; 60 << 10], vec![7; 60 << 10]];
    let mut waiting = loop {
        let mut batch = db.batch();
        for (value, n) in wide.iter().zip(0u8..) {
            batch.put(&rows, [n], value);
        }
        let mut submit = Box::pin(batch.submit());
        match submit.as_mut().now_or_never() {
            None => break submit,
            Some(ordered) => drop(ordered.unwrap()),
        }
    };
    disk.resume();
    until_room(&db, &rows);
    disk.pause();
    let passed = (0..FILL_BYTES_MAX >> 10).take_while(|n| {
        let mut batch = db.batch();
        let put = batch.put(&rows, n.to_be_bytes(), [1; 1 << 10]).durability(Durability::Buffered);
        put.try_submit().inspect_err(|error| assert_eq!(error.kind(), ErrorKind::Busy)).is_ok()
    });
    let passed = passed.count();
    assert!((1..1000).contains(&passed), "{passed}: as long as they leave it room");
    let commit = waiting.as_mut().now_or_never().expect("its room was left").unwrap();
    disk.resume();
    block_on(commit).unwrap();
    block_on(db.close()).unwrap();
}

#[test]
fn a_batch_that_fits_only_empty_memtables_is_not_passed() {
    let db = block_on(Options::new().memory_bytes(16 << 20).open_sim(&Disk::new())).unwrap();
    // Without a log it is all about memory: 8 MiB, of which each delete takes more than 80 bytes.
    let options = ColumnFamilyOptions::new().unlogged();
    let rows = block_on(db.create_column_family("rows", options)).unwrap();
    block_on(rows.put("before", "1")).unwrap();
    let mut batch = db.batch();
    for n in 0..120_000u64 {
        batch.delete(&rows, n.to_be_bytes());
    }
    let mut waiting = Box::pin(batch.submit());
    assert!(waiting.as_mut().now_or_never().is_none(), "a row is in the way");
    block_on(db.checkpoint()).unwrap();
    let mut batch = db.batch();
    let error = batch.delete(&rows, "later").try_submit().expect_err("it takes the other's room");
    assert_eq!(error.kind(), ErrorKind::Busy);
    let commit = waiting.as_mut().now_or_never().expect("nothing is in the way").unwrap();
    block_on(commit).unwrap();
    block_on(db.close()).unwrap();
}

/// A database whose memtables take 8 MiB, and the disk under it.
fn small() -> (Disk, Db, ColumnFamily) {
    let disk = Disk::new();
    let db = block_on(Options::new().memory_bytes(16 << 20).open_sim(&disk)).unwrap();
    let rows = family(&db, "rows");
    (disk, db, rows)
}

/// Commits one row once there is room, which may take a segment of the log.
fn until_room(db: &Db, rows: &ColumnFamily) {
    let _watchdog = Watchdog::new("room for a commit that came later");
    loop {
        match db.batch().put(rows, "later", "1").try_submit() {
            Ok(commit) => {
                block_on(commit).unwrap();
                return;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Busy),
        }
        std::thread::yield_now();
    }
}

/// A submission that found no room at its first poll, and its key. Room that the disk's stop was too late for is filled.
fn waits_for_room(
    db: &Db,
    rows: &ColumnFamily,
    key: &str,
    value: &[u8],
) -> (String, Pin<Box<Submit>>) {
    for attempt in 0..FILL_BYTES_MAX / value.len() {
        let key = format!("{key} {attempt}");
        let mut batch = db.batch();
        let mut submit = Box::pin(batch.put(rows, &key, value).submit());
        match submit.as_mut().now_or_never() {
            None => return (key, submit),
            Some(ordered) => drop(ordered.unwrap()),
        }
    }
    panic!("nothing grows past its bound");
}

/// More than a database of 16 MiB may take in while its disk stands still.
const FILL_BYTES_MAX: usize = 64 << 20;

#[test]
fn commits_dropped_while_the_disk_stands_still_happen_when_it_goes_on() {
    let disk = Disk::new();
    let db = block_on(options().open_sim(&disk)).unwrap();
    let (rows, other) = (family(&db, "rows"), family(&db, "other"));
    disk.pause();
    for n in 0..20u32 {
        let mut batch = db.batch();
        batch.put(&rows, n.to_be_bytes(), "x").put(&other, n.to_be_bytes(), "x");
        let mut commit = batch.commit();
        // Ordered at the first poll: there is room. Then nobody waits for it any more.
        assert!((&mut commit).now_or_never().is_none(), "nothing is durable yet");
    }
    disk.resume();
    block_on(db.sync()).unwrap();
    assert_eq!(block_on(rows.len()).unwrap(), 20);
    assert_whole(&rows, &other);
}

#[test]
fn transactions_that_are_dropped_happen_whole_or_not_at_all() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let other = family(&db, "other");
    every_k("begin", |_| db.begin(), |_, tx| well(tx));
    every_k(
        "transact",
        |n| {
            let (rows, other) = (rows.clone(), other.clone());
            let db = db.clone();
            async move {
                let outcome: Result<(), Error> = db
                    .transact(|tx| {
                        let (rows, other) = (rows.clone(), other.clone());
                        async move {
                            assert!(!tx.contains(&rows, n.to_be_bytes()).await?);
                            tx.put(&rows, n.to_be_bytes(), "1");
                            tx.put(&other, n.to_be_bytes(), "1");
                            Ok(())
                        }
                    })
                    .await;
                outcome
            }
        },
        |n, outcome| {
            well(outcome);
            assert!(n > 0 || get(&rows, 0usize.to_be_bytes()).is_none());
        },
    );
    block_on(db.sync()).unwrap();
    assert_whole(&rows, &other);
}

/// The same database under dropped batches, then power loss: batches are whole.
#[test]
fn dropped_batches_are_whole_after_power_loss() {
    let disk = Disk::traced();
    let db = block_on(options().open_sim(&disk)).unwrap();
    let (rows, other) = (family(&db, "rows"), family(&db, "other"));
    let serial = Cell::new(0u32);
    for _ in 0..30 {
        every_k(
            "batch.commit on sim",
            |_| {
                serial.set(serial.get() + 1);
                let key = serial.get().to_be_bytes();
                let mut batch = db.batch();
                batch.put(&rows, key, vec![1; 3000]);
                batch.put(&other, key, vec![1; 3000]);
                batch.commit()
            },
            |_, output| {
                if let Some(seq) = output {
                    seq.unwrap();
                    disk.mark(u64::from(serial.get()));
                }
            },
        );
    }
    let points = disk.crash_points() - 1;
    let mut rng = Rng::new(9);
    for _ in 0..60 {
        let point = rng.below(points + 1);
        let acknowledged = disk.marks(point);
        if acknowledged.is_empty() {
            continue;
        }
        look(&disk.image(point, Choice::Seeded(rng.bits())), options(), &acknowledged);
    }
}

fn look(image: &Disk, options: Options, acknowledged: &[u64]) {
    let db = block_on(options.open_sim(image)).unwrap();
    let (rows, other) = (family(&db, "rows"), family(&db, "other"));
    assert_whole(&rows, &other);
    for serial in acknowledged {
        assert!(get(&rows, (*serial as u32).to_be_bytes()).is_some(), "{serial} was acknowledged");
    }
    assert_sound(&db);
}

#[test]
fn swaps_and_updates_that_are_dropped_happen_whole_or_not_at_all() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let key = |polls: usize| polls.to_le_bytes();
    every_k(
        "compare_and_swap",
        |polls| rows.compare_and_swap(key(polls), None, Some(b"new")),
        |polls, swapped| {
            let found = get(&rows, key(polls));
            assert!(found.is_none() || found.as_deref() == Some(b"new"));
            if let Some(swapped) = swapped {
                swapped.unwrap().expect("the key was not there");
                assert!(found.is_some());
            }
        },
    );
    every_k(
        "fetch_update",
        |_| rows.fetch_update("n", |old| Some(vec![1; old.map_or(0, <[u8]>::len) + 1])),
        |_, before| well(before),
    );
    assert_sound(&db);
}

#[test]
fn loads_that_are_dropped_happen_whole_or_not_at_all() {
    let Fixture { place: _place, db, rows } =
        Fixture::with(|options| options.memory_bytes(4 << 20));
    let mut rng = Rng::new(12);
    let value = rng.bytes(5000);
    let large = rng.bytes(1_300_000);
    every_k(
        "Ingest",
        |polls| {
            let (rows, value, large) = (rows.clone(), value.clone(), large.clone());
            async move {
                let mut ingest = rows.ingest();
                for n in 0..120u32 {
                    // Not in key order.
                    let key = [(n * 77 % 120) as u8];
                    ingest.put([&polls.to_be_bytes()[..], &key].concat(), &value).await?;
                }
                ingest.put([&polls.to_be_bytes()[..], &[200]].concat(), &large).await?;
                ingest.commit().await
            }
        },
        |polls, output| {
            let done = output.map(|seq| seq.unwrap()).is_some();
            let found = block_on(rows_of(rows.prefix(polls.to_be_bytes()))).unwrap().len();
            assert!(found == 121 || !done && found == 0, "{polls}: {found} rows, done: {done}");
        },
    );
    // What a dropped load asked for has been done when this is.
    block_on(db.checkpoint()).unwrap();
    assert_sound(&db);
}
