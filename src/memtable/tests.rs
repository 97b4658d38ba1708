//! The memtable against a plain `BTreeMap`, alone and under threads.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use super::fill_tests::{Gathered, fill};
use super::*;

/// A small generator, so that a printed seed repeats a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

pub(super) fn memtable() -> Memtable {
    Memtable::new(&Pool::new(1 << 20))
}

type Model = BTreeMap<(Vec<u8>, Reverse<u64>), (Kind, Vec<u8>)>;

pub(super) fn put(memtable: &Memtable, seq: u64, key: &[u8], value: &[u8]) {
    insert(memtable, seq, Kind::Put, key, value);
}

fn insert(memtable: &Memtable, seq: u64, kind: Kind, key: &[u8], value: &[u8]) {
    memtable.insert(Seq(seq), kind, &[key, value].concat(), key.len());
}

/// Inserts rows together, and takes them. A memtable without rows gets its leaves made, in two parts.
fn insert_sorted(memtable: &Memtable, rows: &mut Vec<Gathered>, random: &mut Random) {
    rows.sort_by(|one, other| one.row().key().cmp(other.row().key()));
    let is_new = !memtable.has_rows();
    memtable.expect(rows.len());
    if is_new {
        let border = random.below(rows.len() as u64 + 1) as usize;
        let same = |row: &&Gathered| border > 0 && row.row().key() == rows[border - 1].row().key();
        let border = border + rows[border..].iter().take_while(same).count();
        fill(memtable, rows, border, random.below(2) == 0);
    } else {
        memtable.insert_sorted(rows.iter().map(Gathered::row));
    }
    rows.clear();
}

fn visible_in_model(
    model: &Model,
    ranges: &[(Vec<u8>, Vec<u8>, u64)],
    at: u64,
) -> Vec<(Vec<u8>, u64, Kind, Vec<u8>)> {
    let mut rows: Vec<(Vec<u8>, u64, Kind, Vec<u8>)> = Vec::new();
    for ((key, Reverse(seq)), (kind, value)) in model {
        if *seq > at || rows.last().is_some_and(|row| row.0 == *key) {
            continue;
        }
        let covers = |range: &&(Vec<u8>, Vec<u8>, u64)| {
            range.2 <= at && range.2 > *seq && range.0 <= *key && *key < range.1
        };
        match ranges.iter().filter(covers).map(|range| range.2).max() {
            Some(hidden) => rows.push((key.clone(), hidden, Kind::Delete, Vec::new())),
            None => rows.push((key.clone(), *seq, *kind, value.clone())),
        }
    }
    rows
}

/// A scan does not tell of which seq a row is.
fn without_seqs(rows: &[(Vec<u8>, u64, Kind, Vec<u8>)]) -> Vec<(Vec<u8>, Kind, Vec<u8>)> {
    rows.iter().map(|(key, _, kind, value)| (key.clone(), *kind, value.clone())).collect()
}

fn scanned(
    memtable: &Memtable,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    at: u64,
    direction: Direction,
    step: usize,
) -> Vec<(Vec<u8>, Kind, Vec<u8>)> {
    let (mut rows, mut last) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let (mut from, mut to) = (from, to);
        match (&last, direction) {
            (Some(last), Direction::Forward) => from = Bound::Excluded(last),
            (Some(last), Direction::Backward) => to = Bound::Excluded(last),
            (None, _) => {}
        }
        let (out, end) = memtable.scan(from, to, Seq(at), direction, step);
        assert!(out.len() <= step);
        rows.extend((0..out.len()).map(|index| {
            let (kind, value) = out.value(index);
            (out.key(index).to_vec(), kind, value.to_vec())
        }));
        if end == Scanned::End {
            return rows;
        }
        last = Some(out.keys().last().expect("more rows means some rows").to_vec());
    }
}

