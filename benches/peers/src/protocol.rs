//! What the bench and the process of one engine say to each other: a JSON line each way.
//!
//! Every engine runs in a process of its own, so that its memory, its processor time and the bytes
//! it makes the kernel write are its own, and the engines take turns slice by slice, so that a
//! disk that is slow for a second is slow for all.

use ringdb_cli::measure::bare::Method;
use serde::{Deserialize, Serialize};

use crate::engines::{Name, Settings};
use crate::usage::Usage;

/// What a process is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The engine.
    pub engine: Name,
    /// How its database is opened.
    pub settings: Settings,
}

/// What the actors of a slice do, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Commit so many new rows.
    Put { rows: u32 },
    /// Commit so many rows that are there, with other values; of the rows that were loaded.
    Update { rows: u32, loaded: u64 },
    /// Read one row.
    Get { loaded: u64 },
    /// Read 64 rows one after another.
    Gets { loaded: u64 },
    /// Read 64 rows with one call.
    MultiGet { loaded: u64 },
    /// Read ten rows from a random one on.
    Scan { loaded: u64 },
}

impl Work {
    /// Whether it changes rows.
    pub fn writes(self) -> bool {
        matches!(self, Work::Put { .. } | Work::Update { .. })
    }
}

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runner {
    /// Threads that block.
    Threads,
    /// Tasks of tokio; engines without futures serve them through `spawn_blocking`.
    Tasks,
}

/// In which order rows are written, or which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Load {
    /// New rows with random keys, one writer.
    Random,
    /// New rows with random keys, from several writers at once.
    RandomBy { writers: u32 },
    /// New rows with ascending keys.
    Sorted,
    /// New rows in one load, with what the engine has for loads, in this order.
    AtOnce { keys: Keys },
    /// All rows again, with other values.
    Update,
    /// Every second row is removed.
    RemoveHalf,
}

/// The order of a load's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keys {
    Ascending,
    Random,
}

/// What a process is told to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Write these rows in batches of `batch`.
    Load { load: Load, rows: u64, batch: u32 },
    /// Run actors for a while.
    Run { work: Work, runner: Runner, actors: u32, families: u32, ms: u64 },
    /// Run one actor, and by turns with it, on the same thread or in the same task, the bare loop, `ms` each.
    RunByTurns { work: Work, runner: Runner, method: Method, turns: u32, ms: u64 },
    /// Run actors, while checkpoints (or flushes) follow one another.
    RunBesideCheckpoints { actors: u32, ms: u64, loaded: u64 },
    /// A timer of one millisecond beside so many committing tasks; latencies are its lateness.
    Timer { tasks: u32, ms: u64 },
    /// Percentiles of all slices since the last report, those beside checkpoints left out.
    Report,
    /// Percentiles of all slices beside checkpoints.
    ReportBeside,
    /// Read every row once, so that it is in memory.
    ReadAll,
    /// Bring everything to its place.
    Settle,
    /// Make the file small.
    Compact,
    /// Do nothing for a while.
    Idle { ms: u64 },
    /// Commit until the process is killed.
    WriteOn,
    /// Close in order and end.
    Quit,
}

/// What it answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Operations; rows of a load.
    pub ops: u64,
    /// Seconds that they took.
    pub seconds: f64,
    /// Writes a second of the bare loop that took turns with them.
    pub bare_per_s: f64,
    /// Latencies, µs: the median, 99 % and 99.9 %; only of reports.
    pub latency_us: [f64; 3],
    /// Whether the engine has what was asked for.
    pub has_it: bool,
    /// Bytes of log that opening looked through, where the engine tells.
    pub log_bytes: u64,
    /// What the process used so far.
    pub usage: Usage,
    /// What went wrong, if something did.
    pub failure: Option<String>,
}
