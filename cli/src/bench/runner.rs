//! Runs actors side by side for a while: on threads that block, or as tasks.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::actor::Actor;
use super::bare::{Bare, Method};
use super::histogram::Recorder;
use super::protocol::{BareSlice, Slice, frame};
use crate::exit::Failure;

/// Turns of a slice in which a writer and the bare loop alternate.
const TURNS: u32 = 8;

/// What happens at each acknowledgement, besides recording its latency.
pub enum Tell {
    /// Nothing.
    Nobody,
    /// A frame goes to the parent.
    Parent(File),
}

impl Tell {
    fn acknowledged(&self, actor: &Actor) -> Result<(), Failure> {
        match self {
            Tell::Nobody => Ok(()),
            Tell::Parent(pipe) => {
                let mut pipe: &File = pipe;
                Ok(pipe.write_all(&frame(actor.id, actor.acknowledged()))?)
            }
        }
    }
}

/// What all actors share.
pub struct Round {
    /// When to stop; a step that has begun is finished.
    pub until: Instant,
    /// Where latencies go.
    pub recorder: Recorder,
    /// Who is told.
    pub tell: Tell,
}

impl Round {
    /// Counts a step that began at `before`; `None` when it is time to stop, else the instant from
    /// which the next step counts.
    fn stepped(&self, actor: &Actor, before: Instant) -> Result<Option<Instant>, Failure> {
        let now = Instant::now();
        self.recorder.record(actor.id, now - before);
        self.tell.acknowledged(actor)?;
        Ok((now < self.until).then_some(now))
    }

    fn run_blocking(&self, actor: &mut Actor) -> Result<u64, Failure> {
        let mut ops = 0;
        let mut before = Instant::now();
        loop {
            ops += actor.step_blocking()?;
            match self.stepped(actor, before)? {
                Some(now) => before = now,
                None => return Ok(ops),
            }
        }
    }

    async fn run(&self, actor: &mut Actor) -> Result<u64, Failure> {
        let mut ops = 0;
        let mut before = Instant::now();
        loop {
            ops += actor.step().await?;
            match self.stepped(actor, before)? {
                Some(now) => before = now,
                None => return Ok(ops),
            }
        }
    }
}

/// An actor and the bare loop by turns on one thread, each for so long in all; what both did, and the actor's latencies.
pub fn by_turns(
    actor: &mut Actor,
    (bare, method): &(Bare, Method),
    time: Duration,
) -> Result<(Slice, Recorder), Failure> {
    let run = || {
        let mut slice = Slice { ops: 0, seconds: 0.0, bare: BareSlice::default() };
        let start = Instant::now();
        let mut round = Round { until: start, recorder: Recorder::new(), tell: Tell::Nobody };
        for _ in 0..TURNS {
            let (writes, seconds) = bare.writes_for(*method, time / TURNS)?;
            slice.bare.writes += writes;
            slice.bare.seconds += seconds;
            let start = Instant::now();
            round.until = start + time / TURNS;
            slice.ops += round.run_blocking(actor)?;
            slice.seconds += start.elapsed().as_secs_f64();
        }
        Ok((slice, round.recorder))
    };
    std::thread::scope(|scope| {
        scope.spawn(run).join().map_err(|_| Failure::error("a writer panicked"))?
    })
}

/// A thread for each actor; the operations of all.
pub fn on_threads(actors: &mut [Actor], round: &Round) -> Result<u64, Failure> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            actors.iter_mut().map(|actor| scope.spawn(|| round.run_blocking(actor))).collect();
        let mut ops = 0;
        for thread in threads {
            ops += thread.join().map_err(|_| Failure::error("a writer panicked"))??;
        }
        Ok(ops)
    })
}

/// A task for each actor; the operations of all.
pub fn on_tasks(
    runtime: &tokio::runtime::Runtime,
    actors: &mut Vec<Actor>,
    round: &Arc<Round>,
) -> Result<u64, Failure> {
    let tasks: Vec<_> = actors
        .drain(..)
        .map(|mut actor| {
            let round = round.clone();
            runtime.spawn(async move { (round.run(&mut actor).await, actor) })
        })
        .collect();
    let mut total = 0;
    for task in tasks {
        let (ops, actor) =
            runtime.block_on(task).map_err(|error| Failure::error(error.to_string()))?;
        actors.push(actor);
        total += ops?;
    }
    Ok(total)
}
