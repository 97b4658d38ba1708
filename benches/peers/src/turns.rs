//! A lone writer and the bare loop by turns, on one thread or in one task.
//!
//! What a durable write costs depends on the thread that makes it, on the processor that this is on, on where the device's
//! interrupts arrive, and on what the processor did before: on one machine with two of them it is 5,000 or 7,300 writes a second.
//! Only what takes turns on one thread can be compared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringdb_cli::exit::Failure;
use ringdb_cli::measure::bare::{Bare, Method};
use ringdb_cli::measure::histogram::Recorder;

use crate::actors::{Actor, Round};
use crate::engines::{Engine, Outcome};
use crate::protocol::Work;

/// An actor and the bare loop by turns.
pub struct ByTurns {
    /// The file of the bare loop.
    pub bare: Arc<Bare>,
    pub method: Method,
    /// How often, and how long each time.
    pub turns: u32,
    pub time: Duration,
    /// Where the actor's latencies go.
    pub recorder: Arc<Recorder>,
}

/// What both did, and in which time.
#[derive(Default)]
pub struct Turned {
    pub ops: u64,
    pub seconds: f64,
    pub bare_writes: u64,
    pub bare_seconds: f64,
}

impl Turned {
    fn add(&mut self, (bare_writes, bare_seconds): (u64, f64), ops: u64, start: Instant) {
        self.ops += ops;
        self.seconds += start.elapsed().as_secs_f64();
        self.bare_writes += bare_writes;
        self.bare_seconds += bare_seconds;
    }
}

impl ByTurns {
    fn round(&self, start: Instant) -> Round {
        Round { until: start + self.time, recorder: self.recorder.clone() }
    }
}

/// Both on one new thread.
pub fn on_thread(
    engine: &dyn Engine,
    actor: &mut Actor,
    work: Work,
    by: &ByTurns,
) -> Outcome<Turned> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut turned = Turned::default();
            for _ in 0..by.turns {
                let bare = by.bare.writes_for(by.method, by.time)?;
                let start = Instant::now();
                let ops = actor.run(engine, work, &by.round(start))?;
                turned.add(bare, ops, start);
            }
            Ok(turned)
        });
        thread.join().map_err(|_| Failure::error("an actor panicked"))?
    })
}

/// Both in one task, for which a thread makes the writes of the bare loop.
pub fn in_task(
    runtime: &tokio::runtime::Runtime,
    engine: &Arc<dyn Engine>,
    mut actor: Actor,
    work: Work,
    by: ByTurns,
) -> Outcome<(Turned, Actor)> {
    let engine = engine.clone();
    let task = runtime.spawn(async move {
        let mut turned = Turned::default();
        let writer = by.bare.writer(by.method);
        for _ in 0..by.turns {
            let bare = writer.writes_for(by.time).await?;
            let start = Instant::now();
            let ops = actor.run_async(engine.clone(), work, &by.round(start)).await?;
            turned.add(bare, ops, start);
        }
        Outcome::Ok((turned, actor))
    });
    runtime.block_on(task).map_err(|error| Failure::error(error.to_string()))?
}
