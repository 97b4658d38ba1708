//! One version of one key, and all versions of one key.
//!
//! Versions of a key live together and not as neighbours in the leaf, so that a counter updated a
//! million times neither fills leaves with ties nor makes `get` walk: the newest version is the
//! last of a vector sorted by seq, any other is a binary search away. (A linked chain, newest
//! first, was rejected: an old snapshot would walk it under the leaf's lock.)
//!
//! A version that is its key's only one needs no such entry: a header in front of its row says the same.

use super::entry::Kind;
use super::rows::{RowPlace, Rows};
use crate::ids::Seq;

/// A row that is about to be added.
#[derive(Clone, Copy)]
pub(crate) struct NewRow<'a> {
    pub(crate) seq: Seq,
    pub(crate) kind: Kind,
    /// The key, then the value.
    pub(crate) bytes: &'a [u8],
    pub(crate) key_len: usize,
}

impl<'a> NewRow<'a> {
    pub(crate) fn key(&self) -> &'a [u8] {
        &self.bytes[..self.key_len]
    }
}

/// Bytes in front of a row that says of itself what there is to know.
pub(super) const HEADER_BYTES: usize = 16;
/// Where the kind is, in the number that begins with the length of the key.
const KIND_SHIFT: u32 = 30;

/// A version of a key; its row is `key_len` bytes of key, then the value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    pub(super) seq: Seq,
    place: RowPlace,
    pub(super) key_len: u32,
    value_len: u32,
    pub(super) kind: Kind,
}

impl Version {
    /// Copies a row with a header to the others; gives where the header is.
    ///
    /// ```text
    /// 8 seq   4 len   of the key; the two top bits: the kind   4 len   of the value
    /// ```
    pub(super) fn write(row: &NewRow<'_>, rows: &mut Rows) -> RowPlace {
        let Version { seq, key_len, value_len, kind, .. } = Version::at(RowPlace::START, row);
        let kind = match kind {
            Kind::Put => 0,
            Kind::Extent => 1,
            Kind::Delete => 2,
        };
        assert!(key_len >> KIND_SHIFT == 0, "keys are far below a GiB");
        let lens = u64::from(value_len) << 32 | u64::from(kind << KIND_SHIFT | key_len);
        let header = u128::from(lens) << 64 | u128::from(seq.0);
        rows.push_parts(&header.to_le_bytes(), row.bytes)
    }

    /// The version whose header is there.
    #[inline]
    pub(super) fn read(header_at: RowPlace, rows: &Rows) -> Version {
        let header = rows.row(header_at, HEADER_BYTES).first_chunk();
        let header = u128::from_le_bytes(*header.expect("as many bytes"));
        let (key_word, value_len) = ((header >> 64) as u32, (header >> 96) as u32);
        let kind = match key_word >> KIND_SHIFT {
            0 => Kind::Put,
            1 => Kind::Extent,
            _ => Kind::Delete,
        };
        let key_len = key_word & ((1 << KIND_SHIFT) - 1);
        let place = header_at.behind(HEADER_BYTES as u32);
        Version { seq: Seq(header as u64), place, key_len, value_len, kind }
    }

    /// Copies a row without a header to the others.
    pub(super) fn new(row: &NewRow<'_>, rows: &mut Rows) -> Version {
        Version::at(rows.push(row.bytes), row)
    }

    /// Of a row that lies there.
    pub(super) fn at(place: RowPlace, row: &NewRow<'_>) -> Version {
        let value_len = row.bytes.len() - row.key_len;
        let bounded = |len| u32::try_from(len).expect("keys and values are far below 4 GiB");
        Version {
            seq: row.seq,
            place,
            key_len: bounded(row.key_len),
            value_len: bounded(value_len),
            kind: row.kind,
        }
    }

