//! The n-th read, write or sync fails, once or for ever; the disk is full.
//!
//! For every n until the workload is through without meeting it: every error is typed, nothing
//! hangs, and reopening finds everything that was acknowledged.

mod after;
mod transfers;

use ringdb::sim::{Call, Choice, Disk, Fault, Times};
use ringdb::{Create, DirectIo, Error, ErrorKind, Options};

use crate::counts::{What, count};
use crate::fixture::{Watchdog, block_on, eventually, get, resumes, say, scale, seed};
use crate::kill::open_and_read;
use crate::oracle::{Base, Ending, Recorded};
use crate::workload::{Recorder, options};
pub use transfers::cut_transfers;

/// A short life that reads, writes, grows, checkpoints, wraps and closes.
fn script(recorder: &mut Recorder) {
    recorder.read_all();
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
    recorder.changes().put("rows", "large", 200_000).put("other", "huge", 1 << 20).commit();
    recorder.sync();
    recorder.read_all();
    recorder.changes().delete("rows", "large").delete("other", "huge").commit();
    recorder.compact();
    recorder.changes().put("rows", "after", 100).commit();
}

/// What goes wrong, and how often it did.
#[derive(Clone, Copy)]
pub struct Wrong {
    call: Call,
    fault: Fault,
}

impl Wrong {
    fn injected(self, disk: &Disk) -> u64 {
        let injected = disk.faults().injected();
        match self.fault {
            Fault::Short(_) => injected.short,
            _ => injected.failed,
        }
    }
}

/// One n: how many faults were really injected.
fn fail_nth(prepared: &Prepared, wrong: Wrong, nth: u64, watchdog: &Watchdog) -> u64 {
    let Wrong { call, fault } = wrong;
    let Prepared { seed, base, direct, .. } = prepared;
    let context = format!("{call:?} {fault:?} {nth}, {direct:?}, seed {seed}");
    watchdog.step(&context);
    let disk = prepared.disk.copy();
    disk.start_trace();
    disk.faults().add(call, nth, fault);
    let recorded = match Recorder::open(&disk, options().direct_io(*direct), *seed) {
        Ok(recorder) => live(recorder, wrong, base, &context),
        Err(error) => {
            assert_typed(&error, call, &context);
            Recorded::new(disk.clone(), base, &[], &[])
        }
    };
    let injected = wrong.injected(&disk);
    disk.faults().clear();
    let floor = recorded.floor(recorded.points);
    for choice in [Choice::None, Choice::All, Choice::Seeded(seed ^ nth)] {
        let image = recorded.disk.image(recorded.points, choice);
        let verdict = recorded.verify(&image, floor);
        verdict.unwrap_or_else(|wrong| panic!("{context}, {choice:?}: {wrong}"));
    }
    let verdict = reopen(&recorded, options().direct_io(*direct));
    verdict.unwrap_or_else(|wrong| panic!("{context}, reopened: {wrong}"));
    injected
}

/// The same disk is opened by the next process, which reads; then power is lost. A page cache may
/// show, as clean, what a failed sync has lost: what was read is there all the same.
fn reopen(recorded: &Recorded, options: Options) -> Result<(), String> {
    let floor = recorded.floor(recorded.points);
    let (found, read) = open_and_read(&recorded.disk, options.create(Create::Never))?;
    let seen = recorded.prefix(&found, floor)?;
    seen.reaches(floor)?;
    for point in [read, recorded.disk.crash_points() - 1] {
        let image = recorded.disk.image(point, Choice::None);
        let kept = recorded.recover(&image, seen.floor(), Ending::Closed);
        let kept = kept.and_then(|(_, kept)| kept.reaches(seen.floor()));
        kept.map_err(|wrong| format!("then power loss at {point}: {wrong}"))?;
    }
    Ok(())
}

/// These calls of a kind go wrong, each in a run of its own; how many did.
pub fn fail_some(
    call: Call,
    fault: Fault,
    nths: impl IntoIterator<Item = u64>,
    watchdog: &Watchdog,
    seed: u64,
) -> u64 {
    let wrong = Wrong { call, fault };
    let prepared = [DirectIo::Off, DirectIo::Auto].map(|direct| Prepared::new(seed, direct));
    let both = |nth| prepared.iter().map(move |prepared| fail_nth(prepared, wrong, nth, watchdog));
    nths.into_iter().flat_map(both).sum()
}

