use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringdb_uring::Refused;
use ringdb_uring::sim::{Choice, Disk};

use super::{open, restore};
use crate::blocking::block_on;
use crate::db::{ColumnFamily, Db};
use crate::engine::Command;
use crate::error::ErrorKind;
use crate::format::backup::Encoder;
use crate::format::catalog::FamilyOptions;
use crate::format::node_ref::NodeRef;
use crate::ids::{FamilyId, PageId, Seq};
use crate::memtable::RANGE_DELETES_MAX;
use crate::options::{Durability, Options, Place};
use crate::page::cache::Held;
use crate::state::Hold;
use crate::tree::{KeyHash, Wanted};
use crate::value::Value;

async fn overwrite(family: &ColumnFamily, db: &Db, round: u32) {
    let mut batch = db.batch();
    for key in 0..2000 {
        batch.put(family, format!("key {key:05}"), format!("{round} of {key:0100}"));
    }
    batch.commit().await.unwrap();
    db.checkpoint().await.unwrap();
}

#[test]
fn a_snapshot_from_between_two_checkpoints_keeps_its_pages() {
    block_on(async {
        let db = Db::in_memory().await.unwrap();
        let family = db.column_family("a").await.unwrap();
        overwrite(&family, &db, 0).await;
        let snapshot = db.snapshot();
        for round in 1..6 {
            overwrite(&family, &db, round).await;
        }
        for key in 0..2000 {
            let value = snapshot.get(&family, format!("key {key:05}")).await.unwrap();
            assert_eq!(value.as_deref(), Some(format!("0 of {key:0100}").as_bytes()));
        }
    });
}

#[test]
fn a_batch_of_many_small_rows_finds_room_behind_a_few() {
    block_on(async {
        let options = Options::new().memory_bytes(4 << 20);
        let db = open(Place::disk(&Disk::new()), options).await.unwrap();
        let family = db.column_family("a").await.unwrap();
        family.put("first", "row").await.unwrap();
        let mut batch = db.batch();
        for key in 0u32..20_000 {
            batch.put(&family, key.to_be_bytes(), "");
        }
        batch.commit().await.unwrap();
        assert_eq!(family.len().await.unwrap(), 20_001);
    });
}

#[test]
fn range_deletes_wait_for_the_next_memtable_where_one_has_enough() {
    block_on(async {
        let db = open(Place::disk(&Disk::new()), Options::new()).await.unwrap();
        let family = db.column_family("a").await.unwrap();
        family.put("k", "1").await.unwrap();
        for tenant in 0..5 * RANGE_DELETES_MAX {
            let mut batch = db.batch();
            batch.durability(Durability::Buffered);
            batch.delete_range(&family, format!("{tenant:04}")..format!("{tenant:04}~"));
            batch.commit().await.unwrap();
            assert!(family.family().next_range_deletes() <= RANGE_DELETES_MAX);
        }
        // The fourth may be under way.
        assert!(db.metrics().checkpoints >= 3, "{:?}", db.metrics());
        assert_eq!(family.get("k").await.unwrap().as_deref(), Some(&b"1"[..]));
        db.close().await.unwrap();
    });
}

/// A database with some 2 MB of rows in its memtables, where half of the memory for those is 4.
async fn with_rows(key_of: impl Fn(u32) -> u32) -> Db {
    let options = Options::new().memory_bytes(16 << 20);
    let db = open(Place::disk(&Disk::new()), options).await.unwrap();
    let family = db.column_family("a").await.unwrap();
    for first in (0..12_000).step_by(500) {
        let mut batch = db.batch();
        for number in first..first + 500 {
            batch.put(&family, key_of(number).to_be_bytes(), [7; 140]);
        }
        batch.commit().await.unwrap();
    }
    db
}

/// Waits until the database has made a checkpoint of itself.
fn wait_for_a_checkpoint(db: &Db) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while db.metrics().checkpoints == 0 {
        assert!(Instant::now() < deadline, "{:?}", db.metrics());
        std::thread::yield_now();
    }
}

#[test]
fn rows_in_sequence_are_brought_into_a_tree_early() {
    block_on(async {
        wait_for_a_checkpoint(&with_rows(|number| number).await);
        let db = with_rows(|number| number.wrapping_mul(0x9E37_79B1)).await;
        db.checkpoint().await.unwrap();
        assert_eq!(db.metrics().checkpoints, 1, "none before this one");
    });
}

#[test]
fn a_log_of_padding_is_used_again_long_before_memtables_are_full() {
    block_on(async {
        let db = Db::in_memory().await.unwrap();
        let family = db.column_family("a").await.unwrap();
        for number in 0_u32..340 {
            family.put(number.to_be_bytes(), vec![7; 50_000]).await.unwrap();
        }
        assert!(db.metrics().log_bytes > 17_000_000);
        assert_eq!(db.metrics().checkpoints, 0, "its rows are in memory");
        for number in 0_u32..25_000 {
            family.put(number.to_be_bytes(), "a block of log for a short row").await.unwrap();
        }
        wait_for_a_checkpoint(&db);
    });
}

