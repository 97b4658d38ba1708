//! redb: a table for each family; a commit of `Durability::Immediate` is synced when it returns.

use redb::{Database, ReadOnlyTable, ReadableDatabase, TableDefinition};

use super::{Durability, Engine, Outcome, Reader, Settings, failed, family_name, looked_at};
use crate::data::{Change, Key};

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A database.
pub struct Redb {
    /// Compaction wants it alone.
    db: std::sync::RwLock<Option<Database>>,
    names: Vec<String>,
    durability: redb::Durability,
}

impl Redb {
    /// Opens or creates it.
    pub fn open(settings: &Settings) -> Outcome<Redb> {
        let mut builder = Database::builder();
        let db = builder
            .set_cache_size(settings.memory_bytes)
            .create(settings.directory.join("peer.redb"))
            .map_err(failed)?;
        let names: Vec<String> = (0..settings.families).map(family_name).collect();
        let begun = db.begin_write().map_err(failed)?;
        for name in &names {
            begun.open_table(table(name)).map_err(failed)?;
        }
        begun.commit().map_err(failed)?;
        let durability = match settings.durability {
            Durability::Synced => redb::Durability::Immediate,
            Durability::Unsynced => redb::Durability::None,
        };
        Ok(Redb { db: std::sync::RwLock::new(Some(db)), names, durability })
    }

    fn with<T>(&self, act: impl FnOnce(&Database) -> Outcome<T>) -> Outcome<T> {
        let db = self.db.read().map_err(failed)?;
        act(db.as_ref().ok_or_else(|| failed("it is closed"))?)
    }

    fn commit(
        &self,
        family: &str,
        changes: &[Change],
        durability: redb::Durability,
    ) -> Outcome<()> {
        self.with(|db| {
            let mut begun = db.begin_write().map_err(failed)?;
            begun.set_durability(durability).map_err(failed)?;
            {
                let mut table = begun.open_table(table(family)).map_err(failed)?;
                for change in changes {
                    match &change.value {
                        Some(value) => table.insert(&change.key[..], &value[..]),
                        None => table.remove(&change.key[..]),
                    }
                    .map_err(failed)?;
                }
            }
            begun.commit().map_err(failed)
        })
    }
}

fn table(name: &str) -> TableDefinition<'_, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

impl Engine for Redb {
    fn write(&self, family: u32, changes: &[Change]) -> Outcome<()> {
        self.commit(&self.names[family as usize], changes, self.durability)
    }

    fn reader(&self, family: u32) -> Outcome<Box<dyn Reader + '_>> {
        self.with(|db| {
            let begun = db.begin_read().map_err(failed)?;
            let table = begun.open_table(table(&self.names[family as usize])).map_err(failed)?;
            Ok(Box::new(table) as Box<dyn Reader>)
        })
    }

    /// Unsynced commits become durable with the next one that is.
    fn settle(&self) -> Outcome<()> {
        self.commit(&self.names[0], &[], redb::Durability::Immediate)
    }

    fn compact(&self) -> Outcome<bool> {
        let mut db = self.db.write().map_err(failed)?;
        let db = db.as_mut().ok_or_else(|| failed("it is closed"))?;
        db.compact().map_err(failed)?;
        Ok(true)
    }

    fn checkpoint(&self) -> Outcome<bool> {
        Ok(false)
    }

    fn close(&self) -> Outcome<()> {
        match self.db.write().map_err(failed)?.take() {
            Some(db) => db.close().map_err(failed),
            None => Ok(()),
        }
    }
}

impl Reader for Table {
    fn get(&mut self, key: &Key) -> Outcome<bool> {
        let found = ReadOnlyTable::get(self, &key[..]).map_err(failed)?;
        Ok(found.is_some_and(|value| looked_at(value.value())))
    }

    fn scan(&mut self, from: &Key, rows: usize) -> Outcome<usize> {
        let mut found = 0;
        for row in self.range::<&[u8]>(&from[..]..).map_err(failed)?.take(rows) {
            let (_, value) = row.map_err(failed)?;
            found += usize::from(looked_at(value.value()));
        }
        Ok(found)
    }
}
