//! Ranges, prefixes, both directions, both ends, counting.

use std::future::Future;
use std::ops::{Bound, ControlFlow};
use std::pin::Pin;

use futures::{StreamExt, TryStreamExt};
use ringdb::{Db, ErrorKind, Range};

use crate::fixture::{Fixture, block_on, fails, get, keys, put, rows_of};

/// Ten keys, half of them in the trees and half in memtables, with deleted ones between.
fn ten() -> Fixture {
    let fixture = Fixture::new();
    for key in ["a", "ab", "abc", "b", "ba", "x1", "x2"] {
        put(&fixture.rows, key, key);
    }
    block_on(fixture.db.checkpoint()).unwrap();
    for key in ["c", "d", "aa", "bb", "y1", "\u{10ffff}"] {
        put(&fixture.rows, key, key);
    }
    for key in ["x1", "x2", "y1"] {
        block_on(fixture.rows.delete(key)).unwrap();
    }
    fixture
}

const ALL: [&str; 10] = ["a", "aa", "ab", "abc", "b", "ba", "bb", "c", "d", "\u{10ffff}"];

#[test]
fn a_scan_is_in_byte_order_in_both_directions() {
    let Fixture { place: _place, rows, .. } = ten();
    assert_eq!(keys(rows.iter()), ALL);
    assert_eq!(keys(rows.range::<&str>(..)), ALL);
    let mut reversed = keys(rows.iter().rev());
    reversed.reverse();
    assert_eq!(reversed, ALL);
}

#[test]
fn bounds_are_kept_in_both_directions() {
    let Fixture { place: _place, rows, .. } = ten();
    let check = |range: fn(&ringdb::ColumnFamily) -> Range, expected: &[&str]| {
        assert_eq!(keys(range(&rows)), expected);
        let mut reversed = keys(range(&rows).rev());
        reversed.reverse();
        assert_eq!(reversed, expected);
    };
    check(|rows| rows.range("ab".."bb"), &["ab", "abc", "b", "ba"]);
    check(|rows| rows.range("ab"..="bb"), &["ab", "abc", "b", "ba", "bb"]);
    check(|rows| rows.range(.."ab"), &["a", "aa"]);
    check(|rows| rows.range(..="ab"), &["a", "aa", "ab"]);
    check(|rows| rows.range("c"..), &["c", "d", "\u{10ffff}"]);
    check(|rows| rows.range::<&str>((Bound::Excluded("ab"), Bound::Included("b"))), &["abc", "b"]);
    check(|rows| rows.range("ac".."az"), &[]);
    check(|rows| rows.range("b".."b"), &[]);
    check(|rows| rows.range("x".."y"), &[]);
    check(|rows| rows.range("b"..="b"), &["b"]);
}

#[test]
fn a_prefix_holds_exactly_what_starts_with_it() {
    let Fixture { place: _place, rows, .. } = ten();
    assert_eq!(keys(rows.prefix("ab")), ["ab", "abc"]);
    assert_eq!(keys(rows.prefix("ab").rev()), ["abc", "ab"]);
    assert_eq!(keys(rows.prefix("x")), [""; 0]);
    assert_eq!(keys(rows.prefix("")), ALL);
}

#[test]
fn a_prefix_of_the_largest_bytes_has_no_upper_bound() {
    let Fixture { place: _place, rows, .. } = Fixture::new();
    for key in [&b"\xfe"[..], b"\xff", b"\xff\xff", b"\xff\xff\x01"] {
        put(&rows, key, "");
    }
    let count = |prefix: &[u8]| block_on(rows_of(rows.prefix(prefix))).unwrap().len();
    assert_eq!(count(b"\xff"), 3);
    assert_eq!(count(b"\xff\xff"), 2);
}

#[test]
fn a_reversed_range_is_an_invalid_argument() {
    let Fixture { place: _place, db, rows } = ten();
    fails(block_on(rows.range("b".."a").try_next()), ErrorKind::InvalidArgument);
    fails(block_on(rows.range("b".."a").rev().try_next()), ErrorKind::InvalidArgument);
    let mut batch = db.batch();
    batch.delete_range(&rows, "b".."a");
    fails(block_on(batch.commit()), ErrorKind::InvalidArgument);
}

#[test]
fn first_and_last_skip_deleted_rows() {
    let Fixture { place: _place, rows, .. } = ten();
    let first = |expected: &str| {
        let (key, value) = block_on(rows.first()).unwrap().expect("there are rows");
        assert_eq!((&*key, &*value), (expected.as_bytes(), expected.as_bytes()));
    };
    first("a");
    block_on(rows.delete("a")).unwrap();
    first("aa");
    let (key, _) = block_on(rows.last()).unwrap().expect("there are rows");
    assert_eq!(&*key, "\u{10ffff}".as_bytes());
    block_on(rows.delete("\u{10ffff}")).unwrap();
    let (key, _) = block_on(rows.last()).unwrap().expect("there are rows");
    assert_eq!(&*key, b"d");
}

