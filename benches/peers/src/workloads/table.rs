//! A table that fits into memory: load, reads, updates, removals, and what the file weighs.

use std::collections::BTreeMap;

use ringdb_cli::exit::Failure;

use crate::bench::{Bench, Beside, Race};
use crate::data::ROW_BYTES;
use crate::engines::{Durability, Name, Outcome};
use crate::peer::Peer;
use crate::protocol::{Keys, Load, Order, Runner, Spec, Work};
use crate::rows::Unit;
use crate::usage::Usage;

const BATCH_ROWS: u32 = 1000;
/// Sorted loads of each engine.
const SORTED_LOADS: usize = 3;
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
    sorted(bench, &specs)?;
    for (name, keys) in [("ingest-sorted", Keys::Ascending), ("ingest-random", Keys::Random)] {
        let mut peers = bench.start(specs.clone(), None);
        at_once(bench, &mut peers, name, keys)?;
        bench.remove(peers);
    }
    Ok(())
}

/// Loads all rows at once, durably.
fn at_once(
    bench: &mut Bench<'_>,
    peers: &mut Vec<Peer>,
    name: &'static str,
    keys: Keys,
) -> Outcome<()> {
    let rows = bench.rows;
    let mut rates = Vec::new();
    bench.each(peers, |peer| {
        let loaded =
            peer.ask(Order::Load { load: Load::AtOnce { keys }, rows, batch: BATCH_ROWS })?;
        if loaded.has_it {
            rates.push((peer.engine, loaded.ops as f64 / loaded.seconds));
        }
        Ok::<(), Failure>(())
    });
    bench.tell_values(name, Unit::PerSecond, rates)
}

/// Loads ascending rows into empty databases, one engine after the other: such a load takes two seconds, and half of that may be
/// a virtual machine's way to memory that nobody used lately. The median counts.
fn sorted(bench: &mut Bench<'_>, specs: &[Spec]) -> Outcome<()> {
    let rows = bench.rows;
    let (mut loads, mut sizes) = (BTreeMap::<Name, Vec<f64>>::new(), Vec::new());
    for load in 1..=SORTED_LOADS {
        for spec in specs {
            let mut peers = bench.start(vec![spec.clone()], None);
            bench.each(&mut peers, |peer| {
                loads.entry(peer.engine).or_default().push(load_rate(peer, Load::Sorted, rows)?);
                if load == SORTED_LOADS {
                    sizes.push((peer.engine, per_byte(&peer.rest()?.usage, rows * ROW_BYTES)));
                }
                Ok(())
            });
            bench.remove(peers);
        }
    }
    let median = |(engine, mut rates): (Name, Vec<f64>)| {
        rates.sort_by(f64::total_cmp);
        (engine, rates[rates.len() / 2])
    };
    let rates = loads.into_iter().map(median).collect();
    bench.tell_values("load-sorted", Unit::PerSecond, rates)?;
    bench.tell_values("size-after-sorted-load", Unit::BytesPerByte, sizes)
}

/// Rows a second, until everything is in its place and synced.
fn load_rate(peer: &mut Peer, load: Load, rows: u64) -> Outcome<f64> {
    let written = peer.ask(Order::Load { load, rows, batch: BATCH_ROWS })?;
    let settled = peer.ask(Order::Settle)?;
    Ok(written.ops as f64 / (written.seconds + settled.seconds))
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
        rates.push((peer.engine, load_rate(peer, load, rows)?));
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
        Ok::<(), Failure>(())
    });
    bench.tell_values("size-after-compact", Unit::BytesPerByte, sizes)?;
    for engine in without {
        println!("    {}: no compact in place: not built", engine.text());
    }
    Ok(())
}
