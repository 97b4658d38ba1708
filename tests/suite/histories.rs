//! Concurrent batches and snapshots: each snapshot is a prefix of the commit order, and knows which.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use ringdb::sim::{Choice, Disk};
use ringdb::{ColumnFamily, Db, Durability, Seq};

use crate::fixture::{Fixture, Watchdog, block_on, family, say, scale, seed};
use crate::rng::Rng;
use crate::state::{Change, State};
use crate::workload::options;

const WRITERS: u64 = 4;
const FAMILIES: [&str; 3] = ["x", "y", "z"];

/// What was ordered, by whom, and what was seen.
#[derive(Default)]
struct History {
    commits: Mutex<Vec<(Seq, Vec<Change>)>>,
    seen: Mutex<Vec<(Seq, State)>>,
}

impl History {
    /// The commits in order, which must be one order.
    fn ordered(&self) -> Vec<(Seq, Vec<Change>)> {
        let mut commits = self.commits.lock().clone();
        commits.sort_by_key(|(seq, _)| *seq);
        assert!(commits.windows(2).all(|pair| pair[0].0 < pair[1].0), "two commits share a seq");
        commits
    }

    /// Replays the commits and compares each snapshot with the state at its seq.
    fn judge(&self, empty: &State) -> usize {
        let commits = self.ordered();
        let mut seen = std::mem::take(&mut *self.seen.lock());
        seen.sort_by_key(|(seq, _)| *seq);
        let (mut state, mut next) = (empty.clone(), 0);
        for (seq, found) in &seen {
            while next < commits.len() && commits[next].0 <= *seq {
                commits[next].1.iter().for_each(|change| state.apply(change));
                next += 1;
            }
            assert!(*found == state, "at {seq:?}: {}", found.difference(&state));
        }
        seen.len()
    }
}

/// A random batch over some families, as changes.
fn random_changes(rng: &mut Rng, writer: u64, n: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    for _ in 0..1 + rng.below(5) {
        let family = FAMILIES[rng.below(3)].to_string();
        let key = format!("{:02}", rng.below(30)).into();
        let value = format!("{writer} {n} {}", "v".repeat(rng.below(200))).into();
        changes.push(match rng.below(10) {
            0 => Change::DeleteRange { family, low: key, high: "99".into() },
            1 | 2 => Change::Delete { family, key },
            _ => Change::Put { family, key, value },
        });
    }
    changes
}

fn write(
    db: &Db,
    families: &[ColumnFamily],
    rng: &mut Rng,
    writer: u64,
    n: u64,
    into: &History,
) -> (Seq, Durability) {
    let changes = random_changes(rng, writer, n);
    let handle = |name: &str| families.iter().find(|family| family.name() == name).expect("made");
    let mut batch = db.batch();
    for change in &changes {
        match change {
            Change::Put { family, key, value } => batch.put(handle(family), key, value),
            Change::Delete { family, key } => batch.delete(handle(family), key),
            Change::DeleteRange { family, low, high } => {
                batch.delete_range(handle(family), low.clone()..high.clone())
            }
            Change::Create { .. } | Change::Drop { .. } | Change::Rename { .. } => unreachable!(),
        };
    }
    let durability = [Durability::Immediate, Durability::Buffered][rng.below(2)];
    batch.durability(durability);
    let commit = block_on(batch.submit()).unwrap();
    let seq = commit.seq();
    // Before it resolves, so that no snapshot can show what is not yet written down.
    into.commits.lock().push((seq, changes));
    assert_eq!(block_on(commit).unwrap(), seq);
    (seq, durability)
}

fn empty() -> State {
    State(FAMILIES.iter().map(|name| (name.to_string(), Default::default())).collect())
}

