//! When commits resolve, in which order, and what each durability means to its caller.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::future::{join_all, select, try_join_all};
use futures::poll;
use ringdb::sim::Disk;
use ringdb::{ColumnFamily, ColumnFamilyOptions, Db, Durability, ErrorKind, Options, Seq};

use crate::fixture::{Fixture, Watchdog, block_on, eventually, family, get, keys, put};

#[test]
fn submit_order_is_seq_order_and_seqs_are_dense() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let mut commits = Vec::new();
    for n in 0..200u32 {
        let mut batch = db.batch();
        batch.put(&rows, "n", n.to_be_bytes());
        if n % 3 == 0 {
            batch.durability(Durability::Buffered);
        }
        commits.push(block_on(batch.submit()).unwrap());
    }
    let seqs: Vec<_> = commits.iter().map(|commit| commit.seq().0).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");
    let resolved = block_on(try_join_all(commits)).unwrap();
    assert!(resolved.iter().map(|seq| seq.0).eq(seqs));
    assert_eq!(get(&rows, "n"), Some(199u32.to_be_bytes().to_vec()));
}

#[test]
fn a_resolved_commit_is_in_every_later_snapshot() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    for n in 0..200u32 {
        let durability = [Durability::Immediate, Durability::Buffered][n as usize % 2];
        let seq = block_on(rows.with_durability(durability).put("n", n.to_be_bytes())).unwrap();
        let snapshot = db.snapshot();
        assert!(snapshot.seq() >= seq);
        let value = block_on(snapshot.get(&rows, "n")).unwrap().expect("it was put");
        assert_eq!(*value, n.to_be_bytes());
        assert_eq!(get(&rows, "n"), Some(n.to_be_bytes().to_vec()));
    }
}

#[test]
fn visible_resolves_when_readers_see_the_commit() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    for durability in [Durability::Immediate, Durability::Buffered] {
        let mut batch = db.batch();
        batch.put(&rows, "a", format!("{durability:?}")).durability(durability);
        let commit = block_on(batch.submit()).unwrap();
        block_on(commit.visible()).unwrap();
        assert_eq!(get(&rows, "a"), Some(format!("{durability:?}").into_bytes()));
        assert!(db.snapshot().seq() >= commit.seq());
        block_on(commit).unwrap();
    }
}

#[test]
fn wait_resolves_a_commit_without_an_executor() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let mut batch = db.batch();
    let commit = block_on(batch.put(&rows, "a", "1").submit()).unwrap();
    let seq = commit.seq();
    assert_eq!(commit.wait().unwrap(), seq);
    assert_eq!(get(&rows, "a").as_deref(), Some(&b"1"[..]));
}

#[test]
fn a_thread_that_waits_inside_of_a_poll_sees_its_commit_through() {
    let _watchdog = Watchdog::new("waits inside of a poll");
    let Fixture { place: _place, db, rows } = Fixture::new();
    // An idle log is sealed, and then nobody looks of himself.
    let sleeps = || {
        let written = || db.metrics().log_bytes;
        let before = written();
        put(&rows, "a", "a block, and then the seal's");
        assert!(eventually(|| written() >= before + 2 * 4096));
    };
    for n in 0..3u32 {
        sleeps();
        let mut batch = db.batch();
        batch.put(&rows, "b", n.to_be_bytes());
        // The owner is told of the first commit of a group by whoever ordered it: here, when the outer poll ends.
        block_on(async { batch.try_submit().unwrap().wait().unwrap() });
        sleeps();
        block_on(async {
            let mut first = pin!(rows.put("b", n.to_be_bytes()));
            assert!(poll!(&mut first).is_pending());
            rows.put("c", n.to_be_bytes()).wait().unwrap();
            first.await.unwrap();
        });
        assert_eq!(get(&rows, "c"), Some(n.to_be_bytes().to_vec()));
    }
}

#[test]
fn waiting_threads_share_groups() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    std::thread::scope(|scope| {
        for writer in 0..8u32 {
            let (db, rows) = (&db, &rows);
            scope.spawn(move || {
                for n in 0..100u32 {
                    let mut batch = db.batch();
                    batch.put(rows, [writer.to_be_bytes(), n.to_be_bytes()].concat(), "");
                    block_on(batch.submit()).unwrap().wait().unwrap();
                }
            });
        }
    });
    assert_eq!(block_on(rows.len()).unwrap(), 800);
    let metrics = db.metrics();
    assert!(metrics.groups <= metrics.commits, "{metrics:?}");
}

