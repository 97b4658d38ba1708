//! Durable writes per second through a driven owner, beside a bare loop of the same writes.
//!
//! `cargo run --release --example driven -- DIRECTORY`

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringdb_uring::{BLOCK_BYTES, BackendChoice, Buf, Feed, Io, Next, Pending, Settings};

/// Blocks that the writes go round in.
const BLOCKS: u64 = 4096;
/// Time for each loop.
const ROUND: Duration = Duration::from_millis(200);
/// Rounds of all loops in turn, so that what else the disk does hits them alike.
const ROUNDS: usize = 25;

/// A feed that writes one block for each one wanted.
#[derive(Default)]
struct Blocks {
    wanted: AtomicU64,
    begun: AtomicU64,
    done: AtomicU64,
}

impl Feed for Blocks {
    fn next(&self, _now: Instant) -> Next {
        let number = self.begun.load(Ordering::Acquire);
        if number >= self.wanted.load(Ordering::Acquire) {
            return Next::Idle;
        }
        self.begun.store(number + 1, Ordering::Release);
        let offset = number % BLOCKS * BLOCK_BYTES as u64;
        Next::Write { offset, buf: Buf::zeroed(BLOCK_BYTES), len: BLOCK_BYTES }
    }

    fn pending(&self, _now: Instant) -> Pending {
        match self.begun.load(Ordering::Acquire) < self.wanted.load(Ordering::Acquire) {
            true => Pending::Write,
            false => Pending::Nothing,
        }
    }

    fn done(&self, result: io::Result<()>, _buf: Buf, _took: Duration) {
        result.expect("the disk works");
        self.done.fetch_add(1, Ordering::Release);
    }
}

fn open(path: &Path, backend: BackendChoice) -> (Io, Arc<Blocks>) {
    let io = Io::open(path, &Settings { backend, ..Settings::default() }).expect("open");
    let feed = Arc::new(Blocks::default());
    io.set_feed(feed.clone());
    (io, feed)
}

fn driven(path: &Path, backend: BackendChoice) -> f64 {
    let (io, feed) = open(path, backend);
    let started = Instant::now();
    while started.elapsed() < ROUND {
        let number = feed.wanted.fetch_add(1, Ordering::AcqRel) + 1;
        while !io.drive(&|| feed.done.load(Ordering::Acquire) >= number) {
            std::hint::spin_loop();
        }
    }
    let rate = feed.done.load(Ordering::Acquire) as f64 / started.elapsed().as_secs_f64();
    let stats = io.stats();
    print!("{:.3} calls/write ", stats.syscalls as f64 / stats.durable_writes as f64);
    futures::executor::block_on(io.close());
    rate
}

fn bare(path: &Path) -> f64 {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).expect("open");
    let buf = Buf::zeroed(BLOCK_BYTES);
    let started = Instant::now();
    let mut writes = 0;
    while started.elapsed() < ROUND {
        let pieces = [io::IoSlice::new(&buf)];
        let offset = writes % BLOCKS * BLOCK_BYTES as u64;
        rustix::io::pwritev2(&file, &pieces, offset, rustix::io::ReadWriteFlags::DSYNC)
            .expect("the disk works");
        writes += 1;
    }
    writes as f64 / started.elapsed().as_secs_f64()
}

fn main() {
    let directory = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".into()));
    let path = directory.join("driven.ring");
    let _ = std::fs::remove_file(&path);
    Io::create(&path, &Settings::default(), BLOCKS * BLOCK_BYTES as u64, &[]).expect("create");
    let mut ratios = [vec![], vec![]];
    for _ in 0..ROUNDS {
        let bare = bare(&path);
        let uring = driven(&path, BackendChoice::Auto);
        let pwrite = driven(&path, BackendChoice::Pwrite);
        println!("bare {bare:.0}/s  uring {uring:.0}/s  pwrite {pwrite:.0}/s");
        ratios[0].push(uring / bare);
        ratios[1].push(pwrite / bare);
    }
    for (name, mut ratios) in ["uring", "pwrite"].into_iter().zip(ratios) {
        ratios.sort_by(f64::total_cmp);
        println!("{name}: {:.2} of the bare loop (median of {ROUNDS} rounds)", ratios[ROUNDS / 2]);
    }
    std::fs::remove_file(&path).expect("remove");
}
