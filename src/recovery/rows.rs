//! Rows of the log on their way into memtables.
//!
//! Many are sorted by family and key before they go in: each leaf is then filled once, from its first key to its last, where rows
//! as they were committed would wait for memory at every step.

use std::collections::HashMap;
use std::sync::Arc;

use ringdb_frames::bring_near;
use ringdb_uring::Buf;

use crate::format::record::Found;
use crate::ids::{FamilyId, Seq};
use crate::memtable::{Kind, Memtable, NewRow};
use crate::state::Family;

/// Rows that are asked for ahead of need: in key order each lies somewhere else.
const ROWS_AHEAD: usize = 8;
/// Rows that are sorted at a time, at most: less than `u32` can number by one group's.
const ROWS_MAX: usize = 1 << 31;
/// Rows of a family that two threads put in.
const SHARED_ROWS_MIN: usize = 10_000;

/// Rows that were read and are in no memtable yet.
pub(super) struct Rows {
    families: Vec<Keys>,
    numbers: HashMap<FamilyId, u32>,
    /// Segments of the log.
    segments: Vec<Arc<Buf>>,
    rows: Vec<Row>,
    /// Bytes of rows, and of segments but for the newest, which somebody else holds too.
    bytes: usize,
    bytes_max: usize,
}

/// The keys of one family.
struct Keys {
    family: Arc<Family>,
    /// A key, and how many of its bytes all keys begin with.
    first: Row,
    prefix_len: usize,
}

#[derive(Clone, Copy)]
struct Row {
    seq: Seq,
    /// From the front of the segment.
    start: usize,
    segment: u32,
    family: u32,
    len: u32,
    key_len: u32,
    kind: Kind,
}

/// What rows are sorted by first, and the row: family, first bytes of the key behind the family's prefix, number of the row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u128);

impl Place {
    fn new(family: u32, head: u64, row: usize) -> Place {
        let row = u32::try_from(row).expect("there is memory for fewer than 2^32 rows");
        Place(u128::from(family) << 96 | u128::from(head) << 32 | u128::from(row))
    }

    fn row(self) -> usize {
        self.0 as u32 as usize
    }

    fn family(self) -> usize {
        (self.0 >> 96) as usize
    }

    fn is_tied(&self, other: &Place) -> bool {
        self.0 >> 32 == other.0 >> 32
    }
}

impl Row {
    fn bytes<'a>(&self, segments: &'a [Arc<Buf>]) -> &'a [u8] {
        &segments[self.segment as usize][self.start..self.start + self.len as usize]
    }

    fn key<'a>(&self, segments: &'a [Arc<Buf>]) -> &'a [u8] {
        &self.bytes(segments)[..self.key_len as usize]
    }
}