/// Keys of four kinds: few and random, with a long common prefix, ascending, and of any length with
/// zeros in them.
fn some_key(random: &mut Random, style: u64, step: u64) -> Vec<u8> {
    match style {
        0 => random.below(2_000).to_be_bytes().to_vec(),
        1 => format!("tenant/0001/users/{:08}", random.below(3_000)).into_bytes(),
        2 => format!("{}/{step:010}", ["orders", "users"][random.below(2) as usize]).into_bytes(),
        3 => (0..1 + random.below(20)).map(|_| [0, 1, 255][random.below(3) as usize]).collect(),
        _ => format!("desc/{:010}", 1_000_000 - step).into_bytes(),
    }
}

fn agrees_with_model(seed: u64) {
    println!("seed {seed}");
    let mut random = Random(seed);
    let (memtable, mut model, mut ranges) = (memtable(), Model::new(), Vec::new());
    let style = random.below(6);
    let steps = 6_000;
    // In half of all histories rows are inserted many at a time.
    let (gathers, mut gathered) = (random.below(2) == 0, Vec::new());
    let together = [100, 400, 2_000][random.below(3) as usize];
    for step in 1..=steps {
        let style = if style == 5 { random.below(5) } else { style };
        let key = some_key(&mut random, style, step);
        if random.below(500) == 0 {
            let other = some_key(&mut random, style, step);
            let (low, high) = if key < other { (key, other) } else { (other, key) };
            memtable.delete_range(Seq(step), &low, &high);
            ranges.push((low, high, step));
            continue;
        }
        let kind = [Kind::Put, Kind::Put, Kind::Extent, Kind::Delete][random.below(4) as usize];
        let value = if kind == Kind::Delete { vec![] } else { step.to_be_bytes().to_vec() };
        if gathers {
            let (bytes, key_len) = ([&key[..], &value[..]].concat(), key.len());
            gathered.push(Gathered { seq: Seq(step), kind, bytes, key_len });
            if random.below(together) == 0 {
                insert_sorted(&memtable, &mut gathered, &mut random);
            }
        } else {
            insert(&memtable, step, kind, &key, &value);
        }
        model.insert((key, Reverse(step)), (kind, value));
    }
    insert_sorted(&memtable, &mut gathered, &mut random);
    assert_eq!(memtable.entries(), model.len());
    for at in [0, 1, steps / 3, steps - 1, steps, u64::MAX] {
        let expected = visible_in_model(&model, &ranges, at);
        let all = (Bound::Unbounded, Bound::Unbounded);
        let mut rows = scanned(&memtable, all.0, all.1, at, Direction::Forward, usize::MAX);
        assert_eq!(rows, without_seqs(&expected), "forward at {at}");
        rows = scanned(&memtable, all.0, all.1, at, Direction::Backward, 37);
        rows.reverse();
        assert_eq!(rows, without_seqs(&expected), "backward at {at}");
        for (key, seq, kind, value) in &expected {
            let found = memtable.get(key, Seq(at)).expect("the model has it");
            assert_eq!((found.seq.0, found.kind, &found.value[..]), (*seq, *kind, &value[..]));
        }
        for _ in 0..50 {
            let bounds = [0; 2].map(|_| some_key(&mut random, style.min(4), steps / 2));
            bounded_scans_agree(&memtable, &expected, &bounds, at, &mut random);
        }
    }
}

fn bounded_scans_agree(
    memtable: &Memtable,
    expected: &[(Vec<u8>, u64, Kind, Vec<u8>)],
    bounds: &[Vec<u8>; 2],
    at: u64,
    random: &mut Random,
) {
    let [low, high] = bounds;
    let from = [Bound::Included(&low[..]), Bound::Excluded(&low[..])][random.below(2) as usize];
    let to = [Bound::Included(&high[..]), Bound::Excluded(&high[..])][random.below(2) as usize];
    let inside: Vec<_> = expected
        .iter()
        .filter(|row| match from {
            Bound::Included(low) => &row.0[..] >= low,
            _ => row.0 > *low,
        })
        .filter(|row| match to {
            Bound::Included(high) => &row.0[..] <= high,
            _ => row.0 < *high,
        })
        .cloned()
        .collect();
    let inside = without_seqs(&inside);
    assert_eq!(scanned(memtable, from, to, at, Direction::Forward, 11), inside);
    let mut rows = scanned(memtable, from, to, at, Direction::Backward, 11);
    rows.reverse();
    assert_eq!(rows, inside);
}

