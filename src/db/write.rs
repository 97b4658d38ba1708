//! The futures of a commit: room and a place, then visible and durable.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use ringdb_uring::Buf;

use crate::batch::{Encoded, Operations};
use crate::blocking;
use crate::commit::footprint::Reads;
use crate::commit::{Admission, Ticket};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Seq;
use crate::large;
use crate::options::Durability;

/// Waits for room and takes a place in the order; resolves to the [`Commit`].
///
/// # Cancel safety
///
/// Dropped before it resolves, nothing happened.
#[must_use = "nothing is written until the future is polled"]
pub struct Submit {
    engine: Arc<Engine>,
    durability: Durability,
    step: Step,
    ticket: Option<Arc<Ticket>>,
    brought: Option<Buf>,
    reads: Option<(Reads, Seq)>,
    /// Where a batch hears that its content did not become a commit.
    lost: Option<Arc<AtomicBool>>,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum Step {
    Built(Operations),
    WritingLarge(Boxed<Result<Operations>>),
    Encoded(Encoded),
    Done,
}

impl Submit {
    pub(crate) fn new(
        engine: Arc<Engine>,
        operations: Operations,
        durability: Durability,
    ) -> Submit {
        let step = Step::Built(operations);
        Submit { engine, durability, step, ticket: None, brought: None, reads: None, lost: None }
    }

    /// The content of a batch, which hears of it if that does not become a commit.
    pub(crate) fn of_batch(mut self, lost: &Arc<AtomicBool>) -> Submit {
        self.lost = Some(lost.clone());
        self
    }

    /// A transaction's commit: what it read at that seq must still hold.
    pub(crate) fn validated(mut self, reads: Reads, at: Seq) -> Submit {
        self.reads = Some((reads, at));
        self
    }

    /// One attempt that never waits; gives the operations back if there is no room.
    pub(crate) fn try_now(
        mut self,
    ) -> std::result::Result<Commit, Box<(Error, Option<Operations>)>> {
        let operations = match std::mem::replace(&mut self.step, Step::Done) {
            Step::Built(operations) => operations,
            Step::WritingLarge(_) | Step::Encoded(_) | Step::Done => {
                return Err(Box::new((misuse(), None)));
            }
        };
        if let Err(error) = operations.check(self.engine.shares.batch_bytes_max) {
            return Err(Box::new((error, Some(operations))));
        }
        if !operations.large.is_empty() {
            let message = "a value above 64 KiB must be written first; use submit";
            return Err(Box::new((Error::new(ErrorKind::Unsupported, message), Some(operations))));
        }
        let mut encoded = operations.encode();
        match self.order(&mut encoded, None) {
            Ok(Some(seq)) => {
                self.lost = None;
                Ok(Commit::new(self.engine.clone(), seq))
            }
            Ok(None) => {
                let error = Error::new(ErrorKind::Busy, "there is no room for the commit now");
                Err(Box::new((error, Some(encoded.into_operations()))))
            }
            Err(error) => Err(Box::new((error, Some(encoded.into_operations())))),
        }
    }

    /// Enters the order; `None` if there is no room.
    fn order(&mut self, encoded: &mut Encoded, waker: Option<&Waker>) -> Result<Option<Seq>> {
        let ordered = self.try_order(encoded, waker);
        if ordered.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict) {
            self.engine.count_conflict();
        }
        ordered
    }

    fn try_order(&mut self, encoded: &mut Encoded, waker: Option<&Waker>) -> Result<Option<Seq>> {
        loop {
            if let Some((reads, at)) = &mut self.reads {
                *at = self.engine.pipeline.validate_ahead(reads, *at)?;
            }
            let mut submission = encoded.submission(self.durability);
            submission.reads = self.reads.as_ref().map(|(reads, at)| (reads, *at));
            let pipeline = &self.engine.pipeline;
            let admission =
                pipeline.try_submit(&submission, &mut self.ticket, &mut self.brought, waker)?;
            match admission {
                Admission::Ordered(seq) => {
                    encoded.keep_extents();
                    return Ok(Some(seq));
                }
                Admission::Wait => return Ok(None),
                Admission::NeedsBuffer(bytes) => self.brought = Some(Buf::zeroed(bytes)),
            }
        }
    }

