//! What the opener of a file may choose.

use crate::sim::Disk;

/// Operations in the kernel at once, unless told otherwise.
pub const QUEUE_DEPTH_DEFAULT: u32 = 128;

/// Largest accepted queue depth; a greater one is lowered to it.
pub const QUEUE_DEPTH_MAX: u32 = 4096;

/// Which backend performs the I/O.
#[derive(Clone, Debug)]
pub enum BackendChoice {
    /// `io_uring`; `pwrite` if anything about setting it up fails.
    Auto,
    /// `io_uring`, or an error.
    Uring,
    /// Blocking calls on a small pool of threads.
    Pwrite,
    /// A simulated disk in memory.
    Sim(Disk),
}

/// Whether the page cache of the kernel is bypassed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectIo {
    /// Yes, unless the file system refuses.
    Auto,
    /// No.
    Off,
}

/// Whether adjacent queued writes are merged into one vectored write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coalesce {
    /// Yes.
    On,
    /// No: to measure what it gives.
    Off,
}

/// What other openers in this process meet, from the open on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// They are told at once that the file is locked.
    Settled,
    /// They wait, bounded, until [`crate::Io::settle`] or the end of the file's life: it may yet
    /// turn out that nobody wanted the file.
    Tentative,
}

/// How a file is opened.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which backend performs the I/O.
    pub backend: BackendChoice,
    /// Whether the kernel's page cache is bypassed.
    pub direct: DirectIo,
    /// Operations in the kernel at once, [`QUEUE_DEPTH_DEFAULT`] by default.
    pub queue_depth: u32,
    /// Whether adjacent writes are merged.
    pub coalesce: Coalesce,
    /// What other openers in this process meet at first.
    pub claim: Claim,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            backend: BackendChoice::Auto,
            direct: DirectIo::Auto,
            queue_depth: QUEUE_DEPTH_DEFAULT,
            coalesce: Coalesce::On,
            claim: Claim::Settled,
        }
    }
}