#[test]
fn any_history_reads_as_the_model_does() {
    let base = 0x5EED;
    for seed in base..base + 24 {
        agrees_with_model(seed);
    }
}

#[test]
fn empty_memtable_is_small_and_answers_nothing() {
    let memtable = memtable();
    assert!(size_of::<Memtable>() <= 128);
    assert_eq!((memtable.bytes(), memtable.entries(), memtable.is_empty()), (0, 0, true));
    assert_eq!(memtable.get(b"a", Seq(9)), None);
    assert_eq!(
        scanned(&memtable, Bound::Unbounded, Bound::Unbounded, 9, Direction::Backward, 1),
        []
    );
}

#[test]
fn last_operation_of_a_batch_wins_its_key() {
    let memtable = memtable();
    for value in [b"1", b"2", b"3"] {
        put(&memtable, 5, b"key", value);
    }
    assert_eq!(memtable.get(b"key", Seq(5)).expect("put above").value, &b"3"[..]);
    assert_eq!(memtable.get(b"key", Seq(4)), None);
}

#[test]
fn versions_that_arrive_out_of_order_are_found_by_seq() {
    let memtable = memtable();
    for seq in [50, 10, 40, 20, 30] {
        put(&memtable, seq, b"key", &[seq as u8]);
    }
    for at in [10, 15, 29, 30, 45, 50, 99] {
        let expected = (at / 10 * 10).min(50) as u8;
        assert_eq!(memtable.get(b"key", Seq(at)).expect("visible").value, &[expected][..]);
    }
}

#[test]
fn range_delete_hides_what_is_older_from_its_seq_on() {
    let memtable = memtable();
    put(&memtable, 1, b"b", b"old");
    memtable.delete_range(Seq(5), b"a", b"c");
    put(&memtable, 5, b"bb", b"same batch");
    put(&memtable, 7, b"b", b"new");
    let seen = |key: &[u8], at| memtable.get(key, Seq(at)).map(|found| (found.seq.0, found.kind));
    assert_eq!(seen(b"b", 4), Some((1, Kind::Put)));
    assert_eq!(seen(b"b", 5), Some((5, Kind::Delete)));
    assert_eq!(seen(b"bb", 5), Some((5, Kind::Put)));
    assert_eq!(seen(b"b", 7), Some((7, Kind::Put)));
    assert_eq!(seen(b"ba", 6), Some((5, Kind::Delete)));
    assert_eq!(seen(b"ba", 4), None);
    assert_eq!(seen(b"c", 9), None);
    assert_eq!(memtable.range_deletes(Seq(4)), []);
    assert_eq!(memtable.range_deletes(Seq(5)).len(), 1);
}

#[test]
fn drain_gives_newest_rows_and_every_extent_they_replace() {
    let memtable = memtable();
    insert(&memtable, 1, Kind::Extent, b"a", b"extent 1");
    insert(&memtable, 2, Kind::Extent, b"a", b"extent 2");
    put(&memtable, 3, b"a", b"small");
    insert(&memtable, 4, Kind::Extent, b"b", b"extent 4");
    memtable.delete_range(Seq(5), b"b", b"c");
    insert(&memtable, 6, Kind::Extent, b"c", b"extent 6");
    let (mut rows, mut superseded) = (Vec::new(), Vec::new());
    let owned = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("all of it is text");
    let mut from = None;
    loop {
        let bound =
            from.as_ref().map_or(Bound::Unbounded, |key: &String| Bound::Excluded(key.as_bytes()));
        let scanned = memtable.drain(bound, Seq(6), 1, |drained| match drained {
            Drained::Newest { kind, key, value } => rows.push((owned(key), kind, owned(value))),
            Drained::Superseded(reference) => superseded.push(owned(reference)),
        });
        if scanned == Scanned::End {
            break;
        }
        from = rows.last().map(|(key, _, _)| key.clone());
    }
    let expected =
        [("a", Kind::Put, "small"), ("b", Kind::Delete, ""), ("c", Kind::Extent, "extent 6")];
    assert_eq!(rows, expected.map(|(key, kind, value)| (key.to_owned(), kind, value.to_owned())));
    assert_eq!(superseded, ["extent 1", "extent 2", "extent 4"]);
}

