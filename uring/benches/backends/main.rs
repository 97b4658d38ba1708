//! The backends against each other and against tokio-uring's own file operations, on the same
//! file, the same offsets and equal durability.
//!
//! - `log`: durable writes of one block, one after the other, as a log makes them. Ours are pulled
//!   from a feed, by the background thread (`await`) or a driving caller (`wait`). tokio-uring has
//!   no durable write, so its file is opened with `O_DSYNC`, which is the same to the device.
//! - `pages`: adjacent page writes and one sync, as a checkpoint makes them.
//! - `reads`: random page reads, all in flight at once.
//! - `mix`: all three at the same time.
//!
//! After each of ours the cost per round is printed. `RINGDB_BENCH_DIR` names a directory on the
//! disk to measure; by default it is Cargo's temporary one.

mod ours;
#[cfg(target_os = "linux")]
mod theirs;

use std::path::{Path, PathBuf};

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use ringdb_uring::{BLOCK_BYTES, BackendChoice, Io, Settings};

use ours::{Ours, Waits};

/// Bytes of a page.
pub(crate) const PAGE_BYTES: usize = 8192;
/// The log's part of the file, in front of the pages.
pub(crate) const LOG_BYTES: u64 = 4 << 20;
/// Bytes of the file.
pub(crate) const FILE_BYTES: u64 = 32 << 20;
/// Log writes in a round.
pub(crate) const LOG_WRITES: usize = 16;
/// Page writes in a round.
pub(crate) const PAGE_WRITES: usize = 128;
/// Page reads in a round.
pub(crate) const PAGE_READS: usize = 128;

/// What a round does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    Log,
    Pages,
    Reads,
    Mix,
}

impl Round {
    fn name(self) -> &'static str {
        match self {
            Round::Log => "log",
            Round::Pages => "pages",
            Round::Reads => "reads",
            Round::Mix => "mix",
        }
    }

    fn operations(self) -> u64 {
        let operations = match self {
            Round::Log => LOG_WRITES,
            Round::Pages => PAGE_WRITES,
            Round::Reads => PAGE_READS,
            Round::Mix => LOG_WRITES + PAGE_WRITES + PAGE_READS,
        };
        operations as u64
    }

    pub(crate) fn writes_log(self) -> bool {
        matches!(self, Round::Log | Round::Mix)
    }

    pub(crate) fn writes_pages(self) -> bool {
        matches!(self, Round::Pages | Round::Mix)
    }

    pub(crate) fn reads_pages(self) -> bool {
        matches!(self, Round::Reads | Round::Mix)
    }
}

/// Offset of a log write.
pub(crate) fn log_offset(number: u64) -> u64 {
    number * BLOCK_BYTES as u64 % LOG_BYTES
}

/// Offset of the `index`th page write of a round: adjacent ones, elsewhere each round.
pub(crate) fn write_offset(round: u64, index: usize) -> u64 {
    let pages = (FILE_BYTES - LOG_BYTES) / PAGE_BYTES as u64;
    LOG_BYTES + (round * PAGE_WRITES as u64 + index as u64) % pages * PAGE_BYTES as u64
}

/// Offset of the `index`th read of a round: scattered.
pub(crate) fn read_offset(round: u64, index: usize) -> u64 {
    let pages = (FILE_BYTES - LOG_BYTES) / PAGE_BYTES as u64;
    let number = (round * PAGE_READS as u64 + index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    LOG_BYTES + (number >> 20) % pages * PAGE_BYTES as u64
}

/// A file whose blocks are all written, so that no write has to allocate.
fn file(directory: &Path) -> PathBuf {
    let path = directory.join("backends.ring");
    let _ = std::fs::remove_file(&path);
    Io::create(&path, &Settings::default(), FILE_BYTES, &[]).expect("the file can be created");
    path
}

fn backends(criterion: &mut Criterion) {
    let directory = std::env::var_os("RINGDB_BENCH_DIR");
    let directory = directory.map_or(PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let path = file(&directory);
    for round in [Round::Log, Round::Pages, Round::Reads, Round::Mix] {
        let mut group = criterion.benchmark_group(round.name());
        group.throughput(Throughput::Elements(round.operations()));
        group.sample_size(20);
        for (name, backend) in [("uring", BackendChoice::Uring), ("pwrite", BackendChoice::Pwrite)]
        {
            let settings = Settings { backend, ..Settings::default() };
            match Io::open(&path, &settings) {
                Err(error) => println!("{name} is skipped: {error}"),
                Ok(io) => measure(&mut group, name, io, round),
            }
        }
        #[cfg(target_os = "linux")]
        theirs::measure(&mut group, &path, round);
        group.finish();
    }
    std::fs::remove_file(&path).expect("the file is ours");
}

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn measure(group: &mut Group<'_>, name: &str, io: Io, round: Round) {
    let ours = Ours::new(io);
    let ways: &[(Waits, &str)] = match round {
        Round::Log => &[(Waits::Awaits, " (await)"), (Waits::Drives, " (wait)")],
        Round::Pages | Round::Reads | Round::Mix => &[(Waits::Awaits, "")],
    };
    for (waits, way) in ways {
        let before = ours.stats();
        let rounds_before = ours.rounds();
        group.bench_function(format!("{name}{way}"), |bencher| {
            bencher.iter(|| ours.round(round, *waits));
        });
        let (stats, rounds) = (ours.stats(), (ours.rounds() - rounds_before).max(1) as f64);
        let per_round = |after: u64, before: u64| (after - before) as f64 / rounds;
        println!(
            "  a round of {} operations: {:.1} system calls, {:.1} wake-ups, {:.1} durable writes, \
             {:.1} syncs, {:.0} bytes written, {:.1} writes in another's call",
            round.operations(),
            per_round(stats.syscalls, before.syscalls),
            per_round(stats.wakeups, before.wakeups),
            per_round(stats.durable_writes, before.durable_writes),
            per_round(stats.syncs, before.syncs),
            per_round(
                stats.write_bytes + stats.durable_bytes,
                before.write_bytes + before.durable_bytes
            ),
            per_round(stats.coalesced, before.coalesced),
        );
    }
    ours.close();
}

criterion_group!(benches, backends);
criterion_main!(benches);
