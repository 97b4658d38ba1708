//! Rows of several sources in the order of their keys, the newest of each key.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use smallvec::SmallVec;

use crate::memtable::RangeDelete;
use crate::read::chunk::{Content, KeyAt, Rows};
use crate::read::source::Source;
use crate::read::span::along;
use crate::tree::Direction;
use crate::value::Value;

/// A tree, a memtable and a transaction's own rows, as a rule.
pub(super) type Sources<'a> = SmallVec<[Source<'a>; 4]>;

/// Range deletes by the age of the memtable that holds them; they hide all that is older.
pub(super) type Hiding = (usize, RangeDelete);

/// What comes behind a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    /// Nothing: it was the last one wanted.
    StopBehind,
    /// Nothing, and it was not taken itself.
    StopBefore,
}

/// Where the rows go.
pub(super) trait Sink {
    /// Takes the next row of a source, unless its key was deleted.
    fn add(&mut self, source: &Source<'_>) -> Then;

    /// Takes all rows of a source, or up to where it stops.
    fn take(&mut self, source: &mut Source<'_>) {
        while source.len() > 0 {
            let then = self.add(source);
            if then != Then::StopBefore {
                source.advance();
            }
            if then != Then::GoOn {
                break;
            }
        }
    }
}

/// Merges sources that come from old to new. What is left of them was not taken.
pub(super) fn merge<S: Sink>(
    sources: &mut Sources<'_>,
    direction: Direction,
    hiding: &[Hiding],
    sink: &mut S,
) {
    sources.retain(|source| source.len() > 0);
    while !sources.is_empty() {
        let first = first_of(sources, direction);
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
        if border.is_none() && hiding.is_empty() {
            return sink.take(first);
        }
        loop {
            let then = match hides_next(hiding, first) {
                true => Then::GoOn,
                false => sink.add(first),
            };
            if then != Then::StopBefore {
                first.advance();
            }
            if then != Then::GoOn {
                return;
            }
            let comes_before = |border: &KeyAt<'_>| {
                along(direction, first.key().order_key(border)) == Ordering::Less
            };
            if first.len() == 0 || !border.as_ref().is_none_or(comes_before) {
                break;
            }
        }
        sources.retain(|source| source.len() > 0);
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

/// Whether a newer range delete hides the next row of a source.
#[inline]
fn hides_next(hiding: &[Hiding], source: &Source<'_>) -> bool {
    let hides = |key: KeyAt<'_>| {
        hiding.iter().any(|(holder, range)| {
            let is_older = *holder < source.age;
            is_older && key.order(&range.low).is_ge() && key.order(&range.high).is_lt()
        })
    };
    !hiding.is_empty() && hides(source.key())
}

impl Sink for Rows {
    #[inline]
    fn add(&mut self, source: &Source<'_>) -> Then {
        source.add_to(self);
        Then::GoOn
    }

    #[inline]
    fn take(&mut self, source: &mut Source<'_>) {
        source.take_to(self);
    }
}

/// Shows rows where they lie, until whoever looks has seen enough, or a value lies elsewhere.
pub(super) struct Show<'l, L, T> {
    look: &'l mut L,
    /// The key of a row of a leaf, put together, and the prefix that it begins with.
    key: SmallVec<[u8; 64]>,
    prefix: *const [u8],
    /// Rows that were shown.
    pub(super) shown: usize,
    pub(super) stopped: Option<Stopped<T>>,
}

/// Why the rest of some rows was not shown.
pub(super) enum Stopped<T> {
    /// Whoever looked broke.
    Broke(T),
    /// The value of the row with this key lies elsewhere.
    Before(Value),
}

impl<'l, T, L: FnMut(&[u8], &[u8]) -> ControlFlow<T>> Show<'l, L, T> {
    pub(super) fn to(look: &'l mut L) -> Show<'l, L, T> {
        Show { look, key: SmallVec::new(), prefix: &[], shown: 0, stopped: None }
    }
}

impl<T, L: FnMut(&[u8], &[u8]) -> ControlFlow<T>> Sink for Show<'_, L, T> {
    #[inline]
    fn add(&mut self, source: &Source<'_>) -> Then {
        let (key, content) = source.row();
        let value = match content {
            None => return Then::GoOn,
            Some(Content::Inline(value)) => value,
            Some(Content::Apart(value)) => value,
            Some(Content::Extent(_)) => {
                self.stopped = Some(Stopped::Before(key.to_value()));
                return Then::StopBefore;
            }
        };
        self.shown += 1;
        let key = match key {
            KeyAt::Whole(key) => key,
            KeyAt::Parts(parts) => {
                self.key.resize(parts.len(), 0);
                parts.copy_over(&mut self.prefix, &mut self.key);
                &self.key
            }
        };
        match (self.look)(key, value) {
            ControlFlow::Continue(()) => Then::GoOn,
            ControlFlow::Break(value) => {
                self.stopped = Some(Stopped::Broke(value));
                Then::StopBehind
            }
        }
    }
}
