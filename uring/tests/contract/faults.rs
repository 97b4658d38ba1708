//! Faults of the device: reported once, never retried; short transfers are resumed.

use std::io::ErrorKind;

use futures::executor::block_on;
use futures::future::join_all;
use ringdb_uring::sim::{Call, Choice, Fault, Times};
use ringdb_uring::{BLOCK_BYTES, Buf};

use crate::feed::Blocks;
use crate::place::{at, bytes_of_blocks, full, simulated};

const EIO: i32 = 5;

#[test]
fn a_failed_read_fails_alone() {
    simulated(|place, disk| {
        let io = place.fresh();
        disk.faults().add(Call::Read, 1, Fault::Fail(Times::Once));
        let reads = [0, 1, 2].map(|block| block_on(io.read(at(block), full(1, 0))).0);
        assert!(reads[0].is_ok() && reads[2].is_ok());
        assert_eq!(reads[1].as_ref().unwrap_err().raw_os_error(), Some(EIO));
        assert_eq!(disk.faults().injected().failed, 1);
    });
}

#[test]
fn a_device_that_fails_for_ever_answers_everyone() {
    simulated(|place, disk| {
        let io = place.fresh();
        for call in [Call::Read, Call::Write, Call::Sync, Call::Grow, Call::Shrink] {
            disk.faults().add(call, 0, Fault::Fail(Times::Forever));
        }
        assert!(block_on(io.read(0, full(1, 0))).0.is_err());
        assert!(block_on(io.write(0, full(1, 0), BLOCK_BYTES)).0.is_err());
        assert!(block_on(io.write_durable(0, full(1, 0), BLOCK_BYTES)).0.is_err());
        assert!(block_on(io.sync()).is_err());
        assert!(block_on(io.grow(at(1000))).is_err());
        assert!(block_on(io.shrink(at(1))).is_err());
        let feed = Blocks::attach(&io);
        feed.give(1, 1);
        io.kick();
        feed.wait_done(1);
        let calls = disk.faults().calls();
        assert_eq!((calls.writes, calls.grows, calls.shrinks), (3, 2, 1), "nothing is tried again");
        block_on(io.close());
    });
}

#[test]
fn a_failed_run_fails_every_write_in_it() {
    simulated(|place, disk| {
        let io = place.fresh();
        disk.pause();
        let writes: Vec<_> =
            (0..4).map(|block| io.write(at(block), full(1, 1), BLOCK_BYTES)).collect();
        let sync = io.sync();
        disk.faults().add(Call::Write, 0, Fault::Fail(Times::Once));
        disk.resume();
        for (written, buf) in block_on(join_all(writes)) {
            assert_eq!(written.unwrap_err().raw_os_error(), Some(EIO));
            assert_eq!(buf.len(), BLOCK_BYTES);
        }
        block_on(sync).unwrap();
    });
}

#[test]
fn after_a_failed_sync_nothing_is_called_durable() {
    simulated(|place, disk| {
        let io = place.fresh();
        block_on(io.sync()).unwrap();
        block_on(io.write_durable(0, full(1, 1), BLOCK_BYTES)).0.unwrap();
        block_on(io.write(at(1), full(1, 1), BLOCK_BYTES)).0.unwrap();
        disk.faults().add(Call::Sync, 0, Fault::Fail(Times::Once));
        assert!(io.failed_sync().is_none());
        // Its result is not taken, and who wrote before it does not know of it.
        drop(block_on(io.sync()));
        assert_eq!(disk.faults().injected().failed, 1);
        let cause = std::io::Error::from_raw_os_error(EIO).to_string();
        let told = format!("a sync before this one failed: {cause}");
        assert_eq!(io.failed_sync().map(|error| error.to_string()).as_ref(), Some(&told));
        let synced = block_on(io.sync());
        let error = synced.expect_err("what was written before the failure may be lost");
        assert_eq!(error.to_string(), told);
        let (written, _) = block_on(io.write_durable(at(2), full(1, 1), BLOCK_BYTES));
        written.expect_err("so may what this was to be durable after");
        assert!(block_on(io.read(at(1), full(1, 0))).0.is_ok(), "reads go on");
    });
}

#[test]
fn a_failed_sync_answers_all_who_shared_it() {
    simulated(|place, disk| {
        let io = place.fresh();
        disk.pause();
        let syncs: Vec<_> = (0..3).map(|_| io.sync()).collect();
        disk.faults().add(Call::Sync, 0, Fault::Fail(Times::Once));
        disk.resume();
        assert!(block_on(join_all(syncs)).iter().all(|synced| synced.is_err()));
    });
}

