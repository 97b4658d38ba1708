//! Reserve, order, apply: the way of one commit into the order.

use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use bytes::Bytes;
use ringdb_uring::Buf;
use ringdb_uring::planted::{self, Bug};
use ringdb_uring::threads::MutexGuard;

use crate::alloc::reserve::Need;
use crate::blocking;
use crate::commit::claim::{Claim, charge_bytes};
use crate::commit::footprint::{Footprint, Reads};
use crate::commit::group;
use crate::commit::window::{BACKLOG_INSIDE_MAX, Sealed, Verdict};
use crate::commit::{Gate, Order, Pipeline, Shown, Ticket, forked};
use crate::error::{Error, ErrorKind, Result};
use crate::format::catalog::Logging;
use crate::format::record::{Found, Op, Ops};
use crate::ids::{FamilyId, Seq};
use crate::memtable::{Kind, NewRow, RANGE_DELETES_MAX};
use crate::state::Family;

/// Rows of a batch that ascend before those behind them are taken for sorted.
const SORTED_ROWS_MIN: usize = 8;

/// A batch that is ready to be ordered.
pub(crate) struct Submission<'a> {
    /// Its operations, encoded as in the log.
    pub(crate) payload: &'a Bytes,
    pub(crate) operations: usize,
    /// Whether there are deletes of ranges among them.
    pub(crate) has_ranges: bool,
    /// Whether it brings new rows, or deletes only.
    pub(crate) need: Need,
    /// Every family it touches, once.
    pub(crate) families: &'a [Arc<Family>],
    pub(crate) shown: Shown,
    pub(crate) footprint: &'a Footprint,
    /// What a transaction read, and the seq at which it read it.
    pub(crate) reads: Option<(&'a Reads, Seq)>,
}

/// Whether the open group grew.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    HasMore,
    Unconcerned,
}

/// What came of the attempt to enter the order.
pub(crate) enum Admission<T> {
    Ordered(T),
    /// No room now; the ticket is in the queue.
    Wait,
    /// The commit needs a group buffer of this many bytes, to be brought along next time.
    NeedsBuffer(usize),
}

impl Submission<'_> {
    /// What it needs in this order: families that nobody wrote to since the last freeze cost more.
    fn claim(&self, order: &Order) -> Claim {
        let new_families = self.families.iter().filter(|family| !order.is_dirty(family)).count();
        let payload_bytes = if self.is_logged() { self.payload.len() } else { 0 };
        Claim {
            commits: 1,
            pieces: group::is_piece(payload_bytes).into(),
            payload_bytes,
            charge_bytes: charge_bytes(self.payload.len(), self.operations, new_families),
            need: self.need,
            nodes: if self.need == Need::Relief { self.operations as u64 } else { 0 },
            ranges_are_full: self.has_ranges && self.families.iter().any(has_full_ranges),
        }
    }

    fn is_logged(&self) -> bool {
        self.families.iter().any(|family| family.logging == Logging::Logged)
    }
}

impl Pipeline {
    /// Orders and applies the commit if there is room for it and all who came before.
    pub(crate) fn try_submit(
        &self,
        submission: &Submission<'_>,
        ticket: &mut Option<Arc<Ticket>>,
        brought: &mut Option<Buf>,
        waker: Option<&Waker>,
    ) -> Result<Admission<Seq>> {
        let mut order = self.enter()?;
        if let Some(family) = submission.families.iter().find(|family| family.dropped().is_some()) {
            let error = Error::new(ErrorKind::NotFound, "the column family was dropped");
            return Err(error.with_detail(format!("family {}", family.name())));
        }
        let claim = submission.claim(&order);
        match self.admit(&mut order, &claim, ticket, brought, waker)? {
            Admission::Ordered(()) => {}
            Admission::Wait => return Ok(Admission::Wait),
            Admission::NeedsBuffer(bytes) => return Ok(Admission::NeedsBuffer(bytes)),
        }
        if let Some((reads, at)) = submission.reads
            && order.window.conflicts(at, reads) != Verdict::Clear
            && !planted::is(Bug::ConflictMissed)
        {
            self.leave(order, ticket, Owner::Unconcerned);
            return Err(conflict());
        }
        let seq = self.take_seq(&mut order, &claim);
        for family in submission.families {
            order.mark_dirty(family);
        }
        order.window.push(seq, submission.footprint);
        let logged = submission.is_logged();
        if logged {
            order.group.push(seq, submission.payload);
            order.last_logged = seq;
        }
        self.leave(order, ticket, if logged { Owner::HasMore } else { Owner::Unconcerned });
        let shown = if logged { submission.shown } else { Shown::WhenApplied };
        self.apply(seq, submission, shown);
        Ok(Admission::Ordered(seq))
    }

