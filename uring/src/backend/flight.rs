//! What is in the ring: acts of the queue, the feed's write, the bell.
//!
//! Each knows its next entry and what a completion means for it, and keeps the memory that the
//! kernel works on.

use std::io;
use std::sync::Arc;

use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{opcode, squeue};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::backend::setup::{BELL_INDEX, FEED_INDEX, FILE_INDEX, POOL_INDEX};
use crate::buf::Buf;
use crate::calls::{TRANSIENT_MAX, is_transient, resize, resume_read};
use crate::feed::{FeedDone, FeedWrite};
use crate::file::OsFile;
use crate::queue::Core;
use crate::report::SyncMethod;
use crate::stats::Counters;
use crate::work::{Resize, Run, Work};

/// The two highest bits of a key tell whose it is; slots have neither.
pub(crate) const TAG_MASK: u64 = 3 << 62;
/// A write of the feed.
pub(crate) const FEED_TAG: u64 = 1 << 62;
/// The bell.
pub(crate) const BELL_TAG: u64 = 2 << 62;

const FILE: Fixed = Fixed(FILE_INDEX);
const FEED_FILE: Fixed = Fixed(FEED_INDEX);

/// What a completion means.
pub(crate) enum Landing {
    /// The next entry has to be submitted.
    Again,
    /// It is over.
    Over(io::Result<()>),
}

/// One act of the queue in the ring.
pub(crate) struct Flight {
    pub(crate) work: Work,
    vectors: Vec<libc::iovec>,
    done: usize,
    transient: u32,
}

// SAFETY: the vectors point into the buffers that the work owns, which move with it.
unsafe impl Send for Flight {}

impl Flight {
    pub(crate) fn new(work: Work) -> Flight {
        Flight { work, vectors: Vec::new(), done: 0, transient: 0 }
    }

    /// The entry for what is left to do.
    pub(crate) fn entry(&mut self, core: &Core) -> squeue::Entry {
        let done = self.done;
        match &mut self.work {
            Work::Read(part) => {
                let (left, offset) = ((part.len - done) as u32, part.offset + done as u64);
                let address = part.buf.address(done);
                match part.buf.is_registered() {
                    true => opcode::ReadFixed::new(FILE, address, left, POOL_INDEX)
                        .offset(offset)
                        .build(),
                    false => opcode::Read::new(FILE, address, left).offset(offset).build(),
                }
            }
            Work::Write(run) => write_run(run, &mut self.vectors, done),
            Work::Durable(_, method, part) => {
                write(FILE, part.offset, &mut part.buf, part.len, done, flags(*method))
            }
            Work::Sync(_) => sync(FILE),
            Work::Resize(_, Resize::Grow(to), _) => {
                let from = core.len_bytes();
                opcode::Fallocate::new(FILE, *to - from).offset(from).build()
            }
            Work::Resize(_, Resize::Shrink(_), _) => panic!("a file is cut off by a plain call"),
        }
    }

    /// Takes a completion in.
    pub(crate) fn landed(&mut self, result: i32, file: &OsFile, core: &Core) -> Landing {
        let stats = &core.stats;
        let count = match outcome(result, &mut self.transient, stats) {
            Ok(Some(count)) => count,
            Ok(None) => return Landing::Again,
            Err(error) => return Landing::Over(self.failed(error, file, core)),
        };
        let len = match &self.work {
            Work::Read(part) => part.len,
            Work::Write(run) => run.len_bytes(),
            Work::Durable(_, _, part) => part.len,
            Work::Sync(_) | Work::Resize(..) => return Landing::Over(Ok(())),
        };
        if matches!(self.work, Work::Read(_))
            && self.done + count < len
            && let Err(end) = resume_read(count, stats)
        {
            return Landing::Over(Err(end));
        }
        progress(&mut self.done, count, len, stats)
    }

    /// Answers with the error; buffers stay with the kernel.
    pub(crate) fn abandon(self, error: &io::Error) {
        std::mem::forget(self.vectors);
        self.work.abandon(error);
    }

    fn failed(&self, error: io::Error, file: &OsFile, core: &Core) -> io::Result<()> {
        if let Work::Resize(_, to, _) = &self.work
            && Errno::from_io_error(&error) == Some(Errno::OPNOTSUPP)
        {
            // No reservation on this file system: the plain call sets the length only.
            return resize(file, core.len_bytes(), *to, &core.stats);
        }
        Err(error)
    }
}

/// A write of the feed in the ring.
pub(crate) struct FeedFlight {
    pub(crate) write: FeedWrite,
    pub(crate) key: u64,
    done: usize,
    transient: u32,
    step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Write,
    Sync,
}

impl FeedFlight {
    pub(crate) fn new(write: FeedWrite, number: u64) -> FeedFlight {
        let key = FEED_TAG | (number & !TAG_MASK);
        FeedFlight { write, key, done: 0, transient: 0, step: Step::Write }
    }

