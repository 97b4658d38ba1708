//! A group: the commits that share one log write and one sync.
//!
//! ```text
//! off len field
//!   0   4 crc32c        of bytes 4..64+len, salted with file id
//!   4   4 magic         "rgrp"
//!   8   4 len           bytes of the payload
//!  12   4 previous crc  of the group before; 0 in the first of an incarnation
//!  16   8 incarnation
//!  24   8 segment       ordinal of the segment that holds it
//!  32   8 first seq
//!  40   8 durable       largest durable seq when this was written
//!  48   8 generation    of the newest superblock when this was written
//!  56   4 seqs          last seq + 1 - first seq; commits to unlogged families leave gaps
//!  60   4 commits
//!  64     payload       the commits, see `commits`
//!         padding       zero, up to the next block; not summed: what lies there changes no answer
//! ```
//!
//! A group begins at a block border and never leaves its segment. One without commits is a seal: it only names the durable seq.
//! Incarnation and segment name the life of the pages, so that a group of an older life is never taken for one of this, and the
//! previous crc chains them, so that none is missing in between.

use super::checksum::{Checksum, FileId};
use super::codec::{Reader, Writer};
use super::commits::COMMIT_HEADER_BYTES;
use super::{COUNTER_MAX, Defect};
use crate::ids::{BLOCK_BYTES, Generation, Incarnation, Seq};

/// Room for the head at the front of a group's buffer.
pub(crate) const GROUP_HEADER_BYTES: usize = 64;
const MAGIC: [u8; 4] = *b"rgrp";
const _: () = assert!(GROUP_HEADER_BYTES == 4 * 4 + 5 * 8 + 2 * 4);
const _: () = assert!(GROUP_HEADER_BYTES < BLOCK_BYTES);

/// What a group says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    /// Bytes of the payload.
    pub len_bytes: u32,
    /// Checksum of the group before; 0 in the first of an incarnation.
    pub previous_crc: u32,
    /// Whose log.
    pub incarnation: Incarnation,
    /// Ordinal of the segment that holds it.
    pub segment: u64,
    /// Seqs of its commits begin here; in a seal, the seq that comes next.
    pub first_seq: Seq,
    /// Seqs of its commits end here; in a seal, one less than `first_seq`.
    pub last_seq: Seq,
    /// Largest durable seq when it was written.
    pub durable: Seq,
    /// The newest superblock when it was written.
    pub generation: Generation,
    /// How many commits the payload holds.
    pub commits: u32,
}

/// A group that was found intact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group<'a> {
    /// What it says of itself.
    pub header: GroupHeader,
    /// Its checksum, which the next group repeats.
    pub crc: u32,
    /// Its commits.
    pub payload: &'a [u8],
}

/// A group that is ready to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Bytes to write, a multiple of the block.
    pub len_bytes: usize,
    /// Its checksum, which the next group repeats.
    pub crc: u32,
}

/// What can be said of a candidate without reading all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peek {
    /// Bytes of the payload.
    pub len_bytes: u32,
    /// Whose log.
    pub incarnation: Incarnation,
    /// Ordinal of the segment.
    pub segment: u64,
}

/// Bytes that a group with this payload takes in the log.
pub(crate) fn padded_bytes(payload_bytes: usize) -> usize {
    (GROUP_HEADER_BYTES + payload_bytes).next_multiple_of(BLOCK_BYTES)
}

/// Completes a group in place: its payload begins at byte 64 of `buf` and has `header.len_bytes`.
///
/// `buf` has room for the padding, which is zeroed.
pub(crate) fn seal(buf: &mut [u8], header: &GroupHeader, file_id: &FileId) -> Sealed {
    header.check().expect("a group of our own making is sound");
    let end = GROUP_HEADER_BYTES + header.len_bytes as usize;
    let len_bytes = padded_bytes(header.len_bytes as usize);
    buf[end..len_bytes].fill(0);
    header.encode(&mut buf[..GROUP_HEADER_BYTES]);
    let crc = Checksum::salted(file_id).and(&buf[4..end]).value();
    buf[..4].copy_from_slice(&crc.to_le_bytes());
    Sealed { len_bytes, crc }
}