    /// The key's bytes.
    pub(super) fn key<'a>(&self, rows: &'a Rows) -> &'a [u8] {
        rows.row(self.place, self.key_len as usize)
    }

    /// The bytes of key and value.
    pub(super) fn row<'a>(&self, rows: &'a Rows) -> &'a [u8] {
        rows.row(self.place, self.row_bytes())
    }

    /// Bytes of key and value.
    pub(super) fn row_bytes(&self) -> usize {
        (self.key_len + self.value_len) as usize
    }

    /// The value's bytes, or the encoded reference of its extent; empty for a delete.
    pub(super) fn value<'a>(&self, rows: &'a Rows) -> &'a [u8] {
        &self.row(rows)[self.key_len as usize..]
    }

    /// The same version, its row copied to other rows unless it stays in a segment.
    fn moved(&self, from: &Rows, to: &mut Rows) -> Version {
        match self.place.is_in_segment() {
            true => *self,
            false => Version { place: to.push(self.row(from)), ..*self },
        }
    }
}

/// All versions of one key, oldest first; never empty.
///
/// Versions of equal seq are operations of one batch: the later operation is the later version, and
/// wins.
pub(super) enum Versions {
    One(Version),
    /// Boxed, because most rows that stay in a segment are the only version.
    Many(Box<Several>),
}

/// The versions of a key that has several.
pub(super) struct Several {
    versions: Vec<Version>,
    /// Bytes of their rows: a leaf that is divided should not have to look at all of them.
    row_bytes: usize,
}

const _: () = assert!(size_of::<Versions>() == 32 && size_of::<Version>() == 32);

/// All versions of one key, as its leaf has them.
pub(super) enum VersionsAt<'a> {
    One(Version),
    Listed(&'a Versions),
}

impl VersionsAt<'_> {
    pub(super) fn all(&self) -> &[Version] {
        match self {
            VersionsAt::One(version) => std::slice::from_ref(version),
            VersionsAt::Listed(versions) => versions.all(),
        }
    }

    pub(super) fn key<'a>(&self, rows: &'a Rows) -> &'a [u8] {
        self.all()[0].key(rows)
    }

    /// The newest version at or below `at`.
    pub(super) fn visible(&self, at: Seq) -> Option<Version> {
        self.until(at).last().copied()
    }

    /// The versions at or below `at`; nearly always all.
    pub(super) fn until(&self, at: Seq) -> &[Version] {
        let all = self.all();
        &all[..count_until(all, at)]
    }

    /// Bytes of all their rows, and of the header of one that has one.
    pub(super) fn row_bytes(&self) -> usize {
        match self {
            VersionsAt::One(version) => HEADER_BYTES + version.row_bytes(),
            VersionsAt::Listed(versions) => versions.row_bytes(),
        }
    }
}

fn count_until(all: &[Version], at: Seq) -> usize {
    match all.last() {
        Some(newest) if newest.seq <= at => all.len(),
        _ => all.partition_point(|version| version.seq <= at),
    }
}

impl Versions {
    fn all(&self) -> &[Version] {
        match self {
            Versions::One(version) => std::slice::from_ref(version),
            Versions::Many(several) => &several.versions,
        }
    }

    /// Where the newest one's row lies.
    pub(super) fn newest_at(&self) -> RowPlace {
        let all = self.all();
        all[all.len() - 1].place
    }

    /// Adds a version; gives the heap bytes that this took beyond its row.
    pub(super) fn add(&mut self, version: Version) -> usize {
        let before = self.heap_bytes();
        let place = count_until(self.all(), version.seq);
        match self {
            Versions::One(only) => {
                let row_bytes = only.row_bytes() + version.row_bytes();
                let mut versions = Vec::with_capacity(2);
                versions.push(*only);
                versions.insert(place, version);
                *self = Versions::Many(Box::new(Several { versions, row_bytes }));
            }
            Versions::Many(several) => {
                several.row_bytes += version.row_bytes();
                several.versions.insert(place, version);
            }
        }
        self.heap_bytes() - before
    }

    /// The same versions, their rows copied to other rows unless they stay in segments.
    pub(super) fn moved(mut self, from: &Rows, to: &mut Rows) -> Versions {
        match &mut self {
            Versions::One(version) => *version = version.moved(from, to),
            Versions::Many(several) => {
                let versions = several.versions.iter_mut();
                versions.for_each(|version| *version = version.moved(from, to));
            }
        }
        self
    }

    fn row_bytes(&self) -> usize {
        match self {
            Versions::One(version) => version.row_bytes(),
            Versions::Many(several) => several.row_bytes,
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Versions::One(_) => 0,
            Versions::Many(several) => {
                size_of::<Several>() + several.versions.capacity() * size_of::<Version>()
            }
        }
    }
}
