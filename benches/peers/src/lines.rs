//! The lines of the chart: durable puts of every engine, by threads and by tasks.

use clap::ValueEnum;
use ringdb_cli::measure::chart::{self, Mark, Series};

use crate::engines::Name;
use crate::rows::{Row, Rows};

/// The chart; `None` if no durable puts were measured.
pub fn chart(rows: &Rows, machine: &[String]) -> Option<String> {
    let shown = ["durable-puts", "durable-puts-tasks"];
    let of = |row: &&Row| shown.contains(&row.case.name);
    let bare: Vec<f64> = rows.0.iter().filter(of).map(|row| row.bare_per_s).collect();
    let bare_per_s = bare.iter().sum::<f64>() / bare.len() as f64;
    let series = shown.iter().flat_map(|name| {
        let of = |engine: &Name| series(rows, name, *engine);
        Name::value_variants().iter().map(of).filter(|series| !series.points.is_empty())
    });
    chart::chart(&series.collect::<Vec<_>>(), bare_per_s, machine)
}

fn series(rows: &Rows, name: &str, engine: Name) -> Series {
    let of = |row: &&Row| row.case.name == name && row.engine == engine;
    let point = |row: &Row| (f64::from(row.case.actors), row.value);
    let points = rows.0.iter().filter(of).map(point).collect();
    let (who, dash, mark) = match name {
        "durable-puts" => ("writers", "", Mark::Filled),
        _ => ("tokio tasks", "7 4", Mark::Hollow),
    };
    let color = match engine {
        Name::Ringdb => "#0b6e4f",
        Name::RingdbFiles => "#52b788",
        Name::NoEngine => "#adb5bd",
        Name::Redb => "#c8553d",
        Name::RedbFiles => "#e9a08f",
        Name::Fjall => "#1d4e89",
        Name::Lmdb => "#6c757d",
        Name::Sqlite => "#b8860b",
        #[cfg(feature = "rocksdb")]
        Name::Rocksdb => "#000000",
    };
    Series { name: format!("{}, {who}", engine.text()), color, dash, mark, points }
}
