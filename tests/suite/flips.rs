//! Every byte of a small database flipped, one at a time: the right answer or a typed error.
//!
//! The database has some of everything, in trees and in a log that is sealed and not closed, so
//! that opening replays it. Each flip is laid over a disk that shares all other bytes. A byte that
//! is not read when the clean database is opened, read whole and checked cannot change what that
//! finds, so only the bytes that are read are flipped, and the others are counted apart.
//!
//! The whole sweep runs by default; `RINGDB_TEST_FLIPS` bounds it to a sample.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use ringdb::sim::{Disk, SECTOR_BYTES};
use ringdb::{Create, Db, ErrorKind, Options, Result};

use crate::counts::{self, What};
use crate::crash::sample;
use crate::fixture::{Watchdog, block_on, eventually, number, say, seed};
use crate::oracle::Ending;
use crate::rng::Rng;
use crate::state::State;
use crate::workload::Recorder;

const BLOCK_BYTES: usize = 4096;
/// Bytes of the file between the two places of the superblock's copies, from the first.
const SUPERBLOCK_PLACE_BYTES: u64 = 8192;
/// One database in so many is closed after it was looked at; the others are let go.
const CLOSED_ONE_IN: usize = 8;
/// Offsets that a thread takes at a time.
const TURN: usize = 64;

/// A log of short segments: every byte of those that are ready for more is flipped too.
fn options() -> Options {
    crate::workload::options().segment_bytes_max(16 << 10)
}

/// What became of some damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every answer was right, and `check` found nothing.
    Right,
    /// Every answer was right, and `check` named the defect.
    Listed,
    /// Some call answered with a typed error.
    Detected,
    Wrong,
    Panicked,
}

/// How often each outcome came.
#[derive(Clone, Copy, Default)]
pub struct Count([u64; 5]);

impl Count {
    fn add(&mut self, outcome: Outcome) {
        self.0[outcome as usize] += 1;
    }

    /// Tells them to those who read only the end of what is printed.
    pub fn tell(&self, what: What) {
        let [right, listed, detected, wrong, panicked] = self.0;
        counts::count(what, "right", right);
        counts::count(what, "detected", listed + detected);
        counts::count(what, "wrong", wrong);
        counts::count(what, "panicked", panicked);
    }

    /// All of them.
    pub fn all(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [right, listed, detected, wrong, panicked] = self.0;
        write!(
            f,
            "right {right}, right and listed by check {listed}, detected {detected}, wrong \
             {wrong}, panicked {panicked}"
        )
    }
}

/// Panics on the engine's own threads; those on the caller's are caught there.
static ENGINE_PANICS: AtomicU64 = AtomicU64::new(0);

fn count_engine_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            if thread.name().is_some_and(|name| name.starts_with("ringdb")) {
                ENGINE_PANICS.fetch_add(1, Ordering::SeqCst);
            }
            before(info);
        }));
    });
}

/// Panics of the engine so far.
pub fn engine_panics() -> u64 {
    count_engine_panics();
    ENGINE_PANICS.load(Ordering::SeqCst)
}

/// A small database on a disk, not open, and what it holds.
pub struct Small {
    disk: Disk,
    path: PathBuf,
    len_bytes: u64,
    expected: State,
}

impl Small {
    /// With some of everything in it, and a sealed log.
    pub fn new(seed: u64) -> Small {
        count_engine_panics();
        let disk = Disk::new();
        let mut recorder = Recorder::open(&disk, options(), seed).unwrap();
        for name in ["a", "b", "gone", "named"] {
            recorder.create(name);
        }
        // Few groups: every byte of each is to be flipped.
        for n in 0..2 {
            let mut changes = recorder.changes();
            for n in (30 * n)..(30 * n + 30) {
                changes = changes.put("a", format!("{n:03}"), 200);
                changes = changes.put("b", format!("{n}"), 20).put("gone", format!("{n}"), 9);
            }
            changes.submit();
        }
        recorder.changes().put("b", "large", 66_000).delete_range("a", "010", "020").commit();
        recorder.drop_family("gone");
        recorder.checkpoint();
        for n in 0..3 {
            let changes = recorder.changes().put("a", format!("{:03}", 19 * n), 150);
            changes.delete("b", format!("{n}")).submit();
        }
        recorder.rename("named", "renamed");
        recorder.changes().delete_range("a", "040", "050").put("renamed", "late", 100).commit();
        assert!(eventually(|| is_sealed(&disk)), "an idle log is sealed");
        let expected = block_on(State::read(&recorder.db)).unwrap();
        let copy = disk.copy();
        block_on(recorder.db.close()).unwrap();
        let path = copy.paths().pop().expect("the database is a file");
        let len_bytes = copy.contents(&path).expect("it has contents").len() as u64;
        Small { disk: copy, path, len_bytes, expected }
    }

