//! Driving the owner from a thread that would block anyway.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use ringdb_uring::{BLOCK_BYTES, Buf, Feed, Io, Next, Pending};

use crate::feed::Blocks;
use crate::place::{at, bytes_of_blocks, everywhere, full, on_files};

/// Drives until the feed has done this many, whoever has the role.
fn drive_until(io: &ringdb_uring::Io, feed: &Blocks, count: usize) {
    if !io.drive(&|| feed.done() >= count) {
        io.kick();
        feed.wait_done(count);
    }
}

#[test]
fn a_driver_writes_for_the_feed_itself() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        for round in 1..=100 {
            feed.give(round, round as u8);
            drive_until(&io, &feed, round);
        }
        block_on(io.close());
        let expected: Vec<_> = (0..=100).map(Some).collect();
        assert_eq!(bytes_of_blocks(&place.contents())[..101], expected);
    });
}

#[test]
fn a_driver_writes_beside_pages_of_its_own_and_of_others() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let others = scope.spawn(|| {
                let mut rounds = 0;
                while rounds < 20 || !is_over.load(Ordering::SeqCst) {
                    rounds += 1;
                    let write = |block| io.write(at(block), full(4, rounds as u8), 4 * BLOCK_BYTES);
                    let writes: Vec<_> = (120..160).step_by(4).map(write).collect();
                    for write in writes {
                        block_on(write).0.unwrap();
                    }
                    if rounds % 64 == 0 {
                        block_on(io.sync()).unwrap();
                    }
                    if rounds % 256 == 0 {
                        let (read, buf) = block_on(io.read(at(156), full(4, 0)));
                        read.unwrap();
                        assert!(buf.iter().all(|byte| *byte == rounds as u8));
                    }
                }
                rounds as u8
            });
            for round in 1..=100 {
                feed.give(round, round as u8);
                // Every third time this thread is the one that hands the page to the kernel.
                let own =
                    (round % 3 == 0).then(|| io.write(at(200), full(1, round as u8), BLOCK_BYTES));
                drive_until(&io, &feed, round);
                if let Some(own) = own {
                    block_on(own).0.unwrap();
                }
            }
            is_over.store(true, Ordering::SeqCst);
            let rounds = others.join().unwrap();
            block_on(io.close());
            let bytes = bytes_of_blocks(&place.contents());
            let expected: Vec<_> = (0..=100).map(Some).collect();
            assert_eq!(bytes[..101], expected);
            assert_eq!(bytes[120..160], [Some(rounds); 40]);
            assert_eq!(bytes[200], Some(99));
        });
    });
}

#[test]
fn a_driven_write_costs_one_call() {
    on_files(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        feed.give(1, 1);
        drive_until(&io, &feed, 1);
        // The background thread may still be on its way to bed: only a quiet stretch counts.
        let quiet = (0..200).any(|round| {
            let before = io.stats();
            feed.give(2, 2);
            drive_until(&io, &feed, round + 2);
            let after = io.stats();
            after.syscalls - before.syscalls == 1 && after.wakeups == before.wakeups
        });
        assert!(quiet, "{:?}", io.stats());
    });
}

/// Writes a block each time it is asked to, and looks whether the role is free when it is to tell of it.
struct Telling {
    io: Mutex<Option<Io>>,
    wanted: AtomicBool,
    told: AtomicUsize,
    found_it_free: AtomicUsize,
    panics: AtomicBool,
    abandoned: AtomicBool,
}

impl Telling {
    fn attach(io: &Io) -> Arc<Telling> {
        let feed = Arc::new(Telling {
            io: Mutex::new(Some(io.clone())),
            wanted: AtomicBool::new(false),
            told: AtomicUsize::new(0),
            found_it_free: AtomicUsize::new(0),
            panics: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
        });
        io.set_feed(feed.clone());
        feed
    }
}

impl Feed for Telling {
    fn next(&self, _: Instant) -> Next {
        match self.wanted.swap(false, Ordering::SeqCst) {
            true => Next::Write { offset: at(1), buf: full(1, 1), len: BLOCK_BYTES },
            false => Next::Idle,
        }
    }

    fn pending(&self, _: Instant) -> Pending {
        if self.wanted.load(Ordering::SeqCst) { Pending::Write } else { Pending::Nothing }
    }

    fn done(&self, result: io::Result<()>, _: Buf, _: Duration) {
        result.unwrap();
    }

    fn tell(&self) {
        assert!(!self.panics.load(Ordering::SeqCst), "the feed panics while it tells");
        let io = self.io.lock().unwrap().clone().expect("it is open");
        let is_free = io.drive(&|| true);
        self.found_it_free.fetch_add(usize::from(is_free), Ordering::SeqCst);
        self.told.fetch_add(1, Ordering::SeqCst);
    }

