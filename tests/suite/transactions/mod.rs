//! Transactions: serializable, conflicts leave nothing, retries are bounded.

mod appends;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::try_join_all;
use ringdb::{ColumnFamily, Db, Durability, Error, ErrorKind, Seq, Transaction};

use crate::fixture::{Fixture, assert_sound, block_on, fails, family, get, keys, put, rows_of};

fn begin(db: &Db) -> Transaction {
    block_on(db.begin()).expect("a transaction begins")
}

fn number(bytes: Option<impl AsRef<[u8]>>) -> u64 {
    bytes.map_or(0, |bytes| {
        u64::from_le_bytes(bytes.as_ref().try_into().expect("numbers are eight bytes"))
    })
}

#[test]
fn a_transaction_sees_its_own_writes_in_reads_and_scans() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    for key in ["a", "b", "c"] {
        put(&rows, key, "old");
    }
    block_on(db.checkpoint()).unwrap();
    let tx = begin(&db);
    tx.put(&rows, "b", "new");
    tx.put(&rows, "bb", "new");
    tx.delete(&rows, "c");
    tx.put(&rows, "d", "new");
    tx.delete(&rows, "nothing");
    let read = |key| block_on(tx.get(&rows, key)).unwrap().map(|value| value.to_vec());
    assert_eq!(read("a").as_deref(), Some(&b"old"[..]));
    assert_eq!(read("b").as_deref(), Some(&b"new"[..]));
    assert_eq!(read("c"), None);
    assert!(block_on(tx.contains(&rows, "d")).unwrap());
    assert_eq!(keys(tx.range::<&str>(&rows, ..)), ["a", "b", "bb", "d"]);
    assert_eq!(keys(tx.range(&rows, "b".."d").rev()), ["bb", "b"]);
    assert_eq!(keys(rows.iter()), ["a", "b", "c"], "others see nothing before the commit");
    block_on(tx.commit()).unwrap();
    assert_eq!(keys(rows.iter()), ["a", "b", "bb", "d"]);
}

#[test]
fn a_key_that_is_refused_hides_no_rows_from_its_transaction() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "a", "1");
    put(&rows, "b", "1");
    let tx = begin(&db);
    tx.put(&rows, "", "refused");
    assert_eq!(keys(tx.range::<&str>(&rows, ..)), ["", "a", "b"]);
    assert_eq!(keys(tx.range::<&str>(&rows, ..).rev()), ["b", "a", ""]);
    fails(block_on(tx.commit()), ErrorKind::InvalidArgument);
}

#[test]
fn a_transaction_scans_its_own_values_however_long_they_are() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    for key in ["a", "c", "e"] {
        put(&rows, key, "old");
    }
    let values = [("b", vec![1; 100_000]), ("c", vec![2; 70_000]), ("d", vec![3; 40_000])];
    let tx = begin(&db);
    values.iter().for_each(|(key, value)| tx.put(&rows, key, value));
    let mut range = tx.range::<&str>(&rows, ..);
    let mut lent = Vec::new();
    let own = |key: &[u8], value: &[u8]| (key.to_vec(), value.len());
    while let Some(row) = block_on(range.try_next_with(own)).unwrap() {
        lent.push(row);
    }
    let lens = [("a", 3), ("b", 100_000), ("c", 70_000), ("d", 40_000), ("e", 3)];
    assert_eq!(lent, lens.map(|(key, len)| (key.as_bytes().to_vec(), len)));
    let taken = block_on(rows_of(tx.range::<&str>(&rows, ..).rev())).unwrap();
    assert!(taken.iter().rev().map(|(key, value)| own(key.as_ref(), value.as_ref())).eq(lent));
}

