//! Where the versions of a leaf's keys are, in the order of the keys.
//!
//! Nearly every key has one version, and its row lies in the leaf's own chunks, behind a header that says what else there is to
//! know. Its place is a number of four bytes beside the key's head: whoever has found the head waits for the row and for nothing
//! else. All others are in lists: keys of several versions, rows that stay in segments of a log, and those that lie farther back in
//! the chunks than such a number reaches.

use std::mem;

use ringdb_frames::bring_near;

use super::rows::{RowPlace, Rows};
use super::version::{HEADER_BYTES, Version, Versions, VersionsAt};

/// Set in the number of a list.
const LIST: u32 = 1 << 31;

/// A place in the chunks as [`RowPlace::to_bits`] has it, or the number of a list.
#[derive(Clone, Copy)]
pub(super) struct Place(u32);

/// The places of a leaf's keys.
pub(super) struct Places {
    all: Vec<Place>,
    /// In order of arrival.
    lists: Vec<Versions>,
}

/// The versions of a key that leave their leaf.
pub(super) enum Taken {
    /// One, whose row and its header lie there.
    Row(RowPlace),
    List(Versions),
}

impl Place {
    fn list(self) -> Option<usize> {
        (self.0 & LIST != 0).then_some((self.0 & !LIST) as usize)
    }
}

impl Places {
    /// In memory that is empty.
    pub(super) fn new(all: Vec<Place>) -> Places {
        assert!(all.is_empty());
        Places { all, lists: Vec::new() }
    }

    /// The versions of a key.
    #[inline]
    pub(super) fn at(&self, index: usize, rows: &Rows) -> VersionsAt<'_> {
        let place = self.all[index];
        match place.list() {
            Some(list) => VersionsAt::Listed(&self.lists[list]),
            None => VersionsAt::One(Version::read(RowPlace::from_bits(place.0), rows)),
        }
    }

    /// Puts a key there, whose versions are in the rows already.
    pub(super) fn insert(&mut self, index: usize, versions: Taken, rows: &Rows) {
        let place = match versions {
            Taken::Row(at) => match at.to_bits() {
                Some(bits) => Place(bits),
                None => self.add_list(Versions::One(Version::read(at, rows))),
            },
            Taken::List(versions) => self.add_list(versions),
        };
        self.all.insert(index, place);
    }

    fn add_list(&mut self, versions: Versions) -> Place {
        let number = u32::try_from(self.lists.len()).ok().filter(|number| number & LIST == 0);
        self.lists.push(versions);
        Place(LIST | number.expect("a leaf has at most LEAF_KEYS_MAX lists"))
    }

    /// Adds a version to a key that has some; gives the heap bytes that its list takes more.
    pub(super) fn add(&mut self, index: usize, version: Version, rows: &Rows) -> usize {
        let list = self.all[index].list().unwrap_or_else(|| {
            let only = Version::read(RowPlace::from_bits(self.all[index].0), rows);
            self.all[index] = self.add_list(Versions::One(only));
            self.lists.len() - 1
        });
        self.lists[list].add(version)
    }

    /// Takes all of them out, in their order.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Taken> {
        let mut lists: Vec<_> = mem::take(&mut self.lists).into_iter().map(Some).collect();
        self.all.drain(..).map(move |place| match place.list() {
            Some(list) => Taken::List(lists[list].take().expect("each is of one key")),
            None => Taken::Row(RowPlace::from_bits(place.0)),
        })
    }

    /// Asks for the places of keys near this one.
    #[inline]
    pub(super) fn bring_near(&self, index: usize, keys: usize) {
        bring_near(&self.all[index.min(self.all.len())..self.all.len().min(index + keys)]);
    }

    /// Asks for so many bytes of the newest rows of these keys: their misses overlap then, instead of waiting one by one.
    pub(super) fn bring_rows_near(
        &self,
        indices: impl Iterator<Item = usize> + Clone,
        bytes: usize,
        rows: &Rows,
    ) {
        for index in indices.clone() {
            let place = self.all[index];
            match place.list() {
                Some(list) => bring_near(&self.lists[list]),
                None => rows.bring_near(RowPlace::from_bits(place.0), bytes),
            }
        }
        if !self.lists.is_empty() {
            let lists = indices.filter_map(|index| self.all[index].list());
            lists.for_each(|list| rows.bring_near(self.lists[list].newest_at(), bytes));
        }
    }

    /// How many keys have lists.
    pub(super) fn lists(&self) -> usize {
        self.lists.len()
    }

    /// So many keys will have lists.
    pub(super) fn reserve_lists(&mut self, keys: usize) {
        self.lists.reserve_exact(keys);
    }

    /// Bytes of memory on the heap but those of the lists themselves.
    pub(super) fn heap_bytes(&self) -> usize {
        self.all.capacity() * size_of::<Place>() + self.lists.capacity() * size_of::<Versions>()
    }

    /// Gives the memory away.
    pub(super) fn into_memory(mut self) -> Vec<Place> {
        self.all.clear();
        self.all
    }
}

impl Taken {
    /// The same versions, their rows copied to other rows unless they stay in segments.
    pub(super) fn moved(self, from: &Rows, to: &mut Rows) -> Taken {
        match self {
            Taken::Row(at) => {
                let bytes = HEADER_BYTES + Version::read(at, from).row_bytes();
                Taken::Row(to.push(from.row(at, bytes)))
            }
            Taken::List(versions) => Taken::List(versions.moved(from, to)),
        }
    }
}
