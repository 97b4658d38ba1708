use std::path::PathBuf;

use ringdb_uring::sim::{Call, Disk, Fault};

use super::open;
use crate::blocking::block_on;
use crate::error::{ErrorKind, Result};
use crate::format::group::peek_front;
use crate::ids::BLOCK_BYTES;
use crate::options::{DirectIo, Options, Place};

/// A group of the log has its magic number here.
const MAGIC_AT: u64 = 4;

/// What makes a log.
#[derive(Clone)]
struct Shape {
    options: Options,
    rows_of_commit: u32,
    rows_min: u32,
    value_bytes: usize,
}

impl Shape {
    /// Segments of few groups each.
    fn short() -> Shape {
        let options = Options::new().segment_bytes_max(32 << 10);
        Shape { options, rows_of_commit: 1, rows_min: 20, value_bytes: 3000 }
    }

    /// So many rows that they go into their memtables on another thread, and segments, those behind the end too, that are looked
    /// through in several pieces.
    fn long() -> Shape {
        let options = Options::new().memory_bytes(512 << 20);
        Shape { options, rows_of_commit: 1000, rows_min: 60_000, value_bytes: 300 }
    }
}

/// A database that was not closed, and the groups of its log that have commits, as (ordinal of the segment, offset), in their order.
struct Log {
    shape: Shape,
    disk: Disk,
    path: PathBuf,
    rows: u32,
    groups: Vec<(u64, u64)>,
}

impl Log {
    /// Of durable commits, until the last segment with groups has two of them.
    fn new(shape: Shape) -> Log {
        let disk = Disk::new();
        let db = block_on(open(Place::disk(&disk), shape.options.clone())).unwrap();
        let family = block_on(db.column_family("rows")).unwrap();
        let mut rows = 0u32;
        loop {
            let mut batch = db.batch();
            for row in rows..rows + shape.rows_of_commit {
                // In no order.
                let key = row.wrapping_mul(0x9E37_79B1).to_be_bytes();
                batch.put(&family, key, "x".repeat(shape.value_bytes));
            }
            block_on(batch.commit()).unwrap();
            rows += shape.rows_of_commit;
            if rows < shape.rows_min {
                continue;
            }
            let copy = disk.copy();
            let path = copy.paths().pop().unwrap();
            let groups = groups(&copy.contents(&path).unwrap());
            let last = groups.last().unwrap().0;
            if groups.iter().filter(|group| group.0 == last).count() > 1 {
                block_on(db.close()).unwrap();
                return Log { shape, disk: copy, path, rows, groups };
            }
        }
    }

    /// How many rows there are on a disk; each has the same value.
    fn rows_on(&self, disk: &Disk) -> Result<u32> {
        self.opened(disk).map(|(rows, _)| rows)
    }

    /// The same, and the disk as opening it left it.
    fn opened(&self, disk: &Disk) -> Result<(u32, Disk)> {
        block_on(async {
            let Shape { options, value_bytes, .. } = self.shape.clone();
            let db = open(Place::disk(disk), options).await?;
            let mut rows = 0;
            let mut all = db.column_family("rows").await?.iter();
            while all
                .try_next_with(|_, value| assert_eq!(value.len(), value_bytes))
                .await?
                .is_some()
            {
                rows += 1;
            }
            let left = disk.copy();
            db.close().await?;
            Ok((rows, left))
        })
    }
}

fn groups(contents: &[u8]) -> Vec<(u64, u64)> {
    let blocks = (0..).step_by(BLOCK_BYTES).zip(contents.chunks(BLOCK_BYTES));
    let found = blocks.filter_map(|(offset, block)| {
        let peek = peek_front(block, contents.len() as u64)?;
        // A seal, of a log that was idle for a moment, has none.
        (peek.len_bytes > 0).then_some((peek.segment, offset))
    });
    let mut groups: Vec<_> = found.collect();
    groups.sort_unstable();
    groups
}

#[test]
fn a_group_that_later_ones_know_is_missed_wherever_it_lies() {
    let log = Log::new(Shape::short());
    assert_eq!(log.rows_on(&log.disk.copy()).unwrap(), log.rows);
    let (last, known) = log.groups.split_last().unwrap();
    for (_, offset) in known {
        let disk = log.disk.copy();
        assert!(disk.flip(&log.path, offset + MAGIC_AT, 1));
        let error = log.rows_on(&disk).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("damaged in the middle"), "{offset}: {error}");
    }
    // Nobody was told of a last group that was torn, unless a seal is behind it.
    let disk = log.disk.copy();
    assert!(disk.flip(&log.path, last.1 + MAGIC_AT, 1));
    match log.rows_on(&disk) {
        Ok(rows) => assert_eq!(rows, log.rows - 1),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt),
    }
}

/// Where the heads of segments of these ordinals lie, in their order.
fn heads(contents: &[u8], ordinals: std::ops::Range<u64>) -> Vec<u64> {
    let blocks = (0..).step_by(BLOCK_BYTES).zip(contents.chunks(BLOCK_BYTES));
    let found = blocks.filter_map(|(offset, block)| {
        let ordinal = u64::from_le_bytes(block[32..40].try_into().unwrap());
        (block[4..8] == *b"rseg" && ordinals.contains(&ordinal)).then_some((ordinal, offset))
    });
    let mut heads: Vec<_> = found.collect();
    heads.sort_unstable();
    heads.into_iter().map(|(_, offset)| offset).collect()
}