#[test]
fn a_transaction_is_shown_its_own_rows_between_others() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let key = |n: u32| format!("{n:03}");
    // One value lies elsewhere, and scans stop in front of it.
    let len = |n: u32| if n == 30 { 100_000 } else { 10 };
    for n in 0..80 {
        block_on(rows.put(key(n), vec![0; len(n)])).unwrap();
    }
    let tx = begin(&db);
    let own = [2, 13, 14, 25, 29, 30, 31, 47, 60];
    let mut expected: BTreeMap<String, usize> = (0..80).map(|n| (key(n), len(n))).collect();
    for (count, n) in own.into_iter().enumerate() {
        if count % 3 == 1 {
            tx.delete(&rows, key(n));
            expected.remove(&key(n));
        } else {
            let behind = format!("{n:03}!");
            tx.put(&rows, &behind, vec![1; 20]);
            expected.insert(behind, 20);
        }
    }
    for is_in_tree in [false, true] {
        if is_in_tree {
            block_on(db.checkpoint()).unwrap();
        }
        for is_forward in [true, false] {
            for stop in 1..=expected.len() {
                let range = tx.range::<&str>(&rows, ..);
                let mut shown = Vec::new();
                let look = |key: &[u8], value: &[u8]| {
                    shown.push((String::from_utf8(key.to_vec()).unwrap(), value.len()));
                    if shown.len() == stop {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                };
                let range = if is_forward { range } else { range.rev() };
                assert_eq!(block_on(range.for_each_with(look)).unwrap(), Some(()));
                let mut all: Vec<_> = expected.clone().into_iter().collect();
                if !is_forward {
                    all.reverse();
                }
                assert_eq!(shown, all[..stop]);
            }
        }
    }
}

#[test]
fn a_transaction_reads_one_state() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "a", "1");
    let tx = begin(&db);
    assert!(block_on(tx.contains(&rows, "a")).unwrap());
    put(&rows, "a", "2");
    put(&rows, "b", "2");
    assert_eq!(&*block_on(tx.get(&rows, "a")).unwrap().unwrap(), b"1");
    assert_eq!(keys(tx.range::<&str>(&rows, ..)), ["a"]);
}

#[test]
fn a_dropped_transaction_leaves_nothing() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let tx = begin(&db);
    tx.put(&rows, "a", "1");
    drop(tx);
    let tx = begin(&db);
    tx.put(&rows, "b", "1");
    drop(tx.commit());
    assert_eq!(block_on(rows.len()).unwrap(), 0);
}

#[test]
fn a_transaction_is_over_for_all_clones_once_one_was_committed() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let tx = begin(&db);
    let late = tx.clone();
    tx.put(&rows, "a", "1");
    block_on(tx.commit()).unwrap();
    late.put(&rows, "b", "1");
    fails(block_on(late.clone().commit()), ErrorKind::InvalidArgument);
    fails(block_on(late.commit()), ErrorKind::InvalidArgument);
    assert_eq!(keys(rows.iter()), ["a"]);
}

#[test]
fn a_lost_update_is_a_conflict_that_leaves_nothing() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "n", "0");
    let (first, second) = (begin(&db), begin(&db));
    for tx in [&first, &second] {
        block_on(tx.get(&rows, "n")).unwrap();
    }
    first.put(&rows, "n", "first");
    second.put(&rows, "n", "second");
    second.put(&rows, "other", "second");
    second.delete(&rows, "n");
    block_on(first.commit()).unwrap();
    let error = fails(block_on(second.commit()), ErrorKind::Conflict);
    assert!(error.is_retryable() && !error.outcome_unknown());
    assert_eq!(get(&rows, "n").as_deref(), Some(&b"first"[..]));
    assert_eq!(get(&rows, "other"), None);
    assert!(db.metrics().conflicts >= 1);
}

#[test]
fn write_skew_is_a_conflict() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    for doctor in ["alice", "bob"] {
        put(&rows, doctor, "on call");
    }
    let (first, second) = (begin(&db), begin(&db));
    for tx in [&first, &second] {
        for doctor in ["alice", "bob"] {
            assert!(block_on(tx.contains(&rows, doctor)).unwrap());
        }
    }
    first.delete(&rows, "alice");
    second.delete(&rows, "bob");
    block_on(first.commit()).unwrap();
    fails(block_on(second.commit()), ErrorKind::Conflict);
    assert_eq!(keys(rows.iter()), ["bob"]);
}

