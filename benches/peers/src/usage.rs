//! What a process used, as the kernel counts it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Counts since the process started.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Most memory that it ever had, without pages of the program and its libraries: those are of all engines in it.
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
            peak_bytes: field("/proc/self/status", "VmHWM:")
                .unwrap_or(0)
                .saturating_sub(program_kib())
                * 1024,
            written_bytes: field("/proc/self/io", "write_bytes:").unwrap_or(0),
            cpu_s: cpu_s(),
            file_bytes: file_bytes(directory),
        }
    }
}

fn field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// KiB of this process's memory that are the program's and its libraries': pages of files of which some are mapped to be run.
fn program_kib() -> u64 {
    let text = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let (mut kib_of, mut run, mut file) = (HashMap::<_, u64>::new(), HashSet::new(), "");
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Rss:") => {
                let kib = words.next().and_then(|kib| kib.parse::<u64>().ok());
                *kib_of.entry(file).or_default() += kib.unwrap_or(0);
            }
            Some(name) if name.ends_with(':') => {}
            // A mapping: addresses, rights, offset, device, number and perhaps a path.
            Some(_) => {
                let rights = words.next().unwrap_or("");
                file = words.nth(3).filter(|path| path.starts_with('/')).unwrap_or("");
                if rights.contains('x') && !file.is_empty() {
                    run.insert(file);
                }
            }
            None => {}
        }
    }
    run.iter().filter_map(|file| kib_of.get(file)).sum()
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
