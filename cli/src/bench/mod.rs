//! `ringdb bench`: what this engine does on this machine, and the proof that what it acknowledged
//! was durable.
//!
//! ```text
//! mod ──▶ place, machine, bare        where, on what, and what the disk does by itself
//!     ──▶ plan                        which workloads on which backends
//!     ──▶ case ──▶ parent ═pipes═ child ──▶ runner ──▶ actor  each backend apart
//!              ──▶ verify ──▶ key     after kill -9
//!     ──▶ rows ──▶ table, lines       what came out
//! ```

mod actor;
pub mod args;
mod case;
pub mod child;
mod lines;
mod live;
mod parent;
mod plan;
mod protocol;
mod rows;
mod runner;
mod table;
mod verify;

use std::io::{self, Write};
use std::path::Path;

use ringdb::block_on;
use ringdb_cli::measure::{bare, histogram, key, machine, place};

use self::args::BenchArgs;
use self::bare::{Bare, DEPTH, DurableWrites, Method, Rates};
use self::case::{Setting, measure};
use self::live::Live;
use self::machine::Machine;
use self::plan::{Subject, cases};
use self::rows::Row;
use crate::exit::Failure;
use crate::number::{bytes, count, counted, grouped};

/// Runs the bench.
pub fn run(args: BenchArgs) -> Result<(), Failure> {
    let directory = place::fresh(args.dir.as_deref())?;
    let machine = Machine::look(directory.path());
    print_machine(&machine, directory.path())?;
    let subjects = available(&args.subjects(), directory.path())?;
    let bare = Bare::create(directory.path())?;
    let rates = bare.rates()?;
    print_rates(&rates)?;
    let setting = Setting {
        directory: directory.path(),
        bare: &bare,
        method: rates.small.method,
        value_bytes: args.value_bytes as usize,
        slices: args.slices(),
    };
    let (rows, failures) = measure_all(&setting, &args, &subjects);
    report(&args, &machine, &rows)?;
    drop(bare);
    directory.close()?;
    first_of(failures)
}

fn measure_all(
    setting: &Setting<'_>,
    args: &BenchArgs,
    subjects: &[Subject],
) -> (Vec<Row>, Vec<Failure>) {
    let cases = cases(&args.workloads(), &args.writers);
    let mut live = Live::start(cases.len());
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for case in cases {
        live.case(case);
        let measured = measure(setting, case, subjects, &live);
        rows.extend(measured.rows);
        for failure in measured.failures {
            live.say(&format!("failed: {failure}"));
            failures.push(failure);
        }
    }
    live.finish();
    (rows, failures)
}

/// The worst is what the exit code tells: lost writes before anything else.
fn first_of(mut failures: Vec<Failure>) -> Result<(), Failure> {
    let defect = failures.iter().position(|failure| matches!(failure, Failure::Defects(_)));
    match (defect, failures.is_empty()) {
        (Some(index), _) => Err(failures.swap_remove(index)),
        (None, false) => Err(failures.swap_remove(0)),
        (None, true) => Ok(()),
    }
}

fn print_machine(machine: &Machine, directory: &Path) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ringdb {} (commit {})", env!("CARGO_PKG_VERSION"), machine.commit)?;
    writeln!(out, "kernel       {}, {} cores", machine.kernel, machine.cores)?;
    writeln!(out, "directory    {}", directory.display())?;
    writeln!(out, "file system  {}", machine.file_system)?;
    writeln!(out, "device       {}", machine.device)
}

/// The backends that open a database here, each with what it says of itself; one that does not is
/// told and left out.
fn available(subjects: &[Subject], directory: &Path) -> Result<Vec<Subject>, Failure> {
    let mut out = io::stdout().lock();
    let mut kept = Vec::new();
    let mut refused = None;
    for subject in subjects {
        let path = directory.join(format!("probe-{}.ring", subject.name()));
        match block_on(subject.options().open(&path)) {
            Ok(db) => {
                let report = db.backend();
                let direct = if report.direct { "direct" } else { "through the page cache" };
                let (name, sync) = (subject.name(), &report.sync_method);
                writeln!(out, "{name:<17}  {direct}, sync: {sync}; {}", report.reason)?;
                block_on(db.close())?;
                std::fs::remove_file(&path)?;
                kept.push(*subject);
            }
            Err(error) => {
                writeln!(out, "{:<17}  not available: {error:?}", subject.name())?;
                refused = Some(error);
            }
        }
    }
    match refused {
        Some(error) if kept.is_empty() => Err(error.into()),
        _ => Ok(kept),
    }
}

fn print_rates(rates: &Rates) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for writes in [&rates.small, &rates.large] {
        let (size, per_s) = (bytes(writes.bytes as u64), grouped(writes.per_s));
        writeln!(out, "bare loop    {size} durable: {per_s}/s by {}", writes.method)?;
        writeln!(out, "             (else {})", others(writes))?;
    }
    let reads = rates.reads;
    writeln!(
        out,
        "bare reads   4 KiB at random, {}: {}/s one at a time, {}/s with {DEPTH} in flight",
        if reads.direct { "direct" } else { "through the page cache" },
        grouped(reads.depth_1_per_s),
        grouped(reads.depth_64_per_s)
    )?;
    writeln!(out)
}

fn others(writes: &DurableWrites) -> String {
    let told = |(method, per_s): &(Method, f64)| format!("{method} {}/s", grouped(*per_s));
    writes.others.iter().map(told).collect::<Vec<_>>().join(", ")
}

fn report(args: &BenchArgs, machine: &Machine, rows: &[Row]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", table::table(rows))?;
    let bars = table::bars(rows);
    if !bars.is_empty() {
        writeln!(out, "{bars}")?;
    }
    let verified: u64 = rows.iter().map(|row| row.verified).sum();
    let durable = rows.iter().filter(|row| row.case.workload.is_durable()).count();
    if durable > 0 {
        let (rows, times) = (count(verified), counted(durable as u64, "time"));
        writeln!(
            out,
            "{rows} acknowledged rows verified after kill -9 ({times}), every file checked"
        )?;
    }
    if let Some(path) = &args.json {
        let json = rows::as_json(rows).map_err(|error| Failure::error(error.to_string()))?;
        match path == Path::new("-") {
            true => out.write_all(json.as_bytes())?,
            false => write(path, &json)?,
        }
    }
    if let Some(path) = &args.chart {
        let kernel = format!("{}, {} cores", machine.kernel, machine.cores);
        let lines = [kernel, machine.file_system.clone(), machine.device.clone()];
        match lines::chart(rows, &lines) {
            Some(svg) => write(path, &svg)?,
            None => writeln!(out, "no chart: no durable puts were measured")?,
        }
    }
    Ok(out.flush()?)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::from(error).of(path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_writes_are_told_before_other_failures() {
        let failures = vec![Failure::error("slow"), Failure::Defects("lost".to_owned())];
        assert!(matches!(first_of(failures), Err(Failure::Defects(_))));
        assert!(matches!(first_of(vec![Failure::error("slow")]), Err(Failure::Error(_))));
        assert!(first_of(Vec::new()).is_ok());
    }
}
