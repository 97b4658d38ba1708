//! `ringdb dump`: all rows of one snapshot as text.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use ringdb::{ColumnFamily, Db, Range, block_on};

use crate::args::{DumpArgs, DumpFormat};
use crate::exit::Failure;
use crate::progress::{Counted, Passed, Progress, When};
use crate::text::codec::Format;
use crate::text::json;
use crate::text::print::Printer;

const WRITE_BYTES: usize = 1 << 18;
/// A map costs address space, not disk: ample, because LMDB's pages are half empty after a load.
const MAP_BYTES_PER_BYTE: u64 = 8;
const MAP_BYTES_MIN: u64 = 64 << 20;

/// Dumps a database.
pub fn run(args: DumpArgs) -> Result<(), Failure> {
    super::with_database(&args.place, super::options_of_a_reader(&args.place), |db| {
        let families = families(db, &args)?;
        let passed = Passed::default();
        let to = Counted::new(target(args.file.as_deref())?, &passed);
        let mut to = BufWriter::with_capacity(WRITE_BYTES, to);
        let when = if args.progress { When::Always } else { When::Terminal };
        let mut progress = Progress::start(when, None);
        let row = || progress.row(passed.bytes());
        let written = block_on(write(db, &args, &families, &mut to, row));
        let written = written.and_then(|()| Ok(to.flush()?));
        let name = args.file.as_deref().map_or("stdout".into(), Path::to_string_lossy);
        written.map_err(|failure| failure.of(name))?;
        progress.finish("dumped");
        Ok(())
    })
}

fn target(file: Option<&Path>) -> Result<Box<dyn Write>, Failure> {
    match file.filter(|path| *path != Path::new("-")) {
        None => Ok(Box::new(io::stdout().lock())),
        Some(path) => {
            let file = File::create(path);
            Ok(Box::new(file.map_err(|error| Failure::from(error).of(path.display()))?))
        }
    }
}

/// The families to dump in the order of their names, the main one first: `mdb_load` takes a section
/// without a name behind a named one for more of the latter.
fn families(db: &Db, args: &DumpArgs) -> Result<Vec<ColumnFamily>, Failure> {
    let mut names = if args.family.is_empty() { db.column_families() } else { args.family.clone() };
    names.sort_by(|a, b| (*a != args.main, a).cmp(&(*b != args.main, b)));
    names.dedup();
    if args.format != DumpFormat::Json
        && let Some(name) = names.iter().find(|name| name.contains(['\n', '\0']))
    {
        let message = format!("family {name:?}: a name of several lines needs --format json");
        return Err(Failure::Error(message));
    }
    names.iter().map(|name| super::existing(db, name)).collect()
}

async fn write(
    db: &Db,
    args: &DumpArgs,
    families: &[ColumnFamily],
    to: &mut impl Write,
    mut row: impl FnMut(),
) -> Result<(), Failure> {
    let snapshot = db.snapshot();
    let format = match args.format {
        DumpFormat::Bytevalue => Format::Bytevalue,
        DumpFormat::Print => Format::Print,
        DumpFormat::Json => {
            for family in families {
                write_json(&family.name(), snapshot.iter(family), to, &mut row).await?;
            }
            return Ok(());
        }
    };
    let map_bytes = args.map_bytes.unwrap_or_else(|| map_bytes(db));
    let mut printer = Printer::new(to, format, (map_bytes > 0).then_some(map_bytes));
    for family in families {
        let name = family.name();
        printer.section((name != args.main).then_some(&name))?;
        let mut rows = snapshot.iter(family);
        while let Some((key, value)) = rows.try_next().await? {
            printer.row(&key, &value)?;
            row();
        }
        printer.end()?;
    }
    Ok(())
}

async fn write_json(
    name: &str,
    mut rows: Range,
    to: &mut impl Write,
    row: &mut impl FnMut(),
) -> Result<(), Failure> {
    while let Some((key, value)) = rows.try_next().await? {
        json::write_row(to, name, &key, &value)?;
        row();
    }
    Ok(())
}

fn map_bytes(db: &Db) -> u64 {
    let stat = db.stat();
    let memtables: u64 = stat.families.iter().map(|family| family.memtable_bytes).sum();
    let bytes = (stat.tree_bytes + memtables).saturating_mul(MAP_BYTES_PER_BYTE);
    bytes.max(MAP_BYTES_MIN).next_multiple_of(1 << 20)
}
