//! RocksDB: a column family for each family; `sync` in the write options makes a commit durable.
//!
//! Two background jobs, direct reads where data is larger than memory, bloom filters of ten bits,
//! one block cache of the whole memory less the write buffers.

use rocksdb::{
    BlockBasedOptions, BoundColumnFamily, Cache, ColumnFamilyDescriptor, DBCompressionType,
    DBWithThreadMode, FlushOptions, MultiThreaded, Options, ReadOptions, WriteBatch, WriteOptions,
};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Durability, Engine, Outcome, Reader, Settings, failed, family_name, looked_at};
use crate::data::{Change, Key};

type Db = DBWithThreadMode<MultiThreaded>;

/// How often it is asked whether its compactions have ended: it cannot be waited for.
const COMPACTION_LOOK: Duration = Duration::from_millis(5);

/// A database.
pub struct Rocks {
    db: Db,
    names: Vec<String>,
    durability: Durability,
}

impl Rocks {
    /// Opens or creates it.
    pub fn open(settings: &Settings) -> Outcome<Rocks> {
        let buffer = settings.write_buffer_bytes();
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(settings.cache_bytes()).map_err(failed)?);
        table.set_bloom_filter(10.0, false);
        table.set_cache_index_and_filter_blocks(true);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(buffer);
        options.set_db_write_buffer_size(2 * buffer);
        options.set_compression_type(DBCompressionType::None);
        options.increase_parallelism(2);
        options.set_use_direct_reads(true);
        let names: Vec<String> = (0..settings.families).map(family_name).collect();
        let families = names.iter().map(|name| ColumnFamilyDescriptor::new(name, options.clone()));
        let default = ColumnFamilyDescriptor::new("default", options.clone());
        let path = settings.directory.join("peer.rocksdb");
        let all = std::iter::once(default).chain(families);
        let db = Db::open_cf_descriptors(&options, path, all).map_err(failed)?;
        Ok(Rocks { db, names, durability: settings.durability })
    }

    fn family(&self, family: u32) -> Outcome<Arc<BoundColumnFamily<'_>>> {
        self.db.cf_handle(&self.names[family as usize]).ok_or_else(|| failed("no such family"))
    }

    fn is_compacting(&self) -> Outcome<bool> {
        for family in 0..self.names.len() as u32 {
            for property in ["rocksdb.compaction-pending", "rocksdb.num-running-compactions"] {
                let family = self.family(family)?;
                let count = self.db.property_int_value_cf(&family, property).map_err(failed)?;
                if count.unwrap_or(0) > 0 {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn flush(&self) -> Outcome<()> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        for family in 0..self.names.len() as u32 {
            self.db.flush_cf_opt(&self.family(family)?, &options).map_err(failed)?;
        }
        Ok(())
    }
}

impl Engine for Rocks {
    fn write(&self, family: u32, changes: &[Change]) -> Outcome<()> {
        let family = self.family(family)?;
        let mut options = WriteOptions::default();
        options.set_sync(self.durability == Durability::Synced);
        let mut batch = WriteBatch::default();
        for change in changes {
            match &change.value {
                Some(value) => batch.put_cf(&family, change.key, value),
                None => batch.delete_cf(&family, change.key),
            }
        }
        self.db.write_opt(batch, &options).map_err(failed)
    }

    fn reader(&self, family: u32) -> Outcome<Box<dyn Reader + '_>> {
        Ok(Box::new(RocksReader { db: &self.db, family: self.family(family)? }))
    }

    fn settle(&self) -> Outcome<()> {
        self.flush()?;
        while self.is_compacting()? {
            thread::sleep(COMPACTION_LOOK);
        }
        Ok(())
    }

    fn compact(&self) -> Outcome<bool> {
        for family in 0..self.names.len() as u32 {
            self.db.compact_range_cf(&self.family(family)?, None::<&[u8]>, None::<&[u8]>);
        }
        Ok(true)
    }

    fn checkpoint(&self) -> Outcome<bool> {
        self.flush()?;
        Ok(true)
    }

    fn close(&self) -> Outcome<()> {
        self.flush()?;
        self.db.cancel_all_background_work(true);
        Ok(())
    }
}

struct RocksReader<'a> {
    db: &'a Db,
    family: Arc<BoundColumnFamily<'a>>,
}

impl Reader for RocksReader<'_> {
    fn get(&mut self, key: &Key) -> Outcome<bool> {
        let found = self.db.get_pinned_cf(&self.family, key).map_err(failed)?;
        Ok(found.is_some_and(|value| looked_at(&value)))
    }

    fn get_many(&mut self, keys: &[Key]) -> Outcome<usize> {
        let mut there = 0;
        for found in self.db.batched_multi_get_cf(&self.family, keys, false) {
            let value = found.map_err(failed)?;
            there += usize::from(value.is_some_and(|value| looked_at(&value)));
        }
        Ok(there)
    }

    fn scan(&mut self, from: &Key, rows: usize) -> Outcome<usize> {
        let mut iterator = self.db.raw_iterator_cf_opt(&self.family, ReadOptions::default());
        iterator.seek(from);
        let mut found = 0;
        while found < rows && iterator.valid() {
            found += usize::from(iterator.value().is_some_and(looked_at));
            iterator.next();
        }
        iterator.status().map_err(failed)?;
        Ok(found)
    }
}
