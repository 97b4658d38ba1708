//! What every engine has to do here, each in its own way, and which engines there are.
//!
//! The settings follow each engine's documentation for this use: caches of the same size, no
//! compression on either side, and the cheapest call that its documentation says is durable.
//! Readers keep what an engine lets them keep from one read to the next (a read transaction, a
//! statement, a connection), which is to the peers' advantage: ours takes a new view each time.

mod files;
mod fjall;
mod lmdb;
mod none;
mod redb;
mod ring;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sqlite;

use std::fmt::Display;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use clap::ValueEnum;
use ringdb_cli::exit::Failure;
use serde::{Deserialize, Serialize};

use crate::data::{Change, Key};
use crate::protocol::Keys;

/// A result whose failure ends the case.
pub type Outcome<T> = Result<T, Failure>;

/// A future that a task awaits.
pub type Boxed<T> = Pin<Box<dyn Future<Output = Outcome<T>> + Send>>;

/// Who is compared.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// ringdb, all families in one file
    Ringdb,
    /// ringdb, a database for each family
    RingdbFiles,
    /// No engine: the least that it takes to share a log and to find the rows again; single puts only
    NoEngine,
    /// redb, a table for each family
    Redb,
    /// redb, a file for each family
    RedbFiles,
    /// fjall, a keyspace for each family
    Fjall,
    /// LMDB (through heed), a named database for each family
    Lmdb,
    /// SQLite in WAL mode, a table for each family
    Sqlite,
    /// RocksDB, a column family for each family
    #[cfg(feature = "rocksdb")]
    Rocksdb,
}

impl Name {
    /// As it is printed.
    pub fn text(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it is ours, in one file or in many.
    pub fn is_ours(self) -> bool {
        matches!(self, Name::Ringdb | Name::RingdbFiles)
    }

    /// Whether it is an engine that a user could pick instead of ours.
    pub fn is_peer(self) -> bool {
        !self.is_ours() && self != Name::NoEngine
    }

    /// Whether it has a database for each family; such names take part only where writers differ.
    pub fn has_files(self) -> bool {
        matches!(self, Name::RingdbFiles | Name::RedbFiles)
    }

    /// Rows of the largest tables that it takes part in: SQLite loads 20,000 rows a second, five million in four minutes, and a run
    /// has some dozen such loads.
    pub fn table_rows_max(self) -> u64 {
        match self {
            Name::Sqlite => 1_000_000,
            _ => u64::MAX,
        }
    }

    /// What its unsynced commits lose: when the process is killed, and when power fails.
    pub fn unsynced_loses(self) -> (&'static str, &'static str) {
        match self {
            Name::Ringdb | Name::RingdbFiles => ("about one flush", "about one flush"),
            Name::NoEngine => ("everything", "everything"),
            Name::Redb | Name::RedbFiles => {
                ("all since the last synced commit", "all since the last synced commit")
            }
            Name::Fjall => ("nothing", "what the kernel had not written"),
            Name::Lmdb => ("nothing", "possibly the whole database"),
            Name::Sqlite => ("nothing", "what the kernel had not written"),
            #[cfg(feature = "rocksdb")]
            Name::Rocksdb => ("nothing", "what the kernel had not written"),
        }
    }

    /// Opens or creates a database.
    pub fn open(self, settings: &Settings) -> Outcome<Arc<dyn Engine>> {
        Ok(match self {
            Name::Ringdb => Arc::new(ring::Ring::open(settings)?),
            Name::NoEngine => Arc::new(none::NoEngine::open(settings)?),
            Name::Redb => Arc::new(redb::Redb::open(settings)?),
            Name::Fjall => Arc::new(fjall::Fjall::open(settings)?),
            Name::Lmdb => Arc::new(lmdb::Lmdb::open(settings)?),
            Name::Sqlite => Arc::new(sqlite::Sqlite::open(settings)?),
            Name::RingdbFiles => Arc::new(files::Files::open(Name::Ringdb, settings)?),
            Name::RedbFiles => Arc::new(files::Files::open(Name::Redb, settings)?),
            #[cfg(feature = "rocksdb")]
            Name::Rocksdb => Arc::new(rocksdb::Rocks::open(settings)?),
        })
    }
}

/// How a database is opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// A directory of its own.
    pub directory: PathBuf,
    /// Families.
    pub families: u32,
    /// Memory for its caches and write buffers.
    pub memory_bytes: usize,
    /// What commits have survived when they return.
    pub durability: Durability,
    /// How ours calls the kernel.
    pub calls: Calls,
}