#[test]
fn a_phantom_is_a_conflict_even_in_an_empty_range() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let check = |change: &dyn Fn()| {
        let tx = begin(&db);
        assert!(block_on(rows_of(tx.range(&rows, "m".."p"))).unwrap().is_empty());
        tx.put(&rows, "count", "0");
        change();
        fails(block_on(tx.commit()), ErrorKind::Conflict);
        block_on(db.batch().delete_range(&rows, "a".."z").commit()).unwrap();
    };
    check(&|| {
        put(&rows, "n", "a phantom");
    });
    check(&|| {
        block_on(db.batch().put(&rows, "m", "at the low end").commit()).unwrap();
    });
    check(&|| {
        let other = begin(&db);
        other.put(&rows, "o", "from a transaction");
        block_on(other.commit()).unwrap();
    });
}

#[test]
fn a_range_delete_conflicts_with_a_read_inside_it() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "n", "1");
    let tx = begin(&db);
    assert!(block_on(tx.contains(&rows, "n")).unwrap());
    tx.put(&rows, "seen", "1");
    block_on(db.batch().delete_range(&rows, "m".."o").commit()).unwrap();
    fails(block_on(tx.commit()), ErrorKind::Conflict);
}

#[test]
fn a_range_delete_without_an_end_conflicts_with_what_was_read_above_its_beginning() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let changes: [&dyn Fn() -> Seq; 4] = [
        &|| block_on(rows.clear()).unwrap(),
        &|| block_on(db.batch().delete_range(&rows, "m"..).commit()).unwrap(),
        &|| block_on(db.batch().delete_range::<&str>(&rows, ..).commit()).unwrap(),
        &|| block_on(db.batch().delete_range(&rows, .."o").commit()).unwrap(),
    ];
    for change in changes {
        put(&rows, "n", "1");
        let (point, range, swap) = (begin(&db), begin(&db), begin(&db));
        assert!(block_on(point.contains(&rows, "n")).unwrap());
        assert_eq!(block_on(rows_of(range.range(&rows, "n".."p"))).unwrap().len(), 1);
        assert!(block_on(swap.get(&rows, "n")).unwrap().is_some());
        change();
        point.put(&rows, "seen", "1");
        range.put(&rows, "seen", "1");
        swap.put(&rows, "n", "2");
        for tx in [point, range, swap] {
            fails(block_on(tx.commit()), ErrorKind::Conflict);
        }
    }
}

#[test]
fn a_range_delete_without_an_end_leaves_what_was_read_below_it() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "a", "1");
    let tx = begin(&db);
    assert!(block_on(tx.contains(&rows, "a")).unwrap());
    tx.put(&rows, "seen", "1");
    block_on(db.batch().delete_range(&rows, "m"..).commit()).unwrap();
    block_on(tx.commit()).unwrap();
}

#[test]
fn reading_that_nothing_is_there_is_validated() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let (first, second) = (begin(&db), begin(&db));
    for tx in [&first, &second] {
        assert!(!block_on(tx.contains(&rows, "unique")).unwrap());
        tx.put(&rows, "unique", "mine");
    }
    block_on(second.commit()).unwrap();
    fails(block_on(first.commit()), ErrorKind::Conflict);
}

#[test]
fn blind_writes_do_not_conflict() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let (first, second) = (begin(&db), begin(&db));
    first.put(&rows, "n", "first");
    second.put(&rows, "n", "second");
    block_on(second.commit()).unwrap();
    block_on(first.commit()).unwrap();
    assert_eq!(get(&rows, "n").as_deref(), Some(&b"first"[..]), "the later commit wins");
}

