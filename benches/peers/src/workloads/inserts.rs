//! Random inserts into a table ten times the memory: rows a second until all is in its place, and
//! bytes that the kernel was made to write for each byte put.

use crate::bench::Bench;
use crate::data::ROW_BYTES;
use crate::engines::Outcome;
use crate::peer::Peer;
use crate::protocol::{Order, Runner, Work};
use crate::rows::Unit;

use super::cold::loaded;

const TIMES: u64 = 10;
const BATCH_ROWS: u32 = 1000;
/// As many times the time of other rows: merges need some.
const TIME_TIMES: u64 = 5;

/// Runs it.
pub fn run(bench: &mut Bench<'_>) -> Outcome<()> {
    let memory_bytes = (bench.payload_bytes() / TIMES).max(4 << 20);
    let Some((limit, specs)) = loaded(bench, "inserts", memory_bytes) else { return Ok(()) };
    let ms = bench.time.as_millis() as u64 * TIME_TIMES;
    let (mut rates, mut bytes) = (Vec::new(), Vec::new());
    for spec in specs {
        let mut started = bench.start(vec![spec], limit.as_ref());
        bench.each(&mut started, |peer| {
            let (rate, per_byte) = inserted(peer, ms)?;
            rates.push((peer.engine, rate));
            bytes.push((peer.engine, per_byte));
            Ok(())
        });
        bench.remove(started);
    }
    bench.tell_values("random-inserts", Unit::PerSecond, rates)?;
    bench.tell_values("random-inserts-written", Unit::BytesPerByte, bytes)
}

fn inserted(peer: &mut Peer, ms: u64) -> Outcome<(f64, f64)> {
    let before = peer.opened.usage.written_bytes;
    let work = Work::Put { rows: BATCH_ROWS };
    let run = Order::Run { work, runner: Runner::Threads, actors: 1, families: 1, ms };
    let written = peer.ask(run)?;
    let settled = peer.ask(Order::Settle)?;
    let rate = written.ops as f64 / (written.seconds + settled.seconds);
    let bytes = settled.usage.written_bytes - before;
    Ok((rate, bytes as f64 / (written.ops * ROW_BYTES) as f64))
}