/// Keys that ascend among others, some of them twice and some deleted, in two families.
#[test]
fn a_batch_that_ascends_in_parts_leaves_what_its_last_operations_say() {
    block_on(async {
        let db = Db::in_memory().await.unwrap();
        let families = [db.column_family("a").await.unwrap(), db.column_family("b").await.unwrap()];
        let mut expected = [BTreeMap::new(), BTreeMap::new()];
        let mut batch = db.batch();
        let (ascending, again) = ((0..700_u32).map(|step| step % 350), (0..40).map(|_| 17));
        let descending = (300..400_u32).rev();
        for (step, number) in ascending.chain(again).chain(descending).enumerate() {
            let (index, key) = (usize::from(step % 97 > 80), format!("{number:04}").into_bytes());
            if step % 5 == 3 {
                batch.delete(&families[index], &key);
                expected[index].remove(&key);
            } else {
                let value = format!("{step}").into_bytes();
                batch.put(&families[index], &key, &value);
                expected[index].insert(key, value);
            }
        }
        batch.commit().await.unwrap();
        for (family, expected) in families.iter().zip(expected) {
            let mut rows = family.iter();
            let mut found = BTreeMap::new();
            while let Some((key, value)) = rows.try_next().await.unwrap() {
                found.insert(key.to_vec(), value.to_vec());
            }
            assert_eq!(found, expected);
            for key in (0..400).map(|number| format!("{number:04}").into_bytes()) {
                let value = family.get(&key).await.unwrap();
                assert_eq!(value.as_deref(), expected.get(&key).map(Vec::as_slice));
            }
        }
    });
}

#[test]
fn a_database_opens_after_any_number_of_crashes() {
    block_on(async {
        let mut disk = Disk::new();
        for crash in 0..80u64 {
            disk.start_trace();
            let db = open(Place::disk(&disk), Options::new()).await.unwrap();
            let family = db.column_family("a").await.unwrap();
            assert_eq!(family.len().await.unwrap(), crash.div_ceil(2));
            if crash.is_multiple_of(2) {
                family.put(crash.to_be_bytes(), "row").await.unwrap();
            }
            let last = disk.crash_points() - 1;
            disk = disk.image(last, Choice::None);
        }
    });
}

#[test]
fn writing_resumes_when_a_full_disk_has_space_again() {
    block_on(async {
        let disk = Disk::new();
        let options = || Options::new().memory_bytes(4 << 20);
        let db = open(Place::disk(&disk), options()).await.unwrap();
        let family = db.column_family("a").await.unwrap();
        disk.faults().set_capacity(Some(8 << 20));
        let value = vec![7; 8000];
        let mut written = 0u64;
        let refused = loop {
            match family.put(written.to_be_bytes(), &value).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), ErrorKind::NoSpace);
        for _ in 0..20 {
            let _ = family.put(written.to_be_bytes(), &value).await;
            let _ = family.put([9; 9], vec![1; 100_000]).await;
        }
        assert_eq!(family.get(0u64.to_be_bytes()).await.unwrap().unwrap().len(), 8000);
        disk.faults().set_capacity(None);
        for key in 0..3000u64 {
            while family.put((1000 + key).to_be_bytes(), &value).await.is_err() {}
        }
        db.checkpoint().await.unwrap();
        assert_eq!(db.check().await.unwrap().defects.len(), 0);
        db.close().await.unwrap();
        let db = open(Place::disk(&disk), options()).await.unwrap();
        let family = db.column_family("a").await.unwrap();
        assert!(family.len().await.unwrap() >= 3000 + written.min(1000));
    });
}

#[test]
fn a_segment_that_meets_the_end_of_a_close_poisons_nothing() {
    block_on(async {
        let db = Db::in_memory().await.unwrap();
        let family = db.column_family("a").await.unwrap();
        db.close().await.unwrap();
        let refused = db.engine().poison("writing a log segment failed", Refused::Closed.into());
        assert_eq!(refused.kind(), ErrorKind::Closed);
        let error = family.put("b", "row").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
    });
}

#[test]
fn reads_that_are_dropped_do_not_fill_the_list_of_fetches() {
    block_on(async {
        let db = Db::in_memory().await.unwrap();
        let pages = &db.engine().pages;
        for page in 0..1000 {
            let node = NodeRef { page: PageId(page), pages: 1, crc: 0 };
            drop(pages.load(Wanted { node, level: 0 }, FamilyId(0)));
        }
        assert!(pages.loading_entries() <= 8, "{} fetches", pages.loading_entries());
    });
}

