//! Syncs, coalescing and the order of completions.

use futures::executor::block_on;
use futures::future::join_all;
use ringdb_uring::sim::Choice;
use ringdb_uring::{BLOCK_BYTES, Coalesce};

use crate::feed::hold_the_role;
use crate::place::{BLOCKS, at, bytes_of_blocks, everywhere, full, simulated};

#[test]
fn a_sync_covers_every_write_submitted_before_it() {
    simulated(|place, disk| {
        for seed in 0..20 {
            let io = if seed == 0 { place.fresh() } else { place.open() };
            disk.pause();
            disk.shuffle(seed);
            let byte = seed as u8 + 1;
            let early: Vec<_> =
                (0..9).map(|block| io.write(at(block * 2), full(1, byte), BLOCK_BYTES)).collect();
            let sync = io.sync();
            let late = io.write(at(100), full(1, byte), BLOCK_BYTES);
            disk.resume();
            block_on(sync).unwrap();
            let image = disk.image(disk.crash_points() - 1, Choice::None);
            let blocks = bytes_of_blocks(&image.contents(&place.path).unwrap());
            assert!((0..9).all(|block| blocks[block * 2] == Some(byte)), "seed {seed}");
            block_on(join_all(early));
            block_on(late).0.unwrap();
            block_on(io.close());
        }
    });
}

#[test]
fn a_sync_after_a_write_that_was_not_awaited_waits_for_it() {
    everywhere(|place| {
        let io = place.fresh();
        for round in 0..50u8 {
            drop(io.write(at(round as usize), full(1, round + 1), BLOCK_BYTES));
            block_on(io.sync()).unwrap();
            assert_eq!(io.stats().writes, u64::from(round) + 1);
        }
        block_on(io.close());
        let expected: Vec<_> = (0..50).map(|round| Some(round + 1)).collect();
        assert_eq!(bytes_of_blocks(&place.contents())[..50], expected);
    });
}

#[test]
fn syncs_that_wait_together_are_one() {
    simulated(|place, disk| {
        let io = place.fresh();
        disk.pause();
        let syncs: Vec<_> = (0..10).map(|_| io.sync()).collect();
        disk.resume();
        assert!(block_on(join_all(syncs)).into_iter().all(|synced| synced.is_ok()));
        assert_eq!(io.stats().syncs, 1);
    });
}

#[test]
fn a_durable_write_survives_alone() {
    simulated(|place, disk| {
        let io = place.fresh();
        block_on(io.write(at(1), full(1, 1), BLOCK_BYTES)).0.unwrap();
        block_on(io.write_durable(at(2), full(1, 2), BLOCK_BYTES)).0.unwrap();
        let image = disk.image(disk.crash_points() - 1, Choice::None);
        let blocks = bytes_of_blocks(&image.contents(&place.path).unwrap());
        assert_eq!(blocks[..4], [Some(0), Some(0), Some(2), Some(0)]);
    });
}

#[test]
fn a_durable_write_of_two_steps_is_durable_when_it_resolves() {
    everywhere(|place| {
        let io = place.fresh();
        block_on(io.write_durable(at(2), full(1, 2), BLOCK_BYTES)).0.unwrap();
        let Some(disk) = &place.disk else { return };
        let image = disk.image(disk.crash_points() - 1, Choice::None);
        assert_eq!(bytes_of_blocks(&image.contents(&place.path).unwrap())[2], Some(2));
    });
}

/// Queues adjacent writes while nothing can be issued; how many travelled in another's call.
fn coalesced(coalesce: Coalesce) {
    everywhere(match coalesce {
        Coalesce::On => |place| check_coalesced(place, Coalesce::On, 60),
        Coalesce::Off => |place| check_coalesced(place, Coalesce::Off, 0),
    });
}

fn check_coalesced(mut place: crate::place::Place, coalesce: Coalesce, expected: u64) {
    place.settings.coalesce = coalesce;
    let io = place.fresh();
    let mut order: Vec<usize> = (0..64).collect();
    order.sort_by_key(|block| block * 37 % 64);
    let held = hold_the_role(&io, place.disk.as_ref());
    // Four runs of sixteen: every seventeenth block is left out.
    let block_of = |index: usize| index / 16 * 17 + index % 16;
    let writes: Vec<_> = order
        .iter()
        .map(|&index| io.write(at(block_of(index)), full(1, index as u8 + 1), BLOCK_BYTES))
        .collect();
    held.release();
    assert!(block_on(join_all(writes)).iter().all(|(written, _)| written.is_ok()));
    if place.name != "pwrite" {
        assert_eq!(io.stats().coalesced, expected); // A pool may have begun before all were there.
    }
    block_on(io.close());
    let blocks = bytes_of_blocks(&place.contents());
    for index in 0..64 {
        assert_eq!(blocks[block_of(index)], Some(index as u8 + 1));
    }
    assert_eq!(blocks[16], Some(0));
    assert_eq!(blocks.len(), BLOCKS);
}

#[test]
fn adjacent_queued_writes_travel_together() {
    coalesced(Coalesce::On);
}

#[test]
fn nothing_travels_together_when_that_is_off() {
    coalesced(Coalesce::Off);
}

#[test]
fn completions_in_any_order_reach_whom_they_belong_to() {
    simulated(|place, disk| {
        let io = place.fresh();
        for seed in 0..50u64 {
            disk.pause();
            disk.shuffle(seed);
            let writes: Vec<_> = (0..20)
                .map(|block| {
                    io.write(at(block * 3), full(1, (seed as u8) ^ block as u8), BLOCK_BYTES)
                })
                .collect();
            disk.resume();
            block_on(join_all(writes)).into_iter().for_each(|(written, _)| written.unwrap());
            disk.pause();
            let reads: Vec<_> = (0..20).map(|block| io.read(at(block * 3), full(1, 0))).collect();
            disk.resume();
            for (block, (read, buf)) in block_on(join_all(reads)).into_iter().enumerate() {
                read.unwrap();
                assert_eq!(buf[0], (seed as u8) ^ block as u8, "seed {seed}");
            }
        }
    });
}
