//! A scan: own rows, memtables and trees merged in key order, newest source first.
//!
//! The step is synchronous and answers what memory holds. It reads a window at a time: the part of
//! the span up to which one leaf of every tree tells all. The leaf whose rows end first ends the
//! window, so memtables are walked no further than the trees' rows go, and all rows of the window are merged
//! at once into a buffer. Between windows a scan is a bound and that buffer. What is missing is
//! fetched together with the leaves that come next, so that a long scan keeps the device's queue
//! full.
//!
//! Rejected: a queue of rows for every source. What a source had beyond the others was copied and not
//! asked for, and each row had memory of its own.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::ids::{FamilyId, Seq};
use crate::page::cache::{Held, View};
use crate::read::chunk::{Chunk, Lent, Rows};
use crate::read::lookup::Stored;
use crate::read::merge::{Hiding, Show, Sources, Stopped, merge};
use crate::read::source::{Row, Source, Window};
use crate::read::span::Span;
use crate::snapshot::Pinned;
use crate::state::{FamilyView, Generational, State};
use crate::tree::{self, Direction, Step, Wanted};
use crate::value::Value;
use futures::future::join_all;

/// Rows that the first window takes of a source; later ones take twice what all sources had so far, up to the maximum. Where the first
/// leaf ended early, a short scan so does not read many rows of the next one.
const WINDOW_ROWS_MIN: usize = 12;
const WINDOW_ROWS_MAX: usize = 512;

/// Windows without a row that one step looks at: where much was deleted, others get their turn.
const EMPTY_WINDOWS_MAX: usize = 64;

/// Leaves that are fetched together at most.
const READ_AHEAD_LEAVES_MAX: usize = 32;

/// Age of a transaction's own rows, the newest of all.
const OWN_AGE: usize = 0;
/// Age of the first memtable; the other memtables follow, then the trees.
const MEMTABLES_AGE: usize = 1;

/// A scan of one family at one seq.
pub(crate) struct Scan {
    family: FamilyId,
    at: Seq,
    /// What is yet to be read; `None` when all was.
    span: Option<Span>,
    chunk: Chunk,
    /// A transaction's own rows in the order of the scan, and how many lie in front of the span.
    own: Vec<Row>,
    own_taken: usize,
    range_deletes: Vec<Hiding>,
    /// Of all sources, in windows before.
    rows_read: usize,
    read_ahead_leaves: usize,
    held: Held,
}

/// What a step came to.
pub(crate) enum Next {
    /// The next row is [ready](Scan::ready).
    Ready,
    /// The next row, whose value does not lie with it.
    Row(Value, Stored),
    End,
    Missing(Want),
    /// It looked at much and found nothing: others get their turn.
    Turn,
    /// The snapshot expired; its pages may be of another life by now.
    Expired(Error),
}

/// A page that a tree's scan waits for.
pub(crate) struct Want {
    wanted: Wanted,
    tree: usize,
}

/// What showing rows came to.
pub(crate) enum Shown<T> {
    /// Whoever looked broke.
    Broke(T),
    End,
    /// Something has to be read, or others get their turn, before it goes on.
    Left,
}

/// What a window came to.
struct Read<M> {
    /// What was made of its rows.
    made: M,
    /// Where it ended, if not with the span.
    far: Option<Bound<Value>>,
    own_taken: usize,
    /// Of all sources, deleted ones included.
    rows: usize,
}

type Windowed<M> = std::result::Result<Read<M>, Want>;

impl Scan {
    pub(crate) fn new(view: &FamilyView, at: Seq, span: Span, mut own: Vec<Row>) -> Scan {
        if span.direction == Direction::Backward {
            own.reverse();
        }
        let deletes = |(index, memtable): (usize, &Arc<Generational>)| {
            let ranges = memtable.table.range_deletes(at).into_iter();
            ranges.map(move |range| (MEMTABLES_AGE + index, range))
        };
        let have_deletes = |memtable: &Arc<Generational>| memtable.table.range_delete_count() > 0;
        let range_deletes = match view.memtables.iter().any(have_deletes) {
            true => view.memtables.iter().enumerate().flat_map(deletes).collect(),
            false => Vec::new(),
        };
        Scan {
            family: view.family.id,
            at,
            span: Some(span),
            chunk: Chunk::default(),
            own,
            own_taken: 0,
            range_deletes,
            rows_read: 0,
            read_ahead_leaves: 1,
            held: Held::default(),
        }
    }

