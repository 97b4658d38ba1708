//! Known mistakes, made on purpose: what the tests are worth shows in whether they catch each one.
//!
//! A bug is planted for the whole process, so each is tried in a process of its own. Without the
//! feature `planted`, and in every build without debug assertions, [`is`] is a constant `false`
//! and nothing of this is left.

/// A mistake that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// A log write is not made durable before it is acknowledged.
    LogNotDurable = 1,
    /// A checkpoint does not sync its pages.
    PagesNotSynced,
    /// A new file's directory entry is not synced.
    DirectoryNotSynced,
    /// The superblock is written before what it names is durable.
    SuperblockBeforeData,
    /// The superblock is written to one of its two places only.
    SuperblockOnce,
    /// Pages that the newest superblock names are used again before the next one is written.
    PagesFreedEarly,
    /// Pages are used again before the readers of an older checkpoint have left.
    PagesReusedUnderReaders,
    /// The checkpoint says that it holds commits that came after it froze the memtables.
    CheckpointMarkEarly,
    /// Dropping a family leaves no record in the log.
    DropNotLogged,
    /// A large value's extent is not durable before the commit that names it.
    ValueNotSynced,
    /// A failed write or sync outside the log does not poison.
    FailureIgnored,
    /// A sync that failed is tried again, and the second answer believed.
    SyncRetried,
    /// A short write is taken as whole.
    ShortWriteWhole,
    /// A node's bytes are not compared with what its parent knows of them.
    NodeNotVerified,
    /// A log that is damaged in the middle ends there, as a torn one would.
    LogCutAtDamage,
    /// Replay goes on in the next segment, whatever is missing at the end of the one before.
    HoleSkipped,
    /// Replay takes half of a batch.
    HalfBatch,
    /// What recovery read from a page cache is believed to be durable.
    TailBelieved,
    /// A transaction is not validated.
    ConflictMissed,
    /// A restored database has its name before it is durable.
    NamedBeforeWhole,
    /// Values that a merge moves into another tree are freed with the rows that named them.
    MovedValuesFreed,
    /// Merging some trees forgets the deletes that hide rows of older ones.
    DeletesForgotten,
    /// A file is cut off before the superblock that knows of it is durable.
    FileCutEarly,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Bug; 23] = [
        Bug::LogNotDurable,
        Bug::PagesNotSynced,
        Bug::DirectoryNotSynced,
        Bug::SuperblockBeforeData,
        Bug::SuperblockOnce,
        Bug::PagesFreedEarly,
        Bug::PagesReusedUnderReaders,
        Bug::CheckpointMarkEarly,
        Bug::DropNotLogged,
        Bug::ValueNotSynced,
        Bug::FailureIgnored,
        Bug::SyncRetried,
        Bug::ShortWriteWhole,
        Bug::NodeNotVerified,
        Bug::LogCutAtDamage,
        Bug::HoleSkipped,
        Bug::HalfBatch,
        Bug::TailBelieved,
        Bug::ConflictMissed,
        Bug::NamedBeforeWhole,
        Bug::MovedValuesFreed,
        Bug::DeletesForgotten,
        Bug::FileCutEarly,
    ];
}

#[cfg(all(feature = "planted", debug_assertions))]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Bug;

    static PLANTED: AtomicU8 = AtomicU8::new(0);

    /// Plants a bug in this process, for good.
    pub fn plant(bug: Bug) {
        PLANTED.store(bug as u8, Ordering::SeqCst);
    }

    /// Whether this bug is planted.
    #[inline]
    pub fn is(bug: Bug) -> bool {
        PLANTED.load(Ordering::Relaxed) == bug as u8
    }
}

#[cfg(not(all(feature = "planted", debug_assertions)))]
mod switch {
    use super::Bug;

    /// Whether this bug is planted: never.
    #[inline(always)]
    pub const fn is(_: Bug) -> bool {
        false
    }
}

pub use switch::*;
