//! What an open file holds until it is closed: the file, its lock and its claim, in that order.

use std::sync::Arc;

use crate::file::OsFile;
use crate::lock::{Claim, unlock};
use crate::sim::SimLock;

/// Dropping it closes the file and releases the lock.
pub(crate) enum Storage {
    /// A file of the operating system.
    File { file: Arc<OsFile>, claim: Claim, end: End },
    /// A file of a simulated disk.
    Sim(SimLock),
}

/// How the file was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing is in flight: the lock may be released at once.
    Clean,
    /// Something may be in flight: the lock ends when the kernel lets go of the file.
    Spoiled,
}

impl Storage {
    /// Openers in this process are refused from now on.
    pub(crate) fn settle(&self) {
        match self {
            Storage::File { claim, .. } => claim.settle(),
            Storage::Sim(lock) => lock.settle(),
        }
    }

    /// Openers in this process wait from now on.
    pub(crate) fn closing(&self) {
        match self {
            Storage::File { claim, .. } => claim.closing(),
            Storage::Sim(lock) => lock.closing(),
        }
    }

    /// The owner failed, perhaps with writes in the kernel.
    pub(crate) fn spoil(&mut self) {
        match self {
            Storage::File { end, .. } => *end = End::Spoiled,
            Storage::Sim(_) => {}
        }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        match self {
            Storage::File { file, end: End::Clean, .. } => unlock(&**file),
            Storage::File { end: End::Spoiled, .. } | Storage::Sim(_) => {}
        }
    }
}