    /// The next row, if it was read already and its value with it.
    #[inline]
    pub(crate) fn ready(&mut self) -> Option<(Value, Value)> {
        self.chunk.pop_whole()
    }

    /// The same, and lends it.
    #[inline]
    pub(crate) fn lend_ready(&mut self) -> Option<Lent<'_>> {
        self.chunk.lend_whole()
    }

    /// The next row, as far as memory goes.
    pub(crate) fn step(&mut self, engine: &Engine, pinned: &Pinned) -> Next {
        self.next_read().unwrap_or_else(|| self.next_window(engine, pinned))
    }

    /// The next row of those that were read.
    fn next_read(&mut self) -> Option<Next> {
        if self.chunk.is_next_whole() {
            return Some(Next::Ready);
        }
        self.chunk.pop().map(|(key, stored)| Next::Row(key, stored))
    }

    /// Reads windows until one has a row.
    fn next_window(&mut self, engine: &Engine, pinned: &Pinned) -> Next {
        for _ in 0..EMPTY_WINDOWS_MAX {
            let Some(span) = &self.span else { return Next::End };
            // Kept while frames are read: they are found by page alone.
            let state = match pinned.held_still() {
                Ok(state) => state,
                Err(expired) => return Next::Expired(expired),
            };
            let Some(view) = state.view(self.family) else { return Next::End };
            let read = match self.read_window(engine, view, span, |sources| {
                let bytes = sources.iter().map(Source::chunk_bytes).sum();
                let mut rows = Rows::with_capacity(bytes);
                merge(sources, span.direction, &self.range_deletes, &mut rows);
                (Chunk::from(rows), None)
            }) {
                Ok(read) => read,
                Err(want) => return Next::Missing(want),
            };
            drop(state);
            self.chunk = self.go_on_behind(read);
            if let Some(next) = self.next_read() {
                return next;
            }
        }
        Next::Turn
    }

    /// Shows rows as they lie in memory, window by window, as long as there are any and `rows` is not exhausted.
    pub(crate) fn show<T>(
        &mut self,
        engine: &Engine,
        state: &State,
        rows: &mut usize,
        look: &mut impl FnMut(&[u8], &[u8]) -> ControlFlow<T>,
    ) -> Shown<T> {
        if self.chunk.has_next() {
            return Shown::Left;
        }
        for _ in 0..EMPTY_WINDOWS_MAX {
            let Some(span) = &self.span else { return Shown::End };
            let Some(view) = state.view(self.family) else { return Shown::End };
            let read = self.read_window(engine, view, span, |sources| {
                let mut show = Show::to(look);
                merge(sources, span.direction, &self.range_deletes, &mut show);
                *rows = rows.saturating_sub(show.shown);
                match show.stopped {
                    None => (ControlFlow::Continue(*rows > 0), None),
                    Some(Stopped::Broke(value)) => (ControlFlow::Break(value), None),
                    Some(Stopped::Before(key)) => {
                        (ControlFlow::Continue(false), Some(Bound::Excluded(key)))
                    }
                }
            });
            let Ok(read) = read else { return Shown::Left };
            match self.go_on_behind(read) {
                ControlFlow::Continue(true) => {}
                ControlFlow::Continue(false) => return Shown::Left,
                ControlFlow::Break(value) => return Shown::Broke(value),
            }
        }
        Shown::Left
    }

    fn go_on_behind<M>(&mut self, read: Read<M>) -> M {
        self.own_taken += read.own_taken;
        match (&mut self.span, read.far) {
            (Some(span), Some(far)) => span.go_on_behind(far),
            (span, _) => *span = None,
        }
        self.rows_read += read.rows;
        self.held.clear();
        read.made
    }

    /// Reads the next window. `make` is given its sources, from old to new, and says what it made of them, and where it stopped if
    /// anything is left of them.
    #[inline]
    fn read_window<M>(
        &self,
        engine: &Engine,
        view: &FamilyView,
        span: &Span,
        make: impl FnOnce(&mut Sources<'_>) -> (M, Option<Bound<Value>>),
    ) -> Windowed<M> {
        let guard = ringdb_frames::pin();
        let pages = engine.pages.view(&guard, &self.held);
        let max = (self.rows_read * 2).clamp(WINDOW_ROWS_MIN, WINDOW_ROWS_MAX);
        let memtables = view.memtables.iter().enumerate();
        let trees_age = MEMTABLES_AGE + view.memtables.len();
        let mut window = Window::new(span);
        let mut sources = Sources::new();
        for (index, tree) in view.trees.iter().enumerate().rev() {
            match tree::seek_leaf(&pages, &tree.root, span.near(), span.direction) {
                Step::Missing(wanted) => return Err(Want { wanted, tree: index }),
                Step::Ready(at) => {
                    let age = trees_age + index;
                    sources.push(Source::of_leaf(&pages, at, max, age, &mut window));
                }
            }
        }
        for (index, memtable) in memtables.rev() {
            let age = MEMTABLES_AGE + index;
            let table = &memtable.table;
            sources.push(Source::of_memtable(table, self.at, max, age, &mut window));
        }
        let mut own = Source::of_own(&self.own[self.own_taken..], OWN_AGE);
        window.cut(&mut own);
        let own_rows = own.len();
        sources.iter_mut().for_each(|source| window.cut(source));
        sources.push(own);
        let rows = sources.iter().map(Source::len).sum();
        let (made, stopped) = make(&mut sources);
        let own_left: usize = sources.iter().map(Source::own_len).sum();
        let (far, own_taken) = (stopped.or(window.into_far()), own_rows - own_left);
        Ok(Read { made, far, own_taken, rows })
    }

    /// Fetches what is missing, and with it the leaves that come next.
    pub(crate) async fn fetch(
        &mut self,
        engine: &Engine,
        pinned: &Pinned,
        want: Want,
    ) -> Result<()> {
        let family = self.family;
        let ahead = self.upcoming(engine, pinned, &want)?;
        let first = engine.pages.load(want.wanted, family);
        let rest = join_all(ahead.into_iter().map(|wanted| engine.pages.load(wanted, family)));
        self.read_ahead_leaves = (self.read_ahead_leaves * 2).min(READ_AHEAD_LEAVES_MAX);
        // A leaf read ahead that fails is met again, and reported, when it is needed.
        let (bytes, _) = futures::join!(first, rest);
        self.held.add(want.wanted.node, bytes?);
        Ok(())
    }

    fn upcoming(&self, engine: &Engine, pinned: &Pinned, want: &Want) -> Result<Vec<Wanted>> {
        let state = pinned.held_still()?;
        let (Some(span), Some(view)) = (&self.span, state.view(self.family)) else {
            return Ok(Vec::new());
        };
        if self.read_ahead_leaves == 1 || want.wanted.level > 0 {
            return Ok(Vec::new());
        }
        let guard = ringdb_frames::pin();
        let pages: View<'_> = engine.pages.view(&guard, &self.held);
        let (root, max) = (&view.trees[want.tree].root, self.read_ahead_leaves);
        let upcoming = tree::upcoming_leaves(&pages, root, span.near(), span.direction, max);
        let level = upcoming.level;
        let others = upcoming.nodes.into_iter().filter(|node| *node != want.wanted.node);
        let missing = others.filter(|node| !engine.pages.has(*node));
        Ok(missing.map(|node| Wanted { node, level }).collect())
    }
}
