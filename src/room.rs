//! Room in the file: how it is had, and what happens when the disk has none.
//!
//! ```text
//! pages wanted ─▶ free beyond the reserve? ─▶ yes: taken
//!                          │ no
//!                          ▼
//!                 grow, by a generous step ─▶ refused: by half of it, … by what is lacking
//!                                                       │ refused
//!                                                       ▼
//!                                  a checkpoint, if it can give pages back ─▶ NoSpace
//! ```
//!
//! While the disk is full, commits of new rows fail before they are ordered. Deletes, drops and
//! checkpoints live on the reserve, and what they free takes new rows again. Nobody asks the disk
//! by the clock: the next commit that finds no room does.

use std::io;
use std::sync::atomic::Ordering;

use futures::channel::oneshot;
use ringdb_uring::Io;
use ringdb_uring::threads::Mutex;

use crate::alloc::reserve::Need;
use crate::engine::{Command, Engine};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Extent, PageId};
use crate::page::space::Space;

/// Bytes of memtables that the file has pages for beyond what is there, at least.
const COVER_BYTES_MIN: usize = 64 << 10;
/// And at most.
const COVER_BYTES_MAX: usize = 8 << 20;

/// Rows of up to so many bytes lie in nodes of one page.
const SMALL_ROW_BYTES: u64 = 1024;
/// Pages of a node with larger ones, unless one alone is longer.
const NODE_PAGES_LARGE: u64 = 8;

/// How much room the disk gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supply {
    /// More than is needed now.
    Ample,
    /// What is needed now and no more.
    Bare,
}

/// Whether the keeper is to try once more at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    Again,
    Done,
}

impl Engine {
    /// Pages in a row, inside the file.
    ///
    /// # Errors
    ///
    /// `NoSpace` if the file system is full, `Io` if it refused for another reason; nothing changed.
    pub(crate) async fn allocate(&self, pages: u32, need: Need) -> Result<Extent> {
        // Another round only if somebody else took what the file grew by, so it ends.
        loop {
            let lacks = match self.space.lock().try_allocate(pages, need) {
                Ok(extent) => return Ok(extent),
                Err(lacks) => lacks,
            };
            self.lengthen(lacks).await?;
        }
    }

    /// Pages for new rows; a checkpoint is tried before it is said that there are none.
    pub(crate) async fn allocate_or_relieve(&self, pages: u32) -> Result<Extent> {
        let refused = match self.allocate(pages, Need::Growth).await {
            Err(error) if error.kind() == ErrorKind::NoSpace => error,
            answered => return answered,
        };
        let again = match self.relieve(refused).await {
            Ok(()) => self.allocate(pages, Need::Growth).await,
            Err(refused) => Err(refused),
        };
        again.inspect_err(|error| self.pipeline.refused_for_space(error))
    }

