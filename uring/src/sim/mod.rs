//! A deterministic disk in memory that can lose power, tear writes, fail and lie.
//!
//! It has a small name space of files, an optional *trace* of everything that happened in order,
//! and a plan of *faults*. From a trace it builds the disk as it may be after power was lost at
//! any point ([`Disk::image`]). The same owner loop and the same blocking calls run over it as over
//! a real file; only reads, page writes and syncs are done by the caller who asked, at once, so a
//! single-threaded run is the same every time. Without a trace it serves databases in memory.
//!
//! ```
//! use ringdb_uring::sim::{Choice, Disk};
//! use ringdb_uring::{BackendChoice, Buf, Io, Settings};
//!
//! let disk = Disk::traced();
//! let settings = Settings { backend: BackendChoice::Sim(disk.clone()), ..Settings::default() };
//! let path = std::path::Path::new("a.ring");
//! Io::create(path, &settings, 8192, &[(0, b"head")])?;
//! let io = Io::open(path, &settings)?;
//! let (written, _buf) = futures::executor::block_on(io.write(4096, Buf::zeroed(4096), 4096));
//! written?;
//! let after_power_loss: Disk = disk.image(disk.crash_points() - 1, Choice::None);
//! assert_eq!(&after_power_loss.contents(path).unwrap()[..4], b"head");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod content;
mod device;
mod faults;
mod image;
mod names;
mod trace;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::{Condvar, Mutex};

pub(crate) use device::{Ran, SimFile};
pub use faults::{Call, Calls, Fault, Injected, Times};
pub use image::{Choice, SECTOR_BYTES, Unsynced};
pub(crate) use names::SimLock;

use crate::shared::Shared;
use content::Content;
use faults::Plan;
use image::{Dice, Medium, Replay};
use names::Hold;
use trace::{CallId, Event, FileId};

/// A simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct Disk(Arc<Whole>);

struct Whole {
    state: Mutex<State>,
    /// A file was released, or the disk resumed.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    files: BTreeMap<FileId, Content>,
    names: BTreeMap<PathBuf, FileId>,
    holds: BTreeMap<FileId, Hold>,
    file_next: FileId,
    calls: CallId,
    trace: Option<Trace>,
    plan: Plan,
    speed: Speed,
    order: Option<Dice>,
    open: Vec<Weak<Shared>>,
    /// What was read, if anyone wants to know.
    reads: Option<Vec<Range<u64>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Speed {
    #[default]
    Instant,
    Paused,
}

struct Trace {
    events: Vec<Event>,
    start: Medium,
    /// The last point asked for: the next one is usually not far behind it.
    replay: Replay,
}

impl Trace {
    fn from(start: Medium) -> Trace {
        Trace { events: Vec::new(), replay: Replay::from(start.clone()), start }
    }

    fn at(&mut self, point: usize) -> &Replay {
        assert!(point <= self.events.len(), "the trace has {} events", self.events.len());
        if point < self.replay.point() {
            self.replay = Replay::from(self.start.clone());
        }
        self.replay.advance(&self.events, point);
        &self.replay
    }
}

impl State {
    fn note(&mut self, event: impl FnOnce() -> Event) {
        if let Some(trace) = &mut self.trace {
            trace.events.push(event());
        }
    }

    fn medium(&self) -> Medium {
        Medium { files: self.files.clone(), names: self.names.clone() }
    }
}

impl Disk {
    /// An empty disk without a trace: memory grows with its content only.
    pub fn new() -> Disk {
        Disk::from(State::default())
    }

    /// An empty disk that keeps a trace from now on.
    pub fn traced() -> Disk {
        let disk = Disk::new();
        disk.start_trace();
        disk
    }

