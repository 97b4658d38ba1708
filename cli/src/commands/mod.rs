//! The commands, one file each.

mod backup;
mod check;
mod compact;
mod dump;
mod load;
mod restore;
mod rows;
mod stat;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use ringdb::{ColumnFamily, Create, Db, ErrorKind, Options, block_on};

use crate::args::{Command, Place};
use crate::exit::Failure;

/// Does what was asked.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Bench(args) => crate::bench::run(args),
        Command::BenchChild(args) => crate::bench::child::run(&args.spec),
        Command::Load(args) => load::run(args),
        Command::Dump(args) => dump::run(args),
        Command::Stat(args) => stat::run(args),
        Command::Check(args) => check::run(args),
        Command::Compact(args) => compact::run(args),
        Command::Backup(args) => backup::run(args),
        Command::Restore(args) => restore::run(args),
        Command::Get(args) => rows::get(args),
        Command::Put(args) => rows::put(args),
        Command::Delete(args) => rows::delete(args),
        Command::Scan(args) => rows::scan(args),
    }
}

fn options(place: &Place, create: Create) -> Options {
    Options::new()
        .backend(place.backend.into())
        .memory_bytes((place.memory as usize) << 20)
        .create(create)
}

/// This process alone has the file, so its snapshot holds up no writer however slowly what it shows
/// is taken.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Options of a command that writes all rows to somebody who may be slow.
fn options_of_a_reader(place: &Place) -> Options {
    options(place, Create::Never)
        .snapshot_age_max(SNAPSHOT_AGE_MAX)
        .snapshot_pinned_bytes_max(u64::MAX)
}

/// Where a command reads from, stdin for none or `-`, and how much that is if it is known.
fn source(file: Option<&Path>) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    let Some(path) = file.filter(|path| *path != Path::new("-")) else {
        return Ok((Box::new(io::stdin()), None));
    };
    let named = |error: io::Error| Failure::from(error).of(path.display());
    let file = File::open(path).map_err(named)?;
    let meta = file.metadata().map_err(named)?;
    Ok((Box::new(file), meta.is_file().then_some(meta.len())))
}

/// Opens the database, runs `work`, and closes it whatever `work` said: its failure comes before
/// one of closing.
fn with_database(
    place: &Place,
    options: Options,
    work: impl FnOnce(&Db) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let name = place.path.display();
    let db = block_on(options.open(&place.path)).map_err(|error| Failure::from(error).of(name))?;
    let done = work(&db);
    let closed = block_on(db.close()).map_err(Failure::from);
    done.and(closed)
}

/// A family that must be there; where it is not, that is exit code 1 with a word.
fn existing(db: &Db, name: &str) -> Result<ColumnFamily, Failure> {
    block_on(db.existing_column_family(name)).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::NotFound(Some(format!("no column family {name}"))),
        _ => error.into(),
    })
}
