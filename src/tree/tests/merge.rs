//! What merges read, write, keep, and how full nodes are.

use fastrand::Rng;

use super::super::{Corrupt, Inner};
use super::*;
use crate::ids::PAGE_BYTES;

/// Random keys of 24 bytes.
fn random_rows(count: usize, value_len: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut rng = Rng::with_seed(count as u64);
    let key = |rng: &mut Rng| (0..24).map(|_| rng.u8(..)).collect::<Vec<u8>>();
    (0..count).map(|_| (key(&mut rng), vec![7; value_len])).collect()
}

fn key_of(number: u32) -> Vec<u8> {
    format!("row-{number:08}").into_bytes()
}

/// Rows with values of 150 bytes.
fn numbered(store: &mut Store, count: u32) -> TreeRoot {
    store.build((0..count).map(|number| (key_of(number), vec![1; 150]))).unwrap()
}

fn leaves(store: &Store) -> Vec<&Vec<u8>> {
    let pages = store.live.keys().map(|page| &store.nodes[page]);
    let mut leaves: Vec<_> = pages.filter(|node| node[1] == 0).collect();
    leaves.sort_by_key(|node| Leaf::new(node).key(0).to_vec());
    leaves
}

fn used(node: &[u8]) -> usize {
    u32::from_le_bytes(*node[12..].first_chunk().unwrap()) as usize
}

/// Used share of the leaves' pages, in percent.
fn fill(store: &Store) -> usize {
    let leaves = leaves(store);
    let total: usize = leaves.iter().map(|node| node.len()).sum();
    leaves.iter().map(|node| used(node)).sum::<usize>() * 100 / total
}

#[test]
fn a_page_holds_45_rows_of_24_and_150_bytes() {
    let mut store = Store::default();
    store.build(random_rows(20_000, 150)).unwrap();
    let leaves = leaves(&store);
    for leaf in &leaves[..leaves.len() - 2] {
        assert!((45..=46).contains(&Leaf::new(leaf).len()));
        assert_eq!(leaf.len(), PAGE_BYTES);
    }
    assert!(fill(&store) >= 98, "{}", fill(&store));
}

#[test]
fn large_rows_waste_little() {
    for (value_len, share) in [
        (0, 98),
        (20, 98),
        (700, 98),
        (1300, 97),
        (2000, 98),
        (2700, 88),
        (3000, 91),
        (4060, 86),
        (4200, 89),
        (5000, 91),
        (8192, 86),
        (12_000, 97),
        (20_000, 96),
        (30_000, 90),
        (41_000, 82),
        (65_536, 88),
    ] {
        let mut store = Store::default();
        let count = 12_000_000 / (value_len + 600);
        let root = store.build(random_rows(count, value_len)).unwrap();
        store.rows(Some(&root));
        assert!(fill(&store) >= share, "{value_len}: {}", fill(&store));
    }
}

#[test]
fn one_change_rewrites_one_path() {
    let mut store = Store::default();
    let base = numbered(&mut store, 60_000);
    assert_eq!(base.height, 2);
    let change = vec![(key_of(31_234), put(&[2; 150]))];
    let root = store.merge(Some(base), change, Vec::new(), SETTINGS).unwrap();
    assert_eq!((store.needs.len(), store.written), (3, 3));
    assert_eq!(root.pages, base.pages);
    assert_eq!(store.rows(Some(&root)).len(), 60_000);
}

#[test]
fn deletes_that_miss_change_nothing() {
    let mut store = Store::default();
    let base = numbered(&mut store, 60_000);
    let misses = (0..60_000).step_by(1000).map(|number| {
        let mut key = key_of(number);
        key.push(b'x');
        (key, Change::Delete)
    });
    let ranges = vec![range(b"row-00030000x", Some(b"row-00030001")), range(b"z", None)];
    let root = store.merge(Some(base), misses.collect(), ranges, SETTINGS);
    assert_eq!((root, store.written), (Some(base), 0));
    assert!(store.needs.len() > 60, "they were looked for");
}

#[test]
fn nothing_to_do_reads_nothing() {
    let mut store = Store::default();
    let base = numbered(&mut store, 1000);
    let reversed = vec![range(b"b", Some(b"a")), range(b"b", Some(b"b"))];
    assert_eq!(store.merge(Some(base), Vec::new(), reversed, SETTINGS), Some(base));
    assert!(store.needs.is_empty());
    assert_eq!(store.merge(None, Vec::new(), vec![range(b"", None)], SETTINGS), None);
}

