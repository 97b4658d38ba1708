//! Memtables whose leaves are made at once, of rows that are copied and of rows that stay in segments of the log.

use ringdb_uring::{BLOCK_BYTES, Buf};

use super::tests::{memtable, put};
use super::*;

/// A row with memory of its own.
pub(super) struct Gathered {
    pub(super) seq: Seq,
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
    pub(super) key_len: usize,
}

impl Gathered {
    pub(super) fn row(&self) -> NewRow<'_> {
        NewRow { seq: self.seq, kind: self.kind, bytes: &self.bytes, key_len: self.key_len }
    }
}

/// Makes the leaves of a memtable in two parts, of rows that are copied or stay in a segment.
pub(super) fn fill(memtable: &Memtable, rows: &[Gathered], border: usize, stay: bool) {
    let bytes: usize = rows.iter().map(|row| row.bytes.len()).sum();
    let (mut segment, mut end) = (Buf::zeroed((bytes + 1).next_multiple_of(BLOCK_BYTES)), 0);
    let mut place = |row: &Gathered| {
        segment[end..][..row.bytes.len()].copy_from_slice(&row.bytes);
        let place = RowPlace::in_segment(0, end as u32);
        end += row.bytes.len();
        place
    };
    let keys = || rows.iter().map(|row| row.row().key());
    let prefix_len = match (keys().min(), keys().max()) {
        (Some(least), Some(greatest)) => head::common_len(least, greatest),
        _ => 0,
    };
    let fill_row = |row| FillRow {
        row: Gathered::row(row),
        place: place(row),
        head: head::head8(&row.row().key()[prefix_len..]),
        hash: KeyHash::of(row.row().key()),
    };
    let rows: Vec<FillRow<'_>> = rows.iter().map(fill_row).collect();
    let segments: Segments = Arc::new([Arc::new(segment)]);
    let parts = [&rows[..border], &rows[border..]];
    let segments = stay.then_some(&segments);
    let leaves =
        |part: &[FillRow<'_>]| memtable.leaves_of(part.iter().copied(), prefix_len, segments);
    memtable.fill(parts.map(leaves));
}

#[test]
fn leaves_made_at_once_are_charged_and_take_more_rows() {
    let rows: Vec<_> = (0..5_000_u64)
        .map(|number| Gathered {
            seq: Seq(1),
            kind: Kind::Put,
            bytes: format!("filled/{:08}{}", number * 10, "v".repeat(100)).into_bytes(),
            key_len: 15,
        })
        .collect();
    for stay in [false, true] {
        take_more_rows(&rows, stay);
    }
}

fn take_more_rows(rows: &[Gathered], stay: bool) {
    let memtable = memtable();
    memtable.expect(rows.len());
    fill(&memtable, rows, 0, stay);
    assert_eq!((memtable.entries(), memtable.keys()), (5_000, 5_000));
    let held: usize = rows.iter().map(|row| row.bytes.len()).sum();
    assert!((held..held * 2).contains(&memtable.bytes()), "{} of {held}", memtable.bytes());
    // Between, before and behind them, and with less in common than they have.
    let mut keys: Vec<_> =
        (0..5_000).map(|number| format!("filled/{:08}", number * 10 + 5)).collect();
    keys.extend(["a", "filled", "filled/000", "filled/00049999", "z"].map(str::to_owned));
    keys.iter().for_each(|key| put(&memtable, 2, key.as_bytes(), b"later"));
    assert_eq!(memtable.keys(), 10_005);
    let value = |key: &[u8]| memtable.get(key, Seq(9)).map(|found| found.value.len());
    assert!(keys.iter().all(|key| value(key.as_bytes()) == Some(5)));
    assert!(rows.iter().all(|row| value(row.row().key()) == Some(100)));
    assert_eq!(value(b"filled/00000001"), None);
}

#[test]
fn a_leaf_of_few_rows_costs_as_much_as_if_they_had_come_one_by_one() {
    let (filled, grown) = (memtable(), memtable());
    let bytes = b"key and value".to_vec();
    filled.expect(1);
    fill(&filled, &[Gathered { seq: Seq(1), kind: Kind::Put, bytes, key_len: 3 }], 0, false);
    put(&grown, 1, b"key", b" and value");
    assert!(filled.bytes() <= grown.bytes(), "{} and {}", filled.bytes(), grown.bytes());
}

#[test]
#[should_panic(expected = "only a memtable without rows is filled")]
fn a_memtable_with_rows_is_not_filled() {
    let memtable = memtable();
    put(&memtable, 1, b"a", b"1");
    let bytes = b"b2".to_vec();
    fill(&memtable, &[Gathered { seq: Seq(2), kind: Kind::Put, bytes, key_len: 1 }], 0, false);
}
