//! Random operations against a plain map of maps, with checkpoints, snapshots, evictions, reopening.

use std::ops::Bound;

use bytes::Bytes;
use ringdb::{ColumnFamily, Db, Durability, Snapshot};

use crate::fixture::{Place, Watchdog, assert_sound, block_on, family, rows_of, scale, seed};
use crate::rng::Rng;
use crate::state::{Change, Rows, State};

/// Operations of one run.
const OPERATIONS: usize = 1500;
/// Snapshots held at once.
const SNAPSHOTS_MAX: usize = 4;
const FAMILIES: [&str; 5] = ["a", "b", "c", "d", "e"];

struct Run {
    place: Place,
    db: Db,
    families: Vec<ColumnFamily>,
    state: State,
    snapshots: Vec<(Snapshot, State)>,
    rng: Rng,
    serial: u64,
}

type Pair = (Vec<u8>, Vec<u8>);

impl Run {
    fn new(seed: u64) -> Run {
        let place = Place::new();
        let db = open(&place);
        let mut run = Run {
            place,
            db,
            families: Vec::new(),
            state: State::default(),
            snapshots: Vec::new(),
            rng: Rng::new(seed),
            serial: 0,
        };
        run.open_families(&["a", "b"]);
        run
    }

    fn open_families(&mut self, names: &[&str]) {
        for name in names {
            self.families.push(family(&self.db, name));
            self.state.apply(&Change::Create { family: name.to_string() });
        }
    }

    /// One random operation; its name is the step that the watchdog prints.
    fn step(&mut self) {
        match self.rng.below(100) {
            0..=34 => self.write_batch(),
            35..=49 => self.write_one(),
            50..=64 => self.read_points(),
            65..=79 => self.scan(),
            80..=84 => self.ends_and_len(),
            85..=89 => self.take_snapshot(),
            90..=93 => self.look_at_a_snapshot(),
            94..=95 => block_on(self.db.checkpoint()).unwrap(),
            96..=98 => self.change_families(),
            _ => self.reopen(),
        }
    }

    fn key(&mut self) -> Bytes {
        let n = self.rng.below(400);
        match self.rng.below(12) {
            0 => format!("{:0>width$}", n, width = 300 + n * 20).into(),
            1 => vec![0xff; 1 + n % 12].into(),
            2 => vec![n as u8].into(),
            _ => format!("key {n:03}").into(),
        }
    }

    fn value(&mut self) -> Bytes {
        self.serial += 1;
        let len = match self.rng.below(40) {
            0 => 65_000 + self.rng.below(60_000),
            1..=4 => self.rng.below(20_000),
            5 => 0,
            _ => self.rng.below(300),
        };
        Rng::new(self.serial).bytes(len).into()
    }

    fn pick(&mut self) -> ColumnFamily {
        let index = self.rng.below(self.families.len());
        self.families[index].clone()
    }

    fn durability(&mut self) -> Durability {
        if self.rng.one_in(4) { Durability::Immediate } else { Durability::Buffered }
    }

    fn write_one(&mut self) {
        let (family, key) = (self.pick(), self.key());
        let durable = family.with_durability(self.durability());
        let family = family.name();
        if self.rng.one_in(3) {
            block_on(durable.delete(&key)).unwrap();
            self.state.apply(&Change::Delete { family, key });
        } else {
            let value = self.value();
            block_on(durable.put(&key, &value)).unwrap();
            self.state.apply(&Change::Put { family, key, value });
        }
    }

    fn write_batch(&mut self) {
        let mut batch = self.db.batch();
        for _ in 0..1 + self.rng.below(30) {
            let (handle, key) = (self.pick(), self.key());
            let family = handle.name();
            match self.rng.below(24) {
                0 => {
                    let other = self.key();
                    let (low, high) = if key <= other { (key, other) } else { (other, key) };
                    batch.delete_range(&handle, low.clone()..high.clone());
                    self.state.apply(&Change::DeleteRange { family, low, high });
                }
                1..=5 => {
                    batch.delete(&handle, &key);
                    self.state.apply(&Change::Delete { family, key });
                }
                _ => {
                    let value = self.value();
                    batch.put(&handle, &key, &value);
                    self.state.apply(&Change::Put { family, key, value });
                }
            }
        }
        batch.durability(self.durability());
        block_on(batch.commit()).unwrap();
    }

    fn read_points(&mut self) {
        let family = self.pick();
        let keys: Vec<_> = (0..1 + self.rng.below(20)).map(|_| self.key()).collect();
        let rows = &self.state.0[&family.name()];
        let found = block_on(family.multi_get(&keys)).unwrap();
        for (key, found) in keys.iter().zip(found) {
            let expected = rows.get(key).map(|value| &value[..]);
            assert_eq!(found.as_deref(), expected, "multi_get {key:?}");
            assert_eq!(block_on(family.get(key)).unwrap().as_deref(), expected, "get {key:?}");
            assert_eq!(block_on(family.contains(key)).unwrap(), expected.is_some(), "{key:?}");
        }
    }

    fn scan(&mut self) {
        let family = self.pick();
        let (one, other) = (self.key(), self.key());
        let (low, high) = if one < other { (one, other) } else { (other, one) };
        let bounds = match self.rng.below(5) {
            0 => (Bound::Unbounded, Bound::Unbounded),
            1 => (Bound::Included(low), Bound::Unbounded),
            2 => (Bound::Unbounded, Bound::Excluded(high)),
            3 if low < high => (Bound::Excluded(low), Bound::Included(high)),
            _ => (Bound::Included(low), Bound::Excluded(high)),
        };
        let rows = &self.state.0[&family.name()];
        let mut expected = pairs(rows.range::<Bytes, _>(bounds.clone()));
        let mut range = family.range::<Bytes>(bounds);
        if self.rng.one_in(2) {
            expected.reverse();
            range = range.rev();
        }
        same(&block_on(rows_of(range)).unwrap(), &expected);
    }

