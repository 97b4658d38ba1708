//! Threads that block, and pass the role among themselves.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use ringdb_uring::{BLOCK_BYTES, Blocked, Buf, Feed, Io, Next, Pending};

use crate::place::{at, everywhere, full};

/// How long a write waits for as many as the last one woke.
const PATIENCE: Duration = Duration::from_micros(300);

#[derive(Default)]
struct Line {
    waiting: Vec<Waker>,
    flying: Vec<Waker>,
    landed: Vec<Waker>,
    /// How many are waited for, and how long.
    regroup: Option<(usize, Instant)>,
}

/// A log that writes one block for all who wait, and lets them come back before the next.
#[derive(Default)]
struct Shares {
    line: Mutex<Line>,
    writes: AtomicU64,
}

impl Shares {
    fn attach(io: &Io) -> Arc<Shares> {
        let feed = Arc::new(Shares::default());
        io.set_feed(feed.clone());
        feed
    }

    /// Waits for one write, on this thread.
    fn write(&self, io: &Io) {
        let blocked = Blocked::here();
        self.line.lock().unwrap().waiting.push(Waker::from(blocked.clone()));
        io.block(&blocked, &|| io.kick());
        assert!(blocked.settle());
    }
}

impl Line {
    fn waits_until(&self, now: Instant) -> Option<Instant> {
        let (wanted, until) = self.regroup?;
        (self.waiting.len() < wanted && now < until).then_some(until)
    }
}

impl Feed for Shares {
    fn next(&self, now: Instant) -> Next {
        let mut line = self.line.lock().unwrap();
        assert!(line.flying.is_empty(), "one at a time");
        if line.waiting.is_empty() {
            return Next::Idle;
        }
        if let Some(until) = line.waits_until(now) {
            return Next::At(until);
        }
        line.flying = std::mem::take(&mut line.waiting);
        Next::Write { offset: at(1), buf: full(1, 1), len: BLOCK_BYTES }
    }

    fn pending(&self, now: Instant) -> Pending {
        let line = self.line.lock().unwrap();
        match line.waits_until(now) {
            _ if line.waiting.is_empty() => Pending::Nothing,
            Some(until) => Pending::At(until),
            None => Pending::Write,
        }
    }

    fn done(&self, result: io::Result<()>, _buf: Buf, _took: Duration) {
        result.unwrap();
        self.writes.fetch_add(1, Ordering::SeqCst);
        let mut line = self.line.lock().unwrap();
        let woken = std::mem::take(&mut line.flying);
        line.regroup = Some((woken.len(), Instant::now() + PATIENCE));
        line.landed.extend(woken);
    }

    fn tell(&self) {
        let landed = std::mem::take(&mut self.line.lock().unwrap().landed);
        landed.into_iter().for_each(Waker::wake);
    }
}

fn threads(count: usize, work: impl Fn(usize) + std::marker::Sync) {
    let work = &work;
    std::thread::scope(|scope| {
        for thread in 0..count {
            scope.spawn(move || work(thread));
        }
    });
}

#[test]
fn blocked_threads_drive_for_each_other() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Shares::attach(&io);
        for count in [1, 2, 3, 8] {
            let before = feed.writes.load(Ordering::SeqCst);
            threads(count, |_| (0..100).for_each(|_| feed.write(&io)));
            let writes = feed.writes.load(Ordering::SeqCst) - before;
            assert!((100..=100 * count as u64).contains(&writes), "{writes}");
        }
        block_on(io.close());
    });
}

#[test]
fn blocked_threads_and_tasks_share_the_owner() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Shares::attach(&io);
        threads(4, |thread| {
            for round in 0..100 {
                match thread {
                    0 => {
                        let (read, _) = block_on(io.read(at(round), full(1, 0)));
                        read.unwrap();
                    }
                    _ => feed.write(&io),
                }
            }
        });
        block_on(io.close());
    });
}

#[test]
fn who_waits_for_something_else_leaves_no_appointment_behind() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Shares::attach(&io);
        let (over, gone) = (AtomicBool::new(false), AtomicBool::new(false));
        let stranger = Mutex::new(None::<Arc<Blocked>>);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let blocked = Blocked::here();
                    *stranger.lock().unwrap() = Some(blocked.clone());
                    io.block(&blocked, &|| ());
                }
                gone.store(true, Ordering::SeqCst);
            });
            scope.spawn(|| {
                while !gone.load(Ordering::SeqCst) {
                    let woken = stranger.lock().unwrap().take();
                    woken.into_iter().for_each(|blocked| Waker::from(blocked).wake());
                    std::thread::yield_now();
                }
            });
            // Each write lets the next one wait for a second that never comes.
            for _ in 0..200 {
                feed.line.lock().unwrap().regroup = Some((2, Instant::now() + PATIENCE));
                feed.write(&io);
            }
            over.store(true, Ordering::SeqCst);
        });
        block_on(io.close());
    });
}

#[test]
fn a_thread_that_is_woken_before_it_blocks_does_not_block_and_tells_of_the_feed() {
    everywhere(|place| {
        let io = place.fresh();
        let told = AtomicBool::new(false);
        let blocked = Blocked::here();
        Waker::from(blocked.clone()).wake();
        io.block(&blocked, &|| told.store(true, Ordering::SeqCst));
        assert!(told.load(Ordering::SeqCst));
        assert!(blocked.settle() && !blocked.is_woken());
        block_on(io.close());
    });
}