    fn poll_seq(&mut self, context: &mut Context<'_>) -> Poll<Result<Seq>> {
        loop {
            match std::mem::replace(&mut self.step, Step::Done) {
                Step::Built(operations) => {
                    operations.check(self.engine.shares.batch_bytes_max)?;
                    self.step = match operations.large.is_empty() {
                        true => Step::Encoded(operations.encode()),
                        false => {
                            let engine = self.engine.clone();
                            Step::WritingLarge(Box::pin(large::write(engine, operations)))
                        }
                    };
                }
                Step::WritingLarge(mut writing) => match writing.as_mut().poll(context) {
                    Poll::Ready(operations) => self.step = Step::Encoded(operations?.encode()),
                    Poll::Pending => {
                        self.step = Step::WritingLarge(writing);
                        return Poll::Pending;
                    }
                },
                Step::Encoded(mut encoded) => {
                    let ordered = self.order(&mut encoded, Some(context.waker()))?;
                    let Some(seq) = ordered else {
                        self.step = Step::Encoded(encoded);
                        return Poll::Pending;
                    };
                    return Poll::Ready(Ok(seq));
                }
                Step::Done => return Poll::Ready(Err(misuse())),
            }
        }
    }
}

impl Future for Submit {
    type Output = Result<Commit>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Commit>> {
        let polled = self.poll_commit(context);
        if polled.is_ready() {
            // Nobody knows how long it is before the commit is waited for.
            blocking::pay();
        }
        polled
    }
}

impl Submit {
    /// Leaves the owner's wake-up to whoever waits for the commit next.
    fn poll_commit(&mut self, context: &mut Context<'_>) -> Poll<Result<Commit>> {
        let polled = self.poll_seq(context);
        if polled.is_pending() {
            blocking::note(&self.engine.io);
        } else {
            self.leave_queue();
        }
        polled.map_ok(|seq| {
            self.lost = None;
            Commit::new(self.engine.clone(), seq)
        })
    }

    /// Also when the answer is an error: whoever keeps the resolved future must not hold up
    /// those behind it.
    fn leave_queue(&mut self) {
        if let Some(ticket) = self.ticket.take()
            && self.engine.here().is_ok()
        {
            self.engine.pipeline.withdraw(&ticket);
        }
    }
}

impl fmt::Debug for Submit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submit").finish_non_exhaustive()
    }
}

impl Drop for Submit {
    fn drop(&mut self) {
        self.leave_queue();
        self.lost.iter().for_each(|lost| lost.store(true, Ordering::Relaxed));
    }
}

/// A commit that has its place: it will happen, whole, unless the machine fails.
///
/// Resolves to its seq when the commit is visible, which for `Immediate` means durable too, unless it is to unlogged families only.
///
/// # Errors
///
/// `Poisoned`, with `outcome_unknown()`, if a log write failed.
///
/// # Cancel safety
///
/// Dropping it changes nothing: the commit goes on.
#[must_use = "the commit is ordered; await it to know that it is visible and durable"]
pub struct Commit {
    engine: Arc<Engine>,
    seq: Seq,
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").field("seq", &self.seq).finish()
    }
}

impl Commit {
    fn new(engine: Arc<Engine>, seq: Seq) -> Commit {
        Commit { engine, seq }
    }

    /// Its place in the order.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Resolves when readers see the commit; for `Immediate` that is when it is durable.
    ///
    /// # Errors
    ///
    /// `Poisoned`, with `outcome_unknown()`, if a log write failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing: the commit goes on.
    pub fn visible(&self) -> Visible {
        Visible { engine: self.engine.clone(), seq: self.seq }
    }

    /// Blocks this thread until the commit resolves, and drives the ring itself if nobody does,
    /// so that the commit costs no thread hop. Not for async tasks.
    ///
    /// # Errors
    ///
    /// As awaiting it.
    pub fn wait(self) -> Result<Seq> {
        blocking::block_on(self)
    }
}

