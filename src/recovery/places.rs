//! The order of rows: places by which they are sorted, and runs of rows that are.

use crate::ids::Seq;
use crate::memtable::{KeyHash, Kind};
use crate::recovery::apart::Apart;

/// Rows of a run that are sorted on another thread.
const SORTED_APART_MIN: usize = 5_000;
/// Bits of a row's number that say where it is in its run; the others are the run's number.
const INDEX_BITS: u32 = 14;
/// Rows of one run, at most.
pub(super) const RUN_ROWS_MAX: usize = 1 << INDEX_BITS;
/// Runs that have numbers.
pub(super) const RUNS_MAX: usize = 1 << (u32::BITS - INDEX_BITS);

/// Rows of one segment, and their places.
#[derive(Default)]
pub(super) struct Run {
    /// The segment that they are in.
    pub(super) segment: u32,
    pub(super) places: Vec<Place>,
    /// In the order of the places, once these are sorted.
    pub(super) rows: Vec<Row>,
}

/// A run that is as it shall be, or on its way there.
pub(super) enum Sorting {
    Done(Run),
    Apart(Apart<Run, (Run, Run)>),
}

/// What rows are sorted by first, and the row: family, first bytes of the key behind the family's prefix, number of the row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u128);

/// Where a row lies in its segment, and what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) seq: Seq,
    pub(super) hash: KeyHash,
    /// From the front of the segment.
    pub(super) start: u32,
    pub(super) len: u32,
    pub(super) family: u32,
    /// Keys are as long as 65,536 bytes, and not empty.
    last_of_key: u16,
    pub(super) kind: Kind,
}

const _: () = assert!(size_of::<Row>() == 32, "a page that is touched for the first time is dear");

impl Row {
    pub(super) fn new(
        (seq, kind, family): (Seq, Kind, u32),
        (start, len): (usize, usize),
        key: &[u8],
    ) -> Row {
        let bounded = |len: usize| u32::try_from(len).expect("segments are shorter than 4 GiB");
        let last_of_key = u16::try_from(key.len() - 1).expect("a key is no longer than 64 KiB");
        let (start, len) = (bounded(start), bounded(len));
        Row { seq, hash: KeyHash::of(key), start, len, family, last_of_key, kind }
    }

    pub(super) fn key_len(&self) -> usize {
        usize::from(self.last_of_key) + 1
    }

    pub(super) fn bytes<'a>(&self, segment: &'a [u8]) -> &'a [u8] {
        &segment[self.start as usize..][..self.len as usize]
    }

    pub(super) fn key<'a>(&self, segment: &'a [u8]) -> &'a [u8] {
        &segment[self.start as usize..][..self.key_len()]
    }
}

impl Place {
    /// Of the row at an index of a run.
    pub(super) fn new(family: u32, head: u64, run: usize, index: usize) -> Place {
        assert!(run < RUNS_MAX && index < RUN_ROWS_MAX);
        let row = (run << INDEX_BITS | index) as u128;
        Place(u128::from(family) << 96 | u128::from(head) << 32 | row)
    }

    fn at(self, index: usize) -> Place {
        Place(self.0 & !((1 << INDEX_BITS) - 1) | index as u128)
    }

    pub(super) fn run(self) -> usize {
        (self.0 as u32 >> INDEX_BITS) as usize
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize & (RUN_ROWS_MAX - 1)
    }

    pub(super) fn family(self) -> usize {
        (self.0 >> 96) as usize
    }

    pub(super) fn head(self) -> u64 {
        (self.0 >> 32) as u64
    }

    pub(super) fn is_tied(&self, other: &Place) -> bool {
        self.0 >> 32 == other.0 >> 32
    }
}

impl Run {
    /// Its rows in ascending order, side by side for whoever merges runs, in memory of their own; and a run without rows that has the
    /// memory of this one.
    pub(super) fn sorted(mut self) -> (Run, Run) {
        self.places.sort_unstable();
        let rows = self.places.iter().map(|place| self.rows[place.index()]).collect();
        let places = self.places.iter().enumerate().map(|(index, place)| place.at(index)).collect();
        let sorted = Run { segment: self.segment, places, rows };
        self.places.clear();
        self.rows.clear();
        (sorted, self)
    }
}

impl Default for Sorting {
    fn default() -> Sorting {
        Sorting::Done(Run::default())
    }
}

impl Sorting {
    /// Many are sorted on a thread of their own, if there may be one; gives the memory of the run back if it was not.
    pub(super) fn begin(run: Run, may_be_apart: bool) -> (Sorting, Option<Run>) {
        if may_be_apart && run.places.len() >= SORTED_APART_MIN {
            return (Sorting::Apart(Apart::begin(run, Run::sorted)), None);
        }
        let (run, memory) = run.sorted();
        (Sorting::Done(run), Some(memory))
    }

    pub(super) fn is_apart(&self) -> bool {
        matches!(self, Sorting::Apart(_))
    }

    /// Takes what another thread has sorted by now; gives the memory that it was in.
    pub(super) fn collect(&mut self) -> Option<Run> {
        match std::mem::take(self) {
            Sorting::Apart(apart) if apart.is_over() => {
                let (run, memory) = apart.wait();
                *self = Sorting::Done(run);
                Some(memory)
            }
            sorting => {
                *self = sorting;
                None
            }
        }
    }

    pub(super) fn wait(self) -> Run {
        match self {
            Sorting::Done(run) => run,
            Sorting::Apart(apart) => apart.wait().0,
        }
    }
}