#[test]
fn short_transfers_are_resumed() {
    simulated(|place, disk| {
        let io = place.fresh();
        let len = 4 * BLOCK_BYTES;
        for short in [1, 511, 512, 4096, len - 1] {
            disk.faults().add(Call::Write, 0, Fault::Short(short));
            block_on(io.write(at(0), full(4, 7), len)).0.unwrap();
            disk.faults().add(Call::Write, 0, Fault::Short(short));
            block_on(io.write_durable(at(4), full(4, 8), len)).0.unwrap();
        }
        for short in [512, 4096, len - 512] {
            disk.faults().add(Call::Read, 0, Fault::Short(short));
            let (read, buf) = block_on(io.read(at(2), Buf::zeroed(len)));
            read.unwrap();
            assert_eq!(bytes_of_blocks(&buf), [Some(7), Some(7), Some(8), Some(8)]);
        }
        assert_eq!(disk.faults().injected().short, 13);
        assert_eq!(io.stats().short_transfers, 13);
        let image = disk.image(disk.crash_points() - 1, Choice::None);
        let blocks = bytes_of_blocks(&image.contents(&place.path).unwrap());
        assert_eq!(blocks[4..8], [Some(8); 4], "a resumed durable write is durable whole");
    });
}

#[test]
fn a_transfer_of_nothing_is_an_error() {
    simulated(|place, disk| {
        let io = place.fresh();
        disk.faults().add(Call::Write, 0, Fault::Short(0));
        let (written, _) = block_on(io.write(at(0), full(1, 7), BLOCK_BYTES));
        assert_eq!(written.unwrap_err().kind(), ErrorKind::WriteZero);
        disk.faults().add(Call::Read, 0, Fault::Short(0));
        let (read, _) = block_on(io.read(at(0), full(1, 7)));
        assert_eq!(read.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn interrupted_calls_are_made_again() {
    simulated(|place, disk| {
        let io = place.fresh();
        for call in [Call::Read, Call::Write, Call::Sync, Call::Grow, Call::Shrink] {
            disk.faults().add(call, 0, Fault::Interrupt);
        }
        block_on(io.write(at(0), full(1, 7), BLOCK_BYTES)).0.unwrap();
        block_on(io.read(at(0), full(1, 0))).0.unwrap();
        block_on(io.sync()).unwrap();
        block_on(io.grow(at(1000))).unwrap();
        block_on(io.shrink(at(900))).unwrap();
        assert_eq!(disk.faults().injected().interrupted, 5);
        assert_eq!(io.stats().resubmitted, 5);
    });
}

#[test]
fn a_full_disk_refuses_growth_and_nothing_else() {
    simulated(|place, disk| {
        let io = place.fresh();
        disk.faults().set_capacity(Some(io.len_bytes()));
        let grown = block_on(io.grow(at(1000)));
        assert_eq!(grown.unwrap_err().kind(), ErrorKind::StorageFull);
        block_on(io.write(at(0), full(1, 7), BLOCK_BYTES)).0.unwrap();
        disk.faults().set_capacity(None);
        block_on(io.grow(at(1000))).unwrap();
        assert_eq!(io.len_bytes(), at(1000));
    });
}

#[test]
fn a_cut_that_failed_is_made_right_by_growth() {
    simulated(|place, disk| {
        let io = place.fresh();
        disk.faults().add(Call::Shrink, 0, Fault::Fail(Times::Once));
        let cut = block_on(io.shrink(at(5)));
        assert_eq!(cut.unwrap_err().raw_os_error(), Some(EIO));
        assert_eq!(io.len_bytes(), at(5));
        assert!(place.contents().len() as u64 > at(5));
        block_on(io.grow(at(1000))).unwrap();
        assert_eq!((io.len_bytes(), place.contents().len() as u64), (at(1000), at(1000)));
    });
}

#[test]
fn what_is_cut_off_is_room_for_others() {
    simulated(|place, disk| {
        let io = place.fresh();
        block_on(io.grow(at(1000))).unwrap();
        disk.faults().set_capacity(Some(at(1000)));
        assert!(block_on(io.grow(at(1001))).is_err());
        block_on(io.shrink(at(500))).unwrap();
        assert_eq!(place.contents().len() as u64, at(500));
        block_on(io.grow(at(1000))).unwrap();
    });
}

#[test]
fn a_lying_device_lies_as_told() {
    simulated(|place, disk| {
        let io = place.fresh();
        let faults = disk.faults();
        faults.add(Call::Write, 0, Fault::Lose);
        block_on(io.write(at(0), full(1, 7), BLOCK_BYTES)).0.unwrap();
        faults.add(Call::Write, 0, Fault::Misdirect(at(9)));
        block_on(io.write(at(1), full(1, 8), BLOCK_BYTES)).0.unwrap();
        faults.add(Call::Read, 0, Fault::Flip { byte: 10, mask: 3 });
        faults.add_bad_range(at(20)..at(21));
        let (_, buf) = block_on(io.read(at(0), full(10, 1)));
        assert_eq!((buf[0], buf[10], buf[BLOCK_BYTES]), (0, 3, 0));
        assert_eq!(buf[9 * BLOCK_BYTES], 8);
        assert!(block_on(io.read(at(18), full(4, 0))).0.is_err());
        let injected = faults.injected();
        let counts = (injected.lost, injected.misdirected, injected.flipped, injected.bad);
        assert_eq!(counts, (1, 1, 1, 1));
    });
}
