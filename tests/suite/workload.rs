//! Canonical workloads on a simulated disk, with every acknowledgement in the disk's own trace.
//!
//! A [`Recorder`] runs a script against a database and writes down what it submitted, in commit
//! order. Whenever something is promised it puts a mark into the trace of the disk: from there on a
//! power loss must not take it away. `oracle::Recorded` is what comes out.
//!
//! Marks: `CREATED` when the first open resolved; `n` when the first `n` logged entries are promised;
//! `UNLOGGED + n` when the first `n` unlogged entries are.

use std::collections::HashMap;

use bytes::Bytes;
use futures::FutureExt;
use ringdb::sim::Disk;
use ringdb::{
    Batch, ColumnFamily, ColumnFamilyOptions, Commit, Db, Durability, Error, Options, Result,
};

use crate::fixture::block_on;
use crate::oracle::{Base, Recorded};
use crate::rng::Rng;
use crate::state::{Change, State};

/// The mark of a database that was opened once.
pub const CREATED: u64 = 1 << 62;
/// What is added to marks that count unlogged entries.
pub const UNLOGGED: u64 = 1 << 32;
/// The one family without a log.
pub const UNLOGGED_FAMILY: &str = "unlogged";

/// Small enough that logs wrap and memtables are written out within a short script. The least of each.
pub fn options() -> Options {
    Options::new().memory_bytes(4 << 20).log_bytes_max(1 << 20).segment_bytes_max(64 << 10)
}

/// Runs a script and writes down what happened.
pub struct Recorder {
    pub disk: Disk,
    pub db: Db,
    pub rng: Rng,
    families: HashMap<String, ColumnFamily>,
    entries: Vec<Vec<Change>>,
    unlogged: Vec<Change>,
    in_flight: Vec<(usize, Durability, Commit)>,
    /// Errors that calls answered, in order.
    pub errors: Vec<Error>,
    serial: u64,
}

impl Recorder {
    /// Opens the database on a disk, and marks that it is there.
    pub fn open(disk: &Disk, options: Options, seed: u64) -> Result<Recorder> {
        let db = block_on(options.open_sim(disk))?;
        disk.mark(CREATED);
        let mut families = HashMap::new();
        for name in db.column_families() {
            families.insert(name.clone(), block_on(db.existing_column_family(&name))?);
        }
        Ok(Recorder {
            disk: disk.clone(),
            db,
            rng: Rng::new(seed),
            families,
            entries: Vec::new(),
            unlogged: Vec::new(),
            in_flight: Vec::new(),
            errors: Vec::new(),
            serial: Rng::new(seed).bits(),
        })
    }

