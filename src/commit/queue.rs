//! Commits that wait for room, first come, first served.
//!
//! Whoever comes later passes them if there is room for all of them and for it besides, in one group of the log too: it takes no room
//! from them, but perhaps a block of padding. Those in the queue are on their way then, and each needs its processor for a moment.
//! Were later commits to line up behind them, writers that come back before the queue is empty would keep it from ever becoming empty,
//! and every commit would cost a switch of threads.
//!
//! What a ticket claims is what it claimed when its task looked last. A freeze since may have made that a little more: then its task
//! lacks room, says so, and waits for another round.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use ringdb_uring::threads::Mutex;

use crate::alloc::reserve::Need;
use crate::commit::claim::Claim;

/// A task that waits for room.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    waker: Mutex<Option<Waker>>,
}

impl Ticket {
    pub(super) fn wait_with(&self, waker: &Waker) {
        *self.waker.lock() = Some(waker.clone());
    }

    /// The task looks for room again.
    pub(crate) fn wake(&self) {
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Tickets and what each claims, first come first, and the sums of that.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<(Arc<Ticket>, Claim)>,
    pieces: usize,
    payload_bytes: usize,
    charge_bytes: usize,
    nodes: u64,
    growing: usize,
    waiting_for_ranges: usize,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn front(&self) -> Option<&Arc<Ticket>> {
        self.waiting.front().map(|(ticket, _)| ticket)
    }

    /// Everybody, from the front on.
    pub(crate) fn tickets(&self) -> impl Iterator<Item = &Arc<Ticket>> {
        self.waiting.iter().map(|(ticket, _)| ticket)
    }

    /// Whether nobody came before; without a ticket, whether nobody is here at all.
    pub(super) fn is_first(&self, ticket: Option<&Arc<Ticket>>) -> bool {
        match (self.front(), ticket) {
            (None, _) => true,
            (Some(front), Some(ticket)) => Arc::ptr_eq(front, ticket),
            (Some(_), None) => false,
        }
    }

    /// What all claim who are here, and this one that has no ticket.
    pub(super) fn with(&self, claim: &Claim) -> Claim {
        let grows = claim.need == Need::Growth || self.growing > 0;
        Claim {
            commits: claim.commits + self.waiting.len(),
            pieces: claim.pieces + self.pieces,
            payload_bytes: claim.payload_bytes + self.payload_bytes,
            charge_bytes: claim.charge_bytes + self.charge_bytes,
            need: if grows { Need::Growth } else { Need::Relief },
            nodes: claim.nodes + self.nodes,
            ranges_are_full: claim.ranges_are_full || self.waiting_for_ranges > 0,
        }
    }

    /// The ticket waits for this: at the end, if it is a new one.
    pub(super) fn wait_for<'t>(
        &mut self,
        ticket: &'t mut Option<Arc<Ticket>>,
        claim: Claim,
    ) -> &'t Arc<Ticket> {
        let waiting = ticket.as_ref().and_then(|ticket| self.position(ticket));
        let ticket = ticket.get_or_insert_default();
        self.count(&claim);
        match waiting {
            None => self.waiting.push_back((ticket.clone(), claim)),
            Some(index) => {
                let before = std::mem::replace(&mut self.waiting[index].1, claim);
                self.discount(&before);
            }
        }
        ticket
    }

    /// The ticket waits no more.
    pub(super) fn remove(&mut self, ticket: &Arc<Ticket>) {
        let removed = self.position(ticket).and_then(|index| self.waiting.remove(index));
        if let Some((_, claim)) = removed {
            self.discount(&claim);
        }
    }

    fn position(&self, ticket: &Arc<Ticket>) -> Option<usize> {
        self.tickets().position(|waiting| Arc::ptr_eq(waiting, ticket))
    }

    fn count(&mut self, claim: &Claim) {
        self.pieces += claim.pieces;
        self.payload_bytes += claim.payload_bytes;
        self.charge_bytes += claim.charge_bytes;
        self.nodes += claim.nodes;
        self.growing += usize::from(claim.need == Need::Growth);
        self.waiting_for_ranges += usize::from(claim.ranges_are_full);
    }

    fn discount(&mut self, claim: &Claim) {
        self.pieces -= claim.pieces;
        self.payload_bytes -= claim.payload_bytes;
        self.charge_bytes -= claim.charge_bytes;
        self.nodes -= claim.nodes;
        self.growing -= usize::from(claim.need == Need::Growth);
        self.waiting_for_ranges -= usize::from(claim.ranges_are_full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(payload_bytes: usize, need: Need) -> Claim {
        Claim {
            commits: 1,
            pieces: 1,
            payload_bytes,
            charge_bytes: 2 * payload_bytes,
            need,
            nodes: 3,
            ranges_are_full: false,
        }
    }

    fn sums(queue: &Queue) -> (usize, usize, usize, u64, Need, bool) {
        let all = queue.with(&claim(0, Need::Relief));
        assert_eq!(all.pieces, all.commits);
        (all.commits, all.payload_bytes, all.charge_bytes, all.nodes, all.need, all.ranges_are_full)
    }

    #[test]
    fn what_all_claim_is_known_while_they_come_and_go() {
        let (mut first, mut second) = (None, None);
        let mut queue = Queue::default();
        assert!(queue.is_first(None));
        queue.wait_for(&mut first, claim(100, Need::Growth));
        queue.wait_for(&mut second, Claim { ranges_are_full: true, ..claim(10, Need::Relief) });
        assert!(queue.is_first(first.as_ref()) && !queue.is_first(second.as_ref()));
        assert!(!queue.is_first(None));
        assert_eq!(sums(&queue), (3, 110, 220, 9, Need::Growth, true));
        // It looked again, and wants something else now.
        queue.wait_for(&mut first, claim(70, Need::Growth));
        assert_eq!(sums(&queue), (3, 80, 160, 9, Need::Growth, true));
        assert!(queue.is_first(first.as_ref()), "it keeps its place");
        let (first, second) = (first.expect("it waits"), second.expect("it waits"));
        queue.remove(&first);
        assert_eq!(sums(&queue), (2, 10, 20, 6, Need::Relief, true));
        assert!(queue.is_first(Some(&second)));
        queue.remove(&first);
        queue.remove(&second);
        assert_eq!(sums(&queue), (1, 0, 0, 3, Need::Relief, false));
        assert!(queue.is_empty());
    }
}