#[test]
fn covered_leaves_are_dropped_unread() {
    let mut store = Store::default();
    let base = numbered(&mut store, 60_000);
    let ranges = vec![
        range(&key_of(10_000), Some(&key_of(20_000))),
        range(&key_of(15_000), Some(&key_of(50_000))),
    ];
    // Newer than the ranges: it stays.
    let change = vec![(key_of(33_333), put(b"new"))];
    let root = store.merge(Some(base), change, ranges, SETTINGS).unwrap();
    let read = store.needs.iter().filter(|wanted| wanted.level == 0).count();
    assert!(read <= 4, "{read} leaves were read");
    assert_eq!(root.rows, 20_001);
    assert_eq!(store.rows(Some(&root)).len(), 20_001);
}

#[test]
fn covered_leaves_with_extents_are_read() {
    let mut store = Store::default();
    let rows = (0..10_000).map(|number| match number {
        5000 => (key_of(number), Change::Extent(extent_value(1 << 30, 2))),
        _ => (key_of(number), put(&[1; 150])),
    });
    let base = store.merge(None, rows.collect(), Vec::new(), SETTINGS).unwrap();
    assert_eq!(base.extent_pages, 256);
    let root = store.merge(Some(base), Vec::new(), vec![range(b"", None)], SETTINGS);
    assert_eq!(root, None);
    assert_eq!(store.retired_extents, [extent_value(1 << 30, 2)]);
    let read = store.needs.iter().filter(|wanted| wanted.level == 0).count();
    assert_eq!((read, store.written, store.live.len()), (1, 0, 0));
}

#[test]
fn a_tree_of_one_row_is_a_leaf_again() {
    let mut store = Store::default();
    let base = numbered(&mut store, 60_000);
    let ranges = vec![range(b"", Some(&key_of(59_000))), range(&key_of(59_001), None)];
    let root = store.merge(Some(base), Vec::new(), ranges, SETTINGS).unwrap();
    assert_eq!((root.height, root.rows, root.pages, root.bytes), (0, 1, 1, 162));
    assert_eq!(store.rows(Some(&root)).len(), 1);
}

#[test]
fn a_small_leaf_takes_in_its_neighbour() {
    let mut store = Store::default();
    let base = numbered(&mut store, 10_000);
    let first = Leaf::new(leaves(&store)[0]).len() as u32;
    let deletes = (1..first).map(|number| (key_of(number), Change::Delete)).collect();
    let before = leaves(&store).len();
    let root = store.merge(Some(base), deletes, Vec::new(), SETTINGS).unwrap();
    assert_eq!(store.rows(Some(&root)).len() as u32, 10_001 - first);
    // The one row that is left does not fit into the full neighbour: they share evenly.
    let leaves = leaves(&store);
    assert_eq!(leaves.len(), before);
    assert!(leaves.iter().all(|leaf| used(leaf) > PAGE_BYTES / 3));
}

#[test]
fn a_small_inner_node_takes_in_its_neighbour() {
    let mut store = Store::default();
    let base = numbered(&mut store, 60_000);
    let inner = Inner::new(store.bytes(base.root));
    let second = Inner::new(store.bytes(inner.child(1)));
    // Of the second inner node only the first two leaves stay.
    let (low, high) = (second.separator(1).to_vec(), inner.separator(1).to_vec());
    let ranges = vec![range(&low, Some(&high))];
    let root = store.merge(Some(base), Vec::new(), ranges, SETTINGS).unwrap();
    store.rows(Some(&root));
    assert!(root.rows < base.rows - 5000);
    let nodes = store.live.keys().map(|page| &store.nodes[page]);
    let children: Vec<usize> =
        nodes.filter(|node| node[1] == 1).map(|node| Inner::new(node).len()).collect();
    assert!(children.iter().all(|&children| children > 60), "{children:?}");
}

#[test]
fn the_last_two_leaves_share_evenly() {
    let mut store = Store::default();
    store.build(random_rows(46, 150)).unwrap();
    let sizes: Vec<usize> = leaves(&store).iter().map(|node| Leaf::new(node).len()).collect();
    assert_eq!(sizes, [23, 23]);
}

#[test]
fn touched_neighbours_are_packed_together() {
    let mut store = Store::default();
    let mut root = numbered(&mut store, 20_000);
    // Three of four rows go: all leaves are touched, and a quarter of them is left, full.
    let before = leaves(&store).len();
    let deletes = (0..20_000).filter(|number| number % 4 != 0);
    let deletes = deletes.map(|number| (key_of(number), Change::Delete)).collect();
    root = store.merge(Some(root), deletes, Vec::new(), SETTINGS).unwrap();
    assert_eq!(store.rows(Some(&root)).len(), 5000);
    assert!(leaves(&store).len() <= before / 4 + 2);
    assert!(fill(&store) >= 96);
}

