//! Who may read: guards and the frames seen through them.

use crate::near;
use std::fmt;
use std::ops::{Deref, Range};

/// While it lives, no frame that was found through it is used for anything else.
///
/// It is not `Send`, so it cannot be held across an await. Keep it short: frames that are evicted meanwhile
/// wait for it. A type of our own, because a guard of another collector would protect nothing.
///
/// ```compile_fail
/// fn is_send<T: Send>(_: T) {}
/// is_send(ringdb_frames::pin());
/// ```
pub struct Guard(#[expect(dead_code, reason = "its drop is what counts")] crossbeam_epoch::Guard);

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

/// Begins to read. Guards nest; a nested one costs almost nothing.
///
/// One call in about a hundred also frees what others left behind; that takes no lock.
///
/// # Examples
///
/// ```
/// use ringdb_frames::{Cache, Room, pin};
///
/// let cache = Cache::new(1 << 20, 8192, 0);
/// assert!(cache.insert(7, &[1; 8192], 0, Room::Evict));
/// let guard = pin();
/// let frame = cache.get(7, &guard).expect("just inserted");
/// assert_eq!(frame[8191], 1);
/// ```
#[inline]
pub fn pin() -> Guard {
    Guard(crossbeam_epoch::pin())
}

/// The bytes of one cached node, valid as long as the guard is borrowed.
#[derive(Clone, Copy)]
pub struct Frame<'g> {
    bytes: &'g [u8],
    place: u32,
}

impl<'g> Frame<'g> {
    pub(crate) fn new(bytes: &'g [u8], place: u32) -> Frame<'g> {
        Frame { bytes, place }
    }

    /// The bytes, for as long as the guard is borrowed, even after this frame is gone.
    pub fn bytes(&self) -> &'g [u8] {
        self.bytes
    }

    /// Asks the processor for these bytes, as far as the node has them: a search that follows waits for memory once instead
    /// of line by line.
    #[inline]
    pub fn bring_near(&self, bytes: Range<usize>) {
        let end = bytes.end.min(self.bytes.len());
        near::ask(&self.bytes[bytes.start.min(end)..end]);
    }

    /// Number of its first frame in the arena.
    pub(crate) fn place(&self) -> usize {
        self.place as usize
    }
}

impl Deref for Frame<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("place", &self.place).field("len", &self.len()).finish()
    }
}
