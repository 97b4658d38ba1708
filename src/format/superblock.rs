//! The superblock: names the current checkpoint and where the log that has to be replayed begins.
//!
//! ```text
//! off  len field
//!   0    8 magic            "ringdb", 1, 0
//!   8    4 version
//!  12    4 crc32c           of all other bytes, salted with file id
//!  16   16 file id
//!  32    4 page bytes       8192
//!  36    4 cipher           0: none; reserved for encryption
//!  40    8 generation       from 1 on; its lowest bit is the slot
//!  48    8 incarnation      of the opening that wrote this
//!  56    8 checkpoint seq   all commits up to here are in the trees
//!  64    8 next seq         no smaller seq may be given out
//!  72    8 next segment     no smaller ordinal may be given out
//!  80    8 file pages
//!  88    4 next family      no smaller id may be given out
//!  92    1 closed           1: cleanly
//!  93    1 chapters         at most 32
//!  94    2 reserved
//!  96   24 catalog          blob reference
//! 120   24 free map         blob reference
//! 144  112 reserved
//! 256 2048 chapters         64 bytes each, see `chapter`; unused ones are zero
//! 2304     reserved         up to 4096
//! ```
//!
//! The first 32 bytes mean the same in every version, so that a build can tell an intact file of another version from a damaged
//! one of its own. Each generation is written twice, half a MiB apart, and leaves the generation before it untouched.

use super::blob::{BLOB_REF_BYTES, BlobRef};
use super::chapter::{CHAPTER_BYTES, Chapter};
use super::checksum::{Checksum, FileId};
use super::codec::{Reader, Writer};
use super::{COUNTER_MAX, Defect, SUPERBLOCK_PAGES, lies_inside};
use crate::ids::{BLOCK_BYTES, FamilyId, Generation, Incarnation, PAGE_BYTES, Seq};

/// Bytes of one copy.
pub(crate) const SUPERBLOCK_BYTES: usize = BLOCK_BYTES;
/// What a file of ours begins with.
pub(crate) const MAGIC: [u8; 8] = *b"ringdb\x01\0";
/// The format that this build reads and writes.
pub(crate) const VERSION: u32 = 1;
/// The generation that creating a file writes; only then may a slot be empty.
pub(crate) const FIRST_GENERATION: Generation = Generation(1);
/// A new chapter is only begun when there is room; a checkpoint closes all but the last.
pub(crate) const CHAPTERS_MAX: usize = 32;

const VERSION_AT: usize = MAGIC.len();
const CRC_AT: usize = VERSION_AT + 4;
const FILE_ID_AT: usize = CRC_AT + 4;
const CATALOG_AT: usize = 96;
const CHAPTERS_AT: usize = 256;
const _: () = assert!(FILE_ID_AT + 16 == 32);
const _: () = assert!(CATALOG_AT + 2 * BLOB_REF_BYTES == 144);
const _: () = assert!(CHAPTERS_AT + CHAPTERS_MAX * CHAPTER_BYTES == 2304);
const _: () = assert!(2 * SUPERBLOCK_BYTES <= PAGE_BYTES);

/// Where the copies lie in the file: A0, A1, B0, B1.
pub(crate) const COPY_OFFSETS: [u64; 4] =
    [copy_offset(0, 0), copy_offset(0, 1), copy_offset(1, 0), copy_offset(1, 1)];
const _: () = assert!(COPY_OFFSETS[2] == 512 << 10);

const fn copy_offset(page: usize, slot: u64) -> u64 {
    SUPERBLOCK_PAGES[page].0 * PAGE_BYTES as u64 + slot * SUPERBLOCK_BYTES as u64
}

/// Where the two copies of this generation are written, in this order.
pub(crate) fn offsets(generation: Generation) -> [u64; 2] {
    let slot = generation.0 % 2;
    [copy_offset(0, slot), copy_offset(1, slot)]
}

/// Everything that has to be known before anything else can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    /// Salt of every checksum in the file.
    pub file_id: FileId,
    /// One more with each superblock.
    pub generation: Generation,
    /// The opening that wrote this.
    pub incarnation: Incarnation,
    /// All commits up to here are in the trees that the catalog names.
    pub checkpoint_seq: Seq,
    /// No smaller seq may be given out.
    pub seq_next_min: Seq,
    /// No smaller family id may be given out.
    pub next_family: FamilyId,
    /// No smaller segment ordinal may be given out.
    pub next_segment: u64,
    /// Pages of the file; all that is named here lies inside.
    pub file_pages: u64,
    /// The column families and their trees.
    pub catalog: BlobRef,
    /// The pages that are free.
    pub free_map: BlobRef,
    /// One per incarnation that still has log to replay, oldest first; all but the last have ended.
    pub chapters: Vec<Chapter>,
    /// Whether there is log to replay at all.
    pub closed: Closed,
}

