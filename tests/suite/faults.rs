//! The n-th read, write or sync fails, once or for ever; the disk is full; transfers are short.
//!
//! For every n until the workload is through without meeting it: every error is typed, nothing
//! hangs, and reopening finds everything that was acknowledged.

use ringdb::sim::{Call, Choice, Disk, Fault, Times};
use ringdb::{Error, ErrorKind};

use crate::fixture::{Watchdog, block_on, eventually, fails, family, get, put, say, scale, seed};
use crate::oracle::{Base, Recorded};
use crate::rng::Rng;
use crate::scripts;
use crate::workload::{Recorder, options};

/// A short life that reads, writes, grows, checkpoints, wraps and closes.
fn script(recorder: &mut Recorder) {
    recorder.create("rows");
    recorder.create("other");
    for n in 0..12 {
        let key = format!("{:02}", n % 5);
        recorder.changes().put("rows", &key, 20_000).put("other", &key, 100).commit();
        if n % 5 == 2 {
            recorder.checkpoint();
        }
    }
    recorder.create("brief");
    recorder.drop_family("brief");
    recorder.changes().put("rows", "large", 200_000).commit();
    recorder.sync();
}

/// One n: how many faults were really injected.
fn fail_nth(call: Call, times: Times, nth: u64, watchdog: &Watchdog, seed: u64) -> u64 {
    let context = format!("{call:?} {times:?} {nth}, seed {seed}");
    watchdog.step(&context);
    let (disk, base) = prepared(seed);
    disk.faults().add(call, nth, Fault::Fail(times));
    let recorded = match Recorder::open(&disk, options(), seed) {
        Ok(recorder) => live(recorder, call, times, &base, &context),
        Err(error) => {
            assert_typed(&error, call, &context);
            Recorded::new(disk.clone(), &base, &[], &[])
        }
    };
    let injected = disk.faults().injected().failed;
    disk.faults().clear();
    let floor = recorded.floor(recorded.points);
    for choice in [Choice::None, Choice::All, Choice::Seeded(seed ^ nth)] {
        let image = recorded.disk.image(recorded.points, choice);
        let verdict = recorded.verify(&image, floor);
        verdict.unwrap_or_else(|wrong| panic!("{context}, {choice:?}: {wrong}"));
    }
    let verdict = recorded.verify(&disk, floor);
    verdict.unwrap_or_else(|wrong| panic!("{context}, reopened: {wrong}"));
    injected
}

/// Runs the script on a disk that will fail.
fn live(mut recorder: Recorder, call: Call, times: Times, base: &Base, context: &str) -> Recorded {
    let met_at_open = recorder.disk.faults().injected().failed;
    script(&mut recorder);
    let met = recorder.disk.faults().injected().failed - met_at_open;
    if matches!(call, Call::Write | Call::Sync) && met > 0 {
        assert_poisoned(&recorder, context);
    }
    recorder.errors.iter().for_each(|error| assert_typed(error, call, context));
    match times {
        Times::Once => recorder.close(base),
        Times::Forever => recorder.finish(base),
    }
}

/// A disk with a database that has something to recover, without its trace, and what it holds.
fn prepared(seed: u64) -> (Disk, Base) {
    let disk = Disk::traced();
    let mut recorder = Recorder::open(&disk, options(), seed).expect("the database opens");
    recorder.create("before");
    for n in 0..20 {
        recorder.changes().put("before", format!("{n:02}"), 3000).submit();
        if n == 10 {
            recorder.checkpoint();
        }
    }
    recorder.settle();
    let recorded = recorder.finish(&Base::default());
    let point = recorded.points;
    let base = recorded
        .verify(&disk.image(point, Choice::None), recorded.floor(point))
        .unwrap_or_else(|wrong| panic!("{wrong}"));
    (disk.image(point, Choice::None), base)
}

fn assert_typed(error: &Error, call: Call, context: &str) {
    let expected: &[ErrorKind] = match call {
        Call::Read => &[ErrorKind::Io],
        // A family whose creation failed is not there for what follows.
        Call::Write | Call::Sync => &[ErrorKind::Io, ErrorKind::Poisoned, ErrorKind::NotFound],
        Call::Grow => &[ErrorKind::Io, ErrorKind::NoSpace, ErrorKind::NotFound],
    };
    assert!(expected.contains(&error.kind()), "{context}: {error:?}");
}