#[test]
fn durable_resolves_for_any_seq_that_was_given_out() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let buffered = rows.with_durability(Durability::Buffered);
    let seqs: Vec<_> =
        (0..50u32).map(|n| block_on(buffered.put("n", n.to_be_bytes())).unwrap()).collect();
    for seq in seqs.iter().rev().chain(&seqs) {
        block_on(db.durable(*seq)).unwrap();
    }
    block_on(db.durable(Seq(0))).unwrap();
}

#[test]
fn durable_refuses_a_seq_from_the_future() {
    let Fixture { place: _place, db, .. } = Fixture::new();
    let outcome = block_on(db.durable(Seq(u64::MAX)));
    crate::fixture::fails(outcome, ErrorKind::InvalidArgument);
}

#[test]
fn sync_covers_what_came_before_it() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let unlogged =
        block_on(db.create_column_family("cache", ColumnFamilyOptions::new().unlogged())).unwrap();
    let seq = block_on(rows.with_durability(Durability::Buffered).put("a", "1")).unwrap();
    put(&unlogged, "b", "2");
    block_on(db.sync()).unwrap();
    block_on(db.durable(seq)).unwrap();
    block_on(db.sync()).unwrap();
}

#[test]
fn an_unlogged_family_is_whole_after_a_clean_close() {
    let fixture = Fixture::new();
    let options = ColumnFamilyOptions::new().unlogged();
    let cache = block_on(fixture.db.create_column_family("cache", options)).unwrap();
    for n in 0..1000u32 {
        put(&cache, n.to_be_bytes(), "value");
    }
    drop(cache);
    let fixture = fixture.reopened();
    let cache = family(&fixture.db, "cache");
    assert_eq!(block_on(cache.len()).unwrap(), 1000);
    let stat = fixture.db.stat();
    let logged = |name: &str| stat.families.iter().find(|family| family.name == name).unwrap();
    assert!(!logged("cache").logged, "the option lives in the catalog");
    assert!(logged("rows").logged);
}

#[test]
fn commits_of_an_unlogged_family_cost_no_log() {
    let Fixture { place: _place, db, .. } = Fixture::new();
    let options = ColumnFamilyOptions::new().unlogged();
    let cache = block_on(db.create_column_family("cache", options)).unwrap();
    put(&cache, "warm", "up");
    let before = db.metrics().log_bytes;
    for n in 0..100u32 {
        put(&cache, n.to_be_bytes(), [0; 1000]);
    }
    let written = db.metrics().log_bytes - before;
    assert!(written < 50_000, "{written} log bytes for 100 KB of unlogged rows");
}

#[test]
fn a_batch_over_a_logged_and_an_unlogged_family_is_whole() {
    let fixture = Fixture::new();
    let options = ColumnFamilyOptions::new().unlogged();
    let cache = block_on(fixture.db.create_column_family("cache", options)).unwrap();
    let mut batch = fixture.db.batch();
    batch.put(&fixture.rows, "a", "1").put(&cache, "a", "1");
    block_on(batch.commit()).unwrap();
    assert_eq!(keys(cache.iter()), ["a"]);
    drop(cache);
    let fixture = fixture.reopened();
    assert_eq!(keys(family(&fixture.db, "cache").iter()), ["a"]);
}

#[test]
fn concurrent_buffered_and_immediate_commits_all_resolve() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let writes = (0..600u32).map(|n| {
        let durability = [Durability::Immediate, Durability::Buffered][n as usize % 2];
        rows.with_durability(durability).put(n.to_be_bytes(), "x")
    });
    let outcomes = block_on(join_all(writes));
    let mut seqs: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().0).collect();
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs.len(), 600, "no two commits share a seq");
    assert_eq!(block_on(rows.len()).unwrap(), 600);
    let metrics = db.metrics();
    assert!(metrics.groups < metrics.commits, "commits that wait together share groups");
}

/// More than a database of 16 MiB may take in while its disk stands still.
const BURST_BYTES_MAX: usize = 64 << 20;

