//! Rows of the log on their way into memtables.
//!
//! Many are sorted by family and key before they go in: each leaf is then filled once, from its first key to its last, where rows
//! as they were committed would wait for memory at every step. Up to 16,384 rows of a segment are a run, which is sorted on a thread of
//! its own, unless it is short, while the next ones are replayed; runs are merged in the end, by two threads, one for lower keys and one for higher ones.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use ringdb_uring::Buf;

use crate::format::record::Found;
use crate::ids::{FamilyId, Seq};
use crate::memtable::{Kind, Segments, head8};
use crate::recovery::merge::Runs;
use crate::recovery::places::{Place, RUN_ROWS_MAX, RUNS_MAX, Row, Run, Sorting};
use crate::state::Family;

/// Rows stay in the segments of the log if all else in there is this part of it at most: records' heads, as a rule, and not the
/// padding of a lone writer's commits.
const BESIDES_SHARE: usize = 4;
/// Runs that are merged at a time, but for those of one more group: there are numbers for them, too.
const RUNS_MANY: usize = RUNS_MAX / 2;
/// Runs that are sorted on threads of their own at a time, at most. (I10)
const APART_MAX: usize = 4;
/// Rows that take long enough to be put in for it to be done while something is read.
const SLOW_ROWS_MIN: usize = 50_000;

/// Rows that were read and are in no memtable yet.
pub(super) struct Rows {
    families: Vec<Keys>,
    numbers: HashMap<FamilyId, Number, RandomState>,
    /// The family of the newest row.
    newest: Option<(FamilyId, Number)>,
    /// Segments of the log.
    segments: Vec<Arc<Buf>>,
    /// The newest rows, of the newest segment.
    run: Run,
    /// Those before, sorted unless places are outdated.
    runs: Vec<Sorting>,
    /// So many of the first ones are on no other thread.
    collected: usize,
    /// Runs without rows, whose memory was touched before.
    unused: Vec<Run>,
    /// Places were made behind a longer prefix than a family's keys have now.
    outdated: bool,
    rows: usize,
    /// How many rows there were when all were placed again.
    placed_again: usize,
    /// Bytes of keys and values.
    row_bytes: usize,
    /// Bytes of rows, and of segments but for the newest, which somebody else holds too.
    bytes: usize,
    bytes_max: usize,
}

/// The number of a family that has rows here.
#[derive(Clone, Copy)]
pub(super) struct Number(u32);

/// The keys of one family.
struct Keys {
    family: Arc<Family>,
    /// What all keys begin with; nothing before the first one.
    prefix: Option<Vec<u8>>,
}

impl Keys {
    /// Makes the prefix one that this key begins with too; gives how long it is, and whether it is shorter than it was.
    fn shorten_prefix(&mut self, key: &[u8]) -> (usize, bool) {
        let prefix = self.prefix.get_or_insert_with(|| key.to_vec());
        let is_shorter = !key.starts_with(prefix);
        if is_shorter {
            let shared = prefix.iter().zip(key).take_while(|(one, other)| one == other).count();
            prefix.truncate(shared);
        }
        (prefix.len(), is_shorter)
    }

    fn prefix_len(&self) -> usize {
        self.prefix.as_ref().map_or(0, Vec::len)
    }
}

impl Rows {
    /// Takes up to about so many bytes.
    pub(super) fn new(bytes_max: usize) -> Rows {
        Rows {
            families: Vec::new(),
            numbers: HashMap::default(),
            newest: None,
            segments: Vec::new(),
            run: Run::default(),
            runs: Vec::new(),
            collected: 0,
            unused: Vec::new(),
            outdated: false,
            rows: 0,
            placed_again: 0,
            row_bytes: 0,
            bytes: 0,
            bytes_max,
        }
    }

    /// All of them; none are left.
    pub(super) fn take(&mut self) -> Rows {
        std::mem::replace(self, Rows::new(self.bytes_max))
    }

    /// The rows that come next are in this segment.
    pub(super) fn are_in(&mut self, segment: &Arc<Buf>) {
        match self.segments.last() {
            Some(last) if Arc::ptr_eq(last, segment) => return,
            Some(last) => self.bytes += last.len(),
            None => {}
        }
        self.end_run();
        self.run.segment =
            u32::try_from(self.segments.len()).expect("there is memory for fewer segments");
        self.segments.push(segment.clone());
    }

