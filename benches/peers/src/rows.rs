//! What came out: a row for each case and engine, as a table, and as JSON lines.

use ringdb_cli::number::{grouped, short};
use serde::Serialize;

use crate::engines::Name;

/// What a number says, and whether more of it is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Operations or rows a second; more is better.
    PerSecond,
    /// Bytes a second; more is better.
    BytesPerSecond,
    /// Bytes for each byte of the user's; less is better.
    BytesPerByte,
    /// Milliseconds; less is better.
    Milliseconds,
    /// MiB; less is better.
    Mebibytes,
    /// So many times as much; less is better.
    Times,
    /// Processors that are busy; less is better.
    Processors,
    /// Syncs for each commit: as many on both sides.
    PerCommit,
}

impl Unit {
    /// Whether more of it is better.
    pub fn is_gain(self) -> bool {
        matches!(self, Unit::PerSecond | Unit::BytesPerSecond)
    }

    fn text(self) -> &'static str {
        match self {
            Unit::PerSecond => "/s",
            Unit::BytesPerSecond => "bytes/s",
            Unit::BytesPerByte => "bytes/byte",
            Unit::Milliseconds => "ms",
            Unit::Mebibytes => "MiB",
            Unit::Times => "times",
            Unit::Processors => "processors",
            Unit::PerCommit => "/commit",
        }
    }
}

/// A case: what was done, by how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// Writers, readers or tasks.
    pub actors: u32,
}

/// What was measured of one case on one engine.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was done.
    pub case: Case,
    /// By which engine.
    pub engine: Name,
    /// What came out.
    pub value: f64,
    /// Of what.
    pub unit: Unit,
    /// Latencies, µs: median, 99 %, 99.9 %; zero where there are none.
    pub latency_us: [f64; 3],
    /// Operations a second of the bare loop measured beside it; zero where there is none.
    pub bare_per_s: f64,
}

/// All rows, in the order in which they were measured.
#[derive(Default)]
pub struct Rows(pub Vec<Row>);

impl Rows {
    /// The row of a case and an engine.
    pub fn find(&self, name: &str, actors: u32, engine: Name) -> Option<&Row> {
        self.0
            .iter()
            .find(|row| row.case.name == name && row.case.actors == actors && row.engine == engine)
    }

    /// The value of our row in one file.
    pub fn ours(&self, name: &str, actors: u32) -> Option<f64> {
        self.find(name, actors, Name::Ringdb).map(|row| row.value)
    }

    /// The value of the best of all peers.
    pub fn best_peer(&self, name: &str, actors: u32) -> Option<f64> {
        let peers = self.0.iter().filter(|row| {
            row.case.name == name && row.case.actors == actors && row.engine.is_peer()
        });
        peers.fold(None, |best: Option<f64>, row| {
            Some(match (best, row.unit.is_gain()) {
                (None, _) => row.value,
                (Some(best), true) => best.max(row.value),
                (Some(best), false) => best.min(row.value),
            })
        })
    }

    /// Ours as a multiple of a row; above one we are ahead.
    fn ours_to(&self, row: &Row) -> f64 {
        let ours = self.ours(row.case.name, row.case.actors);
        match (ours, row.unit.is_gain()) {
            (Some(ours), true) if row.value > 0.0 => ours / row.value,
            (Some(ours), false) if ours > 0.0 => row.value / ours,
            _ => f64::NAN,
        }
    }

    /// The lines of one case.
    pub fn lines(&self, rows: &[Row]) -> String {
        let mut out = String::new();
        for (index, row) in rows.iter().enumerate() {
            let name = match (index, row.case.actors) {
                (0, 0) => row.case.name.to_owned(),
                (0, actors) => format!("{}, {actors}", row.case.name),
                _ => String::new(),
            };
            let value = match row.unit {
                Unit::PerSecond | Unit::BytesPerSecond => grouped(row.value),
                _ => short(row.value),
            };
            let bare = if row.bare_per_s > 0.0 { row.value / row.bare_per_s } else { f64::NAN };
            let [p50, p99, p999] = row.latency_us.map(|us| if us > 0.0 { us } else { f64::NAN });
            let line = format!(
                "{name:<30} {engine:<12} {value:>13} {unit:<10} {ratio:>7} {bare:>7} {p50:>8} \
                 {p99:>8} {p999:>8}",
                engine = row.engine.text(),
                unit = row.unit.text(),
                ratio = short(self.ours_to(row)),
                bare = short(bare),
                p50 = short(p50),
                p99 = short(p99),
                p999 = short(p999),
            );
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// All rows as JSON lines.
    pub fn as_json(&self) -> Result<String, serde_json::Error> {
        let mut out = String::new();
        for row in &self.0 {
            out.push_str(&serde_json::to_string(&JsonRow::of(row))?);
            out.push('\n');
        }
        Ok(out)
    }
}

/// The head of the table.
pub fn head() -> String {
    format!(
        "{:<30} {:<12} {:>13} {:<10} {:>7} {:>7} {:>8} {:>8} {:>8}\n",
        "case, writers or readers", "engine", "", "", "ours x", "x bare", "p50 µs", "p99", "p99.9"
    )
}

/// One JSON object; fields that `ringdb bench` has too have its names.
#[derive(Serialize)]
struct JsonRow<'a> {
    engine: String,
    workload: &'a str,
    writers: u32,
    ops_per_s: Option<f64>,
    value: f64,
    unit: Unit,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    bare_per_s: f64,
}

impl JsonRow<'_> {
    fn of(row: &Row) -> JsonRow<'_> {
        let [p50_us, p99_us, p999_us] = row.latency_us;
        JsonRow {
            engine: row.engine.text(),
            workload: row.case.name,
            writers: row.case.actors,
            ops_per_s: (row.unit == Unit::PerSecond).then_some(row.value),
            value: row.value,
            unit: row.unit,
            p50_us,
            p99_us,
            p999_us,
            bare_per_s: row.bare_per_s,
        }
    }
}
