//! The loops that are measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringdb_cli::exit::Failure;
use ringdb_cli::measure::histogram::Recorder;
use ringdb_cli::measure::key::mix;

use crate::data::{Change, Key, key, row};
use crate::engines::{Engine, Outcome, Reader};
use crate::protocol::Work;

/// Keys of one multi_get, and of the gets that it is compared with.
const KEYS_TOGETHER: usize = 64;
const SCAN_ROWS: usize = 10;

/// Who does one kind of work again and again.
pub struct Actor {
    writer: u32,
    family: u32,
    counter: u64,
    random: u64,
}

impl Actor {
    /// An actor of the family that its number leads to; those of another staff write other rows.
    pub fn new(staff: u32, id: u32, families: u32) -> Actor {
        let writer = staff * STAFF_MAX + id;
        Actor { writer, family: id % families, counter: 0, random: mix(u64::from(writer)) }
    }

    fn any(&mut self, loaded: u64) -> u64 {
        self.random = mix(self.random.wrapping_add(1));
        self.random % loaded.max(1)
    }

    fn any_keys(&mut self, loaded: u64) -> [Key; KEYS_TOGETHER] {
        std::array::from_fn(|_| key(0, self.any(loaded)))
    }

    /// The next rows to commit.
    fn changes(&mut self, work: Work, out: &mut Vec<Change>) {
        out.clear();
        match work {
            Work::Put { rows } => {
                let new = |n| row(self.writer, self.counter + n, 0);
                out.extend((0..u64::from(rows)).map(new));
                self.counter += u64::from(rows);
            }
            Work::Update { rows, loaded } => {
                self.counter += 1;
                let version = self.counter;
                out.extend((0..rows).map(|_| row(0, self.any(loaded), version)));
            }
            Work::Get { .. } | Work::Gets { .. } | Work::MultiGet { .. } | Work::Scan { .. } => {}
        }
    }

    fn read(&mut self, work: Work, reader: &mut dyn Reader) -> Outcome<u64> {
        let (wanted, found) = match work {
            Work::Get { loaded } => (1, usize::from(reader.get(&key(0, self.any(loaded)))?)),
            Work::Gets { loaded } => {
                let keys = self.any_keys(loaded);
                let get = |found, key| Ok::<_, Failure>(found + usize::from(reader.get(key)?));
                (KEYS_TOGETHER, keys.iter().try_fold(0, get)?)
            }
            Work::MultiGet { loaded } => (KEYS_TOGETHER, reader.get_many(&self.any_keys(loaded))?),
            Work::Scan { loaded } => {
                let found = reader.scan(&key(0, self.any(loaded)), SCAN_ROWS)?;
                // The last rows have few behind them.
                (SCAN_ROWS, if found > 0 { SCAN_ROWS } else { 0 })
            }
            Work::Put { .. } | Work::Update { .. } => (0, 0),
        };
        match wanted == found {
            true => Ok(if SCAN_ROWS == wanted { 1 } else { wanted as u64 }),
            false => Err(missing(wanted, found)),
        }
    }

    /// Runs on this thread until it is time to stop; how many operations.
    pub fn run(&mut self, engine: &dyn Engine, work: Work, round: &Round) -> Outcome<u64> {
        let mut reader = match work {
            Work::Put { .. } | Work::Update { .. } => None,
            _ => Some(engine.reader(self.family)?),
        };
        let mut changes = Vec::new();
        let (mut ops, mut before) = (0, Instant::now());
        while before < round.until {
            ops += match &mut reader {
                Some(reader) => self.read(work, reader.as_mut())?,
                None => {
                    self.changes(work, &mut changes);
                    engine.write(self.family, &changes)?;
                    changes.len() as u64
                }
            };
            before = round.stepped(self.writer, before);
        }
        Ok(ops)
    }

