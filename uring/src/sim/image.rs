//! What may be on a simulated disk after power was lost.
//!
//! The model (RELIABILITY, "the device model"): a write is sure to survive once a sync that
//! started after the write completed has succeeded, or, if it is a durable write, once it
//! completed itself. Any subset of the others survives, each whole, torn at sector borders, or not
//! at all. Lengths, longer and shorter, and names survive or not on their own, names until the directory is synced.
//! What a failed sync covered, and what a failed write wrote, is undefined for ever: no later sync
//! makes it sure.
//!
//! Surviving writes land in the order they were issued, and what is sure is never undone by an older
//! write that had completed before it. A durable write makes its bytes sure, not the file's length.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::calls::Durably;
use crate::sim::content::{Content, mix};
use crate::sim::trace::{CallId, Ended, Event, FileId};

/// Unit of tearing, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// Which of the unsynced changes survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// None.
    None,
    /// All.
    All,
    /// Only this one.
    Only(usize),
    /// All but this one.
    AllBut(usize),
    /// Those whose bits are set, counted from the lowest; a change beyond the bits is lost.
    Subset(u64),
    /// All, but of this one only the sectors before this.
    Torn {
        /// Index of the change.
        change: usize,
        /// Sectors that survive.
        sector: usize,
    },
    /// All, but of this one only the sectors from this on.
    TornHead {
        /// Index of the change.
        change: usize,
        /// Sectors that do not survive.
        sector: usize,
    },
    /// None, but of this one the sectors before this.
    TornAlone {
        /// Index of the change.
        change: usize,
        /// Sectors that survive.
        sector: usize,
    },
    /// Each lost, kept or torn on its own, as this seed has it.
    Seeded(u64),
}

/// A change that is not sure to survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// A write of so many bytes.
    Write {
        /// First byte in its file.
        offset: u64,
        /// Length; it tears at multiples of [`SECTOR_BYTES`].
        len_bytes: usize,
    },
    /// A file's new length, if it was shorter.
    Size(u64),
    /// A file's new length, if it was longer.
    Cut(u64),
    /// A name, given or removed.
    Name,
}

/// Files and names that are sure to be there, or that are there in one image.
#[derive(Clone, Default)]
pub(super) struct Medium {
    pub(super) files: BTreeMap<FileId, Content>,
    pub(super) names: BTreeMap<PathBuf, FileId>,
}

#[derive(Clone)]
enum Change {
    Write { call: CallId, file: FileId, offset: u64, bytes: Arc<[u8]> },
    Size { file: FileId, len_bytes: u64 },
    Cut { file: FileId, len_bytes: u64 },
    Name { from: Option<PathBuf>, to: PathBuf, file: FileId },
    Unname { path: PathBuf },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Issued,
    Completed,
    Doomed,
}

#[derive(Clone)]
struct Open {
    number: u64,
    change: Change,
    stage: Stage,
}

/// The medium and the open changes at one point of a trace; goes forward only.
#[derive(Clone, Default)]
pub(super) struct Replay {
    sure: Medium,
    open: Vec<Open>,
    durable_calls: BTreeMap<CallId, u64>,
    syncs: BTreeMap<CallId, Vec<u64>>,
    numbers: u64,
    point: usize,
}

impl Replay {
    /// Before the first event.
    pub(super) fn from(sure: Medium) -> Replay {
        Replay { sure, ..Replay::default() }
    }

    /// How many events were taken in.
    pub(super) fn point(&self) -> usize {
        self.point
    }

    /// Goes on to a later point of the trace.
    pub(super) fn advance(&mut self, events: &[Event], point: usize) {
        for event in &events[self.point..point] {
            self.take(event);
        }
        self.point = point;
    }

    /// The changes that are not sure to survive, in the order of their issue.
    pub(super) fn unsynced(&self) -> Vec<Unsynced> {
        self.open.iter().map(|open| open.change.words()).collect()
    }

