//! Everything one open database shares between its handles and its threads.

use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use futures::channel::oneshot;
use ringdb_uring::planted::{self, Bug};
use ringdb_uring::threads::{Mutex, MutexGuard};
use ringdb_uring::{Feed, Io, Refused};

use crate::commit::{Pipeline, closed, forked};
use crate::error::{Error, ErrorKind, Result};
use crate::format::superblock::Superblock;
use crate::ids::{Extent, Seq};
use crate::log::Segment;
use crate::options::{Options, Shares};
use crate::page::cache::PageCache;
use crate::page::space::Space;
use crate::page::unpublished::Unpublished;
use crate::report::RecoveryReport;
use crate::snapshot::Snapshots;
use crate::state::{Family, FamilyView, Filters, State, Tree};

/// Released segments that are kept to be used again, at most; together they are no longer than the longest log.
const RECYCLED_MAX: usize = 32;

/// The families that the newest catalog names, with their names in it, ascending by id.
pub(crate) type Published = Arc<[(Arc<str>, Arc<Family>)]>;

/// What the checkpointer is asked to do.
pub(crate) enum Command {
    /// A checkpoint that covers all commits ordered so far.
    Checkpoint(oneshot::Sender<Result<()>>),
    /// A checkpoint, and then one tree for every family.
    Compact(oneshot::Sender<Result<()>>),
    /// A tree in front of a family's others, as a commit of its own.
    Ingest(Box<Loaded>, oneshot::Sender<Result<Seq>>),
    /// Something to be done while nobody writes a superblock.
    Between(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// Drain, checkpoint, record a clean end, stop.
    Close(oneshot::Sender<Result<()>>),
    /// The last handle is gone: finish what was ordered, stop.
    Abandon,
}

/// Rows that lie in a tree, durable, and are to be published as one commit.
pub(crate) struct Loaded {
    pub(crate) family: Arc<Family>,
    pub(crate) tree: Tree,
    /// Its first and its last key.
    pub(crate) low: Bytes,
    pub(crate) high: Bytes,
    /// All that it names.
    pub(crate) pages: Unpublished,
}

pub(crate) struct Engine {
    pub(crate) io: Io,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) pages: Arc<PageCache>,
    pub(crate) space: Arc<Mutex<Space>>,
    pub(crate) snapshots: Snapshots,
    pub(crate) options: Options,
    pub(crate) shares: Shares,
    pub(crate) file_id: [u8; 16],
    /// Told when it is over.
    pub(crate) recovery: OnceLock<RecoveryReport>,
    /// The newest superblock; only the checkpointer changes it.
    pub(crate) superblock: Mutex<Superblock>,
    /// As the superblock, and its catalog.
    pub(crate) published: Mutex<Published>,
    pub(crate) filters: Arc<Filters>,
    /// Bytes of pages that checkpoints wrote to bring memtables into trees.
    pub(crate) flush_bytes: AtomicU64,
    /// Bytes of pages written to make one tree of several.
    pub(crate) merge_bytes: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    /// Trees are being merged because the disk is full.
    pub(crate) relieving: AtomicBool,
    /// The file may be somebody else's by now: what memory has of it is not given any more.
    pub(crate) is_closed: AtomicBool,
    /// `None` once the checkpointer has stopped.
    commands: Mutex<Option<Vec<Command>>>,
    /// Segments that a checkpoint released, to be used again.
    recycled: Mutex<Vec<Extent>>,
    /// The segment that the last ready one names.
    named_segment: Mutex<Segment>,
    state: ArcSwap<State>,
    /// Serializes changes of the state: catalog changes, freezes, publications.
    state_edit: Mutex<()>,
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) io: Io,
    pub(crate) pipeline: Pipeline,
    pub(crate) pages: PageCache,
    pub(crate) space: Arc<Mutex<Space>>,
    pub(crate) options: Options,
    pub(crate) superblock: Superblock,
    pub(crate) state: State,
    pub(crate) published: Published,
    pub(crate) named_segment: Segment,
}

