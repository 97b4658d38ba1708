//! Memory for reads that the kernel knows beforehand.
//!
//! A read into registered memory spares the kernel from looking its pages up and pinning them each
//! time. The memory counts against the limit of locked memory, so there is little of it, and none
//! where the limit forbids it: then, and when all pieces are taken, buffers come from the heap.
//!
//! - A piece belongs to one [`crate::Buf`], from the bit that is set to the bit that is cleared.
//! - Whoever holds a piece holds the pool, so its memory outlives every operation on it; a buffer
//!   that was left to the kernel keeps the pool for ever. (I1)

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use io_uring::IoUring;

use crate::buf::{Buf, Heap};

/// Bytes of a piece; longer reads are not worth the saving.
pub(crate) const PIECE_BYTES: usize = 8 << 10;

/// Most pieces, four times the usual depth of a device queue.
const PIECES_MAX: usize = 256;

const WORD_BITS: usize = u64::BITS as usize;

/// Registered memory, in pieces.
pub(crate) struct Pool {
    memory: Heap,
    taken: Box<[AtomicU64]>,
}

/// A piece that is taken.
pub(crate) struct Piece {
    pool: Arc<Pool>,
    index: usize,
}

impl Pool {
    /// Memory that the ring knows as its buffer 0, with a piece for each of so many reads, up to a bound.
    pub(crate) fn register(ring: &IoUring, reads: usize) -> io::Result<Arc<Pool>> {
        let pieces = reads.next_multiple_of(WORD_BITS).clamp(WORD_BITS, PIECES_MAX);
        let memory = Heap::zeroed(pieces * PIECE_BYTES);
        let whole =
            libc::iovec { iov_base: memory.start().as_ptr().cast(), iov_len: pieces * PIECE_BYTES };
        // SAFETY: the memory lives as long as the pool, which every buffer inside it keeps; the
        // kernel pins its pages itself until the ring is gone.
        unsafe { ring.submitter().register_buffers(&[whole])? };
        let taken = (0..pieces / WORD_BITS).map(|_| AtomicU64::new(0)).collect();
        Ok(Arc::new(Pool { memory, taken }))
    }

    /// How many pieces there are.
    pub(crate) fn pieces(&self) -> usize {
        self.taken.len() * WORD_BITS
    }

    /// A buffer of one piece, whatever its last owner left in it, if one is free.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Buf> {
        let index = self.taken.iter().enumerate().find_map(|(number, word)| {
            let order = Ordering::Acquire;
            let before =
                word.fetch_update(order, order, |taken| lowest_free(taken).map(|bit| taken | bit));
            let bit = lowest_free(before.ok()?)?;
            Some(number * WORD_BITS + bit.trailing_zeros() as usize)
        })?;
        Some(Buf::piece(Piece { pool: self.clone(), index }))
    }
}

/// The lowest bit that is not set, as a mask.
fn lowest_free(taken: u64) -> Option<u64> {
    (taken != u64::MAX).then(|| !taken & taken.wrapping_add(1))
}

impl Piece {
    pub(crate) fn start(&self) -> NonNull<u8> {
        // SAFETY: the memory has a piece for each bit of `taken`, and the index is of one of them.
        unsafe { self.pool.memory.start().add(self.index * PIECE_BYTES) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let bit = 1 << (self.index % WORD_BITS);
        self.pool.taken[self.index / WORD_BITS].fetch_and(!bit, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_apart_and_come_back() {
        let Ok(ring) = IoUring::new(2) else { return };
        let Ok(pool) = Pool::register(&ring, 96) else { return };
        let mut bufs: Vec<Buf> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(bufs.len(), 128, "a whole word of pieces for the last reads too");
        bufs.iter_mut().enumerate().for_each(|(number, buf)| buf.fill(number as u8));
        let own = |(number, buf): (usize, &Buf)| buf.iter().all(|&byte| byte == number as u8);
        assert!(bufs.iter().enumerate().all(own));
        drop(bufs.swap_remove(77));
        assert!(pool.take().is_some_and(|buf| buf[0] == 77));
    }
}
