//! What ringdb has to reach beside the others, and whether it did in this run.

use ringdb_cli::number::short;

use crate::engines::Name;
use crate::rows::Rows;

/// A bound on a figure.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

struct Target {
    what: String,
    bound: Bound,
    /// `None` if what it needs was not measured, or is not built.
    figure: Option<f64>,
    /// The same without an engine, where that is measured: about what this machine allows.
    without: Option<f64>,
}

impl Target {
    fn without_engine(self, figure: Option<f64>) -> Target {
        Target { without: figure, ..self }
    }

    fn line(&self) -> String {
        let (bound, met) = match (self.bound, self.figure) {
            (Bound::AtLeast(least), figure) => {
                (format!("at least {}", short(least)), figure.map(|figure| figure >= least))
            }
            (Bound::AtMost(most), figure) => {
                (format!("at most {}", short(most)), figure.map(|figure| figure <= most))
            }
        };
        let verdict = match met {
            Some(true) => "met",
            Some(false) => "not met",
            None => "not measured",
        };
        let [figure, without] =
            [self.figure, self.without].map(|of| of.map_or_else(String::new, short));
        let line = format!("{:<64} {bound:<15} {figure:>9}  {verdict:<12} {without:>9}", self.what);
        format!("{}\n", line.trim_end())
    }
}

/// The list, each with its figure.
pub fn told(rows: &Rows) -> String {
    let mut out =
        format!("{:<64} {:<15} {:>9}  {:<12} {:>9}\n", "targets", "", "", "", "no engine");
    for target in commits(rows).into_iter().chain(reads(rows)).chain(tables(rows)).chain(life(rows))
    {
        out.push_str(&target.line());
    }
    out
}

fn at_least(what: impl Into<String>, least: f64, figure: Option<f64>) -> Target {
    Target { what: what.into(), bound: Bound::AtLeast(least), figure, without: None }
}

fn at_most(what: impl Into<String>, most: f64, figure: Option<f64>) -> Target {
    Target { what: what.into(), bound: Bound::AtMost(most), figure, without: None }
}

fn quotient(of: Option<f64>, to: Option<f64>) -> Option<f64> {
    match (of, to) {
        (Some(of), Some(to)) if to > 0.0 => Some(of / to),
        _ => None,
    }
}

/// RocksDB, where it was built in.
fn rocksdb(rows: &Rows, name: &str, actors: u32) -> Option<f64> {
    #[cfg(feature = "rocksdb")]
    return rows.find(name, actors, Name::Rocksdb).map(|row| row.value);
    #[cfg(not(feature = "rocksdb"))]
    {
        let _ = (rows, name, actors);
        None
    }
}

fn of(rows: &Rows, name: &str, actors: u32, engine: Name) -> Option<f64> {
    rows.find(name, actors, engine).map(|row| row.value)
}

fn p99_ms(rows: &Rows, name: &str, actors: u32, engine: Name) -> Option<f64> {
    rows.find(name, actors, engine).map(|row| row.latency_us[1] / 1e3)
}

fn commits(rows: &Rows) -> Vec<Target> {
    let (puts, tasks, unsynced) = ("durable-puts", "durable-puts-tasks", "unsynced-puts");
    // Ours, and the same without an engine.
    let both =
        |figure: &dyn Fn(Name) -> Option<f64>| (figure(Name::Ringdb), figure(Name::NoEngine));
    let least = |what: &str, least, figure: &dyn Fn(Name) -> Option<f64>| {
        let (ours, without) = both(figure);
        at_least(what, least, ours).without_engine(without)
    };
    let most = |what: &str, most, figure: &dyn Fn(Name) -> Option<f64>| {
        let (ours, without) = both(figure);
        at_most(what, most, ours).without_engine(without)
    };
    let to_bare = |name, engine| {
        let row = rows.find(name, 1, engine)?;
        Some(row.value / row.bare_per_s)
    };
    let put = |actors, engine| of(rows, puts, actors, engine);
    let task = |actors, engine| of(rows, tasks, actors, engine);
    let files = put(8, Name::RingdbFiles);
    let peer = rows.best_peer(unsynced, 8);
    let (rocksdb_64, rocksdb_1024) = (rocksdb(rows, tasks, 64), rocksdb(rows, tasks, 1024));
    let redb_1024 = task(1024, Name::Redb);
    let batches = "durable-batches";
    vec![
        least("1 one durable writer that blocks / bare loop", 0.9, &|of| to_bare(puts, of)),
        least("1 one durable task / bare loop awaited by a task", 0.8, &|of| to_bare(tasks, of)),
        least("2 each step from 1 to 64 writers / the one before", 1.0, &|of| least_step(rows, of)),
        least("2 8 writers / 1 writer", 5.0, &|of| quotient(put(8, of), put(1, of))),
        at_least("2 8 writers, one file / eight files", 1.0, quotient(put(8, Name::Ringdb), files)),
        least("3 64 tasks / RocksDB", 25.0, &|of| quotient(task(64, of), rocksdb_64)),
        most("3 64 tasks, p99, ms", 1.0, &|of| p99_ms(rows, tasks, 64, of)),
        least("3 1,024 tasks / RocksDB", 40.0, &|of| quotient(task(1024, of), rocksdb_1024)),
        least("3 1,024 tasks / redb", 300.0, &|of| quotient(task(1024, of), redb_1024)),
        most("3 1,024 tasks, p99, ms", 10.0, &|of| p99_ms(rows, tasks, 1024, of)),
        least("4 unsynced puts of 8 writers / best peer", 4.0, &|engine| {
            quotient(of(rows, unsynced, 8, engine), peer)
        }),
        at_least(
            "4 batches of 8 writers / RocksDB",
            2.0,
            quotient(rows.ours(batches, 8), rocksdb(rows, batches, 8)),
        ),
    ]
}