    /// The same in a task.
    pub async fn run_async(
        &mut self,
        engine: Arc<dyn Engine>,
        work: Work,
        round: &Round,
    ) -> Outcome<u64> {
        let mut changes = Vec::new();
        let (mut ops, mut before) = (0, Instant::now());
        while before < round.until {
            if let Work::Get { loaded } = work {
                let key = key(0, self.any(loaded));
                let found = match engine.get_async(self.family, &key) {
                    Some(get) => get.await?,
                    None => {
                        let (engine, family) = (engine.clone(), self.family);
                        blocking(move || engine.reader(family)?.get(&key)).await?
                    }
                };
                if !found {
                    return Err(missing(1, 0));
                }
                ops += 1;
            } else {
                self.changes(work, &mut changes);
                ops += changes.len() as u64;
                match changes.as_slice() {
                    [single] => put_async(&engine, self.family, single).await?,
                    _ => {
                        let (engine, family, changes) =
                            (engine.clone(), self.family, changes.clone());
                        blocking(move || engine.write(family, &changes)).await?;
                    }
                }
            }
            before = round.stepped(self.writer, before);
        }
        Ok(ops)
    }
}

fn missing(wanted: usize, found: usize) -> Failure {
    Failure::Defects(format!("of {wanted} rows that are there, {found} were found"))
}

async fn put_async(engine: &Arc<dyn Engine>, family: u32, change: &Change) -> Outcome<()> {
    match engine.put_async(family, change) {
        Some(put) => put.await,
        None => {
            let (engine, change) = (engine.clone(), change.clone());
            blocking(move || engine.write(family, &[change])).await
        }
    }
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    tokio::task::spawn_blocking(act).await.map_err(|error| Failure::error(error.to_string()))?
}

/// More than a staff has actors. Rows of loads are writer 0's, and no actor's.
const STAFF_MAX: u32 = 1 << 12;

/// What all actors of a slice share.
pub struct Round {
    /// When to stop.
    pub until: Instant,
    /// Where latencies go.
    pub recorder: Arc<Recorder>,
}

impl Round {
    fn stepped(&self, id: u32, before: Instant) -> Instant {
        let now = Instant::now();
        self.recorder.record(id, now - before);
        now
    }
}

/// Runs all actors on threads of their own; the operations of all.
pub fn on_threads(
    engine: &dyn Engine,
    actors: &mut [Actor],
    work: Work,
    round: &Round,
) -> Outcome<u64> {
    std::thread::scope(|scope| {
        let start = |actor: &mut Actor| actor.run(engine, work, round);
        let threads: Vec<_> =
            actors.iter_mut().map(|actor| scope.spawn(move || start(actor))).collect();
        threads.into_iter().try_fold(0, |ops, thread| {
            let done = thread.join();
            Ok(ops + done.map_err(|_| Failure::error("an actor panicked"))??)
        })
    })
}

/// Runs all actors as tasks; the operations of all.
pub fn on_tasks(
    runtime: &tokio::runtime::Runtime,
    engine: &Arc<dyn Engine>,
    actors: &mut Vec<Actor>,
    work: Work,
    round: &Arc<Round>,
) -> Outcome<u64> {
    let start = |mut actor: Actor| {
        let (engine, round) = (engine.clone(), round.clone());
        runtime.spawn(async move { (actor.run_async(engine, work, &round).await, actor) })
    };
    let tasks: Vec<_> = actors.drain(..).map(start).collect();
    let mut total = 0;
    for task in tasks {
        let done = runtime.block_on(task);
        let (ops, actor) = done.map_err(|error| Failure::error(error.to_string()))?;
        actors.push(actor);
        total += ops?;
    }
    Ok(total)
}

/// How late a timer of one millisecond is, again and again.
pub async fn timer(round: Arc<Round>) {
    const TICK: Duration = Duration::from_millis(1);
    while Instant::now() < round.until {
        let due = Instant::now() + TICK;
        tokio::time::sleep_until(due.into()).await;
        round.recorder.record(0, Instant::now().saturating_duration_since(due));
    }
}