/// Runs the script on a disk that will fail.
fn live(mut recorder: Recorder, wrong: Wrong, base: &Base, context: &str) -> Recorded {
    let met_at_open = wrong.injected(&recorder.disk);
    script(&mut recorder);
    let met = wrong.injected(&recorder.disk) - met_at_open;
    if matches!(wrong.call, Call::Write | Call::Sync) && met > 0 {
        assert_poisoned(&recorder, context);
    }
    recorder.errors.iter().for_each(|error| assert_typed(error, wrong.call, context));
    match wrong.fault {
        Fault::Fail(Times::Forever) => recorder.finish(base),
        _ => recorder.close(base),
    }
}

/// A disk with a database that has something to recover, without its trace, and what it holds.
struct Prepared {
    disk: Disk,
    base: Base,
    seed: u64,
    direct: DirectIo,
}

impl Prepared {
    fn new(seed: u64, direct: DirectIo) -> Prepared {
        let disk = Disk::traced();
        let mut recorder =
            Recorder::open(&disk, options().direct_io(direct), seed).expect("it opens");
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
        Prepared { disk: disk.image(point, Choice::None), base, seed, direct }
    }
}

fn assert_typed(error: &Error, call: Call, context: &str) {
    let expected: &[ErrorKind] = match call {
        Call::Read => &[ErrorKind::Io],
        // A family whose creation failed is not there for what follows.
        Call::Write | Call::Sync => &[ErrorKind::Io, ErrorKind::Poisoned, ErrorKind::NotFound],
        Call::Grow => &[ErrorKind::Io, ErrorKind::NotFound],
        Call::Shrink => &[ErrorKind::Io],
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

/// Every n, until the script is through without meeting it.
fn fail_each(call: Call, fault: Fault) {
    let seed = seed(&format!("faults {call:?} {fault:?}"), 7);
    let watchdog = Watchdog::new("faults");
    for direct in [DirectIo::Auto, DirectIo::Off] {
        let prepared = Prepared::new(seed, direct);
        let (mut nth, mut met) = (0u64, 0);
        loop {
            let injected = fail_nth(&prepared, Wrong { call, fault }, nth, &watchdog);
            nth += 1;
            met += injected;
            if injected == 0 {
                break;
            }
        }
        count(What::Faults, format!("{call:?} {fault:?}"), met);
        say(format!(
            "faults {call:?} {fault:?}, direct I/O {direct:?}: each of the first {nth} calls, \
             {met} injected"
        ));
        assert!(met > 0, "a dead knob must show");
    }
}

const ONCE: Fault = Fault::Fail(Times::Once);
const FOREVER: Fault = Fault::Fail(Times::Forever);

#[test]
fn a_transfer_of_nothing_is_a_failure() {
    fail_each(Call::Read, Fault::Short(0));
    fail_each(Call::Write, Fault::Short(0));
}

#[test]
fn a_read_that_fails_once_fails_one_operation() {
    fail_each(Call::Read, ONCE);
}

#[test]
fn reads_that_fail_for_ever_hang_nobody() {
    fail_each(Call::Read, FOREVER);
}

#[test]
fn a_write_that_fails_once_poisons_and_reopening_recovers() {
    fail_each(Call::Write, ONCE);
}

#[test]
fn writes_that_fail_for_ever_poison_and_reopening_recovers() {
    fail_each(Call::Write, FOREVER);
}

#[test]
fn a_sync_that_fails_once_poisons_and_is_not_retried() {
    fail_each(Call::Sync, ONCE);
}

#[test]
fn syncs_that_fail_for_ever_poison_and_reopening_recovers() {
    fail_each(Call::Sync, FOREVER);
}

#[test]
fn a_growth_that_fails_hangs_nobody() {
    fail_each(Call::Grow, ONCE);
    fail_each(Call::Grow, FOREVER);
}

#[test]
fn a_cut_that_fails_costs_nothing() {
    fail_each(Call::Shrink, ONCE);
    fail_each(Call::Shrink, FOREVER);
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
        resumes(|| {
            recorder.changes().put("rows", "again", 30_000).commit();
            recorder.errors.pop().map_or(Ok(()), Err)
        });
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
