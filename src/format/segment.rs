//! The head of a log segment.
//!
//! ```text
//! off len field
//!   0   4 crc32c       of bytes 4..4096, salted with file id
//!   4   4 magic        "rseg"
//!   8  16 file id
//!  24   8 incarnation  whose log this is
//!  32   8 ordinal      of this life of the pages; never reused
//!  40  12 extent       where the segment itself lies
//!  52  12 successor    empty: there is none yet
//!  64     reserved     up to 4096
//! 4096    groups
//! ```
//!
//! The head is durable before the segment's first group is written, and names the segment that comes next before that one is needed.
//! Zeroed pages are recycled, so what lies behind the last group may be groups of an older life: they name another ordinal.

use std::ops::Range;

use super::Defect;
use super::checksum::{Checksum, FileId};
use super::codec::{EXTENT_BYTES, Reader, Writer};
use crate::ids::{BLOCK_BYTES, Extent, Incarnation};

/// Bytes of the head; groups follow.
pub(crate) const SEGMENT_HEADER_BYTES: usize = BLOCK_BYTES;
const MAGIC: [u8; 4] = *b"rseg";
const EXTENT_AT: usize = 40;
const SUCCESSOR_AT: usize = EXTENT_AT + EXTENT_BYTES;
/// No more than a sector, so that no write of it is torn.
const FIELDS_BYTES: usize = 64;
const _: () = assert!(FIELDS_BYTES == SUCCESSOR_AT + EXTENT_BYTES);
const _: () = assert!(EXTENT_AT == 4 + 4 + 16 + 8 + 8);
const _: () = assert!(FIELDS_BYTES <= SEGMENT_HEADER_BYTES);

/// Names a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SegmentRef {
    /// Its pages.
    pub extent: Extent,
    /// Which life of those pages.
    pub ordinal: u64,
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The file that it belongs to.
    pub file_id: FileId,
    /// Whose log this is.
    pub incarnation: Incarnation,
    /// Place in the chain; one more than that of the segment before.
    pub ordinal: u64,
    /// Where it lies.
    pub extent: Extent,
    /// The pages of the segment after it; may be empty.
    pub successor: Extent,
}

impl SegmentHeader {
    /// The head's block.
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        assert!(!self.extent.is_empty(), "a segment has pages");
        let mut block = [0; SEGMENT_HEADER_BYTES];
        let mut out = Writer::new(&mut block);
        out.u32(0).put(&MAGIC).put(&self.file_id).u64(self.incarnation.0).u64(self.ordinal);
        out.extent(self.extent).extent(self.successor);
        let crc = Checksum::salted(&self.file_id).and(&block[4..]).value();
        block[..4].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// Reads the head of a segment of the file with this id.
    pub(crate) fn decode(bytes: &[u8], file_id: &FileId) -> Result<SegmentHeader, Defect> {
        let Some(block) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err(Defect { what: "segment head is cut short", at: bytes.len() as u64 });
        };
        let mut reader = Reader::new(block, "segment head is cut short");
        if reader.u32()? != Checksum::salted(file_id).and(&block[4..]).value() {
            return Err(Defect { what: "segment head checksum does not match", at: 0 });
        }
        if reader.array()? != MAGIC || reader.array()? != *file_id {
            return Err(Defect { what: "not a segment of this file", at: 4 });
        }
        let (incarnation, ordinal) = (Incarnation(reader.u64()?), reader.u64()?);
        let (extent, successor) = (reader.extent_not_empty()?, reader.extent()?);
        reader.zeros(reader.remaining())?;
        Ok(SegmentHeader { file_id: *file_id, incarnation, ordinal, extent, successor })
    }

    /// What is left of the head of a segment, of which all but the successor is known.
    pub(crate) fn remains(
        block: &[u8; SEGMENT_HEADER_BYTES],
        known: SegmentRef,
        of: (&FileId, Incarnation),
    ) -> Remains {
        let (file_id, incarnation) = (*of.0, of.1);
        let SegmentRef { extent, ordinal } = known;
        let named = Reader::new(&block[SUCCESSOR_AT..], "").extent().unwrap_or_default();
        let whole =
            SegmentHeader { file_id, incarnation, ordinal, extent, successor: named }.encode();
        let is_same = |bytes: Range<usize>| block[bytes.clone()] == whole[bytes];
        match is_same(0..4) {
            true => Remains::Whole(named),
            false if is_same(4..EXTENT_AT) => Remains::Damaged(named),
            false => Remains::Nothing,
        }
    }
}

