//! Power loss at every point of the canonical workloads, with every subset of the unsynced writes
//! that the device may keep; then the oracle. Crashes during recovery included.
//!
//! `RINGDB_TEST_IMAGES` says how many images each workload may cost (multiplied by
//! `RINGDB_TEST_SCALE`); `all` means all of them. What exceeds that is sampled by the seed.

use std::sync::atomic::{AtomicUsize, Ordering};

use ringdb::sim::{Choice, Disk, SECTOR_BYTES, Unsynced};

use crate::fixture::{Watchdog, say, scale, seed};
use crate::oracle::{Base, Floor, Recorded};
use crate::rng::Rng;
use crate::scripts::{SCRIPTS, Script};
use crate::workload::{Recorder, options};

/// Unsynced writes up to which each is dropped, kept and torn on its own.
const EXHAUSTIVE_WRITES_MAX: usize = 10;
/// Random outcomes tried at a point with more unsynced writes than that.
const SAMPLES_PER_POINT: u64 = 12;
/// One image in so many lives on, and is crashed again.
const NESTED_ONE_IN: usize = 16;
/// Images of each second life.
const NESTED_IMAGES: usize = 6;
/// Lives in a row on the deepest path.
const DEPTH_MAX: usize = 5;

/// How many images each workload may cost.
fn images_max() -> usize {
    match std::env::var("RINGDB_TEST_IMAGES").as_deref() {
        Ok("all") => usize::MAX,
        Ok(text) => text.parse().expect("RINGDB_TEST_IMAGES is a number or `all`"),
        Err(_) => 300usize.saturating_mul(scale()),
    }
}

/// Runs a script from a base on a disk of its own.
fn record(disk: &Disk, base: &Base, script: Script, seed: u64) -> Recorded {
    let mut recorder = Recorder::open(disk, options(), seed).expect("the database opens");
    script(&mut recorder);
    let errors = std::mem::take(&mut recorder.errors);
    let recorded = recorder.close(base);
    assert!(errors.is_empty(), "nothing fails on a good disk: {errors:?}");
    recorded
}

/// Every outcome that the device model allows at a point, or a sample of them.
fn choices(disk: &Disk, point: usize, rng: &mut Rng) -> Vec<Choice> {
    let unsynced = disk.unsynced(point);
    let mut choices = vec![Choice::None];
    if unsynced.is_empty() {
        return choices;
    }
    choices.push(Choice::All);
    if unsynced.len() > EXHAUSTIVE_WRITES_MAX {
        choices.extend((0..SAMPLES_PER_POINT).map(|_| Choice::Seeded(rng.bits())));
        return choices;
    }
    for (change, unsynced_change) in unsynced.iter().enumerate() {
        if unsynced.len() > 1 {
            choices.extend([Choice::Only(change), Choice::AllBut(change)]);
        }
        if let Unsynced::Write { len_bytes, .. } = unsynced_change {
            let sectors = len_bytes / SECTOR_BYTES;
            let mut borders = vec![1, sectors / 2, sectors.saturating_sub(1)];
            borders.dedup();
            borders.retain(|sector| (1..sectors).contains(sector));
            choices.extend(borders.into_iter().map(|sector| Choice::Torn { change, sector }));
        }
    }
    choices
}

/// What was checked, to be printed.
#[derive(Default)]
struct Tally {
    images: AtomicUsize,
    nested: AtomicUsize,
}

/// Records a script, then loses power at every point of it.
fn crash(name: &'static str, script: Script) {
    let seed = seed(&format!("crash {name}"), 0x5eed);
    let watchdog = Watchdog::new("crash");
    let recorded = record(&Disk::traced(), &Base::default(), script, seed);
    let mut rng = Rng::new(seed);
    let mut images: Vec<_> = (0..=recorded.points)
        .flat_map(|point| {
            let choices = choices(&recorded.disk, point, &mut rng);
            choices.into_iter().map(move |choice| (point, choice))
        })
        .collect();
    let possible = images.len();
    sample(&mut images, images_max(), &mut rng);
    let tally = Tally::default();
    for (point, choice) in &images {
        watchdog.step(format!("{name} seed {seed} point {point} {choice:?}"));
        let context = || told(name, seed, &recorded.disk, *point, *choice);
        let floor = recorded.floor(*point);
        let found = one_image(&recorded, *point, *choice, floor, &context);
        tally.images.fetch_add(1, Ordering::Relaxed);
        if rng.one_in(NESTED_ONE_IN) {
            let image = recorded.disk.image(*point, *choice);
            let known = floor.is_created();
            again(&image, &Base { exists: known, ..found }, 2, &mut rng, &tally, &context);
        }
    }
    say(format!(
        "crash {name}: seed {seed}, {} points, {possible} images possible, {} checked, \
         {} more after a second crash",
        recorded.points + 1,
        tally.images.into_inner(),
        tally.nested.into_inner(),
    ));
}

