//! Which lines of the rows the chart shows. Pure.

use ringdb_cli::measure::chart::{self, Mark, Series};

use super::plan::{Subject, Workload};
use super::rows::Row;

/// Workloads that the chart shows.
const SHOWN: [Workload; 3] =
    [Workload::DurablePuts, Workload::DurablePutsTasks, Workload::SeparateDatabases];
const SUBJECTS: [Subject; 3] = [Subject::Uring, Subject::Pwrite, Subject::PwritePerCommit];

/// The chart; `None` if no durable puts were measured.
pub fn chart(rows: &[Row], machine: &[String]) -> Option<String> {
    let shown: Vec<&Row> = rows.iter().filter(|row| SHOWN.contains(&row.case.workload)).collect();
    let bare = shown.iter().map(|row| row.bare_per_s).sum::<f64>() / shown.len() as f64;
    let all = SHOWN.iter().flat_map(|workload| SUBJECTS.map(|subject| (*workload, subject)));
    let series = all.map(|(workload, subject)| series(&shown, workload, subject));
    let series: Vec<Series> = series.filter(|series| !series.points.is_empty()).collect();
    chart::chart(&series, bare, machine)
}

fn series(rows: &[&Row], workload: Workload, subject: Subject) -> Series {
    let of = |row: &&&Row| row.case.workload == workload && row.subject == subject;
    let point = |row: &&Row| (f64::from(row.case.writers), row.ops_per_s());
    let mut points: Vec<(f64, f64)> = rows.iter().filter(of).map(point).collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (who, dash) = match workload {
        Workload::DurablePutsTasks => ("tokio tasks", "7 4"),
        Workload::SeparateDatabases => ("a database each", "1 5"),
        _ => ("writers", ""),
    };
    let mark = if workload == Workload::DurablePuts { Mark::Filled } else { Mark::Hollow };
    let color = match subject {
        Subject::Uring => "#0b6e4f",
        Subject::Pwrite => "#c8553d",
        Subject::PwritePerCommit => "#6c757d",
    };
    Series { name: format!("{}, {who}", subject.label()), color, dash, mark, points }
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::row;
    use super::*;

    #[test]
    fn every_backend_has_a_line_of_its_own() {
        let rows = [
            row(Workload::DurablePuts, 1, Subject::Uring, 10_000),
            row(Workload::DurablePuts, 64, Subject::Uring, 160_000),
            row(Workload::DurablePuts, 64, Subject::Pwrite, 120_000),
            row(Workload::DurablePutsTasks, 1024, Subject::Uring, 400_000),
            row(Workload::PointReads, 1, Subject::Uring, 9_000_000),
        ];
        let svg = chart(&rows, &[]).unwrap();
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(svg.contains("pwrite, writers") && svg.contains("uring, tokio tasks"));
    }

    #[test]
    fn reads_are_not_in_the_chart() {
        assert!(chart(&[row(Workload::ColdReads, 64, Subject::Uring, 1000)], &[]).is_none());
    }
}
