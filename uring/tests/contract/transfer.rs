//! What is written is read, whole or not at all.

use std::io::ErrorKind;

use futures::executor::block_on;
use futures::future::join_all;
use ringdb_uring::{BLOCK_BYTES, BackendKind, Buf, DirectIo, Io, Settings, SyncMethod};

use crate::place::{BLOCKS, at, bytes_of_blocks, everywhere, full, on_files, simulated};

#[test]
fn what_was_written_is_read() {
    everywhere(|place| {
        let io = place.fresh();
        let (written, buf) = block_on(io.write(at(3), full(2, 7), 2 * BLOCK_BYTES));
        written.unwrap();
        assert_eq!(buf.len(), 2 * BLOCK_BYTES);
        let (read, buf) = block_on(io.read(at(2), Buf::zeroed(4 * BLOCK_BYTES)));
        read.unwrap();
        assert_eq!(bytes_of_blocks(&buf), [Some(0), Some(7), Some(7), Some(0)]);
    });
}

#[test]
fn only_the_named_length_is_written() {
    everywhere(|place| {
        let io = place.fresh();
        block_on(io.write(at(0), full(3, 7), BLOCK_BYTES)).0.unwrap();
        block_on(io.write_durable(at(5), full(3, 8), 2 * BLOCK_BYTES)).0.unwrap();
        block_on(io.close());
        let expected = [Some(7), Some(0), Some(0), Some(0), Some(0), Some(8), Some(8), Some(0)];
        assert_eq!(bytes_of_blocks(&place.contents())[..8], expected);
    });
}

#[test]
fn many_transfers_at_once_all_arrive() {
    everywhere(|place| {
        let io = place.fresh();
        let writes =
            (0..BLOCKS).map(|block| io.write(at(block), full(1, block as u8), BLOCK_BYTES));
        for (written, _) in block_on(join_all(writes.collect::<Vec<_>>())) {
            written.unwrap();
        }
        let reads = (0..BLOCKS).rev().map(|block| io.read(at(block), Buf::zeroed(BLOCK_BYTES)));
        for (index, (read, buf)) in
            block_on(join_all(reads.collect::<Vec<_>>())).into_iter().enumerate()
        {
            read.unwrap();
            assert_eq!(bytes_of_blocks(&buf), [Some((BLOCKS - 1 - index) as u8)]);
        }
        let stats = io.stats();
        assert_eq!((stats.reads, stats.writes), (BLOCKS as u64, BLOCKS as u64));
        assert_eq!(stats.read_bytes, (BLOCKS * BLOCK_BYTES) as u64);
        assert_eq!(stats.write_bytes, (BLOCKS * BLOCK_BYTES) as u64);
    });
}

#[test]
fn registered_buffers_hold_what_was_read_and_do_not_run_out() {
    everywhere(|place| {
        let io = place.fresh();
        for block in 0..BLOCKS {
            block_on(io.write(at(block), full(1, block as u8), BLOCK_BYTES)).0.unwrap();
        }
        for blocks in [1, 2, 3] {
            // More at once than any ring registers.
            let offsets = (0..2 * BLOCKS).map(|number| number % (BLOCKS - blocks));
            let reads = offsets.clone().map(|block| {
                let buf = io.read_buf(blocks * BLOCK_BYTES);
                assert_eq!(buf.len(), blocks * BLOCK_BYTES);
                io.read(at(block), buf)
            });
            let done = block_on(join_all(reads.collect::<Vec<_>>()));
            for ((read, buf), block) in done.into_iter().zip(offsets) {
                read.unwrap();
                let expected: Vec<_> = (block..block + blocks).map(|b| Some(b as u8)).collect();
                assert_eq!(bytes_of_blocks(&buf), expected);
            }
        }
    });
}

#[test]
fn a_read_past_the_end_fails_and_gives_the_buffer_back() {
    everywhere(|place| {
        let io = place.fresh();
        for block in [BLOCKS - 1, BLOCKS, BLOCKS + 100] {
            let (read, buf) = block_on(io.read(at(block), Buf::zeroed(2 * BLOCK_BYTES)));
            assert_eq!(read.unwrap_err().kind(), ErrorKind::UnexpectedEof);
            assert_eq!(buf.len(), 2 * BLOCK_BYTES);
        }
        assert_eq!(io.stats().failed, 3);
    });
}

