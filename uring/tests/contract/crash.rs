//! What power loss leaves, as the device model says.

use std::path::Path;

use futures::executor::block_on;
use ringdb_uring::sim::{Call, Choice, Disk, Fault, Times, Unsynced};
use ringdb_uring::{BLOCK_BYTES, Io};

use crate::place::{Place, at, bytes_of_blocks, full, simulated};

fn write(io: &Io, block: usize, byte: u8) {
    block_on(io.write(at(block), full(1, byte), BLOCK_BYTES)).0.unwrap();
}

/// Block bytes after power loss at the end of the trace.
fn blocks(disk: &Disk, path: &Path, choice: Choice) -> Vec<Option<u8>> {
    let image = disk.image(disk.crash_points() - 1, choice);
    bytes_of_blocks(&image.contents(path).unwrap())[..4].to_vec()
}

/// Two unsynced writes over one that was synced.
fn two_unsynced(place: &Place) -> Io {
    let io = place.fresh();
    write(&io, 1, 1);
    block_on(io.sync()).unwrap();
    write(&io, 1, 2);
    write(&io, 2, 3);
    io
}

#[test]
fn each_choice_keeps_what_it_says() {
    simulated(|place, disk| {
        let _io = two_unsynced(&place);
        let check = |choice, expected: [u8; 2]| {
            assert_eq!(blocks(&disk, &place.path, choice)[1..3], expected.map(Some), "{choice:?}");
        };
        check(Choice::None, [1, 0]);
        check(Choice::All, [2, 3]);
        check(Choice::Only(0), [2, 0]);
        check(Choice::Only(1), [1, 3]);
        check(Choice::AllBut(0), [1, 3]);
        check(Choice::AllBut(1), [2, 0]);
    });
}

#[test]
fn a_torn_write_keeps_its_first_sectors_or_its_last() {
    simulated(|place, disk| {
        let _io = two_unsynced(&place);
        let check = |choice, first: u8, last: u8, other: u8| {
            let image = disk.image(disk.crash_points() - 1, choice);
            let contents = image.contents(&place.path).unwrap();
            let block = &contents[BLOCK_BYTES..2 * BLOCK_BYTES];
            assert!(block[..3 * 512].iter().all(|&byte| byte == first), "{choice:?}");
            assert!(block[3 * 512..].iter().all(|&byte| byte == last), "{choice:?}");
            assert_eq!(contents.get(2 * BLOCK_BYTES).copied().unwrap_or(0), other, "{choice:?}");
        };
        check(Choice::Torn { change: 0, sector: 3 }, 2, 1, 3);
        check(Choice::TornHead { change: 0, sector: 3 }, 1, 2, 3);
        check(Choice::TornAlone { change: 0, sector: 3 }, 2, 1, 0);
    });
}

#[test]
fn the_unsynced_changes_are_told() {
    simulated(|place, disk| {
        let io = two_unsynced(&place);
        block_on(io.grow(at(500))).unwrap();
        let write = |block| Unsynced::Write { offset: at(block), len_bytes: BLOCK_BYTES };
        let expected = [write(1), write(2), Unsynced::Size(at(500))];
        assert_eq!(disk.unsynced(disk.crash_points() - 1), expected);
        block_on(io.sync()).unwrap();
        assert_eq!(disk.unsynced(disk.crash_points() - 1), []);
    });
}

#[test]
fn seeds_give_every_mixture() {
    simulated(|place, disk| {
        let _io = two_unsynced(&place);
        let mut whole = std::collections::BTreeSet::new();
        let mut torn = 0;
        for seed in 0..500 {
            match blocks(&disk, &place.path, Choice::Seeded(seed))[1..3] {
                [Some(first), Some(second)] => drop(whole.insert((first, second))),
                _ => torn += 1,
            }
        }
        assert_eq!(whole.len(), 4);
        assert!(torn > 100);
        let again = blocks(&disk, &place.path, Choice::Seeded(7));
        assert_eq!(again, blocks(&disk, &place.path, Choice::Seeded(7)));
    });
}

#[test]
fn content_and_length_survive_on_their_own() {
    simulated(|place, disk| {
        let io = place.fresh();
        let long = io.len_bytes() + at(1);
        block_on(io.grow(long)).unwrap();
        block_on(io.write(long - at(1), full(1, 7), BLOCK_BYTES)).0.unwrap();
        let lens = |choice| {
            let contents = disk.image(disk.crash_points() - 1, choice).contents(&place.path);
            contents.map(|contents| (contents.len() as u64, contents.last().copied())).unwrap()
        };
        assert_eq!(lens(Choice::Only(0)), (long, Some(0)));
        assert_eq!(lens(Choice::Only(1)), (long - at(1), Some(0)));
        assert_eq!(lens(Choice::All), (long, Some(7)));
    });
}

