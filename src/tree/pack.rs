//! Which rows share a node: nodes are filled from the front, and the last two of a run share evenly.
//!
//! Rows collect in a [`Pending`] in key order. A *cut* says how many of the first rows make a node, and of how many pages: the
//! fewest pages that waste at most an eighth, so that small rows lie in nodes of one page and rows of 3 KB in nodes of two.
//! A cut is only acted upon when a second one is complete behind it; when the rows end, the rows of the last cut and those
//! behind it share two nodes evenly. So no node but a run's only one is small, and the memory for a level is two nodes.
//!
//! Rejected: to cut where the separator is shortest. Separators of a few bytes are the rule anyway, and full leaves are worth
//! more.

use std::ops::Range;

use super::encode::{Rows, Span};
use super::leaf::Kind;
use super::node::{CHILD_BYTES, HEAD_BYTES, HEADER_BYTES, LEN_BYTES, SLOT_BYTES, common_len};
use crate::ids::PAGE_BYTES;

/// Nodes are larger only if a row needs it: a point read fetches the whole node.
const PAGES_PREFERRED_MAX: usize = 8;
/// A node that wastes a larger share of its pages is tried with one page more.
const WASTE_SHARE: usize = 8;
/// Fewer bytes than this are no node, if there is a neighbour to share with: a quarter of the least.
const SMALL_BYTES: usize = PAGE_BYTES / 4;
/// Bytes of rows that are in nodes, of which the arena is rid at once: to move what is behind them costs as much as to write a row.
const GONE_BYTES: usize = 64 << 10;
/// An inner node has so many children, so that trees stay low even if separators are huge.
const CHILDREN_MIN: usize = 4;

/// The first rows that make a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub rows: usize,
    pub pages: usize,
}

/// Rows of one level that are not in a node yet.
pub(super) struct Pending {
    level: u8,
    arena: Vec<u8>,
    /// The first `gone` rows are in nodes.
    spans: Vec<Span>,
    gone: usize,
    held: Option<Cut>,
    fill: Fill,
}

/// Rows being measured for the next cut.
#[derive(Clone, Debug)]
struct Fill {
    rows: Range<usize>,
    measure: Measure,
    pages: usize,
    best: Option<Cut>,
    best_waste: usize,
}

impl Fill {
    fn from(start: usize) -> Fill {
        let measure = Measure::default();
        Fill { rows: start..start, measure, pages: 1, best: None, best_waste: 0 }
    }
}

impl Pending {
    pub(super) fn new(level: u8) -> Pending {
        let (arena, spans) = (Vec::new(), Vec::new());
        Pending { level, arena, spans, gone: 0, held: None, fill: Fill::from(0) }
    }

    /// Of the nodes that the rows will make.
    pub(super) fn level(&self) -> u8 {
        self.level
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len() - self.gone
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows, in key order.
    pub(super) fn rows(&self) -> Rows<'_> {
        Rows { arena: &self.arena, spans: &self.spans[self.gone..] }
    }

    /// Appends a row whose key and value are written by the closures.
    pub(super) fn push(
        &mut self,
        kind: Kind,
        key: impl FnOnce(&mut Vec<u8>),
        value: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.arena.len();
        key(&mut self.arena);
        let key_len = self.arena.len() - start;
        value(&mut self.arena);
        let value_len = self.arena.len() - start - key_len;
        self.spans.push(Span::new(start, key_len, value_len, kind));
    }

    /// Measures what was pushed, and answers the first cut once a second is complete behind it.
    pub(super) fn ready(&mut self) -> Option<Cut> {
        while self.fill.rows.end < self.len() {
            let Some(cut) = self.measure_next() else { continue };
            self.fill = Fill::from(self.fill.rows.start + cut.rows);
            if let Some(full) = self.held.replace(cut) {
                return Some(full);
            }
        }
        None
    }

    /// Forgets the rows of the first cut, which are in a node now.
    pub(super) fn consume(&mut self, cut: Cut) {
        self.gone += cut.rows;
        self.tidy();
        if self.fill.rows.start >= cut.rows {
            self.fill.rows = self.fill.rows.start - cut.rows..self.fill.rows.end - cut.rows;
            self.fill.measure.shift(cut.rows);
        }
        if self.is_empty() {
            (self.held, self.fill) = (None, Fill::from(0));
        }
    }

    /// Gives up the memory of rows that are gone, once that is worth while.
    fn tidy(&mut self) {
        let bytes = self.spans.get(self.gone).map_or(self.arena.len(), Span::start);
        if bytes < GONE_BYTES && !self.is_empty() {
            return;
        }
        self.arena.drain(..bytes);
        self.spans.drain(..self.gone);
        self.spans.iter_mut().for_each(|span| *span = span.shifted(bytes));
        self.gone = 0;
    }

    /// Whether the rows, or none where one is to come from below, would make less than a quarter of a node.
    pub(super) fn is_small(&self) -> bool {
        let few = self.level > 0 && self.len() < CHILDREN_MIN;
        self.held.is_none() && (few || self.measured_bytes() < SMALL_BYTES)
    }

    /// The nodes that all the rows make when none follow: at most two. To be asked after `ready` had none.
    pub(super) fn last_cuts(&self) -> Vec<Cut> {
        match self.held {
            Some(held) if held.rows == self.len() => vec![held],
            Some(held) => self.balanced(held.pages.max(self.fill.pages)).to_vec(),
            None if self.is_empty() => Vec::new(),
            None => vec![Cut { rows: self.len(), pages: pages_of(self.measured_bytes()) }],
        }
    }

