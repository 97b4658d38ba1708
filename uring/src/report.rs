//! What was chosen, and why.

/// The backend in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// `io_uring`.
    Uring,
    /// Blocking calls on a pool of threads.
    Pwrite,
    /// A simulated disk.
    Sim,
}

/// How a write is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMethod {
    /// One write with `RWF_DSYNC`; it covers its own bytes only.
    DsyncWrite,
    /// A write, then `fdatasync`.
    WriteThenSync,
    /// A write, then `F_FULLFSYNC` (the only real sync on Apple systems).
    WriteThenFullSync,
}

impl SyncMethod {
    /// Whether a sync follows the write.
    pub(crate) fn has_two_steps(self) -> bool {
        match self {
            SyncMethod::DsyncWrite => false,
            SyncMethod::WriteThenSync | SyncMethod::WriteThenFullSync => true,
        }
    }
}

/// What was chosen, and why.
#[derive(Clone, Debug)]
pub struct Report {
    /// The backend in use.
    pub backend: BackendKind,
    /// Why this one, and for `pwrite` why not the other.
    pub reason: String,
    /// Whether the kernel's page cache is bypassed.
    pub direct: bool,
    /// Why, or why not.
    pub direct_reason: String,
    /// How writes are made durable.
    pub sync_method: SyncMethod,
    /// How that was decided, with times if it was measured.
    pub sync_reason: String,
    /// Unit of offsets and lengths.
    pub block_bytes: u32,
    /// Kernel features in use, in words.
    pub kernel: String,
}