/// How the database was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// By a close that recorded the end of the log.
    Cleanly,
    /// Not yet.
    No,
}

/// Why a copy, or a file, is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It does not begin as a file of ours does.
    NotOurs,
    /// It is intact, and has this version of the format.
    Version(u32),
    /// It is ours and damaged.
    Defect(Defect),
}

impl From<Defect> for Refused {
    fn from(defect: Defect) -> Refused {
        Refused::Defect(defect)
    }
}

impl Superblock {
    /// The bytes of one copy.
    pub(crate) fn encode(&self) -> [u8; SUPERBLOCK_BYTES] {
        self.check().expect("a superblock of our own making is sound");
        let mut block = [0; SUPERBLOCK_BYTES];
        let mut out = Writer::new(&mut block);
        out.put(&MAGIC).u32(VERSION).u32(0).put(&self.file_id).u32(PAGE_BYTES as u32).u32(0);
        out.u64(self.generation.0).u64(self.incarnation.0).u64(self.checkpoint_seq.0);
        out.u64(self.seq_next_min.0).u64(self.next_segment).u64(self.file_pages);
        out.u32(self.next_family.0).u8(u8::from(self.closed == Closed::Cleanly));
        out.u8(self.chapters.len() as u8).zeros_to(CATALOG_AT);
        self.catalog.encode(&mut out);
        self.free_map.encode(&mut out);
        out.zeros_to(CHAPTERS_AT);
        for chapter in &self.chapters {
            chapter.encode(&mut out);
        }
        let crc = checksum(&block);
        block[CRC_AT..FILE_ID_AT].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// Reads one copy.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Superblock, Refused> {
        if !bytes.starts_with(&MAGIC) {
            return Err(Refused::NotOurs);
        }
        let Some(block) = bytes.first_chunk::<SUPERBLOCK_BYTES>() else {
            let (what, at) = ("superblock is cut short", bytes.len() as u64);
            return Err(Defect { what, at }.into());
        };
        if word(block, CRC_AT) != checksum(block) {
            let (what, at) = ("superblock checksum does not match", CRC_AT as u64);
            return Err(Defect { what, at }.into());
        }
        match word(block, VERSION_AT) {
            VERSION => Ok(Superblock::decode_fields(block)?),
            version => Err(Refused::Version(version)),
        }
    }

    fn decode_fields(block: &[u8; SUPERBLOCK_BYTES]) -> Result<Superblock, Defect> {
        let mut reader = Reader::starting_at(block, FILE_ID_AT, "superblock is cut short");
        let file_id = reader.array()?;
        if reader.u32()? != PAGE_BYTES as u32 {
            return Err(reader.defect("page size is not 8192"));
        }
        if reader.u32()? != 0 {
            return Err(reader.defect("cipher is unknown"));
        }
        let (generation, incarnation) = (Generation(reader.u64()?), Incarnation(reader.u64()?));
        let (checkpoint_seq, seq_next_min) = (Seq(reader.u64()?), Seq(reader.u64()?));
        let (next_segment, file_pages) = (reader.u64()?, reader.u64()?);
        let next_family = FamilyId(reader.u32()?);
        let closed = match reader.u8()? {
            0 => Closed::No,
            1 => Closed::Cleanly,
            _ => return Err(reader.defect("closed is neither 0 nor 1")),
        };
        let chapter_count = usize::from(reader.u8()?);
        reader.zeros_to(CATALOG_AT)?;
        let (catalog, free_map) = (BlobRef::decode(&mut reader)?, BlobRef::decode(&mut reader)?);
        reader.zeros_to(CHAPTERS_AT)?;
        let chapters = decode_chapters(&mut reader, chapter_count)?;
        reader.zeros(reader.remaining())?;
        let superblock = Superblock {
            file_id,
            generation,
            incarnation,
            checkpoint_seq,
            seq_next_min,
            next_family,
            next_segment,
            file_pages,
            catalog,
            free_map,
            chapters,
            closed,
        };
        superblock.check().map_err(|what| Defect { what, at: FILE_ID_AT as u64 })?;
        let counters = [
            superblock.generation.0,
            superblock.incarnation.0,
            superblock.seq_next_min.0,
            superblock.next_segment,
        ];
        let ordinals = superblock.chapters.iter().map(|chapter| chapter.segment.ordinal);
        if counters.into_iter().chain(ordinals).any(|counter| counter > COUNTER_MAX) {
            return Err(Defect { what: "a counter is impossibly large", at: FILE_ID_AT as u64 });
        }
        Ok(superblock)
    }

