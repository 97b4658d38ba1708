//! Reading the trees that a checkpoint merges: from the cache where they are, else ahead of need
//! into memory of its own, so that a checkpoint does not push out what readers use.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use ringdb_uring::Buf;

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{FamilyId, PageId};
use crate::page::cache::Held;
use crate::tree::{Corrupt, Pages, Wanted};

/// Nodes in flight or waiting to be used at most.
const AHEAD_MAX: usize = 64;

type Fetched = (PageId, Result<Buf>);

/// Whether it is a node that is at fault: what else there is can be read all the same.
pub(super) fn is_unreadable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Corrupt)
}

pub(crate) struct Reader<'a> {
    engine: &'a Arc<Engine>,
    family: FamilyId,
    in_flight: FuturesUnordered<Pin<Box<dyn Future<Output = Fetched> + Send + 'a>>>,
    asked: HashSet<PageId>,
    ready: HashMap<PageId, Result<Buf>>,
}

/// A node that a step can be given.
pub(crate) enum Node {
    /// Copied out of the cache.
    Cached(Vec<u8>),
    Read(Buf),
}

impl Node {
    pub(crate) fn is_cached(&self) -> bool {
        matches!(self, Node::Cached(_))
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(engine: &'a Arc<Engine>, family: FamilyId) -> Reader<'a> {
        Reader {
            engine,
            family,
            in_flight: FuturesUnordered::new(),
            asked: HashSet::new(),
            ready: HashMap::new(),
        }
    }

    /// Begins to read what will be needed behind `wanted`, as far as it is not here and there is room.
    pub(crate) fn read_ahead(&mut self, wanted: Wanted, upcoming: Vec<Wanted>) {
        let here = |next: &Wanted| self.asked.contains(&next.node.page);
        let missing = upcoming.iter().filter(|next| !here(next)).count();
        if self.ahead() + missing > AHEAD_MAX {
            self.forget_passed(wanted, &upcoming);
        }
        for next in upcoming {
            let page = next.node.page;
            let full = self.ahead() >= AHEAD_MAX;
            if full || self.asked.contains(&page) || self.engine.pages.has(next.node) {
                continue;
            }
            self.asked.insert(page);
            let (engine, family) = (self.engine, self.family);
            let read = async move { (page, engine.pages.read(next, family).await) };
            self.in_flight.push(Box::pin(read));
        }
    }

    /// Nodes that are in flight or wait to be used.
    fn ahead(&self) -> usize {
        self.in_flight.len() + self.ready.len()
    }

    /// Gives up nodes that were read and are not upcoming any more: some turn out not to be needed, as leaves that are kept or
    /// dropped unread do, and would take the room of others to the end.
    fn forget_passed(&mut self, wanted: Wanted, upcoming: &[Wanted]) {
        while let Some(Some((fetched, read))) = self.in_flight.next().now_or_never() {
            self.ready.insert(fetched, read);
        }
        let still = upcoming.iter().chain([&wanted]).map(|next| next.node.page);
        let still: HashSet<PageId> = still.collect();
        let passed: Vec<_> =
            self.ready.keys().filter(|page| !still.contains(page)).copied().collect();
        for page in passed {
            self.ready.remove(&page);
            self.asked.remove(&page);
        }
    }

    pub(crate) async fn fetch(&mut self, wanted: Wanted) -> Result<Node> {
        let page = wanted.node.page;
        while self.asked.contains(&page) {
            if let Some(read) = self.ready.remove(&page) {
                self.asked.remove(&page);
                // Read ahead for another parent, it may have been checked for another level.
                match read {
                    Ok(bytes) if !wanted.may_be(&bytes) => break,
                    read => return read.map(Node::Read),
                }
            }
            let Some((fetched, read)) = self.in_flight.next().await else { break };
            self.ready.insert(fetched, read);
        }
        if let Some(bytes) = self.cached(wanted) {
            return Ok(Node::Cached(bytes));
        }
        self.engine.pages.read(wanted, self.family).await.map(Node::Read)
    }

    fn cached(&self, wanted: Wanted) -> Option<Vec<u8>> {
        let (guard, held) = (ringdb_frames::pin(), Held::default());
        let view = self.engine.pages.view(&guard, &held);
        let page = view.root(wanted.node).filter(|page| wanted.may_be(page));
        page.map(|page| page.to_vec())
    }

    /// Lends a node's bytes.
    pub(crate) fn with_bytes<T>(&self, node: &Node, lend: impl FnOnce(&[u8]) -> T) -> T {
        match node {
            Node::Cached(bytes) => lend(bytes),
            Node::Read(buf) => lend(buf),
        }
    }

    /// A node that contradicts its parent.
    pub(crate) fn contradiction(&self, corrupt: &Corrupt) -> Error {
        let path = self.engine.io.path().display();
        let (page, offset) = (corrupt.node.page.0, corrupt.node.page.byte_offset());
        let place = format!("page {page}, offset {offset}, family {}", self.family.0);
        let error = Error::new(ErrorKind::Corrupt, "a page contradicts its parent");
        error.with_detail(format!("{path}: {}, {place}", corrupt.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocking::block_on;
    use crate::db::Db;
    use crate::tree::{Leaves, Walk, WalkStep};

    /// Every leaf of a tree, and none of them is in the cache.
    async fn leaves(db: &Db, family: FamilyId) -> Vec<Wanted> {
        let engine = db.engine();
        let root = engine.state().view(family).map(|view| view.trees[0].root).expect("a tree");
        let (mut walk, mut reader) = (Walk::new(&root, Leaves::All), Reader::new(engine, family));
        let (mut leaves, mut step) = (Vec::new(), walk.step(None));
        while let WalkStep::Need(wanted) = step.expect("the tree is sound") {
            let node = reader.fetch(wanted).await.expect("a node is read");
            leaves.extend((wanted.level == 0).then_some(wanted));
            step = reader.with_bytes(&node, |bytes| walk.step(Some(bytes)));
        }
        leaves.iter().for_each(|leaf| engine.pages.forget(leaf.node.page));
        leaves
    }

    #[test]
    fn nodes_that_were_passed_make_room_for_those_that_follow() {
        block_on(async {
            let db = Db::in_memory().await.expect("it opens");
            let rows = db.column_family("rows").await.expect("a family is made");
            let mut batch = db.batch();
            for number in 0..4000u32 {
                batch.put(&rows, number.to_be_bytes(), [7; 500]);
            }
            batch.commit().await.expect("rows are put");
            db.checkpoint().await.expect("rows are flushed");
            let leaves = leaves(&db, rows.family().id).await;
            let mut reader = Reader::new(db.engine(), rows.family().id);
            reader.read_ahead(leaves[0], leaves[1..=AHEAD_MAX].to_vec());
            assert_eq!(reader.ahead(), AHEAD_MAX);
            // Of them all only two are needed.
            for (at, begun) in [(AHEAD_MAX, 32), (AHEAD_MAX + 32, 32), (AHEAD_MAX + 64, 32)] {
                let upcoming = leaves[at + 1..][..begun].to_vec();
                reader.fetch(leaves[at]).await.expect("it is read");
                while let Some((fetched, read)) = reader.in_flight.next().await {
                    reader.ready.insert(fetched, read);
                }
                reader.read_ahead(leaves[at], upcoming.clone());
                let asked = upcoming.iter().filter(|leaf| reader.asked.contains(&leaf.node.page));
                assert_eq!(asked.count(), begun, "behind leaf {at}");
                assert!(reader.ahead() <= AHEAD_MAX);
            }
        });
    }
}
