//! Setting up a ring: the best flags the kernel takes, the file registered, the operations
//! restricted to those in use.
//!
//! The flags that defer completions to the submitting thread (`SINGLE_ISSUER`, `DEFER_TASKRUN`,
//! `COOP_TASKRUN`) are not used: the role moves between threads, and they measure under one
//! percent. No `SQPOLL` (a core for nothing), no `IOPOLL` (the device would have to).

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, squeue};
use rustix::event::EventfdFlags;
use rustix::fd::{AsFd, OwnedFd};

use crate::file::OsFile;
use crate::pool::Pool;
use crate::queue::Limits;

/// Entries for what is not in the limits: the feed's write and the bell, and one to spare.
const ENTRIES_EXTRA: usize = 3;

/// Indices of the registered files.
pub(crate) const FILE_INDEX: u32 = 0;
/// The bell's.
pub(crate) const BELL_INDEX: u32 = 1;
/// The file as writes of the feed know it.
pub(crate) const FEED_INDEX: u32 = 2;
/// Index of the registered memory.
pub(crate) const POOL_INDEX: u16 = 0;

/// A ring that is ready for its owner.
pub(crate) struct Ready {
    pub(crate) ring: IoUring,
    pub(crate) event: Arc<OwnedFd>,
    pub(crate) pool: Option<Arc<Pool>>,
    pub(crate) words: String,
}

/// A ring, and its registered memory or why it has none.
type Built = (IoUring, io::Result<Arc<Pool>>);

/// One wish list of set-up flags.
#[derive(Clone, Copy)]
struct Attempt {
    words: &'static str,
    submit_all: Wish,
    no_sqarray: Wish,
    restricted: Wish,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Yes,
    No,
}

/// From best to plain; each older kernel refuses the first ones with `EINVAL`.
const ATTEMPTS: [Attempt; 4] = [
    Attempt {
        words: "restricted, SUBMIT_ALL, NO_SQARRAY",
        submit_all: Wish::Yes,
        no_sqarray: Wish::Yes,
        restricted: Wish::Yes,
    },
    Attempt {
        words: "restricted, SUBMIT_ALL",
        submit_all: Wish::Yes,
        no_sqarray: Wish::No,
        restricted: Wish::Yes,
    },
    Attempt {
        words: "restricted",
        submit_all: Wish::No,
        no_sqarray: Wish::No,
        restricted: Wish::Yes,
    },
    Attempt { words: "no flags", submit_all: Wish::No, no_sqarray: Wish::No, restricted: Wish::No },
];

/// Builds a ring for this file, as the queue and as the feed knows it, that never has to refuse an entry within the limits.
pub(crate) fn prepare(file: &OsFile, feed_file: &OsFile, limits: Limits) -> io::Result<Ready> {
    let entries = entries_for(limits);
    let event = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?);
    let mut refused = io::Error::from(io::ErrorKind::Unsupported);
    for attempt in ATTEMPTS {
        match attempt.build(limits, [file, feed_file], &event) {
            Ok((ring, pool)) => {
                let (pool, buffers) = match pool {
                    Ok(pool) => {
                        let pieces = pool.pieces();
                        (Some(pool), format!("{pieces} registered buffers"))
                    }
                    Err(error) => (None, format!("no registered buffers ({error})")),
                };
                let (flags, features) = (attempt.words, features(&ring));
                let words = format!("io_uring: {flags}, {entries} entries, {buffers}, {features}");
                return Ok(Ready { ring, event, pool, words });
            }
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                refused = error;
            }
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

/// Entries of a ring that has room for everything within the limits.
fn entries_for(limits: Limits) -> u32 {
    (limits.in_flight_max() + ENTRIES_EXTRA).next_power_of_two() as u32
}

impl Attempt {
    fn build(self, limits: Limits, files: [&OsFile; 2], event: &OwnedFd) -> io::Result<Built> {
        let mut builder = IoUring::builder();
        if self.submit_all == Wish::Yes {
            builder.setup_submit_all();
        }
        if self.no_sqarray == Wish::Yes {
            builder.setup_no_sqarray();
        }
        if self.restricted == Wish::Yes {
            builder.setup_r_disabled();
        }
        let ring = builder.dontfork().build(entries_for(limits))?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            let old = "the kernel is older than Linux 5.11";
            return Err(io::Error::new(io::ErrorKind::Unsupported, old));
        }
        let submitter = ring.submitter();
        let [file, feed_file] = files.map(|file| file.as_fd().as_raw_fd());
        submitter.register_files(&[file, event.as_raw_fd(), feed_file])?;
        // Not allowed any more once the ring is restricted; refused where memory must not be locked.
        let pool = Pool::register(&ring, limits.reads);
        if self.restricted == Wish::Yes {
            submitter.register_restrictions(&mut restrictions())?;
            submitter.register_enable_rings()?;
        }
        Ok((ring, pool))
    }
}

fn restrictions() -> [Restriction; 7] {
    [
        Restriction::sqe_op(opcode::Read::CODE),
        Restriction::sqe_op(opcode::ReadFixed::CODE),
        Restriction::sqe_op(opcode::Write::CODE),
        Restriction::sqe_op(opcode::Writev::CODE),
        Restriction::sqe_op(opcode::Fsync::CODE),
        Restriction::sqe_op(opcode::Fallocate::CODE),
        Restriction::sqe_flags_required(squeue::Flags::FIXED_FILE.bits()),
    ]
}

fn features(ring: &IoUring) -> String {
    let params = ring.params();
    let known = [
        (params.is_feature_single_mmap(), "single mmap"),
        (params.is_feature_native_workers(), "native workers"),
        (params.is_feature_linked_file(), "linked file"),
        (params.is_feature_min_timeout(), "min timeout"),
    ];
    let words: Vec<&str> = known.iter().filter(|known| known.0).map(|known| known.1).collect();
    words.join(", ")
}