#[test]
fn try_submit_without_room_answers_busy_and_gives_the_batch_back() {
    let disk = Disk::new();
    let db = block_on(Options::new().memory_bytes(16 << 20).open_sim(&disk)).unwrap();
    let rows = family(&db, "rows");
    disk.pause();
    let value = vec![7; 32 << 10];
    let mut burst = 0..BURST_BYTES_MAX / value.len();
    let mut full = burst
        .find_map(|n| {
            let mut batch = db.batch();
            batch.put(&rows, (n as u64).to_be_bytes(), &value).durability(Durability::Buffered);
            match batch.try_submit() {
                Ok(commit) => {
                    drop(commit);
                    None
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}");
                    assert!(error.is_retryable());
                    Some(batch)
                }
            }
        })
        .expect("nothing grows past its bound");
    assert_eq!(full.len(), 1);
    disk.resume();
    let seq = block_on(full.commit()).unwrap();
    block_on(db.durable(seq)).unwrap();
    assert_eq!(block_on(rows.len()).unwrap(), burst.start as u64);
}

#[test]
fn writers_that_wait_for_room_all_get_it() {
    let Fixture { place: _place, db, rows } =
        Fixture::with(|options| options.memory_bytes(8 << 20));
    let value = vec![1; 20_000];
    let writes = (0..2000u32).map(|n| rows.put(n.to_be_bytes(), &value));
    block_on(try_join_all(writes)).unwrap();
    assert_eq!(block_on(rows.len()).unwrap(), 2000);
    let metrics = db.metrics();
    assert!(metrics.memtable_bytes <= 8 << 20, "{metrics:?}");
    assert!(metrics.cache_bytes <= 8 << 20, "{metrics:?}");
}

/// Puts a row as a task of another runtime does, which drives nothing.
fn put_elsewhere(rows: &ColumnFamily) {
    let put = rows.put("elsewhere", "1");
    let thread = std::thread::spawn(move || futures::executor::block_on(put));
    thread.join().expect("it ends").unwrap();
}

/// Waits for the seal that follows the last commit: until then somebody looks at the log anyway.
fn until_sealed(db: &Db) {
    let syncs = db.metrics().syncs;
    let mut until = Instant::now() + Duration::from_millis(100); // It may have come before it was looked for.
    while Instant::now() < until {
        if db.metrics().syncs != syncs {
            // Its owner notes it a moment after it was counted.
            until = until.min(Instant::now() + Duration::from_millis(2));
        }
        std::thread::yield_now();
    }
}

#[test]
fn commits_of_one_poll_to_two_databases_are_both_written() {
    let _watchdog = Watchdog::new("two databases in one poll");
    let (first, second) = (Fixture::new(), Fixture::new());
    for _ in 0..3 {
        until_sealed(&first.db);
        until_sealed(&second.db);
        // Both are ordered in the first poll; whoever is first leaves the other to itself.
        let either = select(first.rows.put("a", "1"), second.rows.put("a", "1"));
        drop(ringdb::block_on(either));
        put_elsewhere(&second.rows);
        put_elsewhere(&first.rows);
    }
}

#[test]
fn a_thread_whose_poll_panicked_owes_nobody_anything() {
    let _watchdog = Watchdog::new("a poll that panicked");
    let Fixture { place: _place, db, rows } = Fixture::new();
    let polled = || {
        ringdb::block_on(async {
            let mut put = pin!(rows.put("a", "1"));
            assert!(futures::poll!(&mut put).is_pending(), "no commit is durable at once");
            panic!("as programs do");
        })
    };
    // The first commits may have the file grow, and whoever does that looks at the log too.
    for _ in 0..4 {
        until_sealed(&db);
        assert!(catch_unwind(AssertUnwindSafe(polled)).is_err());
        // The one that was ordered, and others that this thread polls without driving.
        put_elsewhere(&rows);
        until_sealed(&db);
        futures::executor::block_on(rows.put("b", "1")).unwrap();
    }
    assert_eq!(keys(rows.iter()), ["a", "b", "elsewhere"]);
}

#[test]
fn an_ordered_commit_is_written_although_its_thread_goes_on_in_the_same_poll() {
    let _watchdog = Watchdog::new("ordered in a long poll");
    let Fixture { place: _place, db, rows } = Fixture::new();
    block_on(async {
        let mut batch = db.batch();
        batch.put(&rows, "a", "1");
        let commit = batch.submit().await.unwrap();
        // Another thread sees it become durable while this one is still in its poll.
        let visible = commit.visible();
        let seen = std::thread::spawn(move || futures::executor::block_on(visible));
        seen.join().expect("it was seen").unwrap();
        commit.await.unwrap();
    });
}
