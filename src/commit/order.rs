//! What the one short lock guards: the order of commits and everything that follows from it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringdb_uring::Buf;

use crate::commit::Start;
use crate::commit::claim::{Claim, Cover};
use crate::commit::exclusive::Turn;
use crate::commit::group::OpenGroup;
use crate::commit::queue::Queue;
use crate::commit::window::Window;
use crate::error::Error;
use crate::format::catalog::Logging;
use crate::ids::{BLOCK_BYTES, FamilyId, Seq};
use crate::log::LogPosition;
use crate::memtable::Pool;
use crate::options::Grouping;
use crate::state::Family;

/// As many commits, or fewer, are followed by the next group at once: nobody else is about.
const FEW_COMMITS: u32 = 1;

/// So few are waited for all together, those that a flush wakes and those that came while it was under way: the two would take
/// turns otherwise, half of them in every other flush. Of more, some are always about something else.
const ALL_COMMITS_MAX: u32 = 16;

/// Memory for the window of recent commits' write keys.
const WINDOW_BYTES: usize = 1 << 20;

/// A log counts as padding if its rows take this part of it at most in memory.
const PADDED_SHARE: u64 = 4;

/// Whether new commits are accepted.
#[derive(Clone, Debug)]
pub(crate) enum Gate {
    Open,
    /// `close` was called.
    Closed,
    /// Growth failed: a commit that would have to wait gets this cause instead.
    Stalled(Error),
}

/// Rows that come in sequence are worth a checkpoint from this part of the memory for memtables on.
const SEQUENCE_SHARE: usize = 8;
/// Or from so many bytes on.
const SEQUENCE_BYTES_MAX: usize = 64 << 20;
/// Families of which it is known whether most rows come in sequence, at most: it is looked for under the lock.
const SEQUENCE_FAMILIES_MAX: usize = 64;

/// Memory charged for memtables, in bytes.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) active: usize,
    pub(crate) frozen: usize,
    pub(crate) max: usize,
    /// What `active` has to come to for another look at whether the rows come in sequence.
    look_at: usize,
}

impl Memory {
    pub(crate) fn new(max: usize) -> Memory {
        Memory { active: 0, frozen: 0, max, look_at: look_bytes(max) }
    }

    pub(crate) fn freeze(&mut self) {
        self.frozen += std::mem::take(&mut self.active);
        self.look_at = look_bytes(self.max);
    }

    pub(crate) fn used(&self) -> usize {
        self.active + self.frozen
    }

    /// Whether it is time for a checkpoint: the other half is what commits need meanwhile.
    pub(crate) fn is_half_active(&self) -> bool {
        self.active > self.max / 2
    }

    /// Whether it may be time for one, if the rows come in sequence.
    fn is_worth_a_look(&self) -> bool {
        self.active > look_bytes(self.max)
    }

    /// The same for whoever has just added rows, once for as many as are worth it.
    pub(crate) fn is_worth_another_look(&mut self) -> bool {
        let is_worth = self.active > self.look_at;
        if is_worth {
            self.look_at = self.active + look_bytes(self.max);
        }
        is_worth
    }
}

/// Bytes of rows that are worth a look.
fn look_bytes(max: usize) -> usize {
    (max / SEQUENCE_SHARE).min(SEQUENCE_BYTES_MAX)
}

/// Whom the last flush woke comes back within the time of a flush, mostly: so the next group waits for
/// so many commits, or for that time, which they would spend waiting for a flush without them. A group
/// that closes before they are back costs a third of the throughput (DESIGN section 9).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Regroup {
    pub(crate) commits: u32,
    pub(crate) until: Instant,
}

impl Regroup {
    /// What the group behind a flush waits for, if for anything: the flush wakes so many, and so many came while it was under way.
    pub(crate) fn behind(woken: u32, came: u32, until: Instant) -> Option<Regroup> {
        let all = woken.saturating_add(came);
        let commits = if all <= ALL_COMMITS_MAX { all } else { woken };
        (commits > FEW_COMMITS).then_some(Regroup { commits, until })
    }
}

/// The group being written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) last: Seq,
    pub(crate) commits: u32,
}

