//! The whole net with fresh seeds, for as long as wanted:
//!
//! ```text
//! RINGDB_TEST_MINUTES=60 cargo test -p ringdb --test suite soak -- --nocapture
//! ```
//!
//! Crash images, kills, flips, faults, lies and concurrent histories take turns on as many threads
//! as there are cores, each turn with a seed that no turn before had. The first seed is printed
//! (by default it is the time of day; `RINGDB_TEST_SEED` sets it), and a failure names its own.
//! Without the variable each takes one short turn, always with the same seeds.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use ringdb::sim::{Call, Fault, Times};

use crate::crash::{Tally, crash_life};
use crate::fixture::{Watchdog, number, say};
use crate::flips::{self, Small};
use crate::kill::kill_life;
use crate::rng::Rng;
use crate::scripts::SCRIPTS;
use crate::{faults, histories, lies};

/// Images of one turn.
const IMAGES: usize = 400;
/// Kills of one turn.
const KILLS: usize = 10;
/// Flipped bytes of one turn.
const FLIPS: usize = 400;
/// Runs with a fault, or with a lie, of one turn.
const RUNS: usize = 8;
/// Calls among which one is chosen to go wrong.
const CALLS: usize = 80;

/// What all turns together did.
#[derive(Default)]
struct Totals {
    turns: u64,
    crashes: Tally,
    kills: usize,
    flips: flips::Count,
    faults: u64,
    lies: lies::Count,
    snapshots: usize,
    operations: usize,
    many_writers: usize,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} turns", self.turns)?;
        writeln!(f, "      crash images: {}", self.crashes)?;
        writeln!(f, "      images under many writers: {}", self.many_writers)?;
        writeln!(f, "      power losses after a kill: {}", self.kills)?;
        writeln!(f, "      flips: {}: {}", self.flips.all(), self.flips)?;
        writeln!(f, "      faults injected: {}", self.faults)?;
        writeln!(f, "      lies: {}", self.lies)?;
        write!(f, "      histories: {} snapshots, ", self.snapshots)?;
        write!(f, "{} operations in order", self.operations)
    }
}

type Turn = fn(u64, &Watchdog, &Mutex<Totals>);

const TURNS: [Turn; 6] = [crashes, kills, flipped, failing, lying, crowds];

fn crashes(seed: u64, watchdog: &Watchdog, totals: &Mutex<Totals>) {
    let (name, script) = SCRIPTS[Rng::new(seed).below(SCRIPTS.len())];
    let mut tally = Tally::default();
    crash_life(name, script, seed, IMAGES, watchdog, &mut tally);
    totals.lock().crashes.add(&tally);
}

fn kills(seed: u64, watchdog: &Watchdog, totals: &Mutex<Totals>) {
    let (name, script) = SCRIPTS[Rng::new(seed).below(SCRIPTS.len())];
    let images = kill_life(name, script, seed, KILLS, watchdog);
    totals.lock().kills += images;
}

fn flipped(seed: u64, _: &Watchdog, totals: &Mutex<Totals>) {
    let small = Small::new(seed);
    let offsets = small.some_offsets(FLIPS, &mut Rng::new(seed));
    let (count, bad) = small.flip_all(&offsets, seed);
    assert!(bad.is_empty(), "flips of seed {seed}: {bad:?}");
    totals.lock().flips.join(count);
}

fn failing(seed: u64, watchdog: &Watchdog, totals: &Mutex<Totals>) {
    let mut rng = Rng::new(seed);
    let call = [Call::Read, Call::Write, Call::Sync, Call::Grow][rng.below(4)];
    let fault = Fault::Fail([Times::Once, Times::Forever][rng.below(2)]);
    let nths: Vec<u64> = (0..RUNS).map(|_| rng.below(CALLS) as u64).collect();
    let injected = faults::fail_some(call, fault, nths, watchdog, seed);
    totals.lock().faults += injected;
}

fn lying(seed: u64, watchdog: &Watchdog, totals: &Mutex<Totals>) {
    let mut rng = Rng::new(seed);
    let mut count = lies::Count::default();
    for _ in 0..RUNS {
        let nth = rng.below(CALLS) as u64;
        lies::tell_any(nth, seed, &mut rng, watchdog, &mut count);
    }
    totals.lock().lies.join(&count);
}

fn crowds(seed: u64, _: &Watchdog, totals: &Mutex<Totals>) {
    let (snapshots, operations) = histories::run(seed);
    let images = histories::crash_many_writers(seed, 2 * RUNS);
    let mut totals = totals.lock();
    totals.snapshots += snapshots;
    totals.operations += operations;
    totals.many_writers += images;
}

#[test]
fn everything_with_fresh_seeds_for_as_long_as_asked() {
    let minutes = number("RINGDB_TEST_MINUTES");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let fresh = minutes.and(now.ok()).map_or(1, |since| since.as_nanos() as u64);
    let first = number("RINGDB_TEST_SEED").unwrap_or(fresh);
    say(format!("soak: first seed {first}, {} minutes", minutes.unwrap_or(0)));
    let patience = minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let (started, turns) = (Instant::now(), AtomicU64::new(0));
    let (totals, failed) = (Mutex::new(Totals::default()), AtomicBool::new(false));
    let work = || {
        let watchdog = Watchdog::new("soak");
        while !failed.load(Ordering::SeqCst) {
            let turn = turns.fetch_add(1, Ordering::SeqCst);
            let is_over = match patience {
                Some(patience) => started.elapsed() >= patience,
                None => turn >= TURNS.len() as u64,
            };
            if is_over {
                return;
            }
            let take = TURNS[turn as usize % TURNS.len()];
            let seed = Rng::new(first.wrapping_add(turn)).bits();
            let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                take(seed, &watchdog, &totals);
            }));
            if taken.is_err() {
                say(format!("soak: failed in turn {turn}, seed {seed}"));
                failed.store(true, Ordering::SeqCst);
            }
            totals.lock().turns += 1;
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get());
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let totals = totals.into_inner();
    say(format!("soak: first seed {first}, {totals}"));
    assert!(!failed.into_inner(), "first seed {first}: see above");
    assert!(totals.turns >= TURNS.len() as u64 || patience.is_some());
}
