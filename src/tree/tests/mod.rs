//! The tree against plain maps, with nodes in a hash map.

mod hostile;
mod merge;
mod model;
mod moves;
mod node;
mod place;
mod search;
mod walk;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::{
    Changes, Expected, ExtentValue, Leaf, Merge, MergeStep, Moves, NodeRef, Pages, RangeDelete,
    RowValue, Settings, Sink, Tombstones, TreeRoot, Wanted, check, node_crc,
};
use super::{Leaves, Walk, WalkStep};
use crate::ids::{Extent, FamilyId, PageId};

const FAMILY: FamilyId = FamilyId(7);
const FILE_ID: [u8; 16] = [0xA5; 16];
const SETTINGS: Settings =
    Settings { family: FAMILY, file_id: FILE_ID, tombstones: Tombstones::Drop };

/// Changes that a merge is fed at a time.
const FED: usize = 100;

/// Where no node can lie, as in front of page 1.
const SUPERBLOCK_PAGE: u64 = 64;

/// What becomes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Put(Bytes),
    Extent(ExtentValue),
    Delete,
}

type Model = BTreeMap<Vec<u8>, Change>;

/// Nodes by first page, and the accounts of a file.
#[derive(Default)]
struct Store {
    nodes: HashMap<PageId, Vec<u8>>,
    live: HashMap<PageId, u16>,
    placed: Option<(PageId, u16)>,
    next_page: u64,
    written: usize,
    /// What the last merge asked for.
    needs: Vec<Wanted>,
    /// What it said it would ask for.
    hints: Vec<Wanted>,
    retired_extents: Vec<ExtentValue>,
}

impl Store {
    fn bytes(&self, node: NodeRef) -> &[u8] {
        &self.nodes[&node.page]
    }

    /// Applies changes and answers the new root; every node asked for is there and sound.
    fn merge(
        &mut self,
        base: Option<TreeRoot>,
        changes: Vec<(Vec<u8>, Change)>,
        ranges: Vec<RangeDelete>,
        settings: Settings,
    ) -> Option<TreeRoot> {
        let mut merge = Merge::new(base, ranges, settings);
        self.run(&mut merge, changes)
    }

    /// Moves nodes out of the pages from a limit on; the new root, and the key from which on nodes are left.
    fn move_nodes(&mut self, base: TreeRoot, moves: Moves) -> (Option<TreeRoot>, Option<Vec<u8>>) {
        let mut merge = Merge::new(Some(base), Vec::new(), SETTINGS).moving(moves);
        let root = self.run(&mut merge, Vec::new());
        (root, merge.moved().and_then(Moves::into_rest))
    }

    fn run(&mut self, merge: &mut Merge, changes: Vec<(Vec<u8>, Change)>) -> Option<TreeRoot> {
        let mut changes = changes.into_iter();
        let mut node: Option<Vec<u8>> = None;
        (self.needs, self.hints, self.written) = (Vec::new(), Vec::new(), 0);
        let mut handed_on = 0;
        loop {
            let step = merge.step(self, node.take().as_deref()).unwrap();
            assert!(self.written - handed_on < 12, "what waits to be written is bounded");
            self.hints.extend(merge.upcoming(4));
            match step {
                MergeStep::Need(wanted) => {
                    handed_on = self.written;
                    assert!(self.live.contains_key(&wanted.node.page), "needs what is live");
                    let bytes = self.bytes(wanted.node).to_vec();
                    let crc = node_crc(&FILE_ID, wanted.node.page, &bytes);
                    assert_eq!(crc, wanted.node.crc);
                    check(&bytes, Expected { wanted, family: FAMILY }).unwrap();
                    self.needs.push(wanted);
                    node = Some(bytes);
                }
                MergeStep::Feed => feed(merge, &mut changes),
                MergeStep::Yield => handed_on = self.written,
                MergeStep::Done(root) => return root,
            }
        }
    }