pub(crate) struct Order {
    pub(crate) last: Seq,
    /// The last commit with a record in the log.
    pub(crate) last_logged: Seq,
    pub(crate) group: OpenGroup,
    pub(crate) spare: Option<Buf>,
    /// Bytes of the buffers of `group` and `spare`, unless a commit brought a larger one.
    pub(crate) group_bytes: usize,
    pub(crate) grouping: Grouping,
    pub(crate) log: LogPosition,
    pub(crate) flight: Option<Flight>,
    pub(crate) regroup: Option<Regroup>,
    /// The owner waits for `regroup`, so single arrivals need not wake it.
    pub(crate) paced: bool,
    /// Somebody waits for the durability of commits that have no record in the log.
    pub(crate) forced: bool,
    /// When an idle log is sealed.
    pub(crate) seal_at: Option<Instant>,
    pub(crate) flush: SmoothedFlush,
    pub(crate) memory: Memory,
    pub(crate) cover: Cover,
    pub(crate) queue: Queue,
    pub(crate) gate: Gate,
    pub(super) turn: Turn,
    pub(crate) dirty: Vec<Arc<Family>>,
    pub(crate) epoch: u64,
    /// Shared, so that a freeze and a backup go through them without the lock; whoever changes them meanwhile copies them.
    pub(crate) names: Arc<HashMap<Arc<str>, Arc<Family>>>,
    pub(crate) next_family: FamilyId,
    /// What the memtables of new families take their memory from.
    pub(crate) pool: Arc<Pool>,
    /// Commits to unlogged families are in the frozen memtables.
    pub(crate) unlogged_frozen: bool,
    /// A commit waits for the memory of what is in the memtables now.
    pub(crate) memory_wanted: bool,
    /// A commit waits for the next memtable, as this one has as many range deletes as it should.
    pub(crate) ranges_wanted: bool,
    /// The last commit before trees are merged because nobody commits.
    pub(crate) idle_since: Option<Seq>,
    pub(crate) window: Window,
}

impl Order {
    pub(crate) fn new(start: Start) -> Order {
        let Start { last, log, shares, grouping, next_family, pool, .. } = start;
        let group_bytes = shares.group_bytes;
        Order {
            last,
            last_logged: last,
            group: OpenGroup::new(Buf::zeroed(group_bytes)),
            spare: Some(Buf::zeroed(group_bytes)),
            group_bytes,
            grouping,
            log,
            flight: None,
            regroup: None,
            paced: false,
            forced: false,
            seal_at: None,
            flush: SmoothedFlush::default(),
            memory: Memory::new(shares.memtable_bytes_max),
            cover: Cover::default(),
            queue: Queue::default(),
            gate: Gate::Open,
            turn: Turn::Everybodys,
            dirty: Vec::new(),
            epoch: 1,
            names: Arc::default(),
            next_family,
            pool,
            unlogged_frozen: false,
            memory_wanted: false,
            ranges_wanted: false,
            idle_since: None,
            window: Window::new(last, WINDOW_BYTES),
        }
    }

    /// Whether logged commits can join the open group.
    pub(super) fn log_has_room(&self, claim: &Claim) -> bool {
        self.group_has_room(claim) && self.segment_has_room(claim)
    }

    fn group_has_room(&self, claim: &Claim) -> bool {
        // Of several, each needs a group.
        let would_share = match self.grouping {
            Grouping::Shared => false,
            Grouping::PerCommit => claim.commits > 1 || !self.group.is_empty(),
        };
        let fits = self.group.fits(claim.commits, claim.payload_bytes);
        !would_share && fits && self.group.lists(claim.pieces)
    }

    /// Whether the log's segments take the open group with the commits in it.
    pub(super) fn segment_has_room(&self, claim: &Claim) -> bool {
        let group_bytes = self.group.padded_with(claim.commits, claim.payload_bytes);
        group_bytes as u64 <= self.log.room_bytes()
    }

    /// Whether there are commits to unlogged families that no published tree has.
    pub(crate) fn has_unlogged(&self) -> bool {
        let unlogged = |family: &Arc<Family>| family.logging == Logging::Unlogged;
        self.unlogged_frozen || self.dirty.iter().any(unlogged)
    }

    /// Whether so many bytes of the log are there for few rows: a checkpoint of those is cheap, and lets its segments be used
    /// again.
    pub(crate) fn is_log_padded(&self, bytes_max: u64) -> bool {
        let bytes = self.log.unfrozen_bytes();
        bytes > bytes_max && bytes / PADDED_SHARE > self.memory.active as u64
    }

