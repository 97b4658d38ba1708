//! LMDB through heed: a named database for each family; a commit is synced when it returns, unless
//! the environment was opened with `NO_SYNC`.

use std::ops::Bound;

use heed::types::Bytes;
use heed::{CommitOrAbort, Env, EnvFlags, EnvOpenOptions, PutFlags, RoTxn, WithoutTls};

use super::{Durability, Engine, Outcome, Reader, Settings, failed, family_name, looked_at};
use crate::data::{Change, Key};
use crate::protocol::Keys;

type Database = heed::Database<'static, Bytes, Bytes>;

/// Addresses for the map; the file grows as needed.
const MAP_BYTES: usize = 64 << 30;
/// More than any case has threads.
const READERS_MAX: u32 = 2048;

/// An environment.
pub struct Lmdb {
    env: Env<WithoutTls>,
    families: Vec<Database>,
}

impl Lmdb {
    /// Opens or creates it.
    pub fn open(settings: &Settings) -> Outcome<Lmdb> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP_BYTES).max_dbs(settings.families).max_readers(READERS_MAX);
        // Random reads gain nothing from read-ahead.
        let mut flags = EnvFlags::NO_READ_AHEAD;
        if settings.durability == Durability::Unsynced {
            flags |= EnvFlags::NO_SYNC;
        }
        // SAFETY: the directory is this run's own; nobody else maps or changes the file, and a
        // crash that could tear an unsynced one is followed by its removal.
        let env = unsafe { options.flags(flags).open(&settings.directory) }.map_err(failed)?;
        let families = (0..settings.families).map(|family| database(&env, &family_name(family)));
        let families = families.collect::<heed::Result<_>>().map_err(failed)?;
        Ok(Lmdb { env, families })
    }
}

fn database(env: &Env<WithoutTls>, name: &str) -> heed::Result<Database> {
    let made = env.create_databases_and_commit(env.write_txn()?, |opener, begun| {
        let database = opener.create_database::<Bytes, Bytes>(begun, Some(name))?;
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(database))
    });
    Ok(made?.unwrap_commit())
}

impl Engine for Lmdb {
    fn write(&self, family: u32, changes: &[Change]) -> Outcome<()> {
        let family = &self.families[family as usize];
        let mut begun = self.env.write_txn().map_err(failed)?;
        for change in changes {
            match &change.value {
                Some(value) => family.put(&mut begun, &change.key, value).map_err(failed)?,
                None => drop(family.delete(&mut begun, &change.key).map_err(failed)?),
            }
        }
        begun.commit().map_err(failed)
    }

    /// One transaction; ascending keys are appended.
    fn load(
        &self,
        family: u32,
        rows: &mut dyn Iterator<Item = Change>,
        keys: Keys,
    ) -> Outcome<bool> {
        let family = &self.families[family as usize];
        let flags = match keys {
            Keys::Ascending => PutFlags::APPEND,
            Keys::Random => PutFlags::empty(),
        };
        let mut begun = self.env.write_txn().map_err(failed)?;
        for Change { key, value } in rows {
            let value = value.as_ref().map_or(&[][..], |value| &value[..]);
            family.put_with_flags(&mut begun, flags, &key, value).map_err(failed)?;
        }
        begun.commit().map_err(failed)?;
        Ok(true)
    }

    fn reader(&self, family: u32) -> Outcome<Box<dyn Reader + '_>> {
        let begun = self.env.read_txn().map_err(failed)?;
        Ok(Box::new(LmdbReader { begun, family: self.families[family as usize] }))
    }

    fn settle(&self) -> Outcome<()> {
        self.env.force_sync().map_err(failed)
    }

    /// It has none in place; a copy of the environment is compact, and the program must swap it.
    fn compact(&self) -> Outcome<bool> {
        Ok(false)
    }

    fn checkpoint(&self) -> Outcome<bool> {
        Ok(false)
    }

    fn close(&self) -> Outcome<()> {
        self.settle()
    }
}

struct LmdbReader<'a> {
    begun: RoTxn<'a, WithoutTls>,
    family: Database,
}

impl Reader for LmdbReader<'_> {
    fn get(&mut self, key: &Key) -> Outcome<bool> {
        let found = self.family.get(&self.begun, key).map_err(failed)?;
        Ok(found.is_some_and(looked_at))
    }

    fn scan(&mut self, from: &Key, rows: usize) -> Outcome<usize> {
        let mut found = 0;
        let from: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(from), Bound::Unbounded);
        for row in self.family.range(&self.begun, &from).map_err(failed)?.take(rows) {
            let (_, value) = row.map_err(failed)?;
            found += usize::from(looked_at(value));
        }
        Ok(found)
    }
}
