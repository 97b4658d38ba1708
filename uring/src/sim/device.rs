//! The calls on a file of a simulated disk.

use std::io::IoSlice;
use std::sync::Arc;

use parking_lot::MutexGuard;
use rustix::io::Errno;

use crate::backend::perform::perform;
use crate::calls::{Calls, Durably};
use crate::queue::Core;
use crate::sim::faults::Call;
use crate::sim::trace::{Ended, Event, FileId};
use crate::sim::{Disk, Speed, State};

/// A file of a simulated disk.
#[derive(Clone)]
pub(crate) struct SimFile {
    disk: Disk,
    file: FileId,
}

/// Whether a run left the queue idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    /// Something ran and nothing is left.
    Idle,
    /// Something is left, or nothing ran.
    Other,
}

impl SimFile {
    pub(super) fn new(disk: &Disk, file: FileId) -> SimFile {
        SimFile { disk: disk.clone(), file }
    }

    /// Length of the file.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.disk.0.state.lock().files.get(&self.file).map_or(0, |content| content.len_bytes())
    }

    /// Does what the queue offers, unless the disk is paused.
    pub(crate) fn run(&self, core: &Core) -> Ran {
        let mut ran = Ran::Other;
        while !self.disk.is_paused() {
            let mut works: Vec<_> = std::iter::from_fn(|| core.pop()).collect();
            if works.is_empty() {
                break;
            }
            self.disk.reorder(&mut works);
            for mut work in works {
                let result = perform(self, core, &mut work);
                ran = if core.finish(work, result) { Ran::Idle } else { Ran::Other };
            }
        }
        ran
    }

    /// The disk's state, once it is not paused: a paused device keeps its callers waiting.
    fn ready(&self) -> MutexGuard<'_, State> {
        let mut state = self.disk.0.state.lock();
        while state.speed == Speed::Paused {
            self.disk.0.changed.wait(&mut state);
        }
        state
    }
}

impl State {
    fn begin(&mut self, event: impl FnOnce(u64) -> Event) -> u64 {
        self.calls += 1;
        let event = event(self.calls);
        self.note(event);
        self.calls
    }

    /// Changes a file's length, if there is room.
    fn resize(&mut self, file: FileId, len_bytes: u64) -> Result<(), Errno> {
        let now = self.files.get(&file).ok_or(Errno::NOENT)?.len_bytes();
        if len_bytes <= now {
            return Ok(());
        }
        let used: u64 = self.files.values().map(|content| content.len_bytes()).sum();
        if self.plan.capacity_bytes.is_some_and(|capacity| used - now + len_bytes > capacity) {
            self.plan.injected.no_space += 1;
            return Err(Errno::NOSPC);
        }
        self.files.get_mut(&file).ok_or(Errno::NOENT)?.grow(len_bytes);
        self.note(Event::Size { file, len_bytes });
        Ok(())
    }
}

impl Calls for SimFile {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let mut state = self.ready();
        let verdict = state.plan.judge(Call::Read, offset, buf.len())?;
        let content = state.files.get(&self.file).ok_or(Errno::NOENT)?;
        let count = content.read(verdict.offset, &mut buf[..verdict.len]);
        if let Some((byte, mask)) = verdict.flip
            && let Some(byte) = buf[..count].get_mut(byte)
        {
            *byte ^= mask;
        }
        Ok(count)
    }

    fn write(&self, offset: u64, pieces: &[IoSlice<'_>], how: Durably) -> Result<usize, Errno> {
        let mut bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        let mut state = self.ready();
        let judged = state.plan.judge(Call::Write, offset, bytes.len());
        let (at, len) = judged.as_ref().map_or((offset, bytes.len()), |ok| (ok.offset, ok.len));
        bytes.truncate(len);
        if judged.is_ok() {
            state.resize(self.file, at + len as u64)?;
        }
        let lost = judged.as_ref().is_ok_and(|verdict| verdict.lost);
        if judged.as_ref().is_err_and(|error| *error == Errno::INTR) || lost || len == 0 {
            return judged.map(|_| len); // The medium never hears of it.
        }
        let bytes: Arc<[u8]> = bytes.into();
        let event =
            |call| Event::Write { call, file: self.file, offset: at, bytes: bytes.clone(), how };
        let call = state.begin(event);
        if judged.is_ok() {
            state.files.get_mut(&self.file).ok_or(Errno::NOENT)?.write(at, &bytes);
        }
        let result = if judged.is_ok() { Ended::Well } else { Ended::Badly };
        state.note(Event::WriteOver { call, result });
        judged.map(|_| len)
    }

    fn sync(&self) -> Result<(), Errno> {
        let mut state = self.ready();
        let call = state.begin(|call| Event::Sync { call, file: self.file });
        let judged = state.plan.judge(Call::Sync, 0, 0);
        let result = if judged.is_ok() { Ended::Well } else { Ended::Badly };
        state.note(Event::SyncOver { call, result });
        judged.map(|_| ())
    }

    fn allocate(&self, _from: u64, to: u64) -> Result<(), Errno> {
        let mut state = self.ready();
        state.plan.judge(Call::Grow, 0, 0)?;
        state.resize(self.file, to)
    }
}
