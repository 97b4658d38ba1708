//! Where a node's children were last seen: a frame number for each child.
//!
//! A tree descends from parent to child, so the parent can remember the child's frame and spare the hash lookup
//! with its two lines. A hint may be stale at any time; the child's tag decides. The array hangs off the
//! parent's frame, not in it: the frame holds the node's bytes as they are on disk.
//!
//! The pointer is thin, one load away: element 0 is the number of children, then come their hints.

use crate::arena::{Pages, Zeroed};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// The hints of one node, owned: by the slot of its frame, or by whoever took it out.
pub(crate) struct Hints(NonNull<AtomicU32>);

// SAFETY: an owned array of atomics.
unsafe impl Send for Hints {}

impl Hints {
    /// None for a node without children, or with more than a frame number can count.
    pub(crate) fn new(children: usize) -> Option<Hints> {
        let len = u32::try_from(children).ok().filter(|len| *len > 0)?;
        let mut array: Box<[AtomicU32]> = (0..=children).map(|_| AtomicU32::new(0)).collect();
        *array[0].get_mut() = len;
        NonNull::new(Box::into_raw(array).cast::<AtomicU32>()).map(Hints)
    }

    /// Bytes that a node with so many children needs for its hints.
    pub(crate) fn bytes_for(children: usize) -> usize {
        children.saturating_add(1).saturating_mul(size_of::<AtomicU32>())
    }

    pub(crate) fn len_bytes(&self) -> usize {
        // SAFETY: owned and never empty; element 0 is written only before it is shared.
        Hints::bytes_for(unsafe { self.0.as_ref() }.load(Ordering::Relaxed) as usize)
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        let len = self.len_bytes() / size_of::<AtomicU32>();
        // SAFETY: it came from a box of a slice of this length, and this is its only owner.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(self.0.as_ptr(), len)) });
    }
}

/// For each frame, the hints of the node in it, or null.
pub(crate) struct HintSlots(Zeroed<AtomicPtr<AtomicU32>>);

impl HintSlots {
    pub(crate) fn new(frames: usize) -> HintSlots {
        HintSlots(Zeroed::new(frames, Pages::Huge))
    }

    /// Hangs hints on a frame that has none and that no reader can see yet.
    pub(crate) fn put(&self, frame: usize, hints: Hints) {
        let hints = std::mem::ManuallyDrop::new(hints);
        self.0[frame].store(hints.0.as_ptr(), Ordering::Release);
    }

    /// Unlinks a frame's hints. The caller must keep them until all guards of now are gone, if others can read.
    pub(crate) fn take(&self, frame: usize) -> Option<Hints> {
        NonNull::new(self.0[frame].swap(ptr::null_mut(), Ordering::AcqRel)).map(Hints)
    }

    /// The hint for one child of the node in this frame.
    ///
    /// # Safety
    ///
    /// A guard must live through `'g`: what [`HintSlots::take`] returns is dropped only after it.
    #[inline]
    pub(crate) unsafe fn child<'g>(&self, frame: usize, index: usize) -> Option<&'g AtomicU32> {
        let first = NonNull::new(self.0.get(frame)?.load(Ordering::Acquire))?;
        // SAFETY: not freed under the guard; made with at least one element, its length.
        let len = unsafe { first.as_ref() }.load(Ordering::Relaxed) as usize;
        if index >= len {
            return None;
        }
        // SAFETY: elements 1 to `len` exist, and live as long as the guard.
        Some(unsafe { first.add(1 + index).as_ref() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_kept_per_child_and_no_further() {
        let slots = HintSlots::new(2);
        slots.put(1, Hints::new(3).unwrap());
        let guard = crate::pin();
        // SAFETY: nothing else drops the hints while the references live.
        let child = |frame, index| unsafe { slots.child(frame, index) };
        child(1, 2).unwrap().store(9, Ordering::Relaxed);
        assert_eq!(child(1, 2).unwrap().load(Ordering::Relaxed), 9);
        assert_eq!(child(1, 0).unwrap().load(Ordering::Relaxed), 0);
        assert!(child(1, 3).is_none() && child(0, 0).is_none() && child(2, 0).is_none());
        drop(guard);
        assert_eq!(slots.take(1).unwrap().len_bytes(), 16);
        assert!(slots.take(1).is_none());
    }

    #[test]
    fn a_node_without_children_has_no_hints() {
        assert!(Hints::new(0).is_none());
    }
}