    /// The number of a family, if it has rows here: found without looking for those whose rows lie side by side.
    pub(super) fn number(&mut self, family: FamilyId) -> Option<Number> {
        if self.newest.is_none_or(|(newest, _)| newest != family) {
            self.newest = Some((family, *self.numbers.get(&family)?));
        }
        self.newest.map(|(_, number)| number)
    }

    /// A number for a family that has none.
    pub(super) fn number_anew(&mut self, family: &Arc<Family>) -> Number {
        let next = u32::try_from(self.families.len()).expect("families are numbered by 32 bits");
        self.families.push(Keys { family: family.clone(), prefix: None });
        self.numbers.insert(family.id, Number(next));
        Number(next)
    }

    /// No row of this family follows: it has no number any more.
    pub(super) fn end_family(&mut self, family: FamilyId) {
        self.numbers.remove(&family);
        self.newest = None;
    }

    /// Takes a row of the newest segment; places of `found` count from `payload`.
    pub(super) fn push(
        &mut self,
        seq: Seq,
        family: Number,
        kind: Kind,
        found: &Found<'_>,
        payload: usize,
    ) {
        if self.run.rows.len() == RUN_ROWS_MAX {
            self.end_run();
        }
        let segment = &self.segments[self.run.segment as usize];
        let (start, len) = (payload + found.row.start, found.row.len());
        let key = &segment[start..][..found.key_bytes];
        let (prefix_len, is_shorter) = self.families[family.0 as usize].shorten_prefix(key);
        self.outdated |= is_shorter;
        let index = self.run.rows.len();
        let head = head8(&key[prefix_len..]);
        self.run.places.push(Place::new(family.0, head, self.runs.len(), index));
        self.run.rows.push(Row::new((seq, kind, family.0), (start, len), key));
        self.rows += 1;
        self.row_bytes += len;
        // A place is there twice while places are merged.
        self.bytes += size_of::<Row>() + 2 * size_of::<Place>();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Whether there are enough to be sorted.
    pub(super) fn are_many(&self) -> bool {
        self.bytes >= self.bytes_max || self.runs.len() >= RUNS_MANY
    }

    /// Whether to put them in takes a while.
    pub(super) fn are_slow(&self) -> bool {
        self.rows >= SLOW_ROWS_MIN
    }

    /// Has the newest rows sorted; what follows in their segment is another run.
    fn end_run(&mut self) {
        if self.run.rows.is_empty() {
            return;
        }
        self.unused.extend(self.runs[self.collected..].iter_mut().filter_map(Sorting::collect));
        let on_their_way = self.runs[self.collected..].iter().position(Sorting::is_apart);
        self.collected = on_their_way.map_or(self.runs.len(), |first| self.collected + first);
        let next = Run { segment: self.run.segment, ..self.unused.pop().unwrap_or_default() };
        let run = std::mem::replace(&mut self.run, next);
        if !self.outdated {
            let apart = self.runs[self.collected..].iter().filter(|run| run.is_apart()).count();
            let (sorting, memory) = Sorting::begin(run, apart < APART_MAX);
            self.runs.push(sorting);
            self.unused.extend(memory);
            return;
        }
        self.runs.push(Sorting::Done(run));
        // Not at every segment: each may have a family, or a key, that shortens a prefix.
        if self.rows >= 2 * self.placed_again {
            self.place_again();
        }
    }

    fn place_again(&mut self) {
        self.placed_again = self.rows;
        self.outdated = false;
        let (families, segments) = (&self.families, &self.segments);
        for (number, sorting) in self.runs.iter_mut().enumerate() {
            let mut run = std::mem::take(sorting).wait();
            let place = |(index, row): (usize, &Row)| {
                let key = row.key(&segments[run.segment as usize]);
                let prefix_len = families[row.family as usize].prefix_len();
                Place::new(row.family, head8(&key[prefix_len..]), number, index)
            };
            run.places = run.rows.iter().enumerate().map(place).collect();
            *sorting = Sorting::Done(run.sorted().0);
        }
    }

    /// Puts all of them into their memtables; gives the bytes that these keep besides, as rows stay in segments.
    pub(super) fn apply(mut self) -> usize {
        self.end_run();
        if self.outdated {
            self.place_again();
        }
        let runs: Vec<_> = self.runs.drain(..).map(Sorting::wait).collect();
        let mut next = vec![0; runs.len()];
        let runs = Runs { segments: &self.segments, runs: &runs };
        let (segments, besides) = self.segments_of_rows_that_stay().unzip();
        for (number, keys) in (0..).zip(&self.families) {
            let places = runs.of_family(number, &mut next);
            let rows = places.iter().map(|places| places.len()).sum();
            let table = &keys.family.active().table;
            let is_new = !table.has_rows();
            table.expect(rows);
            if is_new {
                let segments = segments.as_ref();
                let leaves = |places: &[Place]| {
                    let rows = runs.fill_rows(places, segments.is_none());
                    table.leaves_of(rows, keys.prefix_len(), segments)
                };
                table.fill(runs.by_two(&places, rows, leaves));
            } else {
                let insert = |places: &[Place]| {
                    table.insert_sorted(runs.fill_rows(places, true).map(|row| row.row));
                };
                runs.by_two(&places, rows, insert);
            }
        }
        besides.unwrap_or(0)
    }

    /// The segments, and how many bytes they have that are not of rows, if these are few enough for the rows to stay there. They do in
    /// memtables that have no rows yet, and a segment is kept for all or for none.
    fn segments_of_rows_that_stay(&self) -> Option<(Segments, usize)> {
        let bytes: usize = self.segments.iter().map(|segment| segment.len()).sum();
        let besides = bytes.saturating_sub(self.row_bytes);
        let are_new = || self.families.iter().all(|keys| !keys.family.active().table.has_rows());
        let stay = besides <= bytes / BESIDES_SHARE && are_new();
        stay.then(|| (self.segments.clone().into(), besides))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::catalog::Logging;
    use crate::format::record::Op;
    use crate::memtable::Pool;

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
            push(rows, *seq, family, Kind::Put, &found, payload);
        }
    }

