//! The I/O crate of ringdb: one open file, one owner of all its I/O.
//!
//! It knows files, buffers and offsets, and never heard of a key. Three backends keep one
//! contract: `io_uring`, blocking calls on a pool (`pwrite`), and a simulated disk ([`sim`]).

#![warn(missing_docs)]

mod backend;
mod buf;
mod calls;
mod coalesce;
mod create;
mod errors;
mod feed;
mod file;
mod fork;
mod io;
mod lock;
mod op;
mod open;
mod owner;
mod probe;
mod queue;
mod report;
mod settings;
mod shared;
pub mod sim;
#[cfg(target_os = "linux")]
mod slots;
mod stats;
mod storage;
mod wake;
mod work;

pub use buf::Buf;
pub use errors::{Locked, OpenError, OwnerGone, Refused};
pub use feed::{Feed, Next};
pub use io::{Close, Io, TRANSFER_BYTES_MAX};
pub use op::{Grow, Read, Sync, Write};
pub use report::{BackendKind, Report, SyncMethod};
pub use settings::{
    BackendChoice, Coalesce, DirectIo, Probe, QUEUE_DEPTH_DEFAULT, QUEUE_DEPTH_MAX, Settings,
};
pub use stats::Stats;

/// Unit of offsets, lengths and alignment, in bytes: what direct I/O asks for at most.
pub const BLOCK_BYTES: usize = 4096;