/// A crash in words.
fn told(name: &str, seed: u64, disk: &Disk, point: usize, choice: Choice) -> String {
    let last = disk.describe(point);
    format!("{name}, seed {seed}, point {point} (after {last}), {choice:?}")
}

fn one_image(
    recorded: &Recorded,
    point: usize,
    choice: Choice,
    floor: Floor,
    context: &dyn Fn() -> String,
) -> Base {
    match recorded.verify(&recorded.disk.image(point, choice), floor) {
        Ok(found) => found,
        Err(wrong) => panic!("{}: {wrong}", context()),
    }
}

/// Lets a crashed disk live on for a few commits, and crashes that life, its recovery included.
fn again(
    image: &Disk,
    base: &Base,
    depth: usize,
    rng: &mut Rng,
    tally: &Tally,
    context: &dyn Fn() -> String,
) {
    let seed = rng.bits();
    let recorded = record(image, base, second_life, seed);
    // One path goes deep; its siblings are checked and left.
    let deep = rng.below(NESTED_IMAGES);
    for n in 0..NESTED_IMAGES {
        let point = rng.below(recorded.points + 1);
        let choices = choices(&recorded.disk, point, rng);
        let choice = choices[rng.below(choices.len())];
        let here = || {
            let name = format!("{} → life {depth}", context());
            told(&name, seed, &recorded.disk, point, choice)
        };
        let floor = recorded.floor(point);
        let found = one_image(&recorded, point, choice, floor, &here);
        tally.nested.fetch_add(1, Ordering::Relaxed);
        if n == deep && depth < DEPTH_MAX && rng.one_in(4) {
            let image = recorded.disk.image(point, choice);
            let base = Base { exists: floor.is_created(), ..found };
            again(&image, &base, depth + 1, rng, tally, &here);
        }
    }
}

/// A few commits after recovery: what was rolled back must not come back among them.
fn second_life(recorder: &mut Recorder) {
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

/// Keeps at most `max` of the images, spread evenly, order kept.
fn sample<T>(images: &mut Vec<T>, max: usize, rng: &mut Rng) {
    let (len, max) = (images.len(), max.max(1));
    if len <= max {
        return;
    }
    let offset = rng.below(len);
    let mut index = 0;
    images.retain(|_| {
        // True exactly `max` times for any `len` consecutive indices.
        let place = index + offset;
        index += 1;
        (place + 1) * max / len != place * max / len
    });
}

#[test]
fn a_sample_is_spread_evenly() {
    for (len, max) in [(10, 3), (1000, 7), (5, 5), (5, 9)] {
        let mut images: Vec<_> = (0..len).collect();
        sample(&mut images, max, &mut Rng::new(len as u64));
        assert_eq!(images.len(), max.min(len));
    }
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
}

#[test]
fn random_workloads_survive_power_loss() {
    let first = seed("crash random", 1);
    for round in 0..2 * scale() as u64 {
        let watchdog = Watchdog::new("crash random");
        let mut rng = Rng::new(first.wrapping_add(round));
        let seed = rng.bits();
        let script = SCRIPTS[10].1;
        let recorded = record(&Disk::traced(), &Base::default(), script, seed);
        for _ in 0..images_max().min(100) {
            let point = rng.below(recorded.points + 1);
            let choice = Choice::Seeded(rng.bits());
            watchdog.step(format!("seed {seed} point {point} {choice:?}"));
            let context = || told("mixed", seed, &recorded.disk, point, choice);
            one_image(&recorded, point, choice, recorded.floor(point), &context);
        }
    }
}

#[test]
fn two_workloads_with_writers_on_many_threads_leave_a_prefix() {
    crate::histories::crash_with_many_writers();
}
