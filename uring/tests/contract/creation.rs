//! Creating a file, all or nothing.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;

use ringdb_uring::sim::{Call, Choice, Fault, Times};
use ringdb_uring::{BLOCK_BYTES, Io};

use crate::place::{everywhere, on_files, simulated};

const LEN_BYTES: u64 = 3 << 20;
const CONTENTS: [(u64, &[u8]); 2] = [(0, b"first"), (1 << 20, b"second")];

fn expected() -> Vec<u8> {
    let mut expected = vec![0; LEN_BYTES as usize];
    expected[..5].copy_from_slice(b"first");
    expected[1 << 20..][..6].copy_from_slice(b"second");
    expected
}

#[test]
fn a_new_file_has_its_contents_over_zeros() {
    everywhere(|place| {
        Io::create(&place.path, &place.settings, LEN_BYTES, &CONTENTS).unwrap();
        assert!(place.contents() == expected());
        assert_eq!(place.open().len_bytes(), LEN_BYTES);
    });
}

#[test]
fn a_name_that_is_taken_is_left_alone() {
    everywhere(|place| {
        Io::create(&place.path, &place.settings, LEN_BYTES, &CONTENTS).unwrap();
        let error = Io::create(&place.path, &place.settings, 4096, &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(place.contents() == expected());
    });
}

#[test]
fn a_new_file_is_for_its_owner_only_and_alone() {
    on_files(|place| {
        Io::create(&place.path, &place.settings, LEN_BYTES, &CONTENTS).unwrap();
        let mode = std::fs::metadata(&place.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(place.path.parent().unwrap()).unwrap().count(), 1);
    });
}

#[test]
fn a_missing_directory_is_told() {
    on_files(|place| {
        let path = place.path.join("missing").join("a.ring");
        let error = Io::create(&path, &place.settings, LEN_BYTES, &CONTENTS).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.step(), "create a temporary file");
    });
}

#[test]
fn a_directory_in_the_way_is_told() {
    on_files(|place| {
        std::fs::create_dir(&place.path).unwrap();
        let error = Io::create(&place.path, &place.settings, LEN_BYTES, &CONTENTS).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    });
}

#[test]
fn a_failed_creation_leaves_nothing() {
    simulated(|place, disk| {
        for call in [Call::Write, Call::Sync, Call::Grow] {
            for nth in 0..2 {
                disk.faults().add(call, nth, Fault::Fail(Times::Once));
                let created = Io::create(&place.path, &place.settings, LEN_BYTES, &CONTENTS);
                disk.faults().clear();
                // The sync of the directory comes after the file has its name.
                let named = disk.paths() == [place.path.clone()];
                assert!(named || disk.paths().is_empty(), "{:?}", disk.paths());
                assert_eq!(created.is_err(), (call, nth) != (Call::Grow, 1), "{call:?} {nth}");
                if named {
                    return;
                }
            }
        }
        disk.faults().set_capacity(Some(LEN_BYTES - 1));
        let created = Io::create(&place.path, &place.settings, LEN_BYTES, &CONTENTS);
        assert_eq!(created.unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(disk.paths().is_empty());
    });
}

#[test]
fn power_loss_while_creating_leaves_no_file_or_the_whole_one() {
    simulated(|place, disk| {
        Io::create(&place.path, &place.settings, LEN_BYTES, &CONTENTS).unwrap();
        let mut present = 0;
        for point in 0..disk.crash_points() {
            let changes = disk.unsynced(point).len();
            let mut choices = vec![Choice::None, Choice::All];
            choices.extend((0..changes).flat_map(|at| [Choice::Only(at), Choice::AllBut(at)]));
            choices.extend((0..50).map(Choice::Seeded));
            for choice in choices {
                let contents = disk.image(point, choice).contents(&place.path);
                let what = disk.describe(point);
                assert!(contents.is_none_or(|found| found == expected()), "{what}: {choice:?}");
                present += usize::from(disk.image(point, choice).contents(&place.path).is_some());
            }
        }
        assert!(present > 0);
        let last = disk.image(disk.crash_points() - 1, Choice::None);
        assert_eq!(last.paths(), [place.path]);
        assert_eq!(LEN_BYTES % BLOCK_BYTES as u64, 0);
    });
}

#[test]
fn a_file_written_under_another_name_takes_its_place_without_replacing() {
    everywhere(|place| {
        let (path, settings) = (&place.path, &place.settings);
        let beside = Io::name_beside(path, settings, "restore").unwrap();
        assert!(!Io::exists(&beside, settings) && !Io::exists(path, settings));
        assert_eq!(beside.parent(), path.parent());
        let absent = Io::rename(&beside, path, settings).unwrap_err();
        assert_eq!(absent.kind(), ErrorKind::NotFound);
        Io::create(&beside, settings, LEN_BYTES, &CONTENTS).unwrap();
        Io::rename(&beside, path, settings).unwrap();
        assert!(!Io::exists(&beside, settings) && Io::exists(path, settings));
        assert!(place.contents() == expected());
        Io::create(&beside, settings, 4096, &[]).unwrap();
        let taken = Io::rename(&beside, path, settings).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        Io::remove(&beside, settings).unwrap();
        assert!(!Io::exists(&beside, settings) && place.contents() == expected());
    });
}
