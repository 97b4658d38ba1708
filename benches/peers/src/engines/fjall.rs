//! fjall: a keyspace for each family; `PersistMode::SyncData` makes the journal durable.
//!
//! No compression (its default feature), as everywhere here.

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Durability, Engine, Outcome, Reader, Settings, failed, family_name, looked_at};
use crate::data::{Change, Key};

/// The smallest limit that it accepts.
const JOURNAL_BYTES_MIN: u64 = 64 << 20;

/// A database.
pub struct Fjall {
    db: Database,
    families: Vec<Keyspace>,
    persist: Option<PersistMode>,
}

impl Fjall {
    /// Opens or creates it.
    pub fn open(settings: &Settings) -> Outcome<Fjall> {
        let buffer = settings.write_buffer_bytes() as u64;
        let db = Database::builder(settings.directory.join("peer.fjall"))
            .cache_size(settings.cache_bytes() as u64)
            .max_journaling_size((8 * buffer).max(JOURNAL_BYTES_MIN))
            .open()
            .map_err(failed)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(buffer);
        let open = |family| db.keyspace(&family_name(family), options).map_err(failed);
        let families = (0..settings.families).map(open).collect::<Outcome<_>>()?;
        let persist = match settings.durability {
            Durability::Synced => Some(PersistMode::SyncData),
            Durability::Unsynced => None,
        };
        Ok(Fjall { db, families, persist })
    }

    fn idle(&self) -> bool {
        let busy = |family: &Keyspace| family.sealed_memtable_count() > 0;
        self.db.outstanding_flushes() == 0
            && self.db.active_compactions() == 0
            && !self.families.iter().any(busy)
    }
}

impl Engine for Fjall {
    fn write(&self, family: u32, changes: &[Change]) -> Outcome<()> {
        let family = &self.families[family as usize];
        if let [Change { key, value: Some(value) }] = changes {
            family.insert(key, value).map_err(failed)?;
            return self.persist.map_or(Ok(()), |mode| self.db.persist(mode)).map_err(failed);
        }
        let mut batch = self.db.batch().durability(self.persist);
        for change in changes {
            match &change.value {
                Some(value) => batch.insert(family, change.key, value),
                None => batch.remove(family, change.key),
            }
        }
        batch.commit().map_err(failed)
    }

    fn reader(&self, family: u32) -> Outcome<Box<dyn Reader + '_>> {
        Ok(Box::new(&self.families[family as usize]))
    }

    fn settle(&self) -> Outcome<()> {
        self.checkpoint()?;
        let mut quiet = 0;
        // Compactions follow one another with pauses; it has no call that waits for the last.
        while quiet < 10 {
            std::thread::sleep(std::time::Duration::from_millis(10));
            quiet = if self.idle() { quiet + 1 } else { 0 };
        }
        self.db.persist(PersistMode::SyncAll).map_err(failed)
    }

    fn compact(&self) -> Outcome<bool> {
        self.families.iter().try_for_each(Keyspace::major_compact).map_err(failed)?;
        Ok(true)
    }

    fn checkpoint(&self) -> Outcome<bool> {
        let rotate = |family: &Keyspace| family.rotate_memtable_and_wait();
        self.families.iter().try_for_each(rotate).map_err(failed)?;
        Ok(true)
    }

    fn close(&self) -> Outcome<()> {
        self.db.persist(PersistMode::SyncAll).map_err(failed)
    }
}

impl Reader for &Keyspace {
    fn get(&mut self, key: &Key) -> Outcome<bool> {
        let found = Keyspace::get(self, key).map_err(failed)?;
        Ok(found.is_some_and(|value| looked_at(&value)))
    }

    fn scan(&mut self, from: &Key, rows: usize) -> Outcome<usize> {
        let mut found = 0;
        for row in self.range(&from[..]..).take(rows) {
            found += usize::from(looked_at(&row.value().map_err(failed)?));
        }
        Ok(found)
    }
}