    /// Where to flip: every byte that is read when everything is looked at.
    fn offsets(&self) -> Vec<u64> {
        let disk = self.disk.copy();
        disk.watch_reads();
        let outcome = look(&disk, &self.expected, Ending::Closed).expect("it is not damaged");
        assert_eq!(outcome, Outcome::Right);
        let mut read = vec![false; self.len_bytes as usize];
        for range in disk.reads() {
            // The pages that the close has written and read again are of a later life.
            let end = range.end.min(self.len_bytes);
            read[range.start.min(end) as usize..end as usize].fill(true);
        }
        (0..).zip(read).filter_map(|(offset, read)| read.then_some(offset)).collect()
    }

    /// What a flipped byte does.
    fn flipped(&self, offset: u64, mask: u8, ending: Ending) -> Outcome {
        let disk = self.disk.copy();
        assert!(disk.flip(&self.path, offset, mask), "the byte is there");
        self.outcome(&disk, &DAMAGED, ending)
    }

    /// What other bytes in a range do.
    fn overwritten(&self, range: Range<u64>, change: impl Fn(u8) -> u8) -> Outcome {
        let disk = self.disk.copy();
        let bytes = self.disk.contents(&self.path).expect("it is there");
        for offset in range {
            let byte = bytes[offset as usize];
            disk.flip(&self.path, offset, byte ^ change(byte));
        }
        self.outcome(&disk, &DAMAGED, Ending::Closed)
    }

    /// What a range that cannot be read does.
    fn unreadable(&self, range: Range<u64>, ending: Ending) -> Outcome {
        let disk = self.disk.copy();
        disk.faults().add_bad_range(range);
        self.outcome(&disk, &[ErrorKind::Io], ending)
    }

    /// Opens a damaged copy and looks at everything.
    fn outcome(&self, disk: &Disk, typed: &[ErrorKind], ending: Ending) -> Outcome {
        let before = ENGINE_PANICS.load(Ordering::SeqCst);
        let outcome = match catch_unwind(AssertUnwindSafe(|| look(disk, &self.expected, ending))) {
            Ok(Ok(outcome)) => outcome,
            // An error without a claim about the bytes would be a guess that went well.
            Ok(Err(error)) if typed.contains(&error.kind()) => Outcome::Detected,
            Ok(Err(error)) => {
                eprintln!("{error:?}");
                Outcome::Wrong
            }
            Err(_) => Outcome::Panicked,
        };
        match ENGINE_PANICS.load(Ordering::SeqCst) == before {
            true => outcome,
            false => Outcome::Panicked,
        }
    }

