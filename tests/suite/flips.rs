//! Every byte of a small closed database flipped, one at a time: the right answer or a typed error.
//!
//! Bytes of sectors that hold something are all flipped; of sectors that are all zero (slack, free
//! pages) one byte each, unless `RINGDB_TEST_SCALE` is 4 or more: then all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use ringdb::sim::Disk;
use ringdb::{Create, Db, ErrorKind, Result};

use crate::fixture::{Watchdog, block_on, say, scale, seed};
use crate::oracle::Base;
use crate::rng::Rng;
use crate::state::State;
use crate::workload::{Recorder, options};

const SECTOR_BYTES: usize = 512;
const BLOCK_BYTES: usize = 4096;
/// Flips of a run with scale 1; more bytes than this are sampled by the seed.
const FLIPS_MAX: usize = 8000;

/// What became of one flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Every answer was right, and `check` found nothing.
    Right,
    /// Every answer was right, and `check` named the defect.
    Listed,
    /// Some call answered with a typed error.
    Detected,
    Wrong,
    Panicked,
}

#[derive(Default)]
struct Count([u64; 5]);

impl Count {
    fn add(&mut self, outcome: Outcome) {
        self.0[outcome as usize] += 1;
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

/// A small closed database: the bytes of its file, and what it holds.
struct Small {
    path: PathBuf,
    bytes: Vec<u8>,
    expected: State,
}

impl Small {
    /// A disk with these bytes instead.
    fn with(&self, bytes: &[u8]) -> Disk {
        let disk = Disk::new();
        disk.set_contents(&self.path, bytes);
        disk
    }
}

/// With some of everything in it.
fn small() -> Small {
    let disk = Disk::new();
    let mut recorder = Recorder::open(&disk, options(), 11).unwrap();
    for name in ["a", "b", "gone"] {
        recorder.create(name);
    }
    for n in 0..60 {
        recorder.changes().put("a", format!("{n:03}"), 200).put("b", format!("{n}"), 20).submit();
    }
    recorder.changes().put("b", "large", 70_000).delete_range("a", "010", "020").commit();
    recorder.drop_family("gone");
    recorder.checkpoint();
    recorder.changes().put("a", "late", 100).commit();
    let db = recorder.db.clone();
    let expected = block_on(State::read(&db)).unwrap();
    drop(db);
    recorder.close(&Base::default());
    let path = disk.paths().pop().expect("the database is a file");
    let bytes = disk.contents(&path).expect("it has contents");
    Small { path, bytes, expected }
}

/// Opens these bytes and looks at everything.
fn outcome(small: &Small, bytes: &[u8]) -> Outcome {
    let disk = small.with(bytes);
    let before = ENGINE_PANICS.load(Ordering::SeqCst);
    let outcome = match catch_unwind(AssertUnwindSafe(|| look(&disk, &small.expected))) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => {
            // An error without a claim about the bytes would be a guess that went well.
            let typed = [ErrorKind::Corrupt, ErrorKind::Version, ErrorKind::Unsupported];
            match typed.contains(&error.kind()) {
                true => Outcome::Detected,
                false => {
                    eprintln!("{error:?}");
                    Outcome::Wrong
                }
            }
        }
        Err(_) => Outcome::Panicked,
    };
    if ENGINE_PANICS.load(Ordering::SeqCst) == before { outcome } else { Outcome::Panicked }
}

fn look(image: &Disk, expected: &State) -> Result<Outcome> {
    let db = block_on(options().create(Create::Never).open_sim(image))?;
    let outcome = look_at(&db, expected);
    // A close that fails on a damaged page is an answer, too.
    let closed = block_on(db.close());
    let outcome = outcome?;
    closed.map(|()| outcome)
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

/// Where to flip: every byte that means something, one of each sector that seems not to.
fn offsets(bytes: &[u8], rng: &mut Rng) -> Vec<u64> {
    let all = scale() >= 4;
    let mut offsets = Vec::new();
    for (sector, content) in bytes.chunks(SECTOR_BYTES).enumerate() {
        let start = (sector * SECTOR_BYTES) as u64;
        if all || content.iter().any(|byte| *byte != 0) {
            offsets.extend(start..start + content.len() as u64);
        } else {
            offsets.push(start + rng.below(content.len()) as u64);
        }
    }
    let max = if all { usize::MAX } else { FLIPS_MAX.saturating_mul(scale()) };
    while offsets.len() > max {
        let index = rng.below(offsets.len());
        offsets.swap_remove(index);
    }
    offsets.sort_unstable();
    offsets
}

#[test]
fn no_flipped_byte_becomes_a_wrong_answer_or_a_panic() {
    count_engine_panics();
    let seed = seed("flips", 5);
    let mut rng = Rng::new(seed);
    let watchdog = Watchdog::new("flips");
    let small = small();
    let mut bytes = small.bytes.clone();
    let offsets = offsets(&bytes, &mut rng);
    let mut count = Count::default();
    let mut bad = Vec::new();
    for offset in &offsets {
        let (index, mask) = (*offset as usize, 1u8 << rng.below(8));
        watchdog.step(format!("seed {seed}, byte {offset}, mask {mask}"));
        bytes[index] ^= mask;
        let outcome = outcome(&small, &bytes);
        bytes[index] ^= mask;
        count.add(outcome);
        if matches!(outcome, Outcome::Wrong | Outcome::Panicked) {
            bad.push((*offset, mask, outcome));
        }
    }
    let [right, listed, detected, wrong, panicked] = count.0;
    say(format!(
        "flips: seed {seed}, {} of {} bytes: right {right}, right and listed by check {listed}, \
         detected {detected}, wrong {wrong}, panicked {panicked}",
        offsets.len(),
        bytes.len(),
    ));
    assert!(bad.is_empty(), "{} bad, first {:?}", bad.len(), &bad[..bad.len().min(10)]);
    assert!(detected + listed > 0, "a dead knob must show");
}

#[test]
fn zeroed_and_inverted_blocks_are_detected() {
    count_engine_panics();
    let watchdog = Watchdog::new("flips of sectors");
    let small = small();
    let mut count = Count::default();
    for start in (0..small.bytes.len()).step_by(BLOCK_BYTES) {
        let block = start..small.bytes.len().min(start + BLOCK_BYTES);
        if small.bytes[block.clone()].iter().all(|byte| *byte == 0) {
            continue;
        }
        for inverted in [false, true] {
            watchdog.step(format!("block at {start}, inverted: {inverted}"));
            let mut bytes = small.bytes.clone();
            bytes[block.clone()].iter_mut().for_each(|b| *b = if inverted { !*b } else { 0 });
            let outcome = outcome(&small, &bytes);
            count.add(outcome);
            assert!(!matches!(outcome, Outcome::Wrong | Outcome::Panicked), "block at {start}");
        }
    }
    let [right, listed, detected, ..] = count.0;
    say(format!("flips of blocks: right {right}, listed {listed}, detected {detected}"));
}