/// Looks at a candidate without its checksum: whether it could be a group at all.
pub(crate) fn peek(bytes: &[u8]) -> Option<Peek> {
    peek_front(bytes, bytes.len() as u64)
}

/// Looks at no more than the front of a candidate, which has so many bytes to the end of its segment.
pub(crate) fn peek_front(front: &[u8], rest_bytes: u64) -> Option<Peek> {
    let mut reader = Reader::starting_at(front, 4, "");
    let (magic, len_bytes) = (reader.array().ok()?, reader.u32().ok()?);
    reader.u32().ok()?;
    let (incarnation, segment) = (Incarnation(reader.u64().ok()?), reader.u64().ok()?);
    let fits = GROUP_HEADER_BYTES as u64 + u64::from(len_bytes) <= rest_bytes;
    (magic == MAGIC && fits).then_some(Peek { len_bytes, incarnation, segment })
}

/// Reads the group at the front of `bytes`, which reach to the end of its segment.
pub(crate) fn open<'a>(bytes: &'a [u8], file_id: &FileId) -> Result<Group<'a>, Defect> {
    let Some(peek) = peek(bytes) else {
        return Err(Defect { what: "there is no group", at: 0 });
    };
    let (head, rest) = bytes.split_at(GROUP_HEADER_BYTES);
    let payload = &rest[..peek.len_bytes as usize];
    let mut reader = Reader::new(head, "group head is cut short");
    let crc = reader.u32()?;
    if crc != Checksum::salted(file_id).and(&head[4..]).and(payload).value() {
        return Err(Defect { what: "group checksum does not match", at: 0 });
    }
    Ok(Group { header: GroupHeader::decode(reader)?, crc, payload })
}

impl Group<'_> {
    /// Bytes that it takes in the log.
    pub(crate) fn padded_bytes(&self) -> usize {
        padded_bytes(self.payload.len())
    }
}

impl GroupHeader {
    fn encode(&self, head: &mut [u8]) {
        let seqs = (self.last_seq.0 + 1 - self.first_seq.0) as u32;
        let mut out = Writer::new(head);
        out.u32(0).put(&MAGIC).u32(self.len_bytes).u32(self.previous_crc);
        out.u64(self.incarnation.0).u64(self.segment);
        out.u64(self.first_seq.0).u64(self.durable.0).u64(self.generation.0);
        out.u32(seqs).u32(self.commits);
    }

    /// Reads what follows the checksum.
    fn decode(mut reader: Reader<'_>) -> Result<GroupHeader, Defect> {
        reader.array::<4>()?;
        let (len_bytes, previous_crc) = (reader.u32()?, reader.u32()?);
        let (incarnation, segment) = (Incarnation(reader.u64()?), reader.u64()?);
        let first_seq = Seq(reader.u64()?);
        let (durable, generation) = (Seq(reader.u64()?), Generation(reader.u64()?));
        let (seqs, commits) = (reader.u32()?, reader.u32()?);
        let last = first_seq.0.checked_add(u64::from(seqs)).and_then(|end| end.checked_sub(1));
        let last_seq = Seq(last.ok_or_else(|| reader.defect("group's seqs are impossible"))?);
        let header = GroupHeader {
            len_bytes,
            previous_crc,
            incarnation,
            segment,
            first_seq,
            last_seq,
            durable,
            generation,
            commits,
        };
        header.check().map_err(|what| Defect { what, at: 0 })?;
        if header.last_seq.0 > COUNTER_MAX {
            return Err(reader.defect("group's seqs are impossible"));
        }
        Ok(header)
    }

