//! Reading and writing little-endian integers, varints and runs of pages, bounds checked.
//!
//! A varint is LEB128: seven bits a byte, the lowest first, the high bit says that more follow. Only the shortest form is read,
//! so that no two byte strings mean the same.

use super::{Defect, FILE_PAGES_MAX, lies_inside};
use crate::ids::{Extent, PageId};

/// Bytes of an encoded [`Extent`]: start u64, pages u32.
pub(crate) const EXTENT_BYTES: usize = 12;

/// Walks bytes from disk; every step is checked.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    short: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads from the front of `bytes`; `short` is what the defect says if they end early.
    pub(crate) fn new(bytes: &'a [u8], short: &'static str) -> Reader<'a> {
        Reader { bytes, at: 0, short }
    }

    /// Begins `at` bytes into `bytes`; defects and places count from their front.
    pub(crate) fn starting_at(bytes: &'a [u8], at: usize, short: &'static str) -> Reader<'a> {
        Reader { bytes, at: at.min(bytes.len()), short }
    }

    /// How many bytes lie behind.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// How many bytes lie ahead.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Says that the bytes just here are wrong.
    pub(crate) fn defect(&self, what: &'static str) -> Defect {
        Defect { what, at: self.at as u64 }
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Defect> {
        let Some(taken) = self.bytes[self.at..].get(..len) else {
            return Err(self.defect(self.short));
        };
        self.at += len;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Defect> {
        let Some(taken) = self.bytes[self.at..].first_chunk() else {
            return Err(self.defect(self.short));
        };
        self.at += N;
        Ok(*taken)
    }

    /// One byte.
    pub(crate) fn u8(&mut self) -> Result<u8, Defect> {
        self.array().map(u8::from_le_bytes)
    }

    /// Two bytes.
    pub(crate) fn u16(&mut self) -> Result<u16, Defect> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub(crate) fn u32(&mut self) -> Result<u32, Defect> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub(crate) fn u64(&mut self) -> Result<u64, Defect> {
        self.array().map(u64::from_le_bytes)
    }

    /// One to ten bytes.
    pub(crate) fn varint_u64(&mut self) -> Result<u64, Defect> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7F);
            if (bits << shift) >> shift != bits {
                return Err(self.defect("varint is too large"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let overlong = byte == 0 && shift > 0;
                return if overlong { Err(self.defect("varint is overlong")) } else { Ok(value) };
            }
        }
        Err(self.defect("varint does not end"))
    }

    /// One to five bytes.
    pub(crate) fn varint_u32(&mut self) -> Result<u32, Defect> {
        let value = self.varint_u64()?;
        u32::try_from(value).map_err(|_| self.defect("varint is too large"))
    }

    /// A run of pages that may be given to something, or nothing at all (all bytes zero).
    pub(crate) fn extent(&mut self) -> Result<Extent, Defect> {
        let before = self.clone();
        let extent = Extent { start: PageId(self.u64()?), pages: self.u32()? };
        if extent == Extent::default() || usable(extent) {
            return Ok(extent);
        }
        Err(before.defect("extent is impossible"))
    }

    /// A run of pages that is not empty.
    pub(crate) fn extent_not_empty(&mut self) -> Result<Extent, Defect> {
        let before = self.clone();
        let extent = self.extent()?;
        if extent.is_empty() { Err(before.defect("extent is empty")) } else { Ok(extent) }
    }

    /// Passes over `len` reserved bytes, which have to be zero.
    pub(crate) fn zeros(&mut self, len: usize) -> Result<(), Defect> {
        let at = self.at;
        let nonzero = self.take(len)?.iter().position(|&byte| byte != 0);
        nonzero.map_or(Ok(()), |index| {
            Err(Defect { what: "reserved byte is not zero", at: (at + index) as u64 })
        })
    }

    /// Passes over reserved bytes up to `at`, counted from the front.
    pub(crate) fn zeros_to(&mut self, at: usize) -> Result<(), Defect> {
        self.zeros(at.saturating_sub(self.at))
    }

    /// Nothing may be left.
    pub(crate) fn finish(&self) -> Result<(), Defect> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.defect("more bytes than expected")) }
    }
}

fn usable(extent: Extent) -> bool {
    !extent.is_empty() && lies_inside(extent, FILE_PAGES_MAX)
}