/// Whether a row is found by a shortcut, for who reads in the state of that hold.
fn is_near(db: &Db, hold: &Hold, family: FamilyId, key: &str) -> bool {
    let (guard, held) = (ringdb_frames::pin(), Held::default());
    let lookups = db.engine().pages.lookups(&guard, &held, hold);
    lookups.row(key.as_bytes(), KeyHash::of(key.as_bytes()), family).is_some()
}

#[test]
fn a_leaf_that_is_read_twice_has_shortcuts_until_it_is_replaced() {
    block_on(async {
        let db = Db::in_memory().await.unwrap();
        let family = db.column_family("a").await.unwrap();
        overwrite(&family, &db, 0).await;
        let id = db.engine().state().families[0].family.id;
        let hold = || db.engine().state().hold.clone();
        let before = hold();
        assert!(!is_near(&db, &before, id, "key 00007"));
        for key in ["key 00005", "key 00006"] {
            family.get(key).await.unwrap().unwrap();
        }
        // Their neighbours, too.
        assert!(is_near(&db, &before, id, "key 00007") && is_near(&db, &before, id, "key 00005"));
        assert!(!is_near(&db, &before, id, "key 01999"));
        assert!(!is_near(&db, &before, FamilyId(id.0 + 1), "key 00007"));

        // One leaf is replaced, others stay.
        for key in ["key 01998", "key 01999"] {
            family.get(key).await.unwrap().unwrap();
        }
        family.put("key 00007", "changed").await.unwrap();
        db.checkpoint().await.unwrap();
        let after = hold();
        assert!(after.turn > before.turn);
        assert!(is_near(&db, &after, id, "key 01999") && !is_near(&db, &before, id, "key 01999"));
        assert!(!is_near(&db, &after, id, "key 00007") && !is_near(&db, &after, id, "key 00005"));
        for _ in 0..3 {
            let value = family.get("key 00007").await.unwrap();
            assert_eq!(value.as_deref(), Some(b"changed".as_slice()));
        }
        assert!(is_near(&db, &after, id, "key 00007") && !is_near(&db, &before, id, "key 00007"));
    });
}

#[test]
fn a_shortcut_hides_no_newer_tree_and_no_memtable() {
    block_on(async {
        let db = Db::in_memory().await.unwrap();
        let family = db.column_family("a").await.unwrap();
        overwrite(&family, &db, 0).await;
        let keys: Vec<String> = (0..2000).map(|key| format!("key {key:05}")).collect();
        let owned = |value: Option<Value>| value.map(|value| value.to_vec());
        let value_of = |key: u32| Some(format!("0 of {key:0100}").into_bytes());
        let mut expected: BTreeMap<_, _> = keys.iter().cloned().zip((0..).map(value_of)).collect();
        for round in 0..30u32 {
            for (key, expected) in &expected {
                let value = owned(family.get(key).await.unwrap());
                assert_eq!(&value, expected, "{key} in round {round}");
            }
            let old = db.snapshot();
            let mut batch = db.batch();
            for key in keys.iter().skip(round as usize).step_by(97) {
                let value = format!("round {round}");
                match round % 3 {
                    0 => batch.delete(&family, key),
                    _ => batch.put(&family, key, &value),
                };
                let value = (round % 3 != 0).then(|| value.into_bytes());
                let before = expected.insert(key.clone(), value).unwrap();
                assert_eq!(owned(old.get(&family, key).await.unwrap()), before);
            }
            batch.commit().await.unwrap();
            if round % 2 == 0 {
                db.checkpoint().await.unwrap();
            }
            let found = family.multi_get(&keys).await.unwrap();
            assert!(found.into_iter().map(owned).eq(expected.values().cloned()), "round {round}");
        }
    });
}

