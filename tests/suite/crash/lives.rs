//! Lives in a row: a script is recorded and loses power everywhere, what is left lives on and loses
//! power everywhere in its recovery, and so on.

use std::collections::HashSet;

use ringdb::sim::Disk;

use super::images::{Image, Walk, sample};
use super::{DEPTH_MAX, Tally};
use crate::fixture::Watchdog;
use crate::flips::engine_panics;
use crate::oracle::{Base, Recorded};
use crate::rng::Rng;
use crate::scripts::Script;
use crate::workload::{Recorder, options};

/// Different images that a recovery has at its points: with fewer to spare for each, only some of
/// the recoveries are looked at.
const RECOVERY_IMAGES: usize = 24;
/// Images of the second life on a random path.
const SECOND_IMAGES: usize = 40;
/// Images of each life beyond it.
const DEEP_IMAGES: usize = 12;

/// Runs a script from a base on a disk of its own.
pub fn record(disk: &Disk, base: &Base, script: Script, seed: u64) -> Recorded {
    let mut recorder = Recorder::open(disk, options(), seed).expect("the database opens");
    script(&mut recorder);
    let errors = std::mem::take(&mut recorder.errors);
    let recorded = recorder.close(base);
    assert!(errors.is_empty(), "nothing fails on a good disk: {errors:?}");
    recorded
}

/// How many images a seed may cost, at most.
#[derive(Clone, Copy)]
pub struct Budget {
    /// Of the script's own life.
    pub first: usize,
    /// Of the recoveries that follow a power loss at each of its points.
    pub recoveries: usize,
    /// Of lives that go on, on random paths.
    pub paths: usize,
}

impl Budget {
    /// So many images of the script's own life, and a quarter as many of others.
    pub fn of(images: usize) -> Budget {
        Budget { first: images, recoveries: images / 8, paths: images / 8 }
    }
}

/// Crashes lives, and counts what it has checked.
pub struct Crasher<'a> {
    watchdog: &'a Watchdog,
    /// The bytes of every image so far.
    seen: HashSet<u64>,
    rng: Rng,
    pub tally: Tally,
}

impl Crasher<'_> {
    /// One that has seen nothing.
    pub fn new(watchdog: &Watchdog) -> Crasher<'_> {
        let (seen, rng, tally) = (HashSet::new(), Rng::new(0), Tally::default());
        Crasher { watchdog, seen, rng, tally }
    }

    /// Records a script once, and loses power in it and in lives that follow.
    pub fn crash(&mut self, name: &str, script: Script, seed: u64, budget: Budget) {
        let recorded = record(&Disk::traced(), &Base::default(), script, seed);
        self.rng = Rng::new(seed);
        let mut walk = Walk::new(&recorded, format!("{name}, seed {seed}"));
        let mut images = walk.images(&mut self.rng);
        self.tally.seeds += 1;
        self.tally.points += recorded.points + 1;
        self.tally.possible += images.len();
        sample(&mut images, budget.first, &mut self.rng);
        self.check_all(&mut walk, &images, 0);
        self.recoveries(&walk, budget.recoveries);
        let before = self.tally.nested();
        while self.tally.nested() < before + budget.paths {
            let left = before + budget.paths - self.tally.nested();
            let image = images[self.rng.below(images.len())];
            self.path(&walk, image, left);
        }
    }

    fn check_all(&mut self, walk: &mut Walk<'_>, images: &[Image], depth: usize) {
        let before = engine_panics();
        for image in images {
            self.watchdog.step(walk.told(*image));
            self.tally.by_depth[depth] += usize::from(walk.check(*image, &mut self.seen));
        }
        // Of a database that is let go nobody hears what becomes of its threads.
        assert_eq!(engine_panics(), before, "a thread of the engine panicked");
    }

    /// Power is lost at each point of a life, with nothing or with all of what was unsynced, and
    /// again at each point of the opening and closing that follow, in the same two ways. Then, as
    /// far as `max` goes, with every other subset and tear, spread evenly over the recoveries.
    fn recoveries(&mut self, walk: &Walk<'_>, max: usize) {
        let (mut starts, mut known) = (walk.boundaries(), HashSet::new());
        starts.retain(|image| known.insert(walk.fingerprint(*image)));
        sample(&mut starts, max / RECOVERY_IMAGES, &mut self.rng);
        let before = self.tally.by_depth[1];
        for (n, start) in starts.iter().enumerate() {
            let (disk, base) = walk.revive(*start);
            let recorded = record(&disk, &base, |_| {}, self.rng.bits());
            let words = format!("{} → recovery", walk.told(*start));
            let mut recovery = Walk::new(&recorded, words);
            let boundaries = recovery.boundaries();
            self.check_all(&mut recovery, &boundaries, 1);
            let left = (before + max).saturating_sub(self.tally.by_depth[1]);
            let mut others = recovery.images(&mut self.rng);
            sample(&mut others, left / (starts.len() - n), &mut self.rng);
            self.check_all(&mut recovery, &others, 1);
        }
    }

    /// What is left lives on for a few commits, and loses power anywhere, in its recovery too; one
    /// of these images lives on, and so to the deepest life.
    fn path(&mut self, walk: &Walk<'_>, start: Image, max: usize) {
        let (disk, base) = walk.revive(start);
        let seed = self.rng.bits();
        let recorded = record(&disk, &base, a_few_commits, seed);
        let words = format!("{} → life 2, seed {seed}", walk.told(start));
        let mut walk = Walk::new(&recorded, words);
        let mut images = walk.images(&mut self.rng);
        sample(&mut images, max.min(SECOND_IMAGES), &mut self.rng);
        self.check_all(&mut walk, &images, 1);
        let image = images[self.rng.below(images.len())];
        let (disk, base) = walk.revive(image);
        self.deeper(disk, base, walk.told(image));
    }

    /// One path of lives to the deepest; of each a few images, and one of these lives on.
    fn deeper(&mut self, mut disk: Disk, mut base: Base, mut words: String) {
        for depth in 2..DEPTH_MAX {
            let seed = self.rng.bits();
            let recorded = record(&disk, &base, a_few_commits, seed);
            let words_of_life = format!("{words} → life {}, seed {seed}", depth + 1);
            let mut walk = Walk::new(&recorded, words_of_life);
            let images: Vec<_> = (0..DEEP_IMAGES).map(|_| walk.any(&mut self.rng)).collect();
            self.check_all(&mut walk, &images, depth);
            let image = images[self.rng.below(DEEP_IMAGES)];
            words = walk.told(image);
            (disk, base) = walk.revive(image);
        }
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
