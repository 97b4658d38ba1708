//! What a commit needs before it can be ordered, and what the file has room for.
//!
//! Memory, log and places are not enough: what is in the memtables must have pages when a
//! checkpoint writes it, or a full disk could never be left again. So the keeper of the log has
//! pages promised to the next checkpoint, and commits of new rows stop at what that *covers*.
//! Deletes do not; where the disk is short they stop at what the reserve can rewrite.

use crate::alloc::reserve::{Need, promised_pages};
use crate::commit::exclusive::Turn;
use crate::commit::{Order, Pipeline};
use crate::error::{Error, ErrorKind};

/// Part of the memory for memtables that only deletes may fill.
const RELIEF_SHARE: usize = 16;

/// Pages for more are asked for when those that are left do for so many bytes: a part of what is in the memtables, within bounds.
const COVER_LOW_SHARE: usize = 4;
const COVER_LOW_BYTES_MIN: usize = 32 << 10;
const COVER_LOW_BYTES_MAX: usize = 4 << 20;

/// Memory that an operation takes in a memtable besides its bytes: header, place, leaf and index.
const ENTRY_OVERHEAD_BYTES: usize = 80;

/// Charged for the first commit to a family since the last freeze. Its memtable's first leaf, filter, index and chunk of rows
/// take more than half of it, and the tree that a checkpoint makes of one row a whole page: as many as there are families.
const FAMILY_OVERHEAD_BYTES: usize = 6 << 10;
const _: () = assert!(promised_pages(1000 * FAMILY_OVERHEAD_BYTES as u64) >= 1000);

/// Bytes charged for operations with a payload of so many, in so many families that have nothing in memory yet.
pub(crate) fn charge_bytes(payload: usize, operations: usize, new_families: usize) -> usize {
    payload + operations * ENTRY_OVERHEAD_BYTES + new_families * FAMILY_OVERHEAD_BYTES
}

/// What a commit needs, or several together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) commits: usize,
    /// How many of them are copied to the group when it closes.
    pub(crate) pieces: usize,
    /// Bytes in the log, none for a commit that is not logged.
    pub(crate) payload_bytes: usize,
    /// Memory in memtables.
    pub(crate) charge_bytes: usize,
    pub(crate) need: Need,
    /// Nodes that its deletes may touch, if it is relief.
    pub(crate) nodes: u64,
    /// Whether it deletes ranges, and a memtable has as many of those as it should: it waits for the next one.
    pub(crate) ranges_are_full: bool,
}

/// What the file has room for, as its keeper found it.
#[derive(Debug, Default)]
pub(crate) struct Cover {
    /// Bytes of memtables that pages were promised for.
    pub(crate) bytes: usize,
    /// Bytes beyond what is in the memtables that a commit waits for.
    pub(crate) wanted_bytes: usize,
    /// Deletes wait for a log segment.
    pub(crate) segment_waits: bool,
    /// Nodes of deletes that wait for a checkpoint of those before them.
    nodes_wanted: u64,
    /// Nodes that deletes in the memtables may touch.
    nodes_active: u64,
    nodes_frozen: u64,
    /// Where they stop while the disk is short.
    nodes_max: Option<u64>,
    /// Why the last commit was refused, if none was accepted since.
    hindrance: Option<Error>,
    /// One was accepted, and nobody was told yet.
    accepted: bool,
}

impl Cover {
    pub(super) fn freeze(&mut self) {
        self.nodes_frozen += std::mem::take(&mut self.nodes_active);
    }

    /// So many bytes are in the trees, and have taken what was promised for them.
    pub(super) fn thaw(&mut self, frozen_bytes: usize) {
        self.bytes = self.bytes.saturating_sub(frozen_bytes);
        self.nodes_frozen = 0;
        self.nodes_wanted = 0;
    }

    /// Pages are promised for so many bytes of memtables; says whether that is more than before.
    ///
    /// What a commit wants beyond that stays wanted: it came after the bytes were chosen.
    pub(crate) fn cover(&mut self, used_bytes: usize, bytes: usize) -> bool {
        if used_bytes + self.wanted_bytes <= bytes {
            self.wanted_bytes = 0;
        }
        bytes > std::mem::replace(&mut self.bytes, bytes)
    }

    /// Whoever waits is told; the next one says again what it wants.
    pub(super) fn forget_wants(&mut self) {
        (self.wanted_bytes, self.segment_waits, self.nodes_wanted) = (0, false, 0);
    }

    /// Whether the disk gave less than was asked of it the last time.
    pub(crate) fn is_short(&self) -> bool {
        self.nodes_max.is_some()
    }

    /// Deletes may touch so many nodes until the next checkpoint, if the disk is short. Says
    /// whether some that wait have room now.
    pub(crate) fn bound_nodes(&mut self, nodes_max: Option<u64>) -> bool {
        self.nodes_max = nodes_max;
        let admits = self.nodes_wanted > 0 && self.has_nodes(self.nodes_wanted);
        if admits {
            self.nodes_wanted = 0;
        }
        admits
    }

    /// Whether deletes wait that no reserve of this size can rewrite.
    pub(crate) fn nodes_are_too_many(&self) -> bool {
        self.nodes_wanted > 0 && self.nodes_active + self.nodes_frozen == 0
    }

    fn has_nodes(&self, nodes: u64) -> bool {
        self.nodes_max.is_none_or(|max| self.nodes_active + self.nodes_frozen + nodes <= max)
    }
}

