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
//!   tags    [ page │ length │ current │ seen │ used │ occupied ]   one word for each frame: the only judge
//!                                     │
//!   arena   [ 8 KiB ][ 8 KiB ][ 8 KiB ][ … ]      2 MiB aligned, huge pages advised, touched lazily
//! ```
//!
//! Table, hints and shortcuts (from the hash of a key to the frame that has its row) only say where to look. What a frame holds is said by its tag alone, so a stale entry
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
//! # Why a shortcut leads to what a descent would find
//!
//! A descent asks for a page by its number, and gets the page of that number. A shortcut asks for a frame, and gets whatever is
//! there now: a node of any tree, of a tree that is past, or of one that nobody may see yet. So nodes are *current* or not, which
//! is a bit of their tag, and time has *turns*: the trees that readers see change with the turn only. Who reads in turn `t` and
//! follows a shortcut loads the tag, finds it current, and then finds that the turn is `t`; then the trees of `t` name the node:
//!
//! 1. The bit was set for a reader that had found the node by a descent in some turn `s`: under the lock, while the turn was `s`
//!    and the frame not empty. The reader's guard lived, so that it held the same node still. The turn had been stored before, the bit is set with `Release` and loaded with `Acquire`, and turns ascend: `s` is
//!    not above `t`.
//! 2. Had a turn after `s`, up to `t`, been without the node, then its beginning would have cleared the bit under the lock: the
//!    node was in the table then, because it is the same one still, its frame not emptied in between. And all this came before
//!    the reader learned of turn `t`, as readers do only after [`Cache::begin_turn`] has returned. Once cleared, no reader sets the bit
//!    again: none finds the node in a turn that is still to come. Its number may be given to another node, once nobody reads in a
//!    turn with the old one; then that one is removed first.
//!
//! So nodes that are written for the next turn, and nodes that readers of past turns bring back, have no shortcuts until somebody
//! finds them in the turn that it is.
//!
//! # What is bounded
//!
//! The arena never holds more than `bytes_max`. Beside it stand about 32 to 48 bytes for each frame (tag 8, hints'
//! pointer 8, table 16 to 32) and hints of at most 1/32 of `bytes_max`: a node that comes when these are
//! used up has none, and its children are found by hash. Shortcuts take the bytes that they are given. What is evicted but still seen by guards counts as
//! held, and is bounded too: a guard that is kept for ever stops `insert`, not the hits.

mod apart;
mod arena;
mod cache;
mod clock;
mod guard;
mod hints;
mod near;
mod shared;
mod shortcuts;
mod space;
mod table;
mod tag;

pub use cache::{Cache, CacheStats, May, NODE_FRAMES_MAX, PAGE_MAX, Room};
pub use guard::{Frame, Guard, pin};
pub use near::bring_near;
pub use shortcuts::{PLACE_END, Shortcut};
