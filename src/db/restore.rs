//! A database out of a backup: under a temporary name until it is whole.
//!
//! 1. A new database is made beside the one to come, under a name that no file has.
//! 2. The backup's rows go into it in batches, each checked before it is believed. (I7)
//! 3. It is closed, so that all of it is durable, and then renamed without replacing.
//!
//! So there is no database under its name, or the whole one, whatever fails. A failure, and a future
//! that is dropped, remove the temporary file; after a crash it is left, and nobody opens it.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::channel::oneshot;
use futures_core::Stream;
use ringdb_uring::planted::{self, Bug};
use ringdb_uring::threads::thread;
use ringdb_uring::{Io, OpenError, Settings};

use crate::batch::Operations;
use crate::blocking::wait_for;
use crate::db::column_family::ColumnFamily;
use crate::db::write::{Commit, Submit};
use crate::db::{ColumnFamilyOptions, Db, Task, open};
use crate::error::{Error, ErrorKind, Result};
use crate::format::backup::{Decoder, Item, Refusal};
use crate::format::catalog::FamilyOptions;
use crate::ids::Seq;
use crate::large::{self, Writing};
use crate::options::{Create, Durability, Options, Place};
use crate::recovery::create::{open_error, settings};
use crate::report::RestoreReport;

/// Bytes of rows in a batch, but for the row that reaches it.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Values with extents of their own in a batch: one sync makes so many durable.
const BATCH_VALUES_MAX: usize = 64;

impl Options {
    /// Makes a new database at `path` out of the bytes of a backup, in pieces of any size: those
    /// of a file, a socket, or [`Db::backup`] itself.
    ///
    /// The database has its name once it is whole and durable; until then it lies in a file of
    /// another name in the same directory. It is left closed. Memory is bounded by that of these
    /// options, and `create` is not asked: nothing is ever replaced.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if there is something at `path`; `Corrupt` if the bytes are not those of a
    /// backup from its first to its last, `Version` for a backup of a later version; `Io` with the
    /// source's own error; and as [`Options::open`]. Then there is no database.
    ///
    /// # Cancel safety
    ///
    /// Dropped, there is the whole database or none; what was begun is removed in the background.
    ///
    /// # Examples
    ///
    /// ```
    /// # ringdb::block_on(async {
    /// # let dir = std::env::temp_dir().join(format!("ringdb-doc-restore-{}", std::process::id()));
    /// # std::fs::create_dir_all(&dir).unwrap();
    /// # let path = dir.join("copy.ring");
    /// use ringdb::{Db, ErrorKind, Options};
    ///
    /// let (db, mut chunks) = (Db::in_memory().await?, Vec::new());
    /// let mut backup = db.backup();
    /// while let Some(chunk) = backup.try_next().await? {
    ///     chunks.push(Ok::<_, std::io::Error>(chunk)); // or into a file
    /// }
    /// chunks.pop(); // the last is lost on the way
    /// let restored = Options::new().restore(&path, futures::stream::iter(chunks)).await;
    /// assert_eq!(restored.unwrap_err().kind(), ErrorKind::Corrupt);
    /// assert!(!path.exists());
    /// # std::fs::remove_dir_all(&dir).unwrap();
    /// # Ok::<(), ringdb::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn restore<S, B, E>(self, path: impl AsRef<Path>, backup: S) -> Task<RestoreReport>
    where
        S: Stream<Item = std::result::Result<B, E>> + Send + 'static,
        B: Into<Bytes>,
        E: std::error::Error + Send + Sync + 'static,
    {
        restore(Place::path(path), self, backup)
    }

    /// Restores to a simulated disk, for crash tests; [`Options::open_sim`] opens the database.
    ///
    /// # Errors
    ///
    /// As [`Options::restore`].
    #[cfg(feature = "sim")]
    pub fn restore_sim<S, B, E>(
        self,
        disk: &ringdb_uring::sim::Disk,
        backup: S,
    ) -> Task<RestoreReport>
    where
        S: Stream<Item = std::result::Result<B, E>> + Send + 'static,
        B: Into<Bytes>,
        E: std::error::Error + Send + Sync + 'static,
    {
        restore(Place::disk(disk), self, backup)
    }
}

pub(super) fn restore<S, B, E>(place: Place, options: Options, backup: S) -> Task<RestoreReport>
where
    S: Stream<Item = std::result::Result<B, E>> + Send + 'static,
    B: Into<Bytes>,
    E: std::error::Error + Send + Sync + 'static,
{
    let source = backup.map(|piece| piece.map(Into::into).map_err(source_error));
    let source = Source { stream: Box::pin(source), rest: Bytes::new(), buffer: BytesMut::new() };
    Task::without_engine(async move {
        let mut unfinished = begin(place.clone(), options).await?;
        let restored = Restoring::new(unfinished.db()).run(source).await;
        let closed = unfinished.close().await;
        let report = match (restored, closed) {
            (Ok(report), Ok(())) => report,
            (Err(error), _) | (Ok(_), Err(error)) => {
                on_thread(move || drop(unfinished.remove())).await?;
                return Err(error);
            }
        };
        on_thread(move || unfinished.publish(place.name())).await??;
        Ok(report)
    })
}

