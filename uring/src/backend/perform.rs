//! Doing one act on a file with blocking calls.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::calls::{Calls, Durably, read_full, resize, sync, write_full};
use crate::feed::FeedWrite;
use crate::planted::{self, Bug};
use crate::queue::Core;
use crate::report::SyncMethod;
use crate::work::Work;

/// Performs the act, whole or failed.
pub(crate) fn perform(file: &dyn Calls, core: &Core, work: &mut Work) -> io::Result<()> {
    let stats = &core.stats;
    match work {
        Work::Read(part) => read_full(file, part.offset, &mut part.buf[..part.len], stats),
        Work::Write(run) => {
            let pieces: Vec<&[u8]> = run.parts.iter().map(|part| &part.buf[..part.len]).collect();
            write_full(file, run.offset, &pieces, Durably::No, stats)
        }
        Work::Durable(_, method, part) => {
            let pieces = [&part.buf[..part.len]];
            write_full(file, part.offset, &pieces, first_step(*method), stats)
        }
        Work::Sync(_) => sync(file, stats),
        Work::Resize(_, to, _) => resize(file, core.len_bytes(), *to, stats),
    }
}

/// Performs the act and ends it; a panic is an error of the act. True if that left the queue idle.
pub(crate) fn complete(file: &dyn Calls, core: &Core, mut work: Work) -> bool {
    let result = catch_unwind(AssertUnwindSafe(|| perform(file, core, &mut work)));
    core.finish(work, result.unwrap_or_else(|_| Err(io::Error::other("a worker panicked"))))
}

/// Writes for the feed, both steps.
pub(crate) fn write_durably(file: &dyn Calls, core: &Core, write: &FeedWrite) -> io::Result<()> {
    let FeedWrite { offset, buf, len, method, .. } = write;
    write_full(file, *offset, &[&buf[..*len]], first_step(*method), &core.stats)?;
    match method.has_two_steps() {
        false => Ok(()),
        true => sync(file, &core.stats),
    }
}

fn first_step(method: SyncMethod) -> Durably {
    if planted::is(Bug::LogNotDurable) {
        return Durably::No;
    }
    match method.has_two_steps() {
        false => Durably::Itself,
        true => Durably::No,
    }
}
