//! Doing one act on a file with blocking calls.

use std::io;

use crate::file::{Durably, OsFile};
use crate::queue::Core;
use crate::report::SyncMethod;
use crate::work::Work;

/// Performs the act, whole or failed.
pub(crate) fn perform(file: &OsFile, core: &Core, work: &mut Work) -> io::Result<()> {
    let stats = &core.stats;
    match work {
        Work::Read(part) => file.read_full(part.offset, &mut part.buf[..part.len], stats),
        Work::Write(run) => {
            let pieces: Vec<&[u8]> = run.parts.iter().map(|part| &part.buf[..part.len]).collect();
            file.write_full(run.offset, &pieces, Durably::No, stats)
        }
        Work::Durable(_, part) => {
            let durably = first_step(core.method());
            file.write_full(part.offset, &[&part.buf[..part.len]], durably, stats)
        }
        Work::Sync(_) => file.sync(stats),
        Work::Grow(_, len_bytes, _) => file.grow(core.len_bytes(), *len_bytes, stats),
    }
}

/// Writes durably, both steps.
pub(crate) fn write_durably(
    file: &OsFile,
    core: &Core,
    offset: u64,
    bytes: &[u8],
) -> io::Result<()> {
    let method = core.method();
    file.write_full(offset, &[bytes], first_step(method), &core.stats)?;
    match method {
        SyncMethod::DsyncWrite => Ok(()),
        SyncMethod::WriteThenSync | SyncMethod::WriteThenFullSync => file.sync(&core.stats),
    }
}

fn first_step(method: SyncMethod) -> Durably {
    match method {
        SyncMethod::DsyncWrite => Durably::Itself,
        SyncMethod::WriteThenSync | SyncMethod::WriteThenFullSync => Durably::No,
    }
}