#[test]
fn memory_that_only_a_snapshot_holds_counts_against_its_bound() {
    block_on(async {
        let options = Options::new().snapshot_pinned_bytes_max(100_000);
        let db = open(Place::disk(&Disk::new()), options).await.unwrap();
        let family = db.column_family("a").await.unwrap();
        family.put("a", [1; 50_000]).await.unwrap();
        let snapshot = db.snapshot();
        db.checkpoint().await.unwrap();
        assert!(snapshot.get(&family, "a").await.is_ok());
        for n in 0..4u8 {
            // No page of it is retired: the first snapshot sees an empty tree.
            family.put([n], [2; 50_000]).await.unwrap();
        }
        let second = db.snapshot();
        db.checkpoint().await.unwrap();
        // The bound is looked at when the checkpointer is done with a command.
        db.check().await.unwrap();
        let error = snapshot.get(&family, "a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SnapshotExpired);
        assert_eq!(second.get(&family, "a").await.unwrap_err().kind(), ErrorKind::SnapshotExpired);
    });
}

/// A database of which nothing is in the cache, and which keeps 100,000 bytes for those who read what is past.
async fn cold(disk: &Disk) -> (Db, ColumnFamily) {
    let options = || Options::new().snapshot_pinned_bytes_max(100_000);
    let db = open(Place::disk(disk), options()).await.unwrap();
    let family = db.column_family("a").await.unwrap();
    overwrite(&family, &db, 0).await;
    db.close().await.unwrap();
    drop((family, db));
    let db = open(Place::disk(disk), options()).await.unwrap();
    let family = db.column_family("a").await.unwrap();
    (db, family)
}

#[test]
fn a_read_that_was_begun_and_forgotten_expires_nobody_else() {
    block_on(async {
        let disk = Disk::new();
        let (db, family) = cold(&disk).await;
        let mut forgotten = family.get("key 00000");
        disk.pause();
        assert!(futures::poll!(&mut forgotten).is_pending());
        disk.resume();
        for round in 1..6 {
            overwrite(&family, &db, round).await;
            let snapshot = db.snapshot();
            // The bound is looked at when the checkpointer is done with a command.
            assert!(db.check().await.unwrap().is_sound());
            let value = snapshot.get(&family, "key 00001").await.unwrap();
            assert_eq!(value.as_deref(), Some(format!("{round} of {:0100}", 1).as_bytes()));
        }
        let value = forgotten.await.unwrap();
        assert_eq!(value.as_deref(), Some(format!("0 of {:0100}", 0).as_bytes()));
    });
}

#[test]
fn a_check_keeps_no_more_from_being_reused_than_others_may() {
    block_on(async {
        let disk = Disk::new();
        let (db, family) = cold(&disk).await;
        let mut check = db.check();
        assert!(futures::poll!(&mut check).is_pending(), "it asks the checkpointer first");
        db.checkpoint().await.unwrap();
        disk.pause();
        assert!(futures::poll!(&mut check).is_pending(), "it reads");
        disk.resume();
        for round in 1..6 {
            overwrite(&family, &db, round).await;
        }
        // The bound is looked at when the checkpointer is done with a command.
        assert!(db.check().await.unwrap().is_sound());
        assert!(db.engine().space.lock().retired_bytes() <= 100_000);
        // What is past and was not read yet may have gone to others.
        match check.await {
            Ok(report) => assert!(report.is_sound()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::SnapshotExpired),
        }
    });
}

#[test]
fn a_backup_with_good_checksums_and_impossible_families_is_refused() {
    let restored = |chunks: &dyn Fn(&mut Encoder) -> Vec<Bytes>| {
        let mut encoder = Encoder::new([7; 16]);
        let mut all = vec![encoder.head(Seq(1))];
        all.extend(chunks(&mut encoder));
        all.push(encoder.end());
        let backup = futures::stream::iter(all.into_iter().map(Ok::<_, std::io::Error>));
        let disk = Disk::new();
        let restored = block_on(restore::restore(Place::disk(&disk), Options::new(), backup));
        assert_eq!(disk.paths().is_empty(), restored.is_err());
        restored.map(|report| report.families).map_err(|error| error.kind())
    };
    let family = |encoder: &mut Encoder, name| encoder.family(name, FamilyOptions::default());
    assert_eq!(restored(&|e| vec![family(e, "a"), family(e, "b")]), Ok(2));
    let twice = restored(&|e| vec![family(e, "a"), family(e, "b"), family(e, "a")]);
    assert_eq!(twice, Err(ErrorKind::Corrupt));
}

#[test]
fn a_checkpointer_that_panics_is_told_to_everyone_and_reopening_recovers() {
    block_on(async {
        let disk = Disk::new();
        let db = open(Place::disk(&disk), Options::new()).await.unwrap();
        let family = db.column_family("a").await.unwrap();
        family.put("kept", "row").await.unwrap();
        db.engine().command(Command::Between(Box::pin(async { panic!("a planned panic") })));
        let checkpoint = db.checkpoint().await.unwrap_err();
        let told = [ErrorKind::Closed, ErrorKind::Poisoned];
        assert!(told.contains(&checkpoint.kind()), "{checkpoint:?}");
        let mut health = db.health();
        while health.writes.is_ok() {
            health = db.health_changed(&health).await;
        }
        assert_eq!(family.put("late", "row").await.unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(family.get("kept").await.unwrap().as_deref(), Some(&b"row"[..]), "reads go on");
        assert!(db.close().await.is_err());
        drop((family, db));
        let db = open(Place::disk(&disk), Options::new()).await.unwrap();
        let family = db.column_family("a").await.unwrap();
        assert_eq!(family.get("kept").await.unwrap().as_deref(), Some(&b"row"[..]));
        assert_eq!(family.get("late").await.unwrap(), None);
        db.close().await.unwrap();
    });
}