    fn push(
        rows: &mut Rows,
        seq: u64,
        family: &Arc<Family>,
        kind: Kind,
        found: &Found<'_>,
        payload: usize,
    ) {
        let number = rows.number(family.id).unwrap_or_else(|| rows.number_anew(family));
        rows.push(Seq(seq), number, kind, found, payload);
    }

    fn value(family: &Family, key: &[u8], at: u64) -> Option<Vec<u8>> {
        let active = family.active();
        active.table.get(key, Seq(at)).map(|found| found.value.to_vec())
    }

    fn family(id: u32) -> Arc<Family> {
        Family::new(FamilyId(id), "rows", Logging::Logged, Seq(0), &Pool::new(1 << 20))
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
        rows.take().apply();
        assert!(!rows.are_many());
        assert_eq!(value(&one, b"a", 9).as_deref(), Some(&b"1"[..]));
        assert_eq!(value(&one, b"b", 2).as_deref(), Some(&b"2"[..]));
        assert_eq!(value(&one, b"b", 3).as_deref(), Some(&b"3"[..]));
        assert_eq!(value(&other, b"a", 9).as_deref(), Some(&b"7"[..]));
        assert_eq!(value(&other, b"b", 9), None);
        take(&mut rows, &other, b"", &[(b"b8", 4)]);
        rows.take().apply();
        assert_eq!(value(&other, b"b", 9).as_deref(), Some(&b"8"[..]));
    }

    #[test]
    fn rows_stay_in_segments_that_hold_little_else() {
        let (sparse, dense, mut rows) = (family(1), family(2), Rows::new(usize::MAX));
        let prefix = [b'p'; 1000];
        let group: [(&[u8; 2], u64); 4] = [(b"a1", 1), (b"b1", 1), (b"c1", 2), (b"d1", 2)];
        // Once there are rows, others are copied, and nothing is kept for them.
        for (family, len, besides) in
            [(&sparse, 3, 0), (&dense, 4, 4096 - 4 * 1002), (&dense, 4, 0)]
        {
            take(&mut rows, family, &prefix, &group[..len]);
            assert_eq!(rows.take().apply(), besides);
            let key = [&prefix[..], b"c"].concat();
            assert_eq!(value(family, &key, 9).as_deref(), Some(&b"1"[..]));
        }
    }

