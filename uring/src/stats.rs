//! Counters of what this file's I/O cost, exact because each is bumped where the act is.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters since open.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats { $($(#[$doc])* pub $name: u64,)* }

        /// The live counters.
        #[derive(Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter,)* }

        impl Counters {
            /// A plain copy, each counter read on its own.
            pub(crate) fn read(&self) -> Stats {
                Stats { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// System calls this crate made for I/O, waiting and waking. Turns that threads give away are not counted.
    syscalls,
    /// Reads completed.
    reads,
    /// Page writes completed (before coalescing).
    writes,
    /// Durable writes completed, of the feed and others.
    durable_writes,
    /// Syncs completed.
    syncs,
    /// Bytes read.
    read_bytes,
    /// Bytes of page writes.
    write_bytes,
    /// Bytes of durable writes.
    durable_bytes,
    /// Times the owner was woken from outside.
    wakeups,
    /// Page writes that travelled in another one's vectored write.
    coalesced,
    /// Transfers that came back short and were resumed.
    short_transfers,
    /// Operations the kernel cancelled or put off, submitted again.
    resubmitted,
    /// Completions that matched no operation, ignored.
    stale,
    /// Operations that failed.
    failed,
    /// Times a blocking caller took the role.
    drives,
}

/// One counter.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds one.
    pub(crate) fn bump(&self) {
        self.add(1);
    }
}
