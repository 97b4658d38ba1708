//! The promises on the kernel's own file systems: power cuts, `kill -9`, no space left.
//!
//! Each test makes a small file system in an image behind a loop device, mounts it, and puts one
//! database there. That takes root, loop devices and the `mkfs` program; where one is missing the
//! test says what and passes. Images lie in memory where there is room (`/dev/shm`).
//!
//! A power cut is made in two ways, because neither kernel offers one that models everything:
//!
//! * *Shutdown* (`FS_IOC_SHUTDOWN` without a log flush): the file system stops at once, and what it
//!   had not yet written to the device is gone: dirty pages, delayed allocation, the journal's
//!   running transaction. What it had written stays, in order, as if the device had no cache.
//!   ext4 without a journal has its metadata in the cache of the block device, which outlives this.
//! * *Lost cache*: the image lies behind a server of our own (`device`) with a volatile write
//!   cache. After the cut each write that no flush had covered is lost, kept or torn at any
//!   512-byte border, whoever wrote it: the file system or we. This knows nothing of file systems,
//!   so it serves btrfs too, which has no such ioctl.
//!
//! Not modelled: a device that lies about its flush, and memory that goes bad before it.

pub mod cuts;
pub mod device;
mod full;
mod fuse;
pub mod kills;
pub mod load;
pub mod stage;
mod story;

use ringdb::{Backend, DirectIo, Options};

/// A file system that can be made and mounted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    Ext4WithoutJournal,
    Xfs,
    Btrfs,
}

impl FileSystem {
    /// Each of them.
    pub const ALL: [FileSystem; 4] =
        [FileSystem::Ext4, FileSystem::Ext4WithoutJournal, FileSystem::Xfs, FileSystem::Btrfs];

    /// What `mount` calls it.
    fn kind(self) -> &'static str {
        match self {
            FileSystem::Ext4 | FileSystem::Ext4WithoutJournal => "ext4",
            FileSystem::Xfs => "xfs",
            FileSystem::Btrfs => "btrfs",
        }
    }

    fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4WithoutJournal => "ext4 without journal",
            other => other.kind(),
        }
    }

    /// The program that makes it, and its arguments.
    fn mkfs(self) -> (&'static str, &'static [&'static str]) {
        match self {
            FileSystem::Ext4 => ("mkfs.ext4", &["-q", "-F", "-m", "0"]),
            FileSystem::Ext4WithoutJournal => {
                ("mkfs.ext4", &["-q", "-F", "-m", "0", "-O", "^has_journal"])
            }
            FileSystem::Xfs => ("mkfs.xfs", &["-q", "-f"]),
            FileSystem::Btrfs => ("mkfs.btrfs", &["-q", "-f"]),
        }
    }

    /// Size of its image; XFS wants at least 300 MiB.
    fn image_bytes(self) -> u64 {
        match self {
            FileSystem::Ext4 | FileSystem::Ext4WithoutJournal => 192 << 20,
            FileSystem::Xfs => 320 << 20,
            FileSystem::Btrfs => 256 << 20,
        }
    }
}

/// How a database is opened there.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub backend: Backend,
    pub direct: DirectIo,
}

impl Way {
    /// Both backends, direct and buffered.
    const ALL: [Way; 4] = [
        Way { backend: Backend::Uring, direct: DirectIo::Auto },
        Way { backend: Backend::Uring, direct: DirectIo::Off },
        Way { backend: Backend::Pwrite, direct: DirectIo::Auto },
        Way { backend: Backend::Pwrite, direct: DirectIo::Off },
    ];

    /// Little memory and a short log, so that checkpoints and growth are frequent.
    pub fn options(self) -> Options {
        let options = Options::new().backend(self.backend).direct_io(self.direct);
        options.memory_bytes(4 << 20).log_bytes_max(1 << 20).segment_bytes_max(256 << 10)
    }

    /// As text: an argument of a child, and part of a line of results.
    pub fn words(self) -> String {
        let backend = if self.backend == Backend::Pwrite { "pwrite" } else { "uring" };
        let direct = if self.direct == DirectIo::Off { "buffered" } else { "direct" };
        format!("{backend} {direct}")
    }

    /// Read back from such text.
    pub fn of(words: &str) -> Way {
        let found = Way::ALL.into_iter().find(|way| words.starts_with(&way.words()));
        found.unwrap_or_else(|| panic!("{words:?} names no way to open"))
    }

    /// The ways that work here: io_uring may be refused.
    pub fn possible() -> Vec<Way> {
        let ring = ringdb::block_on(async {
            let directory = tempfile::tempdir().expect("a temporary directory can be made");
            Options::new().backend(Backend::Uring).open(directory.path().join("a.ring")).await
        });
        let refused = ring.err().map(|error| format!("{error:?}"));
        if let Some(refused) = &refused {
            crate::fixture::say(format!("real file systems: no io_uring here: {refused}"));
        }
        let possible = |way: &Way| way.backend == Backend::Pwrite || refused.is_none();
        Way::ALL.into_iter().filter(possible).collect()
    }
}
