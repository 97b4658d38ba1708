//! The name space of a simulated disk: creating, looking up and holding files.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::calls::{Calls, Durably, resize, sync, write_full};
use crate::errors::{Locked, OpenError};
use crate::planted::{self, Bug};
use crate::settings::Claim;
use crate::sim::content::Content;
use crate::sim::device::SimFile;
use crate::sim::faults::Call;
use crate::sim::trace::{Event, FileId};
use crate::sim::{Disk, State};
use crate::stats::Counters;
use crate::work::Resize;

/// How a file is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Open,
    /// Not yet open for good, or being closed: an opener waits for what comes of it.
    Changing,
}

/// A file held by one opener, released when dropped.
pub(crate) struct SimLock {
    disk: Disk,
    file: FileId,
}

impl SimLock {
    /// From now on openers are refused.
    pub(crate) fn settle(&self) {
        self.disk.0.state.lock().holds.insert(self.file, Hold::Open);
        self.disk.0.changed.notify_all();
    }

    /// From now on openers wait.
    pub(crate) fn closing(&self) {
        self.disk.0.state.lock().holds.insert(self.file, Hold::Changing);
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.0.state.lock().holds.remove(&self.file);
        self.disk.0.changed.notify_all();
    }
}

impl State {
    pub(super) fn new_file(&mut self, path: &Path) -> FileId {
        self.file_next += 1;
        self.files.insert(self.file_next, Content::default());
        self.names.insert(path.to_owned(), self.file_next);
        self.file_next
    }

    fn sync_names(&mut self) -> io::Result<()> {
        if planted::is(Bug::DirectoryNotSynced) {
            return Ok(());
        }
        let judged: Result<_, Errno> = self.plan.judge(Call::Sync, 0, 0);
        judged?;
        self.note(|| Event::SyncNames);
        Ok(())
    }
}

impl Disk {
    /// Creates a file as [`crate::Io::create`] says, step by step as a real one.
    pub(crate) fn create(
        &self,
        path: &Path,
        len_bytes: u64,
        contents: &[(u64, &[u8])],
    ) -> Result<(), OpenError> {
        let failed = |step| move |error: io::Error| OpenError::new(step, path, error);
        if self.0.state.lock().names.contains_key(path) {
            return Err(failed("create the file")(io::ErrorKind::AlreadyExists.into()));
        }
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let file = self.create_name(&temporary);
        let made = fill(&SimFile::new(self, file), len_bytes, contents)
            .map_err(failed("write the new file"))
            .and_then(|()| self.rename(&temporary, path).map_err(failed("name the new file")));
        if made.is_err() {
            self.remove_name(&temporary);
        }
        made
    }

    /// Takes hold of a file, for good or not, waiting while it is being closed.
    pub(crate) fn hold(&self, path: &Path, claim: Claim) -> io::Result<(SimFile, SimLock)> {
        let mut state = self.0.state.lock();
        let file = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        while let Some(hold) = state.holds.get(&file) {
            if *hold == Hold::Open {
                return Err(Locked.into());
            }
            self.0.changed.wait(&mut state);
        }
        let hold = match claim {
            Claim::Settled => Hold::Open,
            Claim::Tentative => Hold::Changing,
        };
        state.holds.insert(file, hold);
        Ok((SimFile::new(self, file), SimLock { disk: self.clone(), file }))
    }

    fn create_name(&self, path: &Path) -> FileId {
        let mut state = self.0.state.lock();
        let file = state.new_file(path);
        state.note(|| Event::Name { from: None, to: path.to_owned(), file });
        file
    }

    /// Whether a file has the name.
    pub(crate) fn has_name(&self, path: &Path) -> bool {
        self.0.state.lock().names.contains_key(path)
    }

    /// A name that no file has or had: the same in every run.
    pub(crate) fn name_beside(&self, path: &Path, purpose: &str) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.{purpose}", self.0.state.lock().file_next));
        name.into()
    }

    /// Gives a file another name, without replacing, durably.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock();
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        state.note(|| Event::Name { from: Some(from.to_owned()), to: to.to_owned(), file });
        state.sync_names()
    }

    /// Makes all names durable.
    pub(crate) fn sync_names(&self) -> io::Result<()> {
        self.0.state.lock().sync_names()
    }

    pub(crate) fn remove_name(&self, path: &Path) {
        let mut state = self.0.state.lock();
        if let Some(file) = state.names.remove(path) {
            state.files.remove(&file);
            state.note(|| Event::Unname { path: path.to_owned() });
        }
    }
}

fn fill(file: &dyn Calls, len_bytes: u64, contents: &[(u64, &[u8])]) -> io::Result<()> {
    let stats = Counters::default();
    resize(file, 0, Resize::Grow(len_bytes), &stats)?;
    for (offset, bytes) in contents {
        write_full(file, *offset, &[bytes], Durably::No, &stats)?;
    }
    sync(file, &stats)
}
