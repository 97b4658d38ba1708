//! Telling a forked child from its parent with one load.
//!
//! A page that the kernel wipes on fork holds a number that the process drew for itself; each open file remembers it. In a
//! child the page reads zero (or the child's own number, once it opened a file itself), so handles it
//! inherited refuse. Not the process id: a child may have its parent's, in a name space of its own or when ids come round. Where pages
//! cannot be wiped the id has to do, and is asked for each time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The process that opened a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Birth(u64);

/// What a wiped page holds.
const UNBORN: u64 = 0;

impl Birth {
    /// This process.
    pub(crate) fn now() -> Birth {
        let Some(page) = page() else { return Birth(process_id()) };
        let order = Ordering::Relaxed;
        let known = page.load(order);
        if known != UNBORN {
            return Birth(known);
        }
        let drawn = drawn();
        match page.compare_exchange(UNBORN, drawn, order, order) {
            Ok(_) => Birth(drawn),
            Err(earlier) => Birth(earlier),
        }
    }

    /// Whether this process is the one of birth.
    pub(crate) fn is_here(self) -> bool {
        match page() {
            Some(page) => page.load(Ordering::Relaxed) == self.0,
            None => process_id() == self.0,
        }
    }
}

fn process_id() -> u64 {
    u64::from(std::process::id())
}

/// A number that no other process has.
#[cfg(target_os = "linux")]
fn drawn() -> u64 {
    let mut bytes = [0; 8];
    // Where there is no randomness yet, the id is as good as it was before.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(8) => u64::from_ne_bytes(bytes).max(1),
        Ok(_) | Err(_) => process_id(),
    }
}

#[cfg(not(target_os = "linux"))]
fn drawn() -> u64 {
    process_id()
}

fn page() -> Option<&'static AtomicU64> {
    static PAGE: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
    *PAGE.get_or_init(wiped_page)
}

#[cfg(target_os = "linux")]
fn wiped_page() -> Option<&'static AtomicU64> {
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
    Some(unsafe { AtomicU64::from_ptr(page.cast()) })
}

#[cfg(not(target_os = "linux"))]
fn wiped_page() -> Option<&'static AtomicU64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_where_it_was_born() {
        assert!(Birth::now().is_here());
        assert_eq!(Birth::now(), Birth::now());
        assert!(!Birth(UNBORN).is_here());
    }
}
