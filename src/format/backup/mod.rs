//! A backup: the bytes that `Db::backup` streams and `Options::restore` reads.
//!
//! Rows, not pages: a backup knows nothing of where anything lay in the file it was made of, and any version of the engine that
//! knows the version in its head can restore it.
//!
//! ```text
//! stream    head, then chunks, the last of kind 5; nothing behind it
//!
//! head, 48 bytes
//! off len field
//!   0   8 magic     "RINGBACK"
//!   8   4 version   1
//!  12   4 reserved
//!  16  16 id        drawn at random; salts every checksum below
//!  32   8 seq       every commit up to here is in it, and no later one
//!  40   4 reserved
//!  44   4 crc32c    of bytes 0..44
//!
//! chunk
//! off len field
//!   0   4 crc32c    of bytes 4..24+len, salted with the id
//!   4   4 len       bytes of the payload, at most a MiB
//!   8   8 number    from 0, one more with each chunk
//!  16   1 kind
//!  17   7 reserved
//!  24     payload
//!
//! kind      payload
//! 1 family  1 options, as in the catalog; the rest is the name, UTF-8, 1 to 255 bytes. What follows, up to the next, is in it
//! 2 rows    4 key length, 4 value length, key, value; again and again, keys ascending
//! 3 value   8 length; the rest is the key: a value above 64 KiB that comes in pieces
//! 4 piece   the next MiB of that value; the last one may be shorter
//! 5 end     8 families, 8 rows, 8 bytes of keys and values, 4 crc32c over the crc32c of every chunk before, 4 reserved
//! ```
//!
//! Every byte is under a checksum or is one, chunks are numbered, and the end counts and sums up what came before: whatever is
//! cut off, repeated, left out, swapped or taken from another backup is seen.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub(crate) use decode::{Decoder, Item, Refusal};
pub(crate) use encode::{Encoder, RowsPayload};

/// What a backup begins with.
const MAGIC: [u8; 8] = *b"RINGBACK";
/// The format that this build writes and reads.
const VERSION: u32 = 1;
/// Bytes of the head.
const HEAD_BYTES: usize = 48;
const HEAD_CRC_AT: usize = HEAD_BYTES - 4;
/// Bytes of a chunk before its payload.
const CHUNK_HEADER_BYTES: usize = 24;
const CRC_BYTES: usize = 4;
/// Bytes of the largest payload.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Bytes of each piece of a large value but the last.
pub(crate) const PIECE_BYTES: usize = PAYLOAD_BYTES_MAX;
const END_BYTES: usize = 32;

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Family = 1,
    Rows = 2,
    Value = 3,
    Piece = 4,
    End = 5,
}

impl Kind {
    fn decode(byte: u8) -> Option<Kind> {
        [Kind::Family, Kind::Rows, Kind::Value, Kind::Piece, Kind::End]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What a backup holds, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub families: u64,
    pub rows: u64,
    /// Of keys and values.
    pub bytes: u64,
}
