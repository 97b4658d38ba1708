//! Places of rows: kept in a few bits, believed only as far as the key is there.

use super::super::{RowPlace, row_at};
use super::*;

/// A tree of one leaf, perhaps a large one.
fn leaf_of(rows: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    let mut store = Store::default();
    let root = store.build(rows).unwrap();
    assert_eq!(root.height, 0);
    store.bytes(root.root).to_vec()
}

fn small_rows(count: u16) -> Vec<(Vec<u8>, Vec<u8>)> {
    let key = |number: u16| [b"common".as_slice(), &number.to_be_bytes(), b" and a tail"].concat();
    (0..count).map(|number| (key(number), vec![number as u8; usize::from(number % 90)])).collect()
}

#[test]
fn a_place_leads_back_to_its_row_and_to_no_other_key() {
    let rows = small_rows(70);
    let bytes = leaf_of(rows.clone());
    let leaf = Leaf::new(&bytes);
    for (index, (key, value)) in rows.iter().enumerate() {
        let place = RowPlace::of(&leaf, index).expect("a leaf of one page");
        let place = RowPlace::from_bits(place.to_bits());
        assert_eq!(place.index(), index);
        let found = row_at(&bytes[..], FAMILY, index, key).expect("it is there");
        assert_eq!(found.value(), RowValue::Inline(value));
        let longer = [&key[..], b"\0"].concat();
        let others = [&rows[(index + 1) % rows.len()].0[..], &key[..key.len() - 1], &longer, b"x"];
        for other in others {
            assert!(row_at(&bytes[..], FAMILY, index, other).is_none(), "{other:?}");
        }
        assert!(row_at(&bytes[..], FamilyId(FAMILY.0 + 1), index, key).is_none());
    }
    assert!(row_at(&bytes[..], FAMILY, rows.len(), &rows[0].0).is_none());
}

#[test]
fn short_keys_that_are_padded_alike_are_told_apart() {
    let keys = [b"a".to_vec(), b"a\0".to_vec(), b"a\0\0".to_vec()];
    let bytes = leaf_of(keys.iter().map(|key| (key.clone(), key.clone())).collect());
    for (index, key) in keys.iter().enumerate() {
        for (other, sought) in keys.iter().enumerate() {
            assert_eq!(
                row_at(&bytes[..], FAMILY, index, sought).is_some(),
                index == other,
                "{key:?}"
            );
        }
    }
}

#[test]
fn all_rows_of_a_full_leaf_have_places_however_short_they_are() {
    for (rows, value_len) in [(265, 16), (360, 8), (500, 0)] {
        let row = |number: u64| {
            (number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes().to_vec(), vec![7; value_len])
        };
        let mut rows: Vec<_> = (1..=rows).map(row).collect();
        rows.sort();
        let bytes = leaf_of(rows);
        assert!(bytes.len() == 8192 && bytes.iter().rposition(|byte| *byte != 0) > Some(7000));
        let leaf = Leaf::new(&bytes);
        assert!((0..leaf.len()).all(|index| RowPlace::of(&leaf, index).is_some()));
    }
}

#[test]
fn the_lines_of_a_place_hold_what_reading_the_row_looks_at() {
    let bytes = leaf_of(small_rows(70));
    let leaf = Leaf::new(&bytes);
    for index in 0..leaf.len() {
        let lines = RowPlace::of(&leaf, index).expect("a leaf of one page").lines();
        let head = 64 + 8 * index;
        let slot = 64 + 8 * leaf.len() + 4 * index;
        let record = leaf.rows_range(&(index..index + 1));
        let wanted = [0..28, head..head + 8, slot..slot + 4, record];
        for (line, wanted) in lines.iter().zip(&wanted) {
            let holds = line.start <= wanted.start && wanted.end <= line.end;
            assert!(holds && line.start % 64 == 0, "row {index}: {wanted:?} in {line:?}");
        }
    }
}

#[test]
fn rows_far_back_in_a_large_leaf_have_no_place_and_an_inner_node_has_no_rows() {
    let bytes = leaf_of(vec![(b"a".to_vec(), vec![1; 20_000]), (b"b".to_vec(), vec![2; 20_000])]);
    let leaf = Leaf::new(&bytes);
    let first = RowPlace::of(&leaf, 0).expect("it begins in the first page");
    assert!(first.lines()[3].len() < 512, "of a long record the first lines are enough");
    assert_eq!(RowPlace::of(&leaf, 1), None);
    let mut store = Store::default();
    let root = store.build(small_rows(1000)).unwrap();
    assert!(root.height > 0);
    let separator = super::super::Inner::new(store.bytes(root.root)).separator(0).to_vec();
    assert!(row_at(store.bytes(root.root), FAMILY, 0, &separator).is_none());
}
