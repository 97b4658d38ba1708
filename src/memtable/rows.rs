//! The rows of a leaf: key and value bytes, one row behind the other in chunks.
//!
//! A row is copied here once and moves only when its leaf is divided, so an insert allocates
//! nothing most of the time, rows of neighbouring keys are neighbours in memory, and a memtable is
//! freed in chunks. Chunks are short at first, because thousands of families hold a few rows each.
//!
//! Rows of a log that is replayed may stay in its segments instead, where these hold little else: they were read into memory
//! already, and to copy them in another order was a fifth of a recovery.
//!
//! Rejected: one `Bytes` per row, a slice of its batch's buffer. It copies nothing, but each row
//! then costs two allocations, is freed by another thread than the one that allocated it, and
//! every scan and checkpoint misses the processor's cache once a row.

use std::sync::Arc;

use ringdb_uring::Buf;

use super::pool::Pool;
use super::version::HEADER_BYTES;

/// Bytes of the first chunk: the last one has room for sixteen rows of 512 bytes, or two of 4,096, and their headers.
const CHUNK_BYTES_MIN: usize = 512 + HEADER_BYTES;
/// Each chunk is twice as long as the one before, so many times.
const CHUNK_DOUBLINGS: usize = 4;
/// Bytes of a chunk then, unless one row is longer.
pub(super) const CHUNK_BYTES: usize = CHUNK_BYTES_MIN << CHUNK_DOUBLINGS;
/// Bytes of a chunk at most, unless one row is longer.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Bytes of a row that are asked for, at most; the processor itself sees to what follows.
pub(super) const NEAR_BYTES_MAX: usize = 256;

/// Chunks of a leaf as most are.
const NEAR_CHUNKS: usize = 8;

/// Segments of the log in which rows stay; the memory is there until the last leaf that has such rows is gone.
pub(crate) type Segments = Arc<[Arc<Buf>]>;

/// The number of a segment, not of a chunk.
const IN_SEGMENT: u32 = 1 << 31;

/// The rows of one leaf.
pub(super) struct Rows {
    chunks: Vec<Vec<u8>>,
    segments: Option<Segments>,
    heap_bytes: usize,
    pool: Arc<Pool>,
    /// How often the next chunk is doubled.
    doublings: usize,
}

/// Where a row lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowPlace {
    chunk: u32,
    offset: u32,
}

/// Bits of an offset in a place that is kept short, and of the number of its chunk.
const SHORT_OFFSET_BITS: u32 = CHUNK_BYTES_MAX.ilog2();
const SHORT_CHUNK_BITS: u32 = 31 - SHORT_OFFSET_BITS;

impl RowPlace {
    /// Where the first byte of the first chunk is.
    pub(super) const START: RowPlace = RowPlace { chunk: 0, offset: 0 };

    /// The place in 31 bits, if that is enough: it is in one of some thousand chunks then.
    pub(super) fn to_bits(self) -> Option<u32> {
        let fits = self.chunk >> SHORT_CHUNK_BITS == 0 && self.offset >> SHORT_OFFSET_BITS == 0;
        fits.then_some(self.chunk << SHORT_OFFSET_BITS | self.offset)
    }

    /// Of a place that fits.
    #[inline]
    pub(super) fn from_bits(bits: u32) -> RowPlace {
        let offset = bits & ((1 << SHORT_OFFSET_BITS) - 1);
        RowPlace { chunk: bits >> SHORT_OFFSET_BITS, offset }
    }

    /// So many bytes on.
    #[inline]
    pub(super) fn behind(self, bytes: u32) -> RowPlace {
        RowPlace { offset: self.offset + bytes, ..self }
    }

    /// In the segment of this number.
    pub(crate) fn in_segment(segment: u32, offset: u32) -> RowPlace {
        assert!(segment < IN_SEGMENT);
        RowPlace { chunk: IN_SEGMENT | segment, offset }
    }

    /// Whether it is in a segment, and not in a chunk.
    pub(super) fn is_in_segment(self) -> bool {
        self.chunk & IN_SEGMENT != 0
    }
}

impl Rows {
    /// Of a leaf that may stay the only one, and be small.
    pub(super) fn of_few(pool: &Arc<Pool>) -> Rows {
        let (chunks, pool) = (Vec::new(), pool.clone());
        Rows { chunks, segments: None, heap_bytes: 0, pool, doublings: 0 }
    }

