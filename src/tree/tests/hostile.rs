//! Trees whose nodes are sound one by one, but damaged with their checksums repaired: nothing may panic or go on for ever.

use std::ops::Bound;

use fastrand::Rng;

use super::super::{Corrupt, Direction, Step, find, seek_leaf, upcoming_leaves};
use super::*;

/// Takes everything: in a hostile tree a node may be retired twice.
struct Careless {
    next_page: u64,
    written: usize,
}

impl Sink for Careless {
    fn place(&mut self, pages: u16) -> PageId {
        self.next_page += u64::from(pages);
        PageId(self.next_page)
    }

    fn write(&mut self, node: NodeRef, bytes: &[u8]) {
        assert_eq!(bytes.len(), node.len_bytes());
        self.written += 1;
    }

    fn retire(&mut self, _: NodeRef) {}

    fn retire_extent(&mut self, _: ExtentValue) {}
}

/// A cache that refuses nodes that are not there or not sound, as reading them does.
struct Checked<'s>(&'s Store);

impl<'s> Checked<'s> {
    fn sound(&self, wanted: Wanted) -> Option<&'s [u8]> {
        let bytes = self.0.nodes.get(&wanted.node.page)?;
        check(bytes, Expected { wanted, family: FAMILY }).ok()?;
        Some(bytes)
    }
}

impl Pages for Checked<'_> {
    type Page<'a>
        = &'a [u8]
    where
        Self: 'a;

    fn root(&self, node: NodeRef) -> Option<&[u8]> {
        let level = self.0.nodes.get(&node.page)?[1];
        self.sound(Wanted { node, level })
    }

    fn child<'a>(
        &'a self,
        parent: &'a [u8],
        _: usize,
        node: NodeRef,
        _: usize,
    ) -> Option<&'a [u8]> {
        self.sound(Wanted { node, level: parent[1] - 1 })
    }
}

fn merge(store: &Store, root: TreeRoot, key: &[u8], rng: &mut Rng) -> Result<(), Corrupt> {
    let mut sink = Careless { next_page: 1 << 30, written: 0 };
    let changes = changes_of([(key.to_vec(), put(b"x"))]);
    let high = (!rng.bool()).then(|| [key, b"9"].concat());
    let ranges = vec![range(key, high.as_deref())];
    let mut merge = Merge::new(Some(root), ranges, SETTINGS);
    merge.feed(changes);
    merge.end();
    let mut node = None;
    for _ in 0..10_000 {
        match merge.step(&mut sink, node.take())? {
            MergeStep::Need(wanted) => match Checked(store).sound(wanted) {
                Some(bytes) => node = Some(bytes),
                None => return Ok(()),
            },
            MergeStep::Yield | MergeStep::Feed => {}
            MergeStep::Done(_) => return Ok(()),
        }
        merge.upcoming(3);
    }
    panic!("a merge does not end");
}

fn walk(store: &Store, root: &TreeRoot) -> Result<(), Corrupt> {
    let mut walk = Walk::new(root, Leaves::All);
    let mut node = None;
    for _ in 0..10_000 {
        match walk.step(node.take())? {
            WalkStep::Need(wanted) => match Checked(store).sound(wanted) {
                Some(bytes) => node = Some(bytes),
                None => walk.skip(),
            },
            WalkStep::Unread(_) | WalkStep::Extent(_) => {}
            WalkStep::Done => return Ok(()),
        }
    }
    panic!("a walk does not end");
}

#[test]
fn damage_behind_good_checksums_never_panics() {
    let mut store = Store::default();
    let rows = (0..12_000_u32).map(|number| (format!("row-{number}").into_bytes(), vec![1; 40]));
    let base = store.build(rows.collect::<BTreeMap<_, _>>()).unwrap();
    assert!(base.height >= 1);
    let all: Vec<PageId> = store.live.keys().copied().collect();
    let mut rng = Rng::with_seed(21);
    let mut noticed = 0;
    for _ in 0..3000 {
        let page = if rng.bool() { base.root.page } else { *rng.choice(&all).unwrap() };
        let sound = store.nodes[&page].clone();
        let node = store.nodes.get_mut(&page).unwrap();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..node.len().min(6000));
            node[at] = if rng.bool() { rng.u8(..) } else { node[at] ^ 1 << rng.u8(..8) };
        }
        let key = format!("row-{}", rng.u32(..12_000)).into_bytes();
        let root = TreeRoot { rows: rng.u64(..), pages: rng.u64(..), ..base };
        for direction in [Direction::Forward, Direction::Backward] {
            let bound = Bound::Included(&key[..]);
            let _ = seek_leaf(&Checked(&store), &root, bound, direction);
            let _ = upcoming_leaves(&Checked(&store), &root, bound, direction, 5);
        }
        let _ = find(&Checked(&store), &root, &key);
        noticed += usize::from(merge(&store, root, &key, &mut rng).is_err());
        noticed += usize::from(walk(&store, &root).is_err());
        store.nodes.insert(page, sound);
    }
    assert!(noticed > 0, "some damage is only seen from the parent");
}

/// A cache that has every node, checked for those who named it first.
struct Trusting<'s>(&'s Store);

impl Pages for Trusting<'_> {
    type Page<'a>
        = &'a [u8]
    where
        Self: 'a;

    fn root(&self, node: NodeRef) -> Option<&[u8]> {
        self.0.nodes.get(&node.page).map(|bytes| &bytes[..])
    }

    fn child<'a>(&'a self, _: &'a [u8], _: usize, node: NodeRef, _: usize) -> Option<&'a [u8]> {
        self.root(node)
    }
}

#[test]
fn a_page_that_is_named_as_two_things_is_asked_for_again() {
    let mut store = Store::default();
    let rows = (0..2000_u32).map(|number| (format!("row-{number}").into_bytes(), vec![1; 40]));
    let tree = store.build(rows.collect::<BTreeMap<_, _>>()).unwrap();
    assert_eq!(tree.height, 1);
    let bound = Bound::Unbounded;
    let pages = Trusting(&store);
    for height in [0, 2, 7] {
        let named = TreeRoot { height, ..tree };
        let wanted = Wanted { node: tree.root, level: height };
        let found = find(&pages, &named, b"row-1");
        assert!(matches!(found, Step::Missing(missing) if missing == wanted));
        let sought = seek_leaf(&pages, &named, bound, Direction::Forward);
        assert!(matches!(sought, Step::Missing(missing) if missing == wanted));
        let upcoming = upcoming_leaves(&pages, &named, bound, Direction::Forward, 5);
        assert_eq!(upcoming.nodes, [tree.root]);
    }
}
