//! One opener at a time: a registry inside the process, `flock` between processes.
//!
//! POSIX record locks were rejected: closing any descriptor of the file drops them. The registry
//! goes by device and inode, so links and other spellings of the path are the same file. It also
//! knows which files are still being closed: a database that was dropped finishes its writes
//! behind the dropper's back, and an `open` in the same process waits for that, bounded.

use std::collections::HashMap;
use std::io;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::fd::AsFd;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::errors::Locked;
use crate::file::Identity;
use crate::fork::Birth;
use crate::settings;

/// How long an `open` waits for a file that this process is opening or closing.
const CLOSING_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long an `open` tries for the lock: a killed process holds it until its last I/O is over.
const FLOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// Time between two tries.
const FLOCK_RETRY: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Not yet open for good, or being closed: an opener waits for what comes of it.
    Changing,
}

#[derive(Default)]
struct Registry {
    files: Mutex<HashMap<Identity, (Stage, Birth)>>,
    changed: Condvar,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::default);

/// This process's claim to a file, given up when dropped.
pub(crate) struct Claim(Identity);

impl Claim {
    /// Claims the file, for good or not, waiting for a holder that is closing.
    pub(crate) fn take(file: Identity, settled: settings::Claim) -> io::Result<Claim> {
        let deadline = Instant::now() + CLOSING_WAIT_MAX;
        let birth = Birth::now();
        let mut files = REGISTRY.files.lock();
        loop {
            match files.get(&file) {
                Some((stage, owner)) if *owner == birth => {
                    let changing = *stage == Stage::Changing;
                    if !changing || REGISTRY.changed.wait_until(&mut files, deadline).timed_out() {
                        return Err(Locked.into());
                    }
                }
                Some(_) | None => break, // Free, or held by the process we were forked from.
            }
        }
        let stage = match settled {
            settings::Claim::Settled => Stage::Open,
            settings::Claim::Tentative => Stage::Changing,
        };
        files.insert(file, (stage, birth));
        Ok(Claim(file))
    }

    /// From now on the file is open for good, and openers are told so.
    pub(crate) fn settle(&self) {
        self.set(Stage::Open);
        REGISTRY.changed.notify_all();
    }

    /// From now on the file is being closed, and openers wait.
    pub(crate) fn closing(&self) {
        self.set(Stage::Changing);
    }

    fn set(&self, to: Stage) {
        if let Some((stage, _)) = REGISTRY.files.lock().get_mut(&self.0) {
            *stage = to;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        REGISTRY.files.lock().remove(&self.0);
        REGISTRY.changed.notify_all();
    }
}

/// Locks the file against other processes, trying for a bounded time.
pub(crate) fn flock(file: impl AsFd) -> io::Result<()> {
    let deadline = Instant::now() + FLOCK_WAIT_MAX;
    loop {
        match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(FLOCK_RETRY),
            Err(Errno::WOULDBLOCK) => return Err(Locked.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Gives the lock up at once, whoever else still has the descriptor (a ring that is being torn
/// down, a forked child).
pub(crate) fn unlock(file: impl AsFd) {
    let _ = rustix::fs::flock(file, FlockOperation::Unlock);
}