/// Fills a zeroed block of fixed size from the front.
pub(crate) struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// Writes from the front of `bytes`, which are large enough.
    pub(crate) fn new(bytes: &'a mut [u8]) -> Writer<'a> {
        Writer { bytes, at: 0 }
    }

    /// These bytes.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    /// One byte.
    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    /// Two bytes.
    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    /// Four bytes.
    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    /// Eight bytes.
    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    /// A run of pages, which may be empty.
    pub(crate) fn extent(&mut self, extent: Extent) -> &mut Self {
        self.put(&encode_extent(extent))
    }

    /// Leaves zeros up to `at`, counted from the front.
    pub(crate) fn zeros_to(&mut self, at: usize) -> &mut Self {
        self.bytes[self.at..at].fill(0);
        self.at = at;
        self
    }
}

/// The bytes of a run of pages; nothing is all zero.
pub(crate) fn encode_extent(extent: Extent) -> [u8; EXTENT_BYTES] {
    assert!(extent == Extent::default() || usable(extent), "{extent:?} cannot be written");
    let mut bytes = [0; EXTENT_BYTES];
    bytes[..8].copy_from_slice(&extent.start.0.to_le_bytes());
    bytes[8..].copy_from_slice(&extent.pages.to_le_bytes());
    bytes
}

/// Bytes of a varint.
pub(crate) fn varint_len(value: u64) -> usize {
    1 + (value | 1).ilog2() as usize / 7
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What of a key is behind a prefix, if it begins so.
///
/// Most prefixes are a few bytes: to call what compares two slices takes longer than to compare them.
#[inline]
pub(crate) fn behind<'a>(key: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    const FEW: usize = 8;
    if prefix.len() > FEW {
        return key.strip_prefix(prefix);
    }
    let (front, rest) = key.split_at_checked(prefix.len())?;
    front.iter().zip(prefix).all(|(one, other)| one == other).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> Reader<'_> {
        Reader::new(bytes, "short")
    }

    #[test]
    fn a_varint_is_as_long_as_its_length_says() {
        for (value, len) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (u64::MAX, 10)] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!((out.len(), varint_len(value)), (len, len));
        }
    }

    #[test]
    fn varints_have_these_bytes() {
        for (value, bytes) in [
            (0, &[0][..]),
            (127, &[0x7F]),
            (128, &[0x80, 1]),
            (300, &[0xAC, 2]),
            (u64::from(u32::MAX), &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]),
            (u64::MAX, &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes);
            let mut reader = reader(bytes);
            assert_eq!((reader.varint_u64(), reader.remaining()), (Ok(value), 0));
        }
    }

    #[test]
    fn bad_varints_are_defects() {
        for (bytes, what) in [
            (&[][..], "short"),
            (&[0x80], "short"),
            (&[0x80, 0], "varint is overlong"),
            (&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2], "varint is too large"),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x81], "varint does not end"),
        ] {
            assert_eq!(reader(bytes).varint_u64().unwrap_err().what, what, "{bytes:?}");
        }
        let above_u32 = [0x80, 0x80, 0x80, 0x80, 0x10];
        assert_eq!(reader(&above_u32).varint_u32().unwrap_err().what, "varint is too large");
    }

    #[test]
    fn defects_name_the_byte() {
        let mut reader = reader(&[1, 0, 0, 9, 5]);
        reader.u8().unwrap();
        let reserved = Defect { what: "reserved byte is not zero", at: 3 };
        assert_eq!(reader.clone().zeros(4), Err(reserved));
        assert_eq!(reader.u64(), Err(Defect { what: "short", at: 1 }));
        assert_eq!(reader.finish(), Err(Defect { what: "more bytes than expected", at: 1 }));
    }

    #[test]
    fn impossible_extents_are_defects() {
        for (start, pages, sound) in [
            (0_u64, 0_u32, true),
            (1, 63, true),
            (65, u32::MAX, true),
            (FILE_PAGES_MAX - 1, 1, true),
            (0, 1, false),
            (1, 64, false),
            (64, 1, false),
            (5, 0, false),
            (FILE_PAGES_MAX, 1, false),
            (u64::MAX, 2, false),
        ] {
            let mut bytes = start.to_le_bytes().to_vec();
            bytes.extend_from_slice(&pages.to_le_bytes());
            assert_eq!(reader(&bytes).extent().is_ok(), sound, "{start} {pages}");
        }
    }

    #[test]
    fn what_is_behind_a_prefix_is_what_the_standard_library_says() {
        assert_eq!(behind(b"ab", b"abc"), None);
        let key = b"a key of more than eight bytes";
        for len in 0..key.len() + 1 {
            assert_eq!(behind(key, &key[..len]), Some(&key[len..]));
            assert_eq!(behind(&key[..len], key), (len == key.len()).then_some(&b""[..]));
            for at in 0..len {
                let mut other = key[..len].to_vec();
                other[at] ^= 1;
                assert_eq!(behind(key, &other), None);
            }
        }
    }
}
