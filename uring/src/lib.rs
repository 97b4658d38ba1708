//! The I/O crate of ringdb: one open file, and one owner of all its I/O.
//!
//! It knows files, buffers and offsets, and never heard of a key. Three backends keep one
//! contract, and one suite of tests runs over all three: `io_uring`, blocking calls on a pool
//! (`pwrite`), and a simulated disk that crashes and lies ([`sim`]).
//!
//! ```text
//!  Io::read, write, sync, grow, shrink  Feed (the log)
//!          │ submitted when called         ▲ asked for its next durable write,
//!          ▼                               │ one at a time
//!      queue: order, shares, coalescing    │
//!          │                               │
//!          ▼                               ▼
//!      owner: whoever holds the role ── io_uring │ pwritev2 │ sim
//!          │
//!          └─▶ results and buffers back, tasks woken
//! ```
//!
//! - **One owner, and it is a role.** A background thread holds it while there is something to
//!   do and nobody else does; a caller that would block anyway may drive ([`Io::drive`]), and its
//!   durable write then costs one system call and no hop between threads. One that never drives may
//!   make what it waits for itself, while the feed writes ([`Io::help`]).
//! - **Buffers belong to operations**, never to futures: any future may be dropped at any time.
//! - **Errors are reported once and never retried**; short transfers are resumed.
//! - **Everything is bounded**: operations in the kernel, operations inside the queue, bytes of
//!   page writes in flight, retries, waits for a lock.
//!
//! ```
//! use ringdb_uring::{BLOCK_BYTES, Buf, Io, Settings};
//!
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("a.ring");
//! Io::create(&path, &Settings::default(), 1 << 20, &[(0, b"a header")])?;
//! let io = Io::open(&path, &Settings::default())?;
//! futures::executor::block_on(async {
//!     let mut page = Buf::zeroed(BLOCK_BYTES);
//!     page[..5].copy_from_slice(b"hello");
//!     let (written, page) = io.write(8192, page, BLOCK_BYTES).await;
//!     written?;
//!     io.sync().await?;
//!     let (read, page) = io.read(8192, page).await;
//!     read?;
//!     assert_eq!(&page[..5], b"hello");
//!     io.close().await;
//!     Ok::<(), std::io::Error>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(missing_docs)]

mod backend;
mod buf;
mod calls;
mod coalesce;
mod create;
mod drive;
mod errors;
mod feed;
mod file;
mod fork;
mod help;
mod io;
mod lock;
#[cfg(all(test, any(ringdb_loom, ringdb_shuttle)))]
mod models;
mod op;
mod open;
mod owner;
#[doc(hidden)]
pub mod planted;
#[cfg(target_os = "linux")]
mod pool;
mod probe;
mod queue;
mod report;
mod settings;
mod shared;
pub mod sim;
#[cfg(target_os = "linux")]
mod slots;
mod standby;
mod stats;
mod storage;
#[doc(hidden)]
pub mod threads;
mod turns;
mod wake;
mod work;

pub use buf::Buf;
pub use errors::{Locked, OpenError, OwnerGone, Refused};
pub use feed::{Feed, Next, Pending};
pub use io::{Close, Io, TRANSFER_BYTES_MAX};
pub use op::{Grow, Read, Shrink, Sync, Write};
pub use report::{BackendKind, Report, SyncMethod};
pub use settings::{
    BackendChoice, Claim, Coalesce, DirectIo, QUEUE_DEPTH_DEFAULT, QUEUE_DEPTH_MAX, Settings,
};
pub use standby::Blocked;
pub use stats::Stats;
pub use turns::Turns;

/// Unit of offsets, lengths and alignment, in bytes: what direct I/O asks for at most.
pub const BLOCK_BYTES: usize = 4096;
