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

use super::Defect;
use super::checksum::{Checksum, FileId};
use super::codec::{EXTENT_BYTES, Reader, Writer};
use crate::ids::{BLOCK_BYTES, Extent, Incarnation};

/// Bytes of the head; groups follow.
pub(crate) const SEGMENT_HEADER_BYTES: usize = BLOCK_BYTES;
const MAGIC: [u8; 4] = *b"rseg";
const SUCCESSOR_AT: usize = 52;
const FIELDS_BYTES: usize = 64;
const _: () = assert!(FIELDS_BYTES == SUCCESSOR_AT + EXTENT_BYTES);
const _: () = assert!(SUCCESSOR_AT == 4 + 4 + 16 + 8 + 8 + EXTENT_BYTES);
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

    /// The same of a block in which only what is reserved was damaged.
    pub(crate) fn decode_fields(bytes: &[u8], file_id: &FileId) -> Result<SegmentHeader, Defect> {
        let mut block = [0; SEGMENT_HEADER_BYTES];
        let fields = FIELDS_BYTES.min(bytes.len());
        block[..fields].copy_from_slice(&bytes[..fields]);
        SegmentHeader::decode(&block, file_id)
    }

    /// What is left of a head that does not decode: whether it says that it is the one of this place in the log, and the pages that it
    /// names as the next segment, or none.
    pub(crate) fn remains(
        block: &[u8],
        file_id: &FileId,
        incarnation: Incarnation,
        ordinal: u64,
    ) -> (bool, Extent) {
        let has = |at: usize, field: &[u8]| block.get(at..at + field.len()) == Some(field);
        let is_alike = has(4, &MAGIC)
            && has(8, file_id)
            && has(24, &incarnation.0.to_le_bytes())
            && has(32, &ordinal.to_le_bytes());
        let named = block.get(SUCCESSOR_AT..).map(|rest| Reader::new(rest, "").extent());
        (is_alike, named.and_then(Result::ok).unwrap_or_default())
    }
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
        for at in 0..SEGMENT_HEADER_BYTES {
            let mut block = header.encode();
            block[at] ^= 0x40;
            let (incarnation, ordinal) = (header.incarnation, header.ordinal);
            let (is_alike, named) = SegmentHeader::remains(&block, &FILE_ID, incarnation, ordinal);
            assert_eq!(is_alike, !(4..40).contains(&at), "{at}");
            assert_eq!(named == header.successor, !(52..64).contains(&at), "{at}");
            let fields = SegmentHeader::decode_fields(&block, &FILE_ID);
            assert_eq!(fields.is_ok_and(|fields| fields == header), at >= FIELDS_BYTES, "{at}");
        }
        let nothing = SegmentHeader::remains(&[0; 4096], &FILE_ID, header.incarnation, 6);
        assert_eq!(nothing, (false, Extent::default()));
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
