//! A value that lies in an extent of its own: what the log and the leaves hold in its place.
//!
//! ```text
//! off len field
//!   0  12 extent  exactly the pages that the value needs
//!  12   8 len     bytes of the value, 1 to 2^30
//!  20   4 crc32c  of the first MiB, salted with file id and the MiB's first page
//!  24   4 crc32c  of the second; and so on to the end
//! ```
//!
//! One sum per MiB, so that a part of a value can be read and checked without the rest (I7).

use super::Defect;
use super::checksum::{FileId, of_pages};
use super::codec::{EXTENT_BYTES, Reader, encode_extent};
use crate::ids::{Extent, PAGE_BYTES, PageId};

/// Bytes of the longest value.
pub(crate) const VALUE_BYTES_MAX: u64 = 1 << 30;
/// Bytes that one checksum covers; the last one of a value may cover fewer.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;
const _: () = assert!(CHUNK_BYTES.is_multiple_of(PAGE_BYTES));
const FIXED_BYTES: usize = EXTENT_BYTES + 8;
const CRC_BYTES: usize = 4;

/// Names a value in an extent of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtentValue {
    /// Its pages; the rest of the last one is zero.
    pub extent: Extent,
    /// Its own bytes.
    pub len_bytes: u64,
    /// A checksum per MiB.
    pub crcs: Vec<u32>,
}

impl ExtentValue {
    /// Pages that a value of so many bytes needs.
    pub(crate) fn pages(len_bytes: u64) -> u64 {
        len_bytes.div_ceil(PAGE_BYTES as u64)
    }

    /// Bytes of the encoded reference to a value of so many bytes.
    pub(crate) fn encoded_bytes(len_bytes: u64) -> u64 {
        FIXED_BYTES as u64 + chunks(len_bytes) * CRC_BYTES as u64
    }

    /// Refers to `bytes`, which are about to be written to `extent`.
    #[cfg(test)]
    pub(crate) fn of(bytes: &[u8], extent: Extent, file_id: &FileId) -> ExtentValue {
        let mut value = ExtentValue::empty(extent);
        bytes.chunks(CHUNK_BYTES).for_each(|chunk| value.push_chunk(chunk, file_id));
        value
    }

    /// Refers to nothing yet, in `extent`.
    pub(crate) fn empty(extent: Extent) -> ExtentValue {
        ExtentValue { extent, len_bytes: 0, crcs: Vec::new() }
    }

    /// Takes in the next MiB, which is about to be written; only the last may be shorter.
    pub(crate) fn push_chunk(&mut self, bytes: &[u8], file_id: &FileId) {
        assert!(self.len_bytes.is_multiple_of(CHUNK_BYTES as u64), "no chunk follows a short one");
        assert!((1..=CHUNK_BYTES).contains(&bytes.len()), "a chunk is at most a MiB");
        self.crcs.push(of_pages(file_id, chunk_page(self.extent.start, self.crcs.len()), bytes));
        self.len_bytes += bytes.len() as u64;
    }

    /// Whether these are the bytes of the MiB with this index (I7).
    pub(crate) fn verify_chunk(
        &self,
        index: usize,
        bytes: &[u8],
        file_id: &FileId,
    ) -> Result<(), Defect> {
        let at = (index as u64).saturating_mul(CHUNK_BYTES as u64);
        let Some(&crc) = self.crcs.get(index) else {
            return Err(Defect { what: "value has no such part", at });
        };
        let len = self.len_bytes.saturating_sub(at).min(CHUNK_BYTES as u64);
        if bytes.len() as u64 != len {
            return Err(Defect { what: "value is cut short", at });
        }
        if of_pages(file_id, chunk_page(self.extent.start, index), bytes) != crc {
            return Err(Defect { what: "value checksum does not match", at });
        }
        Ok(())
    }

    /// The reference's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.check().expect("a reference of our own making is sound");
        let mut out = Vec::with_capacity(FIXED_BYTES + self.crcs.len() * CRC_BYTES);
        out.extend_from_slice(&encode_extent(self.extent));
        out.extend_from_slice(&self.len_bytes.to_le_bytes());
        self.crcs.iter().for_each(|crc| out.extend_from_slice(&crc.to_le_bytes()));
        out
    }

    /// Reads a reference that is all of `bytes`; their own checksum is that of the group or node that holds them.
    pub(crate) fn decode(bytes: &[u8]) -> Result<ExtentValue, Defect> {
        let mut reader = Reader::new(bytes, "value reference is cut short");
        let (extent, len_bytes) = (reader.extent_not_empty()?, reader.u64()?);
        if reader.remaining() as u64 != chunks(len_bytes).saturating_mul(CRC_BYTES as u64) {
            return Err(reader.defect("value has a wrong number of checksums"));
        }
        let (crcs, _) = reader.take(reader.remaining())?.as_chunks();
        let crcs = crcs.iter().map(|crc| u32::from_le_bytes(*crc)).collect();
        let value = ExtentValue { extent, len_bytes, crcs };
        value.check().map_err(|what| Defect { what, at: 0 })?;
        Ok(value)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.len_bytes > VALUE_BYTES_MAX {
            return Err("value is longer than 1 GiB");
        }
        if self.len_bytes == 0 || ExtentValue::pages(self.len_bytes) != u64::from(self.extent.pages)
        {
            return Err("value does not fit its pages");
        }
        if self.crcs.len() as u64 != chunks(self.len_bytes) {
            return Err("value has a wrong number of checksums");
        }
        Ok(())
    }
}

