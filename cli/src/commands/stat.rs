//! `ringdb stat`: what is in the file and how it is reached.

use std::io::{self, Write};

use ringdb::{BackendKind, BackendReport, Create, Db, FamilyStat, Metrics, RecoveryReport, Stat};
use serde_json::json;

use crate::args::StatArgs;
use crate::exit::Failure;
use crate::number::{bytes, count};

/// Shows a database.
pub fn run(args: StatArgs) -> Result<(), Failure> {
    let options = super::options(&args.place, Create::Never);
    super::with_database(&args.place, options, |db| {
        let text = if args.json { as_json(db) } else { as_text(db) };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(())
    })
}

fn as_text(db: &Db) -> String {
    let (stat, backend, recovery) = (db.stat(), db.backend(), db.recovery());
    let health = db.health();
    let told = |health: &ringdb::Result<()>| match health {
        Ok(()) => "ok".to_owned(),
        Err(error) => format!("{error:?}"),
    };
    let mut out = String::new();
    let mut line = |name: &str, text: String| out.push_str(&format!("{name:<10}{text}\n"));
    line("file", sizes(&stat));
    line("backend", backend_line(&backend));
    line(
        "direct",
        format!("{}: {}", if backend.direct { "yes" } else { "no" }, backend.direct_reason),
    );
    line("sync", backend.sync_method.clone());
    line("recovery", recovery_line(&recovery));
    line("health", format!("reads {}, writes {}", told(&health.reads), told(&health.writes)));
    line("written", written_line(&db.metrics()));
    line(
        "opening",
        format!("incarnation {}, checkpoint generation {}", stat.incarnation, stat.generation),
    );
    out.push_str(&families(&stat.families));
    out
}

fn sizes(stat: &Stat) -> String {
    format!(
        "{}: trees {}, log {}, free {}",
        bytes(stat.file_bytes),
        bytes(stat.tree_bytes),
        bytes(stat.log_bytes),
        bytes(stat.free_bytes)
    )
}

/// The backend in words, with the reason it was chosen.
pub fn backend_line(backend: &BackendReport) -> String {
    format!("{}: {} (kernel {})", backend_name(backend.kind), backend.reason, backend.kernel)
}

fn backend_name(kind: BackendKind) -> &'static str {
    match kind {
        BackendKind::Uring => "uring",
        BackendKind::Pwrite => "pwrite",
        BackendKind::Sim => "sim",
    }
}

/// What went into pages since the database was opened, and why.
fn written_line(metrics: &Metrics) -> String {
    format!(
        "{} to bring rows into trees, {} to merge trees",
        bytes(metrics.flush_bytes),
        bytes(metrics.merge_bytes)
    )
}

fn recovery_line(recovery: &RecoveryReport) -> String {
    format!(
        "{} commits from {} of log in {:.1} ms; tail: {}",
        count(recovery.commits),
        bytes(recovery.log_bytes),
        recovery.duration.as_secs_f64() * 1e3,
        recovery.tail
    )
}

fn families(families: &[FamilyStat]) -> String {
    let width = families.iter().map(|family| family.name.chars().count()).max().unwrap_or(0).max(6);
    let mut out = format!(
        "\n{:width$}  {:>14}  {:>10}  {:>10}  {:>5}  {:>6}  {:>10}  log\n",
        "family", "rows (about)", "tree", "memtable", "trees", "height", "filters"
    );
    for family in families {
        out.push_str(&format!(
            "{:width$}  {:>14}  {:>10}  {:>10}  {:>5}  {:>6}  {:>10}  {}\n",
            family.name,
            count(family.approximate_rows),
            bytes(family.tree_bytes),
            bytes(family.memtable_bytes),
            family.trees,
            family.height,
            bytes(family.filter_bytes),
            if family.logged { "yes" } else { "no" },
        ));
    }
    let rows = families.iter().map(|family| family.approximate_rows).sum();
    out.push_str(&format!("{} column families, about {} rows\n", families.len(), count(rows)));
    out
}

fn as_json(db: &Db) -> String {
    let (stat, backend, recovery, health) = (db.stat(), db.backend(), db.recovery(), db.health());
    let metrics = db.metrics();
    let told = |health: ringdb::Result<()>| health.err().map(|error| format!("{error:?}"));
    let family = |family: &FamilyStat| {
        json!({
            "name": family.name, "logged": family.logged,
            "approximate_rows": family.approximate_rows,
            "tree_bytes": family.tree_bytes, "filter_bytes": family.filter_bytes,
            "memtable_bytes": family.memtable_bytes,
            "trees": family.trees, "height": family.height,
        })
    };
    let object = json!({
        "file_bytes": stat.file_bytes, "tree_bytes": stat.tree_bytes, "log_bytes": stat.log_bytes,
        "free_bytes": stat.free_bytes,
        "flush_bytes": metrics.flush_bytes, "merge_bytes": metrics.merge_bytes,
        "generation": stat.generation, "incarnation": stat.incarnation,
        "backend": {
            "kind": backend_name(backend.kind), "reason": backend.reason, "direct": backend.direct,
            "direct_reason": backend.direct_reason, "sync_method": backend.sync_method,
            "kernel": backend.kernel,
        },
        "recovery": {
            "commits": recovery.commits, "log_bytes": recovery.log_bytes,
            "seconds": recovery.duration.as_secs_f64(), "tail": recovery.tail,
        },
        "health": { "reads": told(health.reads), "writes": told(health.writes) },
        "families": stat.families.iter().map(family).collect::<Vec<_>>(),
    });
    format!("{object}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_a_table() {
        let mut family = FamilyStat::default();
        (family.name, family.logged) = ("users".to_owned(), true);
        (family.approximate_rows, family.tree_bytes, family.memtable_bytes) = (12345, 3 << 20, 512);
        (family.trees, family.height) = (1, 2);
        let expected = "\nfamily    rows (about)        tree    memtable  trees  height     filters  log\n\
                        users           12,345       3 MiB       512 B      1       2         0 B  yes\n\
                        1 column families, about 12,345 rows\n";
        assert_eq!(families(&[family]), expected);
    }
}
