//! What completions mean for a flight, result by result.

use std::time::Instant;

use super::*;
use crate::BLOCK_BYTES;
use crate::queue::{Limits, Queue};
use crate::settings::Coalesce;
use crate::work::tests::part;

const BLOCK: i32 = BLOCK_BYTES as i32;

fn core() -> Core {
    let queue = Queue::new(Limits::of_depth(8), Coalesce::On);
    Core::new(queue, SyncMethod::DsyncWrite, 0)
}

fn words(landing: Landing) -> String {
    match landing {
        Landing::Again => "again".into(),
        Landing::Over(Ok(())) => "done".into(),
        Landing::Over(Err(error)) => match error.raw_os_error() {
            Some(code) => format!("error {code}"),
            None => format!("{:?}", error.kind()),
        },
    }
}

/// Lands these results one after the other on a flight of two blocks; what each one means.
fn check(work: fn() -> Work, results: &[i32], expected: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let file = OsFile::create(&directory.path().join("a")).unwrap();
    let core = core();
    let mut flight = Flight::new(work());
    let landings: Vec<_> =
        results.iter().map(|&result| words(flight.landed(result, &file, &core))).collect();
    assert_eq!(landings, expected);
}

fn read() -> Work {
    Work::Read(part(1, 2))
}

fn write() -> Work {
    Work::Write(Run { epoch: 0, offset: 0, parts: vec![part(0, 1), part(1, 1)] })
}

fn durable() -> Work {
    Work::Durable(0, SyncMethod::DsyncWrite, part(1, 2))
}

fn sync_work() -> Work {
    Work::Sync(vec![])
}

#[test]
fn whole_transfers_are_done() {
    for work in [read, write, durable] {
        check(work, &[2 * BLOCK], &["done"]);
    }
    check(sync_work, &[0], &["done"]);
}

#[test]
fn short_writes_go_on_until_they_are_whole() {
    for work in [write, durable] {
        for short in [1, 511, 512, BLOCK, 2 * BLOCK - 1] {
            check(work, &[short, 2 * BLOCK - short], &["again", "done"]);
        }
        check(work, &[1, 1, 2 * BLOCK - 2], &["again", "again", "done"]);
    }
}

#[test]
fn short_reads_go_on_at_sectors_and_end_with_the_file_elsewhere() {
    check(read, &[512, 2 * BLOCK - 512], &["again", "done"]);
    check(read, &[BLOCK, 0], &["again", "UnexpectedEof"]);
    for short in [0, 1, 511, 2 * BLOCK - 1] {
        check(read, &[short], &["UnexpectedEof"]);
    }
}

#[test]
fn a_write_of_nothing_is_an_error() {
    for work in [write, durable] {
        check(work, &[0], &["WriteZero"]);
    }
}

#[test]
fn errors_are_over_at_once() {
    for work in [read, write, durable, sync_work] {
        check(work, &[-libc::EIO], &["error 5"]);
    }
}

#[test]
fn what_was_cancelled_or_put_off_is_submitted_again() {
    for work in [read, write, durable] {
        let put_off = [-libc::ECANCELED, -libc::EAGAIN, -libc::EINTR, 2 * BLOCK];
        check(work, &put_off, &["again", "again", "again", "done"]);
    }
}

#[test]
fn what_is_put_off_for_ever_fails() {
    let core = core();
    let directory = tempfile::tempdir().unwrap();
    let file = OsFile::create(&directory.path().join("a")).unwrap();
    let mut flight = Flight::new(read());
    for _ in 0..TRANSIENT_MAX {
        assert_eq!(words(flight.landed(-libc::EAGAIN, &file, &core)), "again");
    }
    assert_eq!(words(flight.landed(-libc::EAGAIN, &file, &core)), "error 11");
}

#[test]
fn the_vectors_of_a_resumed_run_skip_what_is_done() {
    let core = core();
    let directory = tempfile::tempdir().unwrap();
    let file = OsFile::create(&directory.path().join("a")).unwrap();
    let parts = vec![part(0, 1), part(1, 2), part(3, 1)];
    let mut flight = Flight::new(Work::Write(Run { epoch: 0, offset: 0, parts }));
    let lens = |flight: &mut Flight| {
        flight.entry(&core);
        flight.vectors.iter().map(|vector| vector.iov_len as i32).collect::<Vec<_>>()
    };
    assert_eq!(lens(&mut flight), [BLOCK, 2 * BLOCK, BLOCK]);
    for (count, expected) in [
        (100, vec![BLOCK - 100, 2 * BLOCK, BLOCK]),
        (BLOCK - 100, vec![2 * BLOCK, BLOCK]),
        (2 * BLOCK + 1, vec![BLOCK - 1]),
    ] {
        assert_eq!(words(flight.landed(count, &file, &core)), "again");
        assert_eq!(lens(&mut flight), expected);
    }
    assert_eq!(words(flight.landed(BLOCK - 1, &file, &core)), "done");
}

/// As [`check`], for a write of the feed.
fn check_feed(method: SyncMethod, results: &[i32], expected: &[&str]) {
    let core = core();
    let buf = Buf::zeroed(2 * BLOCK_BYTES);
    let len = buf.len();
    let write = FeedWrite { offset: 0, buf, len, method, started: Instant::now() };
    let mut flight = FeedFlight::new(write, 1);
    let landings: Vec<_> =
        results.iter().map(|&result| words(flight.landed(result, &core))).collect();
    assert_eq!(landings, expected);
}

#[test]
fn a_write_of_the_feed_goes_on_until_it_is_whole_and_synced() {
    let (one, two) = (SyncMethod::DsyncWrite, SyncMethod::WriteThenSync);
    check_feed(one, &[2 * BLOCK], &["done"]);
    check_feed(one, &[512, 2 * BLOCK - 512], &["again", "done"]);
    check_feed(two, &[2 * BLOCK, 0], &["again", "done"]);
    check_feed(two, &[BLOCK, BLOCK, 0], &["again", "again", "done"]);
    check_feed(two, &[2 * BLOCK, -libc::EIO], &["again", "error 5"]);
    check_feed(two, &[2 * BLOCK, -libc::ECANCELED, 0], &["again", "again", "done"]);
    check_feed(one, &[-libc::EIO], &["error 5"]);
    check_feed(one, &[0], &["WriteZero"]);
}
