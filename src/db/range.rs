//! Scans as streams.

mod for_each;

use std::fmt;
use std::future::Future;
use std::ops::{Bound, RangeBounds};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

pub use for_each::ForEachWith;

use crate::blocking;
use crate::commit::signal::yield_now;
use crate::engine::Engine;
use crate::error::Result;
use crate::read::chunk::Lent;
use crate::read::lookup;
use crate::read::scan::{Next as Step, Scan};
use crate::read::source::Row;
use crate::read::span::Span;
use crate::snapshot::Pinned;
use crate::state::Family;
use crate::tree::Direction;
use crate::value::Value;

/// Rows that a stream gives before it lets the runtime have a turn.
const ROWS_PER_TURN: u32 = 4096;

/// The rows of a range in key order: a stream that owns its snapshot.
///
/// Nothing is read before the first poll. A stream that is held for long counts as a snapshot and
/// may expire; a future of `try_next` that waits for the file, and is kept and not polled, keeps pages from being used again until
/// it is.
///
/// # Errors
///
/// Each item may fail with `Io` or `Corrupt`, naming nothing of the content; with `NotFound` if
/// the family was dropped; with `SnapshotExpired`; with `Closed`; with `InvalidArgument` if the range is reversed, or the family one of
/// another database than the snapshot's or the transaction's.
///
/// # Cancel safety
///
/// Dropping it, or the future of `try_next`, loses no row: the next call goes on behind the last
/// row that was given.
#[must_use = "streams do nothing until polled"]
pub struct Range {
    engine: Arc<Engine>,
    state: State,
    turn: u32,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A row with its value.
type Entry = (Value, Value);

enum State {
    /// Not polled yet.
    New {
        origin: Origin,
        span: Span,
        own: Vec<Row>,
    },
    Scanning(Box<Running>),
    Waiting(Boxed<(Box<Running>, Result<Option<Found>>)>),
    Failed(crate::error::Error),
    Ended,
}

/// The next row of a scan.
enum Found {
    /// It lies in what was read, with its value.
    Here,
    Apart(Entry),
}

struct Running {
    scan: Scan,
    pinned: Arc<Pinned>,
}

/// What the scan sees.
pub(crate) enum Origin {
    /// What is visible at the first poll.
    Latest(Arc<Family>),
    Pinned(Arc<Family>, Arc<Pinned>),
    /// A mistake of the caller, told at the first poll.
    Refused(crate::error::Error),
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Range").finish_non_exhaustive()
    }
}

impl Range {
    pub(crate) fn new(engine: Arc<Engine>, origin: Origin, span: Span) -> Range {
        Range { engine, state: State::New { origin, span, own: Vec::new() }, turn: 0 }
    }

    /// Rows of a transaction's own that outdo what is there; ascending by key.
    pub(crate) fn with_own_rows(mut self, rows: Vec<Row>) -> Range {
        if let State::New { own, .. } = &mut self.state {
            *own = rows;
        }
        self
    }

    /// The same rows in descending order. Only before the first row is taken.
    ///
    /// # Panics
    ///
    /// If rows were taken already.
    pub fn rev(mut self) -> Range {
        let State::New { span, .. } = &mut self.state else {
            panic!("a range is reversed before its first row is taken")
        };
        span.direction = match span.direction {
            Direction::Forward => Direction::Backward,
            Direction::Backward => Direction::Forward,
        };
        self
    }

