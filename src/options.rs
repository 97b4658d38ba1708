//! What a user may choose, with its defaults, bounds and the shares of memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ringdb_uring::sim::Disk;

use crate::ids::BLOCK_BYTES;

/// Which of the three ways to the disk is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// io_uring where the kernel allows it, else `pwritev`; `Db::backend` tells which and why.
    Auto,
    /// io_uring, or opening fails.
    Uring,
    /// `pwritev` and the platform's true sync, with the same coalescing and the same groups.
    Pwrite,
}

/// When a commit resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it survives power loss; if it is to unlogged families only, when it is visible.
    Immediate,
    /// When it is ordered, applied and visible; about one flush is at risk from power loss or a
    /// killed process.
    Buffered,
}

/// Whether the page cache of the kernel is passed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectIo {
    /// Direct where the file system allows it, else buffered; `Db::backend` tells which and why.
    Auto,
    /// Buffered.
    Off,
}

/// Whether commits share a log write and its sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// All commits that wait share the next log write and its sync.
    Shared,
    /// One write and one sync per commit, as most engines do; to measure what sharing gives.
    PerCommit,
}

/// What `open` does with a file that is missing or there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// Create it if it is missing.
    IfMissing,
    /// Fail with `NotFound` if it is missing.
    Never,
    /// Fail with `AlreadyExists` if it is there.
    Always,
}

/// Smallest memory budget, in bytes.
pub(crate) const MEMORY_BYTES_MIN: usize = 4 << 20;

/// Bytes of log that start a checkpoint where nearly all of it is padding, unless the options say how many. New segments are filled
/// with zeros first, which a lone durable writer waits for: it goes round in fewer.
const PADDED_LOG_BYTES_MAX: u64 = 16 << 20;

/// Part of the memory for memtables that the buffer of a log group takes: a small database has small buffers, and one of the default
/// size the largest.
const GROUP_SHARE: usize = 32;
/// Least bytes of that buffer.
const GROUP_BYTES_MIN: usize = 64 << 10;
/// Most of them; a commit that needs more brings a buffer of its own.
const GROUP_BYTES_MAX: usize = 2 << 20;
/// Buffers of groups: one fills while the other flies.
const GROUP_BUFFERS: usize = 2;

/// Part of the memory for memtables that nodes on their way to the file take.
const NODES_IN_FLIGHT_SHARE: usize = 16;
/// Bytes of these nodes at most.
const NODES_IN_FLIGHT_BYTES_MAX: usize = 4 << 20;

/// Of the memory that reads have, filters take at most this part.
const FILTERS_SHARE: usize = 16;
/// And shortcuts this one.
const SHORTCUTS_SHARE: usize = 16;

/// How a database is opened. Cheap to clone; every setter returns the options.
///
/// # Examples
///
/// ```
/// # ringdb::block_on(async {
/// # let dir = std::env::temp_dir().join(format!("ringdb-doc-options-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).unwrap();
/// # let path = dir.join("app.ring");
/// use ringdb::{Durability, Options};
///
/// let db = Options::new().memory_bytes(64 << 20).durability(Durability::Buffered).open(&path).await?;
/// db.close().await?;
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), ringdb::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) memory_bytes: usize,
    pub(crate) backend: Backend,
    pub(crate) durability: Durability,
    pub(crate) direct_io: DirectIo,
    pub(crate) grouping: Grouping,
    pub(crate) create: Create,
    pub(crate) log_bytes_max: Option<u64>,
    pub(crate) segment_bytes_max: u64,
    pub(crate) queue_depth: u32,
    pub(crate) snapshot_age_max: Duration,
    pub(crate) snapshot_pinned_bytes_max: u64,
}

/// Largest batch, however much memory there is: it is one write, and one segment holds it.
const BATCH_BYTES_MAX: usize = 256 << 20;

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}

impl Options {
    /// The defaults: 128 MiB of memory, `Immediate` durability, the best backend there is.
    pub fn new() -> Options {
        Options {
            memory_bytes: 128 << 20,
            backend: Backend::Auto,
            durability: Durability::Immediate,
            direct_io: DirectIo::Auto,
            grouping: Grouping::Shared,
            create: Create::IfMissing,
            log_bytes_max: None,
            segment_bytes_max: 16 << 20,
            queue_depth: 128,
            snapshot_age_max: Duration::from_secs(600),
            snapshot_pinned_bytes_max: 1 << 30,
        }
    }

    /// Memory for memtables and the page cache together, in bytes; at least 4 MiB.
    ///
    /// Half is for memtables. One thirty-second each is for the filters of families that have several trees and for shortcuts to rows in
    /// cached pages; one sixteenth, at most 8 MiB, for buffers of log groups and checkpoints; the rest, three eighths or more, for
    /// cached pages. What memtables have taken of their half stays with the database, for the next ones.
    ///
    /// Outside of it lie: values that the program holds, batches not yet submitted, what open transactions have read and written, a
    /// tenth of it for each [`Ingest`](crate::Ingest) under way, some 60 bytes for each page of trees while a
    /// [`check`](crate::Db::check) runs, and some 2 MiB for reads in flight and the keys of recent commits.
    pub fn memory_bytes(mut self, bytes: usize) -> Options {
        self.memory_bytes = bytes.max(MEMORY_BYTES_MIN);
        self
    }