#[test]
fn a_read_only_transaction_commits_whatever_others_do() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    put(&rows, "n", "1");
    let tx = begin(&db);
    block_on(tx.get(&rows, "n")).unwrap();
    put(&rows, "n", "2");
    block_on(tx.commit()).unwrap();
    let tx = begin(&db);
    block_on(tx.commit()).unwrap();
}

#[test]
fn families_dropped_under_a_transaction_fail_its_commit() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let tx = begin(&db);
    tx.put(&rows, "a", "1");
    block_on(db.drop_column_family("rows")).unwrap();
    let error = block_on(tx.commit()).expect_err("the family is gone");
    assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict), "{error:?}");
}

#[test]
fn transact_gives_up_after_a_bounded_number_of_conflicts() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let attempts = AtomicU64::new(0);
    let outcome: Result<(), Error> = block_on(db.transact(|tx| {
        let attempt = attempts.fetch_add(1, Ordering::SeqCst);
        let rows = rows.clone();
        async move {
            tx.get(&rows, "n").await?;
            // Somebody else is always faster.
            rows.put("n", attempt.to_le_bytes()).await?;
            tx.put(&rows, "n", "mine");
            Ok(())
        }
    }));
    fails(outcome, ErrorKind::Conflict);
    let attempts = attempts.into_inner();
    assert!((2..=1000).contains(&attempts), "{attempts} attempts");
    assert_eq!(number(get(&rows, "n")), attempts - 1);
}

#[test]
fn transact_returns_the_closures_own_error_and_commits_nothing() {
    #[derive(Debug)]
    enum Refusal {
        Mine,
        Engine(#[allow(dead_code, reason = "shown when the test fails")] Error),
    }
    impl From<Error> for Refusal {
        fn from(error: Error) -> Refusal {
            Refusal::Engine(error)
        }
    }
    let Fixture { place: _place, db, rows } = Fixture::new();
    let outcome: Result<(), Refusal> = block_on(db.transact(|tx| {
        let rows = rows.clone();
        async move {
            tx.put(&rows, "a", "1");
            Err(Refusal::Mine)
        }
    }));
    assert!(matches!(outcome, Err(Refusal::Mine)), "{outcome:?}");
    assert_eq!(block_on(rows.len()).unwrap(), 0);
}

#[test]
fn a_counter_incremented_by_64_tasks_sums_up() {
    let fixture = Fixture::new();
    let (db, rows) = (fixture.db.clone(), fixture.rows.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let increments = runtime.block_on(async move {
        let tasks = (0..64).map(|_| tokio::spawn(increment(db.clone(), rows.clone(), 8)));
        try_join_all(tasks).await.expect("no task panics").into_iter().sum::<u64>()
    });
    drop(runtime);
    assert_eq!(increments, 64 * 8);
    assert_eq!(number(get(&fixture.rows, "n")), increments);
    let fixture = fixture.reopened();
    assert_eq!(number(get(&fixture.rows, "n")), increments);
    assert_sound(&fixture.db);
}

/// Adds one, so many times, trying again for as long as there are conflicts.
async fn increment(db: Db, rows: ColumnFamily, times: u64) -> u64 {
    let mut done = 0;
    while done < times {
        let outcome: Result<(), Error> = db
            .transact(|tx| {
                let rows = rows.clone();
                async move {
                    tx.durability(Durability::Buffered);
                    let n = number(tx.get(&rows, "n").await?);
                    tx.put(&rows, "n", (n + 1).to_le_bytes());
                    Ok(())
                }
            })
            .await;
        match outcome {
            Ok(()) => done += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
                tokio::task::yield_now().await;
            }
        }
    }
    done
}

#[test]
fn transactions_over_families_are_whole() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let other = family(&db, "other");
    let tx = begin(&db);
    tx.put(&rows, "a", "1");
    tx.put(&other, "a", "1");
    block_on(tx.commit()).unwrap();
    assert_eq!((keys(rows.iter()), keys(other.iter())), (vec!["a".into()], vec!["a".into()]));
}
