//! Bytes of nodes, what the check says of damaged ones, and the search in one.

use fastrand::Rng;

use super::super::{Child, Holds, Inner};
use super::*;
use crate::ids::PAGE_BYTES;

fn single(store: &Store, root: TreeRoot) -> (Vec<u8>, Expected) {
    (store.bytes(root.root).to_vec(), Expected { wanted: root.wanted(), family: FAMILY })
}

fn hex(bytes: &[u8]) -> String {
    let words: Vec<String> = bytes
        .chunks(8)
        .map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    words.join(" ")
}

fn golden_leaf() -> (Vec<u8>, Expected) {
    let mut store = Store { next_page: 0x0102_0304, ..Store::default() };
    let rows = vec![
        (b"ab".to_vec(), put(b"")),
        (b"abc".to_vec(), put(b"XYZ")),
        (b"abcdefghijkl".to_vec(), Change::Extent(extent_value(0x0A0B, 1))),
        (b"abd".to_vec(), Change::Delete),
    ];
    let settings = Settings { tombstones: Tombstones::Keep, ..SETTINGS };
    let root = store.merge(None, rows, Vec::new(), settings).unwrap();
    single(&store, root)
}

#[test]
fn a_leaf_has_these_bytes() {
    let (bytes, expected) = golden_leaf();
    check(&bytes, expected).unwrap();
    assert_eq!(
        hex(&bytes[..index_used(&bytes)]),
        "0100010004000000 020000009b000000 0503020100000000 0700000000000000 \
         0000000000000000 0000000000000000 0000000000000000 0000000000000000 \
         0000000000000000 0000000000000063 6a69686766656463 0000000000000064 \
         7600000078000000 7d00004099000080 9b00000061620100 020058595a0b006b \
         6c0b0a0000000000 0080000000fbff0f 0000000000090000 000200"
    );
}

/// An inner node of three leaves, each with one row so long that no two share one.
fn golden_inner() -> (Vec<u8>, Expected) {
    let mut store = Store { next_page: 8, ..Store::default() };
    let rows = [&b"key-a"[..], b"key-bbbbbbbbbbbb", b"key-bbbbbbbbbbbc"];
    let rows = rows.map(|key| (key.to_vec(), vec![1; 65_536]));
    let root = store.build(rows).unwrap();
    assert_eq!(root.height, 1);
    single(&store, root)
}

#[test]
fn an_inner_node_has_these_bytes() {
    let (bytes, expected) = golden_inner();
    check(&bytes, expected).unwrap();
    assert_eq!(
        hex(&bytes[..index_used(&bytes)]),
        "0201010002000000 05000000a4000000 2400000000000000 0700000000000000 \
         0000000000000000 0000000000000000 0000000000000000 0000000000000000 \
         0000000000000000 6262626262626262 9d0000009f000000 a400000009000000 \
         000000009c644147 0900010005000100 1200000000000000 96b1da1909000100 \
         100001001b000000 00000000505a117c 0900010010000100 6b65792d6204000f \
         00626263"
    );
}

fn index_used(bytes: &[u8]) -> usize {
    u32::from_le_bytes(*bytes[12..].first_chunk().unwrap()) as usize
}

/// Reads everything that a node has to say: it must not panic.
fn read_all(bytes: &[u8], level: u8, keys: &[Vec<u8>]) -> usize {
    let mut seen = 0;
    if level == 0 {
        let leaf = Leaf::new(bytes);
        for index in 0..leaf.len() {
            let (key, value) = leaf.row(index);
            assert_eq!(leaf.search(&key.to_vec()), Ok(index));
            seen += value.extent_value().map_or(1, |value| value.crcs.len());
        }
        seen += keys.iter().filter(|key| leaf.find(key).is_some()).count();
        return seen + leaf.lower_bound(&keys[0]) + leaf.upper_bound(&keys[0]);
    }
    let inner = Inner::new(bytes);
    for index in 0..inner.separators() {
        assert_eq!(inner.child_index(&inner.separator(index).to_vec()), index + 1);
        seen += inner.child(index).pages as usize;
    }
    let indexes = |key: &Vec<u8>| inner.child_index(key) + inner.child_index_below(key);
    seen + keys.iter().map(indexes).sum::<usize>()
}

fn damage(bytes: &[u8], expected: Expected, keys: &[Vec<u8>]) {
    check(bytes, expected).unwrap();
    let mut passed = 0;
    let mut bytes = bytes.to_vec();
    let used = index_used(&bytes);
    for at in 0..used {
        let before = bytes[at];
        for after in (0..8).map(|bit| before ^ (1 << bit)).chain([0, 0xFF, before.wrapping_add(1)])
        {
            bytes[at] = after;
            if check(&bytes, expected).is_ok() {
                passed += 1;
                read_all(&bytes, expected.wanted.level, keys);
            }
        }
        bytes[at] = before;
    }
    assert!(passed > 0, "some flips only change values");
    for at in used..bytes.len() {
        bytes[at] = 1;
        assert_eq!(check(&bytes, expected), Err("slack is not zero"));
        bytes[at] = 0;
    }
    let mut rng = Rng::with_seed(5);
    for _ in 0..20_000 {
        let mut bytes = bytes.clone();
        for _ in 0..rng.usize(1..6) {
            let at = if rng.bool() { rng.usize(..used) } else { rng.usize(..used.min(160)) };
            bytes[at] = if rng.bool() { rng.u8(..) } else { rng.u8(..4) };
        }
        if check(&bytes, expected).is_ok() {
            read_all(&bytes, expected.wanted.level, keys);
        }
    }
}

