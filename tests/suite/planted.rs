//! Is the net any good? Each of the known mistakes of `ringdb::planted` is made in a process of its
//! own, and a bounded part of the suite must catch it there; without a mistake all of that part
//! must pass. A canary that is known to fail must fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use ringdb::planted::{self, Bug};
use ringdb::sim::{Call, Disk, Fault, Times};
use ringdb::{Db, ErrorKind, Options};

use crate::counts::{What, count};
use crate::crash::{Budget, Crasher};
use crate::faults;
use crate::fixture::{Watchdog, block_on, fails, family, put, rows_of, say};
use crate::flips::{self, Small};
use crate::histories;
use crate::kill::kill_life;
use crate::lies;
use crate::restores;
use crate::rng::Rng;
use crate::scripts::{self, Script};
use crate::workload::options;

/// Names the bug to a child: a bug's own name, `none` or `canary`.
const PLANTED: &str = "RINGDB_TEST_PLANTED";
/// What a child says before the name of the check that caught the bug.
const CAUGHT: &str = "caught by: ";
/// What a child says when nothing did.
const MISSED: &str = "caught by nothing";
/// Images of each script.
const IMAGES: usize = 260;
/// Images of a restore.
const RESTORES: usize = 60;
/// Flipped bytes.
const FLIPS: usize = 1500;
/// Calls that fail, from the first on.
const FAULTS: u64 = 36;
/// Children that a bug is tried in until one catches it.
const TRIES_MAX: usize = 3;

/// A part of the net, and its name.
type Check = (&'static str, fn(&Watchdog));

/// What a child runs, in this order, until something fails.
const CHECKS: [Check; 12] = [
    ("a conflict between transactions", |_| conflicts()),
    ("a snapshot held over checkpoints", |_| held_snapshot()),
    ("power loss while restoring", losses_while_restoring),
    ("crash images", crash_images),
    ("writers on many threads", many_writers),
    ("power loss after a kill", kills),
    ("a lost log write before a crash", lost_log_writes),
    ("failing writes", |watchdog| failing(Call::Write, watchdog)),
    ("failing syncs", |watchdog| failing(Call::Sync, watchdog)),
    ("short transfers", short_transfers),
    ("a lost place of the superblock", |_| flips::lose_each_place(13)),
    ("flipped bytes", |_| flipped()),
];

/// The scripts that are crashed, each about something else.
const CRASHED: [(&str, Script); 9] = [
    ("create", scripts::create),
    ("puts", scripts::puts),
    ("batches_over_families", scripts::batches_over_families),
    ("family_life_cycle", scripts::family_life_cycle),
    ("checkpoints", scripts::checkpoints),
    ("extents", scripts::extents),
    ("log_wrap", scripts::log_wrap),
    ("compaction", scripts::compaction),
    ("shrinking", scripts::shrinking),
];

fn crash_images(watchdog: &Watchdog) {
    for (name, script) in CRASHED {
        Crasher::new(watchdog).crash(name, script, 77, Budget::of(IMAGES));
    }
}

fn kills(watchdog: &Watchdog) {
    for (name, script) in [("puts", scripts::puts as Script), ("log_wrap", scripts::log_wrap)] {
        kill_life(name, script, 5, 20, watchdog);
    }
}

fn losses_while_restoring(watchdog: &Watchdog) {
    restores::crash(RESTORES, 3, watchdog);
}

fn many_writers(_: &Watchdog) {
    histories::crash_many_writers(3, 60);
}

fn lost_log_writes(watchdog: &Watchdog) {
    lies::lost_before_a_crash(3, watchdog);
}

fn failing(call: Call, watchdog: &Watchdog) {
    faults::fail_some(call, Fault::Fail(Times::Once), 0..FAULTS, watchdog, 7);
}

fn short_transfers(watchdog: &Watchdog) {
    faults::cut_transfers("checkpoints", scripts::checkpoints, 1, watchdog);
}

fn flipped() {
    let small = Small::new(5);
    let offsets = small.some_offsets(FLIPS, &mut Rng::new(5));
    let (_, bad) = small.flip_all(&offsets, 5);
    assert!(bad.is_empty(), "{bad:?}");
}

fn conflicts() {
    let db = block_on(Db::in_memory()).expect("the database opens");
    let rows = family(&db, "rows");
    put(&rows, "a", "1");
    let [one, two] = [(); 2].map(|()| block_on(db.begin()).expect("a transaction begins"));
    for tx in [&one, &two] {
        block_on(tx.get(&rows, "a")).expect("the row is read");
    }
    one.put(&rows, "b", "2");
    two.put(&rows, "a", "3");
    block_on(two.commit()).expect("the first to commit wins");
    fails(block_on(one.commit()), ErrorKind::Conflict);
}

/// Old pages must not be used again while somebody may still read them.
fn held_snapshot() {
    let disk = Disk::new();
    let options: Options = options();
    let db = block_on(options.open_sim(&disk)).expect("the database opens");
    let rows = family(&db, "rows");
    let write_all = |value: u8| {
        for n in 0..60 {
            put(&rows, format!("{n:03}"), vec![value; 20_000]);
        }
        block_on(db.checkpoint()).expect("the checkpoint is written");
    };
    write_all(0);
    let snapshot = db.snapshot();
    // More than the cache holds, so that the snapshot's pages are read from the disk again.
    (1..5).for_each(write_all);
    // What is free is used: the trees become one, and the end of the file moves to the front.
    block_on(db.compact()).expect("the database is compacted");
    (5..9).for_each(write_all);
    let found = block_on(rows_of(snapshot.iter(&rows))).expect("the snapshot is read");
    assert!(found.len() == 60 && found.iter().all(|(_, value)| *value == vec![0; 20_000]));
    block_on(db.close()).expect("the database closes");
}

/// The child's entry. Without a bug's name, as in every ordinary run, there is nothing to do.
#[test]
fn a_child_with_a_bug_tells_what_caught_it() {
    let Ok(name) = std::env::var(PLANTED) else { return };
    match Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name) {
        Some(bug) => planted::plant(bug),
        None => assert!(name == "none" || name == "canary", "there is no bug {name}"),
    }
    let watchdog = Watchdog::new("planted");
    println!();
    let caught = CHECKS.iter().find(|(_, check)| is_caught(|| check(&watchdog)));
    let canary = name == "canary" && is_caught(|| panic!("the canary fails"));
    match caught {
        Some((check, _)) => println!("{CAUGHT}{check}"),
        None if canary => println!("{CAUGHT}the canary"),
        None => println!("{MISSED}"),
    }
}

