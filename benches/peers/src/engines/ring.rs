//! ringdb: the calls of its public interface, `wait` and `block_on` on threads, futures in tasks.

use std::ops::ControlFlow;

use ringdb::{Backend, ColumnFamily, Db, Options, block_on};

use super::{Boxed, Calls, Durability, Engine, Outcome, Reader, Settings, family_name, looked_at};
use crate::data::{Change, Key};
use crate::protocol::Keys;

/// A database.
pub struct Ring {
    db: Db,
    families: Vec<ColumnFamily>,
    durability: ringdb::Durability,
}

impl Ring {
    /// Opens or creates it.
    pub fn open(settings: &Settings) -> Outcome<Ring> {
        let durability = match settings.durability {
            Durability::Synced => ringdb::Durability::Immediate,
            Durability::Unsynced => ringdb::Durability::Buffered,
        };
        let backend = match settings.calls {
            Calls::Best => Backend::Auto,
            Calls::Plain => Backend::Pwrite,
        };
        let options = Options::new().memory_bytes(settings.memory_bytes);
        let options = options.durability(durability).backend(backend);
        let db = block_on(options.open(settings.directory.join("peer.ring")))?;
        let open = |family| block_on(db.column_family(family_name(family)));
        let families = (0..settings.families).map(open).collect::<ringdb::Result<_>>()?;
        Ok(Ring { db, families, durability })
    }
}

impl Engine for Ring {
    fn write(&self, family: u32, changes: &[Change]) -> Outcome<()> {
        let family = &self.families[family as usize];
        if let [Change { key, value: Some(value) }] = changes {
            family.put(key, value).wait()?;
            return Ok(());
        }
        let mut batch = self.db.batch();
        batch.durability(self.durability);
        for change in changes {
            match &change.value {
                Some(value) => batch.put(family, change.key, value),
                None => batch.delete(family, change.key),
            };
        }
        batch.commit().wait()?;
        Ok(())
    }

    fn load(&self, family: u32, rows: &mut dyn Iterator<Item = Change>, _: Keys) -> Outcome<bool> {
        let mut ingest = self.families[family as usize].ingest();
        block_on(async {
            for Change { key, value } in rows {
                ingest.put(key, value.as_ref().map_or(&[][..], |value| &value[..])).await?;
            }
            ingest.commit().await
        })?;
        Ok(true)
    }

    fn reader(&self, family: u32) -> Outcome<Box<dyn Reader + '_>> {
        // A clone of its own: clones count their reads in flight apart.
        Ok(Box::new(self.families[family as usize].clone()))
    }

    fn put_async(&self, family: u32, change: &Change) -> Option<Boxed<()>> {
        let value = change.value.as_ref().map_or(&[][..], |value| &value[..]);
        let put = self.families[family as usize].put(change.key, value);
        Some(Box::pin(async move {
            put.await?;
            Ok(())
        }))
    }

    fn get_async(&self, family: u32, key: &Key) -> Option<Boxed<bool>> {
        let get = self.families[family as usize].get(key);
        Some(Box::pin(async move { Ok(get.await?.is_some_and(|value| looked_at(&value))) }))
    }

    fn replayed_bytes(&self) -> u64 {
        self.db.recovery().log_bytes
    }

    fn settle(&self) -> Outcome<()> {
        block_on(self.db.checkpoint())?;
        // It has no call that waits for the merges that follow, where there is more than one tree to be merged; those of an
        // idle database begin seconds later.
        let has_one_tree = self.db.stat().families.iter().all(|family| family.trees <= 1);
        let (mut quiet, mut before) = (0, 0);
        while quiet < 10 && !has_one_tree {
            std::thread::sleep(std::time::Duration::from_millis(10));
            let written = self.db.metrics().page_bytes;
            quiet = if written == before { quiet + 1 } else { 0 };
            before = written;
        }
        Ok(())
    }

    fn compact(&self) -> Outcome<bool> {
        block_on(self.db.compact())?;
        Ok(true)
    }

    fn checkpoint(&self) -> Outcome<bool> {
        block_on(self.db.checkpoint())?;
        Ok(true)
    }

    fn close(&self) -> Outcome<()> {
        Ok(block_on(self.db.close())?)
    }
}

impl Reader for ColumnFamily {
    fn get(&mut self, key: &Key) -> Outcome<bool> {
        Ok(block_on(self.get_with(key, |value| value.is_some_and(looked_at)))?)
    }

    fn get_many(&mut self, keys: &[Key]) -> Outcome<usize> {
        let values = block_on(self.multi_get(keys))?;
        Ok(values.iter().flatten().filter(|value| looked_at(value)).count())
    }

    fn scan(&mut self, from: &Key, rows: usize) -> Outcome<usize> {
        let (mut seen, mut found) = (0, 0);
        block_on(self.range(&from[..]..).for_each_with(|_, value| {
            seen += 1;
            found += usize::from(looked_at(value));
            if seen < rows { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }))?;
        Ok(found)
    }
}