#[test]
fn ordered_inserts_fill_their_leaves() {
    for descending in [false, true] {
        let memtable = memtable();
        let count = 20_000_u64;
        for step in 0..count {
            let number = if descending { count - step } else { step };
            put(&memtable, step + 1, format!("orders/{number:010}").as_bytes(), b"");
        }
        let leaves = memtable.core.get().expect("there are rows").index.load().len();
        let full = count as usize / leaf::LEAF_KEYS_MAX;
        assert!(leaves <= full + full / 16 + 1, "{leaves} leaves, descending: {descending}");
    }
}

/// Who inserts next is drawn, not left to a scheduler: how far one falls behind decides how leaves divide.
#[test]
fn ascending_inserts_of_several_writers_nearly_fill_their_leaves() {
    let (memtable, count, seed) = (memtable(), 40_000, 11);
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut writers = [0, 1, 2, 3];
    let mut next = 4;
    while next < count + 4 {
        let number = std::mem::replace(&mut writers[random.below(4) as usize], next);
        next += 1;
        put(&memtable, number + 1, format!("{number:010}").as_bytes(), b"");
    }
    assert_eq!(memtable.entries() as u64, count);
    let leaves = memtable.core.get().expect("there are rows").index.load().len();
    assert!(leaves <= count as usize / leaf::LEAF_KEYS_MAX * 3 / 2, "{leaves} leaves");
}

#[test]
fn parallel_inserts_lose_nothing_and_scans_meet_each_visible_key_once() {
    let seed = 77;
    println!("seed {seed}");
    let memtable = memtable();
    let before: Vec<u64> = (0..3_000).map(|number| number * 1_000).collect();
    for (place, number) in before.iter().enumerate() {
        put(&memtable, place as u64 + 1, &number.to_be_bytes(), b"before");
    }
    let at = before.len() as u64;
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            let memtable = &memtable;
            scope.spawn(move || {
                let mut random = Random(seed + thread);
                for step in 0..20_000 {
                    let key = (random.below(1_000_000) * 3 + thread).to_be_bytes();
                    let seq = at + 1 + step * 3 + thread;
                    put(memtable, seq, &key, &seq.to_be_bytes());
                    assert_eq!(memtable.get(&key, Seq(seq)).expect("just put").seq, Seq(seq));
                }
            });
        }
        for direction in [Direction::Forward, Direction::Backward, Direction::Forward] {
            for step in [1_000_000, 7, 300] {
                let mut rows =
                    scanned(&memtable, Bound::Unbounded, Bound::Unbounded, at, direction, step);
                if direction == Direction::Backward {
                    rows.reverse();
                }
                let keys = rows.iter().map(|row| &row.0[..]);
                assert!(keys.eq(before.iter().map(|number| number.to_be_bytes())));
            }
        }
    });
    assert_eq!(memtable.entries(), before.len() + 60_000);
    let mut model = Model::new();
    for (place, number) in before.iter().enumerate() {
        let row = (Kind::Put, b"before".to_vec());
        model.insert((number.to_be_bytes().to_vec(), Reverse(place as u64 + 1)), row);
    }
    for thread in 0..3 {
        let mut random = Random(seed + thread);
        for step in 0..20_000 {
            let key = (random.below(1_000_000) * 3 + thread).to_be_bytes().to_vec();
            let seq = at + 1 + step * 3 + thread;
            model.insert((key, Reverse(seq)), (Kind::Put, seq.to_be_bytes().to_vec()));
        }
    }
    let all = (Bound::Unbounded, Bound::Unbounded);
    let rows = scanned(&memtable, all.0, all.1, u64::MAX, Direction::Forward, 1_000);
    assert_eq!(rows, without_seqs(&visible_in_model(&model, &[], u64::MAX)));
}

