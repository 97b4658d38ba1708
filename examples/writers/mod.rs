//! One round of the comparison between one file and many: every writer is a thread of its own that
//! puts rows into a column family of its own for a second, one put at a time.

use std::thread;
use std::time::{Duration, Instant};

use ringdb::{ColumnFamily, Db, Error, Result};

/// How many threads write in each round.
pub const ROUNDS: [usize; 4] = [1, 2, 4, 8];
/// Memory of all databases of a round together: many files get no more than one.
pub const MEMORY_BYTES: usize = 128 << 20;

const ROUND_TIME: Duration = Duration::from_secs(1);
const VALUE: [u8; 100] = [b'v'; 100];

pub fn print_header() {
    println!("{:>7}  {:>10}  {:>9}  {:>12}", "writers", "puts", "puts/s", "checkpoint s");
}

/// Runs one thread per family, then checkpoints each of `dbs`, and prints both times: what is not
/// logged is in the file only after the checkpoint.
pub fn run_round(families: Vec<ColumnFamily>, dbs: &[Db]) -> Result<()> {
    let writers = families.len();
    let started = Instant::now();
    let threads: Vec<_> = families
        .into_iter()
        .map(|family| thread::spawn(move || write(&family, started + ROUND_TIME)))
        .collect();
    let mut puts = 0;
    for thread in threads {
        puts += thread.join().expect("a writer returns its errors")?;
    }
    let write_s = started.elapsed().as_secs_f64();
    let checkpoint_started = Instant::now();
    ringdb::block_on(async {
        for db in dbs {
            db.checkpoint().await?;
        }
        Ok::<_, Error>(())
    })?;
    let checkpoint_s = checkpoint_started.elapsed().as_secs_f64();
    println!("{writers:>7}  {puts:>10}  {:>9.0}  {checkpoint_s:>12.2}", puts as f64 / write_s);
    Ok(())
}

/// Puts rows in no order until the round is over; returns how many.
fn write(family: &ColumnFamily, end: Instant) -> Result<u64> {
    let mut puts = 0;
    while Instant::now() < end {
        ringdb::block_on(family.put(scattered(puts), VALUE))?;
        puts += 1;
    }
    Ok(puts)
}

/// A different key for every number, in no order.
fn scattered(number: u64) -> [u8; 8] {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}