/// What a block says about a segment whose head it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remains {
    /// The checksum of that head with this successor: it was written, whatever became of the other bytes.
    Whole(Extent),
    /// It says that it is that head, and its checksum is not. It names this successor.
    Damaged(Extent),
    /// It may never have been that head.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::super::mutate::{Chance, refuses_every_cut_and_flip};
    use super::*;
    use crate::ids::PageId;

    const FILE_ID: FileId = *b"0123456789abcdef";

    fn header() -> SegmentHeader {
        SegmentHeader {
            file_id: FILE_ID,
            incarnation: Incarnation(4),
            ordinal: 6,
            extent: Extent { start: PageId(2048), pages: 512 },
            successor: Extent { start: PageId(3000), pages: 512 },
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_segment_head_has_these_bytes() {
        let block = header().encode();
        assert_eq!(block[..64], [
            0x19, 0xFB, 0x69, 0xD5, b'r', b's', b'e', b'g', b'0', b'1', b'2', b'3', b'4', b'5', b'6', b'7',
            b'8', b'9', b'a', b'b', b'c', b'd', b'e', b'f', 4, 0, 0, 0, 0, 0, 0, 0,
            6, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0,
            0xB8, 0x0B, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0,
        ]);
        assert!(block[64..].iter().all(|&byte| byte == 0));
        assert_eq!(SegmentHeader::decode(&block, &FILE_ID), Ok(header()));
    }

    #[test]
    fn every_cut_and_flip_of_a_segment_head_is_refused() {
        let decodes = |bytes: &[u8]| SegmentHeader::decode(bytes, &FILE_ID).is_ok();
        refuses_every_cut_and_flip(&header().encode(), decodes);
    }

    #[test]
    fn of_a_head_with_a_flipped_byte_enough_remains() {
        let header = header();
        let known = SegmentRef { extent: header.extent, ordinal: header.ordinal };
        let remains = |block: &[u8; SEGMENT_HEADER_BYTES]| {
            SegmentHeader::remains(block, known, (&FILE_ID, header.incarnation))
        };
        assert_eq!(remains(&header.encode()), Remains::Whole(header.successor));
        for at in 0..SEGMENT_HEADER_BYTES {
            let mut block = header.encode();
            block[at] ^= 0x40;
            match at {
                0..4 => assert_eq!(remains(&block), Remains::Damaged(header.successor)),
                52..64 => assert!(matches!(remains(&block), Remains::Damaged(_)), "{at}"),
                _ => assert_eq!(remains(&block), Remains::Whole(header.successor), "{at}"),
            }
        }
        for other in [
            SegmentHeader { ordinal: 5, ..header },
            SegmentHeader { incarnation: Incarnation(3), ..header },
        ] {
            assert_eq!(remains(&other.encode()), Remains::Nothing);
        }
        assert_eq!(remains(&[0; SEGMENT_HEADER_BYTES]), Remains::Nothing);
    }

    #[test]
    fn a_segment_of_another_file_is_refused() {
        assert!(SegmentHeader::decode(&header().encode(), &[0; 16]).is_err());
    }

    #[test]
    fn damaged_heads_never_panic_and_what_decodes_encodes_the_same() {
        let mut chance = Chance::new(5);
        for _ in 0..20_000 {
            let mut block = header().encode();
            chance.damage(&mut block[4..80]);
            let crc = Checksum::salted(&FILE_ID).and(&block[4..]).value();
            block[..4].copy_from_slice(&crc.to_le_bytes());
            if let Ok(decoded) = SegmentHeader::decode(&block, &FILE_ID) {
                assert_eq!(decoded.encode(), block);
            }
        }
    }
}
