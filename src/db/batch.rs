//! Batches as a program builds them.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::batch::Operations;
use crate::db::column_family::{ColumnFamily, add_range};
use crate::db::write::{Commit, Submit, Write};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Durability;

/// What a batch says whose content is gone.
const LOST: &str = "the batch lost its content to a commit that failed; fill it again";

/// Puts, deletes and range deletes over any column families, applied all or none.
///
/// Later operations on a key outdo earlier ones. A key, value, range or column family that is not accepted is told when the batch is
/// submitted, the first mistake of several, and then nothing of it is written.
///
/// `submit` and `commit` take the content out, also when they fail: to try again, fill the batch again. Until then it answers
/// `InvalidArgument`. An empty batch commits at once and writes nothing. `try_submit` leaves the content where it was if it fails.
///
/// # Examples
///
/// ```
/// # ringdb::block_on(async {
/// let db = ringdb::Db::in_memory().await?;
/// let (users, sessions) = (db.column_family("users").await?, db.column_family("sessions").await?);
/// let mut batch = db.batch();
/// batch.put(&users, "alan", "1912").delete(&sessions, "old");
/// let commit = batch.submit().await?; // ordered now …
/// commit.await?; // … durable now
/// # Ok::<(), ringdb::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "a batch does nothing until it is submitted"]
pub struct Batch {
    engine: Arc<Engine>,
    operations: Operations,
    durability: Durability,
    /// Content that was taken out did not become a commit, and none came since.
    lost: Arc<AtomicBool>,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).field("bytes", &self.bytes()).finish()
    }
}

impl Batch {
    pub(crate) fn new(engine: Arc<Engine>, durability: Durability) -> Batch {
        Batch { engine, operations: Operations::default(), durability, lost: Arc::default() }
    }

    /// Gives a key a value: 1 byte to 64 KiB of key, up to 1 GiB of value.
    pub fn put(
        &mut self,
        family: &ColumnFamily,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Batch {
        self.with(family, |operations| {
            operations.put(family.family(), key.as_ref(), value.as_ref());
        })
    }

    /// As [`put`](Batch::put), without copying a value above 64 KiB.
    pub fn put_bytes(
        &mut self,
        family: &ColumnFamily,
        key: impl AsRef<[u8]>,
        value: Bytes,
    ) -> &mut Batch {
        self.with(family, |operations| operations.put_bytes(family.family(), key.as_ref(), value))
    }

    /// Deletes a key.
    pub fn delete(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> &mut Batch {
        self.with(family, |operations| operations.delete(family.family(), key.as_ref()))
    }

    /// Deletes every key of a range; a batch may do so [`BATCH_RANGE_DELETES_MAX`](crate::BATCH_RANGE_DELETES_MAX) times.
    pub fn delete_range<K: AsRef<[u8]>>(
        &mut self,
        family: &ColumnFamily,
        range: impl RangeBounds<K>,
    ) -> &mut Batch {
        self.with(family, |operations| add_range(operations, family.family(), &range))
    }

    /// Deletes every key of a family.
    pub fn clear(&mut self, family: &ColumnFamily) -> &mut Batch {
        self.delete_range::<&[u8]>(family, ..)
    }

    /// Who tries a commit again that failed must not be told that it went well.
    fn has_lost_its_content(&self) -> bool {
        self.operations.is_empty() && self.lost.load(Ordering::Relaxed)
    }

    fn with(&mut self, family: &ColumnFamily, add: impl FnOnce(&mut Operations)) -> &mut Batch {
        match family.belongs_to(&self.engine) {
            true => add(&mut self.operations),
            false => self.operations.refuse_family(),
        }
        self
    }

    /// When the commit resolves; by default as the database's options say.
    pub fn durability(&mut self, durability: Durability) -> &mut Batch {
        self.durability = durability;
        self
    }

    /// Operations so far.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is no operation.
    pub fn is_empty(&self) -> bool {
        self.operations.len() == 0
    }

    /// Bytes of the operations so far, as the log will hold them, and of large values. Without values above 64 KiB, which do not
    /// count, a batch may have an eighth of [`Options::memory_bytes`](crate::Options::memory_bytes), and 256 MiB at most.
    pub fn bytes(&self) -> usize {
        self.operations.bytes()
    }

    /// Waits for room and takes a place in the order.
    ///
    /// # Errors
    ///
    /// As [`Write`].
    ///
    /// # Cancel safety
    ///
    /// As [`Submit`].
    pub fn submit(&mut self) -> Submit {
        if self.has_lost_its_content() {
            self.operations.refuse(ErrorKind::InvalidArgument, LOST);
        }
        self.lost.store(false, Ordering::Relaxed);
        let operations = std::mem::take(&mut self.operations);
        Submit::new(self.engine.clone(), operations, self.durability).of_batch(&self.lost)
    }

    /// Takes a place in the order if there is room at once.
    ///
    /// # Errors
    ///
    /// `Busy` if there is none now; `Unsupported` if a value is longer than 64 KiB, which only `submit` and `commit` write; else as
    /// [`Write`]. The content stays in the batch.
    pub fn try_submit(&mut self) -> Result<Commit> {
        if self.has_lost_its_content() {
            return Err(Error::new(ErrorKind::InvalidArgument, LOST));
        }
        self.submit().try_now().map_err(|refused| {
            let (error, operations) = *refused;
            if let Some(operations) = operations {
                self.operations = operations;
                self.lost.store(false, Ordering::Relaxed);
            }
            error
        })
    }

    /// `submit` and then the commit: resolves when it is visible, and durable if `Immediate`.
    ///
    /// # Errors
    ///
    /// As [`Write`].
    ///
    /// # Cancel safety
    ///
    /// As [`Write`].
    pub fn commit(&mut self) -> Write {
        Write::new(self.submit())
    }
}
