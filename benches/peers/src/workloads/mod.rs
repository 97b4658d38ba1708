//! The workloads.

mod cold;
mod commits;
mod inserts;
mod life;
mod syncs;
mod table;
mod tails;

use crate::args::Workload;
use crate::bench::Bench;
use crate::engines::Outcome;

/// Runs one.
pub fn run(bench: &mut Bench<'_>, workload: Workload) -> Outcome<()> {
    match workload {
        Workload::Durable => commits::durable(bench),
        Workload::Syncs => syncs::run(bench),
        Workload::Unsynced => commits::unsynced(bench),
        Workload::Batches => commits::batches(bench),
        Workload::Table => table::run(bench),
        Workload::Cold => cold::run(bench),
        Workload::Inserts => inserts::run(bench),
        Workload::Tails => tails::run(bench),
        Workload::Life => life::run(bench),
    }
}
