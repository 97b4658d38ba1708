//! Point reads: a synchronous step that is nearly always the whole answer, and the fetching of
//! what it misses.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use ringdb_uring::Buf;

use crate::engine::Engine;
use crate::error::Result;
use crate::format::value::ExtentValue;
use crate::ids::Seq;
use crate::large;
use crate::memtable::{Found, Kind};
use crate::page::cache::{Fetch, Held};
use crate::page::lookups::Lookups;
use crate::state::{FamilyView, Hold};
use crate::tree::{self, KeyHash, RowValue, Step, Wanted};
use crate::value::{SHORT_BYTES_MAX, Value};

/// Longer values are not copied side by side: whoever keeps one keeps all.
const GATHERED_BYTES_MAX: usize = 1024;

/// A value, or where it is.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    Inline(Value),
    Extent(ExtentValue),
}

/// A value where it was found.
pub(crate) enum Lent<'a> {
    /// In a leaf that is held.
    Row(&'a [u8]),
    /// In a memtable.
    Shared(Bytes),
    Extent(ExtentValue),
}

impl Stored {
    #[inline]
    fn of(lent: Lent<'_>) -> Stored {
        match lent {
            // A copy of a few hundred bytes costs less than counting references to a page.
            Lent::Row(bytes) => Stored::Inline(Value::copied(bytes)),
            Lent::Shared(bytes) => Stored::Inline(Value::new(bytes)),
            Lent::Extent(value) => Stored::Extent(value),
        }
    }
}

/// Copies of values that were found in one step: those of usual length share one piece of memory.
pub(crate) struct Gathered {
    bytes: Vec<u8>,
    keys: usize,
}

/// One of them.
pub(crate) enum Copied {
    Alone(Stored),
    Shared(Range<usize>),
}

impl Gathered {
    /// For the values of so many keys.
    pub(crate) fn new(keys: usize) -> Gathered {
        Gathered { bytes: Vec::new(), keys }
    }

    pub(crate) fn take(&mut self, lent: Lent<'_>) -> Copied {
        match lent {
            Lent::Row(value)
                if (SHORT_BYTES_MAX + 1..=GATHERED_BYTES_MAX).contains(&value.len()) =>
            {
                if self.bytes.is_empty() {
                    // The others are as long, as a rule.
                    self.bytes.reserve(value.len() * self.keys);
                }
                let start = self.bytes.len();
                self.bytes.extend_from_slice(value);
                Copied::Shared(start..self.bytes.len())
            }
            lent => Copied::Alone(Stored::of(lent)),
        }
    }

    /// The memory that is shared.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }
}

impl Copied {
    /// The value, from the memory that it shares.
    pub(crate) fn stored(self, shared: &Bytes) -> Stored {
        match self {
            Copied::Alone(stored) => stored,
            Copied::Shared(range) => Stored::Inline(Value::new(shared.slice(range))),
        }
    }
}

/// What a step came to.
pub(crate) enum Lookup<T = Stored> {
    Found(T),
    Absent,
    Missing(Missing),
}

/// The node that a lookup needs next. Memtables and newer trees were looked through, and do not have the key.
pub(crate) struct Missing {
    wanted: Wanted,
    /// Index of its tree among those of the view.
    tree: usize,
}

impl<T> Lookup<T> {
    pub(crate) fn map<U>(self, of: impl FnOnce(T) -> U) -> Lookup<U> {
        match self {
            Lookup::Found(found) => Lookup::Found(of(found)),
            Lookup::Absent => Lookup::Absent,
            Lookup::Missing(missing) => Lookup::Missing(missing),
        }
    }
}

/// Looks for the newest version of `key` at or below `at`, as far as memory goes.
#[inline]
pub(crate) fn step(view: &FamilyView, at: Seq, key: &[u8], pages: &Lookups<'_>) -> Lookup {
    step_with(view, at, key, pages, Stored::of)
}

