//! The feed: one durable write at a time, pulled by the owner.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use ringdb_uring::sim::Disk;
use ringdb_uring::{BLOCK_BYTES, Buf, Feed, Io, Next, OwnerGone, Pending};

use crate::place::{at, bytes_of_blocks, everywhere, full};

/// What the feed of a test has been asked for and told.
#[derive(Default)]
struct Log {
    waiting: VecDeque<(usize, u8)>,
    not_before: Option<Instant>,
    in_flight: usize,
    done: Vec<io::Result<()>>,
    abandoned: Option<io::Error>,
    gate_shut: bool,
    asked: usize,
}

/// A feed that writes one block for each (block, byte) it was given.
#[derive(Default)]
pub struct Blocks {
    log: Mutex<Log>,
    changed: Condvar,
    panics_at: AtomicUsize,
}

impl Blocks {
    pub fn attach(io: &Io) -> Arc<Blocks> {
        let feed = Arc::new(Blocks::default());
        io.set_feed(feed.clone());
        feed
    }

    pub fn give(&self, block: usize, byte: u8) {
        self.log.lock().unwrap().waiting.push_back((block, byte));
    }

    pub fn done(&self) -> usize {
        self.log.lock().unwrap().done.len()
    }

    pub fn wait_done(&self, count: usize) {
        drop(self.wait(|log| log.done.len() >= count || log.abandoned.is_some()));
    }

    /// Whoever is the owner waits for an answer, until [`Blocks::open_gate`].
    pub fn hold_the_owner(&self, io: &Io) {
        let asked = {
            let mut log = self.log.lock().unwrap();
            log.gate_shut = true;
            log.asked
        };
        io.kick();
        drop(self.wait(|log| log.asked > asked));
    }

    pub fn open_gate(&self) {
        self.log.lock().unwrap().gate_shut = false;
        self.changed.notify_all();
    }

    fn wait(&self, until: impl Fn(&Log) -> bool) -> MutexGuard<'_, Log> {
        self.changed.wait_while(self.log.lock().unwrap(), |log| !until(log)).unwrap()
    }
}

impl Feed for Blocks {
    fn next(&self, now: Instant) -> Next {
        let mut log = self.log.lock().unwrap();
        log.asked += 1;
        self.changed.notify_all();
        log = self.changed.wait_while(log, |log| log.gate_shut).unwrap();
        if let Some(not_before) = log.not_before.filter(|not_before| now < *not_before) {
            return Next::At(not_before);
        }
        let Some((block, byte)) = log.waiting.pop_front() else { return Next::Idle };
        let panics_at = self.panics_at.load(Ordering::SeqCst);
        if panics_at > 0 && log.done.len() + 1 == panics_at {
            drop(log);
            panic!("the feed panics");
        }
        log.in_flight += 1;
        assert_eq!(log.in_flight, 1, "one at a time");
        Next::Write { offset: at(block), buf: full(2, byte), len: BLOCK_BYTES }
    }

    fn pending(&self, now: Instant) -> Pending {
        let log = self.log.lock().unwrap();
        match log.not_before.filter(|not_before| now < *not_before) {
            Some(not_before) => Pending::At(not_before),
            None if log.waiting.is_empty() => Pending::Nothing,
            None => Pending::Write,
        }
    }

    fn done(&self, result: io::Result<()>, buf: Buf, _took: Duration) {
        assert!(result.is_err() || buf.len() == 2 * BLOCK_BYTES);
        let mut log = self.log.lock().unwrap();
        log.in_flight -= 1;
        log.done.push(result);
        self.changed.notify_all();
    }

    fn abandoned(&self, cause: io::Error) {
        self.log.lock().unwrap().abandoned = Some(cause);
        self.changed.notify_all();
    }
}

/// Nothing is issued until this is released.
pub enum Held {
    Feed(Arc<Blocks>),
    Disk(Disk),
}

impl Held {
    pub fn release(self) {
        match self {
            Held::Feed(feed) => feed.open_gate(),
            Held::Disk(disk) => disk.resume(),
        }
    }
}