    /// Flips these bytes on as many threads as there are cores.
    pub fn flip_all(&self, offsets: &[u64], seed: u64) -> (Count, Vec<(u64, u8, Outcome)>) {
        let (next, watchdog) = (AtomicUsize::new(0), Watchdog::new("flips"));
        let all = Mutex::new((Count::default(), Vec::new()));
        let work = || {
            loop {
                let from = next.fetch_add(TURN, Ordering::Relaxed);
                let Some(some) = offsets.get(from..offsets.len().min(from + TURN)) else { return };
                if some.is_empty() {
                    return;
                }
                watchdog.step(format!("seed {seed}, bytes from {}", some[0]));
                // A seed of its own, so that the threads' turns change nothing.
                let mut rng = Rng::new(seed ^ from as u64);
                for offset in some {
                    let mask = 1u8 << rng.below(8);
                    let closed = rng.one_in(CLOSED_ONE_IN);
                    let ending = if closed { Ending::Closed } else { Ending::LetGo };
                    let outcome = self.flipped(*offset, mask, ending);
                    let mut all = all.lock();
                    all.0.add(outcome);
                    if matches!(outcome, Outcome::Wrong | Outcome::Panicked) {
                        all.1.push((*offset, mask, outcome));
                    }
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get());
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        all.into_inner()
    }

    /// A sample of the bytes that are read.
    pub fn some_offsets(&self, max: usize, rng: &mut Rng) -> Vec<u64> {
        let mut offsets = self.offsets();
        sample(&mut offsets, max, rng);
        offsets
    }
}

/// Whether the last group of the log is one without commits, which tells of the one before it.
fn is_sealed(disk: &Disk) -> bool {
    let path = disk.paths().pop().expect("the database is a file");
    let bytes = disk.contents(&path).expect("it has contents");
    let groups = bytes.chunks_exact(BLOCK_BYTES).filter(|block| &block[4..8] == b"rgrp");
    let (mut seals, mut others) = (0, 0);
    for group in groups {
        let first_seq = u64::from_le_bytes(group[32..40].try_into().expect("it has 8 bytes"));
        let of_its_kind = if group[60..64] == [0; 4] { &mut seals } else { &mut others };
        *of_its_kind = first_seq.max(*of_its_kind);
    }
    seals > others
}

/// What an open may say of damage.
const DAMAGED: [ErrorKind; 3] = [ErrorKind::Corrupt, ErrorKind::Version, ErrorKind::Unsupported];

fn look(disk: &Disk, expected: &State, ending: Ending) -> Result<Outcome> {
    let db = block_on(options().create(Create::Never).open_sim(disk))?;
    let outcome = look_at(&db, expected);
    match ending {
        Ending::LetGo => outcome,
        Ending::Closed => {
            let closed = block_on(db.close());
            let outcome = outcome?;
            closed.map(|()| outcome)
        }
    }
}

fn look_at(db: &Db, expected: &State) -> Result<Outcome> {
    let found = block_on(State::read(db))?;
    if found != *expected {
        eprintln!("{}", found.difference(expected));
        return Ok(Outcome::Wrong);
    }
    let report = block_on(db.check())?;
    Ok(if report.defects.is_empty() { Outcome::Right } else { Outcome::Listed })
}

#[test]
fn no_flipped_byte_becomes_a_wrong_answer_or_a_panic() {
    let seed = seed("flips", 5);
    let small = Small::new(seed);
    let max = number("RINGDB_TEST_FLIPS").map_or(usize::MAX, |max| max as usize);
    let offsets = small.some_offsets(max, &mut Rng::new(seed));
    let (count, bad) = small.flip_all(&offsets, seed);
    say(format!(
        "flips: seed {seed}, {} bytes flipped of {}; {} are never read; {count}",
        offsets.len(),
        small.len_bytes,
        small.len_bytes - small.offsets().len() as u64,
    ));
    assert_eq!(count.all(), offsets.len() as u64);
    count.tell(What::BytesFlipped);
    assert!(bad.is_empty(), "{} bad, first {:?}", bad.len(), &bad[..bad.len().min(10)]);
    assert!(count.0[Outcome::Detected as usize] > 0, "a dead knob must show");
}

/// Blocks that are read, each once.
fn blocks(small: &Small, len_bytes: u64) -> Vec<u64> {
    let mut blocks: Vec<_> =
        small.offsets().into_iter().map(|offset| offset / len_bytes * len_bytes).collect();
    blocks.dedup();
    blocks
}

/// A way to damage a byte, and its name.
type Damage = (&'static str, fn(u8) -> u8);

#[test]
fn zeroed_and_inverted_blocks_are_detected() {
    let watchdog = Watchdog::new("flips of blocks");
    let (small, mut count) = (Small::new(11), Count::default());
    for start in blocks(&small, BLOCK_BYTES as u64) {
        let changes: [Damage; 2] = [("zeroed", |_| 0), ("inverted", |byte| !byte)];
        for (name, change) in changes {
            watchdog.step(format!("block at {start}, {name}"));
            let outcome = small.overwritten(start..start + BLOCK_BYTES as u64, change);
            assert!(!matches!(outcome, Outcome::Wrong | Outcome::Panicked), "{name} at {start}");
            count.add(outcome);
        }
    }
    say(format!("flips of blocks: {count}"));
    count.tell(What::BlocksDamaged);
    assert!(count.0[Outcome::Detected as usize] > 0, "a dead knob must show");
}

#[test]
fn runs_of_bad_sectors_are_errors_of_io_or_harmless() {
    let watchdog = Watchdog::new("bad sectors");
    let (small, mut count) = (Small::new(12), Count::default());
    for start in blocks(&small, SECTOR_BYTES as u64) {
        let sectors = [1, 3, 16][(start / SECTOR_BYTES as u64 % 3) as usize];
        watchdog.step(format!("{sectors} bad sectors at {start}"));
        let range = start..start + sectors * SECTOR_BYTES as u64;
        let outcome = small.unreadable(range, Ending::LetGo);
        assert!(!matches!(outcome, Outcome::Wrong | Outcome::Panicked), "{sectors} at {start}");
        count.add(outcome);
    }
    say(format!("runs of bad sectors: {count}"));
    count.tell(What::BlocksDamaged);
    assert!(count.0[Outcome::Detected as usize] > 0, "a dead knob must show");
}

/// Loses one place of the superblock's copies and then the other, in four ways.
///
/// # Panics
/// If what is found is not all that was there.
pub fn lose_each_place(seed: u64) {
    let small = Small::new(seed);
    // The copies are what is read first.
    let disk = small.disk.copy();
    disk.watch_reads();
    look(&disk, &small.expected, Ending::LetGo).expect("it is not damaged");
    let copies: Vec<u64> = disk.reads().iter().take(4).map(|range| range.start).collect();
    for place in [copies[0], copies[2]] {
        let range = place..place + SUPERBLOCK_PLACE_BYTES;
        let changes: [fn(u8) -> u8; 3] = [|_| 0, |byte| !byte, |byte| byte.wrapping_add(3)];
        for change in changes {
            let outcome = small.overwritten(range.clone(), change);
            assert_eq!(outcome, Outcome::Right, "the place at {place}");
        }
        let unreadable = small.unreadable(range, Ending::Closed);
        let right = matches!(unreadable, Outcome::Right | Outcome::Listed);
        assert!(right, "the place at {place} cannot be read: {unreadable:?}");
    }
}

#[test]
fn either_place_of_the_superblock_may_be_lost() {
    lose_each_place(13);
}
