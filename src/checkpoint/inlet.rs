//! Where the rows of an ingest come in, and how they become rows of runs.
//!
//! As long as pieces come in key order each goes on into the tree under way at once: sorted input makes one tree in one pass, and
//! waits for nobody. Once one does not, as many are held as memory is meant for, and merged; a run ends where they begin before it
//! does.

use bytes::Bytes;
use futures::future::poll_fn;
use ringdb_uring::threads::Mutex;
use std::task::Poll;

use crate::checkpoint::merge::Source;
use crate::checkpoint::pieces::{Order, Piece, Sorted, take_some};
use crate::checkpoint::writer::Writer;
use crate::error::Result;
use crate::page::unpublished::Unpublished;
use crate::tree::Changes;

/// Between the caller and the work that takes its rows: room for one piece.
#[derive(Default)]
pub(crate) struct Inlet(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    piece: Option<Piece>,
    ended: bool,
}

impl Inlet {
    /// Takes the piece if there is room for it.
    pub(crate) fn offer(&self, piece: &mut Option<Piece>) {
        let mut waiting = self.0.lock();
        if waiting.piece.is_none() {
            waiting.piece = piece.take();
        }
    }

    /// Whether the next piece would be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.0.lock().piece.is_none()
    }

    /// Nothing comes any more.
    pub(crate) fn end(&self) {
        self.0.lock().ended = true;
    }

    /// The next piece. Whoever offers one polls the work that waits here, so nobody need be woken.
    async fn next(&self) -> Option<Piece> {
        poll_fn(|_| {
            let mut waiting = self.0.lock();
            match (waiting.piece.take(), waiting.ended) {
                (Some(piece), _) => Poll::Ready(Some(piece)),
                (None, true) => Poll::Ready(None),
                (None, false) => Poll::Pending,
            }
        })
        .await
    }
}

/// The rows that come in, as changes of one run after the other.
pub(super) struct Intake<'a> {
    inlet: &'a Inlet,
    /// Bytes of pieces that are held to be merged.
    held_bytes_max: usize,
    /// Those that rows are taken from, in the order in which they came.
    pieces: Vec<Sorted>,
    /// Those that come after them.
    held: Vec<Sorted>,
    held_bytes: usize,
    /// Of the pieces so far.
    order: Order,
    /// The last key of the piece that came last.
    latest: Bytes,
    /// The last key that went into the run.
    last: Bytes,
    ended: bool,
    pub(super) bounds: Option<(Bytes, Bytes)>,
    /// Extents of large values.
    pub(super) values: Unpublished,
}

impl<'a> Intake<'a> {
    pub(super) fn new(inlet: &'a Inlet, held_bytes_max: usize, values: Unpublished) -> Intake<'a> {
        Intake {
            inlet,
            held_bytes_max,
            pieces: Vec::new(),
            held: Vec::new(),
            held_bytes: 0,
            order: Order::Ascending,
            latest: Bytes::new(),
            last: Bytes::new(),
            ended: false,
            bounds: None,
            values,
        }
    }

    /// Whether there is nothing left for another run.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.held.is_empty()
    }

    /// Rows go into another run from now on.
    pub(super) fn begin_run(&mut self) {
        self.last = Bytes::new();
    }

    /// Waits for the pieces to be merged next; false if they do not follow what is in the run.
    async fn refill(&mut self) -> bool {
        self.pieces.clear();
        while !self.ended && !self.is_ripe() {
            match self.inlet.next().await {
                Some(piece) => self.hold(piece),
                None => self.ended = true,
            }
        }
        let first = self.held.iter().filter_map(Sorted::first).min();
        if first.is_none_or(|first| first <= &self.last[..]) {
            return false;
        }
        self.pieces = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        true
    }

    fn is_ripe(&self) -> bool {
        match self.order {
            Order::Ascending => !self.held.is_empty(),
            Order::Any => self.held_bytes >= self.held_bytes_max,
        }
    }

    fn hold(&mut self, piece: Piece) {
        let (sorted, order) = piece.sort();
        let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else { return };
        if order == Order::Any || first <= &self.latest[..] {
            self.order = Order::Any;
        }
        self.latest = Bytes::copy_from_slice(last);
        let (low, high) = self.bounds.get_or_insert_with(|| {
            let first = Bytes::copy_from_slice(first);
            (first.clone(), first)
        });
        if first < &low[..] {
            *low = Bytes::copy_from_slice(first);
        }
        if last > &high[..] {
            *high = self.latest.clone();
        }
        self.held_bytes += sorted.len_bytes();
        self.held.push(sorted);
    }
}

impl Source for Intake<'_> {
    async fn more(&mut self, _: &mut Writer<'_>) -> Result<Changes> {
        let is_empty = self.pieces.iter().all(|piece| piece.first().is_none());
        if is_empty && !self.refill().await {
            return Ok(Changes::default());
        }
        let changes = take_some(&mut self.pieces, &mut self.values);
        if let Some(key) = changes.last_key() {
            self.last = Bytes::copy_from_slice(key);
        }
        Ok(changes)
    }
}
