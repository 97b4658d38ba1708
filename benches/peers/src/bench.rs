//! What all workloads share: where, with whom and how long, and rows as they come.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use ringdb_cli::exit::Failure;
use ringdb_cli::measure::bare::{BLOCK_BYTES, Bare, Method};

use crate::data::ROW_BYTES;
use crate::engines::{Calls, Durability, Name, Outcome, Settings};
use crate::limit::Limit;
use crate::peer::Peer;
use crate::protocol::{Order, Runner, Spec, Work};
use crate::rows::{Case, Row, Rows, Unit};

/// Runs first and is not counted.
const WARM_MS: u64 = 100;
/// The same for reads from memory: what engines learn by reading, they have learned then.
const WARM_READS_MS: u64 = 1500;
/// Bytes of a leaf, as ours reads it.
const LEAF_BYTES: usize = 8 << 10;
/// Slices that take turns.
const SLICES: u32 = 4;
/// Turns that a lone writer and the bare loop take within a slice: their ratio is a target, and a disk changes its pace within a
/// second.
const TURNS: u32 = 8;

/// Reads a second in a slice, if there is what they need.
type BareReads = fn(&Bare) -> io::Result<Option<f64>>;

/// Rows of reads without an engine, 64 at a time: by threads, by tasks whose reads are made by `spawn_blocking`, and by tasks
/// whose reads are made by one thread with a ring.
const BARE_READS: [(&str, BareReads); 5] = [
    ("bare-reads-of-4-kib", |bare| bare.reads_beside(BLOCK_BYTES).map(Some)),
    ("bare-reads-of-4-kib-by-a-ring", |bare| bare.ring_reads_beside(BLOCK_BYTES)),
    ("bare-reads-of-8-kib", |bare| bare.reads_beside(LEAF_BYTES).map(Some)),
    ("bare-reads-of-8-kib-by-tasks", |bare| bare.task_reads_beside(LEAF_BYTES).map(Some)),
    ("bare-reads-of-8-kib-by-a-ring", |bare| bare.ring_reads_beside(LEAF_BYTES)),
];

/// The run.
pub struct Bench<'a> {
    /// Where databases are made.
    pub directory: &'a Path,
    /// Who is compared.
    pub engines: Vec<Name>,
    /// The bare device.
    pub bare: &'a Bare,
    /// Its fastest durable write.
    pub method: Method,
    /// Rows of tables.
    pub rows: u64,
    /// Time for each row and engine.
    pub time: Duration,
    /// What came out so far.
    pub out: Rows,
}

/// What the bare loop beside a case does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Durable writes, in front of the slice.
    Writes,
    /// Durable writes by turns with a lone writer, where it runs; if that is a task, a thread makes them for it.
    WritesByTurns,
    /// Reads of 4 KiB, 64 at a time.
    Reads,
    /// Nothing: the case is about memory.
    Nothing,
}

/// A kind of work to be measured on all peers.
#[derive(Clone, Copy, Debug)]
pub struct Race {
    /// Name of the case.
    pub name: &'static str,
    /// What is done.
    pub work: Work,
    /// By whom.
    pub runner: Runner,
    /// By how many.
    pub actors: u32,
    /// On how many families.
    pub families: u32,
    /// Beside what.
    pub beside: Beside,
}

/// What the slices of one peer came to.
#[derive(Clone, Copy, Default)]
struct Done {
    ops: u64,
    seconds: f64,
    /// Of the bare loop, directly in front of each of them or by turns with it.
    bare_per_s: f64,
}

