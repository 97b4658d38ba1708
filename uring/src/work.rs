//! What the queue hands to a backend, and how it is answered.

use std::io;

use crate::buf::Buf;
#[cfg(target_os = "linux")]
use crate::errors::copy;
use crate::errors::copy_result;
use crate::op::Reply;
use crate::report::SyncMethod;

/// One buffer's transfer at one offset.
pub(crate) struct Part {
    pub(crate) offset: u64,
    pub(crate) len: usize,
    pub(crate) buf: Buf,
    pub(crate) reply: Reply,
}

impl Part {
    /// The offset behind the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.len as u64
    }
}

/// Adjacent writes that travel together.
pub(crate) struct Run {
    pub(crate) epoch: u64,
    pub(crate) offset: u64,
    pub(crate) parts: Vec<Part>,
}

impl Run {
    /// Bytes of all parts.
    pub(crate) fn len_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.len).sum()
    }
}

/// Who waits for a sync.
pub(crate) enum Waiter {
    /// A sync that was asked for.
    Sync(Reply),
    /// A durable write whose bytes are written.
    Durable(Part),
}

/// A new length of the file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resize {
    /// No shorter than this.
    Grow(u64),
    /// No longer than this.
    Shrink(u64),
}

impl Resize {
    /// Whether a file of this length is as wanted.
    pub(crate) fn holds(self, len_bytes: u64) -> bool {
        match self {
            Resize::Grow(min) => len_bytes >= min,
            Resize::Shrink(max) => len_bytes <= max,
        }
    }
}

/// One act of a backend.
pub(crate) enum Work {
    /// Fill a buffer.
    Read(Part),
    /// Write a run of pages.
    Write(Run),
    /// Write one buffer durably; with a sync method of two steps, its first step.
    Durable(u64, SyncMethod, Part),
    /// One sync for all who wait.
    Sync(Vec<Waiter>),
    /// Change the length of the file.
    Resize(u64, Resize, Reply),
}

impl Work {
    /// Sends the result to everyone concerned.
    pub(crate) fn answer(self, result: io::Result<()>) {
        match self {
            Work::Read(part) | Work::Durable(_, _, part) => part.reply.send(result, part.buf),
            Work::Write(run) => {
                for part in run.parts {
                    part.reply.send(copy_result(&result), part.buf);
                }
            }
            Work::Sync(waiters) => {
                for waiter in waiters {
                    waiter.answer(copy_result(&result));
                }
            }
            Work::Resize(_, _, reply) => reply.send(result, Buf::empty()),
        }
    }

    #[cfg(target_os = "linux")]
    /// Answers with an error and keeps every buffer for ever: the kernel may still write to them.
    pub(crate) fn abandon(self, error: &io::Error) {
        match self {
            Work::Read(part) | Work::Durable(_, _, part) => part.abandon(error),
            Work::Write(run) => run.parts.into_iter().for_each(|part| part.abandon(error)),
            work => work.answer(Err(copy(error))),
        }
    }
}

#[cfg(target_os = "linux")]
impl Part {
    fn abandon(self, error: &io::Error) {
        std::mem::forget(self.buf);
        self.reply.send(Err(copy(error)), Buf::empty());
    }
}

impl Waiter {
    fn answer(self, result: io::Result<()>) {
        match self {
            Waiter::Sync(reply) => reply.send(result, Buf::empty()),
            Waiter::Durable(part) => part.reply.send(result, part.buf),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::BLOCK_BYTES;

    /// A part of some blocks whose result nobody waits for.
    pub(crate) fn part(block: u64, blocks: usize) -> Part {
        let len = blocks * BLOCK_BYTES;
        let (reply, _) = crate::op::pair();
        Part { offset: block * BLOCK_BYTES as u64, len, buf: Buf::zeroed(len), reply }
    }
}
