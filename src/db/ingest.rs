//! Loads of any size, as one commit.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::channel::oneshot;

use crate::batch::{INLINE_VALUE_BYTES_MAX, check_row};
use crate::blocking;
use crate::checkpoint::inlet::Inlet;
use crate::checkpoint::load;
use crate::checkpoint::pieces::Piece;
use crate::commit::closed;
use crate::db::column_family::{ColumnFamily, Handle};
use crate::db::done::Task;
use crate::engine::{Command, Engine, Loaded};
use crate::error::{Error, Result};
use crate::format::value::ExtentValue;
use crate::ids::Seq;
use crate::large;
use crate::page::space::Reserved;

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
/// rows or none. In the order of commits its place is that of its commit, not of its rows: what others commit while rows
/// are put is replaced by them, and a transaction conflicts that read anything between the first and the last key and commits later.
/// For a few flushes of the device at its end no other commit is ordered.
///
/// It takes memory of its own: three sixteenths of that for memtables, of which there is half of
/// [`Options::memory_bytes`](crate::Options::memory_bytes). The file grows by the rows' size, and for a time by twice that if
/// they do not come in key order.
///
/// # Cancel safety
///
/// Dropped before its commit was polled, nothing happened, and its pages are free again with the next checkpoint.
#[must_use = "nothing is loaded until it is committed"]
pub struct Ingest {
    handle: Arc<Handle>,
    inlet: Arc<Inlet>,
    piece: Option<Piece>,
    piece_bytes: usize,
    /// Takes the pieces; ready when there are no more, or if it failed.
    work: Boxed<Result<Option<Box<Loaded>>>>,
    failure: Option<Error>,
}

impl Ingest {
    fn new(handle: &Arc<Handle>) -> Ingest {
        let (engine, inlet) = (handle.engine(), Arc::new(Inlet::default()));
        let work = load::load(engine.clone(), handle.family.clone(), inlet.clone());
        let piece_bytes = load::piece_bytes(engine);
        let (work, handle) = (Box::pin(work), handle.clone());
        Ingest { handle, inlet, piece: None, piece_bytes, work, failure: None }
    }

    /// Takes a row in: 1 byte to 64 KiB of key, up to 1 GiB of value. Ready at once most of the time; else rows before it are written.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an empty key and `TooLarge`: the row is not taken, others may be. `NotFound` if the family was dropped,
    /// `NoSpace`, `Closed`, `Poisoned`, `Io`: so will everything that follows.
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
    /// As [`Ingest::put`], and `Busy` if the family has too many trees: nothing happened. After `Poisoned` the outcome is known
    /// when the database was opened again.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it happens whole or not at all.
    pub fn commit(mut self) -> Task<Option<Seq>> {
        let engine = self.handle.engine().clone();
        Task::new(&engine.clone(), async move {
            let loaded = poll_fn(|context| self.poll_end(context)).await?;
            let Some(loaded) = loaded else { return Ok(None) };
            let (reply, answer) = oneshot::channel();
            engine.command(Command::Ingest(loaded, reply));
            answer.await.map_err(|_| closed())?.map(Some)
        })
    }

    fn engine(&self) -> &Arc<Engine> {
        self.handle.engine()
    }

    /// Ready once there is a piece with room for a row.
    #[inline]
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<&mut Piece>> {
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
        if let Some(failure) = &self.failure {
            return Poll::Ready(Err(failure.clone()));
        }
        self.engine().here()?;
        self.inlet.offer(&mut self.piece);
        if let Poll::Ready(Err(error)) = self.work.as_mut().poll(context) {
            self.failure = Some(error.clone());
            return Poll::Ready(Err(error));
        }
        self.inlet.offer(&mut self.piece);
        if self.piece.is_some() {
            blocking::note(&self.engine().io);
            return Poll::Pending;
        }
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
        let engine = self.ingest.engine().clone();
        engine.here()?;
        let storing = self.storing.take().unwrap_or_else(|| {
            let value = Bytes::copy_from_slice(self.value.as_ref());
            let engine = engine.clone();
            Storing::Writing(Box::pin(async move { large::store(&engine, &value).await }))
        });
        let (value, reserved) = match storing {
            Storing::Written(value, reserved) => (value, reserved),
            Storing::Writing(mut writing) => match writing.as_mut().poll(context) {
                Poll::Ready(stored) => stored?,
                Poll::Pending => {
                    self.storing = Some(Storing::Writing(writing));
                    blocking::note(&engine.io);
                    return Poll::Pending;
                }
            },
        };
        match self.ingest.poll_room(context) {
            Poll::Ready(piece) => piece?.push_extent(self.key.as_ref(), value, reserved),
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