impl Bench<'_> {
    /// Bytes of all rows as the user counts them.
    pub fn payload_bytes(&self) -> u64 {
        self.rows * ROW_BYTES
    }

    /// Engines that have one database for all families.
    pub fn in_one(&self) -> Vec<Name> {
        let is_one = |engine: &Name| !engine.has_files() && *engine != Name::NoEngine;
        self.engines.iter().copied().filter(is_one).collect()
    }

    /// Those of them that take part in tables of so many rows.
    pub fn in_tables(&self) -> Vec<Name> {
        let rows = self.rows;
        self.in_one().into_iter().filter(|engine| rows <= engine.table_rows_max()).collect()
    }

    /// What an engine is started with.
    pub fn spec(
        &self,
        engine: Name,
        case: &str,
        families: u32,
        memory_bytes: u64,
        durability: Durability,
    ) -> Spec {
        let directory = self.directory.join(format!("{case}-{}", engine.text()));
        let memory_bytes = memory_bytes as usize;
        let calls = Calls::Best;
        let settings = Settings { directory, families, memory_bytes, durability, calls };
        Spec { engine, settings }
    }

    /// Starts engines; one that fails is told and left out.
    pub fn start(&self, specs: Vec<Spec>, limit: Option<&Limit>) -> Vec<Peer> {
        let start = |spec: Spec| self.kept(Peer::start(&spec, limit));
        specs.into_iter().filter_map(start).collect()
    }

    /// Tells a failure, and goes on without what failed.
    pub fn kept<T>(&self, result: Outcome<T>) -> Option<T> {
        match result {
            Ok(kept) => Some(kept),
            Err(failure) => {
                // With stderr closed nobody waits for it.
                drop(writeln!(io::stderr(), "left out: {failure}"));
                None
            }
        }
    }

    /// Does something with each peer; those that fail are told and ended.
    pub fn each(&self, peers: &mut Vec<Peer>, mut act: impl FnMut(&mut Peer) -> Outcome<()>) {
        peers.retain_mut(|peer| self.kept(act(peer)).is_some());
    }

    /// Keeps the rows of one case, and prints them.
    pub fn tell(&mut self, rows: Vec<Row>) -> Outcome<()> {
        self.out.0.extend(rows.iter().cloned());
        let mut out = io::stdout().lock();
        out.write_all(self.out.lines(&rows).as_bytes())?;
        Ok(out.flush()?)
    }

    /// A row without latencies for each of the values.
    pub fn tell_values(
        &mut self,
        name: &'static str,
        unit: Unit,
        values: Vec<(Name, f64)>,
    ) -> Outcome<()> {
        let row = |(engine, value)| Row {
            case: Case { name, actors: 0 },
            engine,
            value,
            unit,
            latency_us: [0.0; 3],
            bare_per_s: 0.0,
        };
        self.tell(values.into_iter().map(row).collect())
    }

    /// Runs a kind of work on all peers in turns, each slice behind, or by turns with, one of the bare loop.
    pub fn race(&mut self, race: Race, peers: &mut Vec<Peer>) -> Outcome<()> {
        let Race { work, runner, actors, families, .. } = race;
        let order = |ms| Order::Run { work, runner, actors, families, ms };
        let is_in_memory = race.beside == Beside::Nothing && !work.writes();
        let warm_ms = if is_in_memory { WARM_READS_MS } else { WARM_MS };
        self.each(peers, |peer| {
            peer.ask(order(warm_ms))?;
            peer.ask(Order::Report).map(drop)
        });
        let ms = (self.time / SLICES).as_millis() as u64;
        let (method, turns) = (self.method, TURNS);
        let order = match race.beside {
            Beside::WritesByTurns => {
                Order::RunByTurns { work, runner, method, turns, ms: ms / u64::from(turns) }
            }
            _ => order(ms),
        };
        let mut done = BTreeMap::<Name, Done>::new();
        for _ in 0..SLICES {
            self.each(peers, |peer| {
                let bare = self.bare_slice(race.beside)?;
                let slice = peer.ask(order)?;
                let done = done.entry(peer.engine).or_default();
                done.ops += slice.ops;
                done.seconds += slice.seconds;
                done.bare_per_s += bare.unwrap_or(slice.bare_per_s) / f64::from(SLICES);
                Ok(())
            });
        }
        let mut rows = Vec::new();
        self.each(peers, |peer| {
            let report = peer.ask(Order::Report)?;
            let done = done.get(&peer.engine).ok_or_else(|| Failure::error("not started"))?;
            rows.push(Row {
                case: Case { name: race.name, actors },
                engine: peer.engine,
                value: done.ops as f64 / done.seconds,
                unit: Unit::PerSecond,
                latency_us: report.latency_us,
                bare_per_s: done.bare_per_s,
            });
            Ok(())
        });
        self.tell(rows)
    }

    /// None if the peer makes it itself.
    fn bare_slice(&self, beside: Beside) -> io::Result<Option<f64>> {
        Ok(match beside {
            Beside::Writes => Some(self.bare.writes_beside(self.method)?),
            Beside::WritesByTurns => None,
            Beside::Reads => Some(self.bare.reads_beside(BLOCK_BYTES)?),
            Beside::Nothing => Some(0.0),
        })
    }

    /// What the device gives without an engine to reads of a block and to those as long as a leaf of ours. Where there is no ring, the
    /// rows of one are left out.
    pub fn tell_bare_reads(&mut self) -> Outcome<()> {
        let mut told = BARE_READS.map(|(name, _)| (name, Some(0.0)));
        for _ in 0..SLICES {
            for ((_, per_s), (_, read)) in told.iter_mut().zip(BARE_READS) {
                let slice = read(self.bare)?;
                *per_s = per_s.zip(slice).map(|(sum, slice)| sum + slice / f64::from(SLICES));
            }
        }
        for (name, per_s) in told {
            if let Some(per_s) = per_s {
                self.tell_values(name, Unit::PerSecond, vec![(Name::Ringdb, per_s)])?;
            }
        }
        Ok(())
    }

    /// Ends peers and removes their files.
    pub fn remove(&self, peers: Vec<Peer>) {
        for peer in peers {
            self.kept(peer.remove());
        }
    }
}