/// Holds all I/O back: by a feed that does not answer the owner, or by pausing the disk.
pub fn hold_the_role(io: &Io, disk: Option<&Disk>) -> Held {
    if let Some(disk) = disk {
        disk.pause();
        return Held::Disk(disk.clone());
    }
    let feed = Arc::new(Blocks::default());
    io.set_feed(feed.clone());
    feed.hold_the_owner(io);
    Held::Feed(feed)
}

#[test]
fn the_background_thread_writes_what_was_kicked() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        for round in 1..=100 {
            feed.give(round, round as u8);
            io.kick();
            feed.wait_done(round);
        }
        assert_eq!(io.stats().durable_writes, 100);
        assert_eq!(io.stats().durable_bytes, 100 * BLOCK_BYTES as u64);
        block_on(io.close());
        let expected: Vec<_> = (0..=100).map(Some).collect();
        assert_eq!(bytes_of_blocks(&place.contents())[..101], expected);
    });
}

#[test]
fn kicks_from_many_threads_lose_nothing() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (io, feed) = (&io, &feed);
                scope.spawn(move || {
                    for round in 0..50 {
                        feed.give(thread * 50 + round, 1);
                        io.kick();
                    }
                });
            }
        });
        feed.wait_done(200);
        assert!(feed.log.lock().unwrap().done.iter().all(Result::is_ok));
    });
}

#[test]
fn an_appointment_is_kept_without_a_kick() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        feed.log.lock().unwrap().not_before = Some(Instant::now() + Duration::from_millis(20));
        feed.give(1, 1);
        io.kick();
        feed.wait_done(1);
    });
}

#[test]
fn a_kick_ends_the_wait_for_an_appointment() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        feed.log.lock().unwrap().not_before = Some(Instant::now() + Duration::from_secs(3600));
        io.kick();
        drop(feed.wait(|log| log.asked > 0));
        feed.log.lock().unwrap().not_before = None;
        feed.give(1, 1);
        io.kick();
        feed.wait_done(1);
    });
}

#[test]
fn reads_and_writes_go_on_while_the_feed_writes() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        for round in 1..=100 {
            feed.give(100 + round, 1);
            io.kick();
            block_on(io.write(at(round), full(1, round as u8), BLOCK_BYTES)).0.unwrap();
            let (read, buf) = block_on(io.read(at(round), full(1, 0)));
            read.unwrap();
            assert_eq!(buf[0], round as u8);
        }
        feed.wait_done(100);
    });
}

#[test]
fn a_panic_of_the_feed_reaches_everyone_who_waits() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        feed.panics_at.store(2, Ordering::SeqCst);
        feed.give(1, 1);
        io.kick();
        feed.wait_done(1);
        feed.give(2, 2);
        io.kick();
        let abandoned = feed.wait(|log| log.abandoned.is_some());
        let cause = abandoned.abandoned.as_ref().unwrap().to_string();
        assert!(cause.contains("the feed panics"), "{cause}");
        drop(abandoned);
        let (read, _) = block_on(io.read(0, full(1, 0)));
        assert!(read.unwrap_err().get_ref().unwrap().is::<OwnerGone>());
        assert!(block_on(io.sync()).is_err());
        block_on(io.close());
        drop(place.open());
    });
}

#[test]
fn a_panic_of_the_feed_under_a_driver_reaches_everyone_who_waits() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        feed.panics_at.store(1, Ordering::SeqCst);
        feed.give(1, 1);
        let pending = io.sync();
        while feed.log.lock().unwrap().abandoned.is_none() {
            io.drive(&|| false);
            io.kick();
        }
        drop(block_on(pending));
        assert!(block_on(io.sync()).is_err());
        block_on(io.close());
    });
}

#[test]
fn a_close_writes_what_the_feed_still_has() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        for block in 1..=20 {
            feed.give(block, 9);
        }
        block_on(io.close());
        assert_eq!(feed.done(), 20);
        assert_eq!(Arc::strong_count(&feed), 1, "a closed file holds no feed");
        assert_eq!(bytes_of_blocks(&place.contents())[1..=20], [Some(9); 20]);
    });
}
