//! Reading nodes ahead of a walk, past the cache: the file is what is checked.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ringdb_uring::Buf;

use crate::engine::Engine;
use crate::error::Result;
use crate::ids::{FamilyId, PageId};
use crate::tree::Wanted;

type Fetched = (Wanted, Result<Buf>);

/// Nodes in flight, or read and not yet used: a bounded number of pages.
pub(super) struct Ahead {
    engine: Arc<Engine>,
    family: FamilyId,
    pages: u32,
    pages_max: u32,
    asked: HashSet<PageId>,
    in_flight: FuturesUnordered<Pin<Box<dyn Future<Output = Fetched> + Send>>>,
    ready: HashMap<PageId, Fetched>,
}

impl Ahead {
    pub(super) fn new(engine: &Arc<Engine>, family: FamilyId, pages_max: u32) -> Ahead {
        Ahead {
            engine: engine.clone(),
            family,
            pages: 0,
            pages_max,
            asked: HashSet::new(),
            in_flight: FuturesUnordered::new(),
            ready: HashMap::new(),
        }
    }

    /// The node that is needed now; those that come next are read meanwhile.
    pub(super) async fn fetch(&mut self, wanted: Wanted, upcoming: Vec<Wanted>) -> Result<Buf> {
        if !self.asked.contains(&wanted.node.page) {
            self.ask(wanted);
        }
        for next in upcoming {
            if self.pages + u32::from(next.node.pages) > self.pages_max {
                break;
            }
            if !self.asked.contains(&next.node.page) {
                self.ask(next);
            }
        }
        loop {
            if let Some((fetched, read)) = self.ready.remove(&wanted.node.page) {
                self.asked.remove(&fetched.node.page);
                self.pages -= u32::from(fetched.node.pages);
                return read;
            }
            let fetched = self.in_flight.next().await.expect("what is needed was asked for");
            self.ready.insert(fetched.0.node.page, fetched);
        }
    }

    fn ask(&mut self, wanted: Wanted) {
        self.asked.insert(wanted.node.page);
        self.pages += u32::from(wanted.node.pages);
        let (engine, family) = (self.engine.clone(), self.family);
        let read = async move { (wanted, engine.pages.read(wanted, family).await) };
        self.in_flight.push(Box::pin(read));
    }
}
