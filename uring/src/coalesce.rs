//! Merging adjacent queued writes into runs. Pure: no I/O, no lock.
//!
//! Writes wait in an order by (epoch, offset): an epoch ends with each sync, so that a sync never
//! waits for writes that came after it. The next run starts at the first write of the oldest epoch
//! at or behind where the last run ended (one sweep of an elevator, so nothing starves) and takes
//! its neighbours as long as they touch and the bounds allow.

use std::collections::BTreeMap;

use crate::settings::Coalesce;
use crate::work::{Part, Run};

/// Buffers in one vectored write. Linux takes 1,024; beyond some tens nothing is gained.
pub(crate) const RUN_PARTS_MAX: usize = 64;

/// Bytes in one vectored write: large enough for a disk's best rate, small enough not to stand
/// long in front of a log write.
pub(crate) const RUN_BYTES_MAX: usize = 512 << 10;

/// Place of a queued write: epoch, offset, number (two writes to one offset keep their order).
type Place = (u64, u64, u64);

/// The queued page writes.
pub(crate) struct Elevator {
    writes: BTreeMap<Place, Part>,
    swept: Place,
    mode: Coalesce,
}

impl Elevator {
    pub(crate) fn new(mode: Coalesce) -> Elevator {
        Elevator { writes: BTreeMap::new(), swept: (0, 0, 0), mode }
    }

    /// Writes queued.
    pub(crate) fn len(&self) -> usize {
        self.writes.len()
    }

    pub(crate) fn push(&mut self, epoch: u64, number: u64, part: Part) {
        self.writes.insert((epoch, part.offset, number), part);
    }

    /// Every queued write, in no promised order.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Part> {
        std::mem::take(&mut self.writes).into_values()
    }

    /// The next run; `None` if no write is queued.
    pub(crate) fn pop(&mut self) -> Option<Run> {
        let first = self.start()?;
        let part = self.writes.remove(&first)?;
        let mut run = Run { epoch: first.0, offset: part.offset, parts: Vec::new() };
        let mut end = part.end();
        let mut bytes = part.len;
        run.parts.push(part);
        while let Some(place) = self.neighbour(first.0, end) {
            let full =
                run.parts.len() >= RUN_PARTS_MAX || bytes + self.writes[&place].len > RUN_BYTES_MAX;
            if full || self.mode == Coalesce::Off {
                break;
            }
            let part = self.writes.remove(&place).expect("the neighbour was just found");
            (end, bytes) = (part.end(), bytes + part.len);
            run.parts.push(part);
        }
        self.swept = (first.0, end, 0);
        Some(run)
    }

    fn start(&self) -> Option<Place> {
        let oldest = *self.writes.first_key_value()?.0;
        let ahead = self.writes.range(self.swept..).next().map(|(place, _)| *place);
        Some(ahead.filter(|place| place.0 == oldest.0).unwrap_or(oldest))
    }

    fn neighbour(&self, epoch: u64, offset: u64) -> Option<Place> {
        self.writes
            .range((epoch, offset, 0)..=(epoch, offset, u64::MAX))
            .next()
            .map(|(place, _)| *place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BLOCK_BYTES;
    use crate::work::tests::part;

    /// Pushes writes of (epoch, block, blocks) and checks the (epoch, block, parts) of the runs.
    fn check(writes: &[(u64, u64, usize)], expected: &[(u64, u64, usize)]) {
        let mut elevator = Elevator::new(Coalesce::On);
        for (number, &(epoch, block, blocks)) in writes.iter().enumerate() {
            elevator.push(epoch, number as u64, part(block, blocks));
        }
        let mut runs = vec![];
        while let Some(run) = elevator.pop() {
            runs.push((run.epoch, run.offset / BLOCK_BYTES as u64, run.parts.len()));
        }
        assert_eq!(runs, expected);
    }

    #[test]
    fn adjacent_writes_become_one_run() {
        check(&[(0, 3, 1), (0, 1, 2), (0, 4, 1)], &[(0, 1, 3)]);
    }

    #[test]
    fn a_gap_ends_a_run() {
        check(&[(0, 1, 1), (0, 3, 1)], &[(0, 1, 1), (0, 3, 1)]);
    }

    #[test]
    fn a_run_never_crosses_an_epoch() {
        check(&[(0, 1, 1), (1, 2, 1), (1, 0, 1)], &[(0, 1, 1), (1, 0, 1), (1, 2, 1)]);
    }

    #[test]
    fn runs_are_bounded_in_bytes() {
        let blocks = RUN_BYTES_MAX / BLOCK_BYTES;
        check(&[(0, 0, blocks), (0, blocks as u64, 1)], &[(0, 0, 1), (0, blocks as u64, 1)]);
    }

    #[test]
    fn runs_are_bounded_in_parts() {
        let writes: Vec<_> = (0..RUN_PARTS_MAX as u64 + 1).map(|block| (0, block, 1)).collect();
        check(&writes, &[(0, 0, RUN_PARTS_MAX), (0, RUN_PARTS_MAX as u64, 1)]);
    }

    #[test]
    fn writes_to_one_offset_keep_their_order() {
        check(&[(0, 1, 1), (0, 1, 1)], &[(0, 1, 1), (0, 1, 1)]);
    }
}
