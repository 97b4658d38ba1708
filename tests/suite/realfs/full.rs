//! A file system that fills up, at each place where the file may need to grow.
//!
//! A filler file takes all space but a little; the database meets the end of the rest. Then the
//! filler is removed, and the same open database must go on.

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use ringdb::{ColumnFamily, ColumnFamilyOptions, Db, Error, ErrorKind, Options};

use super::stage::{Cut, Stage, free_bytes};
use super::{FileSystem, Way};
use crate::fixture::{Watchdog, assert_sound, block_on, fails, family, get, put, resumes, say};

/// Space that is left when the database begins to fill it.
const ROOMS_BYTES: [u64; 3] = [0, 300 << 10, 3 << 20];

/// Rows that a full disk must have refused, at the latest.
const ROWS_MAX: u32 = 4000;

/// Rows that are there before the disk is full.
const FIRST_ROWS: u32 = 100;

/// What meets the end of the space.
#[derive(Clone, Copy, Debug)]
enum Level {
    /// Extents of large values.
    Values,
    /// Log segments.
    Log,
    /// Nodes that a checkpoint writes: rows of an unlogged family come to the file only there.
    Checkpoint,
}

const LEVELS: [Level; 3] = [Level::Values, Level::Log, Level::Checkpoint];

/// Deletes that are tried on a full disk.
const DELETES: u32 = FIRST_ROWS / 2;

impl Level {
    /// Deletes that a full disk must take: none once the log itself is full, for want of a reserve.
    fn deletes_min(self) -> u32 {
        match self {
            Level::Values | Level::Checkpoint => DELETES,
            Level::Log => 0,
        }
    }
}

struct Full {
    db: Db,
    rows: ColumnFamily,
    unlogged: ColumnFamily,
    /// Rows that were acknowledged while space ran out.
    filled: u32,
    deleted: u32,
    /// Last, so that it goes last: a handle keeps the file open.
    stage: Stage,
}

fn value(level: Level, n: u32) -> Vec<u8> {
    let len = match level {
        Level::Values => 200_000,
        Level::Log | Level::Checkpoint => 3000,
    };
    vec![n as u8; len]
}

impl Full {
    fn new(stage: Stage, way: Way) -> Full {
        let options = Options::new().backend(way.backend).direct_io(way.direct);
        // Memory for all rows and a log without a bound: neither shall be what is met.
        let options = options.memory_bytes(64 << 20).log_bytes_max(1 << 30);
        let db = block_on(options.open(stage.database())).expect("the database opens");
        let unlogged = ColumnFamilyOptions::new().unlogged();
        let unlogged = block_on(db.create_column_family("unlogged", unlogged));
        let rows = family(&db, "rows");
        for n in 0..FIRST_ROWS {
            put(&rows, n.to_be_bytes(), [n as u8; 100]);
        }
        block_on(db.checkpoint()).expect("there is room for a checkpoint");
        let unlogged = unlogged.expect("the family is created");
        Full { stage, db, rows, unlogged, filled: 0, deleted: 0 }
    }

    /// Takes all but so many bytes.
    fn take_space(&self, room_bytes: u64) {
        let file = File::create(self.stage.mount_point().join("filler"));
        let file = file.expect("the filler is created");
        let free = free_bytes(&self.stage.mount_point()).expect("the free space is known");
        let (mut at, mut step) = (0, free.saturating_sub(room_bytes).max(4096));
        let limit = if room_bytes == 0 { u64::MAX } else { step };
        // Metadata takes its part of what counts as free, so the last steps are small ones.
        while step >= 4096 && at < limit {
            match reserve(&file, at, step.min(limit - at)) {
                true => at += step,
                false => step /= 2,
            }
        }
        file.sync_all().expect("the filler is written");
    }

    /// Writes until there is no space any more; gives what the writer was told.
    fn fill(&mut self, level: Level) -> Error {
        for n in 0..ROWS_MAX {
            let key = (FIRST_ROWS + n).to_be_bytes();
            let written = match level {
                Level::Values | Level::Log => block_on(self.rows.put(key, value(level, n))),
                Level::Checkpoint => {
                    let put = block_on(self.unlogged.put(key, value(level, n)));
                    let checkpoint = || block_on(self.db.checkpoint());
                    put.and_then(|seq| match n % 100 {
                        99 => checkpoint().map(|()| seq),
                        _ => Ok(seq),
                    })
                }
            };
            if let Err(error) = written {
                return error;
            }
            self.filled += 1;
        }
        panic!("{ROWS_MAX} rows found room on a full disk")
    }

