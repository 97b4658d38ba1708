//! Reading the trees that a checkpoint merges: from the cache where they are, else ahead of need
//! into memory of its own, so that a checkpoint does not push out what readers use.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
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

    /// Begins to read what will be needed, as far as it is not here and there is room.
    pub(crate) fn read_ahead(&mut self, upcoming: Vec<Wanted>) {
        for wanted in upcoming {
            let page = wanted.node.page;
            let full = self.in_flight.len() + self.ready.len() >= AHEAD_MAX;
            if full || self.asked.contains(&page) || self.engine.pages.has(wanted.node) {
                continue;
            }
            self.asked.insert(page);
            let (engine, family) = (self.engine, self.family);
            let read = async move { (page, engine.pages.read(wanted, family).await) };
            self.in_flight.push(Box::pin(read));
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
