//! The arguments of `ringdb bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, value_parser};

use super::plan::{Subject, Workload};

/// Arguments of `bench`. All of it takes about 90 seconds on two cores.
#[derive(Args)]
#[command(after_long_help = HELP)]
pub struct BenchArgs {
    /// Only these workloads (repeat, or separate by commas)
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME")]
    pub workload: Vec<Workload>,
    /// Writers, readers or tasks of every workload chosen [default: each workload's own]
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "LIST",
        value_parser = value_parser!(u32).range(1..=WRITERS_MAX)
    )]
    pub writers: Vec<u32>,
    /// Only these backends
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    pub backend: Vec<Subject>,
    /// Bytes of a value
    #[arg(
        long,
        default_value_t = 150,
        value_name = "BYTES",
        value_parser = value_parser!(u32).range(1..=VALUE_BYTES_MAX)
    )]
    pub value_bytes: u32,
    /// Seconds that each row is measured, in slices that take turns with those of the other
    /// backends
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    pub seconds: f64,
    /// Directory on the disk to measure [default: a fresh one under ./target or the system's,
    /// whichever is on a disk]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write one JSON object per row to this file (- for stdout)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a chart of durable puts over writers to this file
    #[arg(long, value_name = "FILE.svg")]
    pub chart: Option<PathBuf>,
}

const HELP: &str = "\
Each row runs in a child process. At the end of a durable row the child keeps writing, tells of \
each acknowledged write, and is killed with -9; then the database is opened again, every \
acknowledged write is looked up, and the whole file is checked.

ops/s counts rows: puts, also within batches, and reads (a range read of 100 rows is one). The \
bare loop is the fastest durable write of 4 KiB that this disk does, one at a time, measured again \
in turns with each row, a lone writer's on that writer's thread; reads are compared with random \
4 KiB direct reads, 64 at a time.";

/// Writers are threads or tasks of one process.
const WRITERS_MAX: i64 = 65_536;
const VALUE_BYTES_MAX: i64 = 65_536;

impl BenchArgs {
    /// Time of one slice and how many there are.
    pub fn slices(&self) -> (u32, Duration) {
        const SLICES: u32 = 4;
        (SLICES, Duration::from_secs_f64(self.seconds / f64::from(SLICES)))
    }

    /// The workloads to run, in their own order.
    pub fn workloads(&self) -> Vec<Workload> {
        let all = Workload::value_variants().iter().copied();
        all.filter(|workload| self.workload.is_empty() || self.workload.contains(workload))
            .collect()
    }

    /// The backends to run, in their own order.
    pub fn subjects(&self) -> Vec<Subject> {
        let all = Subject::value_variants().iter().copied();
        all.filter(|subject| self.backend.is_empty() || self.backend.contains(subject)).collect()
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("between 0.01 and 3600".to_owned()),
    }
}