    fn measured_bytes(&self) -> usize {
        self.fill.measure.node_bytes(self.level, self.fill.rows.len())
    }

    /// Tries to add one more row to the cut being looked for; answers it if it is complete without the row.
    fn measure_next(&mut self) -> Option<Cut> {
        let mut grown = self.fill.measure.clone();
        self.add(&mut grown, self.fill.rows.end, self.fill.rows.start);
        let count = self.fill.rows.len();
        let grown_bytes = grown.node_bytes(self.level, count + 1);
        let rows_min = if self.level == 0 { 1 } else { CHILDREN_MIN };
        loop {
            let room = self.fill.pages * PAGE_BYTES;
            if grown_bytes <= room {
                self.fill.measure = grown;
                self.fill.rows.end += 1;
                return None;
            }
            if count >= rows_min && self.fill.is_filled(room - self.measured_bytes()) {
                return self.fill.best;
            }
            self.fill.pages += 1;
        }
    }

    /// Counts a row; the key of an inner node's first one is not in the node.
    fn add(&self, measure: &mut Measure, index: usize, first: usize) {
        if self.level == 0 || index != first {
            measure.add_key(self.rows(), index);
        }
        measure.value_bytes += self.rows().spans[index].value_len();
    }

    /// Splits the rows so that two nodes take the fewest pages, neither of them more than `pages_max` if that can be, and
    /// among those splits the most even.
    fn balanced(&self, pages_max: usize) -> [Cut; 2] {
        let (len, rows_min) = (self.len(), if self.level == 0 { 1 } else { 2 });
        let mut front = Measure::default();
        let mut fronts = vec![0; len + 1];
        for index in 0..len {
            self.add(&mut front, index, 0);
            fronts[index + 1] = front.node_bytes(self.level, index + 1);
        }
        let mut back = Measure::default();
        let mut best = None;
        for at in (rows_min..len).rev() {
            // An inner node's first row gives no key, so the key joins one step later.
            let key = if self.level == 0 { at } else { at + 1 };
            if key < len {
                back.add_key(self.rows(), key);
            }
            back.value_bytes += self.rows().spans[at].value_len();
            let sizes = (fronts[at], back.node_bytes(self.level, len - at));
            let pages = (pages_of(sizes.0), pages_of(sizes.1));
            let exceeds = pages.0.max(pages.1) > pages_max;
            let rank = (exceeds, pages.0 + pages.1, sizes.0.abs_diff(sizes.1));
            if len - at >= rows_min && best.is_none_or(|(least, _)| rank < least) {
                let cuts = [(at, pages.0), (len - at, pages.1)];
                best = Some((rank, cuts.map(|(rows, pages)| Cut { rows, pages })));
            }
        }
        best.expect("there are more rows than the first cut has").1
    }
}

impl Fill {
    /// Remembers this size if it is the least wasteful; says whether to stop looking for a better one.
    fn is_filled(&mut self, waste: usize) -> bool {
        let best_pages = self.best.map_or(1, |best| best.pages);
        if self.best.is_none() || waste * best_pages < self.best_waste * self.pages {
            self.best = Some(Cut { rows: self.rows.len(), pages: self.pages });
            self.best_waste = waste;
        }
        waste * WASTE_SHARE <= self.pages * PAGE_BYTES || self.pages >= PAGES_PREFERRED_MAX
    }
}

fn pages_of(bytes: usize) -> usize {
    bytes.div_ceil(PAGE_BYTES)
}

/// What a contiguous run of keys takes, as it grows at either end.
#[derive(Clone, Debug, Default)]
struct Measure {
    keys: Range<usize>,
    prefix: usize,
    key_bytes: usize,
    key_min: usize,
    rest_bytes: usize,
    value_bytes: usize,
}

impl Measure {
    fn add_key(&mut self, rows: Rows<'_>, index: usize) {
        let key = rows.key(index);
        if self.keys.is_empty() {
            (self.keys, self.prefix) = (index..index + 1, key.len());
            (self.key_bytes, self.key_min, self.rest_bytes) = (key.len(), key.len(), 0);
            return;
        }
        let common = common_len(&rows.key(self.keys.start)[..self.prefix], key);
        self.keys = self.keys.start.min(index)..self.keys.end.max(index + 1);
        self.key_bytes += key.len();
        self.key_min = self.key_min.min(key.len());
        if common < self.prefix {
            self.prefix = common;
            self.rest_bytes = self.rest_bytes_of(rows);
        } else {
            self.rest_bytes += (key.len() - common).saturating_sub(HEAD_BYTES);
        }
    }

    /// Bytes of the keys behind prefix and head.
    fn rest_bytes_of(&self, rows: Rows<'_>) -> usize {
        let skipped = self.prefix + HEAD_BYTES;
        if self.key_min >= skipped {
            return self.key_bytes - self.keys.len() * skipped;
        }
        let spans = &rows.spans[self.keys.clone()];
        spans.iter().map(|span| span.key_len().saturating_sub(skipped)).sum()
    }

    /// Bytes of a node of these keys and so many rows.
    fn node_bytes(&self, level: u8, rows: usize) -> usize {
        let per_key = HEAD_BYTES + SLOT_BYTES + LEN_BYTES;
        let values = if level == 0 { self.value_bytes } else { rows * CHILD_BYTES };
        HEADER_BYTES
            + SLOT_BYTES
            + self.keys.len() * per_key
            + self.prefix
            + self.rest_bytes
            + values
    }

    /// Follows rows that were taken from the front.
    fn shift(&mut self, rows: usize) {
        if !self.keys.is_empty() {
            self.keys = self.keys.start - rows..self.keys.end - rows;
        }
    }
}
