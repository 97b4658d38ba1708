//! Concurrent batches and snapshots: each snapshot is a prefix of the commit order, and knows which.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use ringdb::sim::{Choice, Disk};
use ringdb::{ColumnFamily, Db, Durability, Seq};

use crate::counts;
use crate::fixture::{Fixture, Watchdog, block_on, family, say, scale, seed};
use crate::rng::Rng;
use crate::state::{Change, State};
use crate::timeline::{Timeline, What};
use crate::workload::options;

const WRITERS: u64 = 4;
const FAMILIES: [&str; 3] = ["x", "y", "z"];
/// Keys that everyone writes and reads one by one, in a family of their own.
const HOT_KEYS: usize = 3;
/// Commits of each writer, as many of them to a hot key as to the families.
const COMMITS: u64 = 150;
/// Loads beside them.
const LOADS: u64 = 8;

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
            Change::Clear { family } => batch.clear(handle(family)),
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

/// Rows of a load: as many as memory holds some of, in no order, and few keys, so that other commits meet them.
fn random_rows(rng: &mut Rng, n: u64) -> Vec<Change> {
    let family = FAMILIES[rng.below(3)].to_string();
    let row = |_| Change::Put {
        family: family.clone(),
        key: format!("{:02}", rng.below(40)).into(),
        value: format!("load {n} {}", "v".repeat(rng.below(3000))).into(),
    };
    (0..20).map(row).collect()
}

/// Loads rows into one family; the seq of that commit.
fn load(families: &[ColumnFamily], rng: &mut Rng, n: u64, into: &History) -> Seq {
    let rows = random_rows(rng, n);
    let mut ingest = None;
    for row in &rows {
        let Change::Put { family, key, value } = row else { unreachable!() };
        let handle = || families.iter().find(|known| known.name() == *family).expect("made");
        let ingest = ingest.get_or_insert_with(|| handle().ingest());
        block_on(ingest.put(key, value)).unwrap();
    }
    let seq = block_on(ingest.expect("there are rows").commit()).unwrap().expect("there are rows");
    into.commits.lock().push((seq, rows));
    seq
}

fn empty() -> State {
    State(FAMILIES.iter().map(|name| (name.to_string(), Default::default())).collect())
}

/// A database under writers and readers, and what they noted.
struct Crowd<'a> {
    db: &'a Db,
    families: [ColumnFamily; 3],
    hot: ColumnFamily,
    history: History,
    timeline: Timeline,
    reads: Mutex<Vec<HotRead>>,
    /// Which commit wrote a value.
    writers: Mutex<HashMap<Vec<u8>, u64>>,
}

/// A read of a hot key: when, which, and what.
struct HotRead {
    begun: u64,
    ended: u64,
    key: usize,
    value: Option<Vec<u8>>,
}

impl Crowd<'_> {
    fn write_all(&self, seed: u64, writer: u64) {
        let mut rng = Rng::new(seed ^ (writer << 32));
        for n in 0..COMMITS {
            let begun = self.timeline.tick();
            let (seq, _) = write(self.db, &self.families, &mut rng, writer, n, &self.history);
            self.timeline.note(begun, self.timeline.tick(), What::Commit(seq.0));
            self.write_hot(rng.below(HOT_KEYS), format!("{writer} {n}"), &mut rng);
            if n % 50 == 25 {
                block_on(self.db.checkpoint()).unwrap();
            }
        }
    }

    fn load_all(&self, seed: u64) {
        let mut rng = Rng::new(seed ^ (WRITERS << 32));
        for n in 0..LOADS {
            let begun = self.timeline.tick();
            let seq = load(&self.families, &mut rng, n, &self.history);
            self.timeline.note(begun, self.timeline.tick(), What::Commit(seq.0));
        }
    }

    fn write_hot(&self, key: usize, value: String, rng: &mut Rng) {
        let durability = [Durability::Immediate, Durability::Buffered][rng.below(2)];
        let hot = self.hot.with_durability(durability);
        let begun = self.timeline.tick();
        let seq = block_on(hot.put([key as u8], &value)).unwrap();
        let what = What::Write { key, at: seq.0 };
        self.timeline.note(begun, self.timeline.tick(), what);
        self.writers.lock().insert(value.into(), seq.0);
    }

    fn read_all(&self, writing: &AtomicBool) {
        for n in 0.. {
            if !writing.load(Ordering::SeqCst) {
                return;
            }
            let begun = self.timeline.tick();
            let snapshot = self.db.snapshot();
            let what = What::Snapshot(snapshot.seq().0);
            self.timeline.note(begun, self.timeline.tick(), what);
            let state = block_on(State::read_at(&snapshot, &self.families)).unwrap();
            self.history.seen.lock().push((snapshot.seq(), state));
            self.read_hot(n % HOT_KEYS);
        }
    }

    fn read_hot(&self, key: usize) {
        for _ in 0..10 {
            let begun = self.timeline.tick();
            let value = block_on(self.hot.get([key as u8])).unwrap().map(|value| value.to_vec());
            let ended = self.timeline.tick();
            self.reads.lock().push(HotRead { begun, ended, key, value });
        }
    }

    /// How many snapshots were compared, and how many operations put in order.
    fn judge(self) -> (usize, usize) {
        let writers = self.writers.into_inner();
        for HotRead { begun, ended, key, value } in self.reads.into_inner() {
            let of = value.map_or(0, |value| writers[&value]);
            self.timeline.note(begun, ended, What::Read { key, of });
        }
        let operations = self.timeline.judge().unwrap_or_else(|wrong| panic!("{wrong}"));
        (self.history.judge(&empty()), operations)
    }
}