/// The right to change the state; readers go on meanwhile.
pub(crate) struct StateEdit<'a> {
    engine: &'a Engine,
    _held: MutexGuard<'a, ()>,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Arc<Engine> {
        let pipeline = Arc::new(parts.pipeline);
        parts.io.set_feed(pipeline.clone() as Arc<dyn Feed>);
        let shares = parts.options.shares();
        Arc::new(Engine {
            io: parts.io,
            pipeline,
            pages: Arc::new(parts.pages),
            space: parts.space,
            snapshots: Snapshots::default(),
            shares,
            options: parts.options,
            file_id: parts.superblock.file_id,
            recovery: OnceLock::new(),
            superblock: Mutex::new(parts.superblock),
            published: Mutex::new(parts.published),
            filters: Filters::new(shares.filter_bytes_max),
            flush_bytes: AtomicU64::new(0),
            merge_bytes: AtomicU64::new(0),
            checkpoints: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            relieving: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            commands: Mutex::new(Some(Vec::new())),
            recycled: Mutex::new(Vec::new()),
            named_segment: Mutex::new(parts.named_segment),
            state: ArcSwap::from_pointee(parts.state),
            state_edit: Mutex::new(()),
        })
    }

    /// The seq and the state that a new reader sees: every resolved commit, and no tree newer
    /// than the seq.
    pub(crate) fn read_view(&self) -> (Seq, Guard<Arc<State>>) {
        loop {
            let visible = self.pipeline.places.visible();
            let state = self.state.load();
            // A checkpoint may have published between the two loads; its trees are newer then.
            if state.checkpoint_seq <= visible {
                return (visible, state);
            }
            // It shows its seq next, unless it lost its processor to this thread.
            std::thread::yield_now();
        }
    }

    pub(crate) fn state(&self) -> Guard<Arc<State>> {
        self.state.load()
    }

    pub(crate) fn edit_state(&self) -> StateEdit<'_> {
        StateEdit { engine: self, _held: self.state_edit.lock() }
    }

    /// Refuses in a forked child, whose threads are all in the parent.
    pub(crate) fn here(&self) -> Result<()> {
        match self.io.is_here() {
            true => Ok(()),
            false => Err(forked()),
        }
    }

    /// Whether reads of what is newest through a handle of the family are answered.
    pub(crate) fn readable(&self, family: &Family) -> Result<()> {
        match self.is_closed.load(Ordering::Acquire) {
            false => self.exists(family),
            true => Err(closed()),
        }
    }

    /// Whether the family was not dropped.
    pub(crate) fn exists(&self, family: &Family) -> Result<()> {
        self.existed(family, Seq(u64::MAX))
    }

    /// Whether the family was not dropped by the commit at `at` or one before it.
    pub(crate) fn existed(&self, family: &Family, at: Seq) -> Result<()> {
        match family.dropped().filter(|dropped| *dropped <= at) {
            None => Ok(()),
            Some(_) => {
                let error = Error::new(ErrorKind::NotFound, "the column family was dropped");
                Err(error.with_detail(format!("family {}", family.name())))
            }
        }
    }

    /// Asks the checkpointer for something.
    pub(crate) fn command(&self, command: Command) {
        if let Some(commands) = &mut *self.commands.lock() {
            commands.push(command);
        }
        self.pipeline.checkpointer.raise();
    }

    pub(crate) fn take_commands(&self) -> Vec<Command> {
        self.commands.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Commands that come from now on are dropped, which their callers see.
    pub(crate) fn stop_commands(&self) {
        *self.commands.lock() = None;
    }

    /// The ordinal that no segment had so far.
    pub(crate) fn next_segment(&self) -> u64 {
        self.named_segment.lock().ordinal + 1
    }

    /// The segment that the last ready one names.
    pub(crate) fn named_segment(&self) -> Segment {
        *self.named_segment.lock()
    }

    pub(crate) fn set_named_segment(&self, segment: Segment) {
        *self.named_segment.lock() = segment;
    }

    /// The smallest released segment of the size that is sought, or the largest if it has the least that will do.
    pub(crate) fn recycled_segment(&self, sizes: RangeInclusive<u32>) -> Option<Extent> {
        let (least, sought) = sizes.into_inner();
        let mut recycled = self.recycled.lock();
        let larger = recycled.partition_point(|extent| extent.pages < sought);
        let index = larger.min(recycled.len().checked_sub(1)?);
        (recycled[index].pages >= least).then(|| recycled.remove(index))
    }

    /// The log before this segment is not needed any more.
    pub(crate) fn release_log(&self, first: Segment) {
        let released = self.pipeline.order().log.release_before(first);
        let mut recycled = self.recycled.lock();
        recycled.extend(released.iter().map(|segment| segment.extent));
        // The largest are worth keeping; small ones of the log's youth are not.
        recycled.sort_by_key(|extent| extent.pages);
        let bytes_max = self.shares.log_bytes_max;
        let bytes = |kept: &[Extent]| kept.iter().map(|extent| extent.len_bytes()).sum::<u64>();
        let mut excess = recycled.len().saturating_sub(RECYCLED_MAX);
        while excess < recycled.len() && bytes(&recycled[excess..]) > bytes_max {
            excess += 1;
        }
        let mut space = self.space.lock();
        recycled.drain(..excess).for_each(|extent| space.release(extent));
    }

    /// Pages of released segments that are kept for the log.
    pub(crate) fn recycled_pages(&self) -> u64 {
        self.recycled.lock().iter().map(|extent| u64::from(extent.pages)).sum()
    }

    /// Gives the released segments that were kept for the log to whoever needs pages, and
    /// says how many they were.
    pub(crate) fn drain_recycled(&self) -> usize {
        let recycled = std::mem::take(&mut *self.recycled.lock());
        let count = recycled.len();
        let mut space = self.space.lock();
        recycled.into_iter().for_each(|extent| space.release(extent));
        count
    }

    /// Pages that no superblock names and that are not free: in the log, kept for it, or in somebody's hands.
    #[cfg(test)]
    pub(crate) fn pages_in_hands(&self) -> u64 {
        let log = self.pipeline.order().log.pages();
        let named = self.named_segment.lock().extent.pages;
        let recycled: u32 = self.recycled.lock().iter().map(|extent| extent.pages).sum();
        let held = self.space.lock().occupancy();
        held.unnamed - held.free - held.retired - log - u64::from(named + recycled)
    }

    pub(crate) fn count_conflict(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
    }

    /// The thread that checkpoints is gone by a panic of its own: nothing more is accepted.
    pub(crate) fn poison_by_panic(&self) {
        self.pipeline.poison(Error::new(ErrorKind::Poisoned, "the checkpointer panicked"));
    }

    /// A failed write or sync outside the log poisons like one of the log. (I8)
    ///
    /// Not one that came after the file was closed: a segment may still be made ready then, and
    /// nobody needs it any more.
    pub(crate) fn poison(&self, what: &'static str, cause: std::io::Error) -> Error {
        let refused = cause.get_ref().and_then(|payload| payload.downcast_ref::<Refused>());
        if refused == Some(&Refused::Closed) {
            return closed();
        }
        let error = Error::new(ErrorKind::Poisoned, what)
            .with_detail(self.io.path().display().to_string())
            .with_source(cause);
        if !planted::is(Bug::FailureIgnored) {
            self.pipeline.poison(error.clone());
        }
        error
    }
}

impl StateEdit<'_> {
    /// The state as it is.
    pub(crate) fn current(&self) -> Arc<State> {
        self.engine.state.load_full()
    }

    /// Replaces the state; gives the one before.
    pub(crate) fn publish(&self, state: State) -> Arc<State> {
        self.engine.state.swap(Arc::new(state))
    }

    /// Adds a family that has nothing on disk.
    pub(crate) fn add_family(&self, family: &Arc<Family>) {
        let mut state = State::clone(&self.current());
        state.set(FamilyView::empty(family));
        self.publish(state);
    }
}
