//! A database for each family, as those do it who fear one writer.

use std::sync::Arc;

use super::{Boxed, Engine, Name, Outcome, Reader, Settings};
use crate::data::{Change, Key};

/// Several databases of one engine.
pub struct Files {
    databases: Vec<Arc<dyn Engine>>,
}

impl Files {
    /// Opens a database for each family; together they have the memory.
    pub fn open(name: Name, settings: &Settings) -> Outcome<Files> {
        let open = |family| {
            let directory = settings.directory.join(format!("{family}"));
            std::fs::create_dir_all(&directory)?;
            let memory_bytes = settings.memory_bytes / settings.families as usize;
            name.open(&Settings { directory, families: 1, memory_bytes, ..settings.clone() })
        };
        Ok(Files { databases: (0..settings.families).map(open).collect::<Outcome<_>>()? })
    }

    fn of(&self, family: u32) -> &dyn Engine {
        self.databases[family as usize].as_ref()
    }

    fn each(&self, act: impl Fn(&dyn Engine) -> Outcome<bool>) -> Outcome<bool> {
        self.databases.iter().try_fold(true, |all, db| Ok(act(db.as_ref())? && all))
    }
}

impl Engine for Files {
    fn write(&self, family: u32, changes: &[Change]) -> Outcome<()> {
        self.of(family).write(0, changes)
    }

    fn reader(&self, family: u32) -> Outcome<Box<dyn Reader + '_>> {
        self.of(family).reader(0)
    }

    fn put_async(&self, family: u32, change: &Change) -> Option<Boxed<()>> {
        self.of(family).put_async(0, change)
    }

    fn get_async(&self, family: u32, key: &Key) -> Option<Boxed<bool>> {
        self.of(family).get_async(0, key)
    }

    fn settle(&self) -> Outcome<()> {
        self.each(|db| db.settle().map(|()| true)).map(drop)
    }

    fn compact(&self) -> Outcome<bool> {
        self.each(|db| db.compact())
    }

    fn checkpoint(&self) -> Outcome<bool> {
        self.each(|db| db.checkpoint())
    }

    fn close(&self) -> Outcome<()> {
        self.each(|db| db.close().map(|()| true)).map(drop)
    }
}
