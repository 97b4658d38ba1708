//! Memory from the system: zeroed, aligned, and not there before it is touched.
//!
//! A random read in memory is mostly cache and TLB misses, and under virtualisation a TLB miss walks two page
//! tables. So large arenas begin at a multiple of 2 MiB and ask for huge pages. The allocator of `std` is
//! no substitute on Unix: for such an alignment it zeroes by writing, which touches everything.

use std::alloc::{Layout, handle_alloc_error};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU64};

/// Size and alignment of a huge page, as on x86-64 and (with 4 KiB pages) arm64.
pub(crate) const HUGE_BYTES: usize = 2 << 20;
/// From this size on an arena asks for huge pages: of a smaller one a single frame in use would make a
/// large part resident.
const HUGE_ARENA_BYTES_MIN: usize = 8 * HUGE_BYTES;
/// Alignment of an arena too small for huge pages.
const SMALL_ALIGN: usize = 4096;

/// Whether huge pages are worth their size: memory that is handed out from its low end, yes; a hash
/// table, of which a few entries would make all of it resident, no.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    /// 2 MiB pages, where the system has them and the arena is that large.
    Huge,
    /// The system's usual pages.
    Small,
}

/// A block of zeroed memory. It gives out its address, never a reference: who may touch which bytes is for
/// its users to prove.
pub(crate) struct Arena {
    base: NonNull<u8>,
    block: Block,
}

// SAFETY: an arena is an address and a length; it touches the memory only when it is dropped, and then it is owned.
unsafe impl Send for Arena {}
// SAFETY: as above: `&Arena` gives out the address and nothing else.
unsafe impl Sync for Arena {}

impl Arena {
    /// A zeroed arena. Like every allocation of `std`, running out of address space ends the process.
    pub(crate) fn new(len_bytes: usize, pages: Pages) -> Arena {
        let huge = pages == Pages::Huge && len_bytes >= HUGE_ARENA_BYTES_MIN;
        let align = if huge { HUGE_BYTES } else { SMALL_ALIGN };
        let layout = len_bytes
            .max(1)
            .checked_next_multiple_of(align)
            .and_then(|len_bytes| Layout::from_size_align(len_bytes, align).ok())
            .expect("an arena is smaller than the address space");
        let Some((base, block)) = Block::zeroed(layout) else { handle_alloc_error(layout) };
        if huge {
            advise_huge(base, layout.size());
        }
        Arena { base, block }
    }

    /// Address of the first byte: a multiple of 2 MiB if huge pages were asked for and fit, else of 4096.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.block.free();
    }
}

/// What was taken from the system and goes back to it.
struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

#[cfg(unix)]
impl Block {
    /// Maps anonymous memory with room to align inside; what is never touched costs address space only.
    fn zeroed(layout: Layout) -> Option<(NonNull<u8>, Block)> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let len_bytes = layout.size().checked_add(layout.align())?;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address of the system's choice aliases nothing.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), len_bytes, protection, flags) };
        let start = NonNull::new(start.ok()?.cast::<u8>())?;
        let skip = start.align_offset(layout.align());
        // SAFETY: `skip` is less than the alignment, and that much was mapped beyond the size.
        let base = unsafe { start.add(skip) };
        let layout = Layout::from_size_align(len_bytes, 1).ok()?;
        Some((base, Block { start, layout }))
    }

    fn free(&mut self) {
        // SAFETY: exactly what was mapped, and the arena's owner is gone.
        let unmapped =
            unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.layout.size()) };
        debug_assert!(unmapped.is_ok(), "a whole mapping of ours can be unmapped");
    }
}

#[cfg(not(unix))]
impl Block {
    fn zeroed(layout: Layout) -> Option<(NonNull<u8>, Block)> {
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })?;
        Some((start, Block { start, layout }))
    }

    fn free(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout, and the arena's owner is gone.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn advise_huge(base: NonNull<u8>, len_bytes: usize) {
    use rustix::mm::{Advice, madvise};
    // SAFETY: the range lies in a mapping of ours, and this advice changes no byte of it. A kernel
    // without huge pages refuses it, and nothing is lost but speed.
    let _ = unsafe { madvise(base.as_ptr().cast(), len_bytes, Advice::LinuxHugepage) };
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn advise_huge(_base: NonNull<u8>, _len_bytes: usize) {}

/// Types whose zero bytes are a value, so that fresh memory is an array of them.
///
/// # Safety
///
/// All bytes zero must be a valid value of the type, and the type must not need dropping.
pub(crate) unsafe trait ZeroIsValid {}

// SAFETY: an atomic has the layout of its integer, for which zero is valid.
unsafe impl ZeroIsValid for AtomicU64 {}
// SAFETY: an atomic pointer has the layout of a pointer, for which null is valid.
unsafe impl<T> ZeroIsValid for AtomicPtr<T> {}

/// A fixed array of atomics in memory that is not there before it is touched.
pub(crate) struct Zeroed<T> {
    arena: Arena,
    len: usize,
    of: std::marker::PhantomData<T>,
}

impl<T: ZeroIsValid> Zeroed<T> {
    pub(crate) fn new(len: usize, pages: Pages) -> Zeroed<T> {
        const { assert!(align_of::<T>() <= SMALL_ALIGN) };
        let len_bytes = len.checked_mul(size_of::<T>()).expect("an array fits the address space");
        Zeroed { arena: Arena::new(len_bytes, pages), len, of: std::marker::PhantomData }
    }
}

impl<T: ZeroIsValid> Deref for Zeroed<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the arena is owned by this array alone, aligned, holds `len` of them, and began as zeros, which are
        // valid; all later changes go through the atomics themselves.
        unsafe { std::slice::from_raw_parts(self.arena.base().as_ptr().cast::<T>(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_large_arena_is_aligned_to_huge_pages_and_a_small_one_to_pages() {
        for (len_bytes, align) in [
            (0, 4096),
            (1, 4096),
            (HUGE_BYTES, 4096),
            (16 << 20, HUGE_BYTES),
            (33 << 20, HUGE_BYTES),
        ] {
            let arena = Arena::new(len_bytes, Pages::Huge);
            assert_eq!(arena.base().as_ptr() as usize % align, 0, "{len_bytes} bytes");
        }
    }

    #[test]
    fn an_untouched_array_reads_as_zeros() {
        let array: Zeroed<AtomicU64> = Zeroed::new(100_000, Pages::Huge);
        assert_eq!(array.len(), 100_000);
        assert!(array.iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }
}