    /// The medium after power was lost here.
    pub(super) fn image(&self, choice: Choice) -> Medium {
        let mut medium = self.sure.clone();
        let mut dice = Dice(if let Choice::Seeded(seed) = choice { seed } else { 0 });
        for (index, open) in self.open.iter().enumerate() {
            let fate = match choice {
                Choice::None => Fate::Lost,
                Choice::All => Fate::Kept,
                Choice::Only(only) if index == only => Fate::Kept,
                Choice::Only(_) => Fate::Lost,
                Choice::AllBut(lost) if index == lost => Fate::Lost,
                Choice::AllBut(_) => Fate::Kept,
                Choice::Subset(bits) if index < 64 && bits >> index & 1 == 1 => Fate::Kept,
                Choice::Subset(_) => Fate::Lost,
                Choice::Torn { change, sector } if index == change => Fate::Sectors(0..sector),
                Choice::TornHead { change, sector } if index == change => {
                    Fate::Sectors(sector..usize::MAX)
                }
                Choice::Torn { .. } | Choice::TornHead { .. } => Fate::Kept,
                Choice::TornAlone { change, sector } if index == change => Fate::Sectors(0..sector),
                Choice::TornAlone { .. } => Fate::Lost,
                Choice::Seeded(_) => dice.fate(open.change.sectors()),
            };
            medium.suffer(&open.change, fate, &mut dice);
        }
        for content in medium.files.values_mut() {
            content.truncate(content.len_bytes()); // A write behind the end is not in the file.
        }
        medium
    }

    fn take(&mut self, event: &Event) {
        match event.clone() {
            Event::Write { call, file, offset, bytes, how } => {
                let number = self.open(Change::Write { call, file, offset, bytes }, Stage::Issued);
                if how == Durably::Itself {
                    self.durable_calls.insert(call, number);
                }
            }
            Event::WriteOver { call, result } => self.write_over(call, result),
            Event::Size { file, len_bytes } => {
                self.open(Change::Size { file, len_bytes }, Stage::Completed);
            }
            Event::Cut { file, len_bytes } => {
                self.open(Change::Cut { file, len_bytes }, Stage::Completed);
            }
            Event::Sync { call, file } => {
                let covered = |open: &&Open| {
                    open.stage == Stage::Completed && open.change.file() == Some(file)
                };
                let numbers = self.open.iter().filter(covered).map(|open| open.number).collect();
                self.syncs.insert(call, numbers);
            }
            Event::SyncOver { call, result } => {
                let covered = self.syncs.remove(&call).unwrap_or_default();
                self.end(&covered, result);
            }
            Event::Name { from, to, file } => {
                self.open(Change::Name { from, to, file }, Stage::Completed);
            }
            Event::Unname { path } => {
                self.open(Change::Unname { path }, Stage::Completed);
            }
            Event::SyncNames => {
                let names = self.open.iter().filter(|open| open.change.file().is_none());
                let numbers: Vec<u64> = names.map(|open| open.number).collect();
                self.end(&numbers, Ended::Well);
            }
            Event::Mark(_) => {}
        }
    }

    fn open(&mut self, change: Change, stage: Stage) -> u64 {
        self.numbers += 1;
        self.open.push(Open { number: self.numbers, change, stage });
        self.numbers
    }

    fn write_over(&mut self, call: CallId, result: Ended) {
        let ours = |open: &Open| matches!(open.change, Change::Write { call: c, .. } if c == call);
        let Some(index) = self.open.iter().position(ours) else { return };
        self.open[index].stage = match result {
            Ended::Well => Stage::Completed,
            Ended::Badly => Stage::Doomed,
        };
        if let Some(number) = self.durable_calls.remove(&call)
            && result == Ended::Well
        {
            self.end(&[number], result);
        }
    }

    /// Older writes that had completed cannot undo one that is now sure: where they overlap, they
    /// carry its bytes from here on. Nor does an older cut take what is sure behind it.
    fn supersede(&mut self, index: usize, covers: impl Fn(&Open) -> bool) {
        let (older, newer) = self.open.split_at_mut(index);
        if let Some((file, end)) = newer[0].change.reaches() {
            for open in older.iter_mut().filter(|open| !covers(open)) {
                if let Change::Cut { file: f, len_bytes } = &mut open.change
                    && *f == file
                {
                    *len_bytes = end.max(*len_bytes);
                }
            }
        }
        let Change::Write { file, offset, bytes, .. } = &newer[0].change else { return };
        for open in older.iter_mut().filter(|open| open.stage != Stage::Issued) {
            let Change::Write { file: f, offset: o, bytes: b, .. } = &mut open.change else {
                continue;
            };
            let start = (*offset).max(*o);
            let end = (offset + bytes.len() as u64).min(*o + b.len() as u64);
            if f == file && start < end {
                let mut patched = b.to_vec();
                let from = &bytes[(start - offset) as usize..(end - offset) as usize];
                patched[(start - *o) as usize..(end - *o) as usize].copy_from_slice(from);
                *b = patched.into();
            }
        }
    }

