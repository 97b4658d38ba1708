//! Checksums: crc32c over a salt and then the bytes.
//!
//! The salt is the file's id, and for pages their place too, so that a block of another file, or of another place in this one,
//! fails like a flipped bit. A salt that differs always gives another sum for the same bytes (crc is a bijection of its state),
//! except that two file ids share a sum once in 2^32. A checksum is no defence against forgery.

use crate::ids::PageId;

/// Drawn at random when the file is created; never changes.
pub(crate) type FileId = [u8; 16];

/// A crc32c in the making.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checksum(u32);

impl Checksum {
    /// Begins with the salt that everything in the file has.
    pub(crate) fn salted(file_id: &FileId) -> Checksum {
        Checksum(crc32c::crc32c(file_id))
    }

    /// Goes on with the place of what is summed.
    pub(crate) fn at_page(self, page: PageId) -> Checksum {
        self.and(&page.0.to_le_bytes())
    }

    /// Goes on with more bytes.
    pub(crate) fn and(self, bytes: &[u8]) -> Checksum {
        Checksum(crc32c::crc32c_append(self.0, bytes))
    }

    /// The sum of all so far.
    pub(crate) fn value(self) -> u32 {
        self.0
    }
}

/// The sum of a run of pages that begins at `page`: of a node, a blob, or a MiB of a large value.
pub(crate) fn of_pages(file_id: &FileId, page: PageId, bytes: &[u8]) -> u32 {
    Checksum::salted(file_id).at_page(page).and(bytes).value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_another_file_or_place_has_another_sum() {
        let here = of_pages(&[1; 16], PageId(7), b"row");
        assert_eq!(here, of_pages(&[1; 16], PageId(7), b"row"));
        assert_ne!(here, of_pages(&[2; 16], PageId(7), b"row"));
        assert_ne!(here, of_pages(&[1; 16], PageId(8), b"row"));
        assert_ne!(here, of_pages(&[1; 16], PageId(7), b"sow"));
    }

    #[test]
    fn the_sum_is_crc32c_over_salt_place_and_bytes() {
        let mut all = vec![1; 16];
        all.extend_from_slice(&7_u64.to_le_bytes());
        all.extend_from_slice(b"row");
        assert_eq!(of_pages(&[1; 16], PageId(7), b"row"), crc32c::crc32c(&all));
        assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283);
    }
}
