//! A limit of memory for a process, page cache included, where control groups can be had.

use std::fs;
use std::io;
use std::path::PathBuf;

/// A control group that is removed with this.
pub struct Limit {
    group: PathBuf,
}

impl Drop for Limit {
    fn drop(&mut self) {
        // A process that is still there keeps it; it holds nothing else.
        drop(fs::remove_dir(&self.group));
    }
}

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

impl Limit {
    /// A group with a limit, in either version's form.
    pub fn new(bytes: u64) -> io::Result<Limit> {
        let name = format!("ringdb-peers-{}-{bytes}", std::process::id());
        let old = PathBuf::from(ROOT).join("memory");
        let (parent, file) = match old.join("memory.limit_in_bytes").exists() {
            true => (old, "memory.limit_in_bytes"),
            false => (PathBuf::from(ROOT), "memory.max"),
        };
        let group = parent.join(name);
        fs::create_dir(&group)?;
        let limit = Limit { group };
        fs::write(limit.group.join(file), bytes.to_string())?;
        Ok(limit)
    }

    /// Moves a process into it.
    pub fn hold(&self, process: u32) -> io::Result<()> {
        fs::write(self.group.join("cgroup.procs"), process.to_string())
    }
}
