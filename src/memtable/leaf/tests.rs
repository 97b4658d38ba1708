//! Leaves that are divided: who keeps the chunks, and what is left in them.

use super::*;
use crate::ids::Seq;
use crate::memtable::entry::Kind;

/// Puts a row as a memtable does; gives the part that was split off, if any was.
fn put(body: &mut Body, seq: u64, key: &[u8], value: &[u8]) -> Option<Body> {
    let bytes = [key, value].concat();
    let row = NewRow { seq: Seq(seq), kind: Kind::Put, bytes: &bytes, key_len: key.len() };
    match body.search(key) {
        Ok(place) => drop(body.add(place, &row)),
        Err(place) => match body.cut(place) {
            Some(cut) => return Some(body.split(place, cut, &row)),
            None => drop(body.insert(place, &row)),
        },
    }
    None
}

fn body() -> Body {
    Body::new(&Pool::new(0))
}

fn row_bytes(body: &Body) -> usize {
    (0..body.len()).map(|place| body.at(place).row_bytes()).sum()
}

/// Where the first version of the last key lies.
fn last_row_at(body: &Body) -> *const u8 {
    body.at(body.len() - 1).all()[0].row(body.rows()).as_ptr()
}

#[test]
fn keys_that_ascend_in_front_of_one_of_many_versions_seldom_move_them() {
    let mut body = body();
    for seq in 0..3000 {
        put(&mut body, seq, b"last", &[1; 100]);
    }
    let (mut at, mut moves, mut splits) = (last_row_at(&body), 0, 0);
    for key in 0..10_000u32 {
        // What is in front of the border will not change any more.
        if let Some(right) = put(&mut body, 9000, format!("key {key:05}").as_bytes(), b"row") {
            (body, splits) = (right, splits + 1);
        }
        moves += usize::from(mem::replace(&mut at, last_row_at(&body)) != at);
    }
    // As often as a quarter of their bytes was moved out of their chunks.
    let (others, versions) = (10_000 * (HEADER_BYTES + 12), 3000 * 104);
    let moves_max = others * DEAD_SHARE / versions;
    assert!(splits > 30 && moves <= moves_max, "{moves} moves at {splits} splits");
    assert_eq!(body.at(body.len() - 1).all().len(), 3000);
    assert_eq!(body.search(b"key 09999"), Ok(body.len() - 2));
}

#[test]
fn bytes_that_were_moved_are_given_back_before_they_are_many() {
    let mut body = body();
    for seq in 0..300 {
        put(&mut body, seq, b"hot", &[1; 100]);
    }
    for key in 0..100_000u32 {
        // Of many divisions in the middle the part with the versions goes on.
        let key = key.wrapping_mul(0x9E37_79B1).to_be_bytes();
        if let Some(right) = put(&mut body, 9000, &key, &[2; 20])
            && right.search(b"hot").is_ok()
        {
            body = right;
        }
        let dead_bytes = body.dead_bytes;
        assert!(dead_bytes <= row_bytes(&body) / DEAD_SHARE, "{dead_bytes} bytes are dead");
    }
    let bytes = row_bytes(&body);
    assert!(body.rows.heap_bytes() < bytes + bytes / 4 + (32 << 10));
    assert_eq!(body.at(body.search(b"hot").expect("it is there")).all().len(), 300);
}

#[test]
fn short_rows_that_were_moved_are_counted_with_their_headers() {
    let mut body = body();
    for seq in 0..3000 {
        put(&mut body, seq, &[0xFF; 8], &[1; 1000]);
    }
    let hot_bytes = body.rows.heap_bytes();
    for key in 0..100_000u64 {
        // What is in front of the border will not change any more.
        if let Some(right) = put(&mut body, 9000, &key.to_be_bytes(), b"") {
            body = right;
        }
        let others = body.rows.heap_bytes() - hot_bytes.min(body.rows.heap_bytes());
        let bound = hot_bytes / DEAD_SHARE + (32 << 10);
        assert!(others <= bound, "{others} beside {hot_bytes}, {} counted", body.dead_bytes);
    }
}

#[test]
fn only_versions_take_no_lists_and_stay_so_when_leaves_are_divided() {
    let mut body = body();
    let mut divisions = 0;
    for key in 0..50_000u32 {
        let key = key.wrapping_mul(0x9E37_79B1).to_be_bytes();
        if let Some(right) = put(&mut body, 1, &key, b"value") {
            assert_eq!((body.places.lists(), right.places.lists()), (0, 0));
            (body, divisions) = (right, divisions + 1);
        }
    }
    assert!(divisions > 10);
    put(&mut body, 2, &u32::MAX.to_be_bytes(), b"");
    put(&mut body, 3, &u32::MAX.to_be_bytes(), b"again");
    assert_eq!(body.places.lists(), 1);
}

#[test]
fn what_a_version_takes_is_what_its_leaf_has_more() {
    let mut body = body();
    let mut bytes = body.heap_bytes();
    for number in 0..2_000u64 {
        let key = (number % 200).to_be_bytes();
        let row = NewRow { seq: Seq(number), kind: Kind::Put, bytes: &key, key_len: 8 };
        let taken = match body.search(&key) {
            Ok(place) => body.add(place, &row),
            Err(place) => body.insert(place, &row),
        };
        bytes += taken;
    }
    let of_lists: usize = (0..body.len()).map(|place| size_of_val(body.at(place).all())).sum();
    let counted = bytes - body.heap_bytes();
    assert!((of_lists..of_lists * 2).contains(&counted), "{counted} for {of_lists}");
}
