//! Writers to unlogged families at 1, 2, 4 and 8 threads, each with a database and so a file of its
//! own.
//!
//!     cargo run --release --example separate_files [DIRECTORY]
//!
//! `no_wal` does the same in one file; the memory of all databases together is the same there and
//! here. Each database has an I/O owner and a checkpointer of its own.

mod place;
mod writers;

use std::fs;
use std::path::Path;

use ringdb::{ColumnFamily, ColumnFamilyOptions, Create, Db, Error, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = place::Place::from_args()?;
    println!("one file per writer");
    writers::print_header();
    for count in writers::ROUNDS {
        let directory = place.path().join(format!("{count}-writers"));
        fs::create_dir_all(&directory)?;
        round(&directory, count)?;
        fs::remove_dir_all(&directory)?;
    }
    Ok(())
}

fn round(directory: &Path, count: usize) -> Result<(), Error> {
    let mut dbs = Vec::new();
    let mut families = Vec::new();
    for writer in 0..count {
        let file = directory.join(format!("{writer}.ring"));
        let (db, family) = ringdb::block_on(open_one(&file, writers::MEMORY_BYTES / count))?;
        dbs.push(db);
        families.push(family);
    }
    writers::run_round(families, &dbs)?;
    for db in dbs {
        ringdb::block_on(db.close())?;
    }
    Ok(())
}

async fn open_one(file: &Path, memory_bytes: usize) -> Result<(Db, ColumnFamily), Error> {
    let db = Options::new().memory_bytes(memory_bytes).create(Create::Always).open(file).await?;
    let family = db.create_column_family("writer", ColumnFamilyOptions::new().unlogged()).await?;
    Ok((db, family))
}
