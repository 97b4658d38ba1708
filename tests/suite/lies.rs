//! A disk that lies: writes lost or gone elsewhere, reads with flipped bits or from elsewhere.
//!
//! After such a life and a clean close the file gives the right answers or a typed error, and what
//! a live database answered was right, too.

use std::fmt;

use ringdb::ErrorKind;
use ringdb::sim::{Call, Choice, Disk, Fault};

use crate::counts::{self, What};
use crate::fixture::{Watchdog, block_on, say, seed};
use crate::oracle::{Base, Ending, Recorded, Unread, read};
use crate::rng::Rng;
use crate::state::State;
use crate::workload::{Recorder, options};

/// How lies end.
#[derive(Clone, Copy, Default)]
pub struct Count {
    told: u64,
    right: u64,
    detected: u64,
}

impl Count {
    /// Tells it to those who read only the end of what is printed.
    pub fn tell(&self, name: &str) {
        counts::count(What::Lies, name, self.told);
        counts::count(What::Lies, "believed", 0);
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count { told, right, detected } = self;
        write!(f, "{told} told, right {right}, detected {detected}, wrong 0")
    }
}

/// A lie of a kind, with what else it needs.
type Lie = fn(&mut Rng) -> Fault;

/// Every kind.
const LIES: [(&str, Call, Lie); 4] = [
    ("lost writes", Call::Write, |_| Fault::Lose),
    ("misdirected writes", Call::Write, |rng| Fault::Misdirect(4096 * rng.below(300) as u64)),
    ("flipped reads", Call::Read, |rng| Fault::Flip {
        byte: rng.below(8192),
        mask: 1 << rng.below(8),
    }),
    ("misdirected reads", Call::Read, |rng| Fault::Misdirect(4096 * rng.below(200) as u64)),
];

/// A life with reads of what was written, some of it from the disk.
fn script(recorder: &mut Recorder) {
    recorder.create("rows");
    for n in 0..30 {
        recorder.changes().put("rows", format!("{:02}", n % 11), 9000).submit();
        if n % 8 == 3 {
            recorder.settle();
            recorder.checkpoint();
        }
    }
    recorder.changes().put("rows", "large", 150_000).commit();
}

/// One life, told one lie; false if it never came to that.
fn one(call: Call, nth: u64, fault: Fault, seed: u64, count: &mut Count) -> bool {
    let context = format!("{call:?} {nth} {fault:?}, seed {seed}");
    let disk = Disk::new();
    // A database with rows on the disk, so that opening and scanning read.
    let mut recorder = Recorder::open(&disk, options(), seed).unwrap();
    script(&mut recorder);
    let recorded = recorder.close(&Base::default());
    let base = recorded.last();
    disk.faults().add(call, nth, fault);
    match Recorder::open(&disk, options(), seed + 1) {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{context}: {error:?}");
            count.detected += 1;
        }
        Ok(mut recorder) => {
            let live = look(&recorder, &base, &context);
            count.detected += u64::from(!live);
            recorder.drop_family("rows");
            script(&mut recorder);
            let errors = std::mem::take(&mut recorder.errors);
            let recorded = recorder.close(&base);
            for error in errors {
                let kind = error.kind();
                let typed = [ErrorKind::Corrupt, ErrorKind::NotFound, ErrorKind::AlreadyExists];
                let typed = typed.contains(&kind) || kind == ErrorKind::Poisoned;
                assert!(typed, "{context}: {error:?}");
            }
            judge(&recorded, &disk, count, &context);
        }
    }
    let injected = disk.faults().injected();
    let told = injected.lost + injected.misdirected + injected.flipped;
    count.told += told;
    told > 0
}

/// What a live database answers is right (true) or an error.
fn look(recorder: &Recorder, base: &Base, context: &str) -> bool {
    match block_on(State::read(&recorder.db)) {
        Ok(found) => {
            let difference = found.difference(&base.logged);
            assert!(found == base.logged, "{context}, live: {difference}");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{context}, live: {error:?}");
            false
        }
    }
}