/// How the engine that can choose calls the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Calls {
    /// In the best way there is.
    Best,
    /// By calls that a tracer sees.
    Plain,
}

/// What a commit has survived when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// Power loss.
    Synced,
    /// What `Name::unsynced_loses` says.
    Unsynced,
}

impl Settings {
    /// Write buffer of engines that have one apart from their cache, as RocksDB and fjall have.
    pub fn write_buffer_bytes(&self) -> usize {
        (self.memory_bytes / 4).clamp(1 << 20, 64 << 20)
    }

    /// What is left for cached pages.
    pub fn cache_bytes(&self) -> usize {
        self.memory_bytes - (2 * self.write_buffer_bytes()).min(self.memory_bytes / 2)
    }
}

/// A database that is open.
pub trait Engine: Send + Sync {
    /// Commits changes of one family, all or none.
    fn write(&self, family: u32, changes: &[Change]) -> Outcome<()>;

    /// Puts rows of any number in one load, durably; false if the engine has nothing for that.
    fn load(
        &self,
        _family: u32,
        _rows: &mut dyn Iterator<Item = Change>,
        _keys: Keys,
    ) -> Outcome<bool> {
        Ok(false)
    }

    /// A reader of a family, for one thread.
    fn reader(&self, family: u32) -> Outcome<Box<dyn Reader + '_>>;

    /// Puts one row from a task, where the engine has futures.
    fn put_async(&self, _family: u32, _change: &Change) -> Option<Boxed<()>> {
        None
    }

    /// Reads one row from a task, where the engine has futures; whether it is there.
    fn get_async(&self, _family: u32, _key: &Key) -> Option<Boxed<bool>> {
        None
    }

    /// Bytes of log that opening looked through, where the engine tells.
    fn replayed_bytes(&self) -> u64 {
        0
    }

    /// Brings write buffers to their final place and waits for the work that follows from it.
    fn settle(&self) -> Outcome<()>;

    /// What an administrator would call to make the file small; false if there is no such thing.
    fn compact(&self) -> Outcome<bool>;

    /// Moves what was written lately to its place, as it happens in normal work every now and
    /// then; false if the engine has nothing of the kind.
    fn checkpoint(&self) -> Outcome<bool>;

    /// Closes it in order, as far as it knows that.
    fn close(&self) -> Outcome<()>;
}

/// Reads on one thread.
pub trait Reader {
    /// Whether the row is there; its value is looked at.
    fn get(&mut self, key: &Key) -> Outcome<bool>;

    /// How many of the rows are there.
    fn get_many(&mut self, keys: &[Key]) -> Outcome<usize> {
        keys.iter().try_fold(0, |found, key| Ok(found + usize::from(self.get(key)?)))
    }

    /// Reads up to so many rows from a key on; how many there were.
    fn scan(&mut self, from: &Key, rows: usize) -> Outcome<usize>;
}

/// Looks at a value, so that no engine gets away with an address.
fn looked_at(value: &[u8]) -> bool {
    let words = value.iter().step_by(64).fold(0u8, |sum, byte| sum ^ byte);
    std::hint::black_box(words);
    !value.is_empty()
}

/// An error of an engine in its own words.
fn failed(error: impl Display) -> Failure {
    Failure::error(error.to_string())
}

/// Name of a family.
fn family_name(family: u32) -> String {
    format!("family_{family}")
}
