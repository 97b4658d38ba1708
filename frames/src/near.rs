//! Asking the processor for memory before it is read.
//!
//! A search in a node that is in no processor cache waits for a line, decides by it, and waits for the next. The lines
//! that it will need lie at the front of the node: asked for together they come together.

/// Asks for every line of these bytes.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
pub(crate) fn ask(bytes: &[u8]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    const LINE_BYTES: usize = 64;
    for line in bytes.chunks(LINE_BYTES) {
        // SAFETY: a hint for an address that is borrowed; nothing that a program sees is read or written.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}

/// Elsewhere the language has no such call yet.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
pub(crate) fn ask(_bytes: &[u8]) {}
