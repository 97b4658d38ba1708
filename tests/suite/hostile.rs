//! Hostile files: the golden database, edited and sealed again with good checksums, so that only
//! the decoders can refuse what is in it. The targets are those of `fuzz/`: its kept inputs, and
//! inputs drawn by a seed.

use std::fs;
use std::path::Path;

use crate::counts::{What, count};
use crate::fixture::{Watchdog, say, scale, seed};
use crate::flips::engine_panics;
use crate::rng::Rng;
use crate::targets::{Outcome, Target, outcome};

/// Inputs drawn for each target.
const DRAWN: usize = 250;
/// Edits of a drawn input, at most.
const EDITS_MAX: usize = 6;
/// Bytes of an input that make one edit.
const EDIT_BYTES: usize = 10;

/// How often each outcome came: refused, noticed, accepted.
pub type Count = [u64; 3];

/// An input: mostly sealed, of a few edits.
fn drawn(rng: &mut Rng) -> Vec<u8> {
    let edits = 1 + rng.below(EDITS_MAX);
    let sealed = u8::from(!rng.one_in(16));
    [vec![sealed], rng.bytes(edits * EDIT_BYTES)].concat()
}

/// The inputs that are kept because they once found something, or reach far.
fn kept(target: Target) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name());
    let entries = fs::read_dir(corpus).expect("each target has a corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it is listed").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("an input is read")).collect()
}

/// Takes the engine through one file.
///
/// # Panics
/// If it panicked, on whatever thread, or gave an answer that no bytes excuse.
fn one(target: Target, input: &[u8], watchdog: &Watchdog, counted: &mut Count) {
    watchdog.step(format!("{} {input:?}", target.name()));
    let before = engine_panics();
    let ended = outcome(target, input);
    assert_eq!(engine_panics(), before, "a thread panicked: {} {input:?}", target.name());
    counted[match ended {
        Outcome::Refused => 0,
        Outcome::Noticed => 1,
        Outcome::Accepted => 2,
    }] += 1;
}

/// So many drawn inputs of any target.
pub fn draw(seed: u64, inputs: usize, watchdog: &Watchdog) -> Count {
    let (mut rng, mut counted) = (Rng::new(seed), Count::default());
    for _ in 0..inputs {
        let target = Target::ALL[rng.below(Target::ALL.len())];
        one(target, &drawn(&mut rng), watchdog, &mut counted);
    }
    counted
}

/// Tells it to those who read only the end of what is printed.
pub fn tell([refused, noticed, accepted]: Count) {
    count(What::HostileFiles, "refused", refused);
    count(What::HostileFiles, "opened and noticed", noticed);
    count(What::HostileFiles, "accepted", accepted);
    count(What::HostileFiles, "panicked", 0);
}

#[test]
fn no_file_with_good_checksums_makes_the_engine_panic_or_go_on_for_ever() {
    let seed = seed("hostile files", 1);
    let (watchdog, mut rng) = (Watchdog::new("hostile files"), Rng::new(seed));
    for target in Target::ALL {
        let (kept, mut counted) = (kept(target), Count::default());
        assert!(!kept.is_empty(), "{} has a corpus", target.name());
        kept.iter().for_each(|input| one(target, input, &watchdog, &mut counted));
        for _ in 0..DRAWN * scale() {
            one(target, &drawn(&mut rng), &watchdog, &mut counted);
        }
        let [refused, noticed, accepted] = counted;
        say(format!(
            "hostile files, {}: {} kept ones and {} of seed {seed}: refused {refused}, noticed \
             {noticed}, accepted {accepted}, panicked 0",
            target.name(),
            kept.len(),
            DRAWN * scale(),
        ));
        tell(counted);
        assert!(refused + noticed > 0, "a dead knob must show");
    }
}
