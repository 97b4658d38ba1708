//! A backup as a stream of bytes, made while everything else goes on.
//!
//! It reads a pinned state like any snapshot. Its seq is chosen under the locks that order commits
//! and changes of the catalog, so that families, their names and their rows are those of one seq.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;

use crate::blocking;
use crate::commit::closed;
use crate::commit::signal::yield_now;
use crate::db::Db;
use crate::engine::Engine;
use crate::error::Result;
use crate::format::backup::{Encoder, RowsPayload};
use crate::format::catalog::FamilyOptions;
use crate::format::value::ExtentValue;
use crate::ids::Seq;
use crate::large;
use crate::read::lookup::Stored;
use crate::read::scan::{Next, Scan};
use crate::read::span::Span;
use crate::recovery::create::new_file_id;
use crate::snapshot::Pinned;
use crate::state::Family;
use crate::tree::Direction;
use crate::value::Value;

/// Bytes of rows that fill a chunk, but for the row that reaches it.
const CHUNK_BYTES: usize = 256 << 10;
/// Rows of a chunk, so that many small ones do not keep the runtime waiting for its turn.
const CHUNK_ROWS_MAX: usize = 4096;

impl Db {
    /// Everything that was committed so far, as a stream of bytes that [`Options::restore`] reads.
    ///
    /// It is of one seq, which is chosen when it is first polled: every commit ordered before is in
    /// it, over all families, and none that came later. Commits, reads and checkpoints go on
    /// meanwhile. The bytes are rows, not pages: they depend on nothing of this file or machine,
    /// and every one of them is under a checksum, with totals at the end.
    ///
    /// # Errors
    ///
    /// As [`Backup`].
    ///
    /// # Examples
    ///
    /// ```
    /// # ringdb::block_on(async {
    /// # let dir = std::env::temp_dir().join(format!("ringdb-doc-backup-{}", std::process::id()));
    /// # std::fs::create_dir_all(&dir).unwrap();
    /// # let path = dir.join("copy.ring");
    /// use ringdb::{Db, Options};
    ///
    /// let db = Db::in_memory().await?;
    /// db.column_family("users").await?.put("ada", "1815").await?;
    /// let report = Options::new().restore(&path, db.backup()).await?;
    /// assert_eq!((report.families, report.rows), (1, 1));
    /// let copy = Db::open(&path).await?;
    /// assert!(copy.column_family("users").await?.contains("ada").await?);
    /// copy.close().await?;
    /// # std::fs::remove_dir_all(&dir).unwrap();
    /// # Ok::<(), ringdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// [`Options::restore`]: crate::Options::restore
    pub fn backup(&self) -> Backup {
        Backup { engine: self.engine().clone(), stage: Stage::New, seq: None }
    }
}

/// The bytes of a backup, in chunks of at most about a MiB: a stream that ends with a checksum.
///
/// A stream that did not end without an error is no backup, and restoring it says so. It holds
/// what it reads like a snapshot does, and expires like one: see `Options::snapshot_age_max`.
/// Beside the cache it takes memory for one or two chunks.
///
/// # Errors
///
/// An item may fail with `Closed`, `Poisoned`, `Io`, `Corrupt` or `SnapshotExpired`; it is the last.
///
/// # Cancel safety
///
/// Dropping it ends the backup and nothing else; dropping the future of `try_next` loses no chunk.
#[must_use = "streams do nothing until polled"]
pub struct Backup {
    engine: Arc<Engine>,
    stage: Stage,
    seq: Option<Seq>,
}

/// Where a backup goes on, and what its last step came to.
type Stepped = (Box<Course>, Result<Option<Bytes>>);

enum Stage {
    New,
    Beginning(Pin<Box<dyn Future<Output = Result<Box<Course>>> + Send>>),
    Working(Pin<Box<dyn Future<Output = Stepped> + Send>>),
    /// A chunk was given; the next one comes after the runtime had its turn.
    Resting(Box<Course>),
    Ended,
}