    /// A batch to be handed to `submit`.
    pub fn changes(&mut self) -> Changes<'_> {
        Changes { recorder: self, changes: Vec::new(), durability: Durability::Immediate }
    }

    /// A value that no other change has, so that each prefix is a state of its own.
    fn value(&mut self, len: usize) -> Bytes {
        self.serial = self.serial.wrapping_add(1);
        let mut value = Rng::new(self.serial).bytes(len.max(8));
        value[..8].copy_from_slice(&self.serial.to_le_bytes());
        value.into()
    }

    /// Whether a family exists now.
    pub fn has(&self, name: &str) -> bool {
        self.families.contains_key(name)
    }

    /// Waits for every commit in flight, and marks what that promises.
    pub fn settle(&mut self) {
        for (index, durability, commit) in std::mem::take(&mut self.in_flight) {
            let outcome = block_on(commit);
            self.resolved(index, durability, outcome.map(|_| ()));
        }
    }

    /// Looks which commits have resolved, without waiting.
    fn sweep(&mut self) {
        for (index, durability, mut commit) in std::mem::take(&mut self.in_flight) {
            match (&mut commit).now_or_never() {
                Some(outcome) => self.resolved(index, durability, outcome.map(|_| ())),
                None => self.in_flight.push((index, durability, commit)),
            }
        }
    }

    fn resolved(&mut self, index: usize, durability: Durability, outcome: Result<()>) {
        match outcome {
            Ok(()) if durability == Durability::Immediate => self.disk.mark(index as u64 + 1),
            Ok(()) => {}
            Err(error) => {
                assert!(error.outcome_unknown(), "an ordered commit may survive: {error:?}");
                self.errors.push(error);
            }
        }
    }

    /// Makes a family, by a commit of its own.
    pub fn create(&mut self, name: &str) {
        let family = block_on(self.db.create_column_family(name, ColumnFamilyOptions::new()));
        self.created(name, family);
    }

    /// Makes the family that has no log.
    pub fn create_unlogged(&mut self) {
        let options = ColumnFamilyOptions::new().unlogged();
        let family = block_on(self.db.create_column_family(UNLOGGED_FAMILY, options));
        self.created(UNLOGGED_FAMILY, family);
    }

    fn created(&mut self, name: &str, outcome: Result<ColumnFamily>) {
        let family = outcome.map(|family| self.families.insert(name.into(), family));
        self.family_changed(Change::Create { family: name.into() }, family.map(|_| ()));
    }

    /// Drops a family.
    pub fn drop_family(&mut self, name: &str) {
        let outcome = block_on(self.db.drop_column_family(name));
        if outcome.is_ok() {
            self.families.remove(name);
        }
        self.family_changed(Change::Drop { family: name.into() }, outcome);
    }

    /// Renames a family.
    pub fn rename(&mut self, from: &str, to: &str) {
        let outcome = block_on(self.db.rename_column_family(from, to));
        if outcome.is_ok() {
            let family = self.families.remove(from).expect("the script renames what it made");
            self.families.insert(to.into(), family);
        }
        self.family_changed(Change::Rename { from: from.into(), to: to.into() }, outcome);
    }

    fn family_changed(&mut self, change: Change, outcome: Result<()>) {
        if outcome.as_ref().err().is_none_or(Error::outcome_unknown) {
            self.entries.push(vec![change]);
        }
        match outcome {
            Ok(()) => self.disk.mark(self.entries.len() as u64),
            Err(error) => self.errors.push(error),
        }
    }

    /// Puts one row of the family without a log.
    pub fn put_unlogged(&mut self, key: &str, len: usize) {
        let Some(family) = self.families.get(UNLOGGED_FAMILY).cloned() else { return };
        let value = self.value(len);
        let key = Bytes::copy_from_slice(key.as_bytes());
        let outcome = block_on(family.put_bytes(&key, value.clone()));
        if outcome.as_ref().err().is_none_or(Error::outcome_unknown) {
            self.unlogged.push(Change::Put { family: UNLOGGED_FAMILY.into(), key, value });
        }
        self.errors.extend(outcome.err());
    }

    /// Writes a checkpoint, which promises everything that the unlogged family held before.
    pub fn checkpoint(&mut self) {
        let before = self.unlogged.len();
        let outcome = block_on(self.db.checkpoint());
        self.promised(outcome, None, before);
    }

    /// Makes one tree of several, and promises what a checkpoint does.
    pub fn compact(&mut self) {
        let before = self.unlogged.len();
        let outcome = block_on(self.db.compact());
        self.promised(outcome, None, before);
    }

    /// Writes a checkpoint, and does something meanwhile.
    pub fn checkpoint_during(&mut self, meanwhile: impl FnOnce(&mut Recorder)) {
        let before = self.unlogged.len();
        let mut checkpoint = self.db.checkpoint();
        let begun = (&mut checkpoint).now_or_never();
        meanwhile(self);
        let outcome = begun.unwrap_or_else(|| block_on(checkpoint));
        self.promised(outcome, None, before);
    }

    /// Reads every row, some of them from the disk.
    pub fn read_all(&mut self) {
        self.errors.extend(block_on(State::read(&self.db)).err());
    }

    /// Waits until everything so far is durable.
    pub fn sync(&mut self) {
        let (logged, unlogged) = (self.entries.len(), self.unlogged.len());
        let outcome = block_on(self.db.sync());
        self.promised(outcome, Some(logged), unlogged);
        self.sweep();
    }

    fn promised(&mut self, outcome: Result<()>, logged: Option<usize>, unlogged: usize) {
        match outcome {
            Ok(()) => {
                self.disk.mark(UNLOGGED + unlogged as u64);
                if let Some(logged) = logged {
                    self.disk.mark(logged as u64);
                }
            }
            Err(error) => self.errors.push(error),
        }
    }

    /// Closes the database and gives out what was recorded.
    pub fn close(mut self, base: &Base) -> Recorded {
        self.settle();
        let (logged, unlogged) = (self.entries.len(), self.unlogged.len());
        let outcome = block_on(self.db.close());
        self.promised(outcome, Some(logged), unlogged);
        self.finish(base)
    }

    /// Gives out what was recorded without closing: the handles are dropped.
    pub fn finish(self, base: &Base) -> Recorded {
        Recorded::new(self.disk, base, &self.entries, &self.unlogged)
    }
}

