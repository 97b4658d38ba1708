//! A table that fits into memory: load, reads, updates, removals, and what the file weighs.

use std::collections::BTreeMap;

use crate::bench::{Bench, Beside, Race};
use crate::data::ROW_BYTES;
use crate::engines::{Durability, Name, Outcome};
use crate::memory;
use crate::peer::Peer;
use crate::protocol::{Keys, Load, Order, Runner, Spec, Work};
use crate::rows::Unit;
use crate::usage::Usage;

const BATCH_ROWS: u32 = 1000;
/// Loads of empty databases by each engine, besides the first.
const LOADS: usize = 3;
/// Half of the write buffer of 64 MiB that engines with one are given here.
const HALF_FULL_BYTES: u64 = 32 << 20;

/// Runs all of it; each step on all engines in turn.
pub fn run(bench: &mut Bench<'_>) -> Outcome<()> {
    // Room for all pages, whatever an engine adds to the rows.
    let memory_bytes = (bench.payload_bytes() * 5 / 2).max(256 << 20);
    let spec = |engine| bench.spec(engine, "table", 1, memory_bytes, Durability::Unsynced);
    let specs: Vec<_> = bench.in_tables().into_iter().map(spec).collect();
    let mut peers = bench.start(specs.clone(), None);
    bulk(bench, &mut peers, Names("load-random", "size-after-load"), Load::Random)?;
    bench.each(&mut peers, |peer| peer.ask(Order::ReadAll).map(drop));
    reads(bench, &mut peers)?;
    half_full(bench, &mut peers)?;
    bulk(bench, &mut peers, Names("update-all", "size-after-update"), Load::Update)?;
    bulk(bench, &mut peers, Names("remove-half", "size-after-removal"), Load::RemoveHalf)?;
    compact(bench, &mut peers)?;
    bench.remove(peers);
    let sorted = Loads {
        load: Load::Sorted,
        median: "load-sorted",
        first: "load-sorted-first",
        size: "size-after-sorted-load",
    };
    let ingest_sorted = Loads {
        load: Load::AtOnce { keys: Keys::Ascending },
        median: "ingest-sorted",
        first: "ingest-sorted-first",
        size: "size-after-ingest-sorted",
    };
    let ingest_random = Loads {
        load: Load::AtOnce { keys: Keys::Random },
        median: "ingest-random",
        first: "ingest-random-first",
        size: "size-after-ingest-random",
    };
    for what in [sorted, ingest_sorted, ingest_random] {
        loads(bench, &specs, &what)?;
    }
    Ok(())
}

/// Loads rows into empty databases, each engine once and then, in turns, three times with memory that was touched right before; of
/// these the median counts. Such a load takes two seconds, and half of the first one's may be a virtual machine's way to memory that
/// nobody used lately.
fn loads(bench: &mut Bench<'_>, specs: &[Spec], what: &Loads) -> Outcome<()> {
    let rows = bench.rows;
    let (mut rates, mut sizes) = (BTreeMap::<Name, Vec<f64>>::new(), Vec::new());
    let mut specs = specs.to_vec();
    for load in 0..=LOADS {
        specs.retain(|spec| {
            // Twice as much as it is told to use: the kernel gives out what it likes of that.
            let memory_bytes = if load > 0 { 2 * spec.settings.memory_bytes } else { 0 };
            memory::touch(memory_bytes as u64);
            // One that failed left what it had.
            drop(std::fs::remove_dir_all(&spec.settings.directory));
            let mut peers = bench.start(vec![spec.clone()], None);
            let mut is_loaded = false;
            bench.each(&mut peers, |peer| {
                let Some(rate) = load_rate(peer, what.load, rows)? else { return Ok(()) };
                if load == LOADS {
                    sizes.push((peer.engine, per_byte(&peer.rest()?.usage, rows * ROW_BYTES)));
                }
                rates.entry(peer.engine).or_default().push(rate);
                is_loaded = true;
                Ok(())
            });
            bench.remove(peers);
            is_loaded
        });
    }
    let all = |spec: &Spec| Some((spec.engine, rates.remove(&spec.engine)?));
    let all: Vec<(Name, Vec<f64>)> = specs.iter().filter_map(all).collect();
    let firsts = all.iter().map(|(engine, rates)| (*engine, rates[0])).collect();
    let median = |(engine, mut rates): (Name, Vec<f64>)| {
        let warm = &mut rates[1..];
        warm.sort_by(f64::total_cmp);
        (engine, warm[LOADS / 2])
    };
    let medians = all.into_iter().map(median).collect();
    bench.tell_values(what.median, Unit::PerSecond, medians)?;
    bench.tell_values(what.first, Unit::PerSecond, firsts)?;
    bench.tell_values(what.size, Unit::BytesPerByte, sizes)
}

