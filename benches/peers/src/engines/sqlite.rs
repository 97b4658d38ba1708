//! SQLite in WAL mode: a table for each family; `synchronous = FULL` syncs the WAL at each commit,
//! `NORMAL` only when it is checkpointed.
//!
//! One connection writes, behind a lock: several would only meet `SQLITE_BUSY`. Each reader has
//! its own, with a prepared statement and one read transaction.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::{Durability, Engine, Outcome, Reader, Settings, failed, family_name, looked_at};
use crate::data::{Change, Key};

/// Most readers at once; what their caches lack is in the kernel's where that is not limited.
const READERS: usize = 64;
/// SQLite's own default.
const READER_BYTES_MIN: usize = 2 << 20;

/// A database.
pub struct Sqlite {
    path: PathBuf,
    cache_bytes: usize,
    writer: Mutex<Connection>,
}

impl Sqlite {
    /// Opens or creates it.
    pub fn open(settings: &Settings) -> Outcome<Sqlite> {
        let path = settings.directory.join("peer.sqlite");
        let writer = connect(&path, settings.memory_bytes)?;
        let synchronous = match settings.durability {
            Durability::Synced => "FULL",
            Durability::Unsynced => "NORMAL",
        };
        writer.pragma_update(None, "synchronous", synchronous).map_err(failed)?;
        for family in 0..settings.families {
            let table = family_name(family);
            let sql = format!(
                "CREATE TABLE IF NOT EXISTS {table} \
                 (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
            );
            writer.execute_batch(&sql).map_err(failed)?;
        }
        writer.set_prepared_statement_cache_capacity(4 + 2 * settings.families as usize);
        Ok(Sqlite { path, cache_bytes: settings.memory_bytes, writer: Mutex::new(writer) })
    }

    /// Cache of one reader: each connection has its own, and all have to fit.
    fn reader_bytes(&self) -> usize {
        (self.cache_bytes / READERS).max(READER_BYTES_MIN)
    }

    fn run(&self, sql: &str) -> Outcome<()> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.execute_batch(sql).map_err(failed)
    }
}

fn connect(path: &PathBuf, cache_bytes: usize) -> Outcome<Connection> {
    let connection = Connection::open(path).map_err(failed)?;
    let kib = -i64::try_from(cache_bytes >> 10).map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "cache_size", kib).map_err(failed)?;
    Ok(connection)
}

fn change(connection: &Connection, table: &str, change: &Change) -> rusqlite::Result<()> {
    match &change.value {
        Some(value) => connection
            .prepare_cached(&format!("INSERT OR REPLACE INTO {table} VALUES (?1, ?2)"))?
            .execute((&change.key[..], &value[..])),
        None => connection
            .prepare_cached(&format!("DELETE FROM {table} WHERE key = ?1"))?
            .execute((&change.key[..],)),
    }
    .map(drop)
}

impl Engine for Sqlite {
    fn write(&self, family: u32, changes: &[Change]) -> Outcome<()> {
        let table = family_name(family);
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let [single] = changes {
            return change(&writer, &table, single).map_err(failed);
        }
        let begun = writer.transaction().map_err(failed)?;
        changes.iter().try_for_each(|each| change(&begun, &table, each)).map_err(failed)?;
        begun.commit().map_err(failed)
    }

    fn reader(&self, family: u32) -> Outcome<Box<dyn Reader + '_>> {
        let connection = connect(&self.path, self.reader_bytes())?;
        connection.execute_batch("BEGIN").map_err(failed)?;
        let table = family_name(family);
        Ok(Box::new(SqliteReader {
            get: format!("SELECT value FROM {table} WHERE key = ?1"),
            scan: format!("SELECT key, value FROM {table} WHERE key >= ?1 ORDER BY key LIMIT ?2"),
            connection,
        }))
    }

    fn settle(&self) -> Outcome<()> {
        self.run("PRAGMA wal_checkpoint(TRUNCATE)")
    }

    fn compact(&self) -> Outcome<bool> {
        self.run("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")?;
        Ok(true)
    }

    fn checkpoint(&self) -> Outcome<bool> {
        // A second connection, so that writers go on beside it.
        let other = connect(&self.path, 0)?;
        other.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").map_err(failed)?;
        Ok(true)
    }

    fn close(&self) -> Outcome<()> {
        self.settle()
    }
}

struct SqliteReader {
    get: String,
    scan: String,
    connection: Connection,
}

impl Reader for SqliteReader {
    fn get(&mut self, key: &Key) -> Outcome<bool> {
        let mut get = self.connection.prepare_cached(&self.get).map_err(failed)?;
        let mut rows = get.query((&key[..],)).map_err(failed)?;
        let Some(row) = rows.next().map_err(failed)? else { return Ok(false) };
        row.get_ref(0).map_err(failed)?.as_blob().map(looked_at).map_err(failed)
    }

    fn scan(&mut self, from: &Key, rows: usize) -> Outcome<usize> {
        let mut scan = self.connection.prepare_cached(&self.scan).map_err(failed)?;
        let limit = i64::try_from(rows).unwrap_or(i64::MAX);
        let mut rows = scan.query((&from[..], limit)).map_err(failed)?;
        let mut found = 0;
        while let Some(row) = rows.next().map_err(failed)? {
            let value = row.get_ref(1).map_err(failed)?.as_blob().map_err(failed)?;
            found += usize::from(looked_at(value));
        }
        Ok(found)
    }
}