#[test]
fn what_a_failed_sync_covered_is_never_sure() {
    simulated(|place, disk| {
        let io = place.fresh();
        write(&io, 1, 1);
        disk.faults().add(Call::Sync, 0, Fault::Fail(Times::Once));
        assert!(block_on(io.sync()).is_err());
        // The device does as it is told; that nobody takes it for a success is another matter.
        block_on(io.sync()).unwrap_err();
        assert_eq!(blocks(&disk, &place.path, Choice::None)[1], Some(0));
        assert_eq!(blocks(&disk, &place.path, Choice::All)[1], Some(1));
        write(&io, 1, 2);
        block_on(io.sync()).unwrap_err();
        assert_eq!(blocks(&disk, &place.path, Choice::None)[1], Some(2));
        assert_eq!(blocks(&disk, &place.path, Choice::All)[1], Some(2));
    });
}

#[test]
fn what_a_failed_write_wrote_is_undefined() {
    simulated(|place, disk| {
        let io = place.fresh();
        disk.faults().add(Call::Write, 0, Fault::Fail(Times::Once));
        assert!(block_on(io.write(at(1), full(1, 1), BLOCK_BYTES)).0.is_err());
        block_on(io.sync()).unwrap();
        assert_eq!(blocks(&disk, &place.path, Choice::None)[1], Some(0));
        assert_eq!(blocks(&disk, &place.path, Choice::All)[1], Some(1));
    });
}

#[test]
fn a_durable_write_is_not_undone_by_an_older_one() {
    simulated(|place, disk| {
        let io = place.fresh();
        block_on(io.write(at(1), full(2, 1), 2 * BLOCK_BYTES)).0.unwrap();
        block_on(io.write_durable(at(1), full(1, 2), BLOCK_BYTES)).0.unwrap();
        assert_eq!(blocks(&disk, &place.path, Choice::None)[1..3], [Some(2), Some(0)]);
        assert_eq!(blocks(&disk, &place.path, Choice::All)[1..3], [Some(2), Some(1)]);
    });
}

#[test]
fn marks_stand_where_they_were_made() {
    simulated(|place, disk| {
        let io = place.fresh();
        disk.mark(1);
        write(&io, 1, 1);
        let between = disk.crash_points() - 1;
        disk.mark(2);
        assert_eq!(disk.marks(between), [1]);
        assert_eq!(disk.marks(between + 1), [1, 2]);
        assert_eq!(disk.describe(between + 1), "mark 2");
    });
}

#[test]
fn images_of_images_crash_again() {
    simulated(|place, disk| {
        let io = two_unsynced(&place);
        let second = disk.image(disk.crash_points() - 1, Choice::Only(1));
        block_on(io.close());
        let mut settings = place.settings.clone();
        settings.backend = ringdb_uring::BackendChoice::Sim(second.clone());
        let io = Io::open(&place.path, &settings).unwrap();
        write(&io, 3, 9);
        assert_eq!(blocks(&second, &place.path, Choice::None)[1..], [Some(1), Some(3), Some(0)]);
        assert_eq!(blocks(&second, &place.path, Choice::All)[1..], [Some(1), Some(3), Some(9)]);
    });
}

#[test]
fn points_may_be_visited_in_any_order() {
    simulated(|place, disk| {
        let _io = two_unsynced(&place);
        let all: Vec<_> = (0..disk.crash_points())
            .map(|point| disk.image(point, Choice::All).contents(&place.path))
            .collect();
        for point in (0..disk.crash_points()).rev() {
            assert!(disk.image(point, Choice::All).contents(&place.path) == all[point]);
        }
    });
}

#[test]
fn damage_on_the_medium_is_read() {
    simulated(|place, disk| {
        let io = place.fresh();
        let mut contents = disk.contents(&place.path).unwrap();
        contents[5] ^= 1;
        disk.set_contents(&place.path, &contents);
        let (read, buf) = block_on(io.read(0, full(1, 0)));
        read.unwrap();
        assert_eq!(buf[5], 1);
    });
}

#[test]
fn a_cut_survives_or_not_and_takes_nothing_that_is_sure_behind_it() {
    simulated(|place, disk| {
        let io = place.fresh();
        let (long, short) = (at(400), at(200));
        block_on(io.grow(long)).unwrap();
        block_on(io.sync()).unwrap();
        block_on(io.shrink(short)).unwrap();
        assert_eq!(disk.unsynced(disk.crash_points() - 1), [Unsynced::Cut(short)]);
        let len = |choice| {
            let image = disk.image(disk.crash_points() - 1, choice);
            image.contents(&place.path).unwrap().len() as u64
        };
        assert_eq!((len(Choice::None), len(Choice::All)), (long, short));
        disk.faults().add(Call::Sync, 0, Fault::Fail(Times::Once));
        assert!(block_on(io.sync()).is_err());
        assert_eq!((len(Choice::None), len(Choice::All)), (long, short), "undefined");
        // Now no sync is called a success, and the device does what it is told all the same.
        block_on(io.grow(at(300))).unwrap();
        block_on(io.sync()).unwrap_err();
        assert_eq!((len(Choice::None), len(Choice::All)), (long, at(300)));
        block_on(io.shrink(short)).unwrap();
        block_on(io.sync()).unwrap_err();
        assert_eq!((len(Choice::None), len(Choice::All)), (short, short));
    });
}
