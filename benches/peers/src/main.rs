//! ringdb beside other embedded engines: the same rows, the same durability, on one machine in one
//! run.
//!
//! ```text
//! args ─▶ workloads ─▶ bench ─▶ peer ═pipes═ child ─▶ actors ─▶ engines
//!              ├─▶ least
//!              └─▶ rows ─▶ table, JSON, chart; targets
//! ```

mod actors;
mod args;
mod bench;
mod child;
mod data;
mod engines;
mod least;
mod limit;
mod lines;
mod memory;
mod peer;
mod protocol;
mod rows;
mod targets;
mod turns;
mod usage;
mod workloads;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ringdb_cli::exit::{self, Failure};
use ringdb_cli::measure::bare::Bare;
use ringdb_cli::measure::machine::Machine;
use ringdb_cli::measure::place;
use ringdb_cli::number::grouped;

use crate::args::Args;
use crate::bench::Bench;
use crate::engines::Outcome;
use crate::rows::{Rows, head};

fn main() -> ExitCode {
    match Args::try_parse() {
        Ok(Args { child: Some(spec), .. }) => exit::code(child::run(&spec)),
        Ok(args) => exit::code(run(&args)),
        Err(error) => exit::usage(&error),
    }
}

fn run(args: &Args) -> Outcome<()> {
    let directory = place::fresh(args.dir.as_deref())?;
    let machine = Machine::look(directory.path());
    let bare = Bare::create(directory.path())?;
    let rates = bare.rates()?;
    let mut out = io::stdout().lock();
    writeln!(out, "kernel       {}, {} cores", machine.kernel, machine.cores)?;
    writeln!(out, "file system  {}", machine.file_system)?;
    writeln!(out, "device       {}", machine.device)?;
    let (small, reads) = (&rates.small, rates.reads.depth_64_per_s);
    writeln!(out, "bare loop    {}/s by {}", grouped(small.per_s), small.method)?;
    writeln!(out, "bare reads   {}/s with 64 in flight", grouped(reads))?;
    writeln!(out, "rows         {} of 24 + 150 bytes\n", grouped(args.rows as f64))?;
    write!(out, "{}", head())?;
    drop(out);
    let mut bench = Bench {
        directory: directory.path(),
        engines: args.engines(),
        bare: &bare,
        method: small.method,
        rows: args.rows,
        time: Duration::from_secs_f64(args.seconds.clamp(0.04, 600.0)),
        out: Rows::default(),
    };
    for engine in args.engines() {
        let rows_max = engine.table_rows_max();
        if args.rows > rows_max {
            let rows = grouped(rows_max as f64);
            println!("    {}: not in tables of more than {rows} rows", engine.text());
        }
    }
    for workload in args.workloads() {
        workloads::run(&mut bench, workload)?;
    }
    println!("\n{}", targets::told(&bench.out));
    let rows = bench.out;
    if let Some(path) = &args.json {
        let json = rows.as_json().map_err(|error| Failure::error(error.to_string()))?;
        match path == Path::new("-") {
            true => io::stdout().lock().write_all(json.as_bytes())?,
            false => std::fs::write(path, json)?,
        }
    }
    if let Some(path) = &args.chart {
        let told = [machine.kernel, machine.file_system, machine.device];
        match lines::chart(&rows, &told) {
            Some(svg) => std::fs::write(path, svg)?,
            None => println!("no chart: no durable puts were measured"),
        }
    }
    drop(bare);
    Ok(directory.close()?)
}
