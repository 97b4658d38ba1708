//! Memory that may be handed to a device: aligned, zeroed, owned by one operation at a time.
//!
//! Direct I/O asks for aligned memory, and slack in pages must be zero, so a buffer is both from
//! birth; only one that was asked for to be read into may hold what was read before. Large buffers come from the allocator's zeroed memory with room to align inside it:
//! asking the allocator for aligned *and* zeroed memory makes it write the zeros itself, and a log
//! buffer of megabytes that is rarely filled should cost only what was touched.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::BLOCK_BYTES;
#[cfg(target_os = "linux")]
use crate::pool::{PIECE_BYTES, Piece};

/// From this size on, memory is taken unaligned and lazily zeroed, and aligned inside.
const LAZY_BYTES_MIN: usize = 64 << 10;

/// A buffer, aligned to [`BLOCK_BYTES`] and a multiple of it long.
pub struct Buf {
    start: NonNull<u8>,
    len_bytes: usize,
    memory: Memory,
}

/// Where the bytes are; kept only to be given back.
enum Memory {
    None,
    Heap(#[expect(dead_code, reason = "its drop frees the memory")] Heap),
    #[cfg(target_os = "linux")]
    Registered(#[expect(dead_code, reason = "its drop gives the piece back")] Piece),
}

/// Zeroed memory of the allocator's.
pub(crate) struct Heap {
    start: NonNull<u8>,
    base: NonNull<u8>,
    len_bytes: usize,
}

// SAFETY: a Heap owns its memory alone, as a Box<[u8]> does, and never looks into it.
unsafe impl Send for Heap {}
// SAFETY: shared access only tells the address.
unsafe impl Sync for Heap {}

// SAFETY: a Buf owns its bytes alone, as a Box<[u8]> does, wherever they are.
unsafe impl Send for Buf {}
// SAFETY: shared access only reads.
unsafe impl Sync for Buf {}

impl Buf {
    /// A buffer of `len_bytes` zeros.
    ///
    /// # Panics
    /// If `len_bytes` is not a multiple of [`BLOCK_BYTES`].
    pub fn zeroed(len_bytes: usize) -> Buf {
        assert!(len_bytes.is_multiple_of(BLOCK_BYTES), "{len_bytes} is no multiple of a block");
        if len_bytes == 0 {
            return Buf::empty();
        }
        let heap = Heap::zeroed(len_bytes);
        Buf { start: heap.start, len_bytes, memory: Memory::Heap(heap) }
    }

    /// A buffer of one piece of registered memory.
    #[cfg(target_os = "linux")]
    pub(crate) fn piece(piece: Piece) -> Buf {
        let (start, len_bytes) = (piece.start(), PIECE_BYTES);
        Buf { start, len_bytes, memory: Memory::Registered(piece) }
    }

    /// Whether the ring knows its memory.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_registered(&self) -> bool {
        matches!(self.memory, Memory::Registered(_))
    }

    /// A buffer without memory: what is given back when the real one had to be kept.
    pub fn empty() -> Buf {
        Buf { start: NonNull::dangling(), len_bytes: 0, memory: Memory::None }
    }

    /// Address of byte `at`, for the kernel.
    #[cfg(target_os = "linux")]
    pub(crate) fn address(&mut self, at: usize) -> *mut u8 {
        assert!(at <= self.len_bytes);
        // SAFETY: at is inside the buffer or one past its end.
        unsafe { self.start.as_ptr().add(at) }
    }
}

fn layout(len_bytes: usize) -> Layout {
    let (size, align) = match len_bytes >= LAZY_BYTES_MIN {
        true => (len_bytes + BLOCK_BYTES, 16),
        false => (len_bytes, BLOCK_BYTES),
    };
    Layout::from_size_align(size, align).expect("sizes of buffers are far below isize::MAX")
}

impl Heap {
    /// At least a block of zeros.
    pub(crate) fn zeroed(len_bytes: usize) -> Heap {
        assert!(len_bytes >= BLOCK_BYTES);
        let layout = layout(len_bytes);
        // SAFETY: the layout is not empty: len_bytes is at least a block.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        let skip = base.as_ptr().align_offset(BLOCK_BYTES);
        // SAFETY: either the layout is aligned and skip is 0, or it has a block of room to skip.
        let start = unsafe { base.add(skip) };
        Heap { start, base, len_bytes }
    }

    /// Its first byte, aligned to a block.
    #[cfg(target_os = "linux")]
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: base came from alloc_zeroed with the layout of the same length.
        unsafe { dealloc(self.base.as_ptr(), layout(self.len_bytes)) }
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: start points to len_bytes initialised bytes that self owns (or to none).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len_bytes) }
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in deref, and &mut self makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len_bytes) }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes)", self.len_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_zero_at_every_size() {
        for blocks in [1, 2, 3, 15, 16, 17, 256, 2048] {
            let mut buf = Buf::zeroed(blocks * BLOCK_BYTES);
            assert_eq!(buf.len(), blocks * BLOCK_BYTES);
            assert_eq!(buf.as_ptr() as usize % BLOCK_BYTES, 0);
            assert!(buf.iter().all(|&byte| byte == 0));
            buf.fill(7);
            assert_eq!(buf[buf.len() - 1], 7);
        }
    }

    #[test]
    fn an_empty_buffer_has_no_bytes() {
        assert!(Buf::zeroed(0).is_empty());
    }

    #[test]
    #[should_panic(expected = "no multiple of a block")]
    fn a_length_that_is_no_multiple_of_a_block_is_refused() {
        Buf::zeroed(BLOCK_BYTES + 1);
    }
}
