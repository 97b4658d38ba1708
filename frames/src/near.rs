//! Asking the processor for memory before it is read.
//!
//! A search in a node that is in no processor cache waits for a line, decides by it, and waits for the next. The lines
//! that it will need lie at the front of the node: asked for together they come together.

/// Asks the processor for a value that is read soon: whoever will read several lets their misses overlap.
///
/// # Examples
///
/// ```
/// let rows = vec![[7_u8; 1000]; 3];
/// rows.iter().for_each(ringdb_frames::bring_near);
/// assert_eq!(rows[2][999], 7);
/// ```
#[inline]
pub fn bring_near<T: ?Sized>(value: &T) {
    ask_at(std::ptr::from_ref(value).cast(), size_of_val(value));
}

/// Asks for every line of these bytes.
#[inline]
pub(crate) fn ask(bytes: &[u8]) {
    ask_at(bytes.as_ptr(), bytes.len());
}

/// As [`ask`], of bytes that may be written meanwhile: nothing is borrowed.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
pub(crate) fn ask_at(start: *const u8, len_bytes: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    const LINE_BYTES: usize = 64;
    for at in (0..len_bytes).step_by(LINE_BYTES) {
        // SAFETY: a hint, for any address at all; nothing that a program sees is read or written.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at).cast()) };
    }
}

/// Elsewhere the language has no such call yet.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
pub(crate) fn ask_at(_start: *const u8, _len_bytes: usize) {}
