//! Transfers that are short, interrupted, late, or done in another order than they were asked for.

use std::sync::atomic::{AtomicBool, Ordering};

use ringdb::Options;
use ringdb::sim::{Call, Choice, Disk, Fault, Injected};

use crate::counts::{What, count};
use crate::fixture::{Watchdog, say};
use crate::oracle::Base;
use crate::scripts::{self, Script};
use crate::workload::{Recorder, options};

/// How transfers are cut, when they are: to so many bytes, or by one.
const SHORT: [Fault; 6] = [
    Fault::Short(1),
    Fault::Short(511),
    Fault::Short(512),
    Fault::Short(4095),
    Fault::Short(8191),
    Fault::ShortBy(1),
];
/// Calls of each kind that are tampered with.
const CALLS_MAX: u64 = 20_000;

/// Runs a script on a disk that cuts or interrupts each `every`-th transfer, then crashes it; what
/// was injected.
pub fn cut_transfers(name: &str, script: Script, every: usize, watchdog: &Watchdog) -> Injected {
    watchdog.step(format!("{name}, every {every}"));
    let disk = Disk::traced();
    for nth in (0..CALLS_MAX).step_by(every) {
        let fault = match nth as usize % (SHORT.len() + 1) {
            0 => Fault::Interrupt,
            kind => SHORT[kind - 1],
        };
        disk.faults().add(Call::Read, nth, fault);
        disk.faults().add(Call::Write, nth, fault);
    }
    crash_and_close(name, script, disk, options(), every as u64)
}

/// Runs a script on a disk that has been tampered with: nothing fails, and power loss is survived.
fn crash_and_close(
    name: &str,
    script: Script,
    disk: Disk,
    options: Options,
    seed: u64,
) -> Injected {
    let mut recorder = Recorder::open(&disk, options, seed).unwrap();
    script(&mut recorder);
    assert!(recorder.errors.is_empty(), "{name}: {:?}", recorder.errors);
    let recorded = recorder.close(&Base::default());
    let floor = recorded.floor(recorded.points);
    for point in [recorded.points / 3, recorded.points / 2, recorded.points] {
        let image = disk.image(point, Choice::Seeded(seed));
        let verdict = recorded.verify(&image, recorded.floor(point));
        verdict.unwrap_or_else(|wrong| panic!("{name}, point {point}: {wrong}"));
    }
    recorded.verify(&disk, floor).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
    disk.faults().injected()
}

#[test]
fn short_and_interrupted_transfers_are_resumed() {
    let watchdog = Watchdog::new("short transfers");
    let (mut short, mut interrupted) = (0, 0);
    for (name, script) in scripts::SCRIPTS {
        for every in [1, 3] {
            let injected = cut_transfers(name, script, every, &watchdog);
            short += injected.short;
            interrupted += injected.interrupted;
        }
    }
    count(What::Faults, "short transfers", short);
    count(What::Faults, "interrupted transfers", interrupted);
    say(format!("faults: {short} short transfers, {interrupted} interrupted ones"));
    assert!(short > 0 && interrupted > 0, "a dead knob must show");
}

/// Holds the disk up again and again, so that what is asked for meanwhile is there to be done in
/// another order.
fn hold_up(disk: &Disk, is_over: &AtomicBool) {
    const TURNS: usize = 40;
    while !is_over.load(Ordering::SeqCst) {
        disk.pause();
        (0..TURNS).for_each(|_| std::thread::yield_now());
        disk.resume();
        std::thread::yield_now();
    }
}

#[test]
fn late_completions_in_any_order_and_a_queue_of_two_entries_change_nothing() {
    let watchdog = Watchdog::new("reordered");
    let mut reordered = 0;
    for (n, (name, script)) in (1u64..).zip(scripts::SCRIPTS) {
        for queue_depth in [2, 128] {
            watchdog.step(format!("{name}, queue of {queue_depth}"));
            let (disk, is_over) = (Disk::traced(), AtomicBool::new(false));
            disk.shuffle(n);
            let options = options().queue_depth(queue_depth);
            reordered += std::thread::scope(|scope| {
                let life = scope.spawn(|| {
                    let _over = Over(&is_over);
                    crash_and_close(name, script, disk.clone(), options, n)
                });
                hold_up(&disk, &is_over);
                life.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).reordered
            });
        }
    }
    count(What::Faults, "completions out of order", reordered);
    say(format!("faults: {reordered} completions out of order, queues of 2 and 128 entries"));
    assert!(reordered > 0, "a dead knob must show");
}

/// Says that its scope is over, however it ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