fn chunks(len_bytes: u64) -> u64 {
    len_bytes.div_ceil(CHUNK_BYTES as u64)
}

fn chunk_page(start: PageId, index: usize) -> PageId {
    PageId(start.0 + index as u64 * (CHUNK_BYTES / PAGE_BYTES) as u64)
}

#[cfg(test)]
mod tests {
    use super::super::mutate::Chance;
    use super::*;

    fn extent(start: u64, pages: u32) -> Extent {
        Extent { start: PageId(start), pages }
    }

    #[test]
    #[rustfmt::skip]
    fn a_reference_has_these_bytes() {
        let value = ExtentValue { extent: extent(70, 129), len_bytes: 1_048_577, crcs: vec![1, 2] };
        let bytes = value.encode();
        assert_eq!(bytes, [
            70, 0, 0, 0, 0, 0, 0, 0, 129, 0, 0, 0, 1, 0, 0x10, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0,
        ]);
        assert_eq!(bytes.len() as u64, ExtentValue::encoded_bytes(1_048_577));
        assert_eq!(ExtentValue::decode(&bytes), Ok(value));
    }

    #[test]
    fn each_mebibyte_is_checked_by_itself() {
        let bytes: Vec<u8> = (0..CHUNK_BYTES + 5).map(|index| index as u8).collect();
        let value = ExtentValue::of(&bytes, extent(100, 129), &[3; 16]);
        let parts: Vec<_> = bytes.chunks(CHUNK_BYTES).collect();
        assert_eq!(value.verify_chunk(0, parts[0], &[3; 16]), Ok(()));
        assert_eq!(value.verify_chunk(1, parts[1], &[3; 16]), Ok(()));
        for (index, part) in [(1, parts[0]), (0, parts[1]), (2, parts[1]), (1, &parts[1][..4])] {
            assert!(value.verify_chunk(index, part, &[3; 16]).is_err());
        }
        assert!(value.verify_chunk(0, parts[0], &[4; 16]).is_err());
    }

    #[test]
    fn references_that_claim_more_than_they_hold_are_refused() {
        let mut bytes =
            ExtentValue { extent: extent(70, 1), len_bytes: 8192, crcs: vec![1] }.encode();
        bytes[12..20].copy_from_slice(&u64::MAX.to_le_bytes());
        let what = "value has a wrong number of checksums";
        assert_eq!(ExtentValue::decode(&bytes), Err(Defect { what, at: 20 }));
        bytes[12..20].copy_from_slice(&8193_u64.to_le_bytes());
        let what = "value does not fit its pages";
        assert_eq!(ExtentValue::decode(&bytes), Err(Defect { what, at: 0 }));
    }

    #[test]
    fn no_reference_is_to_more_than_a_gibibyte() {
        let of = |len_bytes: u64| {
            let pages = u32::try_from(ExtentValue::pages(len_bytes)).unwrap();
            let mut bytes = encode_extent(extent(70, pages)).to_vec();
            bytes.extend_from_slice(&len_bytes.to_le_bytes());
            bytes.resize(ExtentValue::encoded_bytes(len_bytes) as usize, 0);
            ExtentValue::decode(&bytes)
        };
        assert!(of(VALUE_BYTES_MAX).is_ok());
        let what = "value is longer than 1 GiB";
        assert_eq!(of(VALUE_BYTES_MAX + 1), Err(Defect { what, at: 0 }));
    }

    #[test]
    fn damaged_references_never_panic_and_what_decodes_encodes_the_same() {
        let whole = ExtentValue { extent: extent(70, 129), len_bytes: 1_048_577, crcs: vec![1, 2] };
        let mut chance = Chance::new(2);
        for _ in 0..20_000 {
            let mut bytes = whole.encode();
            chance.damage(&mut bytes);
            if let Ok(decoded) = ExtentValue::decode(&bytes) {
                assert_eq!(decoded.encode(), bytes);
            }
        }
    }
}