    fn ends_and_len(&mut self) {
        let family = self.pick();
        let rows = &self.state.0[&family.name()];
        let own = |pair: Option<(ringdb::Value, ringdb::Value)>| {
            pair.map(|(key, value)| (key.to_vec(), value.to_vec()))
        };
        let expected = |pair: Option<(&Bytes, &Bytes)>| {
            pair.map(|(key, value)| (key.to_vec(), value.to_vec()))
        };
        assert!(own(block_on(family.first()).unwrap()) == expected(rows.first_key_value()));
        assert!(own(block_on(family.last()).unwrap()) == expected(rows.last_key_value()));
        assert_eq!(block_on(family.len()).unwrap(), rows.len() as u64);
        let prefix = self.key();
        let rows = &self.state.0[&family.name()];
        let expected = pairs(rows.iter().filter(|(key, _)| key.starts_with(&prefix)));
        same(&block_on(rows_of(family.prefix(&prefix))).unwrap(), &expected);
    }

    fn take_snapshot(&mut self) {
        if self.snapshots.len() == SNAPSHOTS_MAX {
            let index = self.rng.below(SNAPSHOTS_MAX);
            self.snapshots.swap_remove(index);
        }
        self.snapshots.push((self.db.snapshot(), self.state.clone()));
    }

    fn look_at_a_snapshot(&mut self) {
        let family = self.pick();
        let Some((snapshot, state)) = self.snapshots.last() else { return };
        // A family that was made later is not in the snapshot's state.
        let Some(rows) = state.0.get(&family.name()) else { return };
        same(&block_on(rows_of(snapshot.iter(&family))).unwrap(), &pairs(rows));
        let key = self.key();
        let (snapshot, state) = self.snapshots.last().expect("there is one");
        let expected = state.0[&family.name()].get(&key).map(|value| &value[..]);
        assert_eq!(block_on(snapshot.get(&family, &key)).unwrap().as_deref(), expected);
    }

    /// Creates, drops or renames. Old snapshots go, as their states go by name.
    fn change_families(&mut self) {
        self.snapshots.clear();
        let missing = FAMILIES.into_iter().find(|name| !self.state.0.contains_key(*name));
        match (self.rng.below(3), missing) {
            (0, Some(name)) => self.open_families(&[name]),
            (1, Some(name)) => {
                let from = self.pick().name();
                block_on(self.db.rename_column_family(&from, name)).unwrap();
                self.state.apply(&Change::Rename { from, to: name.into() });
            }
            _ if self.families.len() > 1 => {
                let index = self.rng.below(self.families.len());
                let family = self.families.swap_remove(index).name();
                block_on(self.db.drop_column_family(&family)).unwrap();
                self.state.apply(&Change::Drop { family });
            }
            _ => {}
        }
        assert!(self.db.column_families().iter().eq(self.state.0.keys()));
    }

    fn reopen(&mut self) {
        self.snapshots.clear();
        self.families.clear();
        if self.rng.one_in(2) {
            block_on(self.db.close()).unwrap();
        } else {
            block_on(self.db.sync()).unwrap();
        }
        // The name must be free before the next opening, which waits for the threads of this one.
        let empty = block_on(Db::in_memory()).unwrap();
        drop(std::mem::replace(&mut self.db, empty));
        self.db = open(&self.place);
        self.compare();
        let names: Vec<_> = self.state.0.keys().cloned().collect();
        self.families = names.iter().map(|name| family(&self.db, name)).collect();
    }

    fn compare(&self) {
        let found = block_on(State::read(&self.db)).unwrap();
        assert!(found == self.state, "{}", found.difference(&self.state));
        assert_sound(&self.db);
    }
}

fn open(place: &Place) -> Db {
    // Less than the rows take, so that memtables are written out and pages evicted.
    let options = place.options().memory_bytes(4 << 20).log_bytes_max(1 << 20);
    place.open_with(options).expect("the database opens")
}

fn pairs<'a>(rows: impl IntoIterator<Item = (&'a Bytes, &'a Bytes)>) -> Vec<Pair> {
    rows.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// Equality with a message that fits on a screen.
#[track_caller]
fn same(found: &[Pair], expected: &[Pair]) {
    if found == expected {
        return;
    }
    let state = |rows: &[Pair]| {
        let rows: Rows =
            rows.iter().map(|(key, value)| (key.clone().into(), value.clone().into())).collect();
        State([("scan".to_string(), rows)].into())
    };
    let difference = state(found).difference(&state(expected));
    panic!("{} rows instead of {}:\n{difference}", found.len(), expected.len());
}

fn run(seed: u64) {
    let watchdog = Watchdog::new("model");
    let mut run = Run::new(seed);
    for n in 0..OPERATIONS {
        watchdog.step(format!("seed {seed}, operation {n}"));
        run.step();
    }
    run.compare();
    block_on(run.db.close()).unwrap();
}

/// Runs a seed and says which it was when it fails.
fn named(seed: u64) {
    struct Say(u64);
    impl Drop for Say {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("model: failed with seed {}", self.0);
            }
        }
    }
    let _say = Say(seed);
    run(seed);
}

#[test]
fn random_operations_agree_with_a_map() {
    let first = seed("model", 1);
    for round in 0..4 * scale() as u64 {
        named(first.wrapping_add(round));
    }
}
