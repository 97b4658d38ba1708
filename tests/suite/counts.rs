//! What this run has checked, in one place: printed when the process ends, failed or not.
//!
//! A test that counts says so here as well as in a line of its own. What passed on another file
//! system, backend or after another number of crashes is counted apart.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Once;

use parking_lot::Mutex;

use crate::fixture::say;

/// What is counted, in the order in which it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    CrashImages,
    LossesAfterKills,
    BytesFlipped,
    BlocksDamaged,
    HostileFiles,
    Faults,
    Lies,
    PlantedBugs,
    PowerCuts,
    Kills,
    Dropped,
    Snapshots,
    Turns,
}

impl What {
    fn words(self) -> &'static str {
        match self {
            What::CrashImages => "crash images, all different",
            What::LossesAfterKills => "power losses after a kill",
            What::BytesFlipped => "bytes flipped",
            What::BlocksDamaged => "blocks and sectors damaged",
            What::HostileFiles => "hostile files, sealed again",
            What::Faults => "faults injected",
            What::Lies => "lies of the disk",
            What::PlantedBugs => "planted bugs",
            What::PowerCuts => "power cuts survived",
            What::Kills => "kill -9 survived",
            What::Dropped => "futures dropped",
            What::Snapshots => "concurrent snapshots compared",
            What::Turns => "turns of the soak, each with a seed of its own",
        }
    }
}

/// Parts by name, each with its number.
type Parts = BTreeMap<String, u64>;

static COUNTS: Mutex<BTreeMap<What, Parts>> = Mutex::new(BTreeMap::new());

/// Adds to a part of what is counted.
pub fn count(what: What, part: impl Into<String>, number: u64) {
    static PRINTS: Once = Once::new();
    PRINTS.call_once(print_at_exit);
    *COUNTS.lock().entry(what).or_default().entry(part.into()).or_default() += number;
}

/// Prints everything so far.
pub fn tell() {
    say(told(&COUNTS.lock()));
}

/// Everything so far, a line for each kind.
fn told(counts: &BTreeMap<What, Parts>) -> String {
    let mut text = String::from("== counted in this run of the suite");
    for (what, parts) in counts {
        let all: u64 = parts.values().sum();
        let _ = write!(text, "\n    {}: {all}", what.words());
        for (n, (part, number)) in parts.iter().enumerate() {
            let _ = write!(text, "{} {number} {part}", if n == 0 { " =" } else { "," });
        }
    }
    text
}

#[cfg(target_os = "linux")]
fn print_at_exit() {
    extern "C" fn print() {
        tell();
    }
    // SAFETY: the handler is a plain function, which may run at any time: it takes one lock that
    // nobody holds for long, and writes.
    let kept = unsafe { libc::atexit(print) };
    assert_eq!(kept, 0, "a process may have 32 such functions at least");
}

/// Elsewhere each test's own line has to do.
#[cfg(not(target_os = "linux"))]
fn print_at_exit() {}

#[test]
fn counts_are_told_by_kind_and_part() {
    let parts = |parts: &[(&str, u64)]| -> Parts {
        parts.iter().map(|(part, number)| (part.to_string(), *number)).collect()
    };
    let counts = BTreeMap::from([
        (What::BytesFlipped, parts(&[("wrong", 0), ("right", 7), ("detected", 5)])),
        (What::CrashImages, parts(&[("after 1", 3)])),
    ]);
    let expected = "== counted in this run of the suite\n    \
                    crash images, all different: 3 = 3 after 1\n    \
                    bytes flipped: 12 = 5 detected, 7 right, 0 wrong";
    assert_eq!(told(&counts), expected);
}
