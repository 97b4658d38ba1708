//! Blocking calls on a file, real or simulated, and how they are made whole.
//!
//! A single call may transfer less than asked, or be interrupted. The functions here go on until
//! the transfer is whole or has failed; what failed is reported and never tried again.

use std::io::{self, IoSlice};

use rustix::io::Errno;

use crate::planted::{self, Bug};
use crate::stats::Counters;
use crate::work::Resize;

/// Interrupted or put-off calls in a row before the error is believed.
pub(crate) const TRANSIENT_MAX: u32 = 1000;

/// How durable one write is when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durably {
    /// Not at all.
    No,
    /// Its own bytes are.
    Itself,
}

/// Single calls, as the device answers them.
pub(crate) trait Calls: Send + Sync {
    /// Reads at most the buffer; 0 at the end of the file.
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Errno>;

    /// Writes at most all pieces.
    fn write(&self, offset: u64, pieces: &[IoSlice<'_>], how: Durably) -> Result<usize, Errno>;

    /// Makes everything written before durable, the length included.
    fn sync(&self) -> Result<(), Errno>;

    /// Lengthens the file.
    fn allocate(&self, from: u64, to: u64) -> Result<(), Errno>;

    /// Cuts the file off.
    fn truncate(&self, len_bytes: u64) -> Result<(), Errno>;
}

/// Fills the buffer from `offset`, or fails: `UnexpectedEof` if the file ends before.
pub(crate) fn read_full(
    file: &dyn Calls,
    offset: u64,
    buf: &mut [u8],
    stats: &Counters,
) -> io::Result<()> {
    let mut done = 0;
    let mut transient = 0;
    while done < buf.len() {
        stats.syscalls.bump();
        let count = match file.read(offset + done as u64, &mut buf[done..]) {
            Ok(count) => count,
            Err(error) => {
                retry(error, &mut transient, stats)?;
                continue;
            }
        };
        if done + count < buf.len() {
            resume_read(count, stats)?;
        }
        done += count;
    }
    Ok(())
}

/// Writes all pieces, one behind the other, from `offset`.
pub(crate) fn write_full(
    file: &dyn Calls,
    offset: u64,
    pieces: &[&[u8]],
    how: Durably,
    stats: &Counters,
) -> io::Result<()> {
    let len: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut done = 0;
    let mut transient = 0;
    while done < len {
        stats.syscalls.bump();
        let rest = skip(pieces, done);
        match file.write(offset + done as u64, &rest, how) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) if planted::is(Bug::ShortWriteWhole) => return Ok(()),
            Ok(count) => {
                done += count;
                if done < len {
                    stats.short_transfers.bump();
                }
            }
            Err(error) => retry(error, &mut transient, stats)?,
        }
    }
    Ok(())
}

/// Makes everything written before durable.
pub(crate) fn sync(file: &dyn Calls, stats: &Counters) -> io::Result<()> {
    let mut transient = 0;
    loop {
        stats.syscalls.bump();
        match file.sync() {
            Ok(()) => return Ok(()),
            Err(_) if planted::is(Bug::SyncRetried) && transient == 0 => transient = 1,
            Err(error) => retry(error, &mut transient, stats)?,
        }
    }
}

/// Changes the length of the file unless it is as wanted; `from` is its length now.
pub(crate) fn resize(file: &dyn Calls, from: u64, to: Resize, stats: &Counters) -> io::Result<()> {
    if to.holds(from) {
        return Ok(());
    }
    let mut transient = 0;
    loop {
        stats.syscalls.bump();
        let resized = match to {
            Resize::Grow(to) => file.allocate(from, to),
            Resize::Shrink(to) => file.truncate(to),
        };
        match resized {
            Ok(()) => return Ok(()),
            Err(error) => retry(error, &mut transient, stats)?,
        }
    }
}

/// Judges a short read. A count that ends inside a sector is the end of the file.
pub(crate) fn resume_read(count: usize, stats: &Counters) -> io::Result<()> {
    const SECTOR_BYTES: usize = 512;
    stats.short_transfers.bump();
    match count > 0 && count.is_multiple_of(SECTOR_BYTES) {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Whether the call may succeed if it is made again: nothing was refused for good.
pub(crate) fn is_transient(error: Errno) -> bool {
    matches!(error, Errno::INTR | Errno::AGAIN | Errno::CANCELED)
}

fn retry(error: Errno, transient: &mut u32, stats: &Counters) -> io::Result<()> {
    *transient += 1;
    if !is_transient(error) || *transient > TRANSIENT_MAX {
        return Err(error.into());
    }
    stats.resubmitted.bump();
    Ok(())
}

fn skip<'a>(pieces: &[&'a [u8]], mut bytes: usize) -> Vec<IoSlice<'a>> {
    let mut rest = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let skipped = bytes.min(piece.len());
        bytes -= skipped;
        if skipped < piece.len() {
            rest.push(IoSlice::new(&piece[skipped..]));
        }
    }
    rest
}
