//! Choosing how a write is made durable.
//!
//! One write with `RWF_DSYNC` may be a single command to the drive, a write and a flush, or on
//! some drives several times slower than a write followed by `fdatasync`. Nothing but the clock
//! tells which, so if the caller names a range whose content is not needed, both are timed there.

use std::io;
use std::time::{Duration, Instant};

use crate::BLOCK_BYTES;
use crate::buf::Buf;
use crate::calls::{Durably, sync, write_full};
use crate::file::OsFile;
use crate::report::SyncMethod;
use crate::settings::Probe;
use crate::stats::Counters;

/// Durable writes per method and round; the fastest of each method counts.
const TRIES: usize = 5;

/// Chooses the method and says how.
pub(crate) fn choose(
    file: &OsFile,
    direct: bool,
    probe: Probe,
    stats: &Counters,
) -> io::Result<(SyncMethod, String)> {
    if cfg!(target_vendor = "apple") {
        return Ok((SyncMethod::WriteThenFullSync, "the only real sync here".into()));
    }
    if cfg!(not(target_os = "linux")) {
        return Ok((SyncMethod::WriteThenSync, "the only sync here".into()));
    }
    match probe {
        Probe::Assume if direct => Ok((SyncMethod::DsyncWrite, "assumed for direct I/O".into())),
        Probe::Assume => Ok((SyncMethod::WriteThenSync, "assumed for buffered I/O".into())),
        Probe::Measure { offset, len_bytes } => measure(file, offset, len_bytes, stats),
    }
}

fn measure(
    file: &OsFile,
    offset: u64,
    len_bytes: u64,
    stats: &Counters,
) -> io::Result<(SyncMethod, String)> {
    let block = BLOCK_BYTES as u64;
    let end = offset.checked_add(len_bytes);
    let inside = end.is_some_and(|end| end <= file.len_bytes().unwrap_or(0));
    if !offset.is_multiple_of(block) || len_bytes < block || !inside {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such range to measure in"));
    }
    let zeros = Buf::zeroed(BLOCK_BYTES);
    // Once before the clock runs: the first write to a range may have to allocate it.
    write_full(file, offset, &[&zeros], Durably::No, stats)?;
    sync(file, stats)?;
    let places = len_bytes / block;
    let mut dsync = Duration::MAX;
    let mut then_sync = Duration::MAX;
    for round in 0..TRIES as u64 {
        let at = offset + (round % places) * block;
        let written = Instant::now();
        if let Err(error) = write_full(file, at, &[&zeros], Durably::Itself, stats) {
            let reason = format!("a write that syncs itself failed: {error}");
            return Ok((SyncMethod::WriteThenSync, reason));
        }
        dsync = dsync.min(written.elapsed());
        let written = Instant::now();
        write_full(file, at, &[&zeros], Durably::No, stats)?;
        sync(file, stats)?;
        then_sync = then_sync.min(written.elapsed());
    }
    let method = match dsync <= then_sync {
        true => SyncMethod::DsyncWrite,
        false => SyncMethod::WriteThenSync,
    };
    Ok((method, format!("measured: RWF_DSYNC {dsync:?}, write and fdatasync {then_sync:?}")))
}
