//! Loads that come to nothing leave no page behind, to the page. (I9)

use futures::FutureExt;
use ringdb_uring::sim::Disk;

use super::{Ingest, open};
use crate::blocking::block_on;
use crate::db::{ColumnFamily, Db};
use crate::error::{ErrorKind, Result};
use crate::options::{Options, Place};

/// Memory that the rows exceed, so that runs are written and merged.
const MEMORY_BYTES: usize = 4 << 20;
/// Rows of a load.
const ROWS: u32 = 12_000;
/// Checkpoints after which the keeper of the log is done with what they set off.
const CHECKPOINTS_MAX: usize = 1000;

async fn database(disk: &Disk) -> (Db, ColumnFamily) {
    let db = open(Place::disk(disk), Options::new().memory_bytes(MEMORY_BYTES)).await.unwrap();
    let family = db.column_family("a").await.unwrap();
    family.put("old", "row").await.unwrap();
    db.checkpoint().await.unwrap();
    (db, family)
}

/// Every key twice and in no order, some values in extents of their own.
async fn put_rows(ingest: &mut Ingest, rows: u32) -> Result<()> {
    for n in 0..2 * rows {
        let key = (n.wrapping_mul(7919) % rows).to_be_bytes();
        match n % 1000 {
            999 => ingest.put(key, [1; 70_000]).await?,
            _ => ingest.put(key, [2; 150]).await?,
        }
    }
    Ok(())
}

/// Each page of the file is named by the superblock, free, or the log's.
async fn assert_all_pages_are_known(db: &Db, context: &str) {
    let engine = db.engine();
    for _ in 0..CHECKPOINTS_MAX {
        // A segment that is being made ready is in nobody's list for a moment.
        db.checkpoint().await.unwrap();
        if engine.pages_in_hands() == 0 {
            let defects = db.check().await.unwrap().defects;
            assert!(defects.is_empty(), "{context}: {defects:?}");
            return;
        }
    }
    panic!("{context}: {} pages are lost", engine.pages_in_hands());
}

#[test]
fn a_load_that_is_dropped_leaves_no_page() {
    block_on(async {
        let (db, family) = database(&Disk::new()).await;
        let named = db.stat().tree_bytes;
        for rows in [0, 1, 100, ROWS / 3, ROWS] {
            let mut ingest = family.ingest();
            put_rows(&mut ingest, rows).await.unwrap();
            assert_eq!(db.check().await.unwrap().defects.len(), 0, "while it is under way");
            assert!(
                rows < ROWS || db.engine().pages_in_hands() > 100,
                "there is something to lose"
            );
            drop(ingest);
            assert_all_pages_are_known(&db, &format!("{rows} rows")).await;
        }
        db.compact().await.unwrap();
        assert_eq!(db.stat().tree_bytes, named);
    });
}

#[test]
fn a_load_that_is_published_and_cleared_leaves_no_page() {
    block_on(async {
        let (db, family) = database(&Disk::new()).await;
        let named = db.stat().tree_bytes;
        for _ in 0..3 {
            let mut ingest = family.ingest();
            put_rows(&mut ingest, ROWS).await.unwrap();
            ingest.commit().await.unwrap().expect("there are rows");
            assert_all_pages_are_known(&db, "loaded").await;
            assert_eq!(family.len().await.unwrap(), u64::from(ROWS) + 1);
            family.clear().await.unwrap();
            family.put("old", "row").await.unwrap();
            assert_all_pages_are_known(&db, "cleared").await;
        }
        db.compact().await.unwrap();
        assert_eq!(db.stat().tree_bytes, named);
    });
}

#[test]
fn a_load_into_a_dropped_family_leaves_no_page() {
    block_on(async {
        let (db, family) = database(&Disk::new()).await;
        let mut ingest = family.ingest();
        put_rows(&mut ingest, ROWS).await.unwrap();
        db.drop_column_family("a").await.unwrap();
        let error = ingest.commit().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_all_pages_are_known(&db, "dropped").await;
    });
}

/// Loads on a disk of so many bytes; whether there was room.
async fn load_on_a_small_disk(capacity: u64) -> bool {
    let context = format!("{capacity} bytes");
    let disk = Disk::new();
    let (db, family) = database(&disk).await;
    disk.faults().set_capacity(Some(capacity));
    let mut ingest = family.ingest();
    let taken = put_rows(&mut ingest, ROWS / 4).await;
    if taken.is_err() {
        let again = ingest.put("z", [0; 100_000]).now_or_never();
        assert!(matches!(again, Some(Err(_))), "{context}: it goes on");
    }
    let loaded = ingest.commit().await;
    match &loaded {
        Ok(_) => assert_eq!(family.len().await.unwrap(), u64::from(ROWS / 4) + 1, "{context}"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{context}: {error:?}");
            assert_eq!(family.len().await.unwrap(), 1, "{context}");
            // The disk is as full as before, and the file has the pages that the load gave back.
            let mut batch = db.batch();
            for n in 0..40u8 {
                batch.put(&family, [n, 1], [3; 8000]);
            }
            batch.commit().await.unwrap_or_else(|error| panic!("{context}: {error:?}"));
            let mut small = family.ingest();
            put_rows(&mut small, 10).await.unwrap();
            small.commit().await.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        }
    }
    assert_all_pages_are_known(&db, &context).await;
    loaded.is_ok()
}

#[test]
fn a_load_that_finds_the_disk_full_leaves_no_page() {
    block_on(async {
        let mut loaded = 0;
        // Steps of a few pages, uneven, so that it is full at other places each time.
        let capacities = (3 << 20..9 << 20).step_by(37 << 13);
        let count = capacities.clone().count();
        for capacity in capacities {
            loaded += usize::from(load_on_a_small_disk(capacity).await);
        }
        assert!((1..count).contains(&loaded), "{loaded} of {count} were loaded");
    });
}
