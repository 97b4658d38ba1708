//! What it would cost to merge rows into a tree, from a sample of them.
//!
//! Runs of neighbouring rows are looked for in the inner nodes of the tree: how often two neighbours lie in different leaves
//! says how many leaves all rows touch. Random keys in a large tree touch one each, keys in sequence one for every few dozen.

use crate::checkpoint::reader::Reader;
use crate::error::Result;
use crate::format::node_ref::TreeRoot;
use crate::ids::{PAGE_BYTES, Seq};
use crate::memtable::{Copied, Memtable};
use crate::state::Tree;
use crate::tree::{Filter, Inner, KeyHash, Wanted};

/// Runs of a sample, spread over the memtable, and rows of a run.
const RUNS: usize = 24;
const RUN_ROWS: usize = 24;

/// Some rows of a memtable.
pub(super) struct Sample {
    keys: u64,
    row_bytes: u64,
    runs: Vec<Copied>,
}

/// What a merge writes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// Keys and values of the rows.
    pub(super) rows_bytes: u64,
    /// Leaves that they touch.
    pub(super) leaves_bytes: u64,
    /// Rows of the tree that they replace, as far as a filter tells.
    pub(super) replaced_bytes: u64,
}

impl Cost {
    /// Pages that are written.
    pub(super) fn pages(self) -> u64 {
        (self.rows_bytes + self.leaves_bytes).div_ceil(PAGE_BYTES as u64)
    }
}

/// What the runs of a sample met.
#[derive(Default)]
struct Met {
    gaps: u64,
    /// Gaps between two rows that lie in different leaves.
    crossings: u64,
    leaves: u64,
    leaf_pages: u64,
}

impl Sample {
    pub(super) fn of(table: &Memtable, at: Seq) -> Sample {
        let runs = table.sample(RUNS, RUN_ROWS, at);
        let rows = runs.iter().map(|run| run.len() as u64).sum::<u64>();
        let bytes = runs.iter().map(|run| run.bytes() as u64).sum::<u64>();
        Sample { keys: table.keys() as u64, row_bytes: bytes / rows.max(1), runs }
    }

    /// Keys that the tree of the filter does not have, more or less.
    pub(super) fn new_keys(&self, filter: &Filter) -> u64 {
        self.keys * (100 - self.known_percent(filter)) / 100
    }

    fn known_percent(&self, filter: &Filter) -> u64 {
        let is_known = |key: &&[u8]| filter.may_hold(KeyHash::of(key));
        let known = self.runs.iter().flat_map(Copied::keys).filter(is_known).count() as u64;
        let all = self.runs.iter().map(|run| run.len() as u64).sum::<u64>();
        known * 100 / all.max(1)
    }
}

/// What it costs to merge the sample's memtable into a tree.
pub(super) async fn cost(reader: &mut Reader<'_>, tree: &Tree, sample: &Sample) -> Result<Cost> {
    let root = &tree.root;
    let rows_bytes = sample.keys * sample.row_bytes;
    let mut met = Met::default();
    for run in sample.runs.iter().filter(|run| run.len() > 0) {
        look(reader, root, run, &mut met).await?;
    }
    let (keys, pages) = (sample.keys, root.pages);
    let leaf_pages = met.leaf_pages.div_ceil(met.leaves.max(1)).max(1);
    let leaves = 1 + keys.saturating_mul(met.crossings) / met.gaps.max(1);
    let pages = leaves.min(keys).saturating_mul(leaf_pages).min(pages);
    let replaced_bytes = match tree.kept.filter() {
        Some(filter) => rows_bytes * sample.known_percent(filter) / 100,
        None => 0,
    };
    Ok(Cost { rows_bytes, leaves_bytes: pages * PAGE_BYTES as u64, replaced_bytes })
}

/// Follows a run through the parent of the leaf of its first row, as far as that reaches.
async fn look(reader: &mut Reader<'_>, root: &TreeRoot, run: &Copied, met: &mut Met) -> Result<()> {
    if root.height == 0 {
        met.gaps += run.len() as u64 - 1;
        met.leaf_pages += root.pages;
        met.leaves += 1;
        return Ok(());
    }
    let mut wanted = root.wanted();
    while wanted.level > 1 {
        let node = reader.fetch(wanted).await?;
        let key = run.key(0);
        wanted = reader.with_bytes(&node, |bytes| {
            let inner = Inner::new(bytes);
            Wanted { node: inner.child(inner.child_index(key)), level: wanted.level - 1 }
        });
    }
    let node = reader.fetch(wanted).await?;
    reader.with_bytes(&node, |bytes| met.follow(&Inner::new(bytes), run));
    Ok(())
}

impl Met {
    fn follow(&mut self, parent: &Inner<'_>, run: &Copied) {
        let mut last = None;
        for key in run.keys() {
            let place = parent.child_index(key);
            let crosses = last.is_some_and(|last| last != place);
            self.gaps += u64::from(last.is_some());
            self.crossings += u64::from(crosses);
            if last.is_none() || crosses {
                self.leaves += 1;
                self.leaf_pages += u64::from(parent.child(place).pages);
            }
            // Behind the last child lies another parent's.
            if place + 1 == parent.len() && crosses {
                return;
            }
            last = Some(place);
        }
    }
}
