//! The window against exact sets of keys: a conflict that exists is never missed.

use std::ops::Bound;

use super::footprint::{FOOTPRINT_KEYS_MAX, Footprint, ReadSet, Reads};
use super::window::{Sealed, Verdict, Window};
use crate::ids::{FamilyId, Seq};

const FAMILIES: u64 = 3;

/// A small generator, so that a printed seed repeats a run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn family(&mut self) -> FamilyId {
        FamilyId(self.below(FAMILIES) as u32)
    }

    /// Short keys, keys with zeros at their end, and keys that differ only behind sixteen bytes.
    fn key(&mut self) -> Vec<u8> {
        match self.below(3) {
            0 => self.below(1 << 20).to_be_bytes().to_vec(),
            1 => (0..1 + self.below(6)).map(|_| self.below(3) as u8).collect(),
            _ => format!("a prefix of twenty and {:04}", self.below(5_000)).into_bytes(),
        }
    }
}

/// An exact set of keys: points and half-open ranges.
#[derive(Default)]
struct Exact {
    keys: Vec<(FamilyId, Vec<u8>)>,
    ranges: Vec<(FamilyId, Vec<u8>, Vec<u8>)>,
}

/// Whether a key is below the end of a range; an empty end is open.
fn is_below(key: &[u8], high: &[u8]) -> bool {
    high.is_empty() || key < high
}

impl Exact {
    fn random(random: &mut Random, keys: u64, ranges: u64) -> Exact {
        let mut set = Exact::default();
        for _ in 0..random.below(keys + 1) {
            set.keys.push((random.family(), random.key()));
        }
        for _ in 0..random.below(ranges + 1) {
            let (a, b) = (random.key(), random.key());
            let (low, high) = match random.below(8) {
                0 => (a, Vec::new()),
                1 => (Vec::new(), b),
                2 => (Vec::new(), Vec::new()),
                _ if a < b => (a, b),
                _ => (b, a),
            };
            set.ranges.push((random.family(), low, high));
        }
        set
    }

    fn holds(&self, family: FamilyId, key: &[u8]) -> bool {
        let within = |range: &(FamilyId, Vec<u8>, Vec<u8>)| {
            range.0 == family && &range.1[..] <= key && is_below(key, &range.2)
        };
        self.keys.iter().any(|point| point.0 == family && point.1 == key)
            || self.ranges.iter().any(within)
    }

    fn meets(&self, other: &Exact) -> bool {
        let overlap = |a: &(FamilyId, Vec<u8>, Vec<u8>), b: &(FamilyId, Vec<u8>, Vec<u8>)| {
            let low = (&a.1).max(&b.1);
            a.0 == b.0 && is_below(low, &a.2) && is_below(low, &b.2)
        };
        self.keys.iter().any(|(family, key)| other.holds(*family, key))
            || other.keys.iter().any(|(family, key)| self.holds(*family, key))
            || self.ranges.iter().any(|a| other.ranges.iter().any(|b| overlap(a, b)))
    }

    fn footprint(&self, into: &mut Footprint) {
        into.clear();
        self.keys.iter().for_each(|(family, key)| into.write(*family, key));
        for (family, low, high) in &self.ranges {
            into.delete_range(*family, low, high);
        }
    }

    fn reads(&self) -> Reads {
        let mut reads = ReadSet::default();
        self.keys.iter().for_each(|(family, key)| reads.key(*family, key));
        for (family, low, high) in &self.ranges {
            let to = if high.is_empty() { Bound::Unbounded } else { Bound::Excluded(&high[..]) };
            reads.range(*family, Bound::Included(low), to);
        }
        reads.finish()
    }
}

fn written(family: u32, key: &[u8]) -> Footprint {
    let mut footprint = Footprint::default();
    footprint.write(FamilyId(family), key);
    footprint
}

fn read(family: u32, key: &[u8]) -> Reads {
    let mut reads = ReadSet::default();
    reads.key(FamilyId(family), key);
    reads.finish()
}

#[test]
fn true_conflict_is_never_missed() {
    let (mut clear, mut conflicts) = (0, 0);
    for seed in 1..=12 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let mut window = Window::new(Seq(0), 200 << 10);
        let (mut commits, mut footprint, mut sealed) =
            (Vec::new(), Footprint::default(), Sealed::default());
        for seq in 1..=1_500 {
            let large = if random.below(50) == 0 { 600 } else { 4 };
            let ranges = u64::from(random.below(40) == 0) * 3;
            let exact = Exact::random(&mut random, large, ranges);
            exact.footprint(&mut footprint);
            window.push(Seq(seq), &footprint);
            commits.push(exact);
            let after = seq.saturating_sub(random.below(30).pow(2));
            let reads = Exact::random(&mut random, 3, u64::from(seq % 8 == 0));
            let truth = commits[after as usize..].iter().any(|commit| commit.meets(&reads));
            let finished = reads.reads();
            let verdict = window.conflicts(Seq(after), &finished);
            assert!(!truth || verdict != Verdict::Clear, "missed at {seq} after {after}");
            let in_two = match window.sealed(Seq(after), &mut sealed) {
                _ if finished.is_empty() => Verdict::Clear,
                None => Verdict::Overrun,
                Some(up_to) => match sealed.conflicts(Seq(after), &finished) {
                    Verdict::Clear => window.conflicts(up_to, &finished),
                    other => other,
                },
            };
            assert_eq!(in_two, verdict, "in two parts, at {seq} after {after}");
            clear += u32::from(verdict == Verdict::Clear);
            conflicts += u32::from(verdict == Verdict::Conflict && truth);
        }
    }
    assert!(clear > 2_000 && conflicts > 500, "{clear} clear, {conflicts} conflicts");
}

