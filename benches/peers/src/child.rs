//! The process of one engine: opens its database and does what it is told, line by line.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringdb_cli::exit::Failure;
use ringdb_cli::measure::bare::{Bare, Method};
use ringdb_cli::measure::histogram::Recorder;
use ringdb_cli::measure::key::KEY_BYTES;

use crate::actors::{Actor, Round, on_tasks, on_threads, timer};
use crate::data::{Change, removal, row, sorted_row};
use crate::engines::{Engine, Outcome};
use crate::protocol::{Answer, Keys, Load, Order, Runner, Spec, Work};
use crate::turns::{self, ByTurns, Turned};
use crate::usage::Usage;

/// Runs until told to quit, or until its parent is gone.
pub fn run(spec: &str) -> Outcome<()> {
    let spec: Spec =
        serde_json::from_str(spec).map_err(|error| Failure::Usage(error.to_string()))?;
    let start = Instant::now();
    let opened = Child::open(&spec);
    let seconds = start.elapsed().as_secs_f64();
    let mut child = match opened {
        Ok(child) => child,
        Err(failure) => return say(&failed(&failure)),
    };
    let log_bytes = child.engine.replayed_bytes();
    say(&child.answered(Answer { seconds, log_bytes, ..Answer::default() }))?;
    for line in io::stdin().lock().lines() {
        let order: Order =
            serde_json::from_str(&line?).map_err(|error| Failure::error(error.to_string()))?;
        let start = Instant::now();
        let answer = match child.obey(order) {
            Ok(answer) if answer.seconds > 0.0 => child.answered(answer),
            Ok(answer) => {
                child.answered(Answer { seconds: start.elapsed().as_secs_f64(), ..answer })
            }
            Err(failure) => failed(&failure),
        };
        say(&answer)?;
        if matches!(order, Order::Quit) {
            break;
        }
    }
    Ok(())
}

fn failed(failure: &Failure) -> Answer {
    Answer { failure: Some(failure.to_string()), ..Answer::default() }
}