    /// Whether a checkpoint costs as little now as later: rows that come in sequence lie side by side in a tree, however few they
    /// are, and those of a load are in their place soon after its end.
    pub(crate) fn has_sequence(&self) -> bool {
        if !self.memory.is_worth_a_look() || self.dirty.len() > SEQUENCE_FAMILIES_MAX {
            return false;
        }
        let (mut bytes, mut in_sequence) = (0, 0);
        for family in &self.dirty {
            let table = &family.active().table;
            bytes += table.bytes();
            in_sequence += if table.is_sequence() { table.bytes() } else { 0 };
        }
        in_sequence > bytes - bytes / 8
    }

    /// Whether a group without commits has a place.
    pub(crate) fn log_has_room_for_seal(&self) -> bool {
        self.log.room_bytes() >= BLOCK_BYTES as u64
    }

    /// The last commit that states hold, once it is visible: one that has the order to itself comes into them later.
    pub(crate) fn last_in_state(&self) -> Seq {
        match self.turn {
            Turn::Ordered(seq) => Seq(seq.0 - 1),
            Turn::Everybodys | Turn::Held => self.last,
        }
    }

    /// Remembers that the family has commits that are in no tree yet.
    pub(crate) fn mark_dirty(&mut self, family: &Arc<Family>) {
        if family.dirty_epoch.swap(self.epoch, Ordering::Relaxed) != self.epoch {
            self.dirty.push(family.clone());
        }
    }

    /// Whether the family has commits since the last freeze.
    pub(crate) fn is_dirty(&self, family: &Family) -> bool {
        family.dirty_epoch.load(Ordering::Relaxed) == self.epoch
    }

    /// Whether somebody commits again.
    pub(crate) fn is_idle_no_more(&self) -> bool {
        self.idle_since.is_some_and(|last| self.last != last)
    }

    /// Those who wait for room hear the cause. Never opens what was closed.
    pub(crate) fn stall(&mut self, cause: Error) {
        if !matches!(self.gate, Gate::Closed) {
            self.gate = Gate::Stalled(cause);
            self.cover.forget_wants();
        }
    }

    /// Until when the open group waits for those whom the last flush woke, if it does.
    pub(crate) fn waits_for_more(&self, now: Instant) -> Option<Instant> {
        let regroup = self.regroup.as_ref()?;
        let waits = self.group.commits() < regroup.commits && now < regroup.until && !self.forced;
        waits.then_some(regroup.until)
    }

    /// Whether the owner must be woken for the commit just pushed.
    pub(crate) fn owner_is_needed(&self) -> bool {
        if self.flight.is_some() {
            return false;
        }
        let commits = self.group.commits();
        match self.regroup {
            Some(regroup) if self.paced => {
                commits == regroup.commits || !self.group.fits(1, 64 << 10)
            }
            Some(_) | None => commits == 1,
        }
    }

    pub(crate) fn refusal(&self) -> Option<Error> {
        match &self.gate {
            Gate::Closed => Some(crate::commit::closed()),
            Gate::Open | Gate::Stalled(_) => None,
        }
    }
}

/// Exponentially smoothed duration of a flush.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SmoothedFlush(Duration);

impl SmoothedFlush {
    pub(crate) fn observe(&mut self, took: Duration) {
        self.0 = if self.0.is_zero() { took } else { (self.0 * 7 + took) / 8 };
    }

    pub(crate) fn get(self) -> Duration {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_writers_are_waited_for_together_and_of_many_those_that_were_woken() {
        let waits_for = |woken, came| {
            Regroup::behind(woken, came, Instant::now()).map(|regroup| regroup.commits)
        };
        assert_eq!(waits_for(1, 0), None, "a lone writer");
        assert_eq!(waits_for(0, 1), None, "behind a seal");
        assert_eq!((waits_for(1, 1), waits_for(4, 4)), (Some(2), Some(8)));
        assert_eq!((waits_for(16, 0), waits_for(1, 15)), (Some(16), Some(16)));
        assert_eq!((waits_for(16, 1), waits_for(40, 24)), (Some(16), Some(40)));
        assert_eq!(waits_for(1, 16), None, "one of many came alone");
        assert_eq!(waits_for(20, u32::MAX), Some(20));
    }
}
