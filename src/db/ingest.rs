//! Loads of any size, as one commit.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::channel::oneshot;

use crate::batch::check_row;
use crate::blocking;
use crate::checkpoint::inlet::Inlet;
use crate::checkpoint::load;
use crate::checkpoint::pieces::Piece;
use crate::commit::closed;
use crate::db::column_family::{ColumnFamily, Handle};
use crate::db::done::Task;
use crate::engine::{Command, Engine, Loaded};
use crate::error::{Error, Result};
use crate::format::record::INLINE_VALUE_BYTES_MAX;
use crate::format::value::ExtentValue;
use crate::ids::Seq;
use crate::large;
use crate::page::space::Reserved;

/// Bytes of large values that are written and not synced, at most, unless one alone is longer.
const UNSYNCED_BYTES_MAX: usize = 16 << 20;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl ColumnFamily {
    /// Begins a load of rows that becomes one commit, however many they are: all of them or none.
    ///
    /// Rows may come in any order; of those with the same key the last one counts. They are sorted in bounded memory and written
    /// as a tree beside the others, without the log, so that a large load costs little more than writing its rows once, if
    /// they come in key order, and about twice that if not. See [`Ingest`].
    ///
    /// # Examples
    ///
    /// ```
    /// # ringdb::block_on(async {
    /// let db = ringdb::Db::in_memory().await?;
    /// let users = db.column_family("users").await?;
    /// let mut ingest = users.ingest();
    /// for number in 0..1000_u32 {
    ///     ingest.put(number.to_be_bytes(), "a user").await?;
    /// }
    /// assert_eq!(users.len().await?, 0);
    /// ingest.commit().await?;
    /// assert_eq!(users.len().await?, 1000);
    /// # Ok::<(), ringdb::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn ingest(&self) -> Ingest {
        Ingest::new(self.handle())
    }
}

/// Rows on their way into a family, as one commit.
///
/// Nothing is visible before [`Ingest::commit`] resolves, and everything is afterwards, durably: power lost in between leaves all
/// rows or none. Snapshots and backups that were begun before show none.
///
/// In the order of commits its place is that of its commit, not of its rows. What others commit while rows are put comes before
/// all of them: a put of a key that is loaded too is replaced, and a delete, or [`ColumnFamily::clear`], does not take them away. A
/// transaction that read anything from the first to the last key, and commits later, conflicts.
///
/// At its end it is ordered alone: for as long as a superblock takes to be written, a few flushes of the device, others wait
/// for room before they are ordered, as they do when memory is full ([`Batch::try_submit`](crate::Batch::try_submit) answers `Busy`).
/// Reads go on all the while.
///
/// However many the rows are, it takes memory of its own: three sixteenths of that for memtables, of which there is half of
/// [`Options::memory_bytes`](crate::Options::memory_bytes), and what a merge of trees takes. The file grows by the rows' size, and for
/// a time by twice that if they do not come in key order. On a full disk it stops where other new rows do.
///
/// # Cancel safety
///
/// Dropped before its commit was polled, nothing happened; its pages are free again once they are needed, or with the next checkpoint.
#[must_use = "nothing is loaded until it is committed"]
pub struct Ingest {
    handle: Arc<Handle>,
    inlet: Arc<Inlet>,
    piece: Option<Piece>,
    piece_bytes: usize,
    /// Takes the pieces; ready when there are no more, or if it failed.
    work: Boxed<Result<Option<Box<Loaded>>>>,
    /// Bytes of large values that were written since the last sync that is known of.
    unsynced_bytes: usize,
    failure: Option<Error>,
}

impl Ingest {
    fn new(handle: &Arc<Handle>) -> Ingest {
        let (engine, inlet) = (handle.engine(), Arc::new(Inlet::default()));
        let work = load::load(engine.clone(), handle.family.clone(), inlet.clone());
        let piece_bytes = load::piece_bytes(engine);
        let (work, handle) = (Box::pin(work), handle.clone());
        let (piece, unsynced_bytes, failure) = (None, 0, None);
        Ingest { handle, inlet, piece, piece_bytes, work, unsynced_bytes, failure }
    }

