//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::engines::Name;

/// ringdb beside other embedded engines, with the same durability, keys and values
#[derive(Parser)]
#[command(name = "ringdb-peers")]
pub struct Args {
    /// Rows of the tables; five million for a full run
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(10_000..))]
    pub rows: u64,
    /// Seconds for each engine and row
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Engines; all by default
    #[arg(long, value_delimiter = ',', value_enum)]
    pub engines: Vec<Name>,
    /// Workloads; all by default
    #[arg(long, value_delimiter = ',', value_enum)]
    pub workloads: Vec<Workload>,
    /// Where databases are made, in a directory of their own
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Writes the rows as JSON lines; - for the standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Draws durable puts over writers as SVG
    #[arg(long)]
    pub chart: Option<PathBuf>,
    #[arg(long, hide = true)]
    pub child: Option<String>,
}

/// A group of rows that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Durable single puts of 1 to 64 threads and of 1, 64 and 1,024 tasks
    Durable,
    /// Syncs per durable commit, as strace counts them
    Syncs,
    /// Single puts that are not synced, of 1 and 8 threads
    Unsynced,
    /// Synced batches of 1,000 rows, of 1 and 8 threads
    Batches,
    /// Load, reads in memory, updates, removals, file sizes
    Table,
    /// Reads of rows of which one in eight fits into memory
    Cold,
    /// Random inserts into a tree of ten times the memory
    Inserts,
    /// Latencies beside checkpoints, and a timer beside committing tasks
    Tails,
    /// Opening, recovery, memory, idle processor time
    Life,
}

impl Args {
    /// The engines to compare.
    pub fn engines(&self) -> Vec<Name> {
        match self.engines.is_empty() {
            true => Name::value_variants().to_vec(),
            false => self.engines.clone(),
        }
    }

    /// The workloads to run.
    pub fn workloads(&self) -> Vec<Workload> {
        match self.workloads.is_empty() {
            true => Workload::value_variants().to_vec(),
            false => self.workloads.clone(),
        }
    }
}
