//! What the ring does and when, without an owner.

use futures::FutureExt;

use super::*;
use crate::BLOCK_BYTES;
use crate::backend::setup;
use crate::calls::Calls;
use crate::op::pair;
use crate::queue::{Queue, Request};
use crate::report::SyncMethod;
use crate::settings::Coalesce;
use crate::work::tests::part;

/// A ring for a file of so many bytes; nothing where the kernel refuses one.
fn ring(len_bytes: u64) -> Option<(tempfile::TempDir, Arc<OsFile>, Arc<Core>, Ring)> {
    let directory = tempfile::tempdir().expect("there is a directory");
    let file = Arc::new(OsFile::create(&directory.path().join("a")).expect("a file is made"));
    file.truncate(len_bytes).expect("it grows");
    let limits = Limits::of_depth(32);
    let ready = setup::prepare(&file, &file, limits).ok()?;
    let queue = Queue::new(limits, Coalesce::Off);
    let core = Arc::new(Core::new(queue, SyncMethod::DsyncWrite, len_bytes));
    let ring = Ring::new(ready, file.clone(), file.clone(), core.clone(), limits);
    Some((directory, file, core, ring))
}

#[test]
fn a_file_is_cut_off_when_no_write_is_in_flight() {
    let len_bytes = 64 * BLOCK_BYTES as u64;
    let cut_bytes = len_bytes / 2;
    let Some((_directory, file, core, mut ring)) = ring(len_bytes) else { return };
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

#[test]
fn who_waits_for_a_cut_is_told_when_the_ring_is_given_up() {
    let len_bytes = 64 * BLOCK_BYTES as u64;
    let Some((_directory, file, core, mut ring)) = ring(len_bytes) else { return };
    core.push(Request::Write(part(0, 1)));
    ring.pump();
    let (reply, pending) = pair();
    core.push(Request::Resize(Resize::Shrink(len_bytes / 2), reply));
    ring.pump();
    assert!(ring.cut.is_some());
    assert!(Box::new(ring).abandon(&io::Error::other("it broke")).is_none());
    let result = pending.shrink().now_or_never().expect("it is answered");
    assert!(result.is_err());
    assert_eq!(file.len_bytes().expect("it has a length"), len_bytes);
}
