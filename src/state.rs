//! The immutable view that readers load: memtables and roots of every column family.
//!
//! A state is swapped whole with `arc-swap`; whoever holds one holds everything it names: its
//! memtables by reference count, its pages because the space of a retired page returns only when
//! every [`Hold`] under which it could be named is gone. A read that outlives its step (a miss, a
//! large value) clones the hold.
//!
//! Which memtable a commit belongs to is decided by its seq alone. A freeze publishes the state
//! with the successors first, then chooses its seq F under the commit lock and writes it into
//! every successor's `after`. A committer takes its seq under the same lock, so one with a seq
//! above F sees the successor and its `after`; one with a seq up to F belongs to the predecessor,
//! whether it sees the successor or not.

mod tree;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::RwLock;

use crate::format::catalog::Logging;
use crate::ids::{FamilyId, Seq};
use crate::memtable::{Memtable, Pool};

pub(crate) use tree::{Charged, Filters, Kept, Tree};

/// A seq that no commit reaches: "never", "not yet".
const NEVER: u64 = u64::MAX;

/// A column family while the database is open.
pub(crate) struct Family {
    pub(crate) id: FamilyId,
    pub(crate) logging: Logging,
    name: RwLock<Arc<str>>,
    created: Seq,
    dropped: AtomicU64,
    active: ArcSwap<Active>,
    /// The freeze epoch in which the family was last written; guarded by the commit lock.
    pub(crate) dirty_epoch: AtomicU64,
}

/// The memtable that takes new commits, and its predecessor while commits may still belong to it.
struct Active {
    current: Arc<Generational>,
    previous: Option<Arc<Generational>>,
}

/// A memtable and the range of seqs it takes.
pub(crate) struct Generational {
    pub(crate) table: Memtable,
    /// Commits after this seq belong here; `NEVER` until the freeze has chosen it.
    after: AtomicU64,
}

impl Generational {
    fn first(pool: &Arc<Pool>) -> Arc<Generational> {
        Arc::new(Generational { table: Memtable::new(pool), after: AtomicU64::new(0) })
    }

    /// A successor whose freeze has not happened yet.
    pub(crate) fn successor(&self) -> Arc<Generational> {
        Arc::new(Generational { table: self.table.successor(), after: AtomicU64::new(NEVER) })
    }

    /// The freeze chose its seq. Called under the commit lock.
    pub(crate) fn starts_after(&self, seq: Seq) {
        self.after.store(seq.0, Ordering::Release);
    }
}

impl Family {
    /// A family without rows, whose memtables share the memory of a pool.
    pub(crate) fn new(
        id: FamilyId,
        name: &str,
        logging: Logging,
        created: Seq,
        pool: &Arc<Pool>,
    ) -> Arc<Family> {
        Arc::new(Family {
            id,
            logging,
            name: RwLock::new(name.into()),
            created,
            dropped: AtomicU64::new(NEVER),
            active: ArcSwap::from_pointee(Active {
                current: Generational::first(pool),
                previous: None,
            }),
            dirty_epoch: AtomicU64::new(0),
        })
    }

    pub(crate) fn name(&self) -> Arc<str> {
        self.name.read().clone()
    }

    pub(crate) fn rename(&self, name: &str) {
        *self.name.write() = name.into();
    }

    /// The commit that created the family.
    pub(crate) fn created(&self) -> Seq {
        self.created
    }

    /// The commit that dropped the family, if one did.
    pub(crate) fn dropped(&self) -> Option<Seq> {
        let seq = self.dropped.load(Ordering::Acquire);
        (seq != NEVER).then_some(Seq(seq))
    }

    pub(crate) fn mark_dropped(&self, seq: Seq) {
        self.dropped.store(seq.0, Ordering::Release);
    }

    /// Applies to the memtable that the commit belongs to.
    pub(crate) fn with_memtable_of<T>(&self, seq: Seq, apply: impl FnOnce(&Memtable) -> T) -> T {
        let active = self.active.load();
        let current = active.current.after.load(Ordering::Acquire) < seq.0;
        match (&active.previous, current) {
            (Some(previous), false) => apply(&previous.table),
            (None, _) | (Some(_), true) => apply(&active.current.table),
        }
    }

    /// The memtable that takes new commits.
    pub(crate) fn active(&self) -> Arc<Generational> {
        self.active.load().current.clone()
    }

    /// Range deletes in the memtable that the next commit goes to: the predecessor, until the freeze has chosen its seq.
    pub(crate) fn next_range_deletes(&self) -> usize {
        self.with_memtable_of(Seq(NEVER), Memtable::range_delete_count)
    }

    /// Puts a successor in front; commits find it once its freeze has chosen a seq.
    pub(crate) fn succeed(&self, successor: Arc<Generational>) {
        let previous = self.active();
        self.active.store(Arc::new(Active { current: successor, previous: Some(previous) }));
    }

