//! The results: a row per case and backend, and the JSON objects of them.

use serde::Serialize;

use super::plan::{Case, Subject, Workload};
use super::protocol::Outcome;

/// What was measured of one case on one backend.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was run, by how many.
    pub case: Case,
    /// On what.
    pub subject: Subject,
    /// What came out.
    pub outcome: Outcome,
    /// Acknowledged rows that were found again after the kill.
    pub verified: u64,
    /// Operations a second of the bare loop that was measured beside it.
    pub bare_per_s: f64,
}

impl Row {
    /// Operations a second.
    pub fn ops_per_s(&self) -> f64 {
        self.outcome.ops_per_s()
    }

    /// As a multiple of the bare loop.
    pub fn ratio_to_bare(&self) -> f64 {
        ratio(self.ops_per_s(), self.bare_per_s)
    }

    /// Commits that shared a sync.
    pub fn commits_per_sync(&self) -> f64 {
        ratio(self.outcome.commits as f64, self.outcome.syncs as f64)
    }

    /// System calls for I/O of a commit, or of a read.
    pub fn syscalls_per_commit(&self) -> f64 {
        ratio(self.outcome.syscalls as f64, self.commits_or_reads())
    }

    /// Bytes written for a commit, log and pages.
    pub fn bytes_per_commit(&self) -> f64 {
        let bytes = self.outcome.log_bytes + self.outcome.page_bytes;
        ratio(bytes as f64, self.outcome.commits as f64)
    }

    fn commits_or_reads(&self) -> f64 {
        match self.outcome.commits {
            0 => self.outcome.ops as f64,
            commits => commits as f64,
        }
    }
}

/// Not a number where there is nothing to divide by: such a cell stays empty.
fn ratio(of: f64, to: f64) -> f64 {
    if to > 0.0 { of / to } else { f64::NAN }
}

/// The row as a multiple of one durable writer on the same backend, if that was measured and this
/// is about writes.
pub fn ratio_to_one(rows: &[Row], row: &Row) -> f64 {
    let one = Case { workload: Workload::DurablePuts, writers: 1 };
    let base = rows.iter().find(|base| base.case == one && base.subject == row.subject);
    match (base, row.outcome.commits) {
        (None, _) | (_, 0) => f64::NAN,
        (Some(base), _) => ratio(row.ops_per_s(), base.ops_per_s()),
    }
}

/// One JSON object; the fields are a promise to programs that compare engines.
#[derive(Serialize)]
struct JsonRow<'a> {
    engine: &'a str,
    backend: &'a str,
    workload: String,
    writers: u32,
    ops_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    commits: u64,
    syncs: u64,
    syscalls: u64,
    log_bytes: u64,
    page_bytes: u64,
    verified: u64,
}

/// All rows as JSON lines.
pub fn as_json(rows: &[Row]) -> Result<String, serde_json::Error> {
    let mut out = String::new();
    for row in rows {
        let Outcome { commits, syncs, syscalls, log_bytes, page_bytes, .. } = row.outcome;
        out.push_str(&serde_json::to_string(&JsonRow {
            engine: "ringdb",
            backend: row.subject.name(),
            workload: row.case.workload.name(),
            writers: row.case.writers,
            ops_per_s: tenths(row.ops_per_s()),
            p50_us: tenths(row.outcome.p50_us),
            p99_us: tenths(row.outcome.p99_us),
            p999_us: tenths(row.outcome.p999_us),
            commits,
            syncs,
            syscalls,
            log_bytes,
            page_bytes,
            verified: row.verified,
        })?);
        out.push('\n');
    }
    Ok(out)
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A row that did `ops` operations in a second, each a commit of its own.
    pub fn row(workload: Workload, writers: u32, subject: Subject, ops: u64) -> Row {
        let outcome = Outcome {
            ops,
            seconds: 1.0,
            p50_us: 80.04,
            p99_us: 142.0,
            p999_us: 1234.5,
            commits: ops,
            syncs: ops / 2,
            syscalls: ops,
            log_bytes: ops * 4096,
            page_bytes: ops,
            acknowledged: Vec::new(),
        };
        Row {
            case: Case { workload, writers },
            subject,
            outcome,
            verified: ops,
            bare_per_s: 1000.0,
        }
    }

    #[test]
    fn ratios_are_of_the_same_backend() {
        let rows = [
            row(Workload::DurablePuts, 1, Subject::Uring, 1000),
            row(Workload::DurablePuts, 1, Subject::Pwrite, 500),
            row(Workload::DurablePuts, 8, Subject::Pwrite, 2000),
        ];
        assert_eq!(ratio_to_one(&rows, &rows[2]), 4.0);
        assert_eq!(ratio_to_one(&rows, &rows[0]), 1.0);
        assert!(ratio_to_one(&rows[2..], &rows[2]).is_nan());
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        let mut reads = row(Workload::PointReads, 1, Subject::Uring, 1000);
        (reads.outcome.commits, reads.outcome.syncs) = (0, 0);
        assert!(reads.commits_per_sync().is_nan() && reads.bytes_per_commit().is_nan());
        assert_eq!(reads.syscalls_per_commit(), 1.0);
    }

    #[test]
    fn json_has_the_promised_fields_in_order() {
        let rows = [row(Workload::DurablePuts, 8, Subject::PwritePerCommit, 1000)];
        let expected = "{\"engine\":\"ringdb\",\"backend\":\"pwrite-per-commit\",\
            \"workload\":\"durable-puts\",\
            \"writers\":8,\"ops_per_s\":1000.0,\"p50_us\":80.0,\"p99_us\":142.0,\"p999_us\":1234.5,\
            \"commits\":1000,\"syncs\":500,\"syscalls\":1000,\
            \"log_bytes\":4096000,\"page_bytes\":1000,\
            \"verified\":1000}\n";
        assert_eq!(as_json(&rows).unwrap(), expected);
    }
}