/// The source's error: one of ours stays what it is.
fn source_error(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    match (&error as &dyn Any).downcast_ref::<Error>() {
        Some(own) => own.clone(),
        None => Error::new(ErrorKind::Io, "reading the backup failed").with_source(error),
    }
}

/// Naming, renaming and removing files block, so a thread does it.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (reply, done) = oneshot::channel();
    let work = move || drop(reply.send(work()));
    let spawned = thread::Builder::new().name("ringdb-restore".to_owned()).spawn(work);
    spawned.map_err(|cause| {
        Error::new(ErrorKind::Io, "a thread could not be started").with_source(cause)
    })?;
    done.await.map_err(|_| Error::new(ErrorKind::Io, "a thread of a restore panicked"))
}

/// A database that has not its name yet; dropped, it is removed in the background.
struct Unfinished {
    path: PathBuf,
    settings: Settings,
    state: Progress,
}

enum Progress {
    Open(Db),
    Closed,
    /// Renamed or removed.
    Over,
}

async fn begin(place: Place, options: Options) -> Result<Unfinished> {
    let settings = settings(&place, &options);
    // If nobody waits any more, what comes out of it is dropped, and so removed.
    let begun = on_thread(move || {
        let name = place.name();
        if Io::exists(name, &settings) {
            let error = Error::new(ErrorKind::AlreadyExists, "the file exists already");
            return Err(error.with_detail(name.display().to_string()));
        }
        let beside = Io::name_beside(name, &settings, "restore");
        let path = beside.map_err(|cause| open_error(name, cause))?;
        let opening = open(place.beside(path.clone()), options.create(Create::Always));
        let db = wait_for(opening).inspect_err(|_| {
            // It may have been made before opening failed; the first error is the one to tell.
            drop(Io::remove(&path, &settings));
        })?;
        Ok(Unfinished { path, settings, state: Progress::Open(db) })
    });
    begun.await?
}

impl Unfinished {
    fn db(&self) -> Db {
        match &self.state {
            Progress::Open(db) => db.clone(),
            Progress::Closed | Progress::Over => unreachable!("it is filled before it is closed"),
        }
    }

    /// Makes all of it durable and lets the file go.
    async fn close(&mut self) -> Result<()> {
        if planted::is(Bug::NamedBeforeWhole) {
            return Ok(());
        }
        let closed = self.db().close().await;
        self.state = Progress::Closed;
        closed
    }

    fn publish(mut self, name: &Path) -> Result<()> {
        let renamed = Io::rename(&self.path, name, &self.settings);
        renamed.map_err(|cause| open_error(name, cause))?;
        self.state = Progress::Over;
        Ok(())
    }

    fn remove(mut self) -> std::result::Result<(), OpenError> {
        self.state = Progress::Over;
        Io::remove(&self.path, &self.settings)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let db = match std::mem::replace(&mut self.state, Progress::Over) {
            Progress::Open(db) => Some(db),
            Progress::Closed => None,
            Progress::Over => return,
        };
        let (path, settings) = (std::mem::take(&mut self.path), self.settings.clone());
        let work = move || {
            if let Some(db) = db {
                drop(wait_for(db.close())); // Whatever it says, the file is let go.
            }
            drop(Io::remove(&path, &settings)); // Nobody is left to be told.
        };
        drop(thread::Builder::new().name("ringdb-restore".to_owned()).spawn(work));
    }
}

/// The backup's bytes, in pieces of any size.
struct Source {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>,
    /// Of the last piece, what was not asked for yet.
    rest: Bytes,
    buffer: BytesMut,
}

impl Source {
    /// Brings the buffer to so many bytes; what is there if the stream ends before.
    async fn at_hand(&mut self, len_bytes: usize) -> Result<&[u8]> {
        while self.buffer.len() < len_bytes {
            if self.rest.is_empty() {
                match self.stream.next().await {
                    Some(piece) => self.rest = piece?,
                    None => break,
                }
            }
            let lacks = len_bytes - self.buffer.len();
            let more = self.rest.split_to(lacks.min(self.rest.len()));
            self.buffer.extend_from_slice(&more);
        }
        Ok(&self.buffer)
    }

    /// The next item, checked.
    async fn item(&mut self, decoder: &mut Decoder) -> Result<Item> {
        loop {
            let wants = decoder.wants(&self.buffer).map_err(refused)?;
            if self.buffer.len() >= wants {
                let bytes = self.buffer.split_to(wants).freeze();
                return decoder.item(bytes).map_err(refused);
            }
            if self.at_hand(wants).await?.len() < wants {
                return Err(refused(decoder.cut_short()));
            }
        }
    }
}

fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::NotABackup => Error::new(ErrorKind::Corrupt, "the bytes are not a backup's"),
        Refusal::Version(version) => {
            let message = "the backup has a version that this build does not read";
            Error::new(ErrorKind::Version, message).with_detail(format!("version {version}"))
        }
        Refusal::Defect(defect) => {
            let error = Error::new(ErrorKind::Corrupt, "the backup is not what was written");
            error.with_detail(defect.to_string())
        }
    }
}

/// Rows on their way into the new database.
struct Restoring {
    db: Db,
    family: Option<ColumnFamily>,
    operations: Operations,
    batch_bytes_max: usize,
    /// Values in extents among the operations, not synced yet.
    values: usize,
    /// One batch is filled while the one before it commits.
    in_flight: Option<Commit>,
    writing: Option<(Bytes, Writing)>,
}

impl Restoring {
    fn new(db: Db) -> Restoring {
        let batch_bytes_max = BATCH_BYTES_MAX.min(db.engine().shares.batch_bytes_max / 2);
        Restoring {
            db,
            family: None,
            operations: Operations::default(),
            batch_bytes_max,
            values: 0,
            in_flight: None,
            writing: None,
        }
    }

    async fn run(mut self, mut source: Source) -> Result<RestoreReport> {
        let (mut decoder, mut of) = (Decoder::new(), Seq(0));
        let totals = loop {
            match source.item(&mut decoder).await? {
                Item::Head { seq } => of = seq,
                Item::End(totals) => break totals,
                item => self.take(item).await?,
            }
        };
        if !source.at_hand(1).await?.is_empty() {
            return Err(refused(decoder.goes_on()));
        }
        self.submit().await?;
        self.settle().await?;
        let (families, rows, bytes) = (totals.families, totals.rows, totals.bytes);
        Ok(RestoreReport { seq: of, families, rows, bytes })
    }

    async fn take(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Family { name, options } => self.begin_family(&name, options).await,
            Item::Rows(rows) => {
                for (key, value) in rows.iter() {
                    let family = self.family.as_ref().expect(IN_A_FAMILY);
                    self.operations.put(family.family(), key, value);
                    self.submit_if_full().await?;
                }
                Ok(())
            }
            Item::Value { key, len_bytes } => {
                let writing = Writing::begin(self.db.engine(), len_bytes).await?;
                self.writing = Some((key, writing));
                Ok(())
            }
            Item::Piece { bytes, is_last } => self.piece(&bytes, is_last).await,
            Item::Head { .. } | Item::End(_) => unreachable!("they are taken by the caller"),
        }
    }

    async fn begin_family(&mut self, name: &str, options: FamilyOptions) -> Result<()> {
        // Rows of the family before go first, so that this one waits for nothing.
        self.submit().await?;
        let options = ColumnFamilyOptions { logging: options.logging };
        let created = self.db.create_column_family(name, options).await;
        let created = created.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                Error::new(ErrorKind::Corrupt, "a family is in the backup twice")
            }
            _ => error,
        });
        self.family = Some(created?);
        Ok(())
    }

    async fn piece(&mut self, bytes: &[u8], is_last: bool) -> Result<()> {
        let (key, mut writing) = self.writing.take().expect("pieces follow the head of a value");
        writing.write(self.db.engine(), &[bytes]).await?;
        if !is_last {
            self.writing = Some((key, writing));
            return Ok(());
        }
        let (value, reserved) = writing.end();
        let family = self.family.as_ref().expect(IN_A_FAMILY);
        self.operations.put_written(family.family(), &key, &value, reserved);
        self.values += 1;
        self.submit_if_full().await
    }

    async fn submit_if_full(&mut self) -> Result<()> {
        let is_full = self.operations.bytes() >= self.batch_bytes_max;
        if is_full || self.values >= BATCH_VALUES_MAX { self.submit().await } else { Ok(()) }
    }

    /// Orders the batch, then waits for the one before it.
    async fn submit(&mut self) -> Result<()> {
        if self.operations.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.values) > 0 {
            large::sync(self.db.engine()).await?;
        }
        let operations = std::mem::take(&mut self.operations);
        let engine = self.db.engine().clone();
        // Durable with the rest when the database is closed, before which it has no name.
        let commit = Submit::new(engine, operations, Durability::Buffered).await?;
        self.settle().await?;
        self.in_flight = Some(commit);
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        match self.in_flight.take() {
            Some(commit) => commit.await.map(drop),
            None => Ok(()),
        }
    }
}

const IN_A_FAMILY: &str = "the decoder lets rows come in a family only";
