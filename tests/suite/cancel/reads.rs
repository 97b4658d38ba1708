//! Reads and scans that wait for the disk.

use std::cell::RefCell;
use std::ops::ControlFlow;

use ringdb::Durability;

use crate::cancel::{every_k, poll_times, well};
use crate::fixture::{Fixture, assert_sound, block_on};
use crate::rng::Rng;

/// Four times more rows than the cache holds, so that reads have to wait for the disk.
fn cold() -> (Fixture, Vec<u8>) {
    let fixture = Fixture::with(|options| options.memory_bytes(4 << 20));
    let value = Rng::new(1).bytes(1000);
    for chunk in 0..16u32 {
        let mut batch = fixture.db.batch();
        for n in 0..1000u32 {
            batch.put(&fixture.rows, (chunk * 1000 + n).to_be_bytes(), &value[..500]);
        }
        batch.durability(Durability::Buffered);
        block_on(batch.commit()).unwrap();
    }
    block_on(fixture.db.checkpoint()).unwrap();
    (fixture, value[..500].to_vec())
}

#[test]
fn reads_that_are_dropped_leave_reads_that_are_right() {
    let (Fixture { place: _place, db, rows }, value) = cold();
    let mut rng = Rng::new(2);
    let mut key = move || (rng.below(16_000) as u32).to_be_bytes();
    for _ in 0..30 {
        every_k(
            "get",
            |_| rows.get(key()),
            |_, found| {
                if let Some(found) = found {
                    assert_eq!(found.unwrap().as_deref(), Some(&value[..]));
                }
            },
        );
        every_k(
            "get_with",
            |_| rows.get_with(key(), |found| found.map(<[u8]>::to_vec)),
            |_, found| {
                if let Some(found) = found {
                    assert_eq!(found.unwrap().as_deref(), Some(&value[..]));
                }
            },
        );
        every_k(
            "contains",
            |_| rows.contains(key()),
            |_, found| {
                assert!(found.is_none_or(|found| found.unwrap()));
            },
        );
    }
    for _ in 0..4 {
        every_k(
            "multi_get",
            |_| rows.multi_get((0..40).map(|_| key()).collect::<Vec<_>>()),
            |_, found| {
                let found = found.map(|found| found.unwrap()).unwrap_or_default();
                assert!(found.iter().all(|found| found.as_deref() == Some(&value[..])));
            },
        );
        every_k("first", |_| rows.first(), |_, edge| well(edge));
        every_k("last", |_| rows.last(), |_, edge| well(edge));
    }
    for reverse in [false, true] {
        let shown = RefCell::new(Vec::new());
        every_k(
            "for_each_with",
            |_| {
                shown.borrow_mut().clear();
                let range = if reverse { rows.iter().rev() } else { rows.iter() };
                range.for_each_with(|key, found| {
                    assert_eq!(found, &value[..]);
                    let mut shown = shown.borrow_mut();
                    shown.push(u32::from_be_bytes(key.try_into().unwrap()));
                    if shown.len() < 500 {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                })
            },
            |_, broke| {
                let shown = shown.borrow();
                let expected = (0..500).map(|n| if reverse { 15_999 - n } else { n });
                assert!(shown.iter().copied().eq(expected.take(shown.len())), "each row once");
                if let Some(broke) = broke {
                    assert_eq!((broke.unwrap(), shown.len()), (Some(()), 500));
                }
            },
        );
    }
    every_k(
        "len",
        |_| rows.len(),
        |_, len| {
            assert!(len.is_none_or(|len| len.unwrap() == 16_000));
        },
    );
    assert_sound(&db);
}

#[test]
fn a_scan_goes_on_where_a_dropped_next_left_it() {
    let (Fixture { place: _place, rows, .. }, value) = cold();
    for reverse in [false, true] {
        let mut range = if reverse { rows.iter().rev() } else { rows.iter() };
        let mut expected: Vec<u32> = (0..16_000).collect();
        if reverse {
            expected.reverse();
        }
        for (n, expected) in expected.into_iter().enumerate() {
            // Every third row is asked for once or twice in vain.
            let polls = if n % 3 == 0 { n % 2 } else { 0 };
            // Lent rows are rows.
            let owned = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
            let next = match n % 5 {
                0 => poll_times(range.try_next_with(owned), polls)
                    .unwrap_or_else(|| block_on(range.try_next_with(owned))),
                _ => {
                    let early = poll_times(range.try_next(), polls);
                    let next = early.unwrap_or_else(|| block_on(range.try_next()));
                    next.map(|row| row.map(|(key, value)| owned(&key, &value)))
                }
            };
            let (key, found) = next.unwrap().expect("there are more rows");
            assert_eq!(key, expected.to_be_bytes());
            assert_eq!(found, value);
        }
        assert!(block_on(range.try_next()).unwrap().is_none());
        assert!(block_on(range.try_next_with(|_, _| ())).unwrap().is_none());
    }
}
