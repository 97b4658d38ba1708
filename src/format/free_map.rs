//! The free map: which pages are free, as one blob.
//!
//! ```text
//! off len field
//!   0   4 magic    "rfre"
//!   4   4 reserved
//!   8   8 extents
//!  16     per extent, in ascending order:
//!         gap      varint; pages between the end of the one before (or page 0) and this one
//!         pages    varint; at least 1
//! ```
//!
//! Varints, because a fragmented file has very many small extents: two to four bytes each instead of twelve. The blob's checksum is
//! in the reference that the superblock holds.
//!
//! The map has to lie in free pages itself, and taking those changes it: taking a run from one end of an extent changes one gap and
//! one length, by at most [`CHANGE_BYTES_MAX`], so whoever adds that to the size of the first encoding has room for the second.

use super::blob::BlobRef;
use super::checksum::FileId;
use super::codec::{Reader, put_varint};
use super::{Defect, lies_inside};
use crate::ids::{Extent, PageId};

/// How much longer the encoding of a map can get when one run is taken from it.
pub(crate) const CHANGE_BYTES_MAX: usize = 2 * (10 + 5);

const MAGIC: [u8; 4] = *b"rfre";
const EXTENT_BYTES_MIN: usize = 2;

/// The blob that holds these extents, which ascend and do not overlap.
pub(crate) fn encode(extents: impl IntoIterator<Item = Extent>) -> Vec<u8> {
    let mut out = [MAGIC.as_slice(), &[0; 12]].concat();
    let (mut count, mut end) = (0_u64, 0);
    for extent in extents {
        assert!(!extent.is_empty() && extent.start.0 >= end, "free extents ascend");
        put_varint(&mut out, extent.start.0 - end);
        put_varint(&mut out, u64::from(extent.pages));
        end = extent.end().0;
        count += 1;
    }
    out[8..16].copy_from_slice(&count.to_le_bytes());
    out
}

/// Reads the blob that `blob` refers to, out of the bytes of its pages.
pub(crate) fn decode(
    pages: &[u8],
    blob: &BlobRef,
    file_id: &FileId,
    file_pages: u64,
) -> Result<Vec<Extent>, Defect> {
    decode_extents(blob.open(pages, file_id)?, file_pages)
}

fn decode_extents(bytes: &[u8], file_pages: u64) -> Result<Vec<Extent>, Defect> {
    let mut reader = Reader::new(bytes, "free map is cut short");
    if reader.array()? != MAGIC {
        return Err(Defect { what: "not a free map", at: 0 });
    }
    reader.zeros(4)?;
    let count = reader.u64()?;
    if count > (reader.remaining() / EXTENT_BYTES_MIN) as u64 {
        return Err(reader.defect("free map has more extents than bytes"));
    }
    let mut extents = Vec::with_capacity(count as usize);
    let mut end = 0_u64;
    for _ in 0..count {
        let before = reader.clone();
        let (gap, pages) = (reader.varint_u64()?, reader.varint_u32()?);
        let start =
            end.checked_add(gap).ok_or_else(|| before.defect("free extent is impossible"))?;
        let extent = Extent { start: PageId(start), pages };
        if extent.is_empty() || !lies_inside(extent, file_pages) {
            return Err(before.defect("free extent is impossible"));
        }
        end = extent.end().0;
        extents.push(extent);
    }
    reader.finish()?;
    Ok(extents)
}

#[cfg(test)]
mod tests {
    use super::super::mutate::Chance;
    use super::*;

    fn extents() -> Vec<Extent> {
        [(3, 2), (5, 1), (65, 300), (1000, 1)]
            .map(|(start, pages)| Extent { start: PageId(start), pages })
            .to_vec()
    }

    #[test]
    #[rustfmt::skip]
    fn a_free_map_has_these_bytes() {
        let bytes = encode(extents());
        assert_eq!(bytes, [
            b'r', b'f', b'r', b'e', 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0,
            3, 2, 0, 1, 59, 0xAC, 2, 0xFB, 4, 1,
        ]);
        assert_eq!(decode_extents(&bytes, 1001), Ok(extents()));
        assert_eq!(decode_extents(&encode([]), 0), Ok(Vec::new()));
    }

    #[test]
    fn a_free_map_is_read_out_of_its_pages() {
        let bytes = encode(extents());
        let blob = BlobRef::of(&bytes, Extent { start: PageId(9), pages: 1 }, &[1; 16]);
        let mut pages = bytes.clone();
        pages.resize(8192, 0);
        assert_eq!(decode(&pages, &blob, &[1; 16], 1001), Ok(extents()));
        for at in 0..bytes.len() {
            pages[at] ^= 4;
            assert!(decode(&pages, &blob, &[1; 16], 1001).is_err());
            pages[at] ^= 4;
        }
    }

    #[test]
    fn impossible_free_maps_are_defects() {
        let bytes = encode(extents());
        let what = |at: usize, byte: u8, file_pages: u64| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            decode_extents(&bytes, file_pages).unwrap_err().what
        };
        assert_eq!(what(0, 0, 1001), "not a free map");
        assert_eq!(what(5, 1, 1001), "reserved byte is not zero");
        assert_eq!(what(15, 0xFF, 1001), "free map has more extents than bytes");
        assert_eq!(what(8, 3, 1001), "more bytes than expected");
        assert_eq!(what(8, 4, 1000), "free extent is impossible");
        assert_eq!(what(17, 0, 1001), "free extent is impossible");
        assert_eq!(what(20, 58, 1001), "free extent is impossible", "page 64 is never free");
    }

    #[test]
    fn taking_one_run_changes_the_size_by_little() {
        let mut chance = Chance::new(9);
        for _ in 0..2_000 {
            let mut all = extents();
            let index = chance.below(4) as usize;
            let taken = 1 + chance.below(u64::from(all[index].pages)) as u32;
            let before = encode(all.clone()).len();
            all[index].start.0 += u64::from(taken);
            all[index].pages -= taken;
            all.retain(|extent| !extent.is_empty());
            assert!(encode(all).len() <= before + CHANGE_BYTES_MAX);
        }
    }

    #[test]
    fn damaged_free_maps_never_panic_and_what_decodes_encodes_the_same() {
        let mut chance = Chance::new(6);
        for _ in 0..50_000 {
            let mut bytes = encode(extents());
            chance.damage(&mut bytes);
            if let Ok(decoded) = decode_extents(&bytes, u64::MAX) {
                assert_eq!(encode(decoded), bytes);
            }
        }
    }
}
