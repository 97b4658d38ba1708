//! Opening after a clean close, recovery of a log after a kill, memory at its peak, and processor
//! time when nothing is asked.

use std::time::Duration;

use crate::bench::Bench;
use crate::data::ROW_BYTES;
use crate::engines::{Durability, Name, Outcome};
use crate::least;
use crate::peer::Peer;
use crate::protocol::{Load, Order, Runner, Spec, Work};
use crate::rows::Unit;

const BATCH_ROWS: u32 = 1000;
/// Budget of the database whose memory is measured.
const MEMORY_BYTES: u64 = 64 << 20;
/// Fits into a log of every engine, at its settings here, before anything is moved to its place.
const LOG_ROWS: u64 = 300_000;
const LOG_MEMORY_BYTES: u64 = 512 << 20;
/// Between the end of a killed process and its successor, as systemd has it unless told otherwise: until then the kernel takes
/// apart what the process had open, a ring for instance, and only then its file is free.
const RESTART_AFTER: Duration = Duration::from_millis(100);
/// How often a recovery is measured, and the least that one takes.
const RECOVERIES: u32 = 3;

/// Runs it.
pub fn run(bench: &mut Bench<'_>) -> Outcome<()> {
    let rows = bench.rows;
    let (mut peaks, mut idle, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for engine in bench.in_tables() {
        let spec = bench.spec(engine, "life", 1, MEMORY_BYTES, Durability::Unsynced);
        let Some(life) = bench.kept(lived(&spec, rows)) else { continue };
        peaks.push((engine, life.peak_bytes as f64 / f64::from(1 << 20)));
        idle.push((engine, life.idle));
        open.push((engine, life.open_ms));
    }
    bench.tell_values("open-after-close", Unit::Milliseconds, open)?;
    bench.tell_values("peak-memory-of-64-mib", Unit::Mebibytes, peaks)?;
    bench.tell_values("idle", Unit::Processors, idle)?;
    let mut recoveries = Vec::new();
    for engine in bench.in_one() {
        let spec = bench.spec(engine, "recovery", 1, LOG_MEMORY_BYTES, Durability::Synced);
        let Some(per_s) = bench.kept(recovered(&spec)) else { continue };
        recoveries.push((engine, per_s));
    }
    bench.tell_values("recovery", Unit::BytesPerSecond, recoveries)?;
    let mut least = 0.0;
    for _ in 0..RECOVERIES {
        let per_s = least::recovery(bench.directory, LOG_ROWS * ROW_BYTES)?;
        least += per_s / f64::from(RECOVERIES);
    }
    bench.tell_values("bare-recovery", Unit::BytesPerSecond, vec![(Name::Ringdb, least)])
}

struct Life {
    peak_bytes: u64,
    idle: f64,
    open_ms: f64,
}

fn lived(spec: &Spec, rows: u64) -> Outcome<Life> {
    let mut peer = Peer::start(spec, None)?;
    peer.ask(Order::Load { load: Load::RandomBy { writers: 8 }, rows, batch: BATCH_ROWS })?;
    peer.ask(Order::Settle)?;
    let work = Work::Get { loaded: rows };
    let reads = Order::Run { work, runner: Runner::Threads, actors: 8, families: 1, ms: 500 };
    let read = peer.ask(reads)?;
    let idle = peer.rest()?.busy;
    peer.quit()?;
    let again = Peer::start(spec, None)?;
    let open_ms = again.opened.seconds * 1e3;
    again.remove()?;
    Ok(Life { peak_bytes: read.usage.peak_bytes, idle, open_ms })
}

/// Bytes of rows that opening brought back in a second.
fn recovered(spec: &Spec) -> Outcome<f64> {
    let mut per_s = 0.0;
    for _ in 0..RECOVERIES {
        let mut peer = Peer::start(spec, None)?;
        peer.ask(Order::Load { load: Load::Random, rows: LOG_ROWS, batch: BATCH_ROWS })?;
        peer.kill()?;
        std::thread::sleep(RESTART_AFTER);
        let again = Peer::start(spec, None)?;
        let bytes = (LOG_ROWS * ROW_BYTES) as f64;
        per_s += bytes / again.opened.seconds / f64::from(RECOVERIES);
        again.remove()?;
    }
    Ok(per_s)
}
