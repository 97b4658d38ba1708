//! The images that power loss may leave of one recorded life.
//!
//! At every point of the trace each subset of the unsynced changes may have survived, and each
//! write may be torn at each sector, its head or its tail kept, beside others that survived or did
//! not. Up to [`EXHAUSTIVE_WRITES_MAX`] changes all subsets are tried; beyond, each change on its
//! own and a sample by the seed; and at each point a few outcomes more in which every sector has a
//! fate of its own. Many of these images are the same bytes (a write that was issued, and the same
//! one when it is over): a fingerprint finds them, the bytes are recovered once, and only
//! different ones are counted.

use std::collections::{HashMap, HashSet};

use ringdb::sim::{Choice, Disk, SECTOR_BYTES, Unsynced};

use crate::oracle::{Base, Ending, Floor, Prefix, Recorded};
use crate::rng::Rng;

/// Unsynced changes up to which every subset is tried.
const EXHAUSTIVE_WRITES_MAX: usize = 10;
/// Random outcomes tried at a point with more unsynced changes than that.
const SAMPLES_PER_POINT: usize = 32;
/// Random outcomes tried at a point where a write may be torn.
const SCATTERED_PER_POINT: usize = 4;
/// Sectors of a write up to which it is torn at each; a longer one at its ends and by the seed.
const TORN_SECTORS_MAX: usize = 40;
/// Borders at which a longer one is torn.
const TORN_SAMPLES: usize = 8;
/// One recovered database in so many is closed; the others are let go. Which, its bytes decide.
const CLOSED_ONE_IN: u64 = 4;

/// A point of the trace, and what survived there.
pub type Image = (usize, Choice);

/// Every outcome that the device model allows at a point, or a sample of them.
pub fn choices(unsynced: &[Unsynced], rng: &mut Rng) -> Vec<Choice> {
    let len = unsynced.len();
    let mut choices = vec![Choice::None];
    if len <= EXHAUSTIVE_WRITES_MAX {
        choices.extend((1..1u64 << len).map(Choice::Subset));
    } else {
        choices.push(Choice::All);
        choices.extend((0..len).flat_map(|n| [Choice::Only(n), Choice::AllBut(n)]));
        choices.extend((0..SAMPLES_PER_POINT).map(|_| Choice::Seeded(rng.bits())));
    }
    let whole = choices.len();
    for (change, what) in unsynced.iter().enumerate() {
        for sector in torn_at(what, rng) {
            choices.extend([Choice::Torn { change, sector }, Choice::TornHead { change, sector }]);
            if len > 1 {
                choices.push(Choice::TornAlone { change, sector });
            }
        }
    }
    if choices.len() > whole {
        choices.extend((0..SCATTERED_PER_POINT).map(|_| Choice::Seeded(rng.bits())));
    }
    choices
}

/// The sectors at which a change may be torn, or some of them.
fn torn_at(change: &Unsynced, rng: &mut Rng) -> Vec<usize> {
    let Unsynced::Write { len_bytes, .. } = change else { return Vec::new() };
    match len_bytes.div_ceil(SECTOR_BYTES) {
        0 | 1 => Vec::new(),
        sectors @ 2..=TORN_SECTORS_MAX => (1..sectors).collect(),
        sectors => {
            let within = (0..TORN_SAMPLES).map(|_| 1 + rng.below(sectors - 1));
            [1, sectors - 1].into_iter().chain(within).collect()
        }
    }
}

/// One recorded life, and what is known about the images that were looked at.
pub struct Walk<'a> {
    recorded: &'a Recorded,
    floors: Vec<Floor>,
    known: HashMap<(u64, bool), Prefix>,
    words: String,
}

