//! Latencies of durable commits beside checkpoints, over those without; and how late a timer of one
//! millisecond is beside 64 committing tasks.

use crate::bench::Bench;
use crate::engines::{Durability, Outcome};
use crate::peer::Peer;
use crate::protocol::{Load, Order, Runner, Work};
use crate::rows::{Case, Row, Unit};

const MEMORY_BYTES: u64 = 256 << 20;
const WRITERS: u32 = 8;
const TASKS: u32 = 64;
const BATCH_ROWS: u32 = 1000;
/// Of half the time of a case each; percentiles are of all slices of a kind, as of one only some ten commits are beyond its p99.9.
const SLICES: u64 = 8;

/// Runs it.
pub fn run(bench: &mut Bench<'_>) -> Outcome<()> {
    let spec = |engine| bench.spec(engine, "tails", 1, MEMORY_BYTES, Durability::Synced);
    let specs = bench.in_tables().into_iter().map(spec).collect();
    let mut peers = bench.start(specs, None);
    let (rows, ms) = (bench.rows, bench.time.as_millis() as u64);
    bench.each(&mut peers, |peer| {
        peer.ask(Order::Load { load: Load::Random, rows, batch: BATCH_ROWS })?;
        peer.ask(Order::Settle).map(drop)
    });
    let mut ratios = Vec::new();
    bench.each(&mut peers, |peer| {
        if let Some(ratio) = beside_over_without(peer, rows, ms)? {
            ratios.push((peer.engine, ratio));
        }
        Ok(())
    });
    bench.tell_values("p99.9-beside-checkpoint", Unit::Times, ratios)?;
    for tasks in [0, TASKS] {
        let mut rows = Vec::new();
        bench.each(&mut peers, |peer| {
            let latency_us = peer.ask(Order::Timer { tasks, ms })?.latency_us;
            let case = Case { name: "timer-late-p99.9", actors: tasks };
            let (value, unit) = (latency_us[2] / 1e3, Unit::Milliseconds);
            rows.push(Row { case, engine: peer.engine, value, unit, latency_us, bare_per_s: 0.0 });
            Ok(())
        });
        bench.tell(rows)?;
    }
    bench.remove(peers);
    Ok(())
}

/// In turns; `None` if the engine has no checkpoints.
fn beside_over_without(peer: &mut Peer, loaded: u64, ms: u64) -> Outcome<Option<f64>> {
    let work = Work::Update { rows: 1, loaded };
    for _ in 0..SLICES {
        let run =
            Order::Run { work, runner: Runner::Threads, actors: WRITERS, families: 1, ms: ms / 2 };
        peer.ask(run)?;
        let run = Order::RunBesideCheckpoints { actors: WRITERS, ms: ms / 2, loaded };
        if !peer.ask(run)?.has_it {
            return Ok(None);
        }
    }
    let without = peer.ask(Order::Report)?.latency_us[2];
    Ok(Some(peer.ask(Order::ReportBeside)?.latency_us[2] / without))
}
