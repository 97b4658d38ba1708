//! The page cache's memory: frames, who may read them, and when they are used again.
//!
//! A [`Cache`] holds nodes: runs of bytes that are named by a page number. It knows nothing of files,
//! keys, or what the bytes mean. It is one mapping of frames and a few arrays of atomics:
//!
//! ```text
//!            hash of the page                      hint of the parent (no hash, no lookup)
//!                  │                                              │
//!   table   [ fingerprint │ frame ] ──┐                  ┌── [ frame ] hints of a node's children
//!                                     ▼                  ▼
//!   tags    [ page │ length │ used │ occupied ]   one word for each frame: the only judge
//!                                     │
//!   arena   [ 8 KiB ][ 8 KiB ][ 8 KiB ][ … ]      2 MiB aligned, huge pages advised, touched lazily
//! ```
//!
//! Table and hints only say where to look. What a frame holds is said by its tag alone, so a stale entry
//! costs a lookup and never a wrong page.
//!
//! # Why a reader may read bytes without a lock
//!
//! A reader holds a [`Guard`], loads a tag, sees its page, and then reads the frame's bytes as a plain slice. Three
//! writes to a frame could race with that, and none does:
//!
//! 1. *The copy that filled it.* `insert` copies into frames that it alone owns (busy in the map of free
//!    frames, tag empty), then stores the tag with `Release`. The reader loads the tag with `Acquire`. All other writes
//!    to a full tag are read-modify-writes (the used bit), and these continue the release sequence:
//!    whichever value the reader sees, the copy happened before.
//! 2. *The copy that fills it next.* Eviction stores an empty tag, and only then defers the frame's release with
//!    `crossbeam_epoch`. Deferring has a `SeqCst` fence between that store and the reading of the
//!    epoch that the garbage is stamped with, and pinning has one between announcing the epoch and
//!    whatever the guard reads. If the reader's fence comes later, it sees the empty tag and takes nothing. If
//!    it comes first, the reader counts as pinned, the epoch cannot advance twice while its guard
//!    lives, and the release waits. When the release runs, the guard's end happened before it.
//! 3. *The hand-over in between.* The release clears the frame's busy bits with a `Release`
//!    read-modify-write, the next `insert` sets them with an `Acquire` one. So: last read, end of the guard,
//!    release, claim, next copy, each before the next.
//!
//! The hints of a node's children go the same way: made before the tag is stored, unlinked when it is emptied, freed
//! with the frame. And the whole cache: dropping it defers its memory, because a [`Frame`] borrows the guard, not the cache.
//!
//! # What is bounded
//!
//! The arena never holds more than `bytes_max`. Beside it stand about 32 to 48 bytes for each frame (tag 8, hints'
//! pointer 8, table 16 to 32) and hints of at most 1/32 of `bytes_max`: a node that comes when these are
//! used up has none, and its children are found by hash. What is evicted but still seen by guards counts as
//! held, and is bounded too: a guard that is kept for ever stops `insert`, not the hits.

mod apart;
mod arena;
mod cache;
mod clock;
mod guard;
mod hints;
mod near;
mod shared;
mod space;
mod table;
mod tag;

pub use cache::{Cache, CacheStats, NODE_FRAMES_MAX, PAGE_MAX, Room};
pub use guard::{Frame, Guard, pin};
pub use near::bring_near;
