//! What opening, restoring and checking have to tell.

use std::time::Duration;

use crate::ids::Seq;

/// What opening found in the log.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
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

/// What a restored database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The last commit that the backup holds, in the order of the database that it was made of.
    pub seq: Seq,
    /// Column families.
    pub families: u64,
    /// Rows of all families.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Pages of trees and values, read and verified.
    pub pages: u64,
    /// Rows in the trees.
    pub rows: u64,
    /// Bytes of log groups, read and verified.
    pub log_bytes: u64,
    /// What is wrong, up to the first 1,000.
    pub defects: Vec<Defect>,
    /// How many defects there are.
    pub defect_count: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.defect_count == 0
    }
}

/// How far a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckProgress {
    /// Bytes read and verified so far.
    pub bytes: u64,
    /// Bytes to be read in all, as counted when the check began.
    pub total_bytes: u64,
    /// Defects so far.
    pub defects: u64,
}

/// Something that is wrong.
#[derive(Clone, Debug)]
#[non_exhaustive]
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