    /// The next row, or `None` at the end.
    ///
    /// # Errors
    ///
    /// As the stream's items.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no row.
    pub fn try_next(&mut self) -> TryNext<'_> {
        TryNext { range: self }
    }

    /// Lends the next row to a closure, key and value, and resolves to what that returns, or to `None` at the end. Nearly every row is
    /// lent out of what the scan has read, with no copy of its own and no reference counted.
    ///
    /// If the closure panics, the row is taken all the same.
    ///
    /// # Errors
    ///
    /// As the stream's items.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no row.
    ///
    /// # Examples
    ///
    /// ```
    /// # ringdb::block_on(async {
    /// let db = ringdb::Db::in_memory().await?;
    /// let users = db.column_family("users").await?;
    /// users.put("ada", "1815").await?;
    /// users.put("alan", "1912").await?;
    /// let (mut rows, mut bytes) = (users.iter(), 0);
    /// while let Some(len) = rows.try_next_with(|key, value| key.len() + value.len()).await? {
    ///     bytes += len;
    /// }
    /// assert_eq!(bytes, 15);
    /// # Ok::<(), ringdb::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn try_next_with<T, F>(&mut self, look: F) -> TryNextWith<'_, F>
    where
        F: FnOnce(&[u8], &[u8]) -> T,
    {
        TryNextWith { range: self, look: Some(look) }
    }

    fn start(&self, origin: Origin, span: Span, own: Vec<Row>) -> Result<Option<Box<Running>>> {
        self.engine.here()?;
        let (family, pinned) = match origin {
            Origin::Refused(error) => return Err(error),
            Origin::Pinned(family, pinned) => {
                self.engine.existed(&family, pinned.seq)?;
                (family, pinned)
            }
            Origin::Latest(family) => {
                self.engine.readable(&family)?;
                let (seq, state) = self.engine.read_view();
                let pinned = self.engine.snapshots.pin(seq, arc_swap::Guard::into_inner(state));
                (family, pinned)
            }
        };
        let state = pinned.held_still()?;
        let Some(view) = state.view(family.id) else { return Ok(None) };
        let scan = Scan::new(view, pinned.seq, span, own);
        drop(state);
        Ok(Some(Box::new(Running { scan, pinned })))
    }

    /// The next row, if it was read already: nearly every row is this one's.
    #[inline]
    fn ready(&mut self) -> Option<Entry> {
        match &mut self.state {
            State::Scanning(running) if self.turn + 1 < ROWS_PER_TURN => {
                let row = running.scan.ready()?;
                self.turn += 1;
                Some(row)
            }
            _ => None,
        }
    }

    /// The same, and lends it.
    #[inline]
    fn lend_ready(&mut self) -> Option<Lent<'_>> {
        match &mut self.state {
            State::Scanning(running) if self.turn + 1 < ROWS_PER_TURN => {
                let row = running.scan.lend_ready()?;
                self.turn += 1;
                Some(row)
            }
            _ => None,
        }
    }

    /// The next row of a scan under way if memory has it; `None` if the file is needed first.
    fn remembered(&mut self, context: &mut Context<'_>) -> Option<Poll<Result<Option<Found>>>> {
        if self.takes_turn(context) {
            return Some(Poll::Pending);
        }
        if let Err(forked) = self.engine.here() {
            self.state = State::Ended;
            return Some(Poll::Ready(Err(forked)));
        }
        let State::Scanning(running) = &mut self.state else { return None };
        match running.scan.step(&self.engine, &running.pinned) {
            Step::Ready => Some(Poll::Ready(Ok(Some(Found::Here)))),
            Step::Row(key, lookup::Stored::Inline(value)) => {
                Some(Poll::Ready(Ok(Some(Found::Apart((key, value))))))
            }
            Step::End => {
                self.state = State::Ended;
                Some(Poll::Ready(Ok(None)))
            }
            Step::Turn => {
                self.turn = 0;
                context.waker().wake_by_ref();
                Some(Poll::Pending)
            }
            step => {
                let State::Scanning(running) = std::mem::replace(&mut self.state, State::Ended)
                else {
                    unreachable!("it was scanning just now")
                };
                let advanced = advance(self.engine.clone(), running, step);
                self.state = State::Waiting(Box::pin(advanced));
                None
            }
        }
    }

    /// Gives the runtime its turn after a bounded number of rows.
    fn takes_turn(&mut self, context: &mut Context<'_>) -> bool {
        self.turn += 1;
        if self.turn < ROWS_PER_TURN {
            return false;
        }
        self.turn = 0;
        context.waker().wake_by_ref();
        true
    }
}

async fn advance(
    engine: Arc<Engine>,
    mut running: Box<Running>,
    mut step: Step,
) -> (Box<Running>, Result<Option<Found>>) {
    loop {
        // Kept while the file is read: an expired snapshot's pages may be of another life.
        let state = match running.pinned.state() {
            Ok(state) => state,
            Err(expired) => return (running, Err(expired)),
        };
        match step {
            Step::Ready => return (running, Ok(Some(Found::Here))),
            Step::Row(key, stored) => {
                let value = lookup::value(&engine, stored).await;
                return (running, value.map(|value| Some(Found::Apart((key, value)))));
            }
            Step::Missing(want) => {
                if let Err(error) = running.scan.fetch(&engine, &running.pinned, want).await {
                    return (running, Err(error));
                }
            }
            Step::Turn => yield_now().await,
            Step::End => return (running, Ok(None)),
            Step::Expired(error) => return (running, Err(error)),
        }
        drop(state);
        step = running.scan.step(&engine, &running.pinned);
    }
}

impl Stream for Range {
    type Item = Result<Entry>;

    #[inline]
    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Entry>>> {
        match self.ready() {
            Some(row) => Poll::Ready(Some(Ok(row))),
            None => self.poll_entry(context).map(Result::transpose),
        }
    }
}

