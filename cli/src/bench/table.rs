//! The final table, at most 120 columns wide, and bars for those who have no browser at hand.

use super::plan::{Subject, Workload};
use super::rows::{Row, ratio_to_one};
use crate::number::{count, counted, grouped, short};

/// Columns: title in two lines, and width; the first two are set to the left.
const COLUMNS: [(&str, &str, usize); 12] = [
    ("", "workload, writers", 27),
    ("", "backend", 14),
    ("", "ops/s", 10),
    ("x one", "writer", 7),
    ("x bare", "loop", 7),
    ("p50", "µs", 6),
    ("p99", "µs", 7),
    ("p99.9", "µs", 7),
    ("commits", "/sync", 8),
    ("syscalls", "/commit", 9),
    ("bytes", "/commit", 8),
    ("rows", "verified", 9),
];

/// The table of all rows.
pub fn table(rows: &[Row]) -> String {
    let mut out = line(&COLUMNS.map(|(upper, _, _)| upper.to_owned()));
    out.push_str(&line(&COLUMNS.map(|(_, lower, _)| lower.to_owned())));
    let mut before = None;
    for row in rows {
        out.push_str(&line(&cells(rows, row, before == Some(row.case))));
        before = Some(row.case);
    }
    out.push_str(
        "bare loop: durable 4 KiB writes, one at a time; for reads, 4 KiB reads, 64 at a time\n",
    );
    if rows.iter().any(|row| row.subject == Subject::PwritePerCommit) {
        let label = Subject::PwritePerCommit.label();
        out.push_str(&format!(
            "{label}: one write and one sync for each commit, as most engines do\n"
        ));
    }
    out
}

fn cells(rows: &[Row], row: &Row, is_same_case: bool) -> [String; 12] {
    let case = match is_same_case {
        true => String::new(),
        false => format!("{}, {}", row.case.workload.name(), row.case.writers),
    };
    let outcome = &row.outcome;
    [
        case,
        row.subject.label().to_owned(),
        grouped(row.ops_per_s()),
        short(ratio_to_one(rows, row)),
        short(row.ratio_to_bare()),
        short(outcome.p50_us),
        short(outcome.p99_us),
        short(outcome.p999_us),
        short(row.commits_per_sync()),
        short(row.syscalls_per_commit()),
        grouped(row.bytes_per_commit()),
        if row.verified > 0 { count(row.verified) } else { "-".to_owned() },
    ]
}

fn line(cells: &[String; 12]) -> String {
    let mut out = String::new();
    for (index, (cell, (_, _, width))) in cells.iter().zip(COLUMNS).enumerate() {
        // One space between columns is kept even where a cell is wider than expected.
        let width = width.saturating_sub(1);
        let padded =
            if index < 2 { format!("{cell:<width$} ") } else { format!(" {cell:>width$}") };
        out.push_str(&padded);
    }
    format!("{}\n", out.trim_end())
}

const BAR_COLUMNS: f64 = 60.0;

/// Durable puts over writers as bars; nothing if none were measured.
pub fn bars(rows: &[Row]) -> String {
    let shown = [Workload::DurablePuts, Workload::DurablePutsTasks];
    let rows: Vec<&Row> = rows.iter().filter(|row| shown.contains(&row.case.workload)).collect();
    let most = rows.iter().map(|row| row.ops_per_s()).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let mut out = "durable puts per second\n".to_owned();
    let mut before = None;
    for row in rows {
        let label = match (row.case.workload, before == Some(row.case)) {
            (_, true) => String::new(),
            (Workload::DurablePutsTasks, false) => counted(row.case.writers.into(), "task"),
            (_, false) => counted(row.case.writers.into(), "writer"),
        };
        before = Some(row.case);
        let bar = bar(row.ops_per_s() / most);
        let (subject, rate) = (row.subject.label(), grouped(row.ops_per_s()));
        out.push_str(&format!("{label:>11}  {subject:<13} {bar} {rate}\n"));
    }
    out
}

/// A bar in eighths of a column, never empty.
fn bar(share: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = ((share * BAR_COLUMNS * 8.0).round() as usize).max(1);
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::row;
    use super::*;

    fn rows() -> Vec<Row> {
        vec![
            row(Workload::DurablePuts, 1, Subject::Uring, 10_000),
            row(Workload::DurablePuts, 1, Subject::PwritePerCommit, 5_000),
            row(Workload::DurablePutsTasks, 1024, Subject::Uring, 1_415_000),
        ]
    }

    #[test]
    fn table_reads_at_120_columns() {
        let table = table(&rows());
        for line in table.lines() {
            assert!(line.chars().count() <= 120, "{line}");
        }
        let expected = "durable-puts, 1            uring             10,000   1.00   10.0  80.0    142  \
                        1,234    2.00     1.00   4,097   10,000";
        assert_eq!(table.lines().nth(2), Some(expected));
        assert!(table.lines().nth(3).is_some_and(|line| line.trim().starts_with("pwrite/commit")));
    }

    #[test]
    fn bars_are_in_proportion() {
        let bars = bars(&rows());
        let length = |line: usize| bars.lines().nth(line).unwrap().matches('█').count();
        assert_eq!((length(1), length(3)), (0, 60));
        assert!(bars.contains("1,024 tasks"));
        assert_eq!(super::bars(&[]), "");
    }
}