/// The same, and lends the value where it is. `take` runs under the guard of `pages` and must be short.
#[inline]
pub(crate) fn step_with<T>(
    view: &FamilyView,
    at: Seq,
    key: &[u8],
    pages: &Lookups<'_>,
    take: impl FnOnce(Lent<'_>) -> T,
) -> Lookup<T> {
    let hash = KeyHash::of(key);
    pages.announce(hash, view.family.id);
    match in_memtables(view, at, key) {
        Some(found) => in_memtable(found, take),
        None => in_trees(view, 0, key, hash, pages, take),
    }
}

/// Looks in the trees from that index on: in the newest that can have the key first.
#[inline]
fn in_trees<T>(
    view: &FamilyView,
    first: usize,
    key: &[u8],
    hash: KeyHash,
    pages: &Lookups<'_>,
    take: impl FnOnce(Lent<'_>) -> T,
) -> Lookup<T> {
    let Some((oldest, newer)) = view.trees[first..].split_last() else { return Lookup::Absent };
    let missing = |wanted, index| Lookup::Missing(Missing { wanted, tree: first + index });
    for (index, tree) in newer.iter().enumerate().filter(|(_, tree)| tree.may_hold(hash)) {
        match tree::find(pages.pages(), &tree.root, key) {
            Step::Missing(wanted) => return missing(wanted, index),
            Step::Ready(None) => {}
            Step::Ready(Some(row)) => return in_tree(row.value(), take),
        }
    }
    if !oldest.may_hold(hash) {
        return Lookup::Absent;
    }
    // The others do not have the key, so wherever it is now is the oldest tree.
    let family = view.family.id;
    if let Some(row) = pages.row(key, hash, family) {
        return in_tree(row.value(), take);
    }
    match tree::find(pages.pages(), &oldest.root, key) {
        Step::Missing(wanted) => missing(wanted, newer.len()),
        Step::Ready(None) => Lookup::Absent,
        Step::Ready(Some(row)) => {
            pages.keep(&row, hash, family);
            in_tree(row.value(), take)
        }
    }
}

/// The same for several keys, whose shortcuts and descents of a tree go side by side.
pub(crate) fn step_many<T>(
    view: &FamilyView,
    at: Seq,
    keys: &[&[u8]],
    pages: &Lookups<'_>,
    mut take: impl FnMut(Lent<'_>) -> T,
) -> Vec<Lookup<T>> {
    let family = view.family.id;
    let hashes: Vec<KeyHash> = keys.iter().map(|key| KeyHash::of(key)).collect();
    hashes.iter().for_each(|hash| pages.announce(*hash, family));
    let mut look =
        |key: &&[u8]| in_memtables(view, at, key).map(|found| in_memtable(found, &mut take));
    let mut answers: Vec<Option<Lookup<T>>> = keys.iter().map(&mut look).collect();
    for (age, tree) in view.trees.iter().enumerate() {
        let is_oldest = age + 1 == view.trees.len();
        let open = |index: &usize| answers[*index].is_none() && tree.may_hold(hashes[*index]);
        let mut open: Vec<usize> = (0..keys.len()).filter(open).collect();
        if is_oldest {
            open.iter().for_each(|index| pages.bring_near(hashes[*index], family));
            open.retain(|&index| {
                let row = pages.row(keys[index], hashes[index], family);
                answers[index] = row.map(|row| in_tree(row.value(), &mut take));
                answers[index].is_none()
            });
        }
        let wanted: Vec<&[u8]> = open.iter().map(|index| keys[*index]).collect();
        let found = tree::find_many(pages.pages(), &tree.root, &wanted);
        for (index, step) in open.into_iter().zip(found) {
            if let (Step::Ready(Some(row)), true) = (&step, is_oldest) {
                pages.keep(row, hashes[index], family);
            }
            answers[index] = match step {
                Step::Missing(wanted) => Some(Lookup::Missing(Missing { wanted, tree: age })),
                Step::Ready(row) => row.map(|row| in_tree(row.value(), &mut take)),
            };
        }
    }
    answers.into_iter().map(|answer| answer.unwrap_or(Lookup::Absent)).collect()
}

#[inline]
fn in_memtables(view: &FamilyView, at: Seq, key: &[u8]) -> Option<Found> {
    view.memtables.iter().find_map(|memtable| memtable.table.get(key, at))
}

fn in_memtable<T>(found: Found, take: impl FnOnce(Lent<'_>) -> T) -> Lookup<T> {
    match found.kind {
        Kind::Put => Lookup::Found(take(Lent::Shared(found.value))),
        Kind::Extent => Lookup::Found(take(Lent::Extent(decoded(&found.value)))),
        Kind::Delete => Lookup::Absent,
    }
}

#[inline]
fn in_tree<T>(value: RowValue<'_>, take: impl FnOnce(Lent<'_>) -> T) -> Lookup<T> {
    match value {
        RowValue::Inline(bytes) => Lookup::Found(take(Lent::Row(bytes))),
        RowValue::Extent(bytes) => Lookup::Found(take(Lent::Extent(decoded(bytes)))),
        RowValue::Tombstone => Lookup::Absent,
    }
}

/// A reference that was checked when it was logged or its node was loaded.
pub(crate) fn decoded(bytes: &[u8]) -> ExtentValue {
    ExtentValue::decode(bytes).expect("references are checked before they are believed")
}

/// A lookup that waits for a node, and shares its fetch with all that wait for it from the moment that this is made.
pub(crate) struct Waiting {
    view: Arc<FamilyView>,
    missing: Missing,
    fetch: Fetch,
}

impl Waiting {
    pub(crate) fn new(engine: &Engine, view: &Arc<FamilyView>, missing: Missing) -> Waiting {
        let fetch = engine.pages.load(missing.wanted, view.family.id);
        Waiting { view: view.clone(), missing, fetch }
    }

    /// Goes on until the answer is known.
    pub(crate) async fn answer(
        mut self,
        engine: &Engine,
        hold: &Hold,
        key: &[u8],
    ) -> Result<Option<Stored>> {
        let mut held = Held::default();
        loop {
            let node = self.fetch.await?;
            match self.missing.go_on(engine, &self.view, hold, key, node, &mut held) {
                Lookup::Found(stored) => return Ok(Some(stored)),
                Lookup::Absent => return Ok(None),
                Lookup::Missing(missing) => self = Waiting::new(engine, &self.view, missing),
            }
        }
    }
}

impl Missing {
    /// Goes on with the node. A leaf is searched at once. Behind an inner node its tree is descended again from the root, which
    /// needs no pin on the nodes above meanwhile.
    fn go_on(
        &self,
        engine: &Engine,
        view: &FamilyView,
        hold: &Hold,
        key: &[u8],
        node: Arc<Buf>,
        held: &mut Held,
    ) -> Lookup {
        let mut first = self.tree;
        let is_leaf = self.wanted.level == 0;
        // Others may have fetched the page as something else: then it is asked for again.
        if is_leaf && self.wanted.may_be(&node) {
            if let Some(row) = tree::find_in_leaf(&node[..], key) {
                return in_tree(row.value(), Stored::of);
            }
            // This tree does not have the key.
            first += 1;
            held.clear();
        } else {
            held.add(self.wanted.node, node);
        }
        let guard = ringdb_frames::pin();
        let pages = engine.pages.lookups(&guard, held, hold);
        in_trees(view, first, key, KeyHash::of(key), &pages, Stored::of)
    }
}

/// The value itself, read from its extent if it has one.
pub(crate) async fn value(engine: &Engine, stored: Stored) -> Result<Value> {
    match stored {
        Stored::Inline(value) => Ok(value),
        Stored::Extent(value) => large::read(engine, &value).await.map(Value::new),
    }
}