    /// The disk refused: a checkpoint may give pages back.
    async fn relieve(&self, refused: Error) -> Result<()> {
        self.is_short();
        let (reply, done) = oneshot::channel();
        self.command(Command::Checkpoint(reply));
        match done.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(refused),
        }
    }

    /// Lets the file grow by so many pages, and by more where the disk has them.
    async fn lengthen(&self, lacks: u64) -> Result<()> {
        let (end, mut step) = self.space.lock().next_step(lacks);
        loop {
            let asking = Asking::of(&self.space, end + step);
            let grown = self.io.grow(PageId(end + step).byte_offset()).await;
            if grown.is_ok() {
                self.space.lock().grown_to(end + step);
            }
            drop(asking);
            match grown {
                Ok(()) => return Ok(()),
                Err(cause) if is_full(&cause) && step > lacks => {
                    self.space.lock().step_refused(step);
                    step = (step / 2).max(lacks);
                }
                Err(cause) => return Err(refusal(&self.io, end + lacks, cause)),
            }
        }
    }

    /// Pages that the merging of trees may take now, of so many wanted: those that the file has beyond the reserve and what was
    /// promised, and what it can grow by. Where the disk is full, a part of the reserve: it comes back with the next superblock.
    pub(crate) async fn pages_to_merge(&self, wanted: u64) -> u64 {
        loop {
            let lacks = self.space.lock().lacks(wanted, Need::Growth);
            if lacks == 0 {
                return wanted;
            }
            if self.lengthen(lacks).await.is_err() {
                return self.space.lock().spare_pages().min(wanted);
            }
        }
    }

    /// Lets the file have so many free pages for new rows; a checkpoint is tried before it is said that it cannot.
    ///
    /// # Errors
    ///
    /// `NoSpace` if the file system is full, `Io` if it refused for another reason.
    pub(crate) async fn make_room(&self, pages: u64) -> Result<()> {
        match self.lengthen_for(pages).await {
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                self.relieve(error).await?;
                self.lengthen_for(pages).await
            }
            answered => answered,
        }
    }

    async fn lengthen_for(&self, pages: u64) -> Result<()> {
        loop {
            let lacks = self.space.lock().lacks(pages, Need::Growth);
            if lacks == 0 {
                return Ok(());
            }
            self.lengthen(lacks).await?;
        }
    }

    /// Grows the file to what a checkpoint has planned.
    ///
    /// # Errors
    ///
    /// `NoSpace` if the file system is full, `Io` if it refused for another reason; the plan
    /// shrinks back and nothing else changes.
    pub(crate) async fn grow(&self) -> Result<()> {
        grow(&self.io, &self.space).await
    }

    /// Cuts off what the newest superblock does not know to be in the file. (I6)
    ///
    /// # Errors
    ///
    /// `Io` if the file system refused; nothing depends on it.
    pub(crate) async fn cut_off(&self) -> Result<()> {
        let cut = {
            // Growth that is asked for from now on comes behind the cut.
            let space = self.space.lock();
            self.io.shrink(PageId(space.kept_pages()).byte_offset())
        };
        cut.await.map_err(|cause| {
            let error = Error::new(ErrorKind::Io, "the file could not be cut off");
            error.with_detail(self.io.path().display().to_string()).with_source(cause)
        })
    }

    /// Extents whose writers were dropped, or whose checkpoint failed, become free: nothing writes
    /// to them after a sync that begins now.
    ///
    /// # Errors
    ///
    /// The failure that poisoned, if one did: the superblock that was being written then may name
    /// pages of a checkpoint that failed. (I2)
    pub(crate) async fn settle_orphans(&self) -> Result<()> {
        if let Some(failure) = self.pipeline.failure() {
            return Err(failure);
        }
        let orphans = self.space.lock().take_orphans();
        if orphans.is_empty() {
            return Ok(());
        }
        let synced = self.io.sync().await;
        synced.map_err(|cause| self.poison("a sync failed", cause))?;
        if let Some(failure) = self.pipeline.failure() {
            return Err(failure);
        }
        let mut space = self.space.lock();
        orphans.into_iter().for_each(|extent| space.release(extent));
        Ok(())
    }

    /// Has extents settled that nobody wants; whether there were any.
    pub(crate) async fn regains_orphans(&self) -> bool {
        let has_some = self.space.lock().has_orphans();
        has_some && self.settle_orphans().await.is_ok()
    }

    /// Promises pages for what is in the memtables, for the commit that waits, and for some more;
    /// the file grows if it must.
    pub(crate) async fn cover_memtables(&self) -> Result<Supply> {
        loop {
            let (generous, needed) = self.cover_bytes();
            let Err(lacks) = self.cover(generous) else { return Ok(Supply::Ample) };
            let Err(cause) = self.lengthen(lacks).await else { continue };
            let Err(lacks) = self.cover(needed) else { return Ok(Supply::Bare) };
            if self.lengthen(lacks).await.is_err() {
                return Err(cause);
            }
        }
    }

    /// Bytes of memtables to be covered: what is good to have, and what somebody waits for.
    fn cover_bytes(&self) -> (usize, usize) {
        let order = self.pipeline.order();
        let wanted = order.memory.used() + order.cover.wanted_bytes;
        let needed = wanted.max(order.cover.bytes);
        let ahead = wanted.clamp(COVER_BYTES_MIN, COVER_BYTES_MAX);
        ((wanted + ahead).min(order.memory.max).max(needed), needed)
    }

    /// New rows may fill the memtables up to so many bytes, if the file has pages for them.
    fn cover(&self, bytes: usize) -> std::result::Result<(), u64> {
        let mut order = self.pipeline.order();
        let bytes = bytes.max(order.memory.used());
        self.space.lock().promise(bytes as u64)?;
        let used = order.memory.used();
        let rises = order.cover.cover(used, bytes);
        drop(order);
        if rises {
            self.pipeline.wake_front();
        }
        Ok(())
    }

    /// A checkpoint begins to take what was promised to it.
    pub(crate) fn begin_drawing(&self) {
        if self.is_full() {
            self.drain_recycled();
        }
        let bytes = self.pipeline.order().memory.frozen;
        self.space.lock().begin_drawing(bytes as u64);
    }

    /// A checkpoint is done: it needs no pages any more.
    pub(crate) fn settle_promise(&self) {
        let mut order = self.pipeline.order();
        let mut space = self.space.lock();
        space.end_drawing();
        let ahead = if order.cover.is_short() { 0 } else { COVER_BYTES_MAX };
        order.cover.bytes = order.cover.bytes.min(order.memory.used() + ahead);
        // What it took for the rows of before is not there for others.
        if space.promise(order.cover.bytes as u64).is_err() {
            order.cover.bytes = order.memory.used();
            space.promise_only(order.cover.bytes as u64);
        }
    }

    /// The keeper has what is wanted.
    pub(crate) fn is_supplied(&self, supply: Supply) {
        self.pipeline.unhinder();
        match supply {
            Supply::Ample => self.bound_nodes(None),
            Supply::Bare => drop(self.is_short()),
        }
        self.refuse_many_nodes();
    }

    fn bound_nodes(&self, nodes_max: Option<u64>) {
        let admits = self.pipeline.order().cover.bound_nodes(nodes_max);
        if admits {
            self.pipeline.wake_front();
        }
    }

    /// Deletes that wait for nothing but more reserve than there ever is are told so.
    fn refuse_many_nodes(&self) {
        let order = self.pipeline.order();
        let never = order.cover.nodes_are_too_many() && order.memory.used() == 0;
        drop(order);
        if never && !self.is_relieving() {
            let message = "one commit deletes more than a full disk has room to rewrite";
            let full = io::Error::from(io::ErrorKind::StorageFull);
            self.pipeline.stall(Error::new(ErrorKind::NoSpace, message).with_source(full));
        }
    }

    /// Whether the disk gave less than was asked of it the last time.
    pub(crate) fn is_full(&self) -> bool {
        self.pipeline.order().cover.is_short()
    }

    /// The disk gave less than was asked of it: what nobody needs at once goes to whoever does.
    /// Says how many segments that were kept for the log were given up.
    fn is_short(&self) -> usize {
        let drained = self.drain_recycled();
        let nodes = self.space.lock().relief_nodes(self.node_pages());
        self.bound_nodes(Some(nodes));
        drained
    }

    /// Pages of a node, where rows are largest.
    fn node_pages(&self) -> u64 {
        let state = self.state();
        let mut trees =
            state.families.iter().flat_map(|view| view.trees.iter().map(|tree| tree.root));
        match trees.any(|tree| tree.bytes > tree.rows * SMALL_ROW_BYTES) {
            true => NODE_PAGES_LARGE,
            false => 1,
        }
    }

    /// Where the disk is short, pages promised ahead of need are free for a log segment.
    pub(crate) fn uncover_if_short(&self) {
        let mut order = self.pipeline.order();
        if order.cover.is_short() {
            order.cover.bytes = order.cover.bytes.min(order.memory.used());
            let bytes = order.cover.bytes as u64;
            self.space.lock().promise_only(bytes);
        }
    }

    /// Bytes of memtables that pages are promised for at least.
    pub(crate) fn least_cover_bytes(&self) -> usize {
        self.pipeline.order().memory.used() + COVER_BYTES_MIN
    }

    /// Promises no more ahead of need than that.
    pub(crate) fn uncover(&self) {
        let mut order = self.pipeline.order();
        let least = order.memory.used() + COVER_BYTES_MIN;
        order.cover.bytes = order.cover.bytes.min(least);
        self.space.lock().promise_only(order.cover.bytes as u64);
    }

    /// The keeper found no room. A commit that waits is told so, but only once neither released
    /// segments nor a checkpoint have anything more to give back.
    pub(crate) fn fall_short(&self, cause: Error) -> Attempt {
        if self.is_short() > 0 {
            return Attempt::Again;
        }
        let mut order = self.pipeline.order();
        let waits = !order.queue.is_empty() && !order.is_satisfied();
        // It makes durable as well what a seal has no room to tell of.
        let helps = waits || order.forced && !order.log_has_room_for_seal();
        if helps && order.memory.used() > 0 {
            order.memory_wanted = true;
            drop(order);
            self.pipeline.checkpointer.raise();
            return Attempt::Done;
        }
        drop(order);
        if waits && !self.is_relieving() {
            self.pipeline.stall(cause);
        }
        Attempt::Done
    }

    /// Trees are about to be merged for room: nobody is refused before that is over.
    pub(crate) fn begin_relief(&self) {
        self.relieving.store(true, Ordering::SeqCst);
    }

    /// What could be merged is; the keeper looks again.
    pub(crate) fn end_relief(&self) {
        self.relieving.store(false, Ordering::SeqCst);
        self.pipeline.keeper.raise();
    }

    fn is_relieving(&self) -> bool {
        self.relieving.load(Ordering::SeqCst)
    }

    /// Whether deletes wait for log that only the reserve can give: nothing is left that a
    /// checkpoint could turn into room.
    pub(crate) fn relief_is_due(&self) -> bool {
        let order = self.pipeline.order();
        order.cover.segment_waits && order.memory.used() == 0
    }
}

