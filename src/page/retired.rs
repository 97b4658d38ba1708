//! Extents that the newest state does not name and older ones may still read.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use ringdb_uring::planted::{self, Bug};

use crate::ids::Extent;
use crate::state::Hold;

/// Retirements, oldest first. The oldest hold that is still kept keeps all that is younger.
#[derive(Default)]
pub(super) struct Retirements {
    list: VecDeque<Retired>,
    pages: u64,
}

struct Retired {
    /// Shared by every state that may name the extents and no older retirement holds.
    holder: Weak<Hold>,
    extents: Vec<Extent>,
}

impl Retirements {
    pub(super) fn add(&mut self, holder: Weak<Hold>, extents: Vec<Extent>) {
        self.pages += pages_of(&extents);
        self.list.push_back(Retired { holder, extents });
    }

    /// Takes the oldest out if nobody holds it any more.
    pub(super) fn take_released(&mut self) -> Option<Vec<Extent>> {
        let is_held = self.list.front()?.holder.strong_count() > 0;
        if is_held && !planted::is(Bug::PagesReusedUnderReaders) {
            return None;
        }
        let extents = self.list.pop_front()?.extents;
        self.pages -= pages_of(&extents);
        Some(extents)
    }

    /// The hold that keeps the oldest.
    pub(super) fn oldest_held(&self) -> Option<Arc<Hold>> {
        self.list.front()?.holder.upgrade()
    }

    /// Pages of all.
    pub(super) fn pages(&self) -> u64 {
        self.pages
    }
}

fn pages_of(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| u64::from(extent.pages)).sum()
}
