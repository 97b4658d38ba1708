//! `ringdb check`: everything is read and verified; defects go to stdout, one a line.

use std::io::{self, Write};

use ringdb::{Create, Db, ErrorKind, block_on};

use crate::args::CheckArgs;
use crate::exit::Failure;
use crate::number::count;

/// Checks a database.
pub fn run(args: CheckArgs) -> Result<(), Failure> {
    let path = &args.place.path;
    let options = super::options(&args.place, Create::Never);
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
    let report = block_on(db.check())?;
    let mut out = io::stdout().lock();
    for defect in &report.defects {
        let family = defect.family.as_deref().unwrap_or("-");
        let page = defect.page.map_or("-".to_owned(), |page| page.to_string());
        writeln!(out, "family {family}, page {page}, offset {}: {}", defect.offset, defect.what)?;
    }
    let (pages, rows) = (count(report.pages), count(report.rows));
    writeln!(out, "{pages} pages, {rows} rows, {} defects", report.defects.len())?;
    out.flush()?;
    match report.defects.len() {
        0 => Ok(()),
        1 => Err(Failure::Defects("1 defect".to_owned())),
        many => Err(Failure::Defects(format!("{many} defects"))),
    }
}
