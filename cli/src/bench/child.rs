//! The process that writes and is killed: opens its databases, then does what its parent says (see
//! `protocol`).

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringdb::{
    Batch, ColumnFamily, ColumnFamilyOptions, Commit, Db, Durability, Metrics, Options, block_on,
};

use super::actor::Actor;
use super::bare::{Bare, Method};
use super::histogram::Recorder;
use super::key::Origin;
use super::plan::{Runner, Work, Workload};
use super::protocol::{BareSlice, Outcome, Slice, Spec, family_name};
use super::runner::{Round, Tell, by_turns, on_tasks, on_threads};
use crate::exit::Failure;

/// Longer than any parent waits before it kills.
const STREAM_TIME_MAX: Duration = Duration::from_secs(600);
const FILL_BATCH_ROWS: u64 = 1000;

/// Runs a spec. What fails is told to the parent, who says it in its own words.
pub fn run(spec: &str) -> Result<(), Failure> {
    let spec: Spec =
        serde_json::from_str(spec).map_err(|error| Failure::Usage(error.to_string()))?;
    match obey(&spec) {
        // The parent is gone: nobody is left to work for.
        Ok(()) | Err(Failure::BrokenPipe) => Ok(()),
        Err(failure) => say(&format!("error {failure}")),
    }
}

fn obey(spec: &Spec) -> Result<(), Failure> {
    let mut child = Child::open(spec)?;
    say("ready")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("warm", ms) => {
                child.round(milliseconds(ms)?, Tell::Nobody)?;
                say("done")?;
            }
            ("slice", ms) => {
                let slice = child.slice(milliseconds(ms)?)?;
                say(&format!("slice {}", json(&slice)?))?;
            }
            ("result", _) => say(&format!("result {}", json(&child.outcome())?))?,
            ("stream", _) => child.stream()?,
            ("quit", _) => return child.close(),
            (other, _) => return Err(Failure::Usage(format!("unknown order {other}"))),
        }
    }
    Ok(())
}