    /// The entry for what is left to do.
    pub(crate) fn entry(&mut self) -> squeue::Entry {
        let FeedWrite { offset, buf, len, method, .. } = &mut self.write;
        let entry = match self.step {
            Step::Write => write(FEED_FILE, *offset, buf, *len, self.done, flags(*method)),
            Step::Sync => sync(FEED_FILE),
        };
        entry.user_data(self.key)
    }

    /// Takes a completion in.
    pub(crate) fn landed(&mut self, result: i32, core: &Core) -> Landing {
        let count = match outcome(result, &mut self.transient, &core.stats) {
            Ok(Some(count)) => count,
            Ok(None) => return Landing::Again,
            Err(error) => return Landing::Over(Err(error)),
        };
        if self.step == Step::Sync {
            return Landing::Over(Ok(()));
        }
        let landing = progress(&mut self.done, count, self.write.len, &core.stats);
        if self.write.method.has_two_steps() && matches!(landing, Landing::Over(Ok(()))) {
            self.step = Step::Sync;
            return Landing::Again;
        }
        landing
    }

    /// The write with an error; its buffer stays with the kernel.
    pub(crate) fn abandon(mut self, error: io::Error) -> FeedDone {
        std::mem::forget(std::mem::replace(&mut self.write.buf, Buf::empty()));
        self.write.over(Err(error))
    }
}

/// The bell: a read of an event counter that is always in the ring while its owner sleeps.
pub(crate) struct Bell {
    event: Arc<OwnedFd>,
    counter: Box<[u8; 8]>,
    armed: bool,
}

impl Bell {
    pub(crate) fn new(event: Arc<OwnedFd>) -> Bell {
        Bell { event, counter: Box::new([0; 8]), armed: false }
    }

    /// The entry that lets the ring hear the bell, if it does not yet.
    pub(crate) fn arm(&mut self) -> Option<squeue::Entry> {
        if self.armed {
            return None;
        }
        self.armed = true;
        let entry = opcode::Read::new(Fixed(BELL_INDEX), self.counter.as_mut_ptr(), 8).build();
        Some(entry.user_data(BELL_TAG))
    }

    /// The ring heard it, or its read was cancelled.
    pub(crate) fn heard(&mut self) {
        self.armed = false;
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Rings it.
    pub(crate) fn ring(&self, stats: &Counters) {
        crate::backend::Bell::Event(self.event.clone()).ring(stats);
    }

    /// Leaves the counter to the kernel.
    pub(crate) fn abandon(&mut self) {
        if self.armed {
            std::mem::forget(std::mem::take(&mut self.counter));
        }
    }
}

/// A kernel's result: how much, or `None` if it has to be submitted again. The one place where a
/// completion's number becomes a result.
fn outcome(result: i32, transient: &mut u32, stats: &Counters) -> io::Result<Option<usize>> {
    if let Ok(count) = usize::try_from(result) {
        *transient = 0;
        return Ok(Some(count));
    }
    let error = Errno::from_raw_os_error(-result);
    *transient += 1;
    if is_transient(error) && *transient <= TRANSIENT_MAX {
        stats.resubmitted.bump();
        return Ok(None);
    }
    Err(error.into())
}

fn progress(done: &mut usize, count: usize, len: usize, stats: &Counters) -> Landing {
    *done += count;
    match (*done >= len, count) {
        (true, _) => Landing::Over(Ok(())),
        (false, 0) => Landing::Over(Err(io::ErrorKind::WriteZero.into())),
        (false, _) => {
            stats.short_transfers.bump();
            Landing::Again
        }
    }
}

fn flags(method: SyncMethod) -> i32 {
    match method.has_two_steps() {
        false => libc::RWF_DSYNC,
        true => 0,
    }
}

fn write(
    file: Fixed,
    offset: u64,
    buf: &mut Buf,
    len: usize,
    done: usize,
    flags: i32,
) -> squeue::Entry {
    opcode::Write::new(file, buf.address(done), (len - done) as u32)
        .offset(offset + done as u64)
        .rw_flags(flags)
        .build()
}

fn write_run(run: &mut Run, vectors: &mut Vec<libc::iovec>, done: usize) -> squeue::Entry {
    if let [part] = &mut run.parts[..] {
        return write(FILE, run.offset, &mut part.buf, part.len, done, 0);
    }
    vectors.clear();
    let mut skip = done;
    for part in &mut run.parts {
        let skipped = skip.min(part.len);
        skip -= skipped;
        if skipped < part.len {
            let iov_base = part.buf.address(skipped).cast();
            vectors.push(libc::iovec { iov_base, iov_len: part.len - skipped });
        }
    }
    opcode::Writev::new(FILE, vectors.as_ptr(), vectors.len() as u32)
        .offset(run.offset + done as u64)
        .build()
}

fn sync(file: Fixed) -> squeue::Entry {
    opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build()
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
