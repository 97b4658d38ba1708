//! Random merges against a `BTreeMap`.

use std::ops::Bound;

use fastrand::Rng;

use super::super::{Direction, Step, find, seek_leaf};
use super::*;

/// What keys and values look like.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Numbers,
    Random,
    Padded,
    LongPrefix,
    Huge,
    Mixed,
}

const SHAPES: [Shape; 6] =
    [Shape::Numbers, Shape::Random, Shape::Padded, Shape::LongPrefix, Shape::Huge, Shape::Mixed];

fn key(rng: &mut Rng, shape: Shape) -> Vec<u8> {
    match shape {
        Shape::Numbers => format!("row-{:08}", rng.u32(..20_000)).into_bytes(),
        Shape::Random => (0..24).map(|_| rng.u8(..)).collect(),
        Shape::Padded => (0..rng.usize(1..12)).map(|_| rng.u8(..2)).collect(),
        Shape::LongPrefix => {
            let mut key = vec![b'p'; 300 * rng.usize(..3)];
            key.extend_from_slice(&rng.u32(..5000).to_be_bytes());
            key
        }
        Shape::Huge => {
            let mut key = vec![rng.u8(..3); *rng.choice(&[1, 8, 9, 65_536, 65_530]).unwrap()];
            let at = rng.usize(..key.len());
            key[at] = rng.u8(..);
            key
        }
        Shape::Mixed => {
            let shape = *rng.choice(&SHAPES[..4]).unwrap();
            key(rng, shape)
        }
    }
}

fn value(rng: &mut Rng, shape: Shape, next_extent: &mut u64) -> Change {
    let huge = matches!(shape, Shape::Huge);
    let len = match rng.u8(..100) {
        0..3 => {
            *next_extent += 1000;
            return Change::Extent(extent_value(*next_extent, rng.u32(1..3)));
        }
        3..80 => rng.usize(..200),
        80..98 => rng.usize(..4000),
        _ if huge || rng.u8(..10) == 0 => rng.usize(60_000..=65_536),
        _ => rng.usize(..20_000),
    };
    put(&vec![rng.u8(..); len])
}

/// One test: a seed, its own shape, options, and some merges one upon the other.
fn run(seed: u64, rounds: usize) {
    let mut rng = Rng::with_seed(seed);
    let shape = *rng.choice(&SHAPES).unwrap();
    let keep = rng.u8(..4) == 0;
    let tombstones = if keep { Tombstones::Keep } else { Tombstones::Drop };
    println!("seed {seed}: {shape:?}, {tombstones:?}");
    let settings = Settings { tombstones, ..SETTINGS };
    let (mut store, mut model, mut root) = (Store::default(), Model::new(), None);
    let mut next_extent = 1 << 40;
    for _ in 0..rounds {
        let size = match shape {
            Shape::Huge => rng.usize(..20),
            _ => *rng.choice(&[0, 1, 3, 30, 300, 1500]).unwrap(),
        };
        let mut changes = Model::new();
        let clustered = rng.bool();
        let around = key(&mut rng, shape);
        for _ in 0..size {
            let mut key = key(&mut rng, shape);
            if clustered {
                key = around.iter().copied().chain(key.into_iter().take(4)).take(65_536).collect();
            }
            let deletes = rng.u8(..100) < 30;
            let delete = || Change::Delete;
            let change = if deletes { delete() } else { value(&mut rng, shape, &mut next_extent) };
            changes.insert(key, change);
        }
        if rng.bool() {
            // Deletes and updates that hit.
            for key in model.keys().filter(|_| rng.u8(..100) < 20) {
                changes.insert(key.clone(), Change::Delete);
            }
        }
        let ranges = ranges(&mut rng, shape);
        let expected_extents = apply(&mut model, &changes, &ranges, tombstones);
        store.retired_extents.clear();
        root = store.merge(root, changes.into_iter().collect(), ranges, settings);
        let mut retired = std::mem::take(&mut store.retired_extents);
        retired.sort_by_key(|value| value.extent.start);
        assert_eq!(retired, expected_extents);
        let rows: Vec<_> = model.clone().into_iter().collect();
        assert!(store.rows(root.as_ref()) == rows, "rows differ from the model");
        if let Some(root) = &root {
            look_up(&mut rng, shape, &store, root, &model);
        }
    }
}