fn say(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn json(what: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(what).map_err(|error| Failure::error(error.to_string()))
}

fn milliseconds(text: &str) -> Result<Duration, Failure> {
    let ms = text.parse().map_err(|_| Failure::Usage(format!("not milliseconds: {text}")))?;
    Ok(Duration::from_millis(ms))
}

struct Child {
    dbs: Vec<Db>,
    actors: Vec<Actor>,
    runtime: Option<tokio::runtime::Runtime>,
    /// What its only actor takes turns with.
    bare: Option<(Bare, Method)>,
    outcome: Outcome,
    /// Of each slice, because percentiles are of all slices together.
    recorder: Recorder,
}

impl Child {
    fn open(spec: &Spec) -> Result<Child, Failure> {
        let mut options = spec.subject.options();
        if spec.workload.rows_before() > 0 {
            fill(spec, options.clone())?;
        }
        if let Some(bytes) = spec.workload.memory_bytes() {
            options = options.memory_bytes(bytes);
        }
        let mut dbs = Vec::new();
        let mut families = Vec::new();
        for index in 0..spec.workload.databases(spec.writers) {
            let db = block_on(options.clone().open(spec.database(index)))?;
            families.push(open_families(spec, &db)?);
            dbs.push(db);
        }
        if spec.workload.rows_before() > 0 && spec.workload.memory_bytes().is_none() {
            block_on(read_all(&families[0][0]))?;
        }
        let actors = (0..spec.writers).map(|id| actor(spec, id, &dbs, &families)).collect();
        let runtime = match spec.workload.runner() {
            Runner::Threads => None,
            Runner::Tasks => Some(tokio::runtime::Runtime::new()?),
        };
        let bare = match &spec.turns_with {
            None => None,
            Some(loops) => Some((Bare::open(&loops.directory)?, loops.method)),
        };
        let (outcome, recorder) = (Outcome::default(), Recorder::new());
        Ok(Child { dbs, actors, runtime, bare, outcome, recorder })
    }

    /// Runs all actors; operations and seconds, and what latencies they had.
    fn round(&mut self, time: Duration, tell: Tell) -> Result<(Slice, Recorder), Failure> {
        let start = Instant::now();
        let round = Round { until: start + time, recorder: Recorder::new(), tell };
        let (ops, recorder) = match &self.runtime {
            None => (on_threads(&mut self.actors, &round)?, round.recorder),
            Some(runtime) => {
                let round = Arc::new(round);
                let ops = on_tasks(runtime, &mut self.actors, &round)?;
                let recorder = Arc::into_inner(round).map(|round| round.recorder);
                (ops, recorder.expect("every task that held the round has ended"))
            }
        };
        let (seconds, bare) = (start.elapsed().as_secs_f64(), BareSlice::default());
        Ok((Slice { ops, seconds, bare }, recorder))
    }

    fn slice(&mut self, time: Duration) -> Result<Slice, Failure> {
        let before = self.metrics();
        let (slice, recorder) = match &self.bare {
            Some(bare) => by_turns(&mut self.actors[0], bare, time)?,
            None => self.round(time, Tell::Nobody)?,
        };
        let after = self.metrics();
        self.recorder.add(&recorder);
        let outcome = &mut self.outcome;
        outcome.ops += slice.ops;
        outcome.seconds += slice.seconds;
        outcome.commits += after.commits - before.commits;
        outcome.syncs += after.syncs - before.syncs;
        outcome.syscalls += after.syscalls - before.syscalls;
        outcome.log_bytes += after.log_bytes - before.log_bytes;
        outcome.page_bytes += after.page_bytes - before.page_bytes;
        Ok(slice)
    }

    fn outcome(&self) -> Outcome {
        let histogram = self.recorder.histogram();
        Outcome {
            p50_us: histogram.percentile_us(0.5),
            p99_us: histogram.percentile_us(0.99),
            p999_us: histogram.percentile_us(0.999),
            acknowledged: self.actors.iter().map(Actor::acknowledged).collect(),
            ..self.outcome.clone()
        }
    }

    /// Writes until killed, and tells of each acknowledged commit.
    fn stream(&mut self) -> Result<(), Failure> {
        say("streaming")?;
        let pipe = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        self.round(STREAM_TIME_MAX, Tell::Parent(pipe))?;
        Ok(())
    }

    /// The metrics of all databases together.
    fn metrics(&self) -> Metrics {
        let mut sum = Metrics::default();
        for metrics in self.dbs.iter().map(Db::metrics) {
            sum.commits += metrics.commits;
            sum.syncs += metrics.syncs;
            sum.syscalls += metrics.syscalls;
            sum.log_bytes += metrics.log_bytes;
            sum.page_bytes += metrics.page_bytes;
        }
        sum
    }

    fn close(self) -> Result<(), Failure> {
        for db in self.dbs {
            block_on(db.close())?;
        }
        Ok(())
    }
}

fn open_families(spec: &Spec, db: &Db) -> Result<Vec<ColumnFamily>, Failure> {
    let open = |index| match spec.workload {
        Workload::UnloggedPuts => block_on(
            db.create_column_family(family_name(index), ColumnFamilyOptions::new().unlogged()),
        ),
        _ => block_on(db.column_family(family_name(index))),
    };
    let families = (0..spec.workload.families(spec.writers)).map(open);
    Ok(families.collect::<ringdb::Result<_>>()?)
}

fn actor(spec: &Spec, id: u32, dbs: &[Db], families: &[Vec<ColumnFamily>]) -> Actor {
    let home = spec.workload.home(id, spec.writers);
    let database = home.database as usize;
    let family = &families[database][home.family as usize];
    let db = &dbs[database];
    match spec.workload.work() {
        Work::Durable { puts } => Actor::writer(id, db, family, puts, None, spec.value_bytes),
        Work::Volatile => {
            // A family without a log gives what it gives by default: no durability to ask for.
            let buffered = spec.workload == Workload::BufferedPuts;
            let durability = buffered.then_some(Durability::Buffered);
            Actor::writer(id, db, family, 1, durability, spec.value_bytes)
        }
        Work::Read { rows } => {
            Actor::reader(id, family, spec.workload.rows_before(), rows, spec.value_bytes)
        }
    }
}

/// Makes the rows that will be read, and closes the database so that none is in a memtable.
fn fill(spec: &Spec, options: Options) -> Result<(), Failure> {
    block_on(async {
        let db = options.open(spec.database(0)).await?;
        let family = db.column_family(family_name(0)).await?;
        let mut value = Vec::new();
        let mut batch = db.batch();
        let mut in_flight: Option<Commit> = None;
        for counter in 0..spec.workload.rows_before() {
            let origin = Origin { writer: 0, counter };
            origin.value(spec.value_bytes, &mut value);
            batch.put(&family, origin.key(), &value);
            if (counter + 1).is_multiple_of(FILL_BATCH_ROWS) {
                hand_over(&mut batch, &mut in_flight).await?;
            }
        }
        hand_over(&mut batch, &mut in_flight).await?;
        if let Some(last) = in_flight {
            last.await?;
        }
        db.checkpoint().await?;
        db.close().await
    })?;
    Ok(())
}

/// Orders a batch, then waits for the one before it.
async fn hand_over(batch: &mut Batch, in_flight: &mut Option<Commit>) -> ringdb::Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let before = in_flight.replace(batch.durability(Durability::Buffered).submit().await?);
    match before {
        Some(before) => before.await.map(drop),
        None => Ok(()),
    }
}

/// Reads every row once, so that it is in the cache.
async fn read_all(family: &ColumnFamily) -> ringdb::Result<()> {
    let mut rows = family.iter();
    while rows.try_next().await?.is_some() {}
    Ok(())
}