impl<'a> Walk<'a> {
    /// A life, with the words that tell it from others.
    pub fn new(recorded: &'a Recorded, words: String) -> Walk<'a> {
        Walk { recorded, floors: recorded.floors(), known: HashMap::new(), words }
    }

    /// All images, in the order of the trace.
    pub fn images(&self, rng: &mut Rng) -> Vec<Image> {
        let disk = &self.recorded.disk;
        let mut images = Vec::new();
        for point in (0..=self.recorded.points).filter(|point| !disk.is_same_at_next(*point)) {
            let choices = choices(&disk.unsynced(point), rng);
            images.extend(choices.into_iter().map(|choice| (point, choice)));
        }
        images
    }

    /// What is left at each point if nothing of what was unsynced survives, and if all of it does.
    pub fn boundaries(&self) -> Vec<Image> {
        let disk = &self.recorded.disk;
        let points = (0..=self.recorded.points).filter(|point| !disk.is_same_at_next(*point));
        points.flat_map(|point| [(point, Choice::None), (point, Choice::All)]).collect()
    }

    /// One random image.
    pub fn any(&self, rng: &mut Rng) -> Image {
        let point = rng.below(self.recorded.points + 1);
        let choices = choices(&self.recorded.disk.unsynced(point), rng);
        (point, choices[rng.below(choices.len())])
    }

    /// Checks an image. True if its bytes are not among those seen before.
    ///
    /// # Panics
    /// If the oracle finds anything wrong.
    pub fn check(&mut self, (point, choice): Image, seen: &mut HashSet<u64>) -> bool {
        let floor = self.floors[point];
        let image = self.recorded.disk.image(point, choice);
        image.stop_trace();
        let fingerprint = image.fingerprint();
        let closed = fingerprint.is_multiple_of(CLOSED_ONE_IN);
        let ending = if closed { Ending::Closed } else { Ending::LetGo };
        let key = (fingerprint, floor.is_created());
        let prefix = match self.known.get(&key) {
            Some(prefix) => Ok(*prefix),
            None => self.recorded.recover(&image, floor, ending).map(|(_, prefix)| prefix),
        };
        let verdict = prefix.and_then(|prefix| {
            self.known.insert(key, prefix);
            prefix.reaches(floor)
        });
        verdict.unwrap_or_else(|wrong| panic!("{}: {wrong}", self.told((point, choice))));
        seen.insert(fingerprint)
    }

    /// The bytes of an image, as a number.
    pub fn fingerprint(&self, (point, choice): Image) -> u64 {
        self.recorded.disk.image(point, choice).fingerprint()
    }

    /// An image that is to live on: its disk, and what is found on it.
    ///
    /// # Panics
    /// If the oracle finds anything wrong.
    pub fn revive(&self, (point, choice): Image) -> (Disk, Base) {
        let floor = self.floors[point];
        let image = self.recorded.disk.image(point, choice);
        let found = self.recorded.verify(&image.copy(), floor);
        let found = found.unwrap_or_else(|wrong| panic!("{}: {wrong}", self.told((point, choice))));
        (image, Base { exists: floor.is_created(), ..found })
    }

    /// An image in words.
    pub fn told(&self, (point, choice): Image) -> String {
        let last = self.recorded.disk.describe(point);
        format!("{}, point {point} (after {last}), {choice:?}", self.words)
    }
}

/// Keeps at most `max` of the items, spread evenly, order kept.
pub fn sample<T>(items: &mut Vec<T>, max: usize, rng: &mut Rng) {
    let (len, max) = (items.len(), max.max(1));
    if len <= max {
        return;
    }
    let mut place = rng.below(len);
    items.retain(|_| {
        // True exactly `max` times for any `len` consecutive places.
        place += 1;
        place * max / len != (place - 1) * max / len
    });
}

#[test]
fn a_sample_is_spread_evenly() {
    for (len, max) in [(10, 3), (1000, 7), (5, 5), (5, 9)] {
        let mut items: Vec<_> = (0..len).collect();
        sample(&mut items, max, &mut Rng::new(len as u64));
        assert_eq!(items.len(), max.min(len));
    }
}

#[test]
fn three_writes_have_all_their_subsets_and_tears() {
    let write = |len_bytes| Unsynced::Write { offset: 0, len_bytes };
    let unsynced = [write(1024), Unsynced::Size(9), write(4096)];
    let choices = choices(&unsynced, &mut Rng::new(1));
    assert_eq!(choices.len(), 8 + 3 * (1 + 7) + SCATTERED_PER_POINT);
    assert!(choices.contains(&Choice::Subset(0b101)));
    assert!(choices.contains(&Choice::Torn { change: 2, sector: 7 }));
    assert!(choices.contains(&Choice::TornAlone { change: 0, sector: 1 }));
}
