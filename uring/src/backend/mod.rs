//! What the owner needs of a backend, and the bell that wakes a backend's sleeper.

use std::io;
use std::time::Duration;

use crate::feed::{FeedDone, FeedWrite};
use crate::stats::Counters;

pub(crate) mod blocking;
#[cfg(target_os = "linux")]
pub(crate) mod flight;
pub(crate) mod perform;
#[cfg(target_os = "linux")]
pub(crate) mod ring;
#[cfg(target_os = "linux")]
pub(crate) mod setup;

/// How the holder of the role performs I/O. Methods are called by the holder only.
pub(crate) trait Backend: Send {
    /// Takes a write of the feed; it is begun by the next `wait`.
    fn start_feed(&mut self, write: FeedWrite);

    /// Takes from the queue whatever there is room for.
    fn pump(&mut self);

    /// Whether the next `wait` is nothing but a call that nobody can cut short.
    fn is_deaf(&self) -> bool;

    /// What the holder of the role still has to wait for.
    fn in_flight(&self) -> usize;

    /// Begins what was taken and sleeps until something is over, the bell rings or the time is up.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// The feed's write, if it is over.
    fn feed_done(&mut self) -> Option<FeedDone>;

    /// Answers all else that is over.
    fn settle(&mut self);

    /// Ends everything with an error; buffers that a kernel may still write to are leaked. Gives
    /// the feed's write back.
    fn abandon(self: Box<Self>, error: &io::Error) -> Option<FeedDone>;

    /// Ends the backend; nothing is in flight.
    fn stop(self: Box<Self>);
}

/// Wakes whoever sleeps in a backend's `wait`.
#[derive(Clone)]
pub(crate) enum Bell {
    /// A counter in the kernel that the ring reads.
    #[cfg(target_os = "linux")]
    Event(std::sync::Arc<rustix::fd::OwnedFd>),
    /// The backend sleeps in nothing but the feed's own write, and looks behind it.
    Silent,
    /// A thread that parks where a ring would sleep.
    #[cfg(all(test, ringdb_loom))]
    Thread(crate::threads::thread::Thread),
}

impl Bell {
    /// Wakes the sleeper, or the next one.
    pub(crate) fn ring(&self, stats: &Counters) {
        match self {
            #[cfg(target_os = "linux")]
            Bell::Event(event) => {
                stats.syscalls.bump();
                // It fails only if the counter is full, and then the ring hears it anyway.
                let _ = rustix::io::write(event, &1u64.to_ne_bytes());
            }
            Bell::Silent => {}
            #[cfg(all(test, ringdb_loom))]
            Bell::Thread(thread) => thread.unpark(),
        }
    }
}
