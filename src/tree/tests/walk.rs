//! What a walk visits, and what it notices.

use super::super::Corrupt;
use super::*;

fn key_of(number: u32) -> Vec<u8> {
    format!("row-{number:06}").into_bytes()
}

/// Ten thousand rows, every thousandth with an extent.
fn tree(store: &mut Store) -> TreeRoot {
    let rows = (0..10_000).map(|number| match number % 1000 {
        500 => (key_of(number), Change::Extent(extent_value(u64::from(number) << 20, 1))),
        _ => (key_of(number), put(&[1; 150])),
    });
    store.merge(None, rows.collect(), Vec::new(), SETTINGS).unwrap()
}

#[derive(Default)]
struct Visit {
    read: Vec<Wanted>,
    unread: Vec<NodeRef>,
    extents: Vec<ExtentValue>,
}

fn visit(store: &Store, root: &TreeRoot, leaves: Leaves) -> Result<Visit, Corrupt> {
    let mut visit = Visit::default();
    let mut walk = Walk::new(root, leaves);
    let mut node = None;
    loop {
        match walk.step(node.take())? {
            WalkStep::Need(wanted) => {
                node = Some(store.bytes(wanted.node));
                visit.read.push(wanted);
            }
            WalkStep::Unread(node) => visit.unread.push(node),
            WalkStep::Extent(value) => visit.extents.push(value),
            WalkStep::Done => break,
        }
    }
    assert_eq!(walk.counts(), *root);
    Ok(visit)
}

#[test]
fn a_walk_finds_all_pages_and_reads_only_leaves_with_extents() {
    let mut store = Store::default();
    let root = tree(&mut store);
    let all = visit(&store, &root, Leaves::All).unwrap();
    let some = visit(&store, &root, Leaves::WithExtents).unwrap();
    assert_eq!(all.read.len(), store.live.len());
    assert_eq!(some.read.len() + some.unread.len(), store.live.len());
    assert_eq!(some.read.iter().filter(|wanted| wanted.level == 0).count(), 10);
    assert_eq!((all.extents.len(), all.extents), (10, some.extents));
}

#[test]
fn a_walk_reads_ahead_within_the_parent() {
    let mut store = Store::default();
    let root = tree(&mut store);
    let mut walk = Walk::new(&root, Leaves::WithExtents);
    assert_eq!(walk.upcoming(4), []);
    let mut ahead = Vec::new();
    let mut needs = Vec::new();
    let mut step = walk.step(None).unwrap();
    while step != WalkStep::Done {
        let WalkStep::Need(wanted) = step else {
            step = walk.step(None).unwrap();
            continue;
        };
        if !ahead.is_empty() {
            assert_eq!(ahead.remove(0), wanted);
        }
        needs.push(wanted);
        step = walk.step(Some(store.bytes(wanted.node))).unwrap();
        if ahead.is_empty() {
            ahead = walk.upcoming(4);
            if let WalkStep::Need(next) = step {
                ahead.insert(0, next);
            }
        }
    }
    assert_eq!(needs.len(), visit(&store, &root, Leaves::WithExtents).unwrap().read.len());
}

#[test]
fn a_node_that_cannot_be_read_is_passed_over() {
    let mut store = Store::default();
    let root = tree(&mut store);
    let mut walk = Walk::new(&root, Leaves::All);
    let mut step = walk.step(None).unwrap();
    let mut leaves = 0;
    while step != WalkStep::Done {
        step = match step {
            WalkStep::Need(wanted) if wanted.level == 0 => {
                leaves += 1;
                walk.skip();
                walk.step(None).unwrap()
            }
            WalkStep::Need(wanted) => walk.step(Some(store.bytes(wanted.node))).unwrap(),
            other => panic!("{other:?}"),
        };
    }
    assert!(leaves > 100);
}

#[test]
fn a_leaf_that_its_parent_counts_otherwise_is_noticed() {
    let mut store = Store::default();
    let root = tree(&mut store);
    let wanted = visit(&store, &root, Leaves::All).unwrap().read;
    let leaves: Vec<NodeRef> =
        wanted.iter().filter(|wanted| wanted.level == 0).map(|wanted| wanted.node).collect();
    let last = leaves.len() - 1;
    for (at, by) in [(0, 1), (1, 0), (last, 0), (0, last)] {
        let (node, by) = (leaves[at], leaves[by]);
        let sound = store.nodes.insert(node.page, store.nodes[&by.page].clone()).unwrap();
        let what = "keys are outside the leaf";
        assert_eq!(visit(&store, &root, Leaves::All).err(), Some(Corrupt { node, what }));
        store.nodes.insert(node.page, sound);
    }
    let (first, end) = (key_of(0), key_of(1));
    let other = store.build([(first, vec![1])]).unwrap();
    assert!(end > key_of(0));
    store.nodes.insert(leaves[0].page, store.bytes(other.root).to_vec());
    let what = "leaf is not counted right";
    let found = visit(&store, &root, Leaves::All).err();
    assert_eq!(found, Some(Corrupt { node: leaves[0], what }));
}
