//! One opener at a time.

use std::error::Error;
use std::io::{self, ErrorKind};

use futures::executor::block_on;
use ringdb_uring::{Io, Locked};

use crate::place::{everywhere, on_files};

#[test]
fn the_second_opener_is_told_that_the_file_is_locked() {
    everywhere(|place| {
        let io = place.fresh();
        let error = Io::open(&place.path, &place.settings).unwrap_err();
        assert!(error.is_locked());
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let cause = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert!(cause.get_ref().unwrap().is::<Locked>());
        block_on(io.close());
        drop(place.open());
    });
}

#[test]
fn links_are_the_same_file() {
    on_files(|place| {
        let io = place.fresh();
        let hard = place.path.with_extension("hard");
        let soft = place.path.with_extension("soft");
        std::fs::hard_link(&place.path, &hard).unwrap();
        std::os::unix::fs::symlink(&place.path, &soft).unwrap();
        assert!(Io::open(&hard, &place.settings).unwrap_err().is_locked());
        assert!(Io::open(&soft, &place.settings).unwrap_err().is_locked());
        block_on(io.close());
        block_on(Io::open(&hard, &place.settings).unwrap().close());
        block_on(Io::open(&soft, &place.settings).unwrap().close());
    });
}

#[test]
fn a_lock_of_another_process_is_respected() {
    on_files(|place| {
        place.create();
        let other = std::fs::File::open(&place.path).unwrap();
        rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
        assert!(Io::open(&place.path, &place.settings).unwrap_err().is_locked());
        drop(other);
        drop(place.open());
    });
}

#[test]
fn what_is_not_there_or_no_file_is_not_opened() {
    everywhere(|place| {
        let error = Io::open(&place.path, &place.settings).unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::NotFound, "open the file"));
    });
    on_files(|place| {
        let parent = place.path.parent().unwrap();
        assert!(Io::open(parent, &place.settings).is_err());
        assert!(Io::open("/dev/null".as_ref(), &place.settings).is_err());
    });
}