fn say(answer: &Answer) -> Outcome<()> {
    let line = serde_json::to_string(answer).map_err(|error| Failure::error(error.to_string()))?;
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

struct Child {
    spec: Spec,
    engine: Arc<dyn Engine>,
    runtime: Option<tokio::runtime::Runtime>,
    actors: Vec<Actor>,
    recorder: Arc<Recorder>,
    /// The same beside checkpoints.
    beside: Arc<Recorder>,
    /// How often all rows were updated.
    updates: u64,
    /// How often there was a new set of actors.
    staffs: u32,
}

impl Child {
    fn open(spec: &Spec) -> Outcome<Child> {
        Ok(Child {
            spec: spec.clone(),
            engine: spec.engine.open(&spec.settings)?,
            runtime: None,
            actors: Vec::new(),
            recorder: Arc::new(Recorder::new()),
            beside: Arc::new(Recorder::new()),
            updates: 0,
            staffs: 0,
        })
    }

    fn answered(&self, answer: Answer) -> Answer {
        Answer { usage: Usage::look(&self.spec.settings.directory), ..answer }
    }

    fn obey(&mut self, order: Order) -> Outcome<Answer> {
        let done = |has_it| Ok(Answer { has_it, ..Answer::default() });
        match order {
            Order::Load { load, rows, batch } => self.load(load, rows, batch),
            Order::Run { work, runner, actors, families, ms } => {
                self.staff(actors, families);
                self.run(work, runner, Duration::from_millis(ms), self.recorder.clone())
            }
            Order::RunByTurns { work, runner, method, turns, ms } => {
                self.staff(1, self.spec.settings.families);
                self.run_by_turns(work, runner, method, turns, Duration::from_millis(ms))
            }
            Order::RunBesideCheckpoints { actors, ms, loaded } => {
                self.staff(actors, self.spec.settings.families);
                self.run_beside_checkpoints(Duration::from_millis(ms), loaded)
            }
            Order::Timer { tasks, ms } => {
                self.staff(tasks, self.spec.settings.families);
                self.timer(Duration::from_millis(ms))
            }
            Order::Report => Ok(report(&mut self.recorder)),
            Order::ReportBeside => Ok(report(&mut self.beside)),
            Order::ReadAll => {
                let ops = self.engine.reader(0)?.scan(&[0; KEY_BYTES], usize::MAX)? as u64;
                Ok(Answer { ops, ..Answer::default() })
            }
            Order::Settle => self.engine.settle().and_then(|()| done(true)),
            Order::Compact => self.engine.compact().and_then(done),
            Order::Idle { ms } => {
                std::thread::sleep(Duration::from_millis(ms));
                done(true)
            }
            Order::WriteOn => {
                self.staff(8, self.spec.settings.families);
                let (work, time) = (Work::Put { rows: 1 }, Duration::from_secs(600));
                self.run(work, Runner::Threads, time, self.recorder.clone())
            }
            Order::Quit => self.engine.close().and_then(|()| done(true)),
        }
    }

    /// Sees to it that there are so many actors; those that were there go on where they were.
    fn staff(&mut self, actors: u32, families: u32) {
        if self.actors.len() != actors as usize {
            self.staffs += 1;
            let staff = self.staffs;
            self.actors = (0..actors).map(|id| Actor::new(staff, id, families)).collect();
        }
    }

    fn runtime(&mut self) -> Outcome<&tokio::runtime::Runtime> {
        if self.runtime.is_none() {
            self.runtime = Some(tokio::runtime::Runtime::new()?);
        }
        self.runtime.as_ref().ok_or_else(|| Failure::error("no runtime"))
    }

    fn run(
        &mut self,
        work: Work,
        runner: Runner,
        time: Duration,
        recorder: Arc<Recorder>,
    ) -> Outcome<Answer> {
        let engine = self.engine.clone();
        let mut actors = std::mem::take(&mut self.actors);
        let start = Instant::now();
        let round = Arc::new(Round { until: start + time, recorder });
        let ops = match runner {
            Runner::Threads => on_threads(engine.as_ref(), &mut actors, work, &round),
            Runner::Tasks => on_tasks(self.runtime()?, &engine, &mut actors, work, &round),
        };
        self.actors = actors;
        Ok(Answer { ops: ops?, seconds: start.elapsed().as_secs_f64(), ..Answer::default() })
    }

    fn run_by_turns(
        &mut self,
        work: Work,
        runner: Runner,
        method: Method,
        turns: u32,
        time: Duration,
    ) -> Outcome<Answer> {
        let directory = self.spec.settings.directory.parent();
        let directory = directory.ok_or_else(|| Failure::error("a directory of its own"))?;
        let (bare, recorder) = (Arc::new(Bare::open(directory)?), self.recorder.clone());
        let by = ByTurns { bare, method, turns, time, recorder };
        let engine = self.engine.clone();
        let mut actor = self.actors.pop().ok_or_else(|| Failure::error("nobody to run"))?;
        let turned = match runner {
            Runner::Threads => turns::on_thread(engine.as_ref(), &mut actor, work, &by)?,
            Runner::Tasks => {
                let turned;
                (turned, actor) = turns::in_task(self.runtime()?, &engine, actor, work, by)?;
                turned
            }
        };
        self.actors.push(actor);
        let Turned { ops, seconds, bare_writes, bare_seconds } = turned;
        let bare_per_s = bare_writes as f64 / bare_seconds;
        Ok(Answer { ops, seconds, bare_per_s, ..Answer::default() })
    }

    /// Random updates fill the write buffers between two checkpoints, so that each has work.
    fn run_beside_checkpoints(&mut self, time: Duration, loaded: u64) -> Outcome<Answer> {
        let engine = self.engine.clone();
        let stop = AtomicBool::new(false);
        let (answer, checkpoints) = std::thread::scope(|scope| {
            let work = || {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    if !engine.checkpoint()? {
                        return Ok(0);
                    }
                    count += 1;
                }
                Ok::<u64, Failure>(count)
            };
            let checkpoints = scope.spawn(work);
            let work = Work::Update { rows: 1, loaded };
            let answer = self.run(work, Runner::Threads, time, self.beside.clone());
            stop.store(true, Ordering::Relaxed);
            (answer, checkpoints.join())
        });
        let count = checkpoints.map_err(|_| Failure::error("the checkpoints panicked"))??;
        Ok(Answer { has_it: count > 0, ..answer? })
    }

    fn timer(&mut self, time: Duration) -> Outcome<Answer> {
        let late = Arc::new(Recorder::new());
        let start = Instant::now();
        let round = Arc::new(Round { until: start + time, recorder: late.clone() });
        let timer = self.runtime()?.spawn(timer(round));
        let ops = match self.actors.is_empty() {
            true => 0,
            // Only the timer's latencies are told.
            false => {
                let puts = Arc::new(Recorder::new());
                self.run(Work::Put { rows: 1 }, Runner::Tasks, time, puts)?.ops
            }
        };
        let ended = self.runtime()?.block_on(timer);
        ended.map_err(|error| Failure::error(error.to_string()))?;
        let latency_us = percentiles(&late);
        Ok(Answer { ops, seconds: start.elapsed().as_secs_f64(), latency_us, ..Answer::default() })
    }

    fn load_at_once(&self, keys: Keys, rows: u64) -> Outcome<Answer> {
        let start = Instant::now();
        let mut changes: Box<dyn Iterator<Item = Change>> = match keys {
            Keys::Ascending => Box::new((0..rows).map(sorted_row)),
            Keys::Random => Box::new((0..rows).map(|n| row(0, n, 0))),
        };
        let has_it = self.engine.load(0, &mut changes, keys)?;
        let seconds = start.elapsed().as_secs_f64();
        Ok(Answer { ops: rows, seconds, has_it, ..Answer::default() })
    }

    fn load(&mut self, load: Load, rows: u64, batch: u32) -> Outcome<Answer> {
        self.updates += u64::from(load == Load::Update);
        let version = self.updates;
        let engine = self.engine.as_ref();
        let start = Instant::now();
        let ops = match load {
            Load::RandomBy { writers } => std::thread::scope(|scope| {
                let writers = u64::from(writers);
                let share = |n: u64| {
                    let numbers = rows * n / writers..rows * (n + 1) / writers;
                    move || batches(engine, batch, numbers.map(|n| row(0, n, version)))
                };
                let threads: Vec<_> = (0..writers).map(|n| scope.spawn(share(n))).collect();
                threads.into_iter().try_fold(0, |sum, thread| {
                    let done = thread.join();
                    Ok::<_, Failure>(sum + done.map_err(|_| Failure::error("a writer panicked"))??)
                })
            })?,
            Load::Random | Load::Update => {
                batches(engine, batch, (0..rows).map(|n| row(0, n, version)))?
            }
            Load::Sorted => batches(engine, batch, (0..rows).map(sorted_row))?,
            Load::AtOnce { keys } => return self.load_at_once(keys, rows),
            Load::RemoveHalf => {
                batches(engine, batch, (0..rows).step_by(2).map(|n| removal(0, n)))?
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        Ok(Answer { ops, seconds, has_it: true, ..Answer::default() })
    }
}

/// Writes changes to the first family in batches; how many there were.
fn batches(engine: &dyn Engine, batch: u32, changes: impl Iterator<Item = Change>) -> Outcome<u64> {
    let mut pending = Vec::with_capacity(batch as usize);
    let mut written = 0;
    for change in changes {
        pending.push(change);
        if pending.len() == batch as usize {
            engine.write(0, &pending)?;
            written += pending.len() as u64;
            pending.clear();
        }
    }
    if !pending.is_empty() {
        engine.write(0, &pending)?;
        written += pending.len() as u64;
    }
    Ok(written)
}

/// What it has, and begins anew.
fn report(recorder: &mut Arc<Recorder>) -> Answer {
    let recorder = std::mem::replace(recorder, Arc::new(Recorder::new()));
    Answer { latency_us: percentiles(&recorder), ..Answer::default() }
}

fn percentiles(recorder: &Recorder) -> [f64; 3] {
    let histogram = recorder.histogram();
    [0.5, 0.99, 0.999].map(|share| histogram.percentile_us(share))
}