/// Writers and readers on threads of their own; what they saw has one order, and it is the real one.
///
/// # Panics
/// If it has not.
pub fn run(seed: u64) -> (usize, usize) {
    let watchdog = Watchdog::new("histories");
    watchdog.step(format!("seed {seed}"));
    let fixture = Fixture::with(|options| options.memory_bytes(4 << 20));
    let crowd = Crowd {
        db: &fixture.db,
        families: FAMILIES.map(|name| family(&fixture.db, name)),
        hot: family(&fixture.db, "hot"),
        history: History::default(),
        timeline: Timeline::default(),
        reads: Mutex::default(),
        writers: Mutex::default(),
    };
    let writing = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let (crowd, writing) = (&crowd, &writing);
        let readers: Vec<_> =
            (0..2).map(|_| scope.spawn(move || crowd.read_all(writing))).collect();
        let writers: Vec<_> =
            (0..WRITERS).map(|n| scope.spawn(move || crowd.write_all(seed, n))).collect();
        let loader = scope.spawn(move || crowd.load_all(seed));
        let writers = writers.into_iter().chain([loader]);
        let ended: Vec<_> = writers.map(|writer| writer.join()).collect();
        writing.store(false, Ordering::SeqCst);
        let read: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        assert!(ended.iter().chain(&read).all(Result::is_ok), "seed {seed}: a thread panicked");
    });
    let last = fixture.db.snapshot();
    let state = block_on(State::read_at(&last, &crowd.families)).unwrap();
    crowd.history.seen.lock().push((last.seq(), state));
    crowd.judge()
}

#[test]
fn every_snapshot_is_the_prefix_that_its_seq_names_and_real_time_is_kept() {
    let first = seed("histories", 1);
    for round in 0..2 * scale() as u64 {
        let seed = first.wrapping_add(round);
        let (snapshots, operations) = run(seed);
        counts::count(
            counts::What::Snapshots,
            "each the prefix that its seq names",
            snapshots as u64,
        );
        say(format!(
            "histories: seed {seed}, {snapshots} snapshots compared, {operations} operations in order"
        ));
    }
}

/// Images of each concurrent run.
const IMAGES: usize = 150;

/// Many threads commit on a simulated disk; power is lost anywhere; what is found is a prefix. How
/// many different images were checked.
///
/// # Panics
/// If anything else is found.
pub fn crash_many_writers(seed: u64, images: usize) -> usize {
    let watchdog = Watchdog::new("crash many writers");
    let disk = Disk::traced();
    let history = History::default();
    concurrent_life(&disk, seed, &history);
    let (commits, mut rng) = (history.ordered(), Rng::new(seed));
    let points = disk.crash_points() - 1;
    let mut seen = HashSet::new();
    for _ in 0..images {
        let (point, choice) = (rng.below(points + 1), Choice::Seeded(rng.bits()));
        watchdog.step(format!("seed {seed} point {point} {choice:?}"));
        let marks = disk.marks(point);
        if marks.is_empty() {
            continue;
        }
        let floor = Seq(marks.into_iter().max().unwrap_or_default());
        let image = disk.image(point, choice);
        if !seen.insert(image.fingerprint()) {
            continue;
        }
        let found = read(&image);
        let prefix = prefix_of(&found, &commits, floor);
        assert!(prefix, "seed {seed}, point {point}, {choice:?}: no prefix from {floor:?}");
    }
    seen.len()
}

#[test]
fn power_loss_under_writers_on_many_threads_leaves_a_prefix() {
    let first = seed("crash many writers", 1);
    for round in 0..4 * scale() as u64 {
        let seed = first.wrapping_add(round);
        let checked = crash_many_writers(seed, IMAGES);
        counts::count(counts::What::CrashImages, "under many writers", checked as u64);
        say(format!("crash many writers: seed {seed}, {checked} images"));
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
        scope.spawn(|| {
            let mut rng = Rng::new(seed ^ (WRITERS << 32));
            for n in 0..LOADS {
                disk.mark(load(&families, &mut rng, n, history).0);
            }
        });
        scope.spawn(|| {
            for _ in 0..4 {
                block_on(db.checkpoint()).unwrap();
                // A group that has no commits, while one is published that has no group.
                block_on(db.sync()).unwrap();
            }
        });
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