    /// What holds for every superblock, our own and those from disk.
    fn check(&self) -> Result<(), &'static str> {
        let blobs = [self.catalog.extent, self.free_map.extent];
        let segments = self.chapters.iter().map(|chapter| chapter.segment.extent);
        let mut named = blobs.into_iter().filter(|blob| !blob.is_empty()).chain(segments);
        let mut pairs = self.chapters.windows(2);
        if self.generation < FIRST_GENERATION {
            return Err("generation is zero");
        }
        if self.seq_next_min <= self.checkpoint_seq {
            return Err("next seq is not above the checkpoint's");
        }
        if self.chapters.len() > CHAPTERS_MAX {
            return Err("too many chapters");
        }
        if self.file_pages <= SUPERBLOCK_PAGES[1].0 {
            return Err("file has no place for both copies");
        }
        if !named.all(|extent| lies_inside(extent, self.file_pages)) {
            return Err("superblock names pages outside the file");
        }
        if !pairs.all(|pair| pair[0].incarnation < pair[1].incarnation && pair[0].end.is_some()) {
            return Err("chapters are out of order");
        }
        if self.chapters.last().is_some_and(|last| last.incarnation > self.incarnation) {
            return Err("chapter is newer than its superblock");
        }
        Ok(())
    }
}

fn decode_chapters(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Chapter>, Defect> {
    if count > CHAPTERS_MAX {
        return Err(reader.defect("too many chapters"));
    }
    (0..count).map(|_| Chapter::decode(reader)).collect()
}

pub(super) fn checksum(block: &[u8; SUPERBLOCK_BYTES]) -> u32 {
    let file_id = block[FILE_ID_AT..].first_chunk().expect("the file id lies inside the block");
    Checksum::salted(file_id).and(&block[..CRC_AT]).and(&block[FILE_ID_AT..]).value()
}

/// The version that a copy claims, whether or not the copy is intact.
pub(super) fn claimed_version(bytes: &[u8]) -> Option<u32> {
    let head = bytes.strip_prefix(&MAGIC)?.first_chunk()?;
    Some(u32::from_le_bytes(*head))
}

fn word(block: &[u8; SUPERBLOCK_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(*block[at..].first_chunk().expect("the head lies inside the block"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::chapter::ChapterEnd;
    use super::super::mutate::{Chance, refuses_every_cut_and_flip};
    use super::super::segment::SegmentRef;
    use super::*;
    use crate::ids::{Extent, PageId};

    pub(in super::super) fn superblock(generation: u64) -> Superblock {
        let extent = |start, pages| Extent { start: PageId(start), pages };
        let segment = |start, ordinal| SegmentRef { extent: extent(start, 512), ordinal };
        let end =
            ChapterEnd { last_seq: Seq(88), last_crc: 0x1234, ordinal: 5, offset_bytes: 8192 };
        Superblock {
            file_id: *b"0123456789abcdef",
            generation: Generation(generation),
            incarnation: Incarnation(4),
            checkpoint_seq: Seq(70),
            seq_next_min: Seq(100),
            next_family: FamilyId(3),
            next_segment: 7,
            file_pages: 4096,
            catalog: BlobRef { extent: extent(2, 1), len_bytes: 50, crc: 0xAABB },
            free_map: BlobRef { extent: extent(9, 2), len_bytes: 9000, crc: 0xCCDD },
            chapters: vec![
                Chapter { incarnation: Incarnation(3), segment: segment(1024, 5), end: Some(end) },
                Chapter { incarnation: Incarnation(4), segment: segment(2048, 6), end: None },
            ],
            closed: Closed::No,
        }
    }

    pub(in super::super) fn repair(block: &mut [u8; SUPERBLOCK_BYTES]) {
        let crc = checksum(block);
        block[CRC_AT..FILE_ID_AT].copy_from_slice(&crc.to_le_bytes());
    }

    #[test]
    #[rustfmt::skip]
    fn a_superblock_has_these_bytes() {
        let block = superblock(8).encode();
        assert_eq!(block[..144], [
            b'r', b'i', b'n', b'g', b'd', b'b', 1, 0, 1, 0, 0, 0, 0xE3, 0xA5, 0x92, 0xC0,
            b'0', b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'8', b'9', b'a', b'b', b'c', b'd', b'e', b'f',
            0, 0x20, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0,
            4, 0, 0, 0, 0, 0, 0, 0, 70, 0, 0, 0, 0, 0, 0, 0,
            100, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
            0, 0x10, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 2, 0, 0,
            2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0xBB, 0xAA, 0, 0, 50, 0, 0, 0, 0, 0, 0, 0,
            9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0xDD, 0xCC, 0, 0, 0x28, 0x23, 0, 0, 0, 0, 0, 0,
        ]);
        assert_eq!(block[256..384], [
            3, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0,
            88, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0x34, 0x12, 0, 0, 0, 0, 0, 0,
            4, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        assert!(block[144..256].iter().chain(&block[384..]).all(|&byte| byte == 0));
    }

    #[test]
    fn counters_that_could_overflow_are_refused() {
        let changes: [fn(&mut Superblock); 5] = [
            |superblock| superblock.generation.0 = COUNTER_MAX + 2,
            |superblock| superblock.incarnation.0 = u64::MAX,
            |superblock| superblock.seq_next_min.0 = u64::MAX,
            |superblock| superblock.next_segment = COUNTER_MAX + 1,
            |superblock| superblock.chapters[1].segment.ordinal = u64::MAX,
        ];
        for change in changes {
            let mut superblock = superblock(8);
            change(&mut superblock);
            let refused = Superblock::decode(&superblock.encode()).unwrap_err();
            let Refused::Defect(defect) = refused else { panic!("{refused:?}") };
            assert_eq!(defect.what, "a counter is impossibly large");
        }
    }

    #[test]
    fn what_was_encoded_decodes() {
        let mut superblock = superblock(8);
        assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock.clone()));
        superblock.closed = Closed::Cleanly;
        superblock.chapters.clear();
        assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock.clone()));
        for ordinal in 0..CHAPTERS_MAX as u64 {
            let extent = Extent { start: PageId(100 + ordinal), pages: 1 };
            let end = ChapterEnd { last_seq: Seq(1), last_crc: 2, ordinal, offset_bytes: 4 };
            let segment = SegmentRef { extent, ordinal };
            let incarnation = Incarnation(ordinal);
            superblock.chapters.push(Chapter { incarnation, segment, end: Some(end) });
            superblock.incarnation = incarnation;
        }
        assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
    }

    #[test]
    fn every_cut_and_flip_of_a_superblock_is_refused() {
        refuses_every_cut_and_flip(&superblock(8).encode(), |b| Superblock::decode(b).is_ok());
    }

    #[test]
    fn refusals_say_what_they_are() {
        let refused = |change: fn(&mut [u8; SUPERBLOCK_BYTES])| {
            let mut block = superblock(8).encode();
            change(&mut block);
            Superblock::decode(&block).unwrap_err()
        };
        let defect = |what, at| Refused::Defect(Defect { what, at });
        assert_eq!(refused(|b| b[0] = 0), Refused::NotOurs);
        assert_eq!(refused(|b| b[8] = 2), defect("superblock checksum does not match", 12));
        assert_eq!(
            refused(|b| {
                b[8] = 2;
                repair(b)
            }),
            Refused::Version(2)
        );
        assert_eq!(
            refused(|b| {
                b[33] = 0x10;
                repair(b)
            }),
            defect("page size is not 8192", 36)
        );
        assert_eq!(
            refused(|b| {
                b[200] = 1;
                repair(b)
            }),
            defect("reserved byte is not zero", 200)
        );
        assert_eq!(
            refused(|b| {
                b[4095] = 1;
                repair(b)
            }),
            defect("reserved byte is not zero", 4095)
        );
        assert_eq!(
            refused(|b| {
                b[93] = 33;
                repair(b)
            }),
            defect("too many chapters", 256)
        );
        assert_eq!(
            refused(|b| {
                b[80..82].copy_from_slice(&[64, 0]);
                repair(b)
            }),
            defect("file has no place for both copies", 16)
        );
        assert_eq!(
            refused(|b| {
                b[96] = 0;
                repair(b)
            }),
            defect("extent is impossible", 96)
        );
        assert_eq!(Superblock::decode(&MAGIC), Err(defect("superblock is cut short", 8)));
        assert_eq!(Superblock::decode(b"SQLite format 3\0"), Err(Refused::NotOurs));
        assert_eq!(Superblock::decode(b""), Err(Refused::NotOurs));
    }

    #[test]
    fn damaged_superblocks_never_panic_and_what_decodes_encodes_the_same() {
        let mut chance = Chance::new(7);
        for _ in 0..20_000 {
            let mut block = superblock(8).encode();
            chance.damage(&mut block[FILE_ID_AT..400]);
            repair(&mut block);
            if let Ok(decoded) = Superblock::decode(&block) {
                assert_eq!(decoded.encode(), block);
            }
        }
    }

    #[test]
    fn copies_of_a_generation_lie_half_a_mebibyte_apart() {
        assert_eq!(COPY_OFFSETS, [0, 4096, 524_288, 528_384]);
        assert_eq!(offsets(Generation(6)), [0, 524_288]);
        assert_eq!(offsets(Generation(7)), [4096, 528_384]);
    }
}
