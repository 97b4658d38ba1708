//! A chapter: where the superblock says that the log of one incarnation begins, and, if that is known, ends.
//!
//! ```text
//! off len field
//!   0   8 incarnation
//!   8  12 extent            of the first segment to replay
//!  20   4 ended             1: the fields from last seq on are known, else they are 0
//!  24   8 ordinal           of the first segment to replay
//!  32   8 last seq
//!  40   8 last ordinal      of the segment that holds the last group
//!  48   8 last offset       where the next group would begin in that segment
//!  56   4 last crc          of the last group
//!  60   4 reserved
//! ```
//!
//! There is more than one only after crashes: each opening begins a chapter of its own and never appends to an old one, and a
//! checkpoint that has all commits of a chapter forgets it.

use super::Defect;
use super::codec::{EXTENT_BYTES, Reader, Writer};
use super::segment::SegmentRef;
use crate::ids::{Incarnation, Seq};

/// Bytes of an encoded chapter.
pub(crate) const CHAPTER_BYTES: usize = 64;
const END_BYTES: usize = 32;
const _: () = assert!(CHAPTER_BYTES == 8 + EXTENT_BYTES + 4 + 8 + END_BYTES);
const _: () = assert!(END_BYTES == 3 * 8 + 2 * 4);

/// The log of one incarnation, from the first segment that holds commits which no tree has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chapter {
    /// Whose log.
    pub incarnation: Incarnation,
    /// Where replay begins.
    pub segment: SegmentRef,
    /// Where it ends, if a close or a recovery has seen that.
    pub end: Option<ChapterEnd>,
}

/// The known end of a chapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChapterEnd {
    /// The last commit.
    pub last_seq: Seq,
    /// Checksum of the last group.
    pub last_crc: u32,
    /// The segment that holds the last group.
    pub ordinal: u64,
    /// Where in that segment the next group would begin.
    pub offset_bytes: u64,
}

impl Chapter {
    /// Appends the chapter.
    pub(crate) fn encode(&self, out: &mut Writer<'_>) {
        out.u64(self.incarnation.0).extent(self.segment.extent).u32(u32::from(self.end.is_some()));
        out.u64(self.segment.ordinal);
        match self.end {
            None => out.put(&[0; END_BYTES]),
            Some(end) => out
                .u64(end.last_seq.0)
                .u64(end.ordinal)
                .u64(end.offset_bytes)
                .u32(end.last_crc)
                .u32(0),
        };
    }

    /// Reads a chapter.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Chapter, Defect> {
        let incarnation = Incarnation(reader.u64()?);
        let extent = reader.extent_not_empty()?;
        let ended = reader.u32()?;
        let segment = SegmentRef { extent, ordinal: reader.u64()? };
        let end = match ended {
            0 => reader.zeros(END_BYTES).map(|()| None)?,
            1 => Some(ChapterEnd::decode(reader)?),
            _ => return Err(reader.defect("ended is neither 0 nor 1")),
        };
        Ok(Chapter { incarnation, segment, end })
    }
}

impl ChapterEnd {
    fn decode(reader: &mut Reader<'_>) -> Result<ChapterEnd, Defect> {
        let (last_seq, ordinal) = (Seq(reader.u64()?), reader.u64()?);
        let (offset_bytes, last_crc) = (reader.u64()?, reader.u32()?);
        reader.zeros(4)?;
        Ok(ChapterEnd { last_seq, last_crc, ordinal, offset_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Extent, PageId};

    #[test]
    #[rustfmt::skip]
    fn a_chapter_has_these_bytes() {
        let extent = Extent { start: PageId(1024), pages: 512 };
        let end = ChapterEnd { last_seq: Seq(88), last_crc: 0x1234, ordinal: 9, offset_bytes: 8192 };
        let segment = SegmentRef { extent, ordinal: 5 };
        let chapter = Chapter { incarnation: Incarnation(3), segment, end: Some(end) };
        let mut bytes = [0; CHAPTER_BYTES];
        chapter.encode(&mut Writer::new(&mut bytes));
        assert_eq!(bytes, [
            3, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0,
            88, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0x34, 0x12, 0, 0, 0, 0, 0, 0,
        ]);
        let decode = |bytes: &[u8]| Chapter::decode(&mut Reader::new(bytes, "short"));
        assert_eq!(decode(&bytes), Ok(chapter));
        bytes[20] = 0;
        assert_eq!(decode(&bytes).unwrap_err().what, "reserved byte is not zero");
        bytes[20] = 2;
        assert_eq!(decode(&bytes).unwrap_err().what, "ended is neither 0 nor 1");
    }
}