#[test]
fn an_empty_family_has_no_ends_and_no_rows() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    assert!(block_on(rows.first()).unwrap().is_none());
    assert!(block_on(rows.last()).unwrap().is_none());
    assert!(block_on(rows.iter().try_next()).unwrap().is_none());
    assert_eq!(block_on(rows.len()).unwrap(), 0);
    block_on(db.checkpoint()).unwrap();
    assert!(block_on(rows.iter().rev().try_next()).unwrap().is_none());
}

#[test]
fn len_is_exact_whatever_lies_in_memory() {
    let Fixture { place: _place, db, rows } = ten();
    assert_eq!(block_on(rows.len()).unwrap(), 10);
    put(&rows, "a", "again");
    assert_eq!(block_on(rows.len()).unwrap(), 10);
    block_on(db.checkpoint()).unwrap();
    assert_eq!(block_on(rows.len()).unwrap(), 10);
    assert_eq!(rows.approximate_len(), 10, "after a checkpoint nothing is left to estimate");
}

#[test]
fn a_range_is_a_stream() {
    let Fixture { place: _place, rows, .. } = ten();
    let collected: Vec<_> = block_on(rows.iter().take(3).try_collect()).unwrap();
    let collected: Vec<&[u8]> = collected.iter().map(|(key, _)| &**key).collect();
    assert_eq!(collected, [b"a" as &[u8], b"aa", b"ab"]);
    let mut range = rows.range("d"..);
    while block_on(range.next()).is_some() {}
    assert!(block_on(range.next()).is_none(), "the end stays the end");
}

#[test]
fn rows_are_lent_in_order_whatever_their_values_are() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    // In an extent of its own, of several pages, short, and empty.
    let values = [vec![1; 100_000], vec![2; 40_000], vec![3; 150], vec![]];
    let all: Vec<_> = ["a", "b", "c", "d"].into_iter().zip(values).collect();
    for (key, value) in &all {
        block_on(rows.put(key, value)).unwrap();
    }
    for is_in_tree in [false, true] {
        if is_in_tree {
            block_on(db.checkpoint()).unwrap();
        }
        let (mut range, mut lent) = (rows.iter(), Vec::new());
        let own = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
        while let Some(row) = block_on(range.try_next_with(own)).unwrap() {
            lent.push(row);
        }
        let expected = all.iter().map(|(key, value)| own(key.as_bytes(), value));
        assert_eq!(lent, expected.collect::<Vec<_>>());
        assert!(block_on(range.try_next_with(own)).unwrap().is_none(), "the end stays the end");
    }
    fails(block_on(rows.range("b".."a").try_next_with(|_, _| ())), ErrorKind::InvalidArgument);
}

#[test]
fn a_row_that_made_its_closure_panic_is_taken() {
    let Fixture { place: _place, rows, .. } = ten();
    let mut range = rows.iter();
    // The first is read when it is asked for, the second was read with it.
    for _ in 0..2 {
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            block_on(range.try_next_with(|key, _| assert!(key.is_empty(), "on purpose")))
        }));
        assert!(panicked.is_err());
    }
    let third = block_on(range.try_next_with(|key, _| key.to_vec())).unwrap();
    assert_eq!(third.as_deref(), Some(ALL[2].as_bytes()));
}

#[test]
fn rows_are_shown_until_the_closure_breaks() {
    let Fixture { place: _place, db, rows } = ten();
    // In trees, in a memtable, and a delete in front of each.
    block_on(db.checkpoint()).unwrap();
    put(&rows, "aaa", "late");
    block_on(rows.delete("a")).unwrap();
    block_on(rows.delete("d")).unwrap();
    let expected = keys(rows.iter());
    assert_eq!(expected[..3], ["aa", "aaa", "ab"]);
    for count in 1..=expected.len() + 1 {
        for is_forward in [true, false] {
            let range = if is_forward { rows.iter() } else { rows.iter().rev() };
            let mut shown = Vec::new();
            let broke = block_on(range.for_each_with(|key, _| {
                shown.push(String::from_utf8(key.to_vec()).unwrap());
                if shown.len() == count {
                    ControlFlow::Break(count)
                } else {
                    ControlFlow::Continue(())
                }
            }));
            assert_eq!(broke.unwrap(), (count <= expected.len()).then_some(count));
            let taken = count.min(expected.len());
            let mut of_the_end: Vec<_> = expected.iter().rev().take(taken).cloned().collect();
            if is_forward {
                of_the_end = expected[..taken].to_vec();
            }
            assert_eq!(shown, of_the_end);
        }
    }
}

#[test]
fn values_of_any_length_are_shown_in_order() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let lens = [100_000, 150, 40_000, 70_000, 0, 200_000];
    let all: Vec<_> = ["a", "b", "c", "d", "e", "f"].into_iter().zip(lens).collect();
    for (key, len) in &all {
        block_on(rows.put(key, vec![7; *len])).unwrap();
    }
    for is_in_tree in [false, true] {
        if is_in_tree {
            block_on(db.checkpoint()).unwrap();
        }
        for stop in 1..=all.len() {
            let mut shown = Vec::new();
            let broke = block_on(rows.iter().for_each_with(|key, value| {
                assert!(value.iter().all(|byte| *byte == 7));
                shown.push((key.to_vec(), value.len()));
                if shown.len() == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }));
            assert_eq!(broke.unwrap(), Some(()));
            let expected = all[..stop].iter().map(|(key, len)| (key.as_bytes().to_vec(), *len));
            assert_eq!(shown, expected.collect::<Vec<_>>());
        }
    }
}