impl Range {
    /// Reads on until there is a row, and takes it.
    fn poll_entry(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Entry>>> {
        self.poll_read(context).map_ok(|found| match found? {
            Found::Here => self.scanning().ready(),
            Found::Apart(entry) => Some(entry),
        })
    }

    /// The scan that has just found a row here.
    fn scanning(&mut self) -> &mut Scan {
        match &mut self.state {
            State::Scanning(running) => &mut running.scan,
            _ => unreachable!("what was read is a scan's that goes on"),
        }
    }

    /// Reads on until there is a row.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Found>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::New { origin, span, own } => match self.start(origin, span, own) {
                    Ok(Some(running)) => self.state = State::Scanning(running),
                    Ok(None) => return Poll::Ready(Ok(None)),
                    Err(error) => return Poll::Ready(Err(error)),
                },
                State::Scanning(running) => {
                    self.state = State::Scanning(running);
                    if let Some(next) = self.remembered(context) {
                        return next;
                    }
                }
                State::Waiting(mut waiting) => match waiting.as_mut().poll(context) {
                    Poll::Pending => {
                        blocking::note(&self.engine.io);
                        self.state = State::Waiting(waiting);
                        return Poll::Pending;
                    }
                    Poll::Ready((running, Ok(Some(found)))) => {
                        self.state = State::Scanning(running);
                        return Poll::Ready(Ok(Some(found)));
                    }
                    Poll::Ready((_, Ok(None))) => return Poll::Ready(Ok(None)),
                    Poll::Ready((_, Err(error))) => {
                        self.state = State::Failed(error.clone());
                        return Poll::Ready(Err(error));
                    }
                },
                State::Failed(error) => {
                    self.state = State::Failed(error);
                    return Poll::Ready(Ok(None));
                }
                State::Ended => return Poll::Ready(Ok(None)),
            }
        }
    }
}

/// The future of [`Range::try_next`].
#[must_use = "futures do nothing until polled"]
pub struct TryNext<'a> {
    range: &'a mut Range,
}

impl Future for TryNext<'_> {
    type Output = Result<Option<Entry>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Option<Entry>>> {
        match self.range.ready() {
            Some(row) => Poll::Ready(Ok(Some(row))),
            None => self.range.poll_entry(context),
        }
    }
}

/// The future of [`Range::try_next_with`].
#[must_use = "futures do nothing until polled"]
pub struct TryNextWith<'a, F> {
    range: &'a mut Range,
    look: Option<F>,
}

// Nothing of it is pinned.
impl<F> Unpin for TryNextWith<'_, F> {}

impl<T, F: FnOnce(&[u8], &[u8]) -> T> Future for TryNextWith<'_, F> {
    type Output = Result<Option<T>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Option<T>>> {
        let this = &mut *self;
        let mut look = |key: &[u8], value: &[u8]| {
            this.look.take().expect("it is not polled after it was ready")(key, value)
        };
        if let Some(row) = this.range.lend_ready() {
            return Poll::Ready(Ok(Some(row.show(look))));
        }
        this.range.poll_read(context).map_ok(|found| match found? {
            Found::Here => this.range.scanning().lend_ready().map(|row| row.show(look)),
            Found::Apart((key, value)) => Some(look(&key, &value)),
        })
    }
}

/// The span of a caller's range of keys.
pub(crate) fn span_of<K: AsRef<[u8]>>(range: &impl RangeBounds<K>) -> Span {
    let owned = |bound: Bound<&K>| bound.map(|key| Value::copied(key.as_ref()));
    Span {
        low: owned(range.start_bound()),
        high: owned(range.end_bound()),
        direction: Direction::Forward,
    }
}

/// The span of all keys that begin with a prefix.
pub(crate) fn span_of_prefix(prefix: &[u8]) -> Span {
    let low = Bound::Included(Value::copied(prefix));
    let last = prefix.iter().rposition(|&byte| byte != 0xFF);
    let high = last.map_or(Bound::Unbounded, |last| {
        let mut next = prefix[..=last].to_vec();
        next[last] += 1;
        Bound::Excluded(Value::new(next.into()))
    });
    Span { low, high, direction: Direction::Forward }
}

/// Whether the span's bounds are in order; a reversed range is the caller's mistake.
pub(crate) fn is_reversed(span: &Span) -> bool {
    match (&span.low, &span.high) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (
            Bound::Included(low) | Bound::Excluded(low),
            Bound::Included(high) | Bound::Excluded(high),
        ) => low > high,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        let high = |prefix: &[u8]| span_of_prefix(prefix).high;
        assert_eq!(high(b"ab"), Bound::Excluded(Value::copied(b"ac")));
        assert_eq!(high(b"a\xFF\xFF"), Bound::Excluded(Value::copied(b"b")));
        assert_eq!(high(b"\xFF"), Bound::Unbounded);
        assert_eq!(high(b""), Bound::Unbounded);
    }
}
