//! Choosing what a checkpoint holds.

use std::sync::Arc;

use crate::engine::{Engine, Published};
use crate::ids::{FamilyId, Seq};
use crate::log::Segment;
use crate::state::{Family, Generational, State};

/// Memtables that take no more commits, and the catalog as of the same seq.
pub(crate) struct Frozen {
    pub(crate) seq: Seq,
    pub(crate) families: Vec<FrozenFamily>,
    /// Every family that exists at the seq, with its name then, ascending by id.
    pub(crate) catalog: Published,
    pub(crate) next_family: FamilyId,
    /// Where the log begins that the checkpoint leaves to be replayed.
    pub(crate) log_from: Segment,
}

pub(crate) struct FrozenFamily {
    pub(crate) family: Arc<Family>,
    pub(crate) memtable: Arc<Generational>,
    successor: Arc<Generational>,
}

impl Frozen {
    /// All frozen commits are applied: their families forget the memtables.
    pub(crate) fn settle(&self) {
        self.families.iter().for_each(|frozen| frozen.family.settle());
    }
}

/// Puts successors in front, publishes them, and then chooses the seq.
pub(crate) fn freeze(engine: &Engine) -> Frozen {
    let mut families: Vec<FrozenFamily> = Vec::new();
    let mut dirty = engine.pipeline.dirty();
    loop {
        let edit = engine.edit_state();
        let mut state = State::clone(&edit.current());
        for family in dirty {
            let memtable = family.active();
            let successor = memtable.successor();
            family.succeed(successor.clone());
            if let Some(view) = state.view(family.id) {
                let mut view = (**view).clone();
                view.memtables.insert(0, successor.clone());
                state.set(view);
            }
            families.push(FrozenFamily { family, memtable, successor });
        }
        edit.publish(state);
        let successors = families.iter().map(|frozen| &frozen.successor);
        match engine.pipeline.freeze(successors) {
            Ok(cut) => {
                // There is room for range deletes.
                engine.pipeline.wake_front_if_waiting();
                return Frozen {
                    seq: cut.seq,
                    families,
                    catalog: cut.catalog.into(),
                    next_family: cut.next_family,
                    log_from: cut.log_from,
                };
            }
            Err(more) => dirty = more,
        }
    }
}