#[test]
fn commit_at_or_before_the_read_is_no_conflict() {
    let mut window = Window::new(Seq(10), 1 << 20);
    window.push(Seq(11), &written(1, b"key"));
    assert_eq!(window.conflicts(Seq(11), &read(1, b"key")), Verdict::Clear);
    assert_eq!(window.conflicts(Seq(10), &read(1, b"key")), Verdict::Conflict);
    assert_eq!(window.conflicts(Seq(10), &read(2, b"key")), Verdict::Clear);
    assert_eq!(window.conflicts(Seq(10), &read(1, b"other")), Verdict::Clear);
    assert_eq!(window.conflicts(Seq(9), &read(1, b"other")), Verdict::Overrun);
}

#[test]
fn skipped_commits_overrun_those_who_read_before() {
    let mut window = Window::new(Seq(0), 1 << 20);
    window.push(Seq(1), &written(1, b"a"));
    window.skip(Seq(2));
    window.push(Seq(3), &written(1, b"b"));
    assert_eq!(window.conflicts(Seq(1), &read(1, b"c")), Verdict::Overrun);
    assert_eq!(window.conflicts(Seq(2), &read(1, b"c")), Verdict::Clear);
    assert_eq!(window.conflicts(Seq(2), &read(1, b"b")), Verdict::Conflict);
}

#[test]
fn nothing_read_never_conflicts() {
    let window = Window::new(Seq(5), 0);
    assert_eq!(window.conflicts(Seq(0), &ReadSet::default().finish()), Verdict::Clear);
}

#[test]
fn many_keys_of_a_batch_become_the_range_around_them() {
    let mut footprint = Footprint::default();
    for number in 0..2 * FOOTPRINT_KEYS_MAX as u32 {
        footprint.write(FamilyId(1), &(1_000 + number).to_be_bytes());
    }
    let mut window = Window::new(Seq(0), 1 << 20);
    window.push(Seq(1), &footprint);
    assert_eq!(window.conflicts(Seq(0), &read(1, &1_100_u32.to_be_bytes())), Verdict::Conflict);
    assert_eq!(window.conflicts(Seq(0), &read(1, &999_u32.to_be_bytes())), Verdict::Clear);
    assert_eq!(window.conflicts(Seq(0), &read(2, &1_100_u32.to_be_bytes())), Verdict::Clear);
}

#[test]
fn batch_over_very_many_families_meets_everybody() {
    let mut footprint = Footprint::default();
    for number in 0..1_000 {
        footprint.write(FamilyId(number), b"key");
    }
    let mut window = Window::new(Seq(0), 1 << 20);
    window.push(Seq(1), &footprint);
    assert_eq!(window.conflicts(Seq(0), &read(5_000, b"other")), Verdict::Overrun);
    assert_eq!(window.conflicts(Seq(1), &read(1, b"key")), Verdict::Clear);
}

#[test]
fn cleared_family_meets_all_its_readers() {
    let mut footprint = Footprint::default();
    footprint.whole_family(FamilyId(4));
    let mut window = Window::new(Seq(0), 1 << 20);
    window.push(Seq(1), &footprint);
    assert_eq!(window.conflicts(Seq(0), &read(4, b"key")), Verdict::Conflict);
    assert_eq!(window.conflicts(Seq(0), &read(3, b"key")), Verdict::Clear);
    let mut reads = ReadSet::default();
    reads.range(FamilyId(4), Bound::Unbounded, Bound::Unbounded);
    assert_eq!(window.conflicts(Seq(0), &reads.finish()), Verdict::Conflict);
}

#[test]
fn window_stays_within_its_bytes_and_keeps_its_newest_commits() {
    let mut window = Window::new(Seq(0), 128 << 10);
    for seq in 1..=100_000_u64 {
        window.push(Seq(seq), &written(1, &seq.to_be_bytes()));
        assert!(window.bytes() <= 128 << 10);
    }
    let verdict = |after| window.conflicts(Seq(after), &read(1, b"other"));
    assert_eq!(verdict(99_000), Verdict::Clear);
    assert_eq!(verdict(90_000), Verdict::Overrun);
    assert!(window.backlog(Seq(99_999)) <= 512);
}