impl Future for Commit {
    type Output = Result<Seq>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Seq>> {
        let pipeline = &self.engine.pipeline;
        let polled = pipeline.poll_shown(self.seq, context);
        if polled.is_pending() {
            blocking::note(&self.engine.io);
            if pipeline.places.waits_for_insert(self.seq) {
                blocking::note_step();
            }
        }
        polled.map_ok(|()| self.seq)
    }
}

/// Resolves when a commit can be seen.
///
/// # Errors
///
/// As [`Commit::visible`].
#[must_use = "futures do nothing until polled"]
pub struct Visible {
    engine: Arc<Engine>,
    seq: Seq,
}

impl Future for Visible {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let pipeline = &self.engine.pipeline;
        if pipeline.places.watch_visible(self.seq, context) {
            return Poll::Ready(Ok(()));
        }
        blocking::note(&self.engine.io);
        pipeline.poll_failed()
    }
}

/// A write from start to end: resolves to the commit's seq when it is visible, and durable if it is `Immediate` and not to unlogged
/// families only.
///
/// # Errors
///
/// `InvalidArgument` or `TooLarge` for keys, values and batches out of bounds, `NotFound` for a
/// dropped family, `NoSpace`, `Io` or `Corrupt` if the file cannot grow or a checkpoint failed, `Closed`, `Poisoned`,
/// `Unsupported` in a forked child; in each case the write did not happen unless `outcome_unknown()`.
///
/// # Cancel safety
///
/// Dropped before its first poll, nothing happened. Dropped later, the write happened whole or
/// not at all.
#[must_use = "nothing is written until the future is polled"]
pub struct Write {
    engine: Arc<Engine>,
    stage: Stage,
}

#[expect(clippy::large_enum_variant, reason = "a box would cost every write an allocation")]
enum Stage {
    Submitting(Submit),
    Ordered(Commit),
    /// There is nothing to write, only something to wait for.
    Reading(Boxed<Result<Seq>>),
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write").finish_non_exhaustive()
    }
}

impl Write {
    pub(crate) fn new(submit: Submit) -> Write {
        Write { engine: submit.engine.clone(), stage: Stage::Submitting(submit) }
    }

    /// Blocks this thread until the write resolves, and drives the ring itself if nobody does, so
    /// that a lone writer costs no thread hop. Not for async tasks.
    ///
    /// # Errors
    ///
    /// As awaiting it.
    pub fn wait(self) -> Result<Seq> {
        blocking::block_on(self)
    }

    /// A transaction that wrote nothing: it was true at its seq, and takes none of its own.
    pub(crate) fn read_only(engine: &Arc<Engine>, at: Seq, durability: Durability) -> Write {
        let reading = settled(engine.clone(), at, durability);
        Write { engine: engine.clone(), stage: Stage::Reading(Box::pin(reading)) }
    }
}

async fn settled(engine: Arc<Engine>, at: Seq, durability: Durability) -> Result<Seq> {
    engine.here()?;
    engine.pipeline.visible(at).await?;
    if durability == Durability::Immediate {
        // Those behind the last one in the log are in no log, and nobody waits for them.
        let last_logged = engine.pipeline.order().last_logged;
        engine.pipeline.durable(at.min(last_logged)).await?;
    }
    Ok(at)
}

impl Future for Write {
    type Output = Result<Seq>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Seq>> {
        let polled = loop {
            match &mut self.stage {
                Stage::Submitting(submit) => match submit.poll_commit(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(commit) => self.stage = Stage::Ordered(commit?),
                },
                Stage::Ordered(commit) => return Pin::new(commit).poll(context),
                Stage::Reading(reading) => break reading.as_mut().poll(context),
            }
        };
        if polled.is_pending() {
            blocking::note(&self.engine.io);
        }
        polled
    }
}

fn misuse() -> Error {
    Error::new(ErrorKind::InvalidArgument, "a future was polled after it had resolved")
}
