//! A thread that makes what it waits for itself.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use futures::FutureExt;
use futures::executor::block_on;
use ringdb_uring::{BLOCK_BYTES, Blocked, Buf, Io};

use crate::feed::{Blocks, hold_the_role};
use crate::place::{Place, at, bytes_of_blocks, everywhere, full};

/// Waits for the future and helps meanwhile, as long as there is something to help with.
fn helping<F: Future>(io: &Io, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let blocked = Blocked::here();
    let waker = Waker::from(blocked.clone());
    loop {
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        if let Poll::Ready(output) = polled {
            return output;
        }
        io.help(&|| blocked.is_woken());
        while !blocked.is_woken() {
            std::thread::park();
        }
        blocked.settle();
    }
}

/// A feed that has written a block: behind that threads may help.
fn after_a_write(io: &Io) -> Arc<Blocks> {
    let feed = Blocks::attach(io);
    feed.give(1, 1);
    io.kick();
    feed.wait_done(1);
    feed
}

#[test]
fn one_who_helps_behind_a_write_of_the_feed_needs_no_owner() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = after_a_write(&io);
        feed.hold_the_owner(&io);
        let len_bytes = io.len_bytes() + (1 << 20);
        let write = io.write(at(2), full(1, 2), BLOCK_BYTES);
        let grow = io.grow(len_bytes);
        let sync = io.sync();
        let durable = io.write_durable(at(3), full(1, 3), BLOCK_BYTES);
        io.help(&|| false);
        if place.name == "uring" && io.report().direct {
            write.now_or_never().expect("the thread wrote it").0.unwrap();
            grow.now_or_never().expect("the thread made it grow").unwrap();
            sync.now_or_never().expect("the thread synced it").unwrap();
            durable.now_or_never().expect("the thread wrote it and synced it").0.unwrap();
        } else {
            // Threads of the pool may have taken some of it, and with buffered I/O nobody helps.
            feed.open_gate();
            block_on(write).0.unwrap();
            block_on(grow).unwrap();
            block_on(sync).unwrap();
            block_on(durable).0.unwrap();
        }
        assert_eq!(io.len_bytes(), len_bytes);
        feed.open_gate();
        block_on(io.close());
        let bytes = bytes_of_blocks(&place.contents());
        assert_eq!(bytes[1..4], [Some(1), Some(2), Some(3)]);
        assert_eq!(place.contents().len() as u64, len_bytes);
    });
}

#[test]
fn reads_and_cuts_are_left_to_the_owner() {
    everywhere(|place| {
        if place.name != "uring" {
            return;
        }
        let io = place.fresh();
        let feed = after_a_write(&io);
        feed.hold_the_owner(&io);
        let mut read = io.read(at(1), full(1, 0));
        io.help(&|| false);
        assert!((&mut read).now_or_never().is_none());
        let mut cut = io.shrink(at(100));
        io.help(&|| false);
        assert!((&mut cut).now_or_never().is_none());
        feed.open_gate();
        let (result, buf) = block_on(read);
        result.unwrap();
        assert_eq!(buf[0], 1);
        block_on(cut).unwrap();
        block_on(io.close());
        assert_eq!(place.contents().len() as u64, at(100));
    });
}

#[test]
fn nobody_helps_where_no_feed_writes() {
    everywhere(|place| {
        if place.name == "pwrite" {
            return; // Its pool writes whatever the owner does.
        }
        let io = place.fresh();
        let held = hold_the_role(&io, place.disk.as_ref());
        let mut write = io.write(at(2), full(1, 2), BLOCK_BYTES);
        io.help(&|| false);
        assert!((&mut write).now_or_never().is_none());
        held.release();
        block_on(write).0.unwrap();
    });
}

#[test]
fn the_owner_makes_a_sync_that_is_ready_when_the_helper_has_gone() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        for round in 1..=200 {
            feed.give(1, 1);
            io.kick();
            feed.wait_done(round);
            let write = io.write(at(2), full(1, round as u8), BLOCK_BYTES);
            let sync = io.sync();
            helping(&io, write).0.unwrap();
            // The owner may have looked when the write was not over yet, and nothing is submitted that it would look again for.
            block_on(sync).unwrap();
        }
        block_on(io.close());
        assert_eq!(bytes_of_blocks(&place.contents())[2], Some(200));
    });
}

fn check_beside(place: Place) {
    const ROUNDS: usize = 100;
    let io = place.fresh();
    let feed = Blocks::attach(&io);
    let is_over = AtomicBool::new(false);
    let helper = |first: usize| {
        let mut rounds = 0;
        while rounds < 20 || !is_over.load(Ordering::SeqCst) {
            rounds += 1;
            let byte = rounds as u8;
            let write = |block| io.write(at(block), full(1, byte), BLOCK_BYTES);
            // Every second block: none of them travels with another one.
            let mut writes: Vec<_> = (first..first + 16).step_by(2).map(write).collect();
            let last = writes.pop().unwrap();
            helping(&io, last).0.unwrap();
            // It covers those that nobody has waited for, and may become ready when the thread has gone.
            helping(&io, io.sync()).unwrap();
            for write in writes {
                block_on(write).0.unwrap();
            }
            let (read, buf) = helping(&io, io.read(at(first), Buf::zeroed(BLOCK_BYTES)));
            read.unwrap();
            assert!(buf.iter().all(|read| *read == byte));
        }
        rounds as u8
    };
    let rounds = std::thread::scope(|scope| {
        let helpers = [120, 160].map(|first| scope.spawn(move || helper(first)));
        for round in 1..=ROUNDS {
            feed.give(round, round as u8);
            if !io.drive(&|| feed.done() >= round) {
                io.kick();
                feed.wait_done(round);
            }
        }
        is_over.store(true, Ordering::SeqCst);
        helpers.map(|helper| helper.join().unwrap())
    });
    block_on(io.close());
    let bytes = bytes_of_blocks(&place.contents());
    assert_eq!(bytes[..=ROUNDS], (0..=ROUNDS as u8).map(Some).collect::<Vec<_>>());
    for (first, rounds) in [120, 160].into_iter().zip(rounds) {
        assert!((first..first + 16).step_by(2).all(|block| bytes[block] == Some(rounds)));
    }
}

#[test]
fn those_who_help_write_beside_those_who_drive() {
    everywhere(check_beside);
}

#[test]
fn those_who_help_at_a_depth_of_one_leave_nothing_behind() {
    everywhere(|place| check_beside(place.with_depth(1)));
}

#[test]
fn a_close_waits_for_one_who_helps() {
    everywhere(|place| {
        place.create();
        for _ in 0..20 {
            let io = place.open();
            after_a_write(&io);
            let is_begun = AtomicBool::new(false);
            let written = std::thread::scope(|scope| {
                let helper = scope.spawn(|| {
                    let mut written = 0;
                    let write = |byte| io.write(at(2), full(1, byte), BLOCK_BYTES);
                    while helping(&io, write(1 - written)).0.is_ok() {
                        written = 1 - written;
                        is_begun.store(true, Ordering::SeqCst);
                    }
                    written
                });
                while !is_begun.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                block_on(io.close());
                let now = bytes_of_blocks(&place.contents())[2];
                let written = helper.join().unwrap();
                assert_eq!(now, Some(written), "nobody writes behind a close");
                written
            });
            assert_eq!(bytes_of_blocks(&place.contents())[2], Some(written));
        }
    });
}
