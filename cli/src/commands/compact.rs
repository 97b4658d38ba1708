//! `ringdb compact`: one tree for each column family, and how short the file is then.

use std::io::{self, Write};

use ringdb::{Create, Db, block_on};

use crate::args::CompactArgs;
use crate::exit::Failure;
use crate::number::counted;

/// Compacts a database.
pub fn run(args: CompactArgs) -> Result<(), Failure> {
    let options = super::options(&args.place, Create::Never);
    let db = block_on(options.open(&args.place.path))
        .map_err(|error| Failure::from(error).of(args.place.path.display()))?;
    let compacted = compact(&db);
    let closed = block_on(db.close()).map_err(Failure::from);
    compacted.and(closed)
}

fn compact(db: &Db) -> Result<(), Failure> {
    let before = trees(db);
    block_on(db.compact())?;
    let (before, after) = (counted(before, "tree"), counted(trees(db), "tree"));
    let stat = db.stat();
    let (file, free) = (counted(stat.file_bytes, "byte"), counted(stat.free_bytes, "byte"));
    writeln!(io::stdout(), "{before} before, {after} now, a file of {file}, {free} free")?;
    Ok(())
}

fn trees(db: &Db) -> u64 {
    db.stat().families.iter().map(|family| u64::from(family.trees)).sum()
}
