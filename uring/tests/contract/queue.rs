//! The queue's bounds, and futures that are dropped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use futures::executor::block_on;
use futures::future::join_all;
use ringdb_uring::{BLOCK_BYTES, Buf};

use crate::feed::{Blocks, hold_the_role};
use crate::place::{BLOCKS, Place, at, bytes_of_blocks, everywhere, full, simulated};

fn check_load(place: Place) {
    let io = place.fresh();
    let feed = Blocks::attach(&io);
    for round in 0..4u8 {
        let writes: Vec<_> = (0..200)
            .map(|block| io.write(at(block), full(1, block as u8 ^ round), BLOCK_BYTES))
            .collect();
        let sync = io.sync();
        feed.give(250, round);
        io.kick();
        let reads: Vec<_> = (0..200).map(|_| io.read(at(255), Buf::zeroed(BLOCK_BYTES))).collect();
        assert!(block_on(join_all(reads)).iter().all(|(read, _)| read.is_ok()));
        block_on(sync).unwrap();
        assert!(block_on(join_all(writes)).iter().all(|(written, _)| written.is_ok()));
    }
    feed.wait_done(4);
    let stats = io.stats();
    assert_eq!((stats.writes, stats.reads, stats.failed), (800, 800, 0));
    assert_eq!(stats.stale, 0);
    block_on(io.close());
    let expected: Vec<_> = (0..200).map(|block| Some(block as u8 ^ 3)).collect();
    assert_eq!(bytes_of_blocks(&place.contents())[..200], expected);
}

#[test]
fn a_depth_of_one_serves_any_load() {
    everywhere(|place| check_load(place.with_depth(1)));
}

#[test]
fn a_depth_of_two_serves_any_load() {
    everywhere(|place| check_load(place.with_depth(2)));
}

#[test]
fn any_depth_is_taken() {
    everywhere(|place| {
        let io = place.with_depth(0).fresh();
        block_on(io.read(0, full(1, 1))).0.unwrap();
    });
    everywhere(|place| {
        let io = place.with_depth(u32::MAX).fresh();
        block_on(io.read(0, full(1, 1))).0.unwrap();
    });
}

#[test]
fn dropped_futures_do_not_stop_their_operations() {
    everywhere(|place| {
        let io = place.fresh();
        for block in 0..BLOCKS {
            drop(io.write(at(block), full(1, 5), BLOCK_BYTES));
            drop(io.read(at(block), full(1, 0)));
            drop(io.sync());
        }
        block_on(io.sync()).unwrap();
        assert_eq!(io.stats().writes, BLOCKS as u64);
        block_on(io.close());
        assert_eq!(bytes_of_blocks(&place.contents()), vec![Some(5); BLOCKS]);
    });
}

#[test]
fn futures_dropped_after_the_first_poll_do_no_harm() {
    everywhere(|place| {
        let io = place.fresh();
        for block in 0..BLOCKS {
            let mut write = io.write(at(block), full(1, 5), BLOCK_BYTES);
            let mut context = Context::from_waker(Waker::noop());
            drop(Pin::new(&mut write).poll(&mut context));
            drop(write);
        }
        block_on(io.sync()).unwrap();
        block_on(io.close());
        assert_eq!(bytes_of_blocks(&place.contents()), vec![Some(5); BLOCKS]);
    });
}

#[test]
fn what_waits_beyond_the_bound_is_withdrawn_with_its_future() {
    simulated(|place, _| {
        // A depth of one lets eight operations wait inside.
        let place = place.with_depth(1);
        let io = place.fresh();
        let held = hold_the_role(&io, place.disk.as_ref());
        let writes: Vec<_> =
            (0..20).map(|block| io.write(at(block * 2), full(1, 5), BLOCK_BYTES)).collect();
        let mut kept = vec![];
        for (index, write) in writes.into_iter().enumerate() {
            if index % 2 == 0 {
                kept.push(write);
            }
        }
        held.release();
        assert!(block_on(join_all(kept)).iter().all(|(written, _)| written.is_ok()));
        block_on(io.sync()).unwrap();
        // Eight that were inside, and every second of the twelve others.
        assert_eq!(io.stats().writes, 8 + 6);
    });
}

#[test]
fn the_line_keeps_its_order() {
    simulated(|place, _| {
        let place = place.with_depth(1);
        let io = place.fresh();
        let held = hold_the_role(&io, place.disk.as_ref());
        for byte in 0..40 {
            drop(io.write_durable(at(0), full(1, byte), BLOCK_BYTES));
        }
        let writes: Vec<_> =
            (0..40).map(|byte| io.write_durable(at(1), full(1, byte), BLOCK_BYTES)).collect();
        held.release();
        block_on(join_all(writes));
        block_on(io.close());
        assert_eq!(bytes_of_blocks(&place.contents())[1], Some(39));
    });
}
