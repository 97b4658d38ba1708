//! `ringdb check`: everything is read and verified; defects go to stdout, one a line.

use std::io::{self, Write};

use ringdb::{CheckProgress, CheckReport, Db, ErrorKind, block_on};

use crate::args::CheckArgs;
use crate::exit::Failure;
use crate::number::counted;
use crate::progress::byte_bar;

/// Checks a database.
pub fn run(args: CheckArgs) -> Result<(), Failure> {
    let path = &args.place.path;
    let options = super::options_of_a_reader(&args.place);
    // A database that refuses to open because its bytes are wrong has a defect like any other.
    let db = block_on(options.open(path)).map_err(|error| match error.kind() {
        ErrorKind::Corrupt => Failure::Defects(format!("{}: {error:?}", path.display())),
        _ => Failure::from(error).of(path.display()),
    })?;
    let checked = check(&db);
    let closed = block_on(db.close()).map_err(Failure::from);
    checked.and(closed)
}

fn check(db: &Db) -> Result<(), Failure> {
    let bar = byte_bar();
    let shown = bar.clone();
    let show = move |progress: CheckProgress| {
        shown.set_length(progress.total_bytes);
        shown.set_position(progress.bytes);
        shown.set_message(counted(progress.defects, "defect"));
    };
    let checked = block_on(db.check().progress(show));
    bar.finish_and_clear();
    let report = checked?;
    let mut out = io::stdout().lock();
    for defect in &report.defects {
        let family = defect.family.as_deref().unwrap_or("-");
        let page = defect.page.map_or("-".to_owned(), |page| page.to_string());
        writeln!(
            out,
            "family {family}, page {page}, offset {}: {}",
            defect.offset,
            one_line(&defect.what)
        )?;
    }
    let more = report.defect_count - report.defects.len() as u64;
    if more > 0 {
        writeln!(out, "and {} more", counted(more, "defect"))?;
    }
    let defects = counted(report.defect_count, "defect");
    writeln!(out, "{}, {defects}", checked_parts(&report, db.recovery().commits))?;
    out.flush()?;
    if report.is_sound() { Ok(()) } else { Err(Failure::Defects(defects)) }
}

/// A line a defect, whatever an error message holds.
fn one_line(what: &str) -> String {
    what.replace(['\n', '\r'], " ")
}

/// Rows that were only in the log are in no tree yet: without a word about them, a check after a
/// crash would seem to have lost them.
fn checked_parts(report: &CheckReport, replayed: u64) -> String {
    let (pages, rows) = (counted(report.pages, "page"), counted(report.rows, "row"));
    match replayed {
        0 => format!("{pages}, {rows}"),
        _ => format!("{pages}, {rows} in trees, {} in the log", counted(replayed, "commit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_that_only_the_log_had_are_told() {
        let mut report = CheckReport::default();
        (report.pages, report.rows) = (1, 2);
        assert_eq!(checked_parts(&report, 0), "1 page, 2 rows");
        assert_eq!(checked_parts(&report, 18), "1 page, 2 rows in trees, 18 commits in the log");
    }
}
