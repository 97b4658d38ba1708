//! A scan: own rows, memtables and trees merged in key order, newest source first.
//!
//! The step is synchronous and answers what memory holds. What is missing is fetched together
//! with the leaves that come next, so that a long scan keeps the device's queue full.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::ids::{FamilyId, Seq};
use crate::memtable::RangeDelete;
use crate::page::cache::{Held, View};
use crate::read::lookup::{self, Stored};
use crate::read::source::{Content, Row, Source, Span};
use crate::snapshot::Pinned;
use crate::state::FamilyView;
use crate::tree::{self, Direction, Wanted};

/// Rows that the first chunk of a source holds; later ones double up to the maximum.
const CHUNK_ROWS_MIN: usize = 16;
const CHUNK_ROWS_MAX: usize = 512;

/// Leaves that are fetched together at most.
const READ_AHEAD_LEAVES_MAX: usize = 32;

/// The source of the first memtable: a transaction's own rows, the newest of all, come before.
const MEMTABLES_AT: usize = 1;

/// A scan of one family at one seq.
pub(crate) struct Scan {
    view: Arc<FamilyView>,
    at: Seq,
    span: Span,
    /// Own rows, then memtables, then trees.
    sources: Vec<Source>,
    /// Range deletes by the index of the source that holds them; they hide all older sources.
    range_deletes: Vec<(usize, RangeDelete)>,
    chunk_rows: usize,
    read_ahead_leaves: usize,
    held: Held,
}

/// What a step came to.
pub(crate) enum Next {
    Row(Bytes, Stored),
    End,
    Missing(Want),
    /// The snapshot expired; its pages may be of another life by now.
    Expired(Error),
}

/// A page that a tree's scan waits for.
pub(crate) struct Want {
    wanted: Wanted,
    tree: usize,
}

impl Scan {
    pub(crate) fn new(view: Arc<FamilyView>, at: Seq, span: Span, mut own: Vec<Row>) -> Scan {
        if span.direction == Direction::Backward {
            own.reverse();
        }
        let count = view.memtables.len() + view.trees.len();
        let deletes = |(index, memtable): (usize, &Arc<crate::state::Generational>)| {
            let ranges = memtable.table.range_deletes(at).into_iter();
            ranges.map(move |range| (MEMTABLES_AT + index, range))
        };
        let range_deletes = view.memtables.iter().enumerate().flat_map(deletes).collect();
        Scan {
            sources: [Source::of_rows(own)]
                .into_iter()
                .chain((0..count).map(|_| Source::new(&span)))
                .collect(),
            range_deletes,
            view,
            at,
            span,
            chunk_rows: CHUNK_ROWS_MIN,
            read_ahead_leaves: 1,
            held: Held::default(),
        }
    }

    pub(crate) fn family(&self) -> FamilyId {
        self.view.family.id
    }

    /// The next row, as far as memory goes.
    pub(crate) fn step(&mut self, engine: &Engine, pinned: &Pinned) -> Next {
        loop {
            match self.fill(engine, pinned) {
                Ok(None) => {}
                Ok(Some(want)) => return Next::Missing(want),
                Err(expired) => return Next::Expired(expired),
            }
            let Some((newest, row)) = self.pop_next() else { return Next::End };
            if self.hidden(newest, &row.key) {
                continue;
            }
            match row.content {
                Content::Deleted => {}
                Content::Inline(bytes) => return Next::Row(row.key, Stored::Inline(bytes)),
                Content::Extent(bytes) => {
                    return Next::Row(row.key, Stored::Extent(lookup::decoded(&bytes)));
                }
            }
        }
    }

    /// Sees to it that every source that goes on has a row.
    fn fill(&mut self, engine: &Engine, pinned: &Pinned) -> Result<Option<Want>> {
        if !self.sources.iter().any(Source::needs_rows) {
            return Ok(None);
        }
        // Kept while frames are read: they are found by page alone.
        let _state = pinned.state()?;
        let guard = ringdb_frames::pin();
        let pages = engine.pages.view(&guard, &self.held);
        let trees_at = MEMTABLES_AT + self.view.memtables.len();
        let max = self.chunk_rows;
        for (index, source) in self.sources.iter_mut().enumerate() {
            while source.needs_rows() {
                let Some(tree) = index.checked_sub(trees_at) else {
                    let table = &self.view.memtables[index - MEMTABLES_AT].table;
                    source.fill_from_memtable(table, self.at, &self.span, max);
                    continue;
                };
                let root = &self.view.trees[tree].root;
                if let Some(wanted) = source.fill_from_tree(&pages, root, &self.span, max) {
                    return Ok(Some(Want { wanted, tree }));
                }
            }
        }
        self.chunk_rows = (self.chunk_rows * 2).min(CHUNK_ROWS_MAX);
        self.held.clear();
        Ok(None)
    }

    /// Takes the next key's row from its newest source and drops what older ones say.
    fn pop_next(&mut self) -> Option<(usize, Row)> {
        let mut best: Option<usize> = None;
        for (index, source) in self.sources.iter().enumerate() {
            let Some(key) = source.head() else { continue };
            let before = best.and_then(|best| self.sources[best].head()).is_none_or(|best| {
                match self.span.direction {
                    Direction::Forward => key < best,
                    Direction::Backward => key > best,
                }
            });
            if before {
                best = Some(index);
            }
        }
        let newest = best?;
        let row = self.sources[newest].pop()?;
        for older in &mut self.sources[newest + 1..] {
            if older.head() == Some(&row.key) {
                older.pop();
            }
        }
        Some((newest, row))
    }

    fn hidden(&self, source: usize, key: &[u8]) -> bool {
        self.range_deletes.iter().any(|(holder, range)| {
            *holder < source && &range.low[..] <= key && key < &range.high[..]
        })
    }

    /// Fetches what is missing, and with it the leaves that come next.
    pub(crate) async fn fetch(&mut self, engine: &Engine, want: Want) -> Result<()> {
        let family = self.family();
        let ahead = self.upcoming(engine, &want);
        let first = engine.pages.load(want.wanted, family);
        let rest = join_all(ahead.into_iter().map(|wanted| engine.pages.load(wanted, family)));
        self.read_ahead_leaves = (self.read_ahead_leaves * 2).min(READ_AHEAD_LEAVES_MAX);
        // A leaf read ahead that fails is met again, and reported, when it is needed.
        let (bytes, _) = futures::join!(first, rest);
        self.held.add(want.wanted.node, bytes?);
        Ok(())
    }

    fn upcoming(&self, engine: &Engine, want: &Want) -> Vec<Wanted> {
        if self.read_ahead_leaves == 1 || want.wanted.level > 0 {
            return Vec::new();
        }
        let source = &self.sources[MEMTABLES_AT + self.view.memtables.len() + want.tree];
        let Some(bound) = source.next_bound() else { return Vec::new() };
        let guard = ringdb_frames::pin();
        let pages: View<'_> = engine.pages.view(&guard, &self.held);
        let root = &self.view.trees[want.tree].root;
        let direction = self.span.direction;
        let upcoming =
            tree::upcoming_leaves(&pages, root, bound, direction, self.read_ahead_leaves);
        let level = upcoming.level;
        let others = upcoming.nodes.into_iter().filter(|node| *node != want.wanted.node);
        let missing = others.filter(|node| !engine.pages.has(*node));
        missing.map(|node| Wanted { node, level }).collect()
    }
}
