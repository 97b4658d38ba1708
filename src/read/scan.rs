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

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use futures::future::join_all;
use smallvec::SmallVec;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::ids::{FamilyId, Seq};
use crate::memtable::RangeDelete;
use crate::page::cache::{Held, View};
use crate::read::chunk::{Chunk, KeyAt, Lent, Rows};
use crate::read::lookup::Stored;
use crate::read::source::{Row, Source, Window};
use crate::read::span::{Span, along};
use crate::snapshot::Pinned;
use crate::state::{FamilyView, Generational};
use crate::tree::{self, Direction, Step, Wanted};
use crate::value::Value;

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
    /// Range deletes by the age of the memtable that holds them; they hide all that is older.
    range_deletes: Vec<(usize, RangeDelete)>,
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

/// What a window came to.
struct Read {
    chunk: Chunk,
    /// Where it ended, if not with the span.
    far: Option<Bound<Value>>,
    own_taken: usize,
    /// Of all sources, deleted ones included.
    rows: usize,
}

type Windowed = std::result::Result<Read, Want>;

/// A tree, a memtable and a transaction's own rows, as a rule.
type Sources<'a> = SmallVec<[Source<'a>; 4]>;

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
            let read = match self.read_window(engine, view, span) {
                Ok(read) => read,
                Err(want) => return Next::Missing(want),
            };
            drop(state);
            self.go_on_behind(read);
            if let Some(next) = self.next_read() {
                return next;
            }
        }
        Next::Turn
    }

    fn go_on_behind(&mut self, read: Read) {
        self.chunk = read.chunk;
        self.own_taken += read.own_taken;
        match (&mut self.span, read.far) {
            (Some(span), Some(far)) => span.go_on_behind(far),
            (span, _) => *span = None,
        }
        self.rows_read += read.rows;
        self.held.clear();
    }

    fn read_window(&self, engine: &Engine, view: &FamilyView, span: &Span) -> Windowed {
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
        let own_taken = own.len();
        sources.iter_mut().for_each(|source| window.cut(source));
        sources.push(own);
        let rows = sources.iter().map(Source::len).sum();
        let chunk = self.merged(sources, span.direction);
        Ok(Read { chunk, far: window.into_far(), own_taken, rows })
    }

    /// The rows of sources that come from old to new.
    fn merged(&self, mut sources: Sources<'_>, direction: Direction) -> Chunk {
        sources.retain(|source| source.len() > 0);
        let bytes = sources.iter().map(Source::chunk_bytes).sum();
        let mut rows = Rows::with_capacity(bytes);
        while !sources.is_empty() {
            let first = first_of(&sources, direction);
            let (older, newer) = sources.split_at_mut(first);
            let (first, newer) = newer.split_first_mut().expect("it is one of them");
            for older in older.iter_mut() {
                if older.key().order_key(&first.key()) == Ordering::Equal {
                    older.advance();
                }
            }
            // Rows in front of all others need not be compared with each of them.
            let others = older.iter().chain(&*newer).filter(|source| source.len() > 0);
            let others = others.map(Source::key);
            let border = others.min_by(|one, other| along(direction, one.order_key(other)));
            if border.is_none() && self.range_deletes.is_empty() {
                first.take_to(&mut rows);
                break;
            }
            loop {
                if !self.hides_next(first) {
                    first.add_to(&mut rows);
                }
                first.advance();
                let comes_before = |border: &KeyAt<'_>| {
                    along(direction, first.key().order_key(border)) == Ordering::Less
                };
                if first.len() == 0 || !border.as_ref().is_none_or(comes_before) {
                    break;
                }
            }
            sources.retain(|source| source.len() > 0);
        }
        rows.into()
    }

    /// Whether a newer range delete hides the next row of a source.
    #[inline]
    fn hides_next(&self, source: &Source<'_>) -> bool {
        let hides = |key: KeyAt<'_>| {
            self.range_deletes.iter().any(|(holder, range)| {
                let is_older = *holder < source.age;
                is_older && key.order(&range.low).is_ge() && key.order(&range.high).is_lt()
            })
        };
        !self.range_deletes.is_empty() && hides(source.key())
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

/// The source whose next row comes first, the newest if several have its key.
fn first_of(sources: &[Source<'_>], direction: Direction) -> usize {
    let mut first = sources.len() - 1;
    for index in (0..first).rev() {
        let order = sources[index].key().order_key(&sources[first].key());
        if along(direction, order) == Ordering::Less {
            first = index;
        }
    }
    first
}
