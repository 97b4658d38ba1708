//! A reference to a blob: the catalog or the free map, one contiguous run of pages that the superblock names.
//!
//! ```text
//! off len field
//!   0   8 start     first page
//!   8   4 pages     0: there is no blob, and all else is 0 too
//!  12   4 crc32c    of the blob's bytes, salted with file id and first page
//!  16   8 len       bytes of the blob, at most those of the pages
//! ```

use super::Defect;
use super::checksum::{FileId, of_pages};
use super::codec::{EXTENT_BYTES, Reader, Writer};
use crate::ids::{Extent, PAGE_BYTES};

/// Bytes of an encoded reference.
pub(crate) const BLOB_REF_BYTES: usize = 24;
const _: () = assert!(BLOB_REF_BYTES == EXTENT_BYTES + 4 + 8);

/// Where a blob is and what its bytes sum up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlobRef {
    /// The pages that hold it; the rest of the last one is zero.
    pub extent: Extent,
    /// Its own bytes.
    pub len_bytes: u64,
    /// Sum of its own bytes, salted with file id and first page.
    pub crc: u32,
}

impl BlobRef {
    /// Pages that a blob of so many bytes needs.
    pub(crate) fn pages(len_bytes: usize) -> u64 {
        len_bytes.div_ceil(PAGE_BYTES) as u64
    }

    /// Refers to `bytes`, which are about to be written to `extent`.
    pub(crate) fn of(bytes: &[u8], extent: Extent, file_id: &FileId) -> BlobRef {
        let len_bytes = bytes.len() as u64;
        assert!(len_bytes > 0 && len_bytes <= extent.len_bytes(), "blob does not fit its pages");
        BlobRef { extent, len_bytes, crc: of_pages(file_id, extent.start, bytes) }
    }

    /// The blob's own bytes out of those of its pages, checked (I7).
    pub(crate) fn open<'a>(&self, pages: &'a [u8], file_id: &FileId) -> Result<&'a [u8], Defect> {
        let len = usize::try_from(self.len_bytes).ok().filter(|&len| len <= pages.len());
        let Some(bytes) = len.map(|len| &pages[..len]) else {
            return Err(Defect { what: "blob is cut short", at: pages.len() as u64 });
        };
        if of_pages(file_id, self.extent.start, bytes) != self.crc {
            return Err(Defect { what: "blob checksum does not match", at: 0 });
        }
        Ok(bytes)
    }

    /// Appends the reference.
    pub(crate) fn encode(&self, out: &mut Writer<'_>) {
        assert!(self.is_sound(), "{self:?} cannot be written");
        out.extent(self.extent).u32(self.crc).u64(self.len_bytes);
    }

    /// Reads a reference.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<BlobRef, Defect> {
        let before = reader.clone();
        let (extent, crc) = (reader.extent()?, reader.u32()?);
        let blob = BlobRef { extent, crc, len_bytes: reader.u64()? };
        if blob.is_sound() { Ok(blob) } else { Err(before.defect("blob reference is impossible")) }
    }

    /// No blob at all, or one with bytes that fit its pages.
    fn is_sound(&self) -> bool {
        let fits = self.len_bytes > 0 && self.len_bytes <= self.extent.len_bytes();
        *self == BlobRef::default() || fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PageId;

    #[test]
    fn a_blob_is_known_by_its_bytes_place_and_file() {
        let extent = Extent { start: PageId(3), pages: 1 };
        let blob = BlobRef::of(b"abc", extent, &[1; 16]);
        assert_eq!(blob.open(b"abc\0\0", &[1; 16]), Ok(&b"abc"[..]));
        assert!(blob.open(b"abd\0\0", &[1; 16]).is_err());
        assert!(blob.open(b"ab", &[1; 16]).is_err());
        assert!(blob.open(b"abc", &[2; 16]).is_err());
        let elsewhere = Extent { start: PageId(4), pages: 1 };
        assert!(BlobRef { extent: elsewhere, ..blob }.open(b"abc", &[1; 16]).is_err());
    }

    #[test]
    fn impossible_references_are_defects() {
        let mut bytes = [0; BLOB_REF_BYTES];
        let blob = BlobRef {
            extent: Extent { start: PageId(9), pages: 2 },
            len_bytes: 16384,
            crc: 0xA1B2_C3D4,
        };
        blob.encode(&mut Writer::new(&mut bytes));
        assert_eq!(
            bytes,
            [9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0xD4, 0xC3, 0xB2, 0xA1, 0, 0x40, 0, 0, 0, 0, 0, 0]
        );
        let decode = |bytes: &[u8]| BlobRef::decode(&mut Reader::new(bytes, "short"));
        assert_eq!(decode(&bytes), Ok(blob));
        bytes[16] = 1;
        assert_eq!(decode(&bytes).unwrap_err().what, "blob reference is impossible");
        assert_eq!(decode(&[0; 24]), Ok(BlobRef::default()));
    }
}
