//! Telling a forked child from its parent with one load.
//!
//! A page that the kernel wipes on fork holds the process id; each open file remembers it. In a
//! child the page reads zero (or the child's own id, once it opened a file itself), so handles it
//! inherited refuse. Where pages cannot be wiped the id is asked for each time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The process that opened a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Birth(u32);

impl Birth {
    /// This process.
    pub(crate) fn now() -> Birth {
        if let Some(page) = page() {
            page.store(std::process::id(), Ordering::Relaxed);
        }
        Birth(std::process::id())
    }

    /// Whether this process is the one of birth.
    pub(crate) fn is_here(self) -> bool {
        match page() {
            Some(page) => page.load(Ordering::Relaxed) == self.0,
            None => std::process::id() == self.0,
        }
    }
}

fn page() -> Option<&'static AtomicU32> {
    static PAGE: OnceLock<Option<&'static AtomicU32>> = OnceLock::new();
    *PAGE.get_or_init(wiped_page)
}

#[cfg(target_os = "linux")]
fn wiped_page() -> Option<&'static AtomicU32> {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
    let len_bytes = rustix::param::page_size();
    let rights = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a fresh anonymous mapping overlaps nothing; it is never unmapped.
    let page =
        unsafe { mmap_anonymous(std::ptr::null_mut(), len_bytes, rights, MapFlags::PRIVATE) };
    let page = page.ok()?;
    // SAFETY: the range is the mapping made above, of which nobody else knows yet.
    unsafe { madvise(page, len_bytes, Advice::LinuxWipeOnFork) }.ok()?;
    // SAFETY: the mapping is aligned, zeroed, lives for ever and is only used as this atomic.
    Some(unsafe { AtomicU32::from_ptr(page.cast()) })
}

#[cfg(not(target_os = "linux"))]
fn wiped_page() -> Option<&'static AtomicU32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_where_it_was_born() {
        assert!(Birth::now().is_here());
        assert!(!Birth(0).is_here());
    }
}
