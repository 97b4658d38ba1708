//! Choosing how a write is made durable.
//!
//! One write with `RWF_DSYNC` may be a single command to the drive, a write and a flush, or on
//! some drives several times slower than a write followed by `fdatasync`. Nothing but the clock
//! tells which, and only a caller knows a range whose content is not needed. So an open assumes a
//! method, and both are timed when such a range is named.
//!
//! They are timed as durable writes like any others, through the queue and the owner: that is
//! what a commit costs later. Blocking calls on the file were rejected: they do not see that a
//! ring leaves a sync to a thread of the kernel.

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::BLOCK_BYTES;
use crate::buf::Buf;
use crate::io::Io;
use crate::report::SyncMethod;

/// Durable writes of each method; the fastest counts: noise only makes a write slower.
const ROUNDS: usize = 5;

/// A disk that takes longer for one write is not asked again: open must not take seconds.
const WRITE_MAX: Duration = Duration::from_millis(20);

/// The assumed method stays unless it takes longer than the other by this part:
/// a choice that changes from open to open is worse than one that is a little slower.
const TIE_PERCENT: u32 = 40;

/// The method before anything is measured, and the reason.
pub(crate) fn assumed(direct: bool) -> (SyncMethod, &'static str) {
    if cfg!(target_vendor = "apple") {
        return (SyncMethod::WriteThenFullSync, "the only real sync here");
    }
    if cfg!(not(target_os = "linux")) {
        return (SyncMethod::WriteThenSync, "the only sync here");
    }
    match direct {
        true => (SyncMethod::DsyncWrite, "assumed for direct I/O"),
        false => (SyncMethod::WriteThenSync, "assumed for buffered I/O"),
    }
}

/// Times both methods in the range; the one to use from now on, and the reason.
pub(crate) async fn measure(
    io: &Io,
    assumed: SyncMethod,
    offset: u64,
    len_bytes: u64,
) -> io::Result<(SyncMethod, String)> {
    let places = len_bytes / BLOCK_BYTES as u64;
    let (mut dsync, mut then_sync) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS as u64 {
        let at = offset + (round % places) * BLOCK_BYTES as u64;
        match time(io, SyncMethod::DsyncWrite, at).await {
            Ok(took) => dsync.push(took),
            Err(error) if is_unsupported(&error) => {
                let reason = format!("a write that syncs itself is refused: {error}");
                return Ok((SyncMethod::WriteThenSync, reason));
            }
            Err(error) => return Err(error),
        }
        then_sync.push(time(io, SyncMethod::WriteThenSync, at).await?);
        if dsync.iter().chain(&then_sync).any(|took| *took > WRITE_MAX) {
            break;
        }
    }
    Ok(choose(assumed, fastest(&dsync), fastest(&then_sync)))
}

async fn time(io: &Io, method: SyncMethod, offset: u64) -> io::Result<Duration> {
    let zeros = Buf::zeroed(BLOCK_BYTES);
    let begun = Instant::now();
    let (result, _) = io.write_durable_by(method, offset, zeros, BLOCK_BYTES).await;
    result.map(|()| begun.elapsed())
}

/// Whether the kernel or the file system does not know such writes.
fn is_unsupported(error: &io::Error) -> bool {
    let refusals = [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL];
    Errno::from_io_error(error).is_some_and(|errno| refusals.contains(&errno))
}

fn fastest(times: &[Duration]) -> Duration {
    times.iter().copied().min().expect("there is a round")
}

fn choose(assumed: SyncMethod, dsync: Duration, then_sync: Duration) -> (SyncMethod, String) {
    let times = format!("RWF_DSYNC {dsync:.1?}, write and fdatasync {then_sync:.1?}");
    let tie = |faster: Duration, slower: Duration| slower * 100 <= faster * (100 + TIE_PERCENT);
    let faster = match dsync <= then_sync {
        true => SyncMethod::DsyncWrite,
        false => SyncMethod::WriteThenSync,
    };
    match tie(dsync.min(then_sync), dsync.max(then_sync)) {
        true => (assumed, format!("measured: {times}; too close to give up what was assumed")),
        false => (faster, format!("measured: {times}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(assumed: SyncMethod, dsync_us: u64, then_sync_us: u64, expected: SyncMethod) {
        let us = Duration::from_micros;
        let (method, reason) = choose(assumed, us(dsync_us), us(then_sync_us));
        assert_eq!(method, expected, "{reason}");
    }

    #[test]
    fn the_faster_method_is_chosen_and_a_tie_changes_nothing() {
        let (one, two) = (SyncMethod::DsyncWrite, SyncMethod::WriteThenSync);
        for assumed in [one, two] {
            check(assumed, 100, 141, one);
            check(assumed, 141, 100, two);
            check(assumed, 100, 140, assumed);
            check(assumed, 140, 100, assumed);
        }
    }

    #[test]
    fn one_slow_write_does_not_decide() {
        let times = [9, 1, 2, 1, 2].map(Duration::from_millis);
        assert_eq!(fastest(&times), Duration::from_millis(1));
    }
}
