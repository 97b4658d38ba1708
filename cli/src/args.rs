//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};

use crate::bench::args::BenchArgs;

/// An async embedded key-value database in one file.
///
/// Exit codes: 0 done, 1 not found or defects found, 2 usage, 3 an error (one line on stderr).
#[derive(Parser)]
#[command(name = "ringdb", version, max_term_width = 100, infer_subcommands = false)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Measure durable writes and reads on this machine, and verify every acknowledged write after
    /// kill -9
    Bench(BenchArgs),
    /// Load rows from the text of mdb_dump or db_dump, or from JSON lines
    Load(LoadArgs),
    /// Write all rows as the text that mdb_dump writes, or as JSON lines
    Dump(DumpArgs),
    /// Show families, rows, bytes, log, free space, and the backend and why
    Stat(StatArgs),
    /// Read everything, verify every checksum and the page accounting; exit code 1 if there are
    /// defects
    Check(CheckArgs),
    /// Make one tree of each column family's, so that rows that were deleted or replaced take no room
    Compact(CompactArgs),
    /// Write everything that is committed, of one moment, as a portable backup with a checksum at
    /// its end
    Backup(BackupArgs),
    /// Make a new database out of a backup, whole or not at all; exit code 1 if the backup is
    /// damaged
    Restore(RestoreArgs),
    /// Write the value of a key to stdout; exit code 1 if there is none
    Get(KeyArgs),
    /// Put a row, durably; creates the database and the family if need be
    Put(PutArgs),
    /// Delete a row, durably; exit code 1 if there was none
    Delete(KeyArgs),
    /// Write the rows of a range, key and value separated by a tab
    Scan(ScanArgs),
    /// What `bench` starts and kills
    #[command(hide = true)]
    BenchChild(BenchChildArgs),
}

/// Where the database is and how to open it.
#[derive(Args, Clone)]
pub struct Place {
    /// The database file
    #[arg(value_name = "DB")]
    pub path: PathBuf,
    /// How to reach the disk
    #[arg(long, value_enum, default_value_t = BackendArg::Auto, global = false)]
    pub backend: BackendArg,
    /// Memory for caches and memtables, in MiB
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = 128,
        value_parser = value_parser!(u32).range(1..)
    )]
    pub memory: u32,
}

/// How to reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
    /// io_uring where it is to be had
    Auto,
    /// io_uring or an error
    Uring,
    /// Plain reads and writes
    Pwrite,
}

impl From<BackendArg> for ringdb::Backend {
    fn from(backend: BackendArg) -> ringdb::Backend {
        match backend {
            BackendArg::Auto => ringdb::Backend::Auto,
            BackendArg::Uring => ringdb::Backend::Uring,
            BackendArg::Pwrite => ringdb::Backend::Pwrite,
        }
    }
}

/// Which rows a command is about.
#[derive(Args, Clone)]
pub struct Family {
    /// The column family
    #[arg(long, short, value_name = "NAME", default_value = "main")]
    pub family: String,
}

/// Arguments of `load`.
#[derive(Args)]
#[command(after_long_help = TEXT_HELP)]
pub struct LoadArgs {
    #[command(flatten)]
    pub place: Place,
    /// The text; stdin if left out or -
    pub file: Option<PathBuf>,
    /// Family of the rows that name none: the main database of a dump, JSON rows without `family`
    #[arg(long, short, value_name = "NAME", default_value = "main")]
    pub family: String,
    /// What to do with a second value for the key before it, as `duplicates=1` allows
    #[arg(long, value_enum, default_value_t = Duplicates::Refuse)]
    pub duplicates: Duplicates,
    /// Show progress on stderr even if that is not a terminal
    #[arg(long)]
    pub progress: bool,
}

/// What to do with a second value for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Duplicates {
    /// Stop with an error
    Refuse,
    /// Keep the last value
    Last,
}

/// Arguments of `dump`.
#[derive(Args)]
#[command(after_long_help = TEXT_HELP)]
pub struct DumpArgs {
    #[command(flatten)]
    pub place: Place,
    /// Where to write; stdout if left out or -
    pub file: Option<PathBuf>,
    /// Only these families (repeat for several); all if left out
    #[arg(long, short, value_name = "NAME")]
    pub family: Vec<String>,
    /// The family that is written as the main database, without a name, first
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub main: String,
    /// How to spell the rows
    #[arg(long, value_enum, default_value_t = DumpFormat::Bytevalue)]
    pub format: DumpFormat,
    /// The mapsize= that mdb_load needs to know [default: ample]; 0 leaves the line out, as
    /// Berkeley DB's db_load wants it
    #[arg(long, value_name = "BYTES")]
    pub map_bytes: Option<u64>,
    /// Show progress on stderr even if that is not a terminal
    #[arg(long)]
    pub progress: bool,
}

