//! Memory that is there when a load begins.
//!
//! The host of a virtual machine may take back what the machine does not use, in whole huge pages, and to give it again takes
//! microseconds for each 4 KiB: more than a load takes to fill them. Whether an engine pays for that depends on whether it asks
//! for huge pages, and on what ran before. So memory is touched and given back first. The kernel need not give out the same pages again, so that a part of
//! the price remains.

#[cfg(target_os = "linux")]
use crate::usage::field;

/// Touches so much memory, or half of what is available if that is less, and gives it back. Where a system has no such call, nothing
/// is done.
pub fn touch(bytes: u64) {
    #[cfg(target_os = "linux")]
    if let Some(available_kib) = field("/proc/meminfo", "MemAvailable:") {
        let bytes = bytes.min(available_kib << 9).min(limit_bytes() / 2);
        if bytes > 0
            && let Err(error) = linux::touch(bytes as usize)
        {
            eprintln!("memory was not touched before a load: {error}");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

/// What a container may have.
#[cfg(target_os = "linux")]
fn limit_bytes() -> u64 {
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default();
    limit.trim().parse().unwrap_or(u64::MAX)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::Result;

    use memmap2::{Advice, MmapMut};

    pub(super) fn touch(bytes: usize) -> Result<()> {
        let memory = MmapMut::map_anon(bytes)?;
        // A kernel without huge pages gives small ones.
        drop(memory.advise(Advice::HugePage));
        memory.advise(Advice::PopulateWrite)
    }
}
