//! Random reads of a table eight times the memory, 64 in flight.
//!
//! Engines that read through the page cache of the kernel are held to the same memory by a control
//! group; where there is none, only those that pass it by can be compared. Ours reads with 64
//! tasks; the others with 64 threads, which is kinder to them than `spawn_blocking`. What 64 threads
//! and 64 tasks get from the same disk without an engine is measured behind ours.

use std::fs::{self, File};
use std::path::Path;

use crate::bench::{Bench, Beside, Race};
use crate::engines::{Durability, Name, Outcome};
use crate::limit::Limit;
use crate::peer::Peer;
use crate::protocol::{Load, Order, Runner, Spec, Work};

const IN_FLIGHT: u32 = 64;
/// Rows over memory.
const TIMES: u64 = 8;
const BATCH_ROWS: u32 = 1000;
/// What a process needs besides: code, stacks of 64 threads, indexes of open files.
const PROCESS_BYTES: u64 = 24 << 20;

/// Runs it.
pub fn run(bench: &mut Bench<'_>) -> Outcome<()> {
    let memory_bytes = (bench.payload_bytes() / TIMES).max(4 << 20);
    let Some((limit, specs)) = loaded(bench, "cold", memory_bytes) else { return Ok(()) };
    bench.bare.read_as_much_as(bench.payload_bytes())?;
    let (ours, peers): (Vec<Spec>, Vec<Spec>) =
        specs.into_iter().partition(|spec| spec.engine.is_ours());
    let work = Work::Get { loaded: bench.rows };
    let race = |runner| Race {
        name: "cold-reads",
        work,
        runner,
        actors: IN_FLIGHT,
        families: 1,
        beside: Beside::Reads,
    };
    for (specs, runner) in [(ours, Runner::Tasks), (peers, Runner::Threads)] {
        // One after another: the page cache that one fills is in nobody else's way.
        for spec in specs {
            let mut started = bench.start(vec![spec], limit.as_ref());
            bench.race(race(runner), &mut started)?;
            if runner == Runner::Tasks {
                bench.tell_bare_reads()?;
            }
            bench.remove(started);
        }
    }
    Ok(())
}

/// Loads a table in every engine with memory enough, closes it and drops what the kernel cached;
/// the specs to open it again with less, and the limit.
pub fn loaded(
    bench: &Bench<'_>,
    case: &str,
    memory_bytes: u64,
) -> Option<(Option<Limit>, Vec<Spec>)> {
    let limit = match Limit::new(memory_bytes + PROCESS_BYTES) {
        Ok(limit) => Some(limit),
        Err(error) => {
            println!("    no control groups ({error}): only engines with direct reads take part");
            None
        }
    };
    let mut specs = Vec::new();
    for engine in bench.in_tables() {
        if limit.is_none() && !reads_directly(engine) {
            continue;
        }
        let spec = bench.spec(engine, case, 1, 512 << 20, Durability::Unsynced);
        if bench.kept(load(&spec, bench.rows)).is_some() {
            let mut spec = spec;
            spec.settings.memory_bytes = memory_bytes as usize;
            specs.push(spec);
        }
    }
    (!specs.is_empty()).then_some((limit, specs))
}

fn load(spec: &Spec, rows: u64) -> Outcome<()> {
    let mut peer = Peer::start(spec, None)?;
    peer.ask(Order::Load { load: Load::Random, rows, batch: BATCH_ROWS })?;
    peer.ask(Order::Settle)?;
    // Merges that the load left to be done are not part of what is measured later.
    peer.rest()?;
    peer.quit()?;
    forget(&spec.settings.directory)
}

/// Whether it passes the page cache of the kernel by, as it is opened here.
fn reads_directly(engine: Name) -> bool {
    #[cfg(feature = "rocksdb")]
    if engine == Name::Rocksdb {
        return true;
    }
    engine.is_ours()
}

/// Writes what is dirty, then drops the page cache of all files.
fn forget(directory: &Path) -> Outcome<()> {
    let mut pending = vec![directory.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.metadata()?.is_dir() {
                pending.push(entry.path());
                continue;
            }
            let file = File::open(entry.path())?;
            file.sync_all()?;
            drop_cached(&file)?;
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn drop_cached(file: &File) -> std::io::Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

#[cfg(not(target_os = "linux"))]
fn drop_cached(_file: &File) -> std::io::Result<()> {
    Ok(())
}