    /// Of a leaf among others.
    pub(super) fn of_many(pool: &Arc<Pool>) -> Rows {
        let mut rows = Rows::of_few(pool);
        rows.doublings = CHUNK_DOUBLINGS;
        rows
    }

    /// With a first chunk for so many bytes, within reason.
    pub(super) fn with_room(bytes: usize, pool: &Arc<Pool>) -> Rows {
        let mut rows = Rows::of_few(pool);
        rows.add(bytes.min(CHUNK_BYTES_MAX));
        rows
    }

    /// Of a leaf whose first rows stay in these segments.
    pub(super) fn in_segments(segments: &Segments, pool: &Arc<Pool>) -> Rows {
        let mut rows = Rows::of_few(pool);
        rows.segments = Some(segments.clone());
        rows
    }

    /// Rows that stay in segments may come from these others.
    pub(super) fn share_segments(&mut self, other: &Rows) {
        self.segments.clone_from(&other.segments);
    }

    /// Copies a row.
    pub(super) fn push(&mut self, row: &[u8]) -> RowPlace {
        self.push_parts(&[], row)
    }

    /// Copies a row, and what is in front of it; gives where that is.
    pub(super) fn push_parts(&mut self, header: &[u8], row: &[u8]) -> RowPlace {
        let bytes = header.len() + row.len();
        let fits = |chunk: &Vec<u8>| chunk.capacity() - chunk.len() >= bytes;
        if !self.chunks.last().is_some_and(fits) {
            self.add(bytes);
        }
        let index = self.chunks.len() - 1;
        let chunk = &mut self.chunks[index];
        let number = u32::try_from(index).ok().filter(|number| *number < IN_SEGMENT);
        let place = RowPlace {
            chunk: number.expect("memory is full long before 2^31 chunks"),
            offset: u32::try_from(chunk.len()).expect("a chunk is far below 4 GiB"),
        };
        chunk.extend_from_slice(header);
        chunk.extend_from_slice(row);
        place
    }

    /// Asks for the bytes that a row so long is copied to next.
    pub(super) fn bring_end_near(&mut self, bytes: usize) {
        let spare = self.chunks.last_mut().map(Vec::spare_capacity_mut);
        if let Some(spare) = spare.filter(|spare| bytes <= spare.len()) {
            ringdb_frames::bring_near(&spare[..bytes.min(NEAR_BYTES_MAX)]);
        }
    }

    /// The bytes of a row, which is so long.
    #[inline]
    pub(super) fn row(&self, place: RowPlace, len: usize) -> &[u8] {
        &self.rest(place)[..len]
    }

    /// The bytes from there on.
    #[inline]
    fn rest(&self, place: RowPlace) -> &[u8] {
        let all = match place.is_in_segment() {
            false => &self.chunks[place.chunk as usize][..],
            true => self.segment(place.chunk & !IN_SEGMENT),
        };
        &all[place.offset as usize..]
    }

    /// Asks for so many bytes of what is there.
    #[inline]
    pub(super) fn bring_near(&self, place: RowPlace, bytes: usize) {
        let rest = self.rest(place);
        ringdb_frames::bring_near(&rest[..rest.len().min(bytes)]);
    }

    /// Asks for where the first chunks are.
    #[inline]
    pub(super) fn bring_chunks_near(&self) {
        ringdb_frames::bring_near(&self.chunks[..self.chunks.len().min(NEAR_CHUNKS)]);
    }

    fn segment(&self, number: u32) -> &[u8] {
        let segments = self.segments.as_ref().expect("rows that stay in segments come with these");
        &segments[number as usize]
    }

    fn add(&mut self, bytes: usize) {
        let usual = CHUNK_BYTES_MIN << self.doublings;
        self.doublings = (self.doublings + 1).min(CHUNK_DOUBLINGS);
        self.chunks.push(self.pool.chunk(usual.max(bytes)));
        let last = self.chunks.last().map_or(0, Vec::capacity);
        self.heap_bytes += last + size_of::<Vec<u8>>();
    }

    /// Heap bytes of all chunks.
    pub(super) fn heap_bytes(&self) -> usize {
        self.heap_bytes
    }

    /// Whose memory it is.
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.pool.take_chunks(&mut self.chunks);
    }
}
