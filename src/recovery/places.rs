//! The order of rows: places by which they are sorted, and runs of places that are.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::JoinHandle;

use ringdb_uring::Buf;

use crate::ids::Seq;
use crate::memtable::{KeyHash, Kind};

/// Rows of a segment that are sorted on another thread.
const SORTED_APART_MIN: usize = 5_000;

/// Places of the rows of a segment in ascending order, or on their way there.
pub(super) enum Run {
    Sorted(Vec<Place>),
    Sorting(JoinHandle<Vec<Place>>),
}

/// What rows are sorted by first, and the row: family, first bytes of the key behind the family's prefix, number of the row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u128);

/// Where a row lies in the segments that were read.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) seq: Seq,
    pub(super) hash: KeyHash,
    /// From the front of the segment.
    pub(super) start: u32,
    pub(super) segment: u32,
    pub(super) family: u32,
    pub(super) len: u32,
    pub(super) key_len: u32,
    pub(super) kind: Kind,
}

impl Row {
    pub(super) fn bytes<'a>(&self, segments: &'a [Arc<Buf>]) -> &'a [u8] {
        &segments[self.segment as usize][self.start as usize..][..self.len as usize]
    }

    pub(super) fn key<'a>(&self, segments: &'a [Arc<Buf>]) -> &'a [u8] {
        &self.bytes(segments)[..self.key_len as usize]
    }
}

impl Place {
    pub(super) fn new(family: u32, head: u64, row: usize) -> Place {
        let row = u32::try_from(row).expect("there is memory for fewer than 2^32 rows");
        Place(u128::from(family) << 96 | u128::from(head) << 32 | u128::from(row))
    }

    pub(super) fn row(self) -> usize {
        self.0 as u32 as usize
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
    /// Many are sorted on a thread of their own; none if there is none, and then they are lost.
    pub(super) fn sort(places: Vec<Place>) -> Option<Run> {
        if places.len() < SORTED_APART_MIN {
            return Some(Run::Sorted(sorted(places)));
        }
        let helper = std::thread::Builder::new().name("ringdb-replay".to_owned());
        helper.spawn(move || sorted(places)).ok().map(Run::Sorting)
    }

    pub(super) fn wait(self) -> Vec<Place> {
        match self {
            Run::Sorted(places) => places,
            Run::Sorting(helper) => helper.join().unwrap_or_else(|panic| resume_unwind(panic)),
        }
    }
}

/// Puts places into ascending order.
pub(super) fn sorted(mut places: Vec<Place>) -> Vec<Place> {
    places.sort_unstable();
    places
}
