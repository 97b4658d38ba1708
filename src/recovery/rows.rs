//! Rows of the log on their way into memtables.
//!
//! Many are sorted by family and key before they go in: neighbours then find the leaf in the processor's cache, where rows as they
//! were committed would wait for memory at every step.

use std::sync::Arc;

use bytes::Bytes;
use ringdb_frames::bring_near;

use crate::format::record::Found;
use crate::ids::Seq;
use crate::memtable::Kind;
use crate::state::Family;

/// Bytes of rows that are sorted at a time, more or less.
const SORTED_BYTES: usize = 16 << 20;

/// Rows that are asked for ahead of need: in key order each lies somewhere else.
const ROWS_AHEAD: usize = 8;

/// Rows that were read and are in no memtable yet.
#[derive(Default)]
pub(super) struct Rows {
    families: Vec<Arc<Family>>,
    /// Groups of the log.
    payloads: Vec<Bytes>,
    rows: Vec<Row>,
    bytes: usize,
}

struct Row {
    family: u32,
    payload: u32,
    /// The key's first bytes, as they compare.
    head: u64,
    start: usize,
    len: usize,
    key_len: usize,
    seq: Seq,
    kind: Kind,
}

impl Row {
    fn bytes<'a>(&self, payloads: &'a [Bytes]) -> &'a [u8] {
        &payloads[self.payload as usize][self.start..self.start + self.len]
    }

    fn key<'a>(&self, payloads: &'a [Bytes]) -> &'a [u8] {
        &self.bytes(payloads)[..self.key_len]
    }
}

impl Rows {
    /// The rows that come next are in this group.
    pub(super) fn begin_group(&mut self, payload: Bytes) {
        self.payloads.push(payload);
    }

    /// Takes a row of the newest group.
    pub(super) fn push(&mut self, seq: Seq, family: &Arc<Family>, kind: Kind, found: &Found<'_>) {
        let family = self.number(family);
        let payload = self.payloads.len() - 1;
        let (start, len, key_len) = (found.row.start, found.row.len(), found.key_bytes);
        let key = &self.payloads[payload][start..start + key_len];
        let head = head(key);
        let payload = u32::try_from(payload).expect("groups are few");
        self.rows.push(Row { family, payload, head, start, len, key_len, seq, kind });
        self.bytes += len;
    }

    fn number(&mut self, family: &Arc<Family>) -> u32 {
        let known = self.families.iter().rposition(|known| Arc::ptr_eq(known, family));
        let number = known.unwrap_or_else(|| {
            self.families.push(family.clone());
            self.families.len() - 1
        });
        u32::try_from(number).expect("families are numbered by 32 bits")
    }

    /// Whether there are enough to be sorted.
    pub(super) fn are_many(&self) -> bool {
        self.bytes >= SORTED_BYTES
    }

    /// Puts all of them into their memtables.
    pub(super) fn apply(&mut self) {
        let payloads = &self.payloads;
        // Of two rows of a key with the same seq the later one counts: the order of equals is kept.
        self.rows.sort_by(|a, b| {
            let heads = (a.family, a.head).cmp(&(b.family, b.head));
            let keys = || a.key(payloads).cmp(b.key(payloads));
            heads.then_with(keys).then(a.seq.cmp(&b.seq))
        });
        for (index, row) in self.rows.iter().enumerate() {
            if let Some(later) = self.rows.get(index + ROWS_AHEAD) {
                bring_near(later.bytes(payloads));
            }
            let family = &self.families[row.family as usize];
            let insert = |table: &crate::memtable::Memtable| {
                table.insert(row.seq, row.kind, row.bytes(payloads), row.key_len);
            };
            family.with_memtable_of(row.seq, insert);
        }
        self.rows.clear();
        self.payloads.clear();
        self.families.clear();
        self.bytes = 0;
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
    use crate::ids::FamilyId;

    /// Takes rows of one-byte keys and values, each with its seq, as one group.
    fn take(rows: &mut Rows, family: &Arc<Family>, group: &[(&[u8; 2], u64)]) {
        let bytes: Vec<u8> = group.iter().flat_map(|(row, _)| row.to_vec()).collect();
        rows.begin_group(Bytes::from(bytes));
        for (index, (row, seq)) in group.iter().enumerate() {
            let (key, value) = row.split_at(1);
            let op = Op::Put { family: family.id, key, value };
            let found = Found { op, row: 2 * index..2 * index + 2, key_bytes: 1 };
            rows.push(Seq(*seq), family, Kind::Put, &found);
        }
    }

    fn value(family: &Family, key: &[u8], at: u64) -> Option<Vec<u8>> {
        let active = family.active();
        active.table.get(key, Seq(at)).map(|found| found.value.to_vec())
    }

    #[test]
    fn rows_go_where_they_belong_and_the_last_of_a_batch_counts() {
        let family = |id| Family::new(FamilyId(id), "rows", Logging::Logged, Seq(0));
        let (one, other) = (family(1), family(2));
        let mut rows = Rows::default();
        take(&mut rows, &one, &[(b"b1", 1), (b"a1", 1), (b"b2", 1)]);
        take(&mut rows, &other, &[(b"a7", 2)]);
        take(&mut rows, &one, &[(b"b3", 3)]);
        assert!(!rows.are_many());
        rows.apply();
        assert_eq!(value(&one, b"a", 9).as_deref(), Some(&b"1"[..]));
        assert_eq!(value(&one, b"b", 2).as_deref(), Some(&b"2"[..]));
        assert_eq!(value(&one, b"b", 3).as_deref(), Some(&b"3"[..]));
        assert_eq!(value(&other, b"a", 9).as_deref(), Some(&b"7"[..]));
        assert_eq!(value(&other, b"b", 9), None);
        take(&mut rows, &other, &[(b"b8", 4)]);
        rows.apply();
        assert_eq!(value(&other, b"b", 9).as_deref(), Some(&b"8"[..]));
    }
}