    /// The changes become sure, or undefined for ever.
    fn end(&mut self, numbers: &[u64], result: Ended) {
        if result == Ended::Badly {
            for open in self.open.iter_mut().filter(|open| numbers.contains(&open.number)) {
                open.stage = Stage::Doomed;
            }
            return;
        }
        let covers = |open: &Open| {
            numbers.binary_search(&open.number).is_ok() && open.stage != Stage::Doomed
        };
        for index in 0..self.open.len() {
            if covers(&self.open[index]) {
                self.supersede(index, covers);
            }
        }
        let sure = &mut self.sure;
        self.open.retain(|open| {
            let covered = covers(open);
            if covered {
                sure.suffer(&open.change, Fate::Kept, &mut Dice(0));
            }
            !covered
        });
    }
}

/// What becomes of one change.
enum Fate {
    Lost,
    Kept,
    Sectors(Range<usize>),
    Scattered,
}

impl Medium {
    fn suffer(&mut self, change: &Change, fate: Fate, dice: &mut Dice) {
        if matches!(fate, Fate::Lost) {
            return;
        }
        match change {
            Change::Write { file, offset, bytes, .. } => {
                let content = self.files.entry(*file).or_default();
                if matches!(fate, Fate::Kept) {
                    return content.write(*offset, bytes);
                }
                for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    let kept = match &fate {
                        Fate::Lost => false,
                        Fate::Kept => true,
                        Fate::Sectors(kept) => kept.contains(&index),
                        Fate::Scattered => dice.roll(2) == 0,
                    };
                    if kept {
                        content.write(offset + (index * SECTOR_BYTES) as u64, sector);
                    }
                }
            }
            Change::Size { file, len_bytes } => {
                self.files.entry(*file).or_default().grow(*len_bytes)
            }
            Change::Cut { file, len_bytes } => {
                let content = self.files.entry(*file).or_default();
                content.truncate(content.len_bytes().min(*len_bytes));
            }
            Change::Name { from, to, file } => {
                if let Some(from) = from {
                    self.names.remove(from);
                }
                self.files.entry(*file).or_default();
                self.names.insert(to.clone(), *file);
            }
            Change::Unname { path } => drop(self.names.remove(path)),
        }
    }
}

impl Change {
    fn file(&self) -> Option<FileId> {
        match self {
            Change::Write { file, .. } | Change::Size { file, .. } | Change::Cut { file, .. } => {
                Some(*file)
            }
            Change::Name { .. } | Change::Unname { .. } => None,
        }
    }

    /// The end of what is in its file for sure, once the change is.
    fn reaches(&self) -> Option<(FileId, u64)> {
        match self {
            Change::Write { file, offset, bytes, .. } => Some((*file, offset + bytes.len() as u64)),
            Change::Size { file, len_bytes } => Some((*file, *len_bytes)),
            Change::Cut { .. } | Change::Name { .. } | Change::Unname { .. } => None,
        }
    }

    fn sectors(&self) -> usize {
        match self {
            Change::Write { bytes, .. } => bytes.len().div_ceil(SECTOR_BYTES),
            Change::Size { .. }
            | Change::Cut { .. }
            | Change::Name { .. }
            | Change::Unname { .. } => 1,
        }
    }

    fn words(&self) -> Unsynced {
        match self {
            Change::Write { offset, bytes, .. } => {
                Unsynced::Write { offset: *offset, len_bytes: bytes.len() }
            }
            Change::Size { len_bytes, .. } => Unsynced::Size(*len_bytes),
            Change::Cut { len_bytes, .. } => Unsynced::Cut(*len_bytes),
            Change::Name { .. } | Change::Unname { .. } => Unsynced::Name,
        }
    }
}

/// A small generator (splitmix64): the same seed, the same fates.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// A number below `sides`.
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        let mixed = mix(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mixed % sides.max(1) as u64) as usize
    }

    fn fate(&mut self, sectors: usize) -> Fate {
        match self.roll(8) {
            0..=2 => Fate::Lost,
            3..=4 => Fate::Kept,
            _ if sectors < 2 => Fate::Lost,
            5 => Fate::Sectors(0..1 + self.roll(sectors - 1)),
            6 => Fate::Sectors(1 + self.roll(sectors - 1)..sectors),
            _ => Fate::Scattered,
        }
    }
}