impl Backup {
    /// The last commit that it holds; known with the first chunk.
    pub fn seq(&self) -> Option<Seq> {
        self.seq
    }

    /// The next chunk, or `None` at the end.
    ///
    /// # Errors
    ///
    /// As the stream's items.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no chunk.
    pub fn try_next(&mut self) -> TryNextChunk<'_> {
        TryNextChunk { backup: self }
    }

    fn end_with(&mut self, item: Option<Result<Bytes>>) -> Poll<Option<Result<Bytes>>> {
        self.stage = Stage::Ended;
        Poll::Ready(item)
    }
}

impl Stream for Backup {
    type Item = Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes>>> {
        if let Err(forked) = self.engine.here() {
            return self.end_with(Some(Err(forked)));
        }
        loop {
            match std::mem::replace(&mut self.stage, Stage::Ended) {
                Stage::New => self.stage = Stage::Beginning(Box::pin(begin(self.engine.clone()))),
                Stage::Beginning(mut beginning) => match beginning.as_mut().poll(context) {
                    Poll::Ready(Ok(course)) => {
                        self.seq = Some(course.pinned.seq);
                        self.stage = Stage::Working(Box::pin(advance(course)));
                    }
                    Poll::Ready(Err(error)) => return self.end_with(Some(Err(error))),
                    Poll::Pending => {
                        self.stage = Stage::Beginning(beginning);
                        blocking::note(&self.engine.io);
                        return Poll::Pending;
                    }
                },
                Stage::Working(mut working) => match working.as_mut().poll(context) {
                    Poll::Ready((course, Ok(Some(chunk)))) => {
                        self.stage = Stage::Resting(course);
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                    Poll::Ready((_, told)) => return self.end_with(told.transpose()),
                    Poll::Pending => {
                        self.stage = Stage::Working(working);
                        blocking::note(&self.engine.io);
                        return Poll::Pending;
                    }
                },
                Stage::Resting(course) => {
                    self.stage = Stage::Working(Box::pin(advance(course)));
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Stage::Ended => return Poll::Ready(None),
            }
        }
    }
}

/// The future of [`Backup::try_next`].
#[must_use = "futures do nothing until polled"]
pub struct TryNextChunk<'a> {
    backup: &'a mut Backup,
}

impl Future for TryNextChunk<'_> {
    type Output = Result<Option<Bytes>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        Pin::new(&mut *self.backup).poll_next(context).map(Option::transpose)
    }
}

/// How far a backup is.
struct Course {
    engine: Arc<Engine>,
    pinned: Arc<Pinned>,
    encoder: Encoder,
    /// Families to come, by name.
    families: VecDeque<(Arc<str>, Arc<Family>)>,
    place: Place,
}

enum Place {
    Front,
    Between,
    /// In a family, with the row that was met and has a value in an extent of its own.
    Rows(Box<Scan>, Option<(Value, ExtentValue)>),
    /// In such a value, before the piece with that index.
    Value(Box<Scan>, ExtentValue, usize),
    Ended,
}

/// Pins everything that is ordered now, and waits until it is visible.
async fn begin(engine: Arc<Engine>) -> Result<Box<Course>> {
    let (pinned, mut families) = {
        // With this held, no change of the catalog is between its order and its state.
        let edit = engine.edit_state();
        let order = engine.pipeline.order();
        let names = order.names.clone();
        let last = order.last_in_state();
        drop(order);
        let state = edit.current();
        let named = names.iter().map(|(name, family)| (name.clone(), family.clone()));
        let families: Vec<_> = named.collect();
        (Pinned::new(last.max(state.checkpoint_seq), state), families)
    };
    if engine.pipeline.is_closed() {
        return Err(closed());
    }
    engine.snapshots.register(&pinned);
    engine.pipeline.visible(pinned.seq).await?;
    families.sort_by(|(left, _), (right, _)| left.cmp(right));
    let encoder = Encoder::new(new_file_id());
    let families = families.into();
    Ok(Box::new(Course { engine, pinned, encoder, families, place: Place::Front }))
}