fn judge(recorded: &Recorded, disk: &Disk, count: &mut Count, context: &str) {
    disk.faults().clear();
    match read(disk, options(), Ending::Closed) {
        Ok(found) => {
            // An error on the way may have left commits out, never a hole.
            let verdict = recorded.judge(&found, Default::default());
            verdict.unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
            count.right += 1;
        }
        Err(Unread::Failed(call, error)) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{context}, {call}: {error:?}");
            count.detected += 1;
        }
        Err(Unread::Listed(_)) => count.detected += 1,
    }
}

/// One lie of any kind about the `nth` call of its kind.
///
/// # Panics
/// If it was believed.
pub fn tell_any(nth: u64, seed: u64, rng: &mut Rng, watchdog: &Watchdog, count: &mut Count) {
    let (name, call, lie) = LIES[rng.below(LIES.len())];
    watchdog.step(format!("{name} {nth}, seed {seed}"));
    one(call, nth, lie(rng), seed, count);
}

/// Every call, until the life is through without meeting the lie.
fn each((name, call, lie): (&str, Call, Lie)) {
    let seed = seed(&format!("lies, {name}"), 21);
    let watchdog = Watchdog::new("lies");
    let mut rng = Rng::new(seed);
    let mut count = Count::default();
    let mut nth = 0;
    loop {
        watchdog.step(format!("{name} {nth}"));
        if !one(call, nth, lie(&mut rng), seed, &mut count) {
            break;
        }
        nth += 1;
    }
    count.tell(name);
    say(format!("lies, {name}: each of the first {nth} calls, {count}"));
    assert!(count.told > 0, "a dead knob must show");
}

#[test]
fn lost_writes_are_harmless_or_detected() {
    each(LIES[0]);
}

#[test]
fn misdirected_writes_are_harmless_or_detected() {
    each(LIES[1]);
}

#[test]
fn flipped_bits_in_reads_are_detected() {
    each(LIES[2]);
}

#[test]
fn misdirected_reads_are_detected() {
    each(LIES[3]);
}

/// A log write is lost, and then the power: what is left is a prefix, or the loss is noticed. How
/// often it was noticed.
///
/// # Panics
/// If commits behind the lost ones are taken for what follows.
pub fn lost_before_a_crash(seed: u64, watchdog: &Watchdog) -> u64 {
    let (mut nth, mut noticed) = (0, 0);
    loop {
        let context = format!("lost write {nth} before a crash, seed {seed}");
        watchdog.step(&context);
        let disk = Disk::traced();
        let mut recorder = Recorder::open(&disk, options(), seed).unwrap();
        recorder.create("rows");
        disk.faults().add(Call::Write, nth, Fault::Lose);
        for n in 0..40 {
            recorder.changes().put("rows", format!("{n:02}"), 9000).commit();
        }
        assert!(recorder.errors.is_empty(), "nobody is told of a lost write");
        let recorded = recorder.finish(&Base::default());
        let lost = disk.faults().injected().lost;
        let image = disk.image(recorded.points, Choice::All);
        match read(&image, options(), Ending::Closed) {
            Ok(found) => {
                let verdict = recorded.judge(&found, Default::default());
                verdict.unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
            }
            Err(Unread::Failed(call, error)) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{context}, {call}: {error:?}");
                noticed += 1;
            }
            Err(Unread::Listed(_)) => noticed += 1,
        }
        if lost == 0 {
            return noticed;
        }
        nth += 1;
    }
}

#[test]
fn a_lost_log_write_before_a_crash_leaves_a_prefix_or_is_noticed() {
    let seed = seed("lies before a crash", 3);
    let noticed = lost_before_a_crash(seed, &Watchdog::new("lies before a crash"));
    counts::count(What::Lies, "lost log writes noticed after a crash", noticed);
    say(format!("lies, lost log writes before a crash: noticed {noticed}, wrong 0"));
    assert!(noticed > 0, "a later group proves that one is missing");
}