/// How to spell the rows of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DumpFormat {
    /// Two hex digits a byte, as mdb_dump
    Bytevalue,
    /// Printable ASCII as it is, as mdb_dump -p
    Print,
    /// One JSON object a row
    Json,
}

const TEXT_HELP: &str = "\
Text: VERSION=3 as mdb_dump and db_dump write it, format=bytevalue or format=print. Each section \
is a column family, named by its database= line; the section without one is the main database. A \
backslash in format=print is written \\5c and read as \\5c or \\\\; the bare one that Debian's \
mdb_dump -p writes is refused, because it cannot be read back without guessing.

JSON lines: {\"family\":\"users\",\"key\":\"ada\",\"value\":\"1815\"}; a key or value that is not \
UTF-8 is {\"base64\":\"/wA=\"}. load tells the two apart by the first byte.

Loading the same text again, also after a crash in the middle, gives the same rows.";

/// Arguments of `stat`.
#[derive(Args)]
pub struct StatArgs {
    #[command(flatten)]
    pub place: Place,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `check`.
#[derive(Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub place: Place,
}

/// Arguments of `compact`.
#[derive(Args)]
pub struct CompactArgs {
    #[command(flatten)]
    pub place: Place,
}

/// Arguments of `backup`.
#[derive(Args)]
pub struct BackupArgs {
    #[command(flatten)]
    pub place: Place,
    /// Where to write; stdout if left out or -. A file gets its name once it is whole
    pub file: Option<PathBuf>,
    /// Show progress on stderr even if that is not a terminal
    #[arg(long)]
    pub progress: bool,
}

/// Arguments of `restore`.
#[derive(Args)]
pub struct RestoreArgs {
    /// The backup; - for stdin
    pub file: PathBuf,
    #[command(flatten)]
    pub place: Place,
    /// Show progress on stderr even if that is not a terminal
    #[arg(long)]
    pub progress: bool,
}

/// Arguments of `get` and `delete`.
#[derive(Args)]
pub struct KeyArgs {
    #[command(flatten)]
    pub place: Place,
    /// The key
    pub key: OsString,
    #[command(flatten)]
    pub family: Family,
    /// The key is given, and a value written, in hex
    #[arg(long)]
    pub hex: bool,
}

/// Arguments of `put`.
#[derive(Args)]
pub struct PutArgs {
    #[command(flatten)]
    pub place: Place,
    /// The key
    pub key: OsString,
    /// The value; all of stdin if left out
    pub value: Option<OsString>,
    #[command(flatten)]
    pub family: Family,
    /// Key and value are given in hex (a value from stdin is taken as it is)
    #[arg(long)]
    pub hex: bool,
}

/// Arguments of `scan`.
#[derive(Args)]
pub struct ScanArgs {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub family: Family,
    /// First key
    #[arg(long, value_name = "KEY", conflicts_with = "prefix")]
    pub from: Option<OsString>,
    /// Key to stop before
    #[arg(long, value_name = "KEY", conflicts_with = "prefix")]
    pub to: Option<OsString>,
    /// Only keys that start so
    #[arg(long, value_name = "KEY")]
    pub prefix: Option<OsString>,
    /// From the last row to the first
    #[arg(long)]
    pub reverse: bool,
    /// At most so many rows
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<u64>,
    /// Keys only
    #[arg(long)]
    pub keys: bool,
    /// Count the rows instead of writing them
    #[arg(long, conflicts_with = "keys")]
    pub count: bool,
    /// Keys are given, and rows written, in hex
    #[arg(long)]
    pub hex: bool,
    /// One JSON object a row, as `dump --format json`
    #[arg(long, conflicts_with_all = ["hex", "keys", "count"])]
    pub json: bool,
}

/// Arguments of the hidden child.
#[derive(Args)]
pub struct BenchChildArgs {
    /// What to run, as JSON
    pub spec: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_that_scripts_use_parse() {
        for line in [
            "ringdb get app.ring ada",
            "ringdb put app.ring ada 1815 --family users",
            "ringdb put app.ring ada",
            "ringdb delete --hex app.ring 616461",
            "ringdb scan app.ring --from a --to b --reverse --limit 10",
            "ringdb load app.ring",
            "ringdb load app.ring dump.txt --family users --progress",
            "ringdb dump app.ring - --format print --map-bytes 0",
            "ringdb stat app.ring --json --backend pwrite",
            "ringdb check app.ring",
            "ringdb backup app.ring",
            "ringdb backup app.ring app.backup --progress",
            "ringdb restore - copy.ring --backend pwrite",
            "ringdb bench",
            "ringdb bench --workload cold-reads --writers 1,8 --backend uring --seconds 0.5",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(
                parsed.is_ok(),
                "{line}: {}",
                parsed.err().map(|e| e.to_string()).unwrap_or_default()
            );
        }
        assert!(
            Cli::try_parse_from(["ringdb", "scan", "app.ring", "--from", "a", "--prefix", "b"])
                .is_err()
        );
    }
}
