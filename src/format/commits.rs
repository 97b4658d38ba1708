//! The commits in a group's payload.
//!
//! ```text
//! off len field
//!   0   4 len        bytes of the operations
//!   4   4 seq delta  from the group's first seq
//!   8     operations see `record`
//! ```
//!
//! Commits follow each other without padding, in ascending order of seq. The head has a fixed size so that its place is known, and
//! a large record can be copied behind it, before the head is filled in.

use super::Defect;
use super::codec::Reader;
use super::group::{Group, GroupHeader};
use super::record::Ops;
use crate::ids::Seq;

/// Bytes before a commit's operations.
pub(crate) const COMMIT_HEADER_BYTES: usize = 8;

/// The head of a commit within its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommitHeader {
    /// Bytes of the operations.
    pub len_bytes: u32,
    /// Its seq, counted from the group's first.
    pub seq_delta: u32,
}

impl CommitHeader {
    /// The head's bytes.
    pub(crate) fn encode(self) -> [u8; COMMIT_HEADER_BYTES] {
        let bytes = u64::from(self.seq_delta) << 32 | u64::from(self.len_bytes);
        bytes.to_le_bytes()
    }

    fn decode(reader: &mut Reader<'_>) -> Result<CommitHeader, Defect> {
        let len_bytes = reader.u32()?;
        Ok(CommitHeader { len_bytes, seq_delta: reader.u32()? })
    }
}

/// A commit as it was logged.
#[derive(Clone, Debug)]
pub(crate) struct Commit<'a> {
    /// Its place in the total order.
    pub seq: Seq,
    /// What it does; places count from the front of the group's payload.
    pub ops: Ops<'a>,
}

/// The commits of an intact group, in order.
///
/// Ends with a defect if they are not as many, or not those seqs, that the head tells; such a group was never a torn one.
pub(crate) fn commits<'a>(group: &Group<'a>) -> Commits<'a> {
    let reader = Reader::new(group.payload, "commit is cut short");
    Commits { payload: group.payload, reader, header: group.header, next_delta: 0, seen: 0 }
}

/// Iterates over the commits of a group; nothing follows a defect.
#[derive(Clone, Debug)]
pub(crate) struct Commits<'a> {
    payload: &'a [u8],
    reader: Reader<'a>,
    header: GroupHeader,
    /// The least delta that the next commit may have.
    next_delta: u64,
    seen: u32,
}

impl<'a> Iterator for Commits<'a> {
    type Item = Result<Commit<'a>, Defect>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.remaining() == 0 {
            let complete = self.seen >= self.header.commits;
            self.seen = self.header.commits;
            return (!complete).then(|| Err(self.reader.defect("commits are missing")));
        }
        let commit = self.step();
        if commit.is_err() {
            self.seen = self.header.commits;
            self.reader = Reader::new(&[], "");
        }
        Some(commit)
    }
}

impl<'a> Commits<'a> {
    fn step(&mut self) -> Result<Commit<'a>, Defect> {
        let before = self.reader.clone();
        let header = CommitHeader::decode(&mut self.reader)?;
        let seq = Seq(self.header.first_seq.0.saturating_add(u64::from(header.seq_delta)));
        if u64::from(header.seq_delta) < self.next_delta || seq > self.header.last_seq {
            return Err(before.defect("commit's seq is out of order"));
        }
        if self.seen == self.header.commits {
            return Err(before.defect("more commits than the group's head tells"));
        }
        let start = self.reader.at();
        self.reader.take(header.len_bytes as usize)?;
        self.next_delta = u64::from(header.seq_delta) + 1;
        self.seen += 1;
        Ok(Commit { seq, ops: Ops::within(self.payload, start..self.reader.at()) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Encoder, Op};
    use super::*;
    use crate::ids::{FamilyId, Generation, Incarnation};

    fn header(payload: &[u8], commits: u32) -> GroupHeader {
        GroupHeader {
            len_bytes: payload.len() as u32,
            previous_crc: 0,
            incarnation: Incarnation(1),
            segment: 1,
            first_seq: Seq(100),
            last_seq: Seq(109),
            durable: Seq(99),
            generation: Generation(1),
            commits,
        }
    }

    fn payload(deltas: &[u32]) -> Vec<u8> {
        let mut payload = Vec::new();
        for &seq_delta in deltas {
            let mut ops = Vec::new();
            Encoder::new(&mut ops).delete(FamilyId(1), &[b'k'; 3]);
            let len_bytes = ops.len() as u32;
            payload.extend_from_slice(&CommitHeader { len_bytes, seq_delta }.encode());
            payload.extend_from_slice(&ops);
        }
        payload
    }

    fn check(payload: &[u8], commits_told: u32, expected: &[Result<u64, &str>]) {
        let header = header(payload, commits_told);
        let seen: Vec<_> = commits(&Group { header, crc: 0, payload })
            .map(|commit| commit.map(|commit| commit.seq.0).map_err(|defect| defect.what))
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_commit_head_has_these_bytes() {
        let head = CommitHeader { len_bytes: 0x0102, seq_delta: 7 };
        assert_eq!(head.encode(), [2, 1, 0, 0, 7, 0, 0, 0]);
    }

    #[test]
    fn commits_come_in_order_and_with_gaps() {
        check(&payload(&[0, 1, 9]), 3, &[Ok(100), Ok(101), Ok(109)]);
        check(&[], 0, &[]);
    }

    #[test]
    fn places_of_rows_count_from_the_payload() {
        let payload = payload(&[0, 1]);
        let header = header(&payload, 2);
        for commit in commits(&Group { header, crc: 0, payload: &payload }) {
            let found = commit.unwrap().ops.next().unwrap().unwrap();
            assert_eq!(payload[found.row], [b'k'; 3]);
            assert!(matches!(found.op, Op::Delete { .. }));
        }
    }

    #[test]
    fn commits_that_contradict_the_head_are_defects() {
        check(&payload(&[0, 1]), 3, &[Ok(100), Ok(101), Err("commits are missing")]);
        let surplus = Err("more commits than the group's head tells");
        check(&payload(&[0, 1, 2]), 2, &[Ok(100), Ok(101), surplus]);
        check(&payload(&[1, 1]), 2, &[Ok(101), Err("commit's seq is out of order")]);
        check(&payload(&[3, 10]), 2, &[Ok(103), Err("commit's seq is out of order")]);
        let whole = payload(&[0, 1]);
        check(&whole[..whole.len() - 1], 2, &[Ok(100), Err("commit is cut short")]);
    }
}
