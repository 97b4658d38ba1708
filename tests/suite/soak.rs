//! The whole net with fresh seeds, for as long as wanted:
//!
//! ```text
//! RINGDB_TEST_MINUTES=60 cargo test -p ringdb --test suite soak
//! ```
//!
//! Crash images, kills, flips, faults, lies, histories, hostile files and restores take turns on
//! as many threads as there are cores, and so do `kill -9` and power cuts on real file systems,
//! each turn with a seed that no turn before had. The first seed is printed (by default it is the
//! time of day; `RINGDB_TEST_SEED` sets it), and a failure names its own. What was counted is
//! printed now and then, and at the end. Without the variable each takes one short turn, always
//! with the same seeds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ringdb::sim::{Call, Fault, Times};

use crate::counts::{self, What, count};
use crate::crash::{Budget, Crasher};
use crate::fixture::{Watchdog, number, say};
use crate::flips::Small;
use crate::kill::kill_life;
use crate::rng::Rng;
use crate::scripts::SCRIPTS;
use crate::{faults, histories, hostile, lies, restores};

/// How many times as long the simulated turns are when minutes are asked for: the real ones, which
/// wait for disks and processes, would take most of the time.
const LONGER: usize = 8;
/// Images of one turn.
const IMAGES: usize = 400;
/// Images of a restore in one turn.
const RESTORES: usize = 40;
/// Kills of one turn.
const KILLS: usize = 10;
/// Flipped bytes of one turn.
const FLIPS: usize = 400;
/// Hostile files of one turn.
const FILES: usize = 400;
/// Runs with a fault, or with a lie, of one turn.
const RUNS: usize = 8;
/// Images of a life under many writers.
const CROWD_IMAGES: usize = 16;
/// Kills, or lives that end by a power cut, of one database on a real file system.
const REAL_LIVES: usize = 4;
/// Calls among which one is chosen to go wrong.
const CALLS: usize = 80;
/// Turns after which the counts are printed again.
const TURNS_TOLD: u64 = 100;

/// One turn, with its seed and how many times as long as usual it shall be.
type Turn = fn(u64, usize, &Watchdog);

const TURNS: [Turn; 10] = [
    crashes,
    kills,
    flipped,
    failing,
    lying,
    crowds,
    files,
    restored,
    killed_for_real,
    cut_off_for_real,
];

fn crashes(seed: u64, times: usize, watchdog: &Watchdog) {
    let (name, script) = SCRIPTS[Rng::new(seed).below(SCRIPTS.len())];
    let mut crasher = Crasher::new(watchdog);
    crasher.crash(name, script, seed, Budget::of(times * IMAGES));
    crasher.tally.tell();
}

fn kills(seed: u64, times: usize, watchdog: &Watchdog) {
    let (name, script) = SCRIPTS[Rng::new(seed).below(SCRIPTS.len())];
    let images = kill_life(name, script, seed, times * KILLS, watchdog);
    count(What::LossesAfterKills, "in the simulation", images as u64);
}

fn flipped(seed: u64, times: usize, _: &Watchdog) {
    let small = Small::new(seed);
    let offsets = small.some_offsets(times * FLIPS, &mut Rng::new(seed));
    let (counted, bad) = small.flip_all(&offsets, seed);
    counted.tell(What::BytesFlipped);
    assert!(bad.is_empty(), "flips of seed {seed}: {bad:?}");
}

fn failing(seed: u64, times: usize, watchdog: &Watchdog) {
    let mut rng = Rng::new(seed);
    let call = [Call::Read, Call::Write, Call::Sync, Call::Grow][rng.below(4)];
    let fault = Fault::Fail([Times::Once, Times::Forever][rng.below(2)]);
    let nths: Vec<u64> = (0..times * RUNS).map(|_| rng.below(CALLS) as u64).collect();
    let injected = faults::fail_some(call, fault, nths, watchdog, seed);
    count(What::Faults, format!("{call:?} {fault:?}"), injected);
}

fn lying(seed: u64, times: usize, watchdog: &Watchdog) {
    let mut rng = Rng::new(seed);
    let mut counted = lies::Count::default();
    for _ in 0..times * RUNS {
        let nth = rng.below(CALLS) as u64;
        lies::tell_any(nth, seed, &mut rng, watchdog, &mut counted);
    }
    counted.tell("lies of any kind");
}