fn run(seed: u64) -> usize {
    let watchdog = Watchdog::new("histories");
    watchdog.step(format!("seed {seed}"));
    let fixture = Fixture::with(|options| options.memory_bytes(4 << 20));
    let db = &fixture.db;
    let families = FAMILIES.map(|name| family(db, name));
    let history = History::default();
    let writing = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while writing.load(Ordering::SeqCst) {
                        let snapshot = db.snapshot();
                        let state = block_on(State::read_at(&snapshot, &families)).unwrap();
                        history.seen.lock().push((snapshot.seq(), state));
                    }
                })
            })
            .collect();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (families, history) = (&families, &history);
                scope.spawn(move || {
                    let mut rng = Rng::new(seed ^ (writer << 32));
                    for n in 0..150 {
                        let (seq, _) = write(db, families, &mut rng, writer, n, history);
                        // Real time: what has resolved is in every snapshot taken from now on.
                        assert!(db.snapshot().seq() >= seq);
                        if n % 50 == 25 {
                            block_on(db.checkpoint()).unwrap();
                        }
                    }
                })
            })
            .collect();
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        writing.store(false, Ordering::SeqCst);
        let read: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        assert!(ended.iter().chain(&read).all(Result::is_ok), "seed {seed}: a thread panicked");
    });
    let last = db.snapshot();
    let state = block_on(State::read_at(&last, &families)).unwrap();
    history.seen.lock().push((last.seq(), state));
    history.judge(&empty())
}

#[test]
fn every_snapshot_is_the_prefix_that_its_seq_names() {
    let first = seed("histories", 1);
    for round in 0..2 * scale() as u64 {
        let seed = first.wrapping_add(round);
        say(format!("histories: seed {seed}, {} snapshots compared", run(seed)));
    }
}

/// Images of each concurrent run.
const IMAGES: usize = 150;

/// Many threads commit on a simulated disk; power is lost anywhere; what is found is a prefix.
pub fn crash_with_many_writers() {
    let first = seed("crash many writers", 1);
    for round in 0..2u64 {
        let seed = first.wrapping_add(round);
        let watchdog = Watchdog::new("crash many writers");
        let disk = Disk::traced();
        let history = History::default();
        concurrent_life(&disk, seed, &history);
        let (commits, mut rng) = (history.ordered(), Rng::new(seed));
        let points = disk.crash_points() - 1;
        for _ in 0..IMAGES * scale() {
            let (point, choice) = (rng.below(points + 1), Choice::Seeded(rng.bits()));
            watchdog.step(format!("seed {seed} point {point} {choice:?}"));
            let marks = disk.marks(point);
            if marks.is_empty() {
                continue;
            }
            let floor = Seq(marks.into_iter().max().unwrap_or_default());
            let found = read(&disk.image(point, choice));
            let prefix = prefix_of(&found, &commits, floor);
            assert!(prefix, "seed {seed}, point {point}, {choice:?}: no prefix from {floor:?}");
        }
        say(format!(
            "crash many writers: seed {seed}, {points} points, {} images",
            IMAGES * scale()
        ));
    }
}

fn concurrent_life(disk: &Disk, seed: u64, history: &History) {
    let db = block_on(options().open_sim(disk)).unwrap();
    let families = FAMILIES.map(|name| family(&db, name));
    disk.mark(0);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (db, families) = (&db, &families);
            scope.spawn(move || {
                let mut rng = Rng::new(seed ^ (writer << 32));
                for n in 0..60 {
                    let (seq, durability) = write(db, families, &mut rng, writer, n, history);
                    if durability == Durability::Immediate {
                        disk.mark(seq.0);
                    }
                }
            });
        }
        scope.spawn(|| (0..4).for_each(|_| block_on(db.checkpoint()).unwrap()));
    });
    block_on(db.close()).unwrap();
}

fn read(disk: &Disk) -> State {
    let db = block_on(options().open_sim(disk)).unwrap();
    let state = block_on(State::read(&db)).unwrap();
    crate::fixture::assert_sound(&db);
    block_on(db.close()).unwrap();
    state
}

/// Whether a state is the replay of a prefix that reaches at least `floor`.
fn prefix_of(found: &State, commits: &[(Seq, Vec<Change>)], floor: Seq) -> bool {
    let mut state = empty();
    let promised = commits.partition_point(|(seq, _)| *seq <= floor);
    for (_, changes) in &commits[..promised] {
        changes.iter().for_each(|change| state.apply(change));
    }
    if *found == state {
        return true;
    }
    commits[promised..].iter().any(|(_, changes)| {
        changes.iter().for_each(|change| state.apply(change));
        *found == state
    })
}
