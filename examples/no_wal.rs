//! Writers to unlogged families at 1, 2, 4 and 8 threads, all in one file.
//!
//!     cargo run --release --example no_wal [FILE]
//!
//! `separate_files` does the same with one database per writer. An unlogged put is not durable when
//! it returns: after a crash its family is as of the last checkpoint, so each round ends with one,
//! and its time is printed beside the rate. Checkpoints that memory forced during a round are
//! inside the rate.

mod place;
mod writers;

use ringdb::{ColumnFamilyOptions, Db, Error, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = place::Place::from_args()?;
    let options = Options::new().memory_bytes(writers::MEMORY_BYTES);
    let db = ringdb::block_on(options.open(place.path()))?;
    println!("one file, backend {:?}", db.backend().kind);
    writers::print_header();
    for count in writers::ROUNDS {
        round(&db, count)?;
    }
    ringdb::block_on(db.close())?;
    Ok(())
}

/// Gives each thread a new family, and drops the families afterwards.
fn round(db: &Db, count: usize) -> Result<(), Error> {
    let names: Vec<String> = (0..count).map(|writer| format!("writer-{writer}")).collect();
    let families = ringdb::block_on(async {
        let mut families = Vec::new();
        for name in &names {
            let unlogged = ColumnFamilyOptions::new().unlogged();
            families.push(db.create_column_family(name, unlogged).await?);
        }
        Ok::<_, Error>(families)
    })?;
    writers::run_round(families, std::slice::from_ref(db))?;
    ringdb::block_on(async {
        for name in &names {
            db.drop_column_family(name).await?;
        }
        Ok(())
    })
}
