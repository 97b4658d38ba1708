//! Taking the engine through a file: everything that a program would do, with a bound on each part.

use std::path::Path;

use ringdb::sim::Disk;
use ringdb::{ColumnFamily, Create, Db, Error, ErrorKind, Options, Range, block_on};

use super::Outcome;

/// Rows that are read from one range; the kept file has a few hundred.
const ROWS_MAX: usize = 20_000;
/// Families that are looked at; the kept file has six.
const FAMILIES_MAX: usize = 12;
/// Reads, writes and syncs of one run. An honest one needs some hundreds.
const CALLS_MAX: u64 = 100_000;

/// How far the engine is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Everything is read.
    Reads,
    /// It is read, merged, and closed.
    Merges,
    /// It is written in every way, merged, closed, opened and read again.
    Writes,
}

/// Opens the bytes and goes as deep as asked, past errors.
///
/// # Panics
///
/// On an answer that no bytes excuse.
pub fn act(bytes: &[u8], depth: Depth) -> Outcome {
    let disk = Disk::new();
    disk.set_contents(Path::new("ringdb"), bytes);
    let mut noticed = Noticed(false);
    let Some(db) = open(&disk, &mut noticed) else { return Outcome::Refused };
    read(&db, &mut noticed);
    if depth == Depth::Writes {
        write(&db, &mut noticed);
    }
    if depth != Depth::Reads {
        noticed.by(block_on(db.checkpoint()));
        read(&db, &mut noticed);
    }
    noticed.by(block_on(db.close()));
    drop(db);
    if depth == Depth::Writes
        && let Some(db) = open(&disk, &mut noticed)
    {
        read(&db, &mut noticed);
        noticed.by(block_on(db.close()));
    }
    let calls = disk.faults().calls();
    let calls = calls.reads + calls.writes + calls.syncs;
    assert!(calls <= CALLS_MAX, "{calls} calls to the disk: no end in sight");
    if noticed.0 { Outcome::Noticed } else { Outcome::Accepted }
}

/// Whether any answer was an error, or a defect.
struct Noticed(bool);

impl Noticed {
    fn by<T>(&mut self, answer: Result<T, Error>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                excused(&error);
                self.0 = true;
                None
            }
        }
    }
}

/// Bytes may be the cause of these errors, and of no others.
fn excused(error: &Error) {
    match error.kind() {
        ErrorKind::Corrupt | ErrorKind::Version | ErrorKind::Unsupported => {}
        // A catalog that says more than it can; a file that is said to be full, or huge.
        ErrorKind::TooLarge | ErrorKind::NoSpace | ErrorKind::NotFound => {}
        // What a checkpoint found poisons, or closes, what comes later.
        ErrorKind::Poisoned | ErrorKind::Closed => {}
        kind => panic!("{kind:?} for bytes alone: {error:?}"),
    }
}

fn open(disk: &Disk, noticed: &mut Noticed) -> Option<Db> {
    let options = Options::new().memory_bytes(4 << 20).create(Create::Never);
    let options = options.log_bytes_max(1 << 20).segment_bytes_max(64 << 10);
    noticed.by(block_on(options.open_sim(disk)))
}

fn families(db: &Db, noticed: &mut Noticed) -> Vec<ColumnFamily> {
    let names = db.column_families().into_iter().take(FAMILIES_MAX);
    names.filter_map(|name| noticed.by(block_on(db.existing_column_family(name)))).collect()
}

/// The check, scans both ways, and lookups of what was found and of what was not.
fn read(db: &Db, noticed: &mut Noticed) {
    let report = noticed.by(block_on(db.check()));
    let is_sound = report.is_some_and(|report| report.defects.is_empty());
    noticed.0 |= !is_sound;
    for family in families(db, noticed) {
        let keys = scan(family.iter(), noticed);
        let back = scan(family.iter().rev(), noticed);
        if let (Some(keys), Some(mut back)) = (&keys, back) {
            back.reverse();
            // Of a tree whose rows are where no search finds them, only the check tells.
            if is_sound && keys.len() < ROWS_MAX {
                assert_eq!(*keys, back, "a scan finds the same rows from either end");
            }
        }
        let keys = keys.unwrap_or_default();
        for key in keys.iter().step_by(1 + keys.len() / 8) {
            noticed.by(block_on(family.get(key)));
        }
        noticed.by(block_on(family.multi_get(["\0", "0", "rows", "\u{10FFFF}"])));
        noticed.by(block_on(family.first()));
        noticed.by(block_on(family.last()));
        family.approximate_len();
    }
    db.stat();
}

/// The keys of a range, ascending or not, up to a bound; none if it failed.
fn scan(mut range: Range, noticed: &mut Noticed) -> Option<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    while keys.len() < ROWS_MAX {
        match noticed.by(block_on(range.try_next()))? {
            Some((key, _)) => keys.push(key.to_vec()),
            None => break,
        }
    }
    Some(keys)
}

/// Batches over all families, then changes of the families themselves.
fn write(db: &Db, noticed: &mut Noticed) {
    let families = families(db, noticed);
    for round in 0..3_u8 {
        let mut batch = db.batch();
        for family in &families {
            batch.put(family, [b'0', round], vec![round; 300]);
            batch.delete(family, [b'1', round]);
            batch.put(family, [0xFF, round], vec![round; 5_000]);
        }
        noticed.by(block_on(batch.commit()));
        noticed.by(block_on(db.checkpoint()));
    }
    for family in families.iter().take(2) {
        noticed.by(block_on(family.delete_range("1".."3")));
        noticed.by(block_on(family.put("large", vec![7; 70_000])));
    }
    noticed.by(block_on(db.create_column_family("made by fuzzing", Default::default())));
    if let Some(family) = families.first() {
        noticed.by(block_on(db.rename_column_family(family.name(), "renamed by fuzzing")));
    }
    if let Some(family) = families.last() {
        noticed.by(block_on(db.drop_column_family(family.name())));
    }
}