fn ranges(rng: &mut Rng, shape: Shape) -> Vec<RangeDelete> {
    let count = [0, 0, 1, 3][rng.usize(..4)];
    let mut ranges = Vec::new();
    for _ in 0..count {
        let (low, high) = (key(rng, shape), key(rng, shape));
        ranges.push(match rng.u8(..20) {
            0 => range(&low, None),
            1 => range(b"", Some(&high)),
            2 => range(b"", None),
            _ => range(&low, Some(&high)),
        });
    }
    ranges
}

/// The same to the model; answers the extents that fall out of it, by place.
fn apply(
    model: &mut Model,
    changes: &Model,
    ranges: &[RangeDelete],
    tombstones: Tombstones,
) -> Vec<ExtentValue> {
    let before: Vec<ExtentValue> = extents(model);
    let deleted = |key: &[u8]| {
        ranges.iter().any(|range| {
            &range.low[..] <= key && range.high.as_ref().is_none_or(|high| key < &high[..])
        })
    };
    model.retain(|key, _| !deleted(key));
    for (key, change) in changes {
        if *change == Change::Delete && tombstones == Tombstones::Drop {
            model.remove(key);
        } else {
            model.insert(key.clone(), change.clone());
        }
    }
    let after = extents(model);
    before.into_iter().filter(|value| !after.contains(value)).collect()
}

fn extents(model: &Model) -> Vec<ExtentValue> {
    let mut extents: Vec<_> = model
        .values()
        .filter_map(|change| match change {
            Change::Extent(value) => Some(value.clone()),
            Change::Put(_) | Change::Delete => None,
        })
        .collect();
    extents.sort_by_key(|value| value.extent.start);
    extents
}

/// Points and scans agree with the model.
fn look_up(rng: &mut Rng, shape: Shape, store: &Store, root: &TreeRoot, model: &Model) {
    for index in 0..20 {
        let key = match model.keys().nth(rng.usize(..model.len())) {
            Some(key) if index % 2 == 0 => key.clone(),
            _ => key(rng, shape),
        };
        let Step::Ready(found) = find(store, root, &key) else { panic!("all nodes are there") };
        assert_eq!(found.map(|row| change_of(row.value())), model.get(&key).cloned());
        let bound = match rng.u8(..3) {
            0 => Bound::Included(&key[..]),
            1 => Bound::Excluded(&key[..]),
            _ => Bound::Unbounded,
        };
        let max = rng.usize(..200);
        let ahead: Vec<_> = model.range::<[u8], _>((bound, Bound::Unbounded)).take(max).collect();
        assert!(
            scan(store, root, bound, Direction::Forward, max).iter().map(|(k, v)| (k, v)).eq(ahead)
        );
        let back = model.range::<[u8], _>((Bound::Unbounded, bound)).rev();
        let back: Vec<_> = back.take(max).collect();
        assert!(
            scan(store, root, bound, Direction::Backward, max).iter().map(|(k, v)| (k, v)).eq(back)
        );
    }
}

/// As a range reads: leaf by leaf, each found by the fence of the last.
fn scan(
    store: &Store,
    root: &TreeRoot,
    bound: Bound<&[u8]>,
    direction: Direction,
    max: usize,
) -> Vec<(Vec<u8>, Change)> {
    let mut rows = Vec::new();
    let mut bound = bound.map(<[u8]>::to_vec);
    loop {
        let from = bound.as_ref().map(Vec::as_slice);
        let Step::Ready(at) = seek_leaf(store, root, from, direction) else { panic!() };
        let leaf = Leaf::new(at.page);
        match direction {
            Direction::Forward => rows.extend((at.row..leaf.len()).map(|i| owned(leaf.row(i)))),
            Direction::Backward => rows.extend((0..at.row).rev().map(|i| owned(leaf.row(i)))),
        }
        let Some(fence) = at.fence().map(super::super::Key::to_vec) else { break };
        if rows.len() >= max {
            break;
        }
        bound = match direction {
            Direction::Forward => Bound::Included(fence),
            Direction::Backward => Bound::Excluded(fence),
        };
    }
    rows.truncate(max);
    rows
}

#[test]
fn random_merges_agree_with_a_map() {
    let seeds = std::env::var("RINGDB_TREE_SEEDS").map_or(60, |seeds| seeds.parse().unwrap());
    (0..seeds).for_each(|seed| run(seed, 12));
}
