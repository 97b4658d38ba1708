//! Closing, and dropping without closing.

use futures::executor::block_on;
use futures::future::join_all;
use ringdb_uring::{BLOCK_BYTES, Refused};

use crate::feed::{Blocks, hold_the_role};
use crate::place::{BLOCKS, at, bytes_of_blocks, everywhere, full};

#[test]
fn a_close_finishes_what_is_in_flight() {
    everywhere(|place| {
        let io = place.fresh();
        let writes: Vec<_> =
            (0..BLOCKS).map(|block| io.write(at(block), full(1, 3), BLOCK_BYTES)).collect();
        let sync = io.sync();
        block_on(io.close());
        assert!(block_on(join_all(writes)).iter().all(|(written, _)| written.is_ok()));
        block_on(sync).unwrap();
        assert_eq!(bytes_of_blocks(&place.contents()), vec![Some(3); BLOCKS]);
    });
}

#[test]
fn after_a_close_everything_is_refused() {
    everywhere(|place| {
        let io = place.fresh();
        block_on(io.close());
        let closed = |error: std::io::Error| {
            assert_eq!(error.get_ref().unwrap().downcast_ref(), Some(&Refused::Closed));
        };
        let (read, buf) = block_on(io.read(0, full(1, 7)));
        closed(read.unwrap_err());
        assert_eq!(buf.len(), BLOCK_BYTES);
        closed(block_on(io.write(0, full(1, 7), BLOCK_BYTES)).0.unwrap_err());
        closed(block_on(io.write_durable(0, full(1, 7), BLOCK_BYTES)).0.unwrap_err());
        closed(block_on(io.sync()).unwrap_err());
        closed(block_on(io.grow(1 << 20)).unwrap_err());
        closed(block_on(io.shrink(1 << 12)).unwrap_err());
        assert!(!io.drive(&|| false));
        io.kick();
        block_on(io.close());
    });
}

#[test]
fn a_close_that_is_not_awaited_goes_on() {
    everywhere(|place| {
        let io = place.fresh();
        drop(io.write(at(1), full(1, 1), BLOCK_BYTES));
        drop(io.close());
        drop(io);
        block_on(place.open().close());
        assert_eq!(bytes_of_blocks(&place.contents())[1], Some(1));
    });
}

#[test]
fn many_may_close_at_once() {
    everywhere(|place| {
        let io = place.fresh();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| block_on(io.close()));
            }
        });
        drop(place.open());
    });
}

#[test]
fn the_last_drop_finishes_and_an_open_waits_for_it() {
    everywhere(|place| {
        place.create();
        for round in 1..=20u8 {
            let io = place.open();
            let clone = io.clone();
            drop(io);
            for block in 0..64 {
                drop(clone.write(at(block), full(1, round), BLOCK_BYTES));
            }
            drop(clone);
            let io = place.open();
            let (read, buf) = block_on(io.read(at(0), full(64, 0)));
            read.unwrap();
            assert_eq!(bytes_of_blocks(&buf), [Some(round); 64]);
        }
    });
}

#[test]
fn a_drop_does_not_wait_for_the_device() {
    everywhere(|place| {
        let io = place.fresh();
        let held = hold_the_role(&io, place.disk.as_ref());
        let write = io.write(at(0), full(1, 1), BLOCK_BYTES);
        drop(io);
        held.release();
        block_on(write).0.unwrap();
        drop(place.open());
    });
}

#[test]
fn a_dropped_file_writes_what_its_feed_still_has() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        for block in 1..=20 {
            feed.give(block, 9);
        }
        drop(io);
        block_on(place.open().close());
        assert_eq!(bytes_of_blocks(&place.contents())[1..=20], [Some(9); 20]);
    });
}

#[test]
fn a_close_during_a_drive_waits_for_the_driver() {
    everywhere(|place| {
        let io = place.fresh();
        let feed = Blocks::attach(&io);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..200 {
                    feed.give(1, 1);
                    io.drive(&|| feed.done() > round);
                }
            });
            scope.spawn(|| block_on(io.close()));
        });
        drop(place.open());
    });
}