impl Rows {
    /// Takes up to about so many bytes.
    pub(super) fn new(bytes_max: usize) -> Rows {
        Rows {
            families: Vec::new(),
            numbers: HashMap::new(),
            segments: Vec::new(),
            rows: Vec::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// The rows that come next are in this segment.
    pub(super) fn are_in(&mut self, segment: &Arc<Buf>) {
        match self.segments.last() {
            Some(last) if Arc::ptr_eq(last, segment) => return,
            Some(last) => self.bytes += last.len(),
            None => {}
        }
        self.segments.push(segment.clone());
    }

    /// Takes a row of the newest segment; places of `found` count from `payload`.
    pub(super) fn push(
        &mut self,
        seq: Seq,
        family: &Arc<Family>,
        kind: Kind,
        found: &Found<'_>,
        payload: usize,
    ) {
        let bounded = |len: usize| u32::try_from(len).expect("groups are shorter than 4 GiB");
        let mut row = Row {
            seq,
            start: payload + found.row.start,
            segment: bounded(self.segments.len() - 1),
            family: 0,
            len: bounded(found.row.len()),
            key_len: bounded(found.key_bytes),
            kind,
        };
        row.family = match self.rows.last() {
            Some(last) if self.families[last.family as usize].family.id == family.id => last.family,
            _ => self.number(family, row),
        };
        let keys = &mut self.families[row.family as usize];
        let first = keys.first.key(&self.segments);
        let shared = first.iter().zip(row.key(&self.segments)).take(keys.prefix_len);
        keys.prefix_len = shared.take_while(|(one, other)| one == other).count();
        self.rows.push(row);
        self.bytes += size_of::<Row>() + size_of::<Place>();
    }

    fn number(&mut self, family: &Arc<Family>, first: Row) -> u32 {
        let families = &mut self.families;
        *self.numbers.entry(family.id).or_insert_with(|| {
            let prefix_len = first.key_len as usize;
            families.push(Keys { family: family.clone(), first, prefix_len });
            u32::try_from(families.len() - 1).expect("families are numbered by 32 bits")
        })
    }

    /// Whether there are enough to be sorted.
    pub(super) fn are_many(&self) -> bool {
        self.bytes >= self.bytes_max || self.rows.len() >= ROWS_MAX
    }

    /// Puts all of them into their memtables.
    pub(super) fn apply(&mut self) {
        let sorted = self.sorted();
        let families = sorted.chunk_by(|a, b| a.family() == b.family());
        for (keys, places) in self.families.iter().zip(families) {
            let memtable = keys.family.active();
            match places.len() >= SHARED_ROWS_MIN {
                true => self.insert_by_two(&memtable.table, places),
                false => self.insert(&memtable.table, places),
            }
        }
        *self = Rows::new(self.bytes_max);
    }

    /// Inserts rows of one family on two threads: half of the time is waiting for memory, which two do side by side.
    fn insert_by_two(&self, table: &Memtable, places: &[Place]) {
        let (low, high) = places.split_at(self.middle(places));
        std::thread::scope(|scope| {
            let helper = std::thread::Builder::new().name("ringdb-replay".to_owned());
            let spawned = helper.spawn_scoped(scope, || self.insert(table, low));
            self.insert(table, high);
            if spawned.is_err() {
                self.insert(table, low);
            }
        });
    }

    /// About the middle; the versions of a key are on one side.
    fn middle(&self, places: &[Place]) -> usize {
        let key = |place: &Place| self.rows[place.row()].key(&self.segments);
        let middle = places.len() / 2;
        let same = places[middle..].windows(2).take_while(|pair| key(&pair[0]) == key(&pair[1]));
        (middle + same.count() + 1).min(places.len())
    }

    /// Inserts rows of one family.
    fn insert(&self, table: &Memtable, places: &[Place]) {
        let (rows, segments) = (&self.rows, &self.segments);
        table.insert_sorted(places.iter().enumerate().map(|(index, place)| {
            if let Some(later) = places.get(index + 2 * ROWS_AHEAD) {
                bring_near(&rows[later.row()]);
            }
            if let Some(later) = places.get(index + ROWS_AHEAD) {
                bring_near(rows[later.row()].bytes(segments));
            }
            let row = &rows[place.row()];
            let (bytes, key_len) = (row.bytes(segments), row.key_len as usize);
            NewRow { seq: row.seq, kind: row.kind, bytes, key_len }
        }));
    }

    fn sorted(&self) -> Vec<Place> {
        let place = |(index, row): (usize, &Row)| {
            let key = &row.key(&self.segments)[self.families[row.family as usize].prefix_len..];
            Place::new(row.family, head(key), index)
        };
        let mut sorted: Vec<Place> = self.rows.iter().enumerate().map(place).collect();
        sorted.sort_unstable();
        for tied in sorted.chunk_by_mut(Place::is_tied).filter(|tied| tied.len() > 1) {
            let of = |place: &Place| self.rows[place.row()];
            let keys =
                |a: &Place, b: &Place| of(a).key(&self.segments).cmp(of(b).key(&self.segments));
            // Of two rows of a key with the same seq the later one counts: the order of equals is kept.
            tied.sort_by(|a, b| keys(a, b).then(of(a).seq.cmp(&of(b).seq)));
        }
        sorted
    }
}

/// Compares as the key does, as far as it goes: a shorter key is filled up with zeros.
fn head(key: &[u8]) -> u64 {
    let mut head = [0; 8];
    let len = key.len().min(head.len());
    head[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::catalog::Logging;
    use crate::format::record::Op;

    /// Takes rows of keys and values of one byte each, with their seqs, from one segment.
    fn take(rows: &mut Rows, family: &Arc<Family>, prefix: &[u8], group: &[(&[u8; 2], u64)]) {
        let len = prefix.len() + 2;
        let mut segment = Buf::zeroed(4096);
        for (index, (row, _)) in group.iter().enumerate() {
            segment[index * len..][..prefix.len()].copy_from_slice(prefix);
            segment[index * len + prefix.len()..][..2].copy_from_slice(*row);
        }
        let segment = Arc::new(segment);
        for (index, (row, seq)) in group.iter().enumerate() {
            rows.are_in(&segment);
            // What the operation says of key and value is not looked at.
            let op = Op::Put { family: family.id, key: &row[..1], value: &row[1..] };
            // The first row is counted from a payload that begins at 0, the others from the first.
            let payload = if index == 0 { 0 } else { len };
            let start = index * len - payload;
            let found = Found { op, row: start..start + len, key_bytes: len - 1 };
            rows.push(Seq(*seq), family, Kind::Put, &found, payload);
        }
    }

    fn value(family: &Family, key: &[u8], at: u64) -> Option<Vec<u8>> {
        let active = family.active();
        active.table.get(key, Seq(at)).map(|found| found.value.to_vec())
    }

    fn family(id: u32) -> Arc<Family> {
        Family::new(FamilyId(id), "rows", Logging::Logged, Seq(0))
    }

    #[test]
    fn rows_go_where_they_belong_and_the_last_of_a_batch_counts() {
        let (one, other) = (family(1), family(2));
        let mut rows = Rows::new(8192);
        take(&mut rows, &one, b"", &[(b"b1", 1), (b"a1", 1), (b"b2", 1)]);
        take(&mut rows, &other, b"", &[(b"a7", 2)]);
        assert!(!rows.are_many());
        take(&mut rows, &one, b"", &[(b"b3", 3)]);
        assert!(rows.are_many(), "of three segments");
        rows.apply();
        assert!(!rows.are_many());
        assert_eq!(value(&one, b"a", 9).as_deref(), Some(&b"1"[..]));
        assert_eq!(value(&one, b"b", 2).as_deref(), Some(&b"2"[..]));
        assert_eq!(value(&one, b"b", 3).as_deref(), Some(&b"3"[..]));
        assert_eq!(value(&other, b"a", 9).as_deref(), Some(&b"7"[..]));
        assert_eq!(value(&other, b"b", 9), None);
        take(&mut rows, &other, b"", &[(b"b8", 4)]);
        rows.apply();
        assert_eq!(value(&other, b"b", 9).as_deref(), Some(&b"8"[..]));
    }

    #[test]
    fn keys_are_told_apart_behind_what_they_share_and_behind_their_heads() {
        let one = family(1);
        let mut rows = Rows::new(usize::MAX);
        take(&mut rows, &one, b"a long prefix of all ", &[(b"c1", 1), (b"a1", 2), (b"b1", 3)]);
        // Here the prefix ends, and what follows it is longer than a head.
        take(&mut rows, &one, b"a long way from ", &[(b"c2", 4), (b"a2", 5), (b"a3", 6)]);
        take(&mut rows, &one, b"a", &[(b" 4", 7)]);
        rows.apply();
        let found = |key: &[u8]| value(&one, key, 9).expect("a row that was pushed");
        assert_eq!(found(b"a long prefix of all a"), b"1");
        assert_eq!(found(b"a long prefix of all b"), b"1");
        assert_eq!(found(b"a long prefix of all c"), b"1");
        assert_eq!(found(b"a long way from c"), b"2");
        assert_eq!(found(b"a long way from a"), b"3");
        assert_eq!(value(&one, b"a long way from a", 5).as_deref(), Some(&b"2"[..]));
        assert_eq!(found(b"a "), b"4");
        assert_eq!(one.active().table.keys(), 6);
        assert_eq!(one.active().table.entries(), 7);
    }
}