/// A database whose last group did not fit into a segment that was ready, and the heads of those that it passed over; none if none was
/// ready by then.
fn passed_over(direct: DirectIo) -> Option<(Log, Vec<u64>)> {
    let Shape { options, .. } = Shape::short();
    let shape = Shape { options: options.direct_io(direct), ..Shape::short() };
    let disk = Disk::new();
    let db = block_on(open(Place::disk(&disk), shape.options.clone())).unwrap();
    let family = block_on(db.column_family("rows")).unwrap();
    let row = |row: u32| (row.to_be_bytes(), "x".repeat(shape.value_bytes));
    for (key, value) in (0..20).map(row) {
        block_on(family.put(key, value)).unwrap();
    }
    let mut batch = db.batch();
    for (key, value) in (20..40).map(row) {
        batch.put(&family, key, value);
    }
    block_on(batch.commit()).unwrap();
    let copy = disk.copy();
    block_on(db.close()).unwrap();
    let path = copy.paths().pop().unwrap();
    let contents = copy.contents(&path).unwrap();
    let groups = groups(&contents);
    let [.., before, large] = &groups[..] else { panic!("{groups:?}") };
    let passed = heads(&contents, before.0 + 1..large.0);
    let log = Log { shape, disk: copy, path, rows: 40, groups };
    assert_eq!(log.rows_on(&log.disk.copy()).unwrap(), log.rows);
    (!passed.is_empty()).then_some((log, passed))
}

#[test]
fn a_damaged_head_of_a_segment_that_was_passed_over_does_not_end_the_log() {
    for direct in [DirectIo::Auto, DirectIo::Off] {
        let found = (0..100).find_map(|_| passed_over(direct));
        let (log, passed) = found.expect("segments are ready ahead");
        with_damaged_heads(&log, passed, direct == DirectIo::Off);
    }
}

fn with_damaged_heads(log: &Log, passed: Vec<u64>, is_cached: bool) {
    // Every byte that says something, and some that do not.
    let flip = |head: u64, at: u64| {
        let disk = log.disk.copy();
        assert!(disk.flip(&log.path, head + at, 0x10));
        log.rows_on(&disk)
    };
    for head in passed {
        for at in (0..64).chain([64, 511, 512, 4095]) {
            match flip(head, at) {
                Ok(rows) => assert_eq!(rows, log.rows, "{head} + {at}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{head} + {at}");
                    // All else is known; but what the page cache has is written again, and nothing damaged is.
                    let is_known = at >= 4 && !(52..64).contains(&at);
                    assert!(is_cached || !is_known, "{head} + {at}");
                }
            }
        }
    }
    // Behind the last group a head can be done without, unless it does not lead on any more: what lay behind it nobody knows then.
    let large = log.groups.last().unwrap().0;
    let ready = heads(&log.disk.contents(&log.path).unwrap(), large + 1..u64::MAX);
    for (place, head) in ready.iter().enumerate() {
        for at in 0..64 {
            let leads_on = at < 52 && (at >= 4 || place + 1 < ready.len());
            match flip(*head, at) {
                Ok(rows) => assert_eq!(rows, log.rows, "{head} + {at}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{head} + {at}");
                    assert!(!leads_on, "{head} + {at}");
                }
            }
        }
    }
}

/// What opening says when one read in turn has a flipped bit in the first group of a segment, if it reads one.
fn refusals(log: &Log) -> Vec<String> {
    let mut refusals = Vec::new();
    for nth in 0.. {
        let disk = log.disk.copy();
        let byte = BLOCK_BYTES + MAGIC_AT as usize;
        disk.faults().add(Call::Read, nth, Fault::Flip { byte, mask: 1 });
        let found = log.opened(&disk);
        if disk.faults().injected().flipped == 0 {
            break;
        }
        match found {
            Ok((rows, left)) => {
                assert_eq!(rows, log.rows, "read {nth}");
                // And nothing that was read wrongly was written.
                assert_eq!(log.rows_on(&left).unwrap(), log.rows, "read {nth}, opened again");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "read {nth}: {error}");
                refusals.push(error.to_string());
            }
        }
    }
    refusals
}

#[test]
fn a_first_group_that_is_there_only_sometimes_is_not_passed_over() {
    let Shape { options, .. } = Shape::short();
    for direct in [DirectIo::Auto, DirectIo::Off] {
        let log = Log::new(Shape { options: options.clone().direct_io(direct), ..Shape::short() });
        let refusals = refusals(&log);
        let refused = |why| refusals.iter().filter(|refusal| refusal.contains(why)).count();
        assert_eq!(refused("was not there before"), 1, "in the last segment: {refusals:?}");
        assert!(refused("where there was one before") > 1, "{refusals:?}");
        // What the page cache has is read once more, to be written.
        let is_cached = direct == DirectIo::Off;
        assert_eq!(refused("read differently before") > 1, is_cached, "{refusals:?}");
    }
}

#[test]
fn a_long_log_comes_back_while_its_end_is_looked_through() {
    let log = Log::new(Shape::long());
    assert_eq!(log.rows_on(&log.disk.copy()).unwrap(), log.rows);
    // The last segment with groups becomes one of those behind the end, and what it has still tells.
    let last = log.groups.last().unwrap().0;
    let first = log.groups.iter().find(|group| group.0 == last).unwrap();
    let disk = log.disk.copy();
    assert!(disk.flip(&log.path, first.1 + MAGIC_AT, 1));
    let error = log.rows_on(&disk).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("damaged in the middle"), "{error}");
}