async fn advance(mut course: Box<Course>) -> Stepped {
    let chunk = course.chunk().await;
    (course, chunk)
}

impl Course {
    /// The next chunk, or `None` behind the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            match std::mem::replace(&mut self.place, Place::Ended) {
                Place::Front => {
                    self.place = Place::Between;
                    return Ok(Some(self.encoder.head(self.pinned.seq)));
                }
                Place::Between => return Ok(Some(self.next_family()?)),
                Place::Rows(scan, Some((key, value))) => {
                    let chunk = self.encoder.value(&key, value.len_bytes);
                    self.place = Place::Value(scan, value, 0);
                    return Ok(Some(chunk));
                }
                Place::Rows(scan, None) => {
                    if let Some(chunk) = self.rows(scan).await? {
                        return Ok(Some(chunk));
                    }
                }
                Place::Value(scan, value, index) => {
                    return self.piece(scan, value, index).await.map(Some);
                }
                Place::Ended => return Ok(None),
            }
        }
    }

    /// Begins the next family, or ends the backup.
    fn next_family(&mut self) -> Result<Bytes> {
        let Some((name, family)) = self.families.pop_front() else {
            return Ok(self.encoder.end());
        };
        self.place = match self.pinned.state()?.view(family.id) {
            None => Place::Between,
            Some(view) => {
                let (low, high) = (Bound::Unbounded, Bound::Unbounded);
                let span = Span { low, high, direction: Direction::Forward };
                let scan = Scan::new(view, self.pinned.seq, span, Vec::new());
                Place::Rows(Box::new(scan), None)
            }
        };
        Ok(self.encoder.family(&name, FamilyOptions { logging: family.logging }))
    }

    /// The next rows of a family, up to its end or a large value; none if that comes first.
    async fn rows(&mut self, mut scan: Box<Scan>) -> Result<Option<Bytes>> {
        let mut rows = RowsPayload::new();
        self.place = loop {
            match self.row(&mut scan).await? {
                None => break Place::Between,
                Some((key, Stored::Extent(value))) => break Place::Rows(scan, Some((key, value))),
                Some((key, Stored::Inline(value))) => rows.push(&key, &value),
            }
            if rows.len_bytes() >= CHUNK_BYTES || rows.len() >= CHUNK_ROWS_MAX {
                break Place::Rows(scan, None);
            }
        };
        Ok((rows.len() > 0).then(|| self.encoder.rows(rows)))
    }

    async fn row(&self, scan: &mut Scan) -> Result<Option<(Value, Stored)>> {
        loop {
            match scan.step(&self.engine, &self.pinned) {
                Next::Ready => {
                    let row = scan.ready();
                    return Ok(row.map(|(key, value)| (key, Stored::Inline(value))));
                }
                Next::Row(key, stored) => return Ok(Some((key, stored))),
                Next::End => return Ok(None),
                Next::Turn => yield_now().await,
                Next::Expired(error) => return Err(error),
                Next::Missing(want) => {
                    // Kept while the file is read: an expired snapshot's pages may be of another
                    // life.
                    let state = self.pinned.state()?;
                    scan.fetch(&self.engine, &self.pinned, want).await?;
                    drop(state);
                }
            }
        }
    }

    async fn piece(&mut self, scan: Box<Scan>, value: ExtentValue, index: usize) -> Result<Bytes> {
        let state = self.pinned.state()?;
        let (piece, len) = large::read_piece(&self.engine, &value, index).await?;
        drop(state);
        let is_last = index + 1 == value.crcs.len();
        self.place = match is_last {
            true => Place::Rows(scan, None),
            false => Place::Value(scan, value, index + 1),
        };
        Ok(self.encoder.piece(&piece[..len]))
    }
}

// A piece of a large value as it lies in its extent is a piece of the backup.
const _: () = assert!(crate::format::value::CHUNK_BYTES == crate::format::backup::PIECE_BYTES);
