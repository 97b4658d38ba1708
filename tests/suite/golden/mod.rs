//! Files that this format version wrote must open for ever, and files that it did not are refused.
//!
//! `tests/golden/v1.sparse` is a database as a killed process left it: merged trees, two
//! incarnations in the log, large values, families renamed, dropped and without a log. Beside it,
//! `v1.rows` lists what it holds. Neither is ever made again for a version that was released;
//! `RINGDB_GOLDEN=write` makes both while a version is new.

mod listing;
mod script;
mod sparse;
mod strangers;

use std::fs;
use std::path::PathBuf;

use ringdb::sim::Disk;
use ringdb::{BackendKind, Create, Db, Options, Result};

use crate::fixture::{Kind, assert_sound, block_on, family, get, put, say};
use crate::state::State;
use crate::workload::options;

/// The file of a simulated disk that a database is in.
const SIM_PATH: &str = "ringdb";

fn kept(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The bytes of the kept database.
fn image() -> Vec<u8> {
    let kept = fs::read(kept("v1.sparse")).expect("the golden file is in the repository");
    sparse::expand(&kept).expect("the golden file is whole")
}

/// What it holds, as listed.
fn listed() -> String {
    fs::read_to_string(kept("v1.rows")).expect("the listing is in the repository")
}

/// A copy of a file, to be opened on one backend.
struct Copy {
    kind: Kind,
    disk: Disk,
    directory: tempfile::TempDir,
}

impl Copy {
    fn of(bytes: &[u8], kind: Kind) -> Copy {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let copy = Copy { kind, disk: Disk::new(), directory };
        match kind {
            Kind::Sim => copy.disk.set_contents(SIM_PATH.as_ref(), bytes),
            Kind::Auto | Kind::Uring | Kind::Pwrite => {
                fs::write(copy.path(), bytes).expect("the copy is written");
            }
        }
        copy
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("copy.ring")
    }

    fn open(&self) -> Result<Db> {
        let options: Options = self.kind.options().create(Create::Never);
        match self.kind {
            Kind::Sim => block_on(options.open_sim(&self.disk)),
            Kind::Auto | Kind::Uring | Kind::Pwrite => block_on(options.open(self.path())),
        }
    }
}

#[track_caller]
fn holds(db: &Db, expected: &str) {
    let found = listing::of(&block_on(State::read(db)).expect("every row is read"));
    if let Some((found, expected)) = found.lines().zip(expected.lines()).find(|(a, b)| a != b) {
        panic!("found {found:?} where {expected:?} is listed");
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "rows are missing, or too many");
}

#[test]
fn the_kept_file_of_this_version_opens_on_every_backend() {
    let (image, listed) = (image(), listed());
    let mut backends = Vec::new();
    for kind in [Kind::Auto, Kind::Pwrite, Kind::Sim] {
        let copy = Copy::of(&image, kind);
        let db = copy.open().expect("the kept file opens");
        backends.push(db.backend().kind);
        holds(&db, &listed);
        assert_sound(&db);
        let rows = family(&db, "rows");
        put(&rows, "written later", "by this build");
        block_on(db.checkpoint()).expect("the log is merged");
        assert_sound(&db);
        block_on(db.close()).expect("the database closes");
        drop((db, rows));

        let db = copy.open().expect("the kept file opens again");
        let rows = family(&db, "rows");
        assert_eq!(get(&rows, "written later").as_deref(), Some(&b"by this build"[..]));
        block_on(rows.delete("written later")).expect("the row is deleted");
        holds(&db, &listed);
        assert_sound(&db);
        block_on(db.close()).expect("the database closes again");
    }
    assert!(backends.contains(&BackendKind::Pwrite) && backends.contains(&BackendKind::Sim));
    say(format!(
        "golden: {} bytes, {} lines listed, read and written on {backends:?}",
        image.len(),
        listed.lines().count(),
    ));
}

#[test]
fn the_script_of_the_kept_file_still_gives_what_is_listed() {
    let (bytes, expected) = script::run(options());
    let expected = listing::of(&expected);
    if std::env::var("RINGDB_GOLDEN").as_deref() == Ok("write") {
        fs::write(kept("v1.sparse"), sparse::shrink(&bytes)).expect("the file is written");
        fs::write(kept("v1.rows"), &expected).expect("the listing is written");
    }
    assert_eq!(expected, listed());
    let copy = Copy::of(&bytes, Kind::Sim);
    let db = copy.open().expect("what the script left opens");
    holds(&db, &expected);
}

#[test]
fn the_kept_file_has_some_of_everything() {
    let copy = Copy::of(&image(), Kind::Sim);
    let db = copy.open().expect("the kept file opens");
    let recovered = db.recovery();
    assert!(recovered.commits > 20, "{recovered:?}");
    assert_eq!(db.column_families(), ["after", "cleared", "rows", "texts", "unlogged", "young"]);
}
