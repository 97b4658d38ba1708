//! A disk that lies: writes lost or gone elsewhere, reads with flipped bits or from elsewhere.
//!
//! After such a life and a clean close the file gives the right answers or a typed error, and what
//! a live database answered was right, too.

use ringdb::ErrorKind;
use ringdb::sim::{Call, Disk, Fault};

use crate::fixture::{Watchdog, block_on, say, scale, seed};
use crate::oracle::{Base, Recorded, Unread, read};
use crate::rng::Rng;
use crate::state::State;
use crate::workload::{Recorder, options};

/// How lies end.
#[derive(Default)]
struct Count {
    told: u64,
    right: u64,
    detected: u64,
}

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
    match read(disk, options()) {
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

fn each(name: &str, call: Call, fault: impl Fn(&mut Rng) -> Fault) {
    let seed = seed(&format!("lies, {name}"), 21);
    let watchdog = Watchdog::new("lies");
    let mut rng = Rng::new(seed);
    let mut count = Count::default();
    let mut nth = 0;
    loop {
        watchdog.step(format!("{name} {nth}"));
        if !one(call, nth, fault(&mut rng), seed, &mut count) {
            break;
        }
        nth += 1 + nth / (16 * scale() as u64);
    }
    let Count { told, right, detected } = count;
    say(format!("lies, {name}: {told} told, right {right}, detected {detected}, wrong 0"));
    assert!(told > 0, "a dead knob must show");
}

#[test]
fn lost_writes_are_harmless_or_detected() {
    each("lost writes", Call::Write, |_| Fault::Lose);
}

#[test]
fn misdirected_writes_are_harmless_or_detected() {
    each("misdirected writes", Call::Write, |rng| Fault::Misdirect(4096 * rng.below(300) as u64));
}

#[test]
fn flipped_bits_in_reads_are_detected() {
    each("flipped reads", Call::Read, |rng| Fault::Flip {
        byte: rng.below(8192),
        mask: 1 << rng.below(8),
    });
}

#[test]
fn misdirected_reads_are_detected() {
    each("misdirected reads", Call::Read, |rng| Fault::Misdirect(4096 * rng.below(200) as u64));
}
