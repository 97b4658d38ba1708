//! The life of the kept file, step by step, with what it holds afterwards.

use bytes::Bytes;
use ringdb::sim::Disk;
use ringdb::{ColumnFamilyOptions, Db, Durability, Options};

use super::SIM_PATH;
use crate::fixture::{block_on, family};
use crate::state::{Change, State};

/// Bytes of a value that gets an extent of its own.
const LARGE_BYTES: usize = 66_000;

/// A database, and what it should hold.
struct Life {
    db: Db,
    state: State,
}

impl Life {
    fn open(disk: &Disk, options: Options, state: State) -> Life {
        Life { db: block_on(options.open_sim(disk)).expect("the database opens"), state }
    }

    fn create(&mut self, name: &str, options: ColumnFamilyOptions) {
        block_on(self.db.create_column_family(name, options)).expect("the family is made");
        self.state.apply(&Change::Create { family: name.into() });
    }

    fn rename(&mut self, from: &str, to: &str) {
        block_on(self.db.rename_column_family(from, to)).expect("the family is renamed");
        self.state.apply(&Change::Rename { from: from.into(), to: to.into() });
    }

    fn remove(&mut self, name: &str) {
        block_on(self.db.drop_column_family(name)).expect("the family is dropped");
        self.state.apply(&Change::Drop { family: name.into() });
    }

    fn clear(&mut self, name: &str) {
        let cleared = block_on(self.db.batch().clear(&family(&self.db, name)).commit());
        cleared.expect("the family is cleared");
        self.state.0.get_mut(name).expect("the script made it").clear();
    }

    /// One batch; what a killed process keeps of it is all or `Lost`.
    fn commit(&mut self, changes: &[Change], kept: Kept) {
        let mut batch = self.db.batch();
        for change in changes {
            match change {
                Change::Put { family: name, key, value } => {
                    batch.put(&family(&self.db, name), key, value);
                }
                Change::Delete { family: name, key } => {
                    batch.delete(&family(&self.db, name), key);
                }
                Change::DeleteRange { family: name, low, high } => {
                    batch.delete_range(&family(&self.db, name), low.clone()..high.clone());
                }
                Change::Clear { family: name } => {
                    batch.clear(&family(&self.db, name));
                }
                Change::Create { .. } | Change::Drop { .. } | Change::Rename { .. } => {
                    unreachable!("families are changed one at a time")
                }
            }
        }
        block_on(batch.durability(Durability::Immediate).commit()).expect("the batch commits");
        if kept == Kept::Whole {
            changes.iter().for_each(|change| self.state.apply(change));
        }
    }

    /// Has the log say that all of it is durable, as an idle one does after a while: what stands
    /// before that cannot be mistaken for a torn tail.
    fn seal(&self) {
        let unlogged = family(&self.db, "unlogged");
        let seq = block_on(unlogged.put("later still", "lost")).expect("the row is put");
        block_on(self.db.durable(seq)).expect("a group without commits is written");
    }

    fn checkpoint(&self) {
        block_on(self.db.checkpoint()).expect("the log is merged");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Whole,
    Lost,
}

fn put(family: &str, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Change {
    Change::Put { family: family.into(), key: key.into(), value: value.into() }
}

fn delete(family: &str, key: impl Into<Bytes>) -> Change {
    Change::Delete { family: family.into(), key: key.into() }
}

fn delete_range(family: &str, low: &'static str, high: &'static str) -> Change {
    Change::DeleteRange { family: family.into(), low: low.into(), high: high.into() }
}

/// Lines of text until it is this long.
fn long(word: &str, len: usize) -> Bytes {
    let mut text: String =
        (0..).take(len / word.len() + 1).map(|n| format!("{word} {n}\n")).collect();
    text.truncate(len);
    text.into()
}

/// Runs it and kills it twice: the bytes of the file, and what they hold.
pub fn run(options: Options) -> (Vec<u8>, State) {
    let first = Disk::new();
    let mut life = Life::open(&first, options.clone(), State::default());
    merged(&mut life);
    unmerged(&mut life);
    let second = Disk::new();
    second.set_contents(SIM_PATH.as_ref(), &contents(&first));
    let mut life = Life::open(&second, options, life.state);
    reopened(&mut life);
    (contents(&second), life.state)
}

fn contents(disk: &Disk) -> Vec<u8> {
    disk.contents(SIM_PATH.as_ref()).expect("the database is there")
}

/// What a checkpoint puts into trees.
fn merged(life: &mut Life) {
    for name in ["rows", "words", "before", "gone", "cleared"] {
        life.create(name, ColumnFamilyOptions::new());
    }
    life.create("unlogged", ColumnFamilyOptions::new().unlogged());
    for n in 0..60 {
        let rows: Vec<_> =
            (0..4).map(|m| put("rows", format!("{n:02}{m}"), long("row", 180 + n))).collect();
        life.commit(&rows, Kept::Whole);
    }
    life.commit(
        &[
            put("words", "empty", ""),
            put("words", [0, 0xFF, b'\n', b'='].to_vec(), [0xFF, 0].to_vec()),
            put("words", "large", long("large", LARGE_BYTES)),
            put("words", "medium", long("medium", 9_000)),
            put("before", "name", "kept"),
            put("gone", "name", "gone"),
            put("cleared", "name", "cleared"),
            put("unlogged", "checkpointed", "kept"),
        ],
        Kept::Whole,
    );
    life.commit(&[delete_range("rows", "10", "12"), delete("rows", "203")], Kept::Whole);
    life.rename("before", "after");
    life.remove("gone");
    life.checkpoint();
    // Rows that lie apart, some of them deletes: a tree of their own, with a filter.
    for n in 0..20 {
        let changes = [
            put("rows", format!("{:02}0", 3 * n), long("apart", 40 + n)),
            delete("rows", format!("{:02}3", 3 * n)),
        ];
        life.commit(&changes, Kept::Whole);
    }
    life.checkpoint();
    let stat = life.db.stat();
    let rows = stat.families.iter().find(|family| family.name == "rows").expect("it is there");
    assert_eq!(rows.trees, 2);
}

/// What only the log has.
fn unmerged(life: &mut Life) {
    life.create("young", ColumnFamilyOptions::new());
    for n in 0..16 {
        let changes = [
            put("rows", format!("{:02}1", 3 * n), long("later", 100 + n)),
            delete("rows", format!("{:02}2", 3 * n)),
            put("young", format!("{n}"), format!("{}", n * n)),
        ];
        life.commit(&changes, Kept::Whole);
    }
    life.commit(&[put("words", "late and large", long("late", LARGE_BYTES))], Kept::Whole);
    life.commit(&[delete_range("rows", "40", "45"), put("rows", "42", "again")], Kept::Whole);
    life.commit(&[put("unlogged", "later", "lost")], Kept::Lost);
    life.clear("cleared");
    life.commit(&[put("cleared", "after", "kept")], Kept::Whole);
    life.create("late", ColumnFamilyOptions::new());
    life.commit(&[put("late", "name", "dropped in the log")], Kept::Whole);
    life.remove("late");
    life.rename("words", "texts");
}

/// What a second incarnation adds to the log of the first.
fn reopened(life: &mut Life) {
    for n in 0..8 {
        life.commit(&[put("texts", format!("second {n}"), "life")], Kept::Whole);
    }
    life.commit(&[delete("texts", "medium"), delete("young", "9")], Kept::Whole);
    life.seal();
}
