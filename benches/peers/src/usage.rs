//! What a process used, as the kernel counts it.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Counts since the process started.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Most memory that it ever had.
    pub peak_bytes: u64,
    /// Bytes that it made the kernel write to disks.
    pub written_bytes: u64,
    /// Processor seconds.
    pub cpu_s: f64,
    /// Size of its files.
    pub file_bytes: u64,
}

impl Usage {
    /// Looks at this process and at the files below a directory.
    pub fn look(directory: &Path) -> Usage {
        Usage {
            peak_bytes: field("/proc/self/status", "VmHWM:").unwrap_or(0) * 1024,
            written_bytes: field("/proc/self/io", "write_bytes:").unwrap_or(0),
            cpu_s: cpu_s(),
            file_bytes: file_bytes(directory),
        }
    }
}

/// The number behind a name in a file of the kernel's.
pub fn field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Blocks that the files below a directory have, in bytes; holes do not count.
fn file_bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut pending = vec![directory.to_path_buf()];
    let mut sum = 0;
    while let Some(directory) = pending.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => pending.push(entry.path()),
                Ok(metadata) => sum += metadata.blocks() * 512,
                // Gone between the list and the look.
                Err(_) => {}
            }
        }
    }
    sum
}
