//! Checking online: everything that is wrong is told, and nobody waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use ringdb::sim::Disk;
use ringdb::{CheckReport, ColumnFamily, Db, ErrorKind, Options};

use crate::fixture::{Fixture, assert_sound, block_on, fails, family, put};

/// A database on a simulated disk whose bytes can be damaged while it is open.
struct Damaged {
    disk: Disk,
    path: PathBuf,
    db: Db,
    rows: ColumnFamily,
}

const IN_A_TREE: &[u8] = b"a value in a tree";
const IN_AN_EXTENT: &[u8] = b"a value in an extent of its own";
const IN_THE_LOG: &[u8] = b"a value in the log";

impl Damaged {
    fn new() -> Damaged {
        let disk = Disk::new();
        let db = block_on(Options::new().open_sim(&disk)).unwrap();
        let (rows, other) = (family(&db, "rows"), family(&db, "a family in the catalog"));
        for n in 0..400u32 {
            put(&other, n.to_be_bytes(), vec![7; 500]);
        }
        put(&rows, "tree", IN_A_TREE);
        put(&other, "extent", IN_AN_EXTENT.repeat(100_000 / IN_AN_EXTENT.len()));
        drop(other);
        let path = disk.paths().pop().expect("the database is a file");
        Damaged { disk, path, db, rows }.reopened()
    }

    /// In a new log: the old one holds everything once more.
    fn reopened(self) -> Damaged {
        let Damaged { disk, path, db, rows } = self;
        block_on(db.close()).unwrap();
        drop((db, rows));
        let db = block_on(Options::new().open_sim(&disk)).unwrap();
        let rows = family(&db, "rows");
        put(&rows, "log", IN_THE_LOG);
        // The commit's group and, ten milliseconds later, the seal: then the file is left alone.
        while db.metrics().groups < 2 {
            assert_sound(&db);
        }
        assert_sound(&db);
        Damaged { disk, path, db, rows }
    }

    fn bytes(&self) -> Vec<u8> {
        self.disk.contents(&self.path).expect("it has contents")
    }

    /// Flips a bit at every place, checks, and takes the flips back.
    fn check_with(&self, places: &[usize]) -> CheckReport {
        self.flip(places);
        let report = block_on(self.db.check()).unwrap();
        self.flip(places);
        report
    }

    /// The engine writes meanwhile: it seals its log and makes more of it.
    fn flip(&self, places: &[usize]) {
        self.disk.pause();
        let mut bytes = self.bytes();
        places.iter().for_each(|place| bytes[*place] ^= 4);
        self.disk.set_contents(&self.path, &bytes);
        self.disk.resume();
    }

    fn places_of(&self, pattern: &[u8]) -> Vec<usize> {
        let bytes = self.bytes();
        let windows = bytes.windows(pattern.len()).enumerate();
        let places: Vec<_> =
            windows.filter(|(_, seen)| *seen == pattern).map(|(at, _)| at).collect();
        assert!(!places.is_empty(), "{pattern:?} is in the file");
        places
    }
}

/// A pattern whose bytes are damaged, and what is said of that: in which family, in which words.
const PLANTED: [(&[u8], Option<&str>, &str); 5] = [
    (IN_A_TREE, Some("rows"), "a page is not what was written"),
    (IN_AN_EXTENT, Some("a family in the catalog"), "a large value is not what was written"),
    (b"a family in the catalog", None, "the catalog is damaged"),
    (b"rfre", None, "the free map is damaged"),
    (IN_THE_LOG, None, "group checksum does not match"),
];

#[test]
fn a_check_names_what_is_damaged_and_where() {
    let damaged = Damaged::new();
    assert_sound(&damaged.db);
    let mut all = Vec::new();
    for (pattern, family, what) in PLANTED {
        let places = damaged.places_of(pattern);
        let report = damaged.check_with(&places);
        assert_eq!(report.defect_count, 1, "{what}: {:#?}", report.defects);
        let defect = &report.defects[0];
        assert_eq!(defect.family.as_deref(), family, "{what}");
        assert!(defect.what.contains(what), "{}", defect.what);
        let page = defect.page.expect("all of these lie in pages");
        assert_eq!(page, defect.offset / 8192);
        let nearby = places.iter().any(|place| (*place as u64).abs_diff(defect.offset) < 200_000);
        assert!(nearby, "{what}: {} is far from {places:?}", defect.offset);
        all.extend(places);
    }
    let report = damaged.check_with(&all);
    for (_, family, what) in PLANTED {
        let is_told = |defect: &&ringdb::Defect| defect.what.contains(what);
        let told = report.defects.iter().filter(is_told).collect::<Vec<_>>();
        assert_eq!(told.len(), 1, "{what}: {:#?}", report.defects);
        assert_eq!(told[0].family.as_deref(), family);
    }
    assert_eq!(report.defect_count, PLANTED.len() as u64);
    assert!(!report.is_sound());
    assert_sound(&damaged.db);
}