/// Whether the check fails, on this thread or by a panic of the engine's own.
fn is_caught(check: impl FnOnce()) -> bool {
    let before = flips::engine_panics();
    let failed = catch_unwind(AssertUnwindSafe(check)).is_err();
    failed || flips::engine_panics() > before
}

/// What caught a bug, if anything did; or how the child died without telling.
type Outcome = Result<Option<String>, String>;

fn words(outcome: &Outcome) -> &str {
    match outcome {
        Ok(Some(check)) => check,
        Ok(None) => "caught by nothing",
        Err(died) => died,
    }
}

/// What a child says of the bug, and all its output if it says nothing.
fn try_out(name: &str) -> Outcome {
    let output = Command::new(std::env::current_exe().expect("this binary has a path"))
        .args(["--exact", "planted::a_child_with_a_bug_tells_what_caught_it", "--nocapture"])
        .env(PLANTED, name)
        .env_remove("RINGDB_TEST_SEED")
        .env_remove("RINGDB_TEST_SCALE")
        .output()
        .expect("the child runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if said.lines().any(|line| line == MISSED) {
        return Ok(None);
    }
    match said.lines().find_map(|line| line.strip_prefix(CAUGHT)) {
        Some(check) => Ok(Some(check.to_string())),
        None => {
            let words = String::from_utf8_lossy(&output.stderr);
            let from = words.char_indices().nth_back(2000).map_or(0, |(at, _)| at);
            Err(format!("{name}: {}\n{said}\n{}", output.status, &words[from..]))
        }
    }
}

#[test]
fn every_planted_bug_is_caught_and_nothing_else_is() {
    let mut names: Vec<String> = Bug::ALL.iter().map(|bug| format!("{bug:?}")).collect();
    names.extend(["none".into(), "canary".into()]);
    let (next, told) = (AtomicUsize::new(0), Mutex::new(vec![Ok(None); names.len()]));
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = names.get(n) else { return };
            // Some do harm only where threads meet in one way, which a few hundred images may not have.
            let tries = if n < Bug::ALL.len() { TRIES_MAX } else { 1 };
            let mut outcomes = (0..tries).map(|_| try_out(name));
            let outcome = outcomes.find(|outcome| *outcome != Ok(None)).unwrap_or(Ok(None));
            say(format!("planted {name}: {}", words(&outcome)));
            told.lock()[n] = outcome;
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    let told = told.into_inner();
    let bugs = Bug::ALL.len();
    let is_told = |outcome: &Outcome| matches!(outcome, Ok(Some(_)));
    let caught = told[..bugs].iter().filter(|outcome| is_told(outcome)).count();
    say(format!("planted bugs caught: {caught} of {bugs}"));
    count(What::PlantedBugs, "caught", caught as u64);
    count(What::PlantedBugs, "missed", (bugs - caught) as u64);
    let missed: Vec<_> = names.iter().zip(&told).take(bugs).filter(|(_, o)| !is_told(o)).collect();
    assert!(missed.is_empty(), "a planted bug was missed: {missed:#?}");
    assert_eq!(told[bugs], Ok(None), "without a bug every check passes");
    assert_eq!(told[bugs + 1], Ok(Some("the canary".into())), "a check that fails is seen");
}