    /// Everything that was acknowledged is read.
    fn check_rows(&self, level: Level) {
        for n in self.deleted..FIRST_ROWS {
            assert_eq!(get(&self.rows, n.to_be_bytes()), Some(vec![n as u8; 100]));
        }
        let family = match level {
            Level::Values | Level::Log => &self.rows,
            Level::Checkpoint => &self.unlogged,
        };
        for n in 0..self.filled {
            let found = get(family, (FIRST_ROWS + n).to_be_bytes());
            assert!(found == Some(value(level, n)), "{level:?}: row {n}");
        }
    }

    /// Deletes go on while memory and log have room, and are refused as puts are.
    fn delete(&mut self, level: Level) {
        while self.deleted < DELETES {
            match block_on(self.rows.delete(self.deleted.to_be_bytes())) {
                Ok(_) => self.deleted += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error:?}");
                    break;
                }
            }
        }
        let deletes = self.deleted;
        assert!(deletes >= level.deletes_min(), "{level:?}: {deletes} deletes on a full disk");
    }
}

fn reserve(file: &File, at: u64, len: u64) -> bool {
    // SAFETY: the descriptor is open for the length of the call, which takes three numbers else.
    unsafe { libc::fallocate(file.as_raw_fd(), 0, at as i64, len as i64) == 0 }
}

fn fills_up(file_system: FileSystem) {
    let watchdog = Watchdog::new("no space");
    let what = file_system.name();
    // Where space ends is the engine's business, so two of the ways are enough.
    let ways = Way::possible();
    for way in [ways[0], ways[ways.len() - 1]] {
        let (mut runs, mut filled, mut deleted) = (0, 0, 0);
        for (level, room) in LEVELS.into_iter().flat_map(|level| ROOMS_BYTES.map(|r| (level, r))) {
            watchdog.step(format!("{what}, {}, {level:?}, {room} bytes", way.words()));
            let stage = match Stage::new(file_system, Cut::Shutdown) {
                Ok(stage) => stage,
                Err(reason) => return say(format!("no space: {what}: skipped: {reason}")),
            };
            let full = runs_out_of_space(Full::new(stage, way), way, level, room);
            (runs, filled, deleted) = (runs + 1, filled + full.0, deleted + full.1);
        }
        say(format!(
            "no space: {what}, {}: {runs} times; {filled} rows before, {deleted} deletes while \
             full; writing resumed each time",
            way.words(),
        ));
    }
}

fn runs_out_of_space(mut full: Full, way: Way, level: Level, room: u64) -> (u32, u32) {
    full.take_space(room);
    let error = full.fill(level);
    let context = format!("{}, {level:?}, {room} bytes: {error:?}", way.words());
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{context}");
    assert!(error.is_retryable() && !error.outcome_unknown(), "{context}");
    full.db.health().reads.expect("reads go on");
    full.check_rows(level);
    full.delete(level);
    full.check_rows(level);

    fs::remove_file(full.stage.mount_point().join("filler")).expect("the filler is removed");
    resumes(|| block_on(full.rows.put("again", value(Level::Values, 1))));
    resumes(|| block_on(full.rows.delete("again")));
    block_on(full.db.checkpoint()).expect("a checkpoint finds room");
    full.check_rows(level);
    assert_sound(&full.db);
    block_on(full.db.close()).expect("the database closes");
    fails(block_on(full.rows.put("a", "b")), ErrorKind::Closed);

    let Full { stage, filled, deleted, .. } = full;
    let db = block_on(way.options().open(stage.database())).expect("the database opens again");
    let (rows, unlogged) = (family(&db, "rows"), family(&db, "unlogged"));
    let again = Full { stage, db, rows, unlogged, filled, deleted };
    again.check_rows(level);
    assert_sound(&again.db);
    (filled, deleted)
}

#[test]
fn writing_resumes_on_ext4_when_space_returns() {
    fills_up(FileSystem::Ext4);
}

#[test]
fn writing_resumes_on_ext4_without_a_journal_when_space_returns() {
    fills_up(FileSystem::Ext4WithoutJournal);
}

#[test]
fn writing_resumes_on_xfs_when_space_returns() {
    fills_up(FileSystem::Xfs);
}
