//! A database four times larger than its memory budget: written in no order, read back whole in
//! order, reopened and read again, each row checked.
//!
//!     cargo run --release --example larger_than_memory [FILE] [--memory-mib=N]
//!
//! Peak memory should stay near the budget; `/usr/bin/time -v` shows it.

mod place;

use std::error::Error;
use std::time::Instant;

use ringdb::{ColumnFamily, Create, Options};

const MEMORY_MIB: usize = 32;
const TIMES_LARGER: usize = 4;
const VALUE_BYTES: usize = 1000;
const BATCH_ROWS: u64 = 128;
/// Odd, so that multiplying by it gives every number another key; and its inverse, to tell the
/// number again.
const SCATTER: u64 = 0x9E37_79B9_7F4A_7C15;
const GATHER: u64 = 0xF1DE_83E1_9937_733D;
const _: () = assert!(SCATTER.wrapping_mul(GATHER) == 1);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = place::Place::from_args()?;
    let memory_bytes = memory_mib()? << 20;
    let rows = (memory_bytes * TIMES_LARGER / VALUE_BYTES) as u64;
    let options = Options::new().memory_bytes(memory_bytes);

    let db = options.clone().create(Create::Always).open(place.path()).await?;
    let family = db.column_family("rows").await?;
    let started = Instant::now();
    for first in (0..rows).step_by(BATCH_ROWS as usize) {
        let mut batch = db.batch();
        for number in first..rows.min(first + BATCH_ROWS) {
            batch.put(&family, key(number), value(number));
        }
        batch.commit().await?;
    }
    println!("wrote {rows} rows in {:.1} s", started.elapsed().as_secs_f64());
    read_whole(&family, rows).await?;
    db.close().await?;

    let started = Instant::now();
    let db = options.create(Create::Never).open(place.path()).await?;
    println!("reopened in {:.1} s", started.elapsed().as_secs_f64());
    read_whole(&db.existing_column_family("rows").await?, rows).await?;
    let stat = db.stat();
    println!(
        "memory budget {memory_bytes} bytes, trees {} bytes, file {} bytes",
        stat.tree_bytes, stat.file_bytes
    );
    if stat.tree_bytes < (memory_bytes * TIMES_LARGER) as u64 {
        return Err("the database is smaller than this example claims".into());
    }
    db.close().await?;
    Ok(())
}

/// Reads every row in key order. As many different numbers below `rows` as there are rows are all
/// of them.
async fn read_whole(family: &ColumnFamily, rows: u64) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let mut found = 0;
    let mut last: Option<[u8; 8]> = None;
    let mut scan = family.iter();
    while let Some((key, bytes)) = scan.try_next().await? {
        let key: [u8; 8] = key[..].try_into()?;
        let number = u64::from_be_bytes(key).wrapping_mul(GATHER);
        if last.is_some_and(|last| last >= key) || number >= rows || bytes[..] != value(number) {
            return Err(format!("row {number} is wrong or out of order").into());
        }
        last = Some(key);
        found += 1;
    }
    if found != rows {
        return Err(format!("{found} rows instead of {rows}").into());
    }
    println!("read {found} rows in order in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn key(number: u64) -> [u8; 8] {
    number.wrapping_mul(SCATTER).to_be_bytes()
}

/// A value that only its own row can have.
fn value(number: u64) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    for (word, chunk) in (0_u64..).zip(value.chunks_exact_mut(8)) {
        chunk.copy_from_slice(&(number ^ word.wrapping_mul(SCATTER)).to_be_bytes());
    }
    value
}

fn memory_mib() -> Result<usize, std::num::ParseIntError> {
    let given = std::env::args().find_map(|a| a.strip_prefix("--memory-mib=").map(str::to_owned));
    given.map_or(Ok(MEMORY_MIB), |mib| mib.parse())
}