fn crowds(seed: u64, times: usize, _: &Watchdog) {
    let (snapshots, _) = histories::run(seed);
    let images = histories::crash_many_writers(seed, times * CROWD_IMAGES);
    count(What::Snapshots, "each the prefix that its seq names", snapshots as u64);
    count(What::CrashImages, "under many writers", images as u64);
}

fn files(seed: u64, times: usize, watchdog: &Watchdog) {
    hostile::tell(hostile::draw(seed, times * FILES, watchdog));
}

fn restored(seed: u64, times: usize, watchdog: &Watchdog) {
    restores::crash(times * RESTORES, seed, watchdog).tell();
}

#[cfg(target_os = "linux")]
fn killed_for_real(seed: u64, _: usize, watchdog: &Watchdog) {
    use crate::fixture::Kind;
    use crate::realfs::{FileSystem, Way, kills};

    let mut rng = Rng::new(seed);
    let ways = Way::possible();
    let (file_system, way) = (FileSystem::ALL[rng.below(4)], ways[rng.below(ways.len())]);
    if kills::kill(file_system, way, REAL_LIVES, &mut rng, watchdog).is_err() {
        // Here no file system can be made: what there is has to do.
        crate::process::kills::kill_again_and_again(Kind::Auto, REAL_LIVES, watchdog);
    }
}

#[cfg(target_os = "linux")]
fn cut_off_for_real(seed: u64, _: usize, watchdog: &Watchdog) {
    use crate::realfs::{Way, cuts};

    let mut rng = Rng::new(seed);
    let ways = Way::possible();
    let way = ways[rng.below(ways.len())];
    let (file_system, cut) = cuts::CUTS[rng.below(cuts::CUTS.len())];
    if let Err(reason) = cuts::lose_power(file_system, cut, way, REAL_LIVES, &mut rng, watchdog) {
        say(format!("soak: no power cut here: {reason}"));
    }
}

#[cfg(not(target_os = "linux"))]
fn killed_for_real(_: u64, _: usize, _: &Watchdog) {}

#[cfg(not(target_os = "linux"))]
fn cut_off_for_real(_: u64, _: usize, _: &Watchdog) {}

/// The turns of one run, handed out to its threads.
struct Soak {
    first: u64,
    patience: Option<Duration>,
    started: Instant,
    next: AtomicU64,
    failed: AtomicBool,
}

impl Soak {
    /// Takes turns until the time is over or one has failed.
    fn work(&self) {
        let watchdog = Watchdog::new("soak");
        while !self.failed.load(Ordering::SeqCst) {
            let turn = self.next.fetch_add(1, Ordering::SeqCst);
            if self.is_over(turn) {
                return;
            }
            let seed = Rng::new(self.first.wrapping_add(turn)).bits();
            let take = TURNS[turn as usize % TURNS.len()];
            let times = if self.patience.is_some() { LONGER } else { 1 };
            if catch_unwind(AssertUnwindSafe(|| take(seed, times, &watchdog))).is_err() {
                say(format!("soak: failed in turn {turn}, seed {seed}"));
                self.failed.store(true, Ordering::SeqCst);
            }
            count(What::Turns, format!("from seed {}", self.first), 1);
            if turn % TURNS_TOLD == TURNS_TOLD - 1 {
                counts::tell();
            }
        }
    }

    fn is_over(&self, turn: u64) -> bool {
        match self.patience {
            Some(patience) => self.started.elapsed() >= patience,
            None => turn >= TURNS.len() as u64,
        }
    }
}

#[test]
fn everything_with_fresh_seeds_for_as_long_as_asked() {
    let minutes = number("RINGDB_TEST_MINUTES");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let fresh = minutes.and(now.ok()).map_or(1, |since| since.as_nanos() as u64);
    let first = number("RINGDB_TEST_SEED").unwrap_or(fresh);
    say(format!("soak: first seed {first}, {} minutes", minutes.unwrap_or(0)));
    let soak = Soak {
        first,
        patience: minutes.map(|minutes| Duration::from_secs(60 * minutes)),
        started: Instant::now(),
        next: AtomicU64::new(0),
        failed: AtomicBool::new(false),
    };
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get());
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(|| soak.work()))));
    assert!(!soak.failed.into_inner(), "first seed {first}: see above");
}