#[test]
fn small_random_merges_leave_few_small_nodes() {
    let mut rng = Rng::with_seed(3);
    let mut store = Store::default();
    let mut root = Some(numbered(&mut store, 30_000));
    for round in 0..60 {
        let mut changes = Model::new();
        for _ in 0..400 {
            let put = round < 30 && rng.u8(..3) > 0;
            let change = if put { super::put(&[3; 150]) } else { Change::Delete };
            changes.insert(key_of(rng.u32(..30_000)), change);
        }
        root = store.merge(root, changes.into_iter().collect(), Vec::new(), SETTINGS);
        store.rows(root.as_ref());
        let sizes: Vec<usize> = store
            .live
            .keys()
            .map(|page| used(&store.nodes[page]))
            .filter(|&used| used < PAGE_BYTES / 4)
            .collect();
        assert!(sizes.len() <= 4, "round {round}: small nodes {sizes:?}");
    }
}

#[test]
fn tombstones_stay_until_the_tree_is_the_oldest() {
    let mut store = Store::default();
    let keep = Settings { tombstones: Tombstones::Keep, ..SETTINGS };
    let changes = vec![(b"a".to_vec(), Change::Delete), (b"b".to_vec(), put(b"2"))];
    let root = store.merge(None, changes.clone(), Vec::new(), keep).unwrap();
    assert_eq!(store.rows(Some(&root)), changes);
    // A second delete of the same key has no effect.
    let again = vec![(b"a".to_vec(), Change::Delete)];
    assert_eq!(store.merge(Some(root), again, Vec::new(), keep), Some(root));
    let change = vec![(b"c".to_vec(), put(b"3"))];
    let root = store.merge(Some(root), change, Vec::new(), SETTINGS).unwrap();
    let left = [(b"b".to_vec(), put(b"2")), (b"c".to_vec(), put(b"3"))];
    assert_eq!(store.rows(Some(&root)), left);
}

#[test]
fn leaves_are_hinted_before_they_are_needed() {
    let mut store = Store::default();
    let base = numbered(&mut store, 60_000);
    let changes = (0..60_000).step_by(600).map(|number| (key_of(number), put(b"x"))).collect();
    store.merge(Some(base), changes, Vec::new(), SETTINGS).unwrap();
    let leaves: Vec<_> = store.needs.iter().filter(|wanted| wanted.level == 0).collect();
    let hinted = leaves.iter().filter(|wanted| store.hints.contains(wanted)).count();
    assert_eq!(leaves.len(), 100);
    assert!(hinted >= 90, "{hinted} of 100 were hinted");
    assert!(store.hints.iter().all(|hint| store.needs.contains(hint)), "no hint is in vain");
}

#[test]
fn longest_keys_make_a_low_tree() {
    let mut store = Store::default();
    let key = |number: u8| {
        let mut key = vec![0; 65_536];
        key[65_535] = number;
        key
    };
    let rows = (0..200).map(|number| (key(number), vec![number; 65_536]));
    let root = store.build(rows).unwrap();
    assert_eq!(store.rows(Some(&root)).len(), 200);
    assert!(root.height <= 4, "{}", root.height);
    assert!(store.live.values().all(|&pages| pages <= 32));
}

/// Merges over a base of which one node was replaced.
fn merge_over(store: &mut Store, base: TreeRoot, key: &[u8]) -> Result<MergeStep, Corrupt> {
    let changes = changes_of([(key.to_vec(), put(b"x"))]);
    let mut merge = Merge::new(Some(base), Vec::new(), SETTINGS);
    merge.feed(changes);
    merge.end();
    let mut node: Option<Vec<u8>> = None;
    loop {
        match merge.step(store, node.take().as_deref())? {
            MergeStep::Need(wanted) => node = Some(store.bytes(wanted.node).to_vec()),
            MergeStep::Yield | MergeStep::Feed => {}
            MergeStep::Done(root) => return Ok(MergeStep::Done(root)),
        }
    }
}

#[test]
fn a_node_outside_its_parents_separators_ends_the_merge() {
    let mut store = Store::default();
    let base = numbered(&mut store, 60_000);
    let key = key_of(30_000);
    let top = Inner::new(store.bytes(base.root));
    let (first, middle) = (top.child(0), top.child(top.child_index(&key)));
    let inner = Inner::new(store.bytes(middle));
    let (leaf, other) = (inner.child(inner.child_index(&key)), inner.child(0));
    for (node, by, what) in [
        (leaf, other, "keys are outside the leaf"),
        (middle, first, "separators are outside the node"),
    ] {
        let sound = store.nodes.insert(node.page, store.nodes[&by.page].clone()).unwrap();
        assert_eq!(merge_over(&mut store, base, &key), Err(Corrupt { node, what }));
        store.nodes.insert(node.page, sound);
    }
    assert!(merge_over(&mut store, base, &key).is_ok());
}