/// Rows a second, until everything is synced and in its place; `None` if the engine has no such load.
fn load_rate(peer: &mut Peer, load: Load, rows: u64) -> Outcome<Option<f64>> {
    let written = peer.ask(Order::Load { load, rows, batch: BATCH_ROWS })?;
    if !written.has_it {
        return Ok(None);
    }
    let settled = peer.ask(Order::Settle)?;
    Ok(Some(written.ops as f64 / (written.seconds + settled.seconds)))
}

/// A load of empty databases, and the cases that tell of it.
struct Loads {
    load: Load,
    median: &'static str,
    first: &'static str,
    size: &'static str,
}

struct Names(&'static str, &'static str);

/// Writes in batches until everything is in its place and synced; the sizes are those at rest.
fn bulk(bench: &mut Bench<'_>, peers: &mut Vec<Peer>, names: Names, load: Load) -> Outcome<()> {
    let rows = bench.rows;
    let left_bytes = match load {
        Load::RemoveHalf => rows / 2 * ROW_BYTES,
        _ => rows * ROW_BYTES,
    };
    let (mut rates, mut sizes) = (Vec::new(), Vec::new());
    bench.each(peers, |peer| {
        let rate = load_rate(peer, load, rows)?;
        rates.extend(rate.map(|rate| (peer.engine, rate)));
        sizes.push((peer.engine, per_byte(&peer.rest()?.usage, left_bytes)));
        Ok(())
    });
    bench.tell_values(names.0, Unit::PerSecond, rates)?;
    bench.tell_values(names.1, Unit::BytesPerByte, sizes)
}

fn per_byte(usage: &Usage, payload_bytes: u64) -> f64 {
    usage.file_bytes as f64 / payload_bytes as f64
}

fn race(name: &'static str, work: Work, actors: u32) -> Race {
    let (runner, beside) = (Runner::Threads, Beside::Nothing);
    Race { name, work, runner, actors, families: 1, beside }
}

fn reads(bench: &mut Bench<'_>, peers: &mut Vec<Peer>) -> Outcome<()> {
    let loaded = bench.rows;
    for actors in [1, 8] {
        bench.race(race("point-reads", Work::Get { loaded }, actors), peers)?;
    }
    bench.race(race("scans-of-10", Work::Scan { loaded }, 1), peers)?;
    bench.race(race("64-gets", Work::Gets { loaded }, 1), peers)?;
    bench.race(race("multi-get-of-64", Work::MultiGet { loaded }, 1), peers)
}

/// The same reads where a part of the rows has newer versions in memory.
fn half_full(bench: &mut Bench<'_>, peers: &mut Vec<Peer>) -> Outcome<()> {
    let loaded = bench.rows;
    let rows = (HALF_FULL_BYTES / ROW_BYTES).min(loaded);
    bench.each(peers, |peer| {
        let load = Load::Update;
        peer.ask(Order::Load { load, rows, batch: BATCH_ROWS }).map(drop)
    });
    for actors in [1, 8] {
        bench.race(race("point-reads-half-full", Work::Get { loaded }, actors), peers)?;
    }
    bench.race(race("scans-of-10-half-full", Work::Scan { loaded }, 1), peers)
}

/// What an administrator can do about the size.
fn compact(bench: &mut Bench<'_>, peers: &mut Vec<Peer>) -> Outcome<()> {
    let left_bytes = bench.rows / 2 * ROW_BYTES;
    let mut sizes = Vec::new();
    let mut without: Vec<Name> = Vec::new();
    bench.each(peers, |peer| {
        match peer.ask(Order::Compact)?.has_it {
            true => {
                sizes.push((peer.engine, per_byte(&peer.rest()?.usage, left_bytes)));
            }
            false => without.push(peer.engine),
        }
        Ok(())
    });
    bench.tell_values("size-after-compact", Unit::BytesPerByte, sizes)?;
    for engine in without {
        println!("    {}: no compact in place: not built", engine.text());
    }
    Ok(())
}