#[test]
fn a_file_that_ends_inside_a_block_is_read_up_to_there() {
    on_files(|place| {
        std::fs::write(&place.path, vec![7; BLOCK_BYTES + 100]).unwrap();
        let io = place.open();
        assert_eq!(io.len_bytes(), BLOCK_BYTES as u64 + 100);
        assert!(block_on(io.read(0, Buf::zeroed(BLOCK_BYTES))).0.is_ok());
        let (read, _) = block_on(io.read(0, Buf::zeroed(2 * BLOCK_BYTES)));
        assert_eq!(read.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn no_bytes_are_transferred_at_once() {
    everywhere(|place| {
        let io = place.fresh();
        assert!(block_on(io.read(at(0), Buf::zeroed(0))).0.is_ok());
        assert!(block_on(io.write(at(0), full(1, 1), 0)).0.is_ok());
    });
}

#[test]
fn growth_never_makes_a_file_shorter() {
    everywhere(|place| {
        let io = place.fresh();
        let long = at(BLOCKS + 64);
        block_on(io.grow(long)).unwrap();
        block_on(io.grow(at(1))).unwrap();
        assert_eq!(io.len_bytes(), long);
        block_on(io.write(at(BLOCKS + 63), full(1, 7), BLOCK_BYTES)).0.unwrap();
        block_on(io.sync()).unwrap();
        block_on(io.close());
        let contents = place.contents();
        assert_eq!(contents.len() as u64, long);
        assert_eq!(bytes_of_blocks(&contents)[BLOCKS + 62..], [Some(0), Some(7)]);
    });
}

#[test]
fn a_file_that_is_cut_off_keeps_what_is_in_front_and_grows_again_as_zeros() {
    everywhere(|place| {
        let io = place.fresh();
        let long = at(BLOCKS + 64);
        block_on(io.grow(long)).unwrap();
        for block in [BLOCKS + 1, BLOCKS + 2, BLOCKS + 63] {
            block_on(io.write(at(block), full(1, 7), BLOCK_BYTES)).0.unwrap();
        }
        block_on(io.shrink(at(BLOCKS + 2))).unwrap();
        block_on(io.shrink(at(BLOCKS + 9))).unwrap();
        assert_eq!(io.len_bytes(), at(BLOCKS + 2));
        let (read, _) = block_on(io.read(at(BLOCKS + 2), full(1, 1)));
        assert_eq!(read.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        // In the order in which they were asked for.
        let (grown, cut) = (io.grow(long), io.shrink(at(BLOCKS + 3)));
        block_on(grown).and(block_on(cut)).unwrap();
        block_on(io.sync()).unwrap();
        block_on(io.close());
        let contents = place.contents();
        assert_eq!(contents.len() as u64, at(BLOCKS + 3));
        assert_eq!(bytes_of_blocks(&contents)[BLOCKS + 1..], [Some(7), Some(0)]);
    });
}

#[test]
fn many_growths_at_once_end_with_the_longest() {
    everywhere(|place| {
        let io = place.fresh();
        let growths = [90, 50, 70, 10].map(|more| io.grow(at(BLOCKS + more)));
        assert!(block_on(join_all(growths)).into_iter().all(|grown| grown.is_ok()));
        assert_eq!(io.len_bytes(), at(BLOCKS + 90));
        block_on(io.close());
        assert_eq!(place.contents().len() as u64, at(BLOCKS + 90));
    });
}

#[test]
fn the_report_tells_what_was_chosen() {
    everywhere(|place| {
        let report = place.fresh().report();
        let kind = match place.name {
            "uring" => BackendKind::Uring,
            "pwrite" => BackendKind::Pwrite,
            _ => BackendKind::Sim,
        };
        assert_eq!(report.backend, kind);
        assert_eq!(report.block_bytes as usize, BLOCK_BYTES);
        if place.settings.direct == DirectIo::Off {
            assert!(!report.direct);
            assert_ne!(report.sync_method, SyncMethod::DsyncWrite);
        }
        assert!(!report.reason.is_empty() && !report.direct_reason.is_empty());
    });
}

#[test]
fn measuring_the_sync_methods_tells_both_times_and_touches_nothing_outside_its_range() {
    on_files(|place| {
        for direct in [DirectIo::Auto, DirectIo::Off] {
            std::fs::write(&place.path, vec![7; BLOCKS * BLOCK_BYTES]).unwrap();
            let settings = Settings { direct, ..place.settings.clone() };
            let io = Io::open(&place.path, &settings).unwrap();
            assert!(io.report().sync_reason.starts_with("assumed"));
            block_on(io.measure_sync_methods(at(4), at(2))).unwrap();
            let report = io.report();
            for part in ["measured: ", "RWF_DSYNC ", "s, write and fdatasync ", "s"] {
                assert!(report.sync_reason.contains(part), "{report:?}");
            }
            assert_ne!(report.sync_method, SyncMethod::WriteThenFullSync);
            block_on(io.write_durable(at(8), full(1, 8), BLOCK_BYTES)).0.unwrap();
            block_on(io.close());
            for (block, byte) in bytes_of_blocks(&place.contents()).into_iter().enumerate() {
                // A slow disk is not asked often enough to reach the second block.
                let expected: &[u8] = match block {
                    4 => &[0],
                    5 => &[0, 7],
                    8 => &[8],
                    _ => &[7],
                };
                assert!(byte.is_some_and(|byte| expected.contains(&byte)), "block {block}");
            }
        }
    });
}

#[test]
fn on_a_simulated_disk_nothing_is_measured() {
    simulated(|place, disk| {
        let io = place.fresh();
        let before = (disk.crash_points(), io.report().sync_reason);
        block_on(io.measure_sync_methods(0, at(1))).unwrap();
        assert_eq!((disk.crash_points(), io.report().sync_reason), before);
    });
}

#[test]
fn a_range_that_cannot_be_measured_in_is_refused() {
    everywhere(|place| {
        let io = place.fresh();
        for (offset, len_bytes) in [(at(BLOCKS), at(1)), (1, at(1)), (0, 0), (u64::MAX, at(1))] {
            let error = block_on(io.measure_sync_methods(offset, len_bytes)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    });
}