    /// The long part of a validation, outside the lock; gives the seq from which the rest is done
    /// inside.
    pub(crate) fn validate_ahead(&self, reads: &Reads, at: Seq) -> Result<Seq> {
        // A forked child takes no lock: `enter` tells it why.
        if reads.is_empty() || !self.io.is_here() {
            return Ok(at);
        }
        let mut sealed = Sealed::default();
        let up_to = {
            let order = self.order();
            if order.window.backlog(at) <= BACKLOG_INSIDE_MAX {
                return Ok(at);
            }
            order.window.sealed(at, &mut sealed)
        };
        match (up_to, sealed.conflicts(at, reads)) {
            (Some(up_to), Verdict::Clear) => Ok(up_to),
            (None, _) | (_, Verdict::Conflict | Verdict::Overrun) => Err(conflict()),
        }
    }

    /// A task that waited for room gives up. (I11)
    pub(crate) fn withdraw(&self, ticket: &Arc<Ticket>) {
        let mut order = self.order();
        order.queue.remove(ticket);
        self.waiting.store(order.queue.len() as u64, Ordering::SeqCst);
        let front = order.queue.front().cloned();
        drop(order);
        front.iter().for_each(|ticket| ticket.wake());
    }

    /// The commit lock, unless nothing is accepted any more.
    pub(crate) fn enter(&self) -> Result<MutexGuard<'_, Order>> {
        // Before the lock: a thread of the parent's may have held it when it forked.
        if !self.io.is_here() {
            return Err(forked());
        }
        let order = self.order();
        if let Some(cause) = self.failure() {
            return Err(cause);
        }
        match order.refusal() {
            Some(refusal) => Err(refusal),
            None => Ok(order),
        }
    }

    pub(super) fn admit(
        &self,
        order: &mut Order,
        claim: &Claim,
        ticket: &mut Option<Arc<Ticket>>,
        brought: &mut Option<Buf>,
        waker: Option<&Waker>,
    ) -> Result<Admission<()>> {
        let payload_bytes = claim.payload_bytes;
        let is_first = order.queue.is_first(ticket.as_ref());
        if is_first && let Some(bytes) = self.prepare_buffer(order, payload_bytes, brought) {
            return Ok(Admission::NeedsBuffer(bytes));
        }
        let fits = match ticket {
            _ if is_first => self.has_room(order, claim),
            // There is room for all who came before as well.
            None => self.has_room(order, &order.queue.with(claim)),
            Some(_) => false,
        };
        if fits {
            return Ok(Admission::Ordered(()));
        }
        order.want(claim);
        order.log.want(group::buffer_bytes_for(payload_bytes) as u64);
        if !order.lacks_only_group(claim) {
            self.keeper.raise();
            self.checkpointer.raise();
        }
        if let Gate::Stalled(cause) = &order.gate {
            let cause = cause.clone();
            order.gate = Gate::Open;
            // Space may have come back since: who comes now waits for another attempt.
            if ticket.is_some() {
                return Err(cause);
            }
        }
        let Some(waker) = waker else { return Ok(Admission::Wait) };
        order.queue.wait_for(ticket, *claim).wait_with(waker);
        self.waiting.store(order.queue.len() as u64, Ordering::SeqCst);
        // Places are swept outside the lock: look again now that the sweep can see us waiting.
        if is_first && self.has_room(order, claim) {
            return Ok(Admission::Ordered(()));
        }
        Ok(Admission::Wait)
    }

    fn has_room(&self, order: &Order, claim: &Claim) -> bool {
        order.has_room(claim) && self.places.has_room(order.last, claim.commits)
    }

    /// A commit that no ordinary buffer holds needs one of its own, on an empty group.
    fn prepare_buffer(
        &self,
        order: &mut Order,
        payload_bytes: usize,
        brought: &mut Option<Buf>,
    ) -> Option<usize> {
        let needed = group::buffer_bytes_for(payload_bytes);
        if needed <= order.group.capacity_bytes() || needed <= order.group_bytes {
            return None;
        }
        match brought.take() {
            None => Some(needed),
            Some(buf) if order.group.is_empty() => {
                order.group.enlarge(buf);
                None
            }
            Some(buf) => {
                *brought = Some(buf);
                None
            }
        }
    }

    pub(super) fn take_seq(&self, order: &mut Order, claim: &Claim) -> Seq {
        order.last = Seq(order.last.0 + 1);
        if order.charge(claim) {
            self.keeper.raise();
        }
        let is_due = order.memory.is_half_active() || order.memory.is_worth_another_look();
        if is_due && order.memory.frozen == 0 {
            self.checkpointer.raise();
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
        order.last
    }

    /// Gives up the place in the queue and the lock; wakes whom that concerns.
    pub(super) fn leave(
        &self,
        mut order: MutexGuard<'_, Order>,
        ticket: &mut Option<Arc<Ticket>>,
        owner: Owner,
    ) {
        if let Some(mine) = ticket.take() {
            order.queue.remove(&mine);
            self.waiting.store(order.queue.len() as u64, Ordering::SeqCst);
        }
        let front = order.queue.front().cloned();
        let kick = owner == Owner::HasMore && order.owner_is_needed();
        drop(order);
        if kick {
            blocking::kick(&self.io);
        }
        front.iter().for_each(|ticket| ticket.wake());
    }

    fn apply(&self, seq: Seq, submission: &Submission<'_>, shown: Shown) {
        let unfinished = PoisonUnlessDone(self);
        let lookup = |id: FamilyId| submission.families.iter().find(|family| family.id == id);
        let payload = &submission.payload[..];
        let ops = Ops::new(payload).map(|op| op.expect("a batch encodes only what it can decode"));
        let (mut ops, mut ascending) = (ops.peekable(), 0);
        while let Some(found) = ops.next() {
            let family = lookup(found.op.family()).expect("a batch lists the families it touches");
            apply_op(seq, family, &found, payload);
            let ascends = ops.peek().is_some_and(|next| next.follows(&found, payload));
            ascending = if ascends { ascending + 1 } else { 0 };
            if ascending == SORTED_ROWS_MIN {
                apply_sorted(seq, family, found, &mut ops, payload);
                ascending = 0;
            }
        }
        std::mem::forget(unfinished);
        self.places.mark_applied(seq, shown);
        self.wake_front_if_waiting();
    }
}

