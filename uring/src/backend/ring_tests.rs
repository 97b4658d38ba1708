//! What the ring does and when, without an owner.

use super::*;
use crate::BLOCK_BYTES;
use crate::backend::setup;
use crate::calls::Calls;
use crate::op::pair;
use crate::queue::{Queue, Request};
use crate::report::SyncMethod;
use crate::settings::Coalesce;
use crate::work::tests::part;

#[test]
fn a_file_is_cut_off_when_no_write_is_in_flight() {
    const BLOCKS: u64 = 64;
    let directory = tempfile::tempdir().expect("there is a directory");
    let file = Arc::new(OsFile::create(&directory.path().join("a")).expect("a file is made"));
    let len_bytes = BLOCKS * BLOCK_BYTES as u64;
    file.truncate(len_bytes).expect("it grows");
    let limits = Limits::of_depth(32);
    // Where the kernel refuses, others see to it that the ring is not used.
    let Ok(ready) = setup::prepare(&file, &file, limits) else { return };
    let queue = Queue::new(limits, Coalesce::Off);
    let core = Arc::new(Core::new(queue, SyncMethod::DsyncWrite, len_bytes));
    let mut ring = Ring::new(ready, file.clone(), file.clone(), core.clone(), limits);
    let cut_bytes = len_bytes / 2;
    for write in [0, 2, 4] {
        core.push(Request::Write(part(write, 1)));
    }
    ring.pump();
    assert_eq!(ring.in_flight(), 3);
    core.push(Request::Resize(Resize::Shrink(cut_bytes), pair().0));
    core.push(Request::Write(part(6, 1)));
    ring.pump();
    assert_eq!(ring.flights.len(), 3, "nothing is begun before");
    while !ring.flights.is_empty() {
        assert!(ring.cut.is_some(), "it waits for the writes");
        assert_eq!(file.len_bytes().expect("it has a length"), len_bytes);
        ring.wait(None).expect("the kernel answers");
        ring.settle();
    }
    assert_eq!((core.len_bytes(), file.len_bytes().expect("as before")), (cut_bytes, cut_bytes));
    // What came behind it goes on.
    ring.pump();
    assert_eq!(ring.in_flight(), 1);
    while ring.in_flight() > 0 {
        ring.wait(None).expect("the kernel answers");
        ring.settle();
    }
    assert!(core.is_idle());
    Box::new(ring).stop();
}
