//! What the bench and its child say to each other.
//!
//! ```text
//! parent, on stdin     child, on stdout
//!                      ready                   databases open, rows filled
//! warm MS              done                    runs, counts nothing
//! slice MS             slice {"ops":…}         runs, counts
//! result               result {…}              sums of all slices
//! stream               streaming, then a frame after each acknowledged commit, until killed
//! quit                 (ends)
//!                      error TEXT              at any time, then ends
//! ```
//!
//! A frame is 12 bytes: the writer (u32) and its acknowledged rows (u64), little-endian. It goes
//! out in one `write` below `PIPE_BUF`, so frames of several threads do not mix, and a kill leaves
//! a whole one or none: exactly what was acknowledged is told. Only a reader that is slow can hold
//! writers up, and nothing is measured by then.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::bare::Method;
use super::plan::{Subject, Workload};

/// What a child is to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// A directory of its own.
    pub directory: PathBuf,
    /// The backend.
    pub subject: Subject,
    /// The workload.
    pub workload: Workload,
    /// By how many.
    pub writers: u32,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// The bare loop with which its only writer takes turns, if it does.
    pub turns_with: Option<BareLoop>,
}

/// A bare loop that another process made the file of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BareLoop {
    /// Where that file is.
    pub directory: PathBuf,
    /// How its writes are made durable.
    pub method: Method,
}

impl Spec {
    /// Path of one of its databases.
    pub fn database(&self, index: u32) -> PathBuf {
        self.directory.join(format!("{index}.ring"))
    }
}

/// Name of a family.
pub fn family_name(index: u32) -> String {
    format!("family-{index}")
}

/// What a slice did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Slice {
    /// Operations.
    pub ops: u64,
    /// Seconds from its start until the last writer came back.
    pub seconds: f64,
    /// What the bare loop did that took turns with it.
    pub bare: BareSlice,
}

/// What the bare loop did within a slice: nothing, if it did not take turns.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct BareSlice {
    /// Durable writes.
    pub writes: u64,
    /// Seconds that they took.
    pub seconds: f64,
}

/// The sums of all slices.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Operations.
    pub ops: u64,
    /// Seconds that they took.
    pub seconds: f64,
    /// Latency of a commit or a read, µs.
    pub p50_us: f64,
    /// The same, 99 %.
    pub p99_us: f64,
    /// The same, 99.9 %.
    pub p999_us: f64,
    /// Commits.
    pub commits: u64,
    /// Syncs of the file, writes that are durable by themselves included.
    pub syncs: u64,
    /// System calls for I/O.
    pub syscalls: u64,
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// Bytes of pages written.
    pub page_bytes: u64,
    /// Rows acknowledged to each writer since it started.
    pub acknowledged: Vec<u64>,
}

impl Outcome {
    /// Operations a second.
    pub fn ops_per_s(&self) -> f64 {
        if self.seconds > 0.0 { self.ops as f64 / self.seconds } else { 0.0 }
    }
}

/// Bytes of a frame.
pub const FRAME_BYTES: usize = 12;

/// Tells that `rows` were acknowledged to `writer`.
pub fn frame(writer: u32, rows: u64) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    frame[..4].copy_from_slice(&writer.to_le_bytes());
    frame[4..].copy_from_slice(&rows.to_le_bytes());
    frame
}

/// The writer and the rows acknowledged to it.
pub fn unframe(frame: [u8; FRAME_BYTES]) -> (u32, u64) {
    let [a, b, c, d, rest @ ..] = frame;
    (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_is_twelve_bytes_little_endian() {
        let bytes = frame(258, 77);
        assert_eq!(bytes, [2, 1, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(unframe(bytes), (258, 77));
    }
}
