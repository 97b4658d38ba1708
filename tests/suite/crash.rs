//! Power loss at every point of the canonical workloads, with every subset of the unsynced writes
//! that the device may keep; then the oracle. Crashes during recovery included.
//!
//! `RINGDB_TEST_IMAGES` says how many different images each workload may cost (multiplied by
//! `RINGDB_TEST_SCALE`); `all` means all of the first seed. A workload with fewer goes on with the
//! next seed, of one with more a sample is taken that is spread evenly over its trace.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringdb::sim::Disk;

use crate::fixture::{Watchdog, say, scale, seed};
use crate::images::{Walk, sample};
use crate::oracle::{Base, Recorded};
use crate::rng::Rng;
use crate::scripts::{SCRIPTS, Script};
use crate::workload::{Recorder, options};

/// Different images of each workload.
const IMAGES_MAX: usize = 17_000;
/// Those on top of it that come from lives after a crash, as a part of that.
const NESTED_FRACTION: usize = 4;
/// Seeds that one workload may use up.
const SEEDS_MAX: u64 = 100;
/// Images of each life beyond the second.
const DEEP_IMAGES: usize = 6;
/// One second life in so many goes on to the deepest.
const DEEP_ONE_IN: usize = 4;
/// Lives in a row on the deepest path.
const DEPTH_MAX: usize = 5;

/// How many images each workload may cost.
fn images_max() -> usize {
    match std::env::var("RINGDB_TEST_IMAGES").as_deref() {
        Ok("all") => usize::MAX,
        Ok(text) => text.parse().expect("RINGDB_TEST_IMAGES is a number or `all`"),
        Err(_) => IMAGES_MAX.saturating_mul(scale()),
    }
}

/// Runs a script from a base on a disk of its own.
pub fn record(disk: &Disk, base: &Base, script: Script, seed: u64) -> Recorded {
    let mut recorder = Recorder::open(disk, options(), seed).expect("the database opens");
    script(&mut recorder);
    let errors = std::mem::take(&mut recorder.errors);
    let recorded = recorder.close(base);
    assert!(errors.is_empty(), "nothing fails on a good disk: {errors:?}");
    recorded
}

/// What was checked, to be printed. Only different images count.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    seeds: u64,
    points: usize,
    possible: usize,
    /// By the number of crashes in a row that led there.
    by_depth: [usize; DEPTH_MAX],
}

impl Tally {
    /// Different images, of all depths.
    pub fn images(&self) -> usize {
        self.by_depth.iter().sum()
    }

    fn nested(&self) -> usize {
        self.by_depth[1..].iter().sum()
    }

    /// Takes in what another counted.
    pub fn add(&mut self, other: &Tally) {
        self.seeds += other.seeds;
        self.points += other.points;
        self.possible += other.possible;
        let both = self.by_depth.iter_mut().zip(other.by_depth);
        both.for_each(|(own, other)| *own += other);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { seeds, points, possible, by_depth } = self;
        write!(
            f,
            "{} different images of {possible} possible ones; {seeds} seeds, {points} points; \
             after 1, 2, 3, 4, 5 crashes: {by_depth:?}",
            self.images(),
        )
    }
}

/// Loses power at every point of a script, with one seed after another, until the images are used
/// up.
fn crash(name: &'static str, script: Script) {
    let first = seed(&format!("crash {name}"), 0x5eed);
    let watchdog = Watchdog::new("crash");
    let max = images_max();
    let mut tally = Tally::default();
    for seed in (0..SEEDS_MAX).map(|n| first.wrapping_add(n)) {
        let left = max.saturating_sub(tally.by_depth[0]);
        crash_life(name, script, seed, left, &watchdog, &mut tally);
        // The last few would cost a seed of their own.
        if max == usize::MAX || max - max / 50 <= tally.by_depth[0] {
            break;
        }
    }
    say(format!("crash {name}: first seed {first}, {tally}"));
    say(format!("crash images so far: {}", total(&tally)));
}

/// Adds to what all tests of this run have counted.
fn total(tally: &Tally) -> usize {
    static TOTAL: AtomicUsize = AtomicUsize::new(0);
    TOTAL.fetch_add(tally.images(), Ordering::Relaxed) + tally.images()
}