/// What more writers make of what fewer made, at the worst step.
fn least_step(rows: &Rows, engine: Name) -> Option<f64> {
    let put = |actors| of(rows, "durable-puts", actors, engine);
    let steps = [(1, 2), (2, 4), (4, 8), (8, 16), (16, 64)];
    let rising = steps.iter().map(|(few, more)| quotient(put(*more), put(*few)));
    let rising = rising.collect::<Option<Vec<f64>>>()?;
    Some(rising.into_iter().fold(f64::MAX, f64::min))
}

/// Ours over the best of the peers; above one we are ahead.
fn to_best(rows: &Rows, name: &str, actors: u32) -> Option<f64> {
    quotient(rows.ours(name, actors), rows.best_peer(name, actors))
}

fn reads(rows: &Rows) -> Vec<Target> {
    let lmdb = |name, actors| quotient(rows.ours(name, actors), of(rows, name, actors, Name::Lmdb));
    let cold = rows.find("cold-reads", 64, Name::Ringdb);
    let bare = |row: &str| rows.ours(&format!("bare-reads-of-{row}"), 0);
    // Without an engine 64 tasks read too, and one thread with a ring makes their reads.
    let (ring_4, ring_8) = (bare("4-kib-by-a-ring"), bare("8-kib-by-a-ring"));
    vec![
        at_least("5 point reads, 1 thread / LMDB", 2.0, lmdb("point-reads", 1)),
        at_least("5 point reads, 8 threads / LMDB", 2.0, lmdb("point-reads", 8)),
        at_least("5 scans of 10 / LMDB", 1.2, lmdb("scans-of-10", 1)),
        at_least(
            "5 half-full memtable: point reads, 1 thread / LMDB",
            2.0,
            lmdb("point-reads-half-full", 1),
        ),
        at_least(
            "5 half-full memtable: point reads, 8 threads / LMDB",
            2.0,
            lmdb("point-reads-half-full", 8),
        ),
        at_least("5 half-full memtable: scans of 10 / LMDB", 1.2, lmdb("scans-of-10-half-full", 1)),
        at_least(
            "5 multi_get of 64 / 64 gets",
            1.3,
            quotient(rows.ours("multi-get-of-64", 1), rows.ours("64-gets", 1)),
        ),
        at_least(
            "6 cold reads / bare direct reads",
            0.8,
            cold.map(|row| row.value / row.bare_per_s),
        )
        .without_engine(quotient(ring_4, bare("4-kib"))),
        at_least(
            "6 cold reads / bare direct reads as long as a leaf",
            0.8,
            quotient(rows.ours("cold-reads", 64), bare("8-kib")),
        )
        .without_engine(quotient(ring_8, bare("8-kib"))),
    ]
}

fn tables(rows: &Rows) -> Vec<Target> {
    let inserts = "random-inserts";
    let written = "random-inserts-written";
    let best_lsm = |name, is_gain: bool| {
        let all = [of(rows, name, 0, Name::Fjall), rocksdb(rows, name, 0)];
        let better = |a: f64, b: f64| if is_gain { a.max(b) } else { a.min(b) };
        all.into_iter().flatten().reduce(better)
    };
    vec![
        at_least("7 random load / best peer", 1.0, to_best(rows, "load-random", 0)),
        at_least("7 sorted load / best peer", 1.0, to_best(rows, "load-sorted", 0)),
        at_least("7 ingest of ascending keys / best peer", 1.0, to_best(rows, "ingest-sorted", 0)),
        at_least("7 ingest of random keys / best peer", 1.0, to_best(rows, "ingest-random", 0)),
        at_least("7 removal of half / best peer", 1.0, to_best(rows, "remove-half", 0)),
        at_least("7 update of all / best peer", 1.0, to_best(rows, "update-all", 0)),
        at_most("7 file over payload after a load", 1.15, rows.ours("size-after-load", 0)),
        at_most("7 and after removals and compact", 1.25, rows.ours("size-after-compact", 0)),
        at_least(
            "8 random inserts / best of fjall and RocksDB",
            1.0,
            quotient(rows.ours(inserts, 0), best_lsm(inserts, true)),
        ),
        at_least(
            "8 bytes written, best of fjall and RocksDB / ours",
            1.0,
            quotient(best_lsm(written, false), rows.ours(written, 0)),
        ),
    ]
}

fn life(rows: &Rows) -> Vec<Target> {
    let beside = rows.ours("p99.9-beside-checkpoint", 0);
    let timer = quotient(rows.ours("timer-late-p99.9", 64), rows.ours("timer-late-p99.9", 0));
    let mb_per_s = |name| rows.ours(name, 0).map(|bytes| bytes / 1e6);
    // 64 MiB, the fixed buffers that the options name, and the process itself.
    let memory = rows.ours("peak-memory-of-64-mib", 0);
    vec![
        at_most("9 p99.9 beside a checkpoint / without", 3.0, beside),
        at_most("9 timer beside 64 tasks, p99.9 late / without tasks", 3.0, timer),
        at_most("10 peak memory of a budget of 64 MiB, MiB", 64.0 + 16.0 + 16.0, memory),
        at_most("10 processors that an idle database keeps busy", 0.001, rows.ours("idle", 0)),
        at_most("10 opening after a clean close, ms", 50.0, rows.ours("open-after-close", 0)),
        at_least("10 recovery of a full log, MB/s of log", 500.0, mb_per_s("recovery-of-full-log"))
            .without_engine(mb_per_s("bare-recovery-of-full-log")),
    ]
}