/// One batch of a script.
pub struct Changes<'a> {
    recorder: &'a mut Recorder,
    changes: Vec<Change>,
    durability: Durability,
}

impl<'a> Changes<'a> {
    /// Puts a row with a value of its own.
    pub fn put(mut self, family: &str, key: impl AsRef<[u8]>, len: usize) -> Self {
        let value = self.recorder.value(len);
        let key = Bytes::copy_from_slice(key.as_ref());
        self.changes.push(Change::Put { family: family.into(), key, value });
        self
    }

    /// Deletes a row, which need not be there.
    pub fn delete(mut self, family: &str, key: impl AsRef<[u8]>) -> Self {
        let key = Bytes::copy_from_slice(key.as_ref());
        self.changes.push(Change::Delete { family: family.into(), key });
        self
    }

    /// Deletes a range of rows.
    pub fn delete_range(mut self, family: &str, low: &str, high: &str) -> Self {
        let [low, high] = [low, high].map(|key| Bytes::copy_from_slice(key.as_bytes()));
        self.changes.push(Change::DeleteRange { family: family.into(), low, high });
        self
    }

    /// Deletes every row of a family.
    pub fn clear(mut self, family: &str) -> Self {
        self.changes.push(Change::Clear { family: family.into() });
        self
    }

    /// Does not wait for the disk.
    pub fn buffered(mut self) -> Self {
        self.durability = Durability::Buffered;
        self
    }

    /// Orders the batch; its acknowledgement is awaited later.
    pub fn submit(self) {
        self.order();
    }

    fn order(self) -> &'a mut Recorder {
        let Changes { recorder, changes, durability } = self;
        let mut batch = recorder.db.batch();
        if !changes.iter().all(|change| add(&mut batch, &recorder.families, change)) {
            return recorder;
        }
        batch.durability(durability);
        match block_on(batch.submit()) {
            Ok(commit) => {
                recorder.in_flight.push((recorder.entries.len(), durability, commit));
                recorder.entries.push(changes);
            }
            Err(error) => {
                assert!(!error.outcome_unknown(), "before it is ordered nothing happened");
                recorder.errors.push(error);
            }
        }
        recorder.sweep();
        recorder
    }

    /// Loads the rows, all of which are puts into one family, as one commit.
    pub fn ingest(self, family: &str) {
        let Changes { recorder, changes, .. } = self;
        let Some(rows) = recorder.families.get(family).cloned() else { return };
        let mut ingest = rows.ingest();
        let loaded = block_on(async {
            for change in &changes {
                let Change::Put { key, value, .. } = change else { panic!("not a put") };
                ingest.put(key, value).await?;
            }
            ingest.commit().await
        });
        if loaded.as_ref().err().is_none_or(Error::outcome_unknown) {
            recorder.entries.push(changes);
        }
        match loaded {
            Ok(_) => recorder.disk.mark(recorder.entries.len() as u64),
            Err(error) => recorder.errors.push(error),
        }
        recorder.sweep();
    }

    /// Begins a load of the rows, all of which are puts into one family, and gives it up.
    pub fn ingest_in_vain(self, family: &str) {
        let Changes { recorder, changes, .. } = self;
        let Some(rows) = recorder.families.get(family).cloned() else { return };
        let mut ingest = rows.ingest();
        for change in &changes {
            let Change::Put { key, value, .. } = change else { panic!("not a put") };
            if let Err(error) = block_on(ingest.put(key, value)) {
                recorder.errors.push(error);
            }
        }
        drop(ingest);
        recorder.sweep();
    }

    /// Orders the batch and waits for it.
    pub fn commit(self) {
        self.order().settle();
    }
}

/// False if a family is missing because making it failed.
fn add(batch: &mut Batch, families: &HashMap<String, ColumnFamily>, change: &Change) -> bool {
    match change {
        Change::Put { family, key, value } => {
            let Some(family) = families.get(family) else { return false };
            batch.put(family, key, value);
        }
        Change::Delete { family, key } => {
            let Some(family) = families.get(family) else { return false };
            batch.delete(family, key);
        }
        Change::DeleteRange { family, low, high } => {
            let Some(family) = families.get(family) else { return false };
            batch.delete_range(family, low.clone()..high.clone());
        }
        Change::Clear { family } => {
            let Some(family) = families.get(family) else { return false };
            batch.clear(family);
        }
        Change::Create { .. } | Change::Drop { .. } | Change::Rename { .. } => {
            unreachable!("family changes are commits of their own")
        }
    }
    true
}