    fn abandoned(&self, _: io::Error) {
        self.abandoned.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_feed_that_panics_while_it_tells_is_the_end_of_the_owner() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Telling::attach(&io);
        feed.panics.store(true, Ordering::SeqCst);
        feed.wanted.store(true, Ordering::SeqCst);
        while !feed.abandoned.load(Ordering::SeqCst) {
            io.drive(&|| false);
            io.kick();
            std::thread::yield_now();
        }
        let (read, _) = block_on(io.read(at(1), full(1, 0)));
        read.unwrap_err();
        feed.io.lock().unwrap().take();
        block_on(io.close());
    });
}

#[test]
fn who_is_told_of_a_write_finds_the_role_free() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Telling::attach(&io);
        // The background thread may have the role now and then.
        for round in 1..=200 {
            feed.wanted.store(true, Ordering::SeqCst);
            while !io.drive(&|| feed.told.load(Ordering::SeqCst) >= round) {
                io.kick();
                std::thread::yield_now();
            }
            if feed.found_it_free.load(Ordering::SeqCst) > 0 {
                break;
            }
        }
        assert!(feed.found_it_free.load(Ordering::SeqCst) > 0);
        feed.io.lock().unwrap().take();
        block_on(io.close());
    });
}

#[test]
fn a_driver_with_nothing_to_do_returns() {
    everywhere(|place| {
        let io = place.fresh();
        assert!(!io.drive(&|| false));
        // The background thread may have the role until it has found nothing to do.
        while !io.drive(&|| true) {
            std::thread::yield_now();
        }
        let feed = Blocks::attach(&io);
        assert!(!io.drive(&|| false));
        assert_eq!(feed.done(), 0);
    });
}

#[test]
fn only_one_drives() {
    everywhere(|place| {
        let io = place.fresh();
        let inner = Cell::new(None);
        while inner.get().is_none() {
            // The background thread may still have the role.
            std::thread::yield_now();
            io.drive(&|| {
                inner.set(Some(io.drive(&|| panic!("asked without the role"))));
                true
            });
        }
        assert_eq!(inner.get(), Some(false));
    });
}

#[test]
fn a_driver_completes_reads() {
    everywhere(|place| {
        let io = place.fresh();
        block_on(io.write(at(7), full(1, 7), BLOCK_BYTES)).0.unwrap();
        for round in 1..=100 {
            let read = io.read(at(7), full(1, 0));
            io.drive(&|| io.stats().reads == round);
            let (result, buf) = block_on(read);
            result.unwrap();
            assert_eq!(buf[0], 7);
        }
    });
}

#[test]
fn what_is_submitted_while_driving_wakes_nobody() {
    everywhere(|place| {
        let io = place.fresh();
        // The background thread lets go of the role when it has a processor.
        let is_driven = place.name != "pwrite";
        let rounds = if is_driven { 20_000 } else { 200 };
        let quiet = (0..rounds).any(|_| {
            let before = io.stats();
            let read = RefCell::new(None);
            let driven = io.drive(&|| {
                let mut read = read.borrow_mut();
                let read = read.get_or_insert_with(|| io.read(at(7), full(1, 0)));
                let mut context = Context::from_waker(Waker::noop());
                Pin::new(read).poll(&mut context).is_ready()
            });
            if !driven {
                std::thread::yield_now();
            }
            driven && io.stats().wakeups == before.wakeups
        });
        assert!(quiet || !is_driven);
    });
}

#[test]
fn what_a_driver_leaves_the_background_thread_finishes() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        for round in 0..100 {
            // Two writes wait; the driver wants only the first.
            feed.give(1, 1);
            feed.give(2, 2);
            if !io.drive(&|| feed.done() > round * 2) {
                io.kick();
            }
            feed.wait_done(round * 2 + 2);
        }
    });
}

#[test]
fn what_an_exiting_thread_leaves_is_finished() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        for round in 0..50 {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    feed.give(1, 1);
                    feed.give(2, 2);
                    drop(io.write(at(3), full(1, 3), BLOCK_BYTES));
                    if !io.drive(&|| feed.done() > round * 2) {
                        io.kick();
                    }
                });
            });
            feed.wait_done(round * 2 + 2);
            block_on(io.sync()).unwrap();
        }
    });
}

#[test]
fn drivers_and_tasks_share_the_owner() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (io, feed) = (&io, &feed);
                scope.spawn(move || {
                    for round in 0..50 {
                        feed.give(thread * 50 + round, 1);
                        io.drive(&|| feed.done() > round);
                        io.kick(); // Others may have made it true: nobody drove for this one.
                        let (read, _) = block_on(io.read(at(round), full(1, 0)));
                        read.unwrap();
                    }
                });
            }
            for round in 0..50 {
                let (written, _) = block_on(io.write(at(200 + round), full(1, 1), BLOCK_BYTES));
                written.unwrap();
                block_on(io.sync()).unwrap();
            }
        });
        feed.wait_done(150);
    });
}
