//! A whole database under shuttle, its own threads and those of its users: no schedule loses a
//! wake-up, skips a commit, or leaves a waiter of a poisoned database behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringdb_uring::sim::{Call, Disk, Fault, Times};
use ringdb_uring::threads::thread;
use shuttle::future::block_on as wait;
use shuttle::scheduler::{PctScheduler, RandomScheduler};

use super::{ColumnFamily, Db, open as open_place};
use crate::blocking::block_on;
use crate::error::ErrorKind;
use crate::options::{Durability, Options, Place};

const WRITERS: u8 = 3;
const COMMITS_EACH: u8 = 2;

fn open(disk: &Disk) -> Db {
    let options = Options::new().memory_bytes(4 << 20);
    let options = options.log_bytes_max(1 << 20).segment_bytes_max(64 << 10);
    wait(open_place(Place::disk(disk), options)).expect("the database opens")
}

fn explore(name: &str, schedules: usize, run: impl Fn() + Send + Sync + Clone + 'static) {
    let seed = 7;
    let mut config = shuttle::Config::new();
    (config.stack_size, config.silence_warnings) = (2 << 20, true);
    let random = RandomScheduler::new_from_seed(seed, schedules);
    let drawn = shuttle::Runner::new(random, config.clone()).run(run.clone());
    let few_preemptions = PctScheduler::new_from_seed(seed, 3, schedules);
    let ranked = shuttle::Runner::new(few_preemptions, config).run(run);
    eprintln!("{name}: seed {seed}: {drawn} schedules at random, {ranked} by priorities");
    assert_eq!(drawn + ranked, 2 * schedules);
}

/// A writer that blocks, one that is a task, one that does not wait for the disk.
fn write(rows: &ColumnFamily, writer: u8) {
    let rows = match writer {
        2 => rows.with_durability(Durability::Buffered),
        _ => rows.clone(),
    };
    for n in 0..COMMITS_EACH {
        let put = rows.put([writer, n], [n]);
        match writer {
            0 => block_on(put).expect("the row is put"),
            _ => wait(put).expect("the row is put"),
        };
        let found = wait(rows.get([writer, n])).expect("the row is read");
        assert_eq!(found.as_deref(), Some(&[n][..]), "who saw it resolve sees it");
    }
}

fn count(rows: &ColumnFamily) -> u64 {
    wait(rows.len()).expect("the rows are counted")
}

#[test]
fn every_commit_resolves_and_stays() {
    explore("commits", 60, || {
        let disk = Disk::new();
        let db = open(&disk);
        let rows = wait(db.column_family("rows")).expect("the family is made");
        let writers = (0..WRITERS).map(|writer| {
            let rows = rows.clone();
            thread::spawn(move || write(&rows, writer))
        });
        let writers: Vec<_> = writers.collect();
        writers.into_iter().for_each(|writer| writer.join().expect("it ends"));
        assert_eq!(count(&rows), u64::from(WRITERS * COMMITS_EACH));
        wait(db.close()).expect("the database closes");
        drop((db, rows));
        let db = open(&disk);
        let rows = wait(db.column_family("rows")).expect("the family opens");
        assert_eq!(count(&rows), u64::from(WRITERS * COMMITS_EACH));
        wait(db.close()).expect("the database closes again");
    });
}

#[test]
fn a_failed_write_reaches_everyone_who_waits() {
    let failed = Arc::new(AtomicUsize::new(0));
    let told = failed.clone();
    explore("a failed write", 60, move || {
        let disk = Disk::new();
        let db = open(&disk);
        let rows = wait(db.column_family("rows")).expect("the family is made");
        disk.faults().add(Call::Write, 1, Fault::Fail(Times::Once));
        let writers = (0..WRITERS).map(|writer| {
            let (rows, told) = (rows.clone(), told.clone());
            thread::spawn(move || {
                for n in 0..COMMITS_EACH {
                    let put = rows.put([writer, n], [n]);
                    let outcome = if writer == 0 { block_on(put) } else { wait(put) };
                    if let Err(error) = outcome {
                        assert_eq!(error.kind(), ErrorKind::Poisoned, "{error:?}");
                        told.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        writers.into_iter().for_each(|writer| writer.join().expect("it ends"));
        let closed = wait(db.close());
        assert_eq!(closed.expect_err("it is poisoned").kind(), ErrorKind::Poisoned);
    });
    assert!(failed.load(Ordering::Relaxed) > 0, "a dead knob must show");
}
