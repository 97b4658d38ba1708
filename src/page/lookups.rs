//! What lookups read through: descents, and shortcuts past them.
//!
//! A descent waits for memory at every level of a tree. A row in a leaf that was found in the cache twice is found by
//! the hash of its key instead: the frame of its leaf, and its place in it. Where the cache has such a shortcut, and the leaf is
//! one that the newest trees name, the key is compared and the answer is there; else the lookup descends.
//!
//! In a hostile file a leaf may have rows that lie outside of what its parent says. A shortcut finds them, a descent does not.

use ringdb_frames::{Frame, May};

use crate::ids::FamilyId;
use crate::page::cache::{Page, View};
use crate::state::Hold;
use crate::tree::{self, KeyHash, Leaf, RowAt, RowPlace};

/// What one synchronous step of a lookup in some state can see.
///
/// A shortcut leads to a leaf that the newest trees name, so it counts only for who reads these. Whether the reader's
/// trees are the newest ones the cache knows by their turn.
pub(crate) struct Lookups<'g> {
    view: View<'g>,
    turn: u64,
}

impl<'g> Lookups<'g> {
    /// For who reads in a state that keeps `hold`.
    #[inline]
    pub(super) fn new(view: View<'g>, hold: &Hold) -> Lookups<'g> {
        Lookups { view, turn: hold.turn }
    }

    /// All pages, for descents.
    #[inline]
    pub(crate) fn pages(&self) -> &View<'g> {
        &self.view
    }

    /// A lookup is about to begin: what it reads first may be brought near.
    #[inline]
    pub(crate) fn announce(&self, hash: KeyHash, family: FamilyId) {
        self.view.frames.bring_shortcut_near(hash.in_family(family));
    }

    /// The shortcut of a key is about to be taken: what it leads to may be brought near.
    #[inline]
    pub(crate) fn bring_near(&self, hash: KeyHash, family: FamilyId) {
        if let Some(shortcut) = self.view.frames.shortcut(hash.in_family(family)) {
            let place = RowPlace::from_bits(shortcut.place());
            self.view.frames.bring_near_by(shortcut, place.lines());
        }
    }

    /// The row of `key` in whichever tree of the family has it, if there is a shortcut to it.
    #[inline]
    pub(crate) fn row(
        &self,
        key: &[u8],
        hash: KeyHash,
        family: FamilyId,
    ) -> Option<RowAt<Page<'_>>> {
        let frames = self.view.frames;
        let shortcut = frames.shortcut(hash.in_family(family))?;
        let place = RowPlace::from_bits(shortcut.place());
        frames.bring_near_by(shortcut, place.lines());
        let frame = frames.follow(shortcut, self.turn, self.view.guard)?;
        tree::row_at(Page::Frame(frame), family, place.index(), key)
    }

    /// Keeps a shortcut to a row that a descent found, and if its leaf is new to this, to all rows there.
    pub(crate) fn keep(&self, row: &RowAt<Page<'_>>, hash: KeyHash, family: FamilyId) {
        let Page::Frame(frame) = row.page() else { return };
        match self.view.frames.ask_for_shortcuts(frame, self.turn) {
            May::Not => {}
            May::Note => self.note(frame, row.index(), hash.in_family(family)),
            May::NoteAll => self.note_all(frame, family),
        }
    }

    fn note(&self, frame: &Frame<'_>, index: usize, hash: u64) {
        if let Some(place) = RowPlace::of(&Leaf::new(frame), index) {
            self.view.frames.note(hash, frame, place.to_bits());
        }
    }

    #[cold]
    fn note_all(&self, frame: &Frame<'_>, family: FamilyId) {
        let leaf = Leaf::new(frame);
        let mut key = Vec::new();
        let hash = |index| {
            key.clear();
            leaf.key(index).write_to(&mut key);
            let hash = KeyHash::of(&key).in_family(family);
            self.view.frames.bring_shortcut_near(hash);
            hash
        };
        let hashes: Vec<u64> = (0..leaf.len()).map(hash).collect();
        hashes.into_iter().enumerate().for_each(|(index, hash)| self.note(frame, index, hash));
    }
}