    /// Builds a tree of inline rows.
    fn build(&mut self, rows: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Option<TreeRoot> {
        let put = |(key, value)| (key, Change::Put(Bytes::from(value)));
        self.merge(None, rows.into_iter().map(put).collect(), Vec::new(), SETTINGS)
    }

    /// Walks the whole tree: the counts agree, the live pages are exactly its own, and the rows are answered.
    fn rows(&self, root: Option<&TreeRoot>) -> Vec<(Vec<u8>, Change)> {
        let Some(root) = root else {
            assert!(self.live.is_empty());
            return Vec::new();
        };
        let mut rows = Vec::new();
        let mut seen = HashMap::new();
        let mut walk = Walk::new(root, Leaves::All);
        let mut step = walk.step(None).unwrap();
        while step != WalkStep::Done {
            step = match step {
                WalkStep::Need(wanted) => {
                    assert!(seen.insert(wanted.node.page, wanted.node.pages).is_none());
                    let bytes = self.bytes(wanted.node);
                    assert_eq!(node_crc(&FILE_ID, wanted.node.page, bytes), wanted.node.crc);
                    check(bytes, Expected { wanted, family: FAMILY }).unwrap();
                    if wanted.level == 0 {
                        let leaf = Leaf::new(bytes);
                        rows.extend((0..leaf.len()).map(|index| owned(leaf.row(index))));
                    }
                    walk.step(Some(bytes)).unwrap()
                }
                WalkStep::Extent(_) => walk.step(None).unwrap(),
                WalkStep::Unread(_) | WalkStep::Done => unreachable!(),
            };
        }
        assert_eq!(walk.counts(), *root);
        assert_eq!(seen, self.live);
        rows
    }
}

/// Some of the changes, and the end behind the last.
fn feed(merge: &mut Merge, changes: &mut impl ExactSizeIterator<Item = (Vec<u8>, Change)>) {
    merge.feed(changes_of(changes.by_ref().take(FED)));
    if changes.len() == 0 {
        merge.end();
    }
}

fn changes_of(rows: impl IntoIterator<Item = (Vec<u8>, Change)>) -> Changes {
    let mut changes = Changes::default();
    for (key, change) in rows {
        match change {
            Change::Put(value) => changes.push(&key, RowValue::Inline(&value)),
            Change::Extent(value) => changes.push(&key, RowValue::Extent(&value.encode())),
            Change::Delete => changes.push(&key, RowValue::Tombstone),
        }
    }
    changes
}

fn owned((key, value): (super::Key<'_>, RowValue<'_>)) -> (Vec<u8>, Change) {
    (key.to_vec(), change_of(value))
}

fn change_of(value: RowValue<'_>) -> Change {
    match value {
        RowValue::Inline(bytes) => Change::Put(Bytes::copy_from_slice(bytes)),
        RowValue::Extent(bytes) => Change::Extent(ExtentValue::decode(bytes).unwrap()),
        RowValue::Tombstone => Change::Delete,
    }
}

fn put(value: &[u8]) -> Change {
    Change::Put(Bytes::copy_from_slice(value))
}

fn range(low: &[u8], high: Option<&[u8]>) -> RangeDelete {
    RangeDelete { low: Bytes::copy_from_slice(low), high: high.map(Bytes::copy_from_slice) }
}

/// A value of so many MiB, somewhere.
fn extent_value(start: u64, mebibytes: u32) -> ExtentValue {
    let extent = Extent { start: PageId(start), pages: mebibytes * 128 };
    ExtentValue { extent, len_bytes: extent.len_bytes() - 5, crcs: vec![9; mebibytes as usize] }
}

impl Sink for Store {
    fn place(&mut self, pages: u16) -> PageId {
        assert!(self.placed.is_none(), "one node at a time");
        let (mut first, pages_wide) = (self.next_page + 1, u64::from(pages));
        if (first..first + pages_wide).contains(&SUPERBLOCK_PAGE) {
            first = SUPERBLOCK_PAGE + 1;
        }
        let page = PageId(first);
        self.next_page = first + pages_wide - 1;
        self.placed = Some((page, pages));
        page
    }

    fn write(&mut self, node: NodeRef, bytes: &[u8]) {
        assert_eq!(self.placed.take(), Some((node.page, node.pages)));
        assert_eq!(bytes.len(), node.len_bytes());
        self.live.insert(node.page, node.pages);
        self.nodes.insert(node.page, bytes.to_vec());
        self.written += 1;
    }

    fn retire(&mut self, node: NodeRef) {
        assert_eq!(self.live.remove(&node.page), Some(node.pages), "{node:?} retired twice");
    }

    fn retire_extent(&mut self, value: ExtentValue) {
        self.retired_extents.push(value);
    }
}

impl Pages for Store {
    type Page<'a> = &'a [u8];

    fn root(&self, node: NodeRef) -> Option<&[u8]> {
        self.nodes.get(&node.page).map(Vec::as_slice)
    }

    fn child<'a>(&'a self, _: &'a [u8], _: usize, node: NodeRef, _: usize) -> Option<&'a [u8]> {
        self.root(node)
    }
}
