//! Power loss at every point of the canonical workloads, with every subset of the unsynced writes
//! that the device may keep; then the oracle. Crashes during recovery included.
//!
//! `RINGDB_TEST_IMAGES` says how many different images each workload may cost (multiplied by
//! `RINGDB_TEST_SCALE`); `all` means all of the first seed. A third of them are of the script's own
//! life; half of recoveries, one after a loss at each point of that life, crashed at each of their
//! own; the rest of random paths of up to five crashes in a row. A workload with fewer goes on with
//! the next seed, of one with more a sample is taken that is spread evenly over its trace.

mod images;
mod lives;

use std::fmt;

use crate::counts::{What, count};
use crate::fixture::{Watchdog, say, scale, seed};
use crate::scripts::{SCRIPTS, Script};
pub use images::{choices, sample};
pub use lives::{Budget, Crasher, record};

/// Different images of each workload.
const IMAGES_MAX: usize = 14_750;
/// Seeds that one workload may use up.
const SEEDS_MAX: u64 = 100;
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

    /// Tells it to those who read only the end of what is printed.
    pub fn tell(&self) {
        for (number, depth) in self.by_depth.iter().zip(1..) {
            let part = if depth == 1 { "after 1 crash".into() } else { format!("after {depth}") };
            count(What::CrashImages, part, *number as u64);
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { seeds, points, possible, by_depth } = self;
        write!(
            f,
            "{} different images; after 1, 2, 3, 4, 5 crashes: {by_depth:?}; {seeds} seeds, whose \
             first lives have {points} points with {possible} outcomes",
            self.images(),
        )
    }
}

/// Loses power at every point of a script, with one seed after another, until the images are used
/// up.
fn crash(name: &'static str, script: Script) {
    let first = seed(&format!("crash {name}"), 0x5eed);
    let (watchdog, max) = (Watchdog::new("crash"), images_max());
    let mut crasher = Crasher::new(&watchdog);
    for seed in (0..SEEDS_MAX).map(|n| first.wrapping_add(n)) {
        let left = max.saturating_sub(crasher.tally.images());
        let paths = left.min(IMAGES_MAX) / 8;
        let budget = Budget { first: left / 3, recoveries: left / 2, paths };
        crasher.crash(name, script, seed, budget);
        // The last few would cost a seed of their own.
        if max == usize::MAX || crasher.tally.images() > max - max / 50 {
            break;
        }
    }
    let tally = crasher.tally;
    tally.tell();
    say(format!("crash {name}: first seed {first}, {tally}"));
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
    power_loss_around_loads_leaves_a_prefix: 12;
    power_loss_while_the_file_is_cut_off_leaves_a_prefix: 13;
}