    fn from(state: State) -> Disk {
        Disk(Arc::new(Whole { state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// Starts a new trace; what is on the disk now is taken as durable.
    pub fn start_trace(&self) {
        let mut state = self.0.state.lock();
        state.trace = Some(Trace::from(state.medium()));
    }

    /// Forgets the trace and keeps none from now on: what is only looked at needs none.
    pub fn stop_trace(&self) {
        self.0.state.lock().trace = None;
    }

    /// Puts an event of the observer's own, such as an acknowledgement, into the trace.
    pub fn mark(&self, mark: u64) {
        self.0.state.lock().note(|| Event::Mark(mark));
    }

    /// How many points there are at which power may be lost: one more than events. Without a
    /// trace, none.
    pub fn crash_points(&self) -> usize {
        self.0.state.lock().trace.as_ref().map_or(0, |trace| trace.events.len() + 1)
    }

    /// The marks that had been made by this point, in order.
    pub fn marks(&self, point: usize) -> Vec<u64> {
        let state = self.0.state.lock();
        let events = state.trace.iter().flat_map(|trace| &trace.events[..point]);
        events
            .filter_map(|event| if let Event::Mark(mark) = event { Some(*mark) } else { None })
            .collect()
    }

    /// What happened just before this point, in words, for the message of a failed test.
    pub fn describe(&self, point: usize) -> String {
        let state = self.0.state.lock();
        let event = state.trace.as_ref().and_then(|trace| trace.events.get(point.checked_sub(1)?));
        event.map_or("the start".into(), |event| format!("{event:?}"))
    }

    /// The changes that power loss at this point may take, to enumerate choices over.
    ///
    /// # Panics
    /// If the disk has no trace, or not that point.
    pub fn unsynced(&self, point: usize) -> Vec<Unsynced> {
        let mut state = self.0.state.lock();
        state.trace.as_mut().expect("only a traced disk can crash").at(point).unsynced()
    }

    /// Whether power loss at the next point leaves just what it leaves at this one: then the next,
    /// at which as much or more was promised, stands for both.
    pub fn is_same_at_next(&self, point: usize) -> bool {
        let state = self.0.state.lock();
        state.trace.as_ref().is_some_and(|trace| trace::changes_nothing(&trace.events, point))
    }

    /// The disk after power was lost at this point, with these of the unsynced changes. It keeps
    /// a trace of its own. Going through the points in ascending order is fastest.
    ///
    /// # Panics
    /// If the disk has no trace, or not that point.
    pub fn image(&self, point: usize, choice: Choice) -> Disk {
        let mut state = self.0.state.lock();
        let file_next = state.file_next;
        let trace = state.trace.as_mut().expect("only a traced disk can crash");
        let medium = trace.at(point).image(choice);
        drop(state);
        let (files, names) = (medium.files.clone(), medium.names.clone());
        let trace = Some(Trace::from(medium));
        Disk::from(State { files, names, file_next, trace, ..State::default() })
    }

    /// The disk as another process finds it after the one that made the trace was killed at this
    /// point: all that was issued is in the page cache, read by everyone, and power loss may still
    /// take what had not become durable. The trace goes on from there.
    ///
    /// # Panics
    /// If the disk has no trace, or not that point.
    pub fn after_kill(&self, point: usize) -> Disk {
        let mut state = self.0.state.lock();
        let (file_next, calls) = (state.file_next, state.calls);
        let trace = state.trace.as_mut().expect("only a traced disk can be left");
        let seen = trace.at(point).image(Choice::All);
        let mut left = Trace::from(trace.start.clone());
        left.events = trace::left_behind(&trace.events[..point]);
        drop(state);
        let (files, names) = (seen.files, seen.names);
        Disk::from(State { files, names, file_next, calls, trace: Some(left), ..State::default() })
    }

    /// A disk of its own with the same names and bytes, shared until either is written. It has no
    /// trace and no faults.
    pub fn copy(&self) -> Disk {
        let state = self.0.state.lock();
        let (files, names) = (state.files.clone(), state.names.clone());
        Disk::from(State { files, names, file_next: state.file_next, ..State::default() })
    }

    /// A number that two disks share if they have the same names and bytes, and else, almost
    /// surely, do not.
    pub fn fingerprint(&self) -> u64 {
        let state = self.0.state.lock();
        let mut hasher = DefaultHasher::new();
        for (path, file) in &state.names {
            path.hash(&mut hasher);
            state.files.get(file).map(Content::digest).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The names on the disk, ascending.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.state.lock().names.keys().cloned().collect()
    }

    /// All bytes of a file.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.0.state.lock();
        let content = state.files.get(state.names.get(path)?)?;
        let mut bytes = vec![0; content.len_bytes() as usize];
        content.read(0, &mut bytes);
        Some(bytes)
    }

    /// Makes these the file's bytes, durably and behind everyone's back: damage on the medium, or a
    /// file brought from elsewhere. Restarts the trace, if there is one.
    pub fn set_contents(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.0.state.lock();
        let file = match state.names.get(path) {
            Some(file) => *file,
            None => state.new_file(path),
        };
        let mut content = Content::default();
        content.grow(bytes.len() as u64);
        content.write(0, bytes);
        state.files.insert(file, content);
        if state.trace.is_some() {
            state.trace = Some(Trace::from(state.medium()));
        }
    }

    /// Flips bits of one byte on the medium, behind everyone's back. False if it is not there.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> bool {
        let mut state = self.0.state.lock();
        let State { files, names, .. } = &mut *state;
        let Some(content) = names.get(path).and_then(|file| files.get_mut(file)) else {
            return false;
        };
        let mut byte = [0];
        let found = content.read(offset, &mut byte) == 1;
        if found {
            content.write(offset, &[byte[0] ^ mask]);
        }
        found
    }

    /// Takes note, from now on, of which bytes are read.
    pub fn watch_reads(&self) {
        self.0.state.lock().reads = Some(Vec::new());
    }

    /// The ranges of any file that were read since they are watched, in the order of the reads.
    pub fn reads(&self) -> Vec<Range<u64>> {
        self.0.state.lock().reads.clone().unwrap_or_default()
    }

    /// The faults to inject, and the counts of calls and of faults injected.
    pub fn faults(&self) -> Faults {
        Faults(self.clone())
    }

    /// Holds back all I/O: what is asked for from now on waits in the queue.
    pub fn pause(&self) {
        self.0.state.lock().speed = Speed::Paused;
    }

    /// Does what was held back, and goes on.
    pub fn resume(&self) {
        let mut state = self.0.state.lock();
        state.speed = Speed::Instant;
        let open: Vec<Arc<Shared>> = state.open.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        self.0.changed.notify_all();
        for shared in open {
            shared.run_caller();
        }
    }

    /// Completes what is in flight at the same time in an order of this seed, not as submitted.
    pub fn shuffle(&self, seed: u64) {
        self.0.state.lock().order = Some(Dice(seed));
    }

    fn is_paused(&self) -> bool {
        self.0.state.lock().speed == Speed::Paused
    }

    fn reorder<T>(&self, works: &mut [T]) {
        let mut state = self.0.state.lock();
        let State { order: Some(dice), plan, .. } = &mut *state else { return };
        for index in (1..works.len()).rev() {
            let other = dice.roll(index + 1);
            plan.injected.reordered += u64::from(other != index);
            works.swap(index, other);
        }
    }

    /// Remembers who has to be run when the disk resumes.
    pub(crate) fn attach(&self, shared: &Arc<Shared>) {
        let mut state = self.0.state.lock();
        state.open.retain(|open| open.strong_count() > 0);
        state.open.push(Arc::downgrade(shared));
    }
}

impl Default for Disk {
    fn default() -> Disk {
        Disk::new()
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        let events = state.trace.as_ref().map(|trace| trace.events.len());
        f.debug_struct("Disk").field("names", &state.names).field("events", &events).finish()
    }
}

/// The plan of faults of a [`Disk`].
#[derive(Clone, Debug)]
pub struct Faults(Disk);

impl Faults {
    /// The `nth` call of this kind from now on goes wrong, 0 being the next.
    pub fn add(&self, call: Call, nth: u64, fault: Fault) {
        self.0.0.state.lock().plan.add(call, nth, fault);
    }

    /// Bytes that all files together may have; `None` for no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.0.state.lock().plan.capacity_bytes = bytes;
    }

    /// Every read that touches these bytes of any file fails.
    pub fn add_bad_range(&self, range: Range<u64>) {
        self.0.0.state.lock().plan.bad.push(range);
    }

    /// Forgets all faults that are still to come.
    pub fn clear(&self) {
        self.0.0.state.lock().plan.clear();
    }

    /// Calls of each kind so far.
    pub fn calls(&self) -> Calls {
        self.0.0.state.lock().plan.calls
    }

    /// How often each fault was really injected.
    pub fn injected(&self) -> Injected {
        self.0.0.state.lock().plan.injected
    }
}