#[test]
fn who_is_shown_rows_may_read_and_write() {
    let Fixture { place: _place, db, rows } =
        Fixture::with(|options| options.memory_bytes(128 << 20));
    load(&db, &rows);
    let mut shown = 0u32;
    let all = block_on(rows.iter().for_each_with(|key, value| {
        assert_eq!(key, shown.to_be_bytes());
        if shown.is_multiple_of(500) {
            assert!(block_on(rows.contains(key)).unwrap());
            // Close behind, far behind, and what is there already.
            let mut batch = db.batch();
            for late in [shown + 5, shown + 30_000] {
                batch.put(&rows, [&late.to_be_bytes()[..], b"!"].concat(), "late");
                batch.put(&rows, late.to_be_bytes(), "late");
            }
            drop(block_on(batch.submit()).unwrap());
        }
        let is_old = value.len() == 100 + shown as usize % 200;
        assert!(is_old, "what was written meanwhile is not of the range");
        shown += 1;
        ControlFlow::<()>::Continue(())
    }));
    assert_eq!((all.unwrap(), shown), (None, MANY));
    assert!(block_on(rows.len()).unwrap() > u64::from(MANY));
    fails(block_on(rows.range("b".."a").for_each_with(show_none)), ErrorKind::InvalidArgument);
}

fn show_none(_: &[u8], _: &[u8]) -> ControlFlow<()> {
    panic!("there is no row")
}

#[test]
fn others_get_a_turn_while_many_rows_are_shown() {
    let Fixture { place: _place, db, rows } =
        Fixture::with(|options| options.memory_bytes(128 << 20));
    load(&db, &rows);
    // What is in memory behind this is waited for no more.
    assert_eq!(block_on(rows_of(rows.iter())).unwrap().len(), MANY as usize);
    let mut shown = 0u32;
    let mut all = rows.iter().for_each_with(|_, _| {
        shown += 1;
        ControlFlow::<()>::Continue(())
    });
    let mut turns = 0;
    let counted = std::future::poll_fn(|context| {
        turns += 1;
        Pin::new(&mut all).poll(context)
    });
    block_on(counted).unwrap();
    assert_eq!(shown, MANY);
    assert!((10..=20).contains(&turns), "{turns} turns in {MANY} rows");
}

#[test]
fn a_scan_does_not_see_what_comes_after_it_began() {
    let Fixture { place: _place, db, rows } = ten();
    let mut range = rows.iter();
    let (first, _) = block_on(range.try_next()).unwrap().expect("there are rows");
    assert_eq!(&*first, b"a");
    put(&rows, "aaa", "late");
    block_on(rows.delete("d")).unwrap();
    block_on(db.checkpoint()).unwrap();
    assert_eq!(keys(range), ALL[1..]);
    assert_eq!(get(&rows, "d"), None);
}

#[test]
fn a_scan_outlives_the_handles_it_came_from() {
    let Fixture { db, rows, place } = ten();
    let range = rows.iter();
    drop((rows, db));
    assert_eq!(keys(range), ALL);
    drop(place);
}

/// Many more rows than fit into one page, or into the cache.
const MANY: u32 = 60_000;

#[test]
fn a_scan_of_many_pages_is_whole_in_both_directions() {
    let fixture = Fixture::with(|options| options.memory_bytes(8 << 20));
    load(&fixture.db, &fixture.rows);
    block_on(fixture.db.checkpoint()).unwrap();
    let fixture = fixture.reopened();
    let mut expected = 0u32;
    let mut range = fixture.rows.iter();
    while let Some((key, value)) = block_on(range.try_next()).unwrap() {
        assert_eq!(*key, expected.to_be_bytes());
        assert_eq!(value.len(), 100 + expected as usize % 200);
        expected += 1;
    }
    assert_eq!(expected, MANY);
    let mut range = fixture.rows.iter().rev();
    while let Some((key, _)) = block_on(range.try_next()).unwrap() {
        expected -= 1;
        assert_eq!(*key, expected.to_be_bytes());
    }
    assert_eq!(expected, 0);
    let middle = 20_000u32.to_be_bytes()..30_000u32.to_be_bytes();
    assert_eq!(block_on(rows_of(fixture.rows.range(middle))).unwrap().len(), 10_000);
    assert_eq!(block_on(fixture.rows.len()).unwrap(), u64::from(MANY));
}

fn load(db: &Db, rows: &ringdb::ColumnFamily) {
    for chunk in (0..MANY).collect::<Vec<_>>().chunks(500) {
        let mut batch = db.batch();
        for n in chunk {
            batch.put(rows, n.to_be_bytes(), vec![*n as u8; 100 + *n as usize % 200]);
        }
        batch.durability(ringdb::Durability::Buffered);
        block_on(batch.commit()).unwrap();
    }
}