#[test]
fn a_check_tells_of_each_copy_of_the_superblock() {
    let damaged = Damaged::new();
    for offset in [0, 4096, 512 << 10, (512 << 10) + 4096] {
        let report = damaged.check_with(&[offset + 100]);
        let offsets: Vec<_> = report.defects.iter().map(|defect| defect.offset).collect();
        assert_eq!(offsets, [offset as u64], "{:?}", report.defects);
    }
}

#[test]
fn a_check_goes_on_behind_what_is_damaged_and_lists_a_bounded_part() {
    const ROWS: u32 = 2600;
    let damaged = Damaged::new();
    for n in 0..ROWS {
        let mut batch = damaged.db.batch();
        batch.put(&damaged.rows, n.to_be_bytes(), b"many of these rows. ".repeat(200));
        drop(block_on(batch.submit()).unwrap());
    }
    let damaged = damaged.reopened();
    let mut pages: Vec<_> = damaged.places_of(b"these rows. many of");
    pages.dedup_by_key(|place| *place / 8192);
    let report = damaged.check_with(&pages);
    assert!(report.defect_count > 1000, "{}", report.defect_count);
    assert_eq!(report.defects.len(), 1000);
    assert!(report.defects.iter().all(|defect| defect.family.as_deref() == Some("rows")));
}

#[test]
fn a_check_runs_beside_commits_and_checkpoints() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let done = AtomicBool::new(false);
    let checks = std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..12u8 {
                for n in 0..60u32 {
                    put(&rows, n.to_be_bytes(), vec![round; 2000]);
                }
                put(&rows, "large", vec![round; 90_000]);
                block_on(db.checkpoint()).unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut checks = 0;
        while !done.load(Ordering::SeqCst) || checks == 0 {
            let report = block_on(db.check().pages_ahead(1 + checks)).unwrap();
            assert!(report.is_sound(), "{:#?}", report.defects);
            checks += 1;
        }
        checks
    });
    assert!(checks > 0);
    assert_sound(&db);
}

#[test]
fn progress_rises_to_the_whole() {
    let Damaged { disk: _, path: _, db, rows } = Damaged::new();
    for n in 0..300u32 {
        put(&rows, n.to_be_bytes(), vec![1; 3000]);
    }
    block_on(db.checkpoint()).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let report = block_on(db.check().progress(move |progress| told.lock().push(progress))).unwrap();
    let seen = seen.lock();
    assert!(seen.len() > 50, "{}", seen.len());
    assert!(seen.is_sorted_by_key(|progress| progress.bytes));
    let last = seen.last().expect("there are some");
    assert_eq!((last.bytes, last.defects), (last.total_bytes, 0));
    assert!(last.bytes >= report.pages * 8192);
    assert_eq!(report.rows, 703);
}

#[test]
fn a_check_of_a_closed_database_is_refused_and_one_that_runs_ends() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    for n in 0..200u32 {
        put(&rows, n.to_be_bytes(), vec![1; 3000]);
    }
    block_on(db.checkpoint()).unwrap();
    let running = std::thread::scope(|scope| {
        let checks = scope.spawn(|| {
            loop {
                match block_on(db.check()) {
                    Ok(report) => assert!(report.is_sound(), "{:#?}", report.defects),
                    Err(error) => return error,
                }
            }
        });
        block_on(db.close()).unwrap();
        checks.join().expect("it does not panic")
    });
    assert_eq!(running.kind(), ErrorKind::Closed, "{running:?}");
    fails(block_on(db.check()), ErrorKind::Closed);
}