fn conflict() -> Error {
    Error::new(ErrorKind::Conflict, "the transaction met a concurrent commit")
}

/// A panic between order and apply would leave a hole that nobody may skip.
struct PoisonUnlessDone<'a>(&'a Pipeline);

impl Drop for PoisonUnlessDone<'_> {
    fn drop(&mut self) {
        self.0.poison(Error::new(ErrorKind::Poisoned, "applying a commit panicked"));
    }
}

/// Inserts one operation into its memtable; commits and recovery share it.
pub(crate) fn apply_op(seq: Seq, family: &Family, found: &Found<'_>, payload: &[u8]) {
    if let Some(kind) = row_kind(&found.op) {
        let row = &payload[found.row.clone()];
        return family.with_memtable_of(seq, |table| table.insert(seq, kind, row, found.key_bytes));
    }
    match &found.op {
        Op::DeleteRange { low, high, .. } => delete_range(seq, family, low, high),
        Op::ClearFamily { .. } => delete_range(seq, family, &[], &[]),
        _ => unreachable!("changes of the catalog are not applied to memtables"),
    }
}

/// Inserts the operations that follow one in key order into its memtable, as far as they do.
fn apply_sorted<'a>(
    seq: Seq,
    family: &Family,
    mut before: Found<'a>,
    ops: &mut Peekable<impl Iterator<Item = Found<'a>>>,
    payload: &'a [u8],
) {
    let rows = std::iter::from_fn(|| {
        before = ops.next_if(|next| next.follows(&before, payload))?;
        let kind = row_kind(&before.op).expect("only a row follows one");
        let bytes = &payload[before.row.clone()];
        Some(NewRow { seq, kind, bytes, key_len: before.key_bytes })
    });
    family.with_memtable_of(seq, |table| table.insert_sorted(rows));
}

/// What an operation on one row leaves in the memtable.
pub(crate) fn row_kind(op: &Op<'_>) -> Option<Kind> {
    match op {
        Op::Put { .. } => Some(Kind::Put),
        Op::PutExtent { .. } => Some(Kind::Extent),
        Op::Delete { .. } => Some(Kind::Delete),
        Op::DeleteRange { .. }
        | Op::ClearFamily { .. }
        | Op::CreateFamily { .. }
        | Op::DropFamily { .. }
        | Op::RenameFamily { .. } => None,
    }
}

fn delete_range(seq: Seq, family: &Family, low: &[u8], high: &[u8]) {
    family.with_memtable_of(seq, |table| table.delete_range(seq, low, high));
}

/// Whether the memtable of new commits has as many range deletes as it should.
fn has_full_ranges(family: &Arc<Family>) -> bool {
    family.next_range_deletes() >= RANGE_DELETES_MAX
}
