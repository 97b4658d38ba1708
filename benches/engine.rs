//! Puts, gets and scans of the engine on both backends that a file can have.
//!
//!     cargo bench --bench engine               measures
//!     cargo bench --bench engine -- --test     runs each once, on few rows
//!
//! The databases are in the system's temporary directory; if that is in memory, nothing is durable.
//!
//! One caller, so a durable put shows the way through the engine and the device, not what groups
//! gain: for that there is `cargo run --release -- bench`.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use ringdb::{Backend, ColumnFamily, Db, Durability, Error, Options, block_on};
use tempfile::TempDir;

const VALUE: [u8; 100] = [b'v'; 100];
const SCAN_ROWS: u64 = 1000;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// A database of its own for each benchmark, in a directory that goes with it.
struct Bed {
    db: Db,
    family: ColumnFamily,
    rows: u64,
    _directory: TempDir,
}

impl Bed {
    fn open(backend: Backend) -> Result<Bed, Error> {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let path = directory.path().join("bench.ring");
        let db = block_on(Options::new().backend(backend).open(path))?;
        let family = block_on(db.column_family("rows"))?;
        Ok(Bed { db, family, rows: 0, _directory: directory })
    }

    /// Fills the family with rows that a checkpoint has put into the tree.
    fn filled(backend: Backend, rows: u64) -> Result<Bed, Error> {
        let mut bed = Bed::open(backend)?;
        while bed.rows < rows {
            let mut batch = bed.db.batch();
            for number in bed.rows..rows.min(bed.rows + 1000) {
                batch.put(&bed.family, scattered(number), VALUE);
            }
            bed.rows += batch.len() as u64;
            block_on(batch.commit())?;
        }
        block_on(bed.db.checkpoint())?;
        Ok(bed)
    }

    fn close(self) {
        block_on(self.db.close()).expect("the database closes");
    }
}

fn engine(criterion: &mut Criterion) {
    for (name, backend) in [("uring", Backend::Uring), ("pwrite", Backend::Pwrite)] {
        match Bed::open(backend) {
            Ok(bed) => bed.close(),
            Err(error) => {
                eprintln!("note: the {name} backend is not measured: {error:?}");
                continue;
            }
        }
        let mut group = criterion.benchmark_group(name);
        put(&mut group, backend, "put durable", Durability::Immediate);
        put(&mut group, backend, "put buffered", Durability::Buffered);
        get_hit(&mut group, backend);
        scan(&mut group, backend);
        group.finish();
    }
}

fn put(group: &mut Group<'_>, backend: Backend, name: &str, durability: Durability) {
    let bed = Bed::open(backend).expect("the database opens");
    let family = bed.family.with_durability(durability);
    let mut number = 0;
    group.throughput(Throughput::Elements(1));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            number += 1;
            block_on(family.put(scattered(number), VALUE)).expect("the put succeeds")
        });
    });
    bed.close();
}

fn get_hit(group: &mut Group<'_>, backend: Backend) {
    let bed = Bed::filled(backend, rows(100_000)).expect("the database is filled");
    let mut number = 0;
    group.throughput(Throughput::Elements(1));
    group.bench_function("get hit", |bencher| {
        bencher.iter(|| {
            number = (number + 7919) % bed.rows;
            let value = block_on(bed.family.get(scattered(number))).expect("the get succeeds");
            assert!(black_box(value).is_some());
        });
    });
    bed.close();
}

fn scan(group: &mut Group<'_>, backend: Backend) {
    let bed = Bed::filled(backend, rows(SCAN_ROWS)).expect("the database is filled");
    group.throughput(Throughput::Elements(bed.rows));
    group.bench_function("scan", |bencher| {
        bencher.iter(|| {
            let found = block_on(count(&bed.family)).expect("the scan succeeds");
            assert_eq!(found, bed.rows);
        });
    });
    bed.close();
}

async fn count(family: &ColumnFamily) -> Result<u64, Error> {
    let mut rows = 0;
    let mut scan = family.iter();
    while let Some(row) = scan.try_next().await? {
        black_box(row);
        rows += 1;
    }
    Ok(rows)
}

/// As many rows as wanted, or few when the benchmark is only tried, as by `cargo test --benches`.
fn rows(wanted: u64) -> u64 {
    let arguments: Vec<_> = std::env::args().collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--bench") && !has("--test") { wanted } else { 100 }
}

/// A different key for every number, in no order.
fn scattered(number: u64) -> [u8; 8] {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

criterion_group!(benches, engine);
criterion_main!(benches);
