//! What a database holds, as a plain value: the model that engines are compared with.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use ringdb::{Db, Range, Result, Snapshot};

use crate::fixture::rows_of;

/// The rows of one family.
pub type Rows = BTreeMap<Bytes, Bytes>;

async fn shown(range: Range) -> Result<Rows> {
    let rows = rows_of(range).await?.into_iter();
    Ok(rows.map(|(key, value)| (key.into(), value.into())).collect())
}

/// Every family with its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State(pub BTreeMap<String, Rows>);

/// One change, as a batch or a family operation makes it.
#[derive(Clone, Debug)]
pub enum Change {
    Put {
        family: String,
        key: Bytes,
        value: Bytes,
    },
    Delete {
        family: String,
        key: Bytes,
    },
    /// Low inclusive, high exclusive.
    DeleteRange {
        family: String,
        low: Bytes,
        high: Bytes,
    },
    /// Deletes every row.
    Clear {
        family: String,
    },
    Create {
        family: String,
    },
    Drop {
        family: String,
    },
    Rename {
        from: String,
        to: String,
    },
}

impl State {
    /// Makes one change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Put { family, key, value } => {
                self.family(family).insert(key.clone(), value.clone());
            }
            Change::Delete { family, key } => {
                self.family(family).remove(key);
            }
            Change::DeleteRange { family, low, high } => {
                self.family(family).retain(|key, _| key < low || key >= high);
            }
            Change::Clear { family } => self.family(family).clear(),
            Change::Create { family } => {
                self.0.entry(family.clone()).or_default();
            }
            Change::Drop { family } => {
                self.0.remove(family).expect("only a family that exists is dropped");
            }
            Change::Rename { from, to } => {
                let rows = self.0.remove(from).expect("only a family that exists is renamed");
                self.0.insert(to.clone(), rows);
            }
        }
    }

    fn family(&mut self, name: &str) -> &mut Rows {
        self.0.get_mut(name).expect("a batch names families that exist")
    }

    /// A digest for looking a state up; equality decides. Values are told apart by their ends.
    pub fn digest(&self) -> u64 {
        const END_BYTES: usize = 16;
        let mut hasher = DefaultHasher::new();
        for (name, rows) in &self.0 {
            (name, rows.len()).hash(&mut hasher);
            for (key, value) in rows {
                let end = value.len().min(END_BYTES);
                (key, value.len(), &value[..end], &value[value.len() - end..]).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// Everything that the database shows now.
    pub async fn read(db: &Db) -> Result<State> {
        let mut state = State::default();
        for name in db.column_families() {
            let family = db.existing_column_family(&name).await?;
            state.0.insert(name, shown(family.iter()).await?);
        }
        Ok(state)
    }

    /// Everything that a snapshot shows of some families.
    pub async fn read_at(snapshot: &Snapshot, families: &[ringdb::ColumnFamily]) -> Result<State> {
        let mut state = State::default();
        for family in families {
            state.0.insert(family.name().to_owned(), shown(snapshot.iter(family)).await?);
        }
        Ok(state)
    }

    /// The first few differences in words, for a failing test's message.
    pub fn difference(&self, expected: &State) -> String {
        let mut lines = Vec::new();
        for (name, rows) in &expected.0 {
            match self.0.get(name) {
                None => lines.push(format!("family {name} is missing")),
                Some(found) => compare(name, found, rows, &mut lines),
            }
        }
        for name in self.0.keys().filter(|name| !expected.0.contains_key(*name)) {
            lines.push(format!("family {name} should not be there"));
        }
        let more = lines.len().saturating_sub(LINES_MAX);
        lines.truncate(LINES_MAX);
        format!("{}\n({more} more)", lines.join("\n"))
    }
}

/// Lines of a difference that are worth printing.
const LINES_MAX: usize = 12;

fn compare(name: &str, found: &Rows, expected: &Rows, lines: &mut Vec<String>) {
    for (key, value) in expected {
        match found.get(key) {
            None => lines.push(format!("{name}/{}: missing", short(key))),
            Some(other) if other != value => {
                let (other, value) = (short(other), short(value));
                lines.push(format!("{name}/{}: {other} instead of {value}", short(key)));
            }
            Some(_) => {}
        }
    }
    for key in found.keys().filter(|key| !expected.contains_key(*key)) {
        lines.push(format!("{name}/{}: should not be there", short(key)));
    }
}

fn short(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(24)];
    format!("{} bytes {:?}", bytes.len(), String::from_utf8_lossy(head))
}

#[test]
fn a_range_delete_keeps_its_high_end() {
    let text = Bytes::from_static;
    let mut state = State::default();
    state.apply(&Change::Create { family: "f".into() });
    for key in [b"a", b"b", b"c"] {
        state.apply(&Change::Put { family: "f".into(), key: text(key), value: text(b"") });
    }
    let range = Change::DeleteRange { family: "f".into(), low: text(b"a"), high: text(b"c") };
    state.apply(&range);
    assert_eq!(state.0["f"].keys().collect::<Vec<_>>(), [&text(b"c")]);
}
