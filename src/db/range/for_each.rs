//! Running through a range, with rows shown where they lie.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Found, Origin, ROWS_PER_TURN, Range, Running, State};
use crate::error::Result;
use crate::read::scan::{Scan, Shown};
use crate::read::source::Row;
use crate::read::span::Span;
use crate::state::Family;

impl Range {
    /// Shows row after row to a closure, key and value, until it breaks. Resolves to what it broke with, or to `None` at the end.
    ///
    /// Rows that memory has are shown with nothing copied but keys, and rows of memtables: this is the quickest way to a few rows, and
    /// through many. The closure may read and submit writes, but should not wait: until it returns, memory and pages that others replaced
    /// are not used again.
    ///
    /// Other tasks get a turn after some 4,096 rows. If the closure panics, the scan is over.
    ///
    /// # Errors
    ///
    /// As the stream's items. Rows that were shown before are the first of the range.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the scan; each row is shown once at most.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::ops::ControlFlow;
    ///
    /// # ringdb::block_on(async {
    /// let db = ringdb::Db::in_memory().await?;
    /// let users = db.column_family("users").await?;
    /// users.put("ada", "1815").await?;
    /// users.put("alan", "1912").await?;
    /// users.put("grace", "1906").await?;
    /// let mut first_two = Vec::new();
    /// let rows = users.range("a"..);
    /// rows.for_each_with(|key, _| {
    ///     first_two.push(key.to_vec());
    ///     if first_two.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    /// })
    /// .await?;
    /// assert_eq!(first_two, [b"ada".to_vec(), b"alan".to_vec()]);
    /// # Ok::<(), ringdb::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn for_each_with<T, F>(self, look: F) -> ForEachWith<F>
    where
        F: FnMut(&[u8], &[u8]) -> ControlFlow<T>,
    {
        ForEachWith { range: self, look }
    }

    /// Shows what was read, and then rows as they lie in memory, as long as there are any and it is not the turn of others.
    fn show<T>(&mut self, look: &mut impl FnMut(&[u8], &[u8]) -> ControlFlow<T>) -> Shown<T> {
        while let Some(row) = self.lend_ready() {
            if let ControlFlow::Break(value) = row.show(&mut *look) {
                return Shown::Broke(value);
            }
        }
        let mut rows = ROWS_PER_TURN.saturating_sub(self.turn + 1) as usize;
        if rows == 0 || self.engine.here().is_err() {
            return Shown::Left;
        }
        let rows_max = rows;
        let shown = match std::mem::replace(&mut self.state, State::Ended) {
            State::New { origin: Origin::Latest(family), span, own }
                if self.engine.readable(&family).is_ok() =>
            {
                self.show_at_once(&family, span, own, &mut rows, look)
            }
            State::Scanning(mut running) => {
                let shown = match running.pinned.held_still() {
                    Ok(state) => running.scan.show(&self.engine, &state, &mut rows, look),
                    Err(_) => Shown::Left,
                };
                self.state = State::Scanning(running);
                shown
            }
            state => {
                self.state = state;
                Shown::Left
            }
        };
        self.turn += (rows_max - rows) as u32;
        shown
    }

    /// The same for a scan that begins. The state that is held here keeps its pages, so it need not be known as a snapshot unless
    /// something has to be waited for.
    fn show_at_once<T>(
        &mut self,
        family: &Family,
        span: Span,
        own: Vec<Row>,
        rows: &mut usize,
        look: &mut impl FnMut(&[u8], &[u8]) -> ControlFlow<T>,
    ) -> Shown<T> {
        let (seq, state) = self.engine.read_view();
        let Some(view) = state.view(family.id) else { return Shown::End };
        let mut scan = Scan::new(view, seq, span, own);
        let shown = scan.show(&self.engine, &state, rows, look);
        if let Shown::Left = shown {
            let pinned = self.engine.snapshots.pin(seq, arc_swap::Guard::into_inner(state));
            self.state = State::Scanning(Box::new(Running { scan, pinned }));
        }
        shown
    }
}

/// The future of [`Range::for_each_with`].
#[must_use = "futures do nothing until polled"]
#[derive(Debug)]
pub struct ForEachWith<F> {
    range: Range,
    look: F,
}

// Nothing of it is pinned.
impl<F> Unpin for ForEachWith<F> {}

impl<T, F: FnMut(&[u8], &[u8]) -> ControlFlow<T>> Future for ForEachWith<F> {
    type Output = Result<Option<T>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Option<T>>> {
        let ForEachWith { range, look } = &mut *self;
        loop {
            match range.show(look) {
                Shown::Broke(value) => return Poll::Ready(Ok(Some(value))),
                Shown::End => return Poll::Ready(Ok(None)),
                Shown::Left => {}
            }
            // What memory does not have, values of their own, errors, and the turns of others.
            let found = match range.poll_read(context) {
                Poll::Ready(Ok(Some(found))) => found,
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            };
            if let Found::Apart((key, value)) = found
                && let ControlFlow::Break(value) = look(&key, &value)
            {
                return Poll::Ready(Ok(Some(value)));
            }
        }
    }
}