/// Nothing is accepted, nothing is retried, and what can be read is read.
fn assert_poisoned(recorder: &Recorder, context: &str) {
    let db = &recorder.db;
    // The write may have been the keeper's or the checkpointer's, whose thread tells of it next.
    assert!(eventually(|| db.health().writes.is_err()), "{context}: not poisoned");
    let health = db.health();
    let poison = health.writes.expect_err(context);
    assert_eq!(poison.kind(), ErrorKind::Poisoned, "{context}");
    health.reads.expect(context);
    let before = block_on(db.existing_column_family("before")).expect(context);
    let refused = [
        ("put", block_on(before.put("a", "1")).err()),
        ("column_family", block_on(db.column_family("new")).err()),
        ("drop_column_family", block_on(db.drop_column_family("before")).err()),
        ("checkpoint", block_on(db.checkpoint()).err()),
        ("sync", block_on(db.sync()).err()),
    ];
    for (call, error) in refused {
        let kind = error.as_ref().map(Error::kind);
        assert_eq!(kind, Some(ErrorKind::Poisoned), "{context}, {call}: {error:?}");
    }
    assert!(get(&before, "00").is_some(), "{context}: reads go on");
}

fn fail_each(call: Call, times: Times) {
    let seed = seed(&format!("faults {call:?} {times:?}"), 7);
    let watchdog = Watchdog::new("faults");
    let (mut nth, mut runs, mut met) = (0u64, 0, 0);
    loop {
        let injected = fail_nth(call, times, nth, &watchdog, seed);
        runs += 1;
        met += injected;
        if injected == 0 {
            break;
        }
        // Every n with more time, thinned out behind the first ones without.
        nth += 1 + nth / (24 * scale() as u64);
    }
    say(format!("faults {call:?} {times:?}: {runs} runs up to n = {nth}, {met} faults injected"));
    assert!(met > 0, "a dead knob must show");
}

#[test]
fn a_read_that_fails_once_fails_one_operation() {
    fail_each(Call::Read, Times::Once);
}

#[test]
fn reads_that_fail_for_ever_hang_nobody() {
    fail_each(Call::Read, Times::Forever);
}

#[test]
fn a_write_that_fails_once_poisons_and_reopening_recovers() {
    fail_each(Call::Write, Times::Once);
}

#[test]
fn writes_that_fail_for_ever_poison_and_reopening_recovers() {
    fail_each(Call::Write, Times::Forever);
}

#[test]
fn a_sync_that_fails_once_poisons_and_is_not_retried() {
    fail_each(Call::Sync, Times::Once);
}

#[test]
fn syncs_that_fail_for_ever_poison_and_reopening_recovers() {
    fail_each(Call::Sync, Times::Forever);
}

#[test]
fn a_growth_that_fails_hangs_nobody() {
    fail_each(Call::Grow, Times::Once);
    fail_each(Call::Grow, Times::Forever);
}

#[test]
fn a_full_disk_refuses_commits_and_writing_resumes_when_space_returns() {
    let seed = seed("faults capacity", 3);
    let watchdog = Watchdog::new("faults capacity");
    for extra in (0..2 * scale() as u64).map(|n| n * 700_000 / scale() as u64) {
        watchdog.step(format!("{extra} bytes more"));
        let disk = Disk::traced();
        let mut recorder = Recorder::open(&disk, options(), seed).unwrap();
        recorder.create("rows");
        recorder.changes().put("rows", "first", 1000).commit();
        recorder.checkpoint();
        disk.faults().set_capacity(Some(recorder.db.stat().file_bytes + extra));
        fill(&mut recorder);
        let error = recorder.errors.pop().expect("the disk is full");
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error:?}");
        assert!(error.is_retryable() && !error.outcome_unknown());
        recorder.db.health().reads.expect("reads go on");
        let rows = block_on(recorder.db.existing_column_family("rows")).unwrap();
        assert!(get(&rows, "first").is_some());
        recorder.errors.clear();
        recorder.changes().delete("rows", "0000").commit();
        assert!(recorder.errors.is_empty(), "deletes live on the reserve: {:?}", recorder.errors);
        disk.faults().set_capacity(None);
        recorder.changes().put("rows", "again", 30_000).commit();
        recorder.checkpoint();
        assert!(recorder.errors.is_empty(), "space is back: {:?}", recorder.errors);
        let recorded = recorder.close(&Base::default());
        let floor = recorded.floor(recorded.points);
        recorded.verify(&disk, floor).unwrap_or_else(|wrong| panic!("{extra}: {wrong}"));
    }
}