    /// The way to the disk.
    pub fn backend(mut self, backend: Backend) -> Options {
        self.backend = backend;
        self
    }

    /// The durability of commits that do not choose their own.
    pub fn durability(mut self, durability: Durability) -> Options {
        self.durability = durability;
        self
    }

    /// Direct or buffered I/O.
    pub fn direct_io(mut self, direct: DirectIo) -> Options {
        self.direct_io = direct;
        self
    }

    /// Whether commits share log writes.
    pub fn grouping(mut self, grouping: Grouping) -> Options {
        self.grouping = grouping;
        self
    }

    /// What to do if the file is missing or there.
    pub fn create(mut self, create: Create) -> Options {
        self.create = create;
        self
    }

    /// Bytes of log that start a checkpoint although the memtables are small; by default twice
    /// the memory for memtables, and 16 MiB where most of the log is padding, as that of a lone durable writer is. At least
    /// 1 MiB.
    pub fn log_bytes_max(mut self, bytes: u64) -> Options {
        self.log_bytes_max = Some(bytes.max(1 << 20));
        self
    }

    /// Largest ordinary log segment, in bytes; rounded to pages, from 16 KiB to 1 GiB, 16 MiB by default. A batch larger than a
    /// segment gets one of its own size.
    pub fn segment_bytes_max(mut self, bytes: u64) -> Options {
        self.segment_bytes_max = bytes.clamp(16 << 10, 1 << 30);
        self
    }

    /// Operations in flight at once, from 2 to 4,096; 128 by default.
    pub fn queue_depth(mut self, entries: u32) -> Options {
        self.queue_depth = entries.clamp(2, 4096);
        self
    }

    /// Age from which a snapshot, scan, backup or check may expire; 10 minutes by default. It is looked at when the checkpointer has
    /// something to do.
    pub fn snapshot_age_max(mut self, age: Duration) -> Options {
        self.snapshot_age_max = age;
        self
    }

    /// Bytes of file and memory that snapshots, scans, backups and checks may keep from being reused before the oldest expires; 1 GiB
    /// by default.
    pub fn snapshot_pinned_bytes_max(mut self, bytes: u64) -> Options {
        self.snapshot_pinned_bytes_max = bytes;
        self
    }

    /// How the memory is split: at least 4 MiB, of which every share leaves some for the others.
    pub(crate) fn shares(&self) -> Shares {
        let memtable_bytes_max = self.memory_bytes / 2;
        let reads_bytes_max = self.memory_bytes - memtable_bytes_max;
        let filter_bytes_max = reads_bytes_max / FILTERS_SHARE;
        let shortcut_bytes_max = reads_bytes_max / SHORTCUTS_SHARE;
        let group_bytes = memtable_bytes_max / GROUP_SHARE / BLOCK_BYTES * BLOCK_BYTES;
        let group_bytes = group_bytes.clamp(GROUP_BYTES_MIN, GROUP_BYTES_MAX);
        let nodes_in_flight_bytes_max =
            NODES_IN_FLIGHT_BYTES_MAX.min(memtable_bytes_max / NODES_IN_FLIGHT_SHARE);
        let other_bytes_max = filter_bytes_max
            + shortcut_bytes_max
            + GROUP_BUFFERS * group_bytes
            + nodes_in_flight_bytes_max;
        let log_bytes_max = self.log_bytes_max.unwrap_or(2 * memtable_bytes_max as u64);
        Shares {
            memtable_bytes_max,
            group_bytes,
            nodes_in_flight_bytes_max,
            cache_bytes_max: reads_bytes_max - other_bytes_max,
            filter_bytes_max,
            shortcut_bytes_max,
            batch_bytes_max: (memtable_bytes_max / 4).min(BATCH_BYTES_MAX),
            log_bytes_max,
            padded_log_bytes_max: self
                .log_bytes_max
                .unwrap_or(PADDED_LOG_BYTES_MAX)
                .min(log_bytes_max),
        }
    }
}

/// How the memory of one database is split.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    pub memtable_bytes_max: usize,
    /// Of each of the two buffers of log groups.
    pub group_bytes: usize,
    pub nodes_in_flight_bytes_max: usize,
    pub cache_bytes_max: usize,
    pub filter_bytes_max: usize,
    pub shortcut_bytes_max: usize,
    pub batch_bytes_max: usize,
    pub log_bytes_max: u64,
    pub padded_log_bytes_max: u64,
}

/// Where a database lives.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Path(PathBuf),
    Disk(Disk, PathBuf),
}

impl Place {
    pub(crate) fn path(path: impl AsRef<Path>) -> Place {
        Place::Path(path.as_ref().to_owned())
    }

    /// The database of a simulated disk.
    pub(crate) fn disk(disk: &Disk) -> Place {
        Place::Disk(disk.clone(), PathBuf::from("ringdb"))
    }

    /// The file's name.
    pub(crate) fn name(&self) -> &Path {
        match self {
            Place::Path(path) | Place::Disk(_, path) => path,
        }
    }

    /// Another file beside it.
    pub(crate) fn beside(&self, path: PathBuf) -> Place {
        match self {
            Place::Path(_) => Place::Path(path),
            Place::Disk(disk, _) => Place::Disk(disk.clone(), path),
        }
    }
}
