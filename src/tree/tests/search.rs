//! Descents through a cache that lacks nodes.

use std::collections::HashSet;
use std::ops::Bound;

use super::super::search::RowAt;
use super::super::seek::Upcoming;
use super::super::{Direction, Inner, Step, find, find_many, seek_leaf, upcoming_leaves};
use super::*;

/// Some nodes of a store.
struct Partial<'s> {
    store: &'s Store,
    here: HashSet<PageId>,
}

impl Pages for Partial<'_> {
    type Page<'a>
        = &'a [u8]
    where
        Self: 'a;

    fn root(&self, node: NodeRef) -> Option<&[u8]> {
        self.here.contains(&node.page).then(|| self.store.bytes(node))
    }

    fn child<'a>(
        &'a self,
        parent: &'a [u8],
        index: usize,
        node: NodeRef,
        _: usize,
    ) -> Option<&'a [u8]> {
        assert_eq!(Inner::new(parent).child(index), node);
        self.root(node)
    }
}

fn key_of(number: u32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn tree(store: &mut Store) -> TreeRoot {
    let root = store.build((0..60_000).map(|number| (key_of(number), vec![1; 150]))).unwrap();
    assert_eq!(root.height, 2);
    root
}

#[test]
fn a_search_names_one_missing_node_after_the_other() {
    let mut store = Store::default();
    let root = tree(&mut store);
    let mut pages = Partial { store: &store, here: HashSet::new() };
    let key = key_of(12_345);
    let mut levels = Vec::new();
    while let Step::Missing(wanted) = find(&pages, &root, &key) {
        levels.push(wanted.level);
        check(store.bytes(wanted.node), Expected { wanted, family: FAMILY }).unwrap();
        pages.here.insert(wanted.node.page);
    }
    assert_eq!(levels, [2, 1, 0]);
    let Step::Ready(found) = find(&pages, &root, &key) else { panic!() };
    assert_eq!(found.unwrap().value(), RowValue::Inline(&[1; 150]));
    let mut absent = key;
    absent.push(0);
    assert!(matches!(find(&pages, &root, &absent), Step::Ready(None)));
}

#[test]
fn keys_side_by_side_are_found_as_one_by_one() {
    let mut store = Store::default();
    let root = tree(&mut store);
    let top = Inner::new(store.bytes(root.root));
    let parents: Vec<NodeRef> = (0..2).map(|index| top.child(index)).collect();
    let leaves = parents.iter().flat_map(|parent| {
        let inner = Inner::new(store.bytes(*parent));
        (0..inner.len()).step_by(2).map(move |index| inner.child(index).page)
    });
    let all = [root.root.page].into_iter().chain(parents.iter().map(|node| node.page));
    let pages = Partial { store: &store, here: all.chain(leaves).collect() };
    let mut keys: Vec<Vec<u8>> = (0..60_000).step_by(97).map(key_of).collect();
    keys.push([&key_of(5)[..], b"absent"].concat());
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let value = |step| match step {
        Step::Ready(row) => Ok(Option::map(row, |row: RowAt<&[u8]>| row.value().bytes().to_vec())),
        Step::Missing(wanted) => Err(wanted),
    };
    let together: Vec<_> = find_many(&pages, &root, &keys).into_iter().map(value).collect();
    let apart: Vec<_> = keys.iter().map(|key| value(find(&pages, &root, key))).collect();
    assert_eq!(together, apart);
    let misses = |level: u8| {
        together.iter().any(|step| matches!(step, Err(wanted) if wanted.level == level))
    };
    assert!(misses(0) && misses(1), "both kinds of misses are met");
    assert!(together.contains(&Ok(None)) && together.contains(&Ok(Some(vec![1; 150]))));
    let nothing = Partial { store: &store, here: HashSet::new() };
    let wanted = Wanted { node: root.root, level: 2 };
    assert!(
        find_many(&nothing, &root, &keys)
            .iter()
            .all(|step| matches!(step, Step::Missing(at) if *at == wanted))
    );
}

#[test]
fn a_scan_names_the_missing_leaf_and_its_siblings() {
    let mut store = Store::default();
    let root = tree(&mut store);
    let top = Inner::new(store.bytes(root.root));
    let parent = top.child(1);
    let inner = Inner::new(store.bytes(parent));
    let here = HashSet::from([root.root.page, parent.page]);
    let pages = Partial { store: &store, here };
    let low = inner.separator(4).to_vec();
    for (direction, bound, leaves) in [
        (Direction::Forward, Bound::Included(&low[..]), [5, 6, 7]),
        (Direction::Forward, Bound::Excluded(&low[..]), [5, 6, 7]),
        (Direction::Backward, Bound::Included(&low[..]), [5, 4, 3]),
        (Direction::Backward, Bound::Excluded(&low[..]), [4, 3, 2]),
    ] {
        let Step::Missing(wanted) = seek_leaf(&pages, &root, bound, direction) else { panic!() };
        assert_eq!(wanted, Wanted { node: inner.child(leaves[0]), level: 0 });
        let nodes = leaves.map(|leaf| inner.child(leaf)).to_vec();
        let upcoming = upcoming_leaves(&pages, &root, bound, direction, 3);
        assert_eq!(upcoming, Upcoming { nodes, level: 0 });
    }
    let last = [inner.len() - 2, inner.len() - 1].map(|leaf| inner.child(leaf));
    let near = inner.separator(inner.len() - 3).to_vec();
    let upcoming = upcoming_leaves(&pages, &root, Bound::Included(&near), Direction::Forward, 9);
    assert_eq!(upcoming.nodes, last, "behind the parent's last leaf nothing is known");
}

#[test]
fn a_scan_from_an_end_names_the_outer_nodes() {
    let mut store = Store::default();
    let root = tree(&mut store);
    let top = Inner::new(store.bytes(root.root));
    let pages = Partial { store: &store, here: HashSet::from([root.root.page]) };
    for (direction, child) in [(Direction::Forward, 0), (Direction::Backward, top.len() - 1)] {
        let missing = seek_leaf(&pages, &root, Bound::Unbounded, direction);
        let Step::Missing(wanted) = missing else { panic!() };
        assert_eq!(wanted, Wanted { node: top.child(child), level: 1 });
        let upcoming = upcoming_leaves(&pages, &root, Bound::Unbounded, direction, 1);
        assert_eq!(upcoming, Upcoming { nodes: vec![wanted.node], level: 1 });
    }
    let nothing = Partial { store: &store, here: HashSet::new() };
    let upcoming = upcoming_leaves(&nothing, &root, Bound::Unbounded, Direction::Forward, 5);
    assert_eq!(upcoming, Upcoming { nodes: vec![root.root], level: 2 });
}