    #[test]
    fn a_family_has_its_number_until_it_ends_or_its_rows_are_applied() {
        let (one, other) = (family(1), family(2));
        let mut rows = Rows::new(usize::MAX);
        take(&mut rows, &one, b"", &[(b"a1", 1)]);
        take(&mut rows, &other, b"", &[(b"a2", 2)]);
        assert!(rows.number(one.id).is_some() && rows.number(other.id).is_some());
        assert!(rows.number(FamilyId(3)).is_none());
        rows.end_family(other.id);
        assert!(rows.number(one.id).is_some() && rows.number(other.id).is_none());
        rows.take().apply();
        assert!(rows.number(one.id).is_none());
        assert_eq!(value(&other, b"a", 2).as_deref(), Some(&b"2"[..]));
    }

    #[test]
    fn keys_are_told_apart_behind_what_they_share_and_behind_their_heads() {
        let one = family(1);
        let mut rows = Rows::new(usize::MAX);
        take(&mut rows, &one, b"a long prefix of all ", &[(b"c1", 1), (b"a1", 2), (b"b1", 3)]);
        // Here the prefix ends, and what follows it is longer than a head.
        take(&mut rows, &one, b"a long way from ", &[(b"c2", 4), (b"a2", 5), (b"a3", 6)]);
        take(&mut rows, &one, b"a", &[(b" 4", 7)]);
        rows.take().apply();
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

    /// Three segments of many rows each, more than a run has, so that helpers sort and fill; in the last two the keys turn out to share less.
    #[test]
    fn many_rows_of_several_segments_are_all_there() {
        const ROWS: u64 = 18_000;
        let (one, other) = (family(1), family(2));
        let key = |number: u64| match number {
            0..20_000 => format!("shared/{:06}", number * 7 % 20_000),
            _ => format!("s{:06}", number * 7 % 60_000),
        };
        let mut rows = Rows::new(usize::MAX);
        for first in [0, ROWS, 2 * ROWS] {
            let texts: Vec<_> =
                (first..first + ROWS).map(|number| (key(number), number.to_string())).collect();
            let bytes: usize = texts.iter().map(|(key, value)| key.len() + value.len()).sum();
            let mut segment = Buf::zeroed(bytes.next_multiple_of(4096));
            let mut starts = Vec::new();
            let mut at = 0;
            for text in texts.iter().flat_map(|(key, value)| [key, value]) {
                segment[at..][..text.len()].copy_from_slice(text.as_bytes());
                starts.push(at);
                at += text.len();
            }
            rows.are_in(&Arc::new(segment));
            for (index, (key, text)) in texts.iter().enumerate() {
                // Every third row is one of the other family, and one in eight is written again.
                let family = if index.is_multiple_of(3) { &other } else { &one };
                let op = Op::Put { family: family.id, key: b"", value: b"" };
                let start = starts[2 * index];
                let row = start..start + key.len() + text.len();
                let found = Found { op, row, key_bytes: key.len() };
                let seq = first + index as u64;
                push(&mut rows, seq + 1, family, Kind::Put, &found, 0);
                if index.is_multiple_of(8) {
                    push(&mut rows, seq + 2, family, Kind::Delete, &found, 0);
                }
            }
        }
        rows.take().apply();
        let newest = |number: u64| {
            let family = if (number % ROWS).is_multiple_of(3) { &other } else { &one };
            let found = family.active().table.get(key(number).as_bytes(), Seq(u64::MAX));
            found.map(|found| (found.kind, found.value.to_vec()))
        };
        for number in 0..3 * ROWS {
            let (kind, value) = newest(number).expect("a row that was pushed");
            match number % ROWS % 8 {
                0 => assert_eq!(kind, Kind::Delete),
                _ => assert_eq!((kind, value), (Kind::Put, number.to_string().into_bytes())),
            }
        }
        assert_eq!(one.active().table.keys() + other.active().table.keys(), 3 * ROWS as usize);
    }
}
