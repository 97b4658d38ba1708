//! Durable writes that the owner pulls, one at a time.
//!
//! The log is not pushed into the queue: whoever closes a group must know that the last one is
//! durable and wants to close it as late as possible, so the owner asks when it is ready to write.

use std::io;
use std::time::{Duration, Instant};

use crate::buf::Buf;
use crate::report::SyncMethod;

/// Source of durable writes, such as a log. At most one of its writes is in flight.
pub trait Feed: Send + std::marker::Sync + 'static {
    /// Called by whoever holds the role whenever no write of the feed is in flight.
    fn next(&self, now: Instant) -> Next;

    /// What `next` would answer if nobody came, without taking it: called by an owner that leaves
    /// and wakes somebody else for what is answered. With nobody waiting for an appointment it
    /// need not be told, if the first who comes kicks.
    fn pending(&self, now: Instant) -> Pending;

    /// Called exactly once for each [`Next::Write`], on the driver's thread, outside the locks of
    /// this crate, with the result, the buffer and how long the write took. If the owner failed
    /// while the kernel had the buffer, the buffer stays with the kernel and an empty one comes.
    fn done(&self, result: io::Result<()>, buf: Buf, took: Duration);

    /// Called behind each `done`, by the same thread: the time to wake who waits for the write. A driver with nothing else in flight
    /// has left the role by then, so that those who come back find it free: another write may be in flight, and the file closed.
    fn tell(&self) {}

    /// The owner failed: `next` is never called again. Whoever waits should be told the cause.
    fn abandoned(&self, cause: io::Error) {
        drop(cause);
    }
}

/// What a feed has to write.
#[derive(Debug)]
pub enum Next {
    /// Write the first `len` bytes of `buf` at `offset`, durably.
    Write {
        /// First byte, a multiple of a block.
        offset: u64,
        /// The bytes.
        buf: Buf,
        /// How many of them, a multiple of a block.
        len: usize,
    },
    /// Nothing until kicked.
    Idle,
    /// Nothing now: ask again at this instant, or when kicked.
    At(Instant),
}

/// What a feed would have to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// A write.
    Write,
    /// Nothing before this instant, unless kicked.
    At(Instant),
    /// Nothing until kicked.
    Nothing,
}

/// A feed's write on its way.
pub(crate) struct FeedWrite {
    pub(crate) offset: u64,
    pub(crate) buf: Buf,
    pub(crate) len: usize,
    pub(crate) method: SyncMethod,
    pub(crate) started: Instant,
}

/// A feed's write that is over.
pub(crate) struct FeedDone {
    pub(crate) result: io::Result<()>,
    pub(crate) buf: Buf,
    pub(crate) took: Duration,
}

impl FeedWrite {
    /// The write with its result, and the time it took.
    pub(crate) fn over(self, result: io::Result<()>) -> FeedDone {
        FeedDone { result, buf: self.buf, took: self.started.elapsed() }
    }
}