impl Order {
    /// Whether memtables, log and file have room, and no commit has the order to itself.
    pub(super) fn has_room(&self, claim: &Claim) -> bool {
        self.turn == Turn::Everybodys
            && !claim.ranges_are_full
            && self.memory_has_room(claim)
            && self.is_covered(claim)
            && (claim.payload_bytes == 0 || self.log_has_room(claim))
    }

    /// Whether nobody but the owner can make room for the commit: it will be in the next group.
    pub(super) fn lacks_only_group(&self, claim: &Claim) -> bool {
        !claim.ranges_are_full
            && self.memory_has_room(claim)
            && self.is_covered(claim)
            && self.segment_has_room(claim)
    }

    /// Whether memtables have room. A commit alone that finds them empty always fits.
    fn memory_has_room(&self, claim: &Claim) -> bool {
        let max = match claim.need {
            Need::Growth => self.memory.max - self.memory.max / RELIEF_SHARE,
            Need::Relief => self.memory.max,
        };
        let used = self.memory.used();
        used == 0 && claim.commits == 1 || used + claim.charge_bytes <= max
    }

    fn is_covered(&self, claim: &Claim) -> bool {
        match claim.need {
            Need::Growth => {
                let has_pages = self.memory.used() + claim.charge_bytes <= self.cover.bytes;
                // There are deletes among them.
                has_pages && (claim.nodes == 0 || self.cover.has_nodes(claim.nodes))
            }
            Need::Relief => self.cover.has_nodes(claim.nodes),
        }
    }

    /// Whether nobody lacks what the keeper can get.
    pub(crate) fn is_satisfied(&self) -> bool {
        let waits = self.cover.segment_waits || self.cover.nodes_wanted > 0;
        !waits && self.cover.wanted_bytes == 0 && !self.lacks_segment()
    }

    /// Whether somebody waits for a segment, and not only for the one after it.
    pub(crate) fn lacks_segment(&self) -> bool {
        self.cover.segment_waits || self.log.room_bytes() < self.log.wanted_bytes()
    }

    /// Remembers what the commit lacks, for those who can get it.
    pub(super) fn want(&mut self, claim: &Claim) {
        self.memory_wanted |= !self.memory_has_room(claim);
        self.ranges_wanted |= claim.ranges_are_full;
        match claim.need {
            Need::Growth => {
                if !self.is_covered(claim) {
                    // Also one that charges nothing, as a new family, lacks something.
                    let wanted = claim.charge_bytes.max(1);
                    self.cover.wanted_bytes = self.cover.wanted_bytes.max(wanted);
                }
            }
            Need::Relief => {
                let logged = claim.payload_bytes > 0;
                self.cover.segment_waits |= logged && !self.segment_has_room(claim);
                if !self.is_covered(claim) {
                    self.cover.nodes_wanted = self.cover.nodes_wanted.max(claim.nodes);
                    // The checkpoint of those before makes room for these.
                    self.memory_wanted = true;
                }
            }
        }
    }

    /// Charges a commit that has its place; whether the keeper should have more covered.
    pub(super) fn charge(&mut self, claim: &Claim) -> bool {
        self.memory.active += claim.charge_bytes;
        match claim.need {
            Need::Growth => {
                if self.cover.hindrance.take().is_some() {
                    self.cover.accepted = true;
                    return true;
                }
                let used = self.memory.used();
                let low = (used / COVER_LOW_SHARE).clamp(COVER_LOW_BYTES_MIN, COVER_LOW_BYTES_MAX);
                used + low > self.cover.bytes
                    && self.cover.bytes < self.memory.max
                    && !self.cover.is_short()
            }
            Need::Relief => {
                self.cover.nodes_active += claim.nodes;
                false
            }
        }
    }
}

impl Pipeline {
    /// Growth or a checkpoint failed: those who wait for room hear the cause, and the next commit
    /// that finds none has it tried again.
    pub(crate) fn stall(&self, cause: Error) {
        self.order().stall(cause.clone());
        self.wake_front();
        self.hinder(cause);
    }

    /// A commit was refused because the disk is full, before it came here.
    pub(crate) fn refused_for_space(&self, cause: &Error) {
        if cause.kind() == ErrorKind::NoSpace {
            self.hinder(cause.clone());
        }
    }

    fn hinder(&self, cause: Error) {
        self.order().cover.hindrance = Some(cause);
        self.changed.notify();
    }

    /// Why commits are refused for the time being.
    pub(crate) fn hindrance(&self) -> Option<Error> {
        self.order().cover.hindrance.clone()
    }

    /// Commits are accepted again.
    pub(crate) fn unhinder(&self) {
        if self.order().cover.hindrance.take().is_some() {
            self.changed.notify();
        }
    }

    /// Tells that a commit was accepted after one was refused.
    pub(crate) fn tell_accepted(&self) {
        if std::mem::take(&mut self.order().cover.accepted) {
            self.changed.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_want_that_came_meanwhile_is_not_forgotten() {
        let mut cover = Cover { bytes: 100, wanted_bytes: 30, ..Cover::default() };
        assert!(!cover.cover(100, 100), "chosen before the want came");
        assert_eq!(cover.wanted_bytes, 30);
        assert!(cover.cover(100, 130));
        assert_eq!((cover.bytes, cover.wanted_bytes), (130, 0));
    }
}
