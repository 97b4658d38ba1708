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
        let call = self.calls;
        self.note(|| event(call));
        call
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
        self.note(|| Event::Size { file, len_bytes });
        Ok(())
    }
}

/// The first `len` bytes of the pieces, each piece with its place among them.
fn cut<'a>(
    pieces: &'a [IoSlice<'_>],
    len: usize,
) -> impl Iterator<Item = (usize, &'a [u8])> + use<'a> {
    let mut from = 0;
    pieces.iter().map_while(move |piece| {
        let start = from;
        from += piece.len();
        (start < len).then(|| (start, &piece[..piece.len().min(len - start)]))
    })
}

/// The first `len` bytes of the pieces.
fn joined(pieces: &[IoSlice<'_>], len: usize) -> Arc<[u8]> {
    match pieces {
        [piece] => piece[..len].into(),
        _ => {
            let mut bytes = Vec::with_capacity(len);
            cut(pieces, len).for_each(|(_, piece)| bytes.extend_from_slice(piece));
            bytes.into()
        }
    }
}

impl Calls for SimFile {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let mut state = self.ready();
        let verdict = state.plan.judge(Call::Read, offset, buf.len())?;
        let content = state.files.get(&self.file).ok_or(Errno::NOENT)?;
        let count = content.read(verdict.offset, &mut buf[..verdict.len]);
        if let Some(reads) = &mut state.reads {
            reads.push(verdict.offset..verdict.offset + count as u64);
        }
        if let Some((byte, mask)) = verdict.flip
            && let Some(byte) = buf[..count].get_mut(byte)
        {
            *byte ^= mask;
        }
        Ok(count)
    }

    fn write(&self, offset: u64, pieces: &[IoSlice<'_>], how: Durably) -> Result<usize, Errno> {
        let asked: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut state = self.ready();
        let judged = state.plan.judge(Call::Write, offset, asked);
        let (at, len) = judged.as_ref().map_or((offset, asked), |ok| (ok.offset, ok.len));
        if judged.is_ok() {
            state.resize(self.file, at + len as u64)?;
        }
        let lost = judged.as_ref().is_ok_and(|verdict| verdict.lost);
        if judged.as_ref().is_err_and(|error| *error == Errno::INTR) || lost || len == 0 {
            return judged.map(|_| len); // The medium never hears of it.
        }
        let call = state.begin(|call| {
            let bytes = joined(pieces, len);
            Event::Write { call, file: self.file, offset: at, bytes, how }
        });
        if judged.is_ok() {
            let content = state.files.get_mut(&self.file).ok_or(Errno::NOENT)?;
            for (from, piece) in cut(pieces, len) {
                content.write(at + from as u64, piece);
            }
        }
        let result = if judged.is_ok() { Ended::Well } else { Ended::Badly };
        state.note(|| Event::WriteOver { call, result });
        judged.map(|_| len)
    }

    fn sync(&self) -> Result<(), Errno> {
        let mut state = self.ready();
        let call = state.begin(|call| Event::Sync { call, file: self.file });
        let judged = state.plan.judge(Call::Sync, 0, 0);
        let result = if judged.is_ok() { Ended::Well } else { Ended::Badly };
        state.note(|| Event::SyncOver { call, result });
        judged.map(|_| ())
    }

    fn allocate(&self, _from: u64, to: u64) -> Result<(), Errno> {
        let mut state = self.ready();
        state.plan.judge(Call::Grow, 0, 0)?;
        state.resize(self.file, to)
    }

    fn truncate(&self, len_bytes: u64) -> Result<(), Errno> {
        let mut state = self.ready();
        state.plan.judge(Call::Shrink, 0, 0)?;
        let file = self.file;
        state.files.get_mut(&file).ok_or(Errno::NOENT)?.truncate(len_bytes);
        state.note(|| Event::Cut { file, len_bytes });
        Ok(())
    }
}
