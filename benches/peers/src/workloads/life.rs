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
/// Close to what ours takes into its log with as much memory before it moves it to its place.
const FULL_LOG_ROWS: u64 = 600_000;
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
        let Some(recovered) = bench.kept(recovered(&spec, LOG_ROWS)) else { continue };
        recoveries.push((engine, recovered.rows_per_s));
    }
    bench.tell_values("recovery", Unit::BytesPerSecond, recoveries)?;
    tell_least(bench, "bare-recovery", LOG_ROWS)?;
    if !bench.in_one().contains(&Name::Ringdb) {
        return Ok(());
    }
    let spec = bench.spec(Name::Ringdb, "recovery", 1, LOG_MEMORY_BYTES, Durability::Synced);
    if let Some(recovered) = bench.kept(recovered(&spec, FULL_LOG_ROWS)) {
        let log = vec![(Name::Ringdb, recovered.log_per_s)];
        bench.tell_values("recovery-of-full-log", Unit::BytesPerSecond, log)?;
    }
    tell_least(bench, "bare-recovery-of-full-log", FULL_LOG_ROWS)
}

fn tell_least(bench: &mut Bench<'_>, name: &'static str, rows: u64) -> Outcome<()> {
    let mut least = 0.0;
    for _ in 0..RECOVERIES {
        let per_s = least::recovery(bench.directory, rows * ROW_BYTES)?;
        least += per_s / f64::from(RECOVERIES);
    }
    bench.tell_values(name, Unit::BytesPerSecond, vec![(Name::Ringdb, least)])
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

/// Bytes that opening brought back in a second.
#[derive(Default)]
struct Recovered {
    /// Of rows.
    rows_per_s: f64,
    /// Of log, where the engine tells.
    log_per_s: f64,
}

fn recovered(spec: &Spec, rows: u64) -> Outcome<Recovered> {
    let mut recovered = Recovered::default();
    for _ in 0..RECOVERIES {
        let mut peer = Peer::start(spec, None)?;
        peer.ask(Order::Load { load: Load::Random, rows, batch: BATCH_ROWS })?;
        peer.kill()?;
        std::thread::sleep(RESTART_AFTER);
        let again = Peer::start(spec, None)?;
        let per_s = |bytes: u64| bytes as f64 / again.opened.seconds / f64::from(RECOVERIES);
        recovered.rows_per_s += per_s(rows * ROW_BYTES);
        recovered.log_per_s += per_s(again.opened.log_bytes);
        again.remove()?;
    }
    Ok(recovered)
}