    /// What holds for every group, our own and those from disk.
    fn check(&self) -> Result<(), &'static str> {
        let seqs = self.last_seq.0.checked_add(1).and_then(|end| end.checked_sub(self.first_seq.0));
        let Some(seqs) = seqs.and_then(|seqs| u32::try_from(seqs).ok()) else {
            return Err("group's seqs are impossible");
        };
        if self.durable > self.last_seq {
            return Err("group says that a later seq is durable");
        }
        if self.commits > seqs {
            return Err("group has more commits than seqs");
        }
        if u64::from(self.commits) * COMMIT_HEADER_BYTES as u64 > u64::from(self.len_bytes) {
            return Err("group has more commits than bytes");
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::mutate::{Chance, refuses_every_cut_and_flip};
    use super::*;

    pub(in super::super) const FILE_ID: FileId = *b"0123456789abcdef";

    fn header() -> GroupHeader {
        GroupHeader {
            len_bytes: 16,
            previous_crc: 0x0A0B_0C0D,
            incarnation: Incarnation(4),
            segment: 6,
            first_seq: Seq(100),
            last_seq: Seq(103),
            durable: Seq(99),
            generation: Generation(8),
            commits: 2,
        }
    }

    fn sealed() -> Vec<u8> {
        let mut buf = vec![0x77; 2 * BLOCK_BYTES];
        assert_eq!(seal(&mut buf, &header(), &FILE_ID).len_bytes, BLOCK_BYTES);
        buf.truncate(BLOCK_BYTES);
        buf
    }

    #[test]
    #[rustfmt::skip]
    fn a_group_has_these_bytes() {
        let bytes = sealed();
        assert_eq!(bytes[..80], [
            0xDB, 0x7B, 0xCA, 0x5C, b'r', b'g', b'r', b'p', 16, 0, 0, 0, 0x0D, 0x0C, 0x0B, 0x0A,
            4, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0,
            100, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0,
            8, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0,
            0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77,
        ]);
        assert!(bytes[80..].iter().all(|&byte| byte == 0));
        let group = open(&bytes, &FILE_ID).unwrap();
        assert_eq!((group.header, group.payload), (header(), &[0x77; 16][..]));
        assert_eq!(group.padded_bytes(), BLOCK_BYTES);
    }

    #[test]
    fn every_cut_and_flip_of_a_group_is_refused() {
        refuses_every_cut_and_flip(&sealed()[..80], |bytes| open(bytes, &FILE_ID).is_ok());
    }

    #[test]
    fn padding_is_not_part_of_a_group() {
        let mut bytes = sealed();
        bytes[80..].fill(1);
        assert!(open(&bytes, &FILE_ID).is_ok());
    }

    #[test]
    fn a_group_of_another_file_is_refused() {
        assert!(open(&sealed(), &[0; 16]).is_err());
    }

    #[test]
    fn a_seal_has_no_commits() {
        let seal_header = GroupHeader { len_bytes: 0, last_seq: Seq(99), commits: 0, ..header() };
        let mut buf = vec![0; BLOCK_BYTES];
        seal(&mut buf, &seal_header, &FILE_ID);
        assert_eq!(open(&buf, &FILE_ID).unwrap().header, seal_header);
    }

    #[test]
    fn groups_take_whole_blocks() {
        for (payload, padded) in [(0, 4096), (4032, 4096), (4033, 8192), (8128, 8192)] {
            assert_eq!(padded_bytes(payload), padded);
        }
    }

    #[test]
    fn impossible_heads_are_refused_although_the_checksum_matches() {
        for change in [
            |h: &mut GroupHeader| h.durable = Seq(104),
            |h: &mut GroupHeader| h.commits = 5,
            |h: &mut GroupHeader| h.len_bytes = 15,
            |h: &mut GroupHeader| (h.first_seq, h.last_seq, h.durable) = (Seq(0), Seq(3), Seq(9)),
        ] {
            let mut header = header();
            change(&mut header);
            let mut bytes = sealed();
            header.encode(&mut bytes[..GROUP_HEADER_BYTES]);
            repair(&mut bytes);
            assert_ne!(open(&bytes, &FILE_ID).unwrap_err().what, "group checksum does not match");
        }
    }

    #[test]
    fn damaged_groups_never_panic() {
        let mut chance = Chance::new(3);
        for _ in 0..20_000 {
            let mut bytes = sealed();
            chance.damage(&mut bytes[8..64]);
            repair(&mut bytes);
            if let Ok(group) = open(&bytes, &FILE_ID) {
                let (crc, mut again) = (group.crc, bytes.clone());
                assert_eq!(seal(&mut again, &group.header, &FILE_ID).crc, crc);
            }
        }
    }

    fn repair(bytes: &mut [u8]) {
        let len = u32::from_le_bytes(*bytes[8..].first_chunk().unwrap()) as usize;
        let end = (GROUP_HEADER_BYTES + len).min(bytes.len());
        let crc = Checksum::salted(&FILE_ID).and(&bytes[4..end]).value();
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
    }
}