/// [`Engine::grow`], for who has no engine yet.
pub(crate) async fn grow(io: &Io, space: &Mutex<Space>) -> Result<()> {
    loop {
        let Some(pages) = space.lock().wanted_pages() else { return Ok(()) };
        let asking = Asking::of(space, pages);
        let grown = io.grow(PageId(pages).byte_offset()).await;
        if grown.is_ok() {
            space.lock().grown_to(pages);
        }
        drop(asking);
        match grown {
            Ok(()) => return Ok(()),
            Err(cause) => {
                let mut space = space.lock();
                if !is_full(&cause) || !space.plan_less() {
                    space.growth_refused();
                    return Err(refusal(io, pages, cause));
                }
            }
        }
    }
}

fn refusal(io: &Io, pages: u64, cause: io::Error) -> Error {
    // Only a lack of space is one that may pass; a file system that stopped will not come back.
    let kind = if is_full(&cause) { ErrorKind::NoSpace } else { ErrorKind::Io };
    let error = Error::new(kind, "the file could not grow");
    let detail = format!("{} to {pages} pages", io.path().display());
    error.with_detail(detail).with_source(cause)
}

/// A growth that may be under way.
struct Asking<'a>(&'a Mutex<Space>);

impl Asking<'_> {
    fn of(space: &Mutex<Space>, pages: u64) -> Asking<'_> {
        space.lock().ask(pages);
        Asking(space)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.lock().answered();
    }
}

/// Whether it is the disk, a quota or the largest length of a file that keeps the file from growing.
pub(crate) fn is_full(cause: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(cause.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