#[test]
fn hot_key_keeps_every_version_in_one_leaf() {
    let memtable = memtable();
    for seq in 1..=5_000_u64 {
        put(&memtable, seq, b"counter", &seq.to_be_bytes());
    }
    let core = memtable.core.get().expect("there are rows");
    assert_eq!((core.index.load().len(), core.filter.key_count()), (1, 1));
    for at in [1, 2_500, 5_000, 6_000] {
        let found = memtable.get(b"counter", Seq(at)).expect("visible");
        assert_eq!(found.seq.0, at.min(5_000));
    }
}

/// A place of four bytes reaches some thousand chunks; here are more, of one key's versions.
#[test]
fn rows_behind_many_others_are_found_and_moved() {
    for hot in [[0; 8], [0x80; 8], [0xFF; 8]] {
        let (memtable, mut random, mut seq) = (memtable(), Random(11), 0);
        let mut model = BTreeMap::new();
        let mut put = |key: Vec<u8>, value: Vec<u8>| {
            seq += 1;
            put(&memtable, seq, &key, &value);
            model.insert(key, value);
        };
        (0..100).for_each(|_| put(random.next().to_be_bytes().into(), b"early".into()));
        (0..2_200).for_each(|_| put(hot.into(), vec![7; 5_000]));
        for number in 0..3_000_u64 {
            let mut key = match number % 3 {
                0 => Vec::new(),
                _ => hot.to_vec(),
            };
            key.extend(random.next().to_be_bytes());
            put(key.clone(), number.to_be_bytes().into());
            if number % 5 == 0 {
                put(key, b"again".into());
            }
        }
        // As long as a row may be.
        put(vec![0xFF; 1 << 16], vec![1; 1 << 16]);
        let all =
            scanned(&memtable, Bound::Unbounded, Bound::Unbounded, seq, Direction::Forward, 99);
        assert!(all.into_iter().map(|(key, _, value)| (key, value)).eq(model.clone()));
        for (key, value) in model {
            assert_eq!(memtable.get(&key, Seq(seq)).expect("it was put").value, value);
        }
    }
}

#[test]
fn charge_never_shrinks_and_stays_near_what_rows_take() {
    let memtable = memtable();
    let (mut random, mut before) = (Random(1), 0);
    let count = 20_000;
    for seq in 1..=count {
        put(&memtable, seq, &random.next().to_be_bytes(), &[0; 92]);
        assert!(memtable.bytes() >= before);
        before = memtable.bytes();
    }
    let per_row = memtable.bytes() / count as usize;
    assert!((150..190).contains(&per_row), "{per_row} bytes a row of 100");
}

#[test]
fn keys_in_sequence_are_told_from_others() {
    const KEYS: u32 = 20_000;
    let is_sequence = |key_of: &dyn Fn(u32) -> u32| {
        let memtable = memtable();
        (0..KEYS).for_each(|number| put(&memtable, 1, &key_of(number).to_be_bytes(), b"value"));
        memtable.is_sequence()
    };
    assert!(is_sequence(&|number| number));
    assert!(is_sequence(&|number| KEYS - number));
    assert!(is_sequence(&|number| number % 4 * KEYS + number), "of four writers");
    assert!(!is_sequence(&|number| number.wrapping_mul(0x9E37_79B1)));
    let few = memtable();
    (0..1000_u32).for_each(|number| put(&few, 1, &number.to_be_bytes(), b"value"));
    assert!(!few.is_sequence(), "which is too early to tell");
}