    /// Takes a row in: 1 byte to 64 KiB of key, up to 1 GiB of value. Ready at once most of the time; else rows before it are written,
    /// or the value itself, if it is longer than 64 KiB.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an empty key, `TooLarge` for a key or value above these sizes: the row is not taken, others may be.
    /// After `NotFound` because the family was dropped, `NoSpace`, `Closed`, `Poisoned`, `Io`, `Corrupt` or `Unsupported` nothing more
    /// is taken: every put and the commit answer the same, nothing of the load happens, and its pages are free again.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it resolves, the row is not taken.
    pub fn put<K: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, key: K, value: V) -> PutRow<'_, K, V> {
        PutRow { ingest: self, key, value, storing: None }
    }

    /// Writes what is left, and publishes all rows as one commit, durably. Its seq; none if there were no rows.
    ///
    /// # Errors
    ///
    /// As [`Ingest::put`], and `Busy` if the family has more trees than can be merged now: nothing happened. After `Poisoned` the
    /// outcome is known when the database was opened again.
    ///
    /// # Cancel safety
    ///
    /// Dropped while rows are written, nothing happened. Dropped later, it happens whole or not at all.
    pub fn commit(mut self) -> Task<Option<Seq>> {
        let engine = self.handle.engine().clone();
        Task::new(&engine.clone(), async move {
            let loaded = poll_fn(|context| self.poll_end(context)).await?;
            let Some(loaded) = loaded else { return Ok(None) };
            let (reply, answer) = oneshot::channel();
            engine.command(Command::Ingest(loaded, reply));
            let answered = answer.await.unwrap_or_else(|_| Err(closed()));
            answered.map(Some).map_err(|error| match engine.pipeline.failure() {
                // Its superblock may be the newest one all the same.
                Some(_) => error.with_outcome_unknown(),
                None => error,
            })
        })
    }

    fn engine(&self) -> &Arc<Engine> {
        self.handle.engine()
    }

    /// Writes a large value to an extent of its own. Many of them are synced now and then: else the next commit's flush would carry
    /// them all.
    fn store(&mut self, value: Bytes) -> Boxed<Result<(ExtentValue, Reserved)>> {
        let engine = self.engine().clone();
        self.unsynced_bytes = self.unsynced_bytes.saturating_add(value.len());
        let is_due = self.unsynced_bytes > UNSYNCED_BYTES_MAX;
        if is_due {
            self.unsynced_bytes = 0;
        }
        Box::pin(async move {
            let stored = large::store(&engine, &value).await?;
            if is_due {
                large::sync(&engine).await?;
            }
            Ok(stored)
        })
    }

    /// Nothing more is taken.
    fn fail(&mut self, error: Error) -> Error {
        self.failure = Some(error.clone());
        error
    }

    /// Ready once there is a piece with room for a row.
    #[inline]
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<&mut Piece>> {
        if let Some(failure) = &self.failure {
            return Poll::Ready(Err(failure.clone()));
        }
        let has_room = |piece: &Piece| piece.len_bytes() < self.piece_bytes;
        if !self.piece.as_ref().is_some_and(has_room) {
            ready!(self.poll_next_piece(context))?;
        }
        let bytes = self.piece_bytes;
        Poll::Ready(Ok(self.piece.get_or_insert_with(|| Piece::with_capacity(bytes))))
    }

    /// Ready once the piece has gone on its way.
    #[cold]
    fn poll_next_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.engine().here()?;
        self.inlet.offer(&mut self.piece);
        if let Poll::Ready(Err(error)) = self.work.as_mut().poll(context) {
            return Poll::Ready(Err(self.fail(error)));
        }
        self.inlet.offer(&mut self.piece);
        if self.piece.is_some() {
            blocking::note(&self.engine().io);
            return Poll::Pending;
        }
        // Nobody knows how long it is before the next row.
        blocking::pay();
        Poll::Ready(Ok(()))
    }

    /// Ready once all rows are in a tree.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Box<Loaded>>>> {
        if let Some(failure) = &self.failure {
            return Poll::Ready(Err(failure.clone()));
        }
        loop {
            self.inlet.offer(&mut self.piece);
            if self.piece.is_none() {
                self.inlet.end();
            }
            let polled = self.work.as_mut().poll(context);
            if polled.is_ready() || self.piece.is_none() || !self.inlet.has_room() {
                return polled;
            }
        }
    }
}

/// The future of [`Ingest::put`].
#[must_use = "futures do nothing until polled"]
pub struct PutRow<'a, K, V> {
    ingest: &'a mut Ingest,
    key: K,
    value: V,
    /// A large value on its way to its extent, and what came of it.
    storing: Option<Storing>,
}

enum Storing {
    Writing(Boxed<Result<(ExtentValue, Reserved)>>),
    Written(ExtentValue, Reserved),
}

// Nothing of it is pinned.
impl<K, V> Unpin for PutRow<'_, K, V> {}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> Future for PutRow<'_, K, V> {
    type Output = Result<()>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let row = &mut *self;
        let (key, value) = (row.key.as_ref(), row.value.as_ref());
        check_row(key, value.len())?;
        if value.len() > INLINE_VALUE_BYTES_MAX {
            return self.poll_large(context);
        }
        ready!(row.ingest.poll_room(context))?.push(key, value);
        Poll::Ready(Ok(()))
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> PutRow<'_, K, V> {
    fn poll_large(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.ingest.engine().here()?;
        if let Some(failure) = &self.ingest.failure {
            return Poll::Ready(Err(failure.clone()));
        }
        let storing = self.storing.take().unwrap_or_else(|| {
            let value = Bytes::copy_from_slice(self.value.as_ref());
            Storing::Writing(self.ingest.store(value))
        });
        let (value, reserved) = match storing {
            Storing::Written(value, reserved) => (value, reserved),
            Storing::Writing(mut writing) => match writing.as_mut().poll(context) {
                Poll::Ready(stored) => stored.map_err(|error| self.ingest.fail(error))?,
                Poll::Pending => {
                    self.storing = Some(Storing::Writing(writing));
                    blocking::note(&self.ingest.engine().io);
                    return Poll::Pending;
                }
            },
        };
        match self.ingest.poll_room(context) {
            Poll::Ready(piece) => piece?.push_extent(self.key.as_ref(), &value, reserved),
            Poll::Pending => {
                self.storing = Some(Storing::Written(value, reserved));
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("family", &self.handle.family.name()).finish()
    }
}