    /// Forgets the predecessor: all its commits are applied.
    pub(crate) fn settle(&self) {
        let current = self.active();
        self.active.store(Arc::new(Active { current, previous: None }));
    }
}

/// What readers see of one family: memtables and trees, newest first.
#[derive(Clone)]
pub(crate) struct FamilyView {
    pub(crate) family: Arc<Family>,
    pub(crate) memtables: Vec<Arc<Generational>>,
    pub(crate) trees: Vec<Tree>,
}

/// Kept by everybody who may read pages of a checkpoint. All states from one publication to the
/// next name the same trees and share one hold, so that the space of a retired page waits for the
/// readers of every one of them, and not only of the last.
#[derive(Default)]
pub(crate) struct Hold {
    /// Publications before this one, since the database was opened.
    pub(crate) turn: u64,
}

impl Hold {
    /// The one of the next publication.
    pub(crate) fn next(&self) -> Hold {
        Hold { turn: self.turn + 1 }
    }
}

/// The view that readers load. Families ascend by id.
#[derive(Clone)]
pub(crate) struct State {
    /// Of the checkpoint whose trees this state names.
    pub(crate) hold: Arc<Hold>,
    /// The trees hold every commit up to here, and no later one.
    pub(crate) checkpoint_seq: Seq,
    pub(crate) families: Vec<Arc<FamilyView>>,
}

impl State {
    pub(crate) fn view(&self, id: FamilyId) -> Option<&Arc<FamilyView>> {
        // Ids are dense until a family is dropped, so the place is nearly always the id itself.
        let guess = self.families.get(id.0 as usize).filter(|view| view.family.id == id);
        guess.or_else(|| self.index_of(id).ok().map(|index| &self.families[index]))
    }

    fn index_of(&self, id: FamilyId) -> Result<usize, usize> {
        self.families.binary_search_by_key(&id, |view| view.family.id)
    }

    /// The same state with one family's view replaced or added.
    pub(crate) fn set(&mut self, view: FamilyView) {
        match self.index_of(view.family.id) {
            Ok(index) => self.families[index] = Arc::new(view),
            Err(index) => self.families.insert(index, Arc::new(view)),
        }
    }

    pub(crate) fn remove(&mut self, id: FamilyId) {
        if let Ok(index) = self.index_of(id) {
            self.families.remove(index);
        }
    }
}

impl FamilyView {
    /// Rows in the trees and versions in the memtables.
    pub(crate) fn approximate_rows(&self) -> u64 {
        let in_trees = self.trees.iter().map(|tree| tree.root.rows).sum::<u64>();
        let in_memory =
            self.memtables.iter().map(|memtable| memtable.table.entries()).sum::<usize>();
        in_trees + in_memory as u64
    }

    /// The view of a family that has nothing on disk.
    pub(crate) fn empty(family: &Arc<Family>) -> FamilyView {
        FamilyView { family: family.clone(), memtables: vec![family.active()], trees: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_belongs_to_the_memtable_of_its_seq() {
        let family = Family::new(FamilyId(0), "a", Logging::Logged, Seq(0), &Pool::new(0));
        let old = family.active();
        let new = old.successor();
        family.succeed(new.clone());
        let holder = |seq| {
            family.with_memtable_of(Seq(seq), |table| {
                if std::ptr::eq(table, &old.table) { "old" } else { "new" }
            })
        };
        assert_eq!(holder(8), "old");
        new.starts_after(Seq(7));
        assert_eq!((holder(7), holder(8)), ("old", "new"));
        family.settle();
        assert_eq!(holder(8), "new");
    }

    #[test]
    fn range_deletes_are_counted_where_the_next_commit_goes() {
        let family = Family::new(FamilyId(0), "a", Logging::Logged, Seq(0), &Pool::new(0));
        let delete = |seq| {
            family.with_memtable_of(Seq(seq), |table| table.delete_range(Seq(seq), b"a", b"b"));
            family.next_range_deletes()
        };
        assert_eq!((delete(1), delete(2)), (1, 2));
        let new = family.active().successor();
        family.succeed(new.clone());
        assert_eq!(delete(3), 3, "its freeze has not happened");
        new.starts_after(Seq(3));
        assert_eq!((family.next_range_deletes(), delete(4)), (0, 1));
    }

    #[test]
    fn views_are_found_by_id_with_gaps() {
        let mut state =
            State { hold: Arc::default(), checkpoint_seq: Seq(0), families: Vec::new() };
        for id in [5, 1, 3] {
            let family = Family::new(FamilyId(id), "x", Logging::Logged, Seq(0), &Pool::new(0));
            state.set(FamilyView::empty(&family));
        }
        state.remove(FamilyId(3));
        let found = |id| state.view(FamilyId(id)).map(|view| view.family.id.0);
        assert_eq!((found(1), found(3), found(5)), (Some(1), None, Some(5)));
    }
}
