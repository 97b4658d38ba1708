//! Merging runs of rows into their order, for the memtable that they go into.

use std::panic::resume_unwind;
use std::sync::Arc;

use ringdb_frames::bring_near;
use ringdb_uring::Buf;

use crate::memtable::{FillRow, NewRow, RowPlace};
use crate::recovery::places::{Place, Row, Run};

/// Rows whose bytes are asked for ahead of need: in key order each lies somewhere else.
const ROWS_AHEAD: usize = 8;
/// Rows of a family that two threads put in.
const SHARED_ROWS_MIN: usize = 10_000;

/// Rows that are sorted run by run.
pub(super) struct Runs<'a> {
    pub(super) segments: &'a [Arc<Buf>],
    pub(super) runs: &'a [Run],
}

impl<'a> Runs<'a> {
    fn row(&self, place: Place) -> (&'a Row, u32, &'a [u8]) {
        let run = &self.runs[place.run()];
        (&run.rows[place.index()], run.segment, &self.segments[run.segment as usize])
    }

    /// The places that a family has, of each run in which it has some; `next` is where each run goes on, families one after the other.
    pub(super) fn of_family(&self, family: u32, next: &mut [usize]) -> Vec<&'a [Place]> {
        let is_its = |place: &Place| place.family() == family as usize;
        let part = |(run, next): (&'a Run, &mut usize)| {
            let rest = &run.places[*next..];
            rest.first().filter(|first| is_its(first))?;
            let part = &rest[..rest.partition_point(is_its)];
            *next += part.len();
            Some(part)
        };
        self.runs.iter().zip(next).filter_map(part).collect()
    }

    /// Merges the places of one family and does the work for them, in two parts if they are many, on two threads: half of the
    /// time is waiting for memory, which two do side by side.
    pub(super) fn by_two<T: Send>(
        &self,
        runs: &[&[Place]],
        rows: usize,
        work: impl Fn(&[Place]) -> T + Sync,
    ) -> Vec<T> {
        let work = |runs: &[&[Place]]| work(&self.merged(runs));
        if rows < SHARED_ROWS_MIN {
            return vec![work(runs)];
        }
        let mut middles: Vec<_> = runs.iter().filter_map(|run| run.get(run.len() / 2)).collect();
        middles.sort_unstable();
        // Places that tie stay together, and with them the versions of a key.
        let border = middles[middles.len() / 2].head();
        let split = |run: &&'_ [Place]| run.partition_point(|place| place.head() < border);
        let low: Vec<_> = runs.iter().map(|run| &run[..split(run)]).collect();
        let high: Vec<_> = runs.iter().map(|run| &run[split(run)..]).collect();
        std::thread::scope(|scope| {
            let helper = std::thread::Builder::new().name("ringdb-replay".to_owned());
            let spawned = helper.spawn_scoped(scope, || work(&low));
            let high = work(&high);
            let low = match spawned {
                Ok(helper) => helper.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(_) => work(&low),
            };
            vec![low, high]
        })
    }

    /// Merges places that are sorted, and puts those that tie in the order of their keys and seqs.
    fn merged(&self, runs: &[&[Place]]) -> Vec<Place> {
        let mut merged = runs.concat();
        // It finds what is sorted already.
        merged.sort();
        for tied in merged.chunk_by_mut(Place::is_tied).filter(|tied| tied.len() > 1) {
            let version = |place: &Place| {
                let (row, _, segment) = self.row(*place);
                (row.key(segment), row.seq)
            };
            // Of two rows of a key with the same seq the later one counts: the order of equals is kept.
            tied.sort_by(|a, b| version(a).cmp(&version(b)));
        }
        merged
    }

    /// The rows at these places, with their bytes asked for ahead of need if these are read.
    pub(super) fn fill_rows(
        &self,
        places: &'a [Place],
        are_read: bool,
    ) -> impl Iterator<Item = FillRow<'a>> {
        places.iter().enumerate().map(move |(index, place)| {
            if let Some(later) = places.get(index + ROWS_AHEAD).filter(|_| are_read) {
                let (row, _, segment) = self.row(*later);
                bring_near(row.bytes(segment));
            }
            let (row, number, segment) = self.row(*place);
            let (bytes, key_len) = (row.bytes(segment), row.key_len());
            FillRow {
                row: NewRow { seq: row.seq, kind: row.kind, bytes, key_len },
                place: RowPlace::in_segment(number, row.start),
                head: place.head(),
                hash: row.hash,
            }
        })
    }
}