/// Records a script once, and checks so many images of it and of lives that follow a crash.
pub fn crash_life(
    name: &str,
    script: Script,
    seed: u64,
    max: usize,
    watchdog: &Watchdog,
    tally: &mut Tally,
) {
    let recorded = record(&Disk::traced(), &Base::default(), script, seed);
    let mut rng = Rng::new(seed);
    let mut walk = Walk::new(&recorded, format!("{name}, seed {seed}"));
    let mut images = walk.images(&mut rng);
    tally.seeds += 1;
    tally.points += recorded.points + 1;
    tally.possible += images.len();
    sample(&mut images, max, &mut rng);
    let before = tally.by_depth[0];
    for image in &images {
        watchdog.step(walk.told(*image));
        tally.by_depth[0] += usize::from(walk.check(*image));
    }
    let nested_max = tally.nested() + (tally.by_depth[0] - before) / NESTED_FRACTION;
    while tally.nested() < nested_max {
        let image = images[rng.below(images.len())];
        let (disk, base) = walk.revive(image);
        let left = nested_max - tally.nested();
        second_life(&disk, &base, walk.told(image), left, &mut rng, watchdog, tally);
    }
}

/// Lets a crashed disk live on for a few commits, and crashes that life everywhere, its recovery
/// included. A few go on to a third life and deeper.
fn second_life(
    disk: &Disk,
    base: &Base,
    words: String,
    max: usize,
    rng: &mut Rng,
    watchdog: &Watchdog,
    tally: &mut Tally,
) {
    let seed = rng.bits();
    let recorded = record(disk, base, a_few_commits, seed);
    let mut walk = Walk::new(&recorded, format!("{words} → life 2, seed {seed}"));
    let mut images = walk.images(rng);
    sample(&mut images, max, rng);
    for image in &images {
        watchdog.step(walk.told(*image));
        tally.by_depth[1] += usize::from(walk.check(*image));
    }
    if rng.one_in(DEEP_ONE_IN) {
        let image = images[rng.below(images.len())];
        let (disk, base) = walk.revive(image);
        deeper(disk, base, walk.told(image), rng, watchdog, tally);
    }
}

/// One path of lives to the deepest; of each a few images, and one of these lives on.
fn deeper(
    mut disk: Disk,
    mut base: Base,
    mut words: String,
    rng: &mut Rng,
    watchdog: &Watchdog,
    tally: &mut Tally,
) {
    for depth in 2..DEPTH_MAX {
        let seed = rng.bits();
        let recorded = record(&disk, &base, a_few_commits, seed);
        let mut walk = Walk::new(&recorded, format!("{words} → life {}, seed {seed}", depth + 1));
        let images: Vec<_> = (0..DEEP_IMAGES).map(|_| walk.any(rng)).collect();
        for image in &images {
            watchdog.step(walk.told(*image));
            tally.by_depth[depth] += usize::from(walk.check(*image));
        }
        let image = images[rng.below(DEEP_IMAGES)];
        words = walk.told(image);
        (disk, base) = walk.revive(image);
    }
}

/// A few commits after recovery: what was rolled back must not come back among them.
fn a_few_commits(recorder: &mut Recorder) {
    if !recorder.has("second") {
        recorder.create("second");
    }
    for n in 0..5 {
        recorder.changes().put("second", format!("{n}"), 600).submit();
    }
    recorder.settle();
    recorder.checkpoint();
    recorder.changes().put("second", "after", 9000).commit();
}

/// One test for each script, so that they run beside one another and fail by name.
macro_rules! crashes {
    ($($name:ident: $index:expr;)*) => {
        $(#[test]
        fn $name() {
            let (name, script) = SCRIPTS[$index];
            crash(name, script);
        })*
        #[test]
        fn every_script_is_crashed() {
            assert_eq!([$($index),*].len(), SCRIPTS.len());
        }
    };
}

crashes! {
    power_loss_while_creating_leaves_nothing_or_an_empty_database: 0;
    power_loss_among_puts_leaves_a_prefix: 1;
    power_loss_among_batches_leaves_whole_batches: 2;
    power_loss_around_family_changes_leaves_a_prefix: 3;
    power_loss_while_checkpointing_leaves_a_prefix: 4;
    power_loss_while_the_log_wraps_leaves_a_prefix: 5;
    power_loss_while_the_file_grows_leaves_a_prefix: 6;
    power_loss_among_extents_leaves_a_prefix: 7;
    power_loss_among_range_deletes_leaves_a_prefix: 8;
    power_loss_leaves_unlogged_families_as_of_a_checkpoint: 9;
    power_loss_among_everything_leaves_a_prefix: 10;
    power_loss_while_trees_are_merged_leaves_a_prefix: 11;
}
