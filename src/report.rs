//! What opening and checking have to tell.

use std::time::Duration;

/// What opening found in the log.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Commits replayed.
    pub commits: u64,
    /// Bytes of log read.
    pub log_bytes: u64,
    /// Time from the first read to the first accepted commit.
    pub duration: Duration,
    /// How the log ended: cleanly, at a seal, or torn, and where.
    pub tail: String,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Pages read and verified.
    pub pages: u64,
    /// Rows in the trees.
    pub rows: u64,
    /// Everything that is wrong.
    pub defects: Vec<Defect>,
}

/// Something that is wrong.
#[derive(Clone, Debug)]
pub struct Defect {
    /// The family whose tree has it, if it is in one.
    pub family: Option<String>,
    /// The page, if it is in one.
    pub page: Option<u64>,
    /// Byte offset in the file.
    pub offset: u64,
    /// What it is.
    pub what: String,
}