/// Rows that a full disk must have refused, at the latest.
const FILL_ROWS_MAX: usize = 2000;

fn fill(recorder: &mut Recorder) {
    for n in 0..FILL_ROWS_MAX {
        recorder.changes().put("rows", format!("{n:04}"), 30_000).commit();
        if !recorder.errors.is_empty() {
            return;
        }
    }
}

/// Lengths that transfers are cut to; a transfer of nothing is no transfer.
const SHORT_BYTES: [usize; 5] = [1, 511, 512, 4095, 8191];
/// Calls of each kind that are tampered with.
const CALLS_MAX: u64 = 20_000;

#[test]
fn short_and_interrupted_transfers_are_resumed() {
    let watchdog = Watchdog::new("short transfers");
    let (mut short, mut interrupted) = (0, 0);
    for (n, (name, script)) in (0u64..).zip(scripts::SCRIPTS) {
        for every in [1, 3] {
            watchdog.step(format!("{name}, every {every}"));
            let disk = Disk::traced();
            for nth in (0..CALLS_MAX).step_by(every) {
                let fault = match nth % 7 {
                    0 => Fault::Interrupt,
                    nth => Fault::Short(SHORT_BYTES[nth as usize % SHORT_BYTES.len()]),
                };
                disk.faults().add(Call::Read, nth, fault);
                disk.faults().add(Call::Write, nth, fault);
            }
            let mut recorder = Recorder::open(&disk, options(), n).unwrap();
            script(&mut recorder);
            assert!(recorder.errors.is_empty(), "{name}: {:?}", recorder.errors);
            let recorded = recorder.close(&Base::default());
            let floor = recorded.floor(recorded.points);
            for point in [recorded.points / 3, recorded.points / 2, recorded.points] {
                let image = disk.image(point, Choice::Seeded(n));
                let verdict = recorded.verify(&image, recorded.floor(point));
                verdict.unwrap_or_else(|wrong| panic!("{name}, point {point}: {wrong}"));
            }
            recorded.verify(&disk, floor).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
            short += disk.faults().injected().short;
            interrupted += disk.faults().injected().interrupted;
        }
    }
    say(format!("faults: {short} short transfers, {interrupted} interrupted ones"));
    assert!(short > 0 && interrupted > 0, "a dead knob must show");
}

#[test]
fn a_poisoned_database_closes_and_opens_again() {
    let disk = Disk::new();
    let db = block_on(options().open_sim(&disk)).unwrap();
    let rows = family(&db, "rows");
    put(&rows, "a", "1");
    disk.faults().add(Call::Write, 0, Fault::Fail(Times::Forever));
    let error = block_on(rows.put("b", "2")).expect_err("the write fails");
    assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Poisoned), "{error:?}");
    assert!(error.outcome_unknown(), "the commit may be found after reopening");
    let error = fails(block_on(rows.put("c", "3")), ErrorKind::Poisoned);
    assert!(!error.outcome_unknown(), "it was refused before it was ordered");
    assert!(std::error::Error::source(&error).is_some(), "the cause is kept: {error:?}");
    assert_eq!(get(&rows, "a").as_deref(), Some(&b"1"[..]));
    // What a poisoned close answers is not promised; that it ends is.
    let _ = block_on(db.close());
    drop((rows, db));
    disk.faults().clear();
    let db = block_on(options().open_sim(&disk)).unwrap();
    let rows = family(&db, "rows");
    assert_eq!(get(&rows, "a").as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&rows, "c"), None);
    put(&rows, "d", Rng::new(1).bytes(100));
}