#[test]
fn damaged_leaves_are_refused_or_decode() {
    let (bytes, expected) = golden_leaf();
    damage(&bytes, expected, &[b"abc".to_vec(), b"a".to_vec(), b"abcdefghijkl".to_vec()]);
    let mut store = Store::default();
    let rows = (0..40_u8).map(|row| (vec![row / 10; 1 + usize::from(row)], vec![row; 50]));
    let rows: BTreeMap<_, _> = rows.collect();
    let root = store.build(rows).unwrap();
    let (bytes, expected) = single(&store, root);
    damage(&bytes, expected, &[vec![2; 9], vec![9]]);
}

#[test]
fn damaged_inner_nodes_are_refused_or_decode() {
    let (bytes, expected) = golden_inner();
    damage(&bytes, expected, &[b"key-b".to_vec(), b"k".to_vec(), b"z".to_vec()]);
}

#[test]
fn a_node_is_refused_where_another_is_expected() {
    let (bytes, expected) = golden_leaf();
    let Expected { wanted, family } = expected;
    let node = wanted.node;
    let refused = |wanted, family| check(&bytes, Expected { wanted, family }).unwrap_err();
    let elsewhere = NodeRef { page: PageId(node.page.0 + 1), ..node };
    let larger = NodeRef { pages: 2, ..node };
    let none = NodeRef { pages: 0, ..node };
    for (what, expected) in [
        (refused(wanted, FamilyId(8)), "node belongs to another family"),
        (refused(Wanted { node: elsewhere, ..wanted }, family), "node belongs to another place"),
        (refused(Wanted { node: larger, ..wanted }, family), "node is cut short"),
        (refused(Wanted { node: none, ..wanted }, family), "node has an impossible size"),
        (refused(Wanted { level: 1, ..wanted }, family), "node is of another kind"),
        (refused(Wanted { level: 16, ..wanted }, family), "tree is too high"),
    ] {
        assert_eq!(what, expected);
    }
    for len in [0, 1, 63, PAGE_BYTES - 1] {
        assert_eq!(check(&bytes[..len], expected), Err("node is cut short"));
    }
    let zeros = vec![0; PAGE_BYTES];
    assert_eq!(check(&zeros, expected), Err("node is of another kind"));
}

#[test]
fn a_checksum_is_of_bytes_place_and_file() {
    let crc = node_crc(&[1; 16], PageId(7), b"row");
    let mut all = vec![1; 16];
    all.extend_from_slice(&7_u64.to_le_bytes());
    all.extend_from_slice(b"row");
    assert_eq!(crc, crc32c::crc32c(&all));
    assert_ne!(crc, node_crc(&[1; 16], PageId(8), b"row"));
    assert_ne!(crc, node_crc(&[2; 16], PageId(7), b"row"));
}

#[test]
fn a_search_agrees_with_the_order_of_the_bytes() {
    let mut rng = Rng::with_seed(11);
    for seed in 0..300 {
        let prefix = vec![b'p'; rng.usize(..20)];
        let letters = *rng.choice(&[1, 2, 255]).unwrap();
        let key = |rng: &mut Rng| {
            let tail = (0..rng.usize(..20)).map(|_| rng.u8(..letters));
            prefix.iter().copied().chain(tail).collect::<Vec<u8>>()
        };
        let mut keys: Vec<_> = (0..rng.usize(1..80)).map(|_| key(&mut rng)).collect();
        keys.retain(|key| !key.is_empty());
        keys.extend([vec![b'p'; 3]]);
        keys.sort();
        keys.dedup();
        let mut store = Store::default();
        let root = store.build(keys.iter().map(|key| (key.clone(), Vec::new()))).unwrap();
        let leaf = Leaf::new(store.bytes(root.root));
        for _ in 0..100 {
            let mut wanted = key(&mut rng);
            wanted.truncate(rng.usize(..=wanted.len()));
            assert_eq!(leaf.search(&wanted), keys.binary_search(&wanted), "seed {seed}");
            let row = rng.usize(..keys.len());
            assert_eq!(leaf.search(&keys[row]), Ok(row), "seed {seed}");
            assert_eq!(leaf.key(row).order(&wanted), keys[row].cmp(&wanted), "seed {seed}");
        }
    }
}

#[test]
fn a_child_is_what_was_encoded() {
    let node = NodeRef { page: PageId(u64::MAX >> 20), pages: 32, crc: 0xDEAD_BEEF };
    for holds in [Holds::Rows, Holds::Extents] {
        let child = Child { node, holds, rows: u16::MAX, bytes: 77 };
        assert_eq!(Child::decode(&child.encode()), child);
    }
}

#[test]
fn no_bit_of_the_header_or_the_last_slot_may_flip() {
    let (bytes, expected) = golden_leaf();
    let last_slot = 112..116;
    for at in (0..64).chain(last_slot) {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            assert!(check(&bytes, expected).is_err(), "byte {at}, bit {bit}");
        }
    }
}
