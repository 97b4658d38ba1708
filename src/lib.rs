//! An async embedded key-value storage engine: many column families in one file, and every write
//! of all of them driven through one ring owner that coalesces page writes and shares log syncs.
//!
//! It runs on io_uring on Linux and on `pwritev` where there is none, depends on no async runtime,
//! and its futures are `Send` and may be dropped at any time.
//!
//! [`Db::open`] and [`Options`] open a database, [`Db::column_family`] gives a [`ColumnFamily`] to write and read, [`Db::batch`] several
//! writes as one, [`Db::transact`] reads and writes as one, [`Db::snapshot`] a fixed view, [`ColumnFamily::ingest`] loads many rows.
//! Without an async runtime, [`block_on`] and the `wait` of a [`Write`] do.
//!
//! ```
//! # ringdb::block_on(async {
//! use ringdb::Db;
//!
//! let db = Db::in_memory().await?; // or Db::open("app.ring")
//! let users = db.column_family("users").await?;
//! users.put("ada", "1815").await?; // durable when it returns
//! let born = users.get("ada").await?;
//! assert_eq!(born.as_deref(), Some(&b"1815"[..]));
//! db.close().await?;
//! # Ok::<(), ringdb::Error>(())
//! # }).unwrap();
//! ```

// Imports go down only: `db` and `tx` (what a program sees) over `checkpoint` and `recovery` over
// `read`, `check`, `room` and `large` over `engine` and `batch` over `commit`, `page` and `snapshot` over
// `state` and `alloc` over `log`, `tree` and `memtable` over `format` over `options`, `value`,
// `report`, `blocking`, `ids` and `error`.

#![forbid(unsafe_code)]

mod alloc;
mod batch;
mod blocking;
mod check;
mod checkpoint;
mod commit;
mod db;
mod engine;
mod error;
mod format;
mod ids;
mod large;
mod log;
mod memtable;
mod options;
mod page;
mod read;
mod recovery;
mod report;
mod room;
mod snapshot;
mod state;
mod tree;
mod tx;
mod value;

pub use batch::{BATCH_RANGE_DELETES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use blocking::block_on;
pub use bytes::Bytes;
pub use db::{
    BackendKind, BackendReport, Backup, Batch, Check, CheckProgress, CheckReport, ColumnFamily,
    ColumnFamilyOptions, Commit, Contains, Db, Defect, FamilyStat, ForEachWith, Get, GetWith,
    Health, HealthChanged, Ingest, Metrics, MultiGet, PutRow, Range, Snapshot, Stat, Submit, Task,
    TryNext, TryNextChunk, TryNextWith, Visible, Write,
};
pub use error::{Error, ErrorKind, Result};
pub use ids::Seq;
pub use options::{Backend, Create, DirectIo, Durability, Grouping, Options};
pub use report::{RecoveryReport, RestoreReport};
pub use tx::Transaction;
pub use value::Value;

/// The simulated disk, for crash tests of services built on ringdb.
#[cfg(feature = "sim")]
pub mod sim {
    pub use ringdb_uring::sim::{
        Call, Calls, Choice, Disk, Fault, Faults, Injected, SECTOR_BYTES, Times, Unsynced,
    };
}

#[cfg(all(feature = "planted", debug_assertions))]
#[doc(hidden)]
pub use ringdb_uring::planted;

/// The README's programs, compiled and run with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
