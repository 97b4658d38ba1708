//! Commits: durable ones by threads and by tasks, also where all processors are busy, unsynced ones, and batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use ringdb_cli::measure::key::mix;

use crate::bench::{Bench, Beside, Race};
use crate::engines::{Durability, Name, Outcome};
use crate::protocol::{Runner, Work};

const MEMORY_BYTES: u64 = 128 << 20;
/// Tasks share this many families.
const TASK_FAMILIES: u32 = 8;
/// More databases than this at once are nobody's plan.
const FILES_MAX: u32 = 16;
const BATCH_ROWS: u32 = 1000;

/// Durable single puts.
pub fn durable(bench: &mut Bench<'_>) -> Outcome<()> {
    let beside = |actors| if actors == 1 { Beside::WritesByTurns } else { Beside::Writes };
    for actors in [1, 2, 4, 8, 16, 64] {
        let race = Race { beside: beside(actors), ..threads("durable-puts", 1, actors) };
        run(bench, race, Durability::Synced)?;
    }
    for actors in [1, 64, 1024] {
        let race = Race {
            name: "durable-puts-tasks",
            runner: Runner::Tasks,
            families: TASK_FAMILIES.min(actors),
            // A lone task pays the way to a thread that waits for the disk, and back: so does what it is compared with.
            beside: beside(actors),
            ..threads("", 1, actors)
        };
        run(bench, race, Durability::Synced)?;
    }
    let busy = Busy::start();
    for actors in [1, 8] {
        run(bench, threads("durable-puts-busy", 1, actors), Durability::Synced)?;
    }
    drop(busy);
    Ok(())
}

/// A thread for each processor that computes and never waits, as those of a service may: a commit that sleeps has to get its
/// processor back from one of them.
struct Busy {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn start() -> Busy {
        let is_over = Arc::new(AtomicBool::new(false));
        let compute = |_| {
            let is_over = is_over.clone();
            std::thread::spawn(move || {
                let mut number = 1;
                while !is_over.load(Ordering::Relaxed) {
                    number = std::hint::black_box(mix(number));
                }
            })
        };
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
        Busy { threads: (0..processors).map(compute).collect(), is_over }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // None of them panics.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Single puts that are not synced.
pub fn unsynced(bench: &mut Bench<'_>) -> Outcome<()> {
    for actors in [1, 8, 64] {
        let race = Race { beside: Beside::Nothing, ..threads("unsynced-puts", 1, actors) };
        run(bench, race, Durability::Unsynced)?;
    }
    for engine in bench.in_one() {
        let (killed, power) = engine.unsynced_loses();
        println!(
            "    {:<10} loses when killed: {killed}; when power fails: {power}",
            engine.text()
        );
    }
    Ok(())
}

/// Synced batches.
pub fn batches(bench: &mut Bench<'_>) -> Outcome<()> {
    for actors in [1, 8] {
        run(bench, threads("durable-batches", BATCH_ROWS, actors), Durability::Synced)?;
    }
    Ok(())
}

fn threads(name: &'static str, rows: u32, actors: u32) -> Race {
    let work = Work::Put { rows };
    let runner = Runner::Threads;
    Race { name, work, runner, actors, families: actors, beside: Beside::Writes }
}

fn run(bench: &mut Bench<'_>, race: Race, durability: Durability) -> Outcome<()> {
    let is_single = matches!(race.work, Work::Put { rows: 1 });
    let takes_part = |engine: &Name| {
        let separate = race.runner == Runner::Threads && (2..=FILES_MAX).contains(&race.actors);
        match engine {
            Name::NoEngine => is_single,
            engine => !engine.has_files() || separate,
        }
    };
    let engines: Vec<Name> = bench.engines.iter().copied().filter(takes_part).collect();
    let case = format!("{}-{}", race.name, race.actors);
    let spec = |engine| bench.spec(engine, &case, race.families, MEMORY_BYTES, durability);
    let specs = engines.into_iter().map(spec).collect();
    let mut peers = bench.start(specs, None);
    bench.race(race, &mut peers)?;
    bench.remove(peers);
    Ok(())
}
