//! No engine: the least that it takes to share one log, and to find the rows again.
//!
//! A record joins an open group under one lock, its row goes into an ordered map of its family, and one durable write carries the
//! group. There is no format but the records' bytes and a checksum, no bound on memory but what the run takes, nothing is moved to
//! a place of its own, and nobody can open it again: what an engine does more, it does on top of this.
//!
//! - Threads whose puts are durable hand a record in and sleep; the last one of them writes the group and wakes the others.
//! - Tasks whose puts are durable wait for a thread that writes group after group, each as soon as all are back whom the last one
//!   woke, or as much time has passed as that took to write.
//! - Puts that are not synced return when their row is in its map and those of all puts before theirs are; a thread writes what
//!   has come together.

mod group;
mod order;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use futures::channel::oneshot;
use ringdb_cli::exit::Failure;

use super::{Boxed, Durability, Engine, Outcome, Reader, Settings, looked_at};
use crate::data::{Change, Key, VALUE_BYTES};
use group::Log;
use order::Order;

type Rows = BTreeMap<Key, [u8; VALUE_BYTES]>;

/// A log and maps.
pub struct NoEngine {
    families: Vec<Mutex<Rows>>,
    durability: Durability,
    log: Arc<Log>,
    order: Order,
    /// Writes groups where callers do not.
    writer: Mutex<Option<JoinHandle<Outcome<()>>>>,
}

impl NoEngine {
    /// Creates it.
    pub fn open(settings: &Settings) -> Outcome<NoEngine> {
        let log = Arc::new(Log::create(&settings.directory, settings.families)?);
        let families = (0..settings.families).map(|_| Mutex::default()).collect();
        let (order, writer) = (Order::default(), Mutex::default());
        Ok(NoEngine { families, durability: settings.durability, log, order, writer })
    }

    fn rows(&self, family: u32) -> MutexGuard<'_, Rows> {
        held(&self.families[family as usize])
    }

    fn insert(&self, family: u32, changes: &[Change]) {
        let mut rows = self.rows(family);
        for Change { key, value } in changes {
            match value {
                Some(value) => rows.insert(*key, *value),
                None => rows.remove(key),
            };
        }
    }

    /// Starts the thread that writes groups, with the first who needs it.
    fn need_writer(&self) {
        let mut writer = held(&self.writer);
        if writer.is_none() {
            let log = self.log.clone();
            *writer = Some(std::thread::spawn(move || log.write_until_the_end()));
        }
    }
}

/// The lock of something that is whole at each step: whoever panicked left nothing half done.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the log has of a commit.
fn record(family: u32, changes: &[Change]) -> Vec<u8> {
    let mut record = Vec::with_capacity(changes.len() * (size_of::<Change>() + 8));
    for Change { key, value } in changes {
        record.extend_from_slice(&family.to_le_bytes());
        record.extend_from_slice(&(value.is_some() as u32).to_le_bytes());
        record.extend_from_slice(key);
        record.extend_from_slice(value.as_ref().map_or(&[][..], |value| &value[..]));
    }
    record
}

impl Engine for NoEngine {
    fn write(&self, family: u32, changes: &[Change]) -> Outcome<()> {
        let record = record(family, changes);
        match self.durability {
            Durability::Synced => {
                self.insert(family, changes);
                self.log.write_together(&record)
            }
            Durability::Unsynced => {
                if self.order.is_new() {
                    self.need_writer();
                }
                let seq = self.log.push_in_order(&record, &self.order)?;
                self.insert(family, changes);
                self.order.show(seq);
                Ok(())
            }
        }
    }

    fn reader(&self, family: u32) -> Outcome<Box<dyn Reader + '_>> {
        Ok(Box::new(&self.families[family as usize]))
    }

    fn put_async(&self, family: u32, change: &Change) -> Option<Boxed<()>> {
        let change = std::slice::from_ref(change);
        self.insert(family, change);
        let (done, written) = oneshot::channel();
        if self.log.push(&record(family, change), done) {
            self.need_writer();
        }
        Some(Box::pin(async move {
            written.await.map_err(|_| Failure::error("the log could not be written"))
        }))
    }

    fn settle(&self) -> Outcome<()> {
        Ok(())
    }

    fn compact(&self) -> Outcome<bool> {
        Ok(false)
    }

    fn checkpoint(&self) -> Outcome<bool> {
        Ok(false)
    }

    fn close(&self) -> Outcome<()> {
        self.log.end();
        match held(&self.writer).take() {
            Some(writer) => {
                writer.join().map_err(|_| Failure::error("the log's thread panicked"))?
            }
            None => Ok(()),
        }
    }
}

impl Reader for &Mutex<Rows> {
    fn get(&mut self, key: &Key) -> Outcome<bool> {
        Ok(held(self).get(key).is_some_and(|value| looked_at(value)))
    }

    fn scan(&mut self, from: &Key, rows: usize) -> Outcome<usize> {
        let held = held(self);
        let found = held.range(*from..).take(rows);
        Ok(found.filter(|(_, value)| looked_at(&value[..])).count())
    }
}
