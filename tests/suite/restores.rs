//! Power loss at every point of a restore: no database under its name, or the whole one; and the
//! next restore works. Backups and restores that are dropped half-way hurt nothing.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use futures::stream;
use ringdb::sim::{Choice, Disk};
use ringdb::{Bytes, ColumnFamilyOptions, Db, Error, Options, Result};

use crate::counts::{What, count};
use crate::crash::{choices, sample};
use crate::fixture::{Place, Watchdog, assert_sound, block_on, eventually, family, rows_of};
use crate::fixture::{say, scale, seed};
use crate::rng::Rng;
use crate::workload::options;

/// Different images of a restore that are looked at.
const IMAGES_MAX: usize = 2_000;
/// After one in so many, the backup is restored again where power was lost.
const AGAIN_ONE_IN: usize = 20;
/// The trace's mark that says that a restore resolved.
const RESTORED: u64 = 1;

/// The rows of every family.
pub type Content = BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>;

/// Everything that is in a database.
pub fn content(db: &Db) -> Result<Content> {
    let names = db.column_families().into_iter();
    let read = |name: String| {
        let rows = family(db, &name);
        block_on(rows_of(rows.iter())).map(|rows| (name, rows))
    };
    names.map(read).collect()
}

/// The chunks of a backup.
pub fn chunks(db: &Db) -> Vec<Bytes> {
    let (mut backup, mut chunks) = (db.backup(), Vec::new());
    while let Some(chunk) = block_on(backup.try_next()).expect("the backup goes on") {
        chunks.push(chunk);
    }
    chunks
}

/// A stream of these chunks, as one that was read from somewhere.
pub fn streamed(
    chunks: Vec<Bytes>,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::iter(chunks.into_iter().map(Ok))
}

/// A database with rows in trees, in memory, and in extents of their own.
fn filled() -> Db {
    let db = block_on(options().open_sim(&Disk::new())).unwrap();
    let mut rng = Rng::new(3);
    let unlogged = ColumnFamilyOptions::new().unlogged();
    block_on(db.create_column_family("unlogged", unlogged)).unwrap();
    for round in 0..2u8 {
        for name in ["one", "two", "unlogged"] {
            let rows = family(&db, name);
            let mut batch = db.batch();
            for n in 0..40u8 {
                batch.put(&rows, [round, n], rng.bytes(500));
            }
            batch.put(&rows, [round, 50], rng.bytes(100_000));
            block_on(batch.commit()).unwrap();
        }
        if round == 0 {
            block_on(db.checkpoint()).unwrap();
        }
    }
    family(&db, "empty");
    db
}

fn restore(disk: &Disk, chunks: &[Bytes]) -> Result<ringdb::RestoreReport> {
    block_on(options().restore_sim(disk, streamed(chunks.to_vec())))
}

/// Whether the database is there; then it is the whole one.
fn is_there(image: &Disk, expected: &Content) -> std::result::Result<bool, String> {
    if !image.paths().iter().any(|path| path == Path::new("ringdb")) {
        return Ok(false);
    }
    let told = |error: Error| format!("{error:?}");
    let db = block_on(options().open_sim(image)).map_err(told)?;
    if content(&db).map_err(told)? != *expected {
        return Err("the rows differ".into());
    }
    assert_sound(&db);
    block_on(db.close()).map_err(told)?;
    Ok(true)
}

/// What was looked at, to be printed.
#[derive(Default)]
pub struct Tally {
    possible: usize,
    different: usize,
    whole: usize,
    again: usize,
}

impl Tally {
    /// Tells it to those who read only the end of what is printed.
    pub fn tell(&self) {
        count(What::CrashImages, "of restores", self.different as u64);
    }
}

/// Restores a backup, and looks at so many of the disks that power loss may leave on the way, and
/// at the one that it leaves at the end.
///
/// # Panics
/// If there is a database under the name that is not whole, or none although it was promised.
pub fn crash(images_max: usize, seed: u64, watchdog: &Watchdog) -> Tally {
    let mut rng = Rng::new(seed);
    let db = filled();
    let (expected, chunks) = (content(&db).unwrap(), chunks(&db));
    let disk = Disk::traced();
    restore(&disk, &chunks).unwrap();
    disk.mark(RESTORED);
    let points = disk.crash_points();
    let mut images = Vec::new();
    for point in (0..points).filter(|point| !disk.is_same_at_next(*point)) {
        let outcomes = choices(&disk.unsynced(point), &mut rng);
        images.extend(outcomes.into_iter().map(|choice| (point, choice)));
    }
    let mut tally = Tally { possible: images.len(), ..Tally::default() };
    sample(&mut images, images_max, &mut rng);
    images.push((points - 1, Choice::None));
    let mut known = HashSet::new();
    for (point, choice) in images {
        let told = format!("point {point} (after {}), {choice:?}", disk.describe(point));
        watchdog.step(told.clone());
        let image = disk.image(point, choice);
        image.stop_trace();
        let promised = disk.marks(point).contains(&RESTORED);
        if !known.insert((image.fingerprint(), promised)) {
            continue;
        }
        let found = is_there(&image, &expected).unwrap_or_else(|wrong| panic!("{told}: {wrong}"));
        assert!(found || !promised, "{told}: a restored database is lost");
        tally.different += 1;
        tally.whole += usize::from(found);
        if !found && rng.one_in(AGAIN_ONE_IN) {
            restore(&image, &chunks).unwrap_or_else(|error| panic!("{told}: {error:?}"));
            assert_eq!(is_there(&image, &expected), Ok(true), "{told}");
            tally.again += 1;
        }
    }
    tally
}

#[test]
fn power_loss_while_restoring_leaves_no_database_or_the_whole_one() {
    let seed = seed("crash restore", 0xBAC);
    let watchdog = Watchdog::new("crash restore");
    let tally = crash(IMAGES_MAX.saturating_mul(scale()), seed, &watchdog);
    let Tally { possible, different, whole, again } = tally;
    assert!(whole > 0 && whole < different && again > 0);
    tally.tell();
    say(format!(
        "crash restore: {different} different images of {possible} possible ones, {whole} with a \
         whole database, {again} restored again"
    ));
}

#[test]
fn a_restore_that_is_dropped_leaves_no_database_or_the_whole_one() {
    let db = filled();
    let (expected, chunks) = (content(&db).unwrap(), chunks(&db));
    let mut done = 0;
    for polls in 0.. {
        let place = Place::new();
        let restoring = place.restoring(place.options(), streamed(chunks.clone()));
        let restored = crate::cancel::poll_times(restoring, polls);
        // What was begun goes on, to its end or to its removal.
        let is_database = |path: &PathBuf| path.file_name() == place.name().file_name();
        let is_over = || place.files().iter().all(is_database);
        assert!(eventually(is_over), "{polls} polls: {:?}", place.files());
        // Not whether anything is there: what was just begun may come yet.
        let has_database = || place.files().iter().any(is_database);
        if let Some(restored) = &restored {
            assert_eq!(restored.as_ref().unwrap().rows, 246);
            assert!(has_database());
        }
        if has_database() {
            let copy = place.open();
            assert_eq!(content(&copy).unwrap(), expected, "{polls} polls");
            block_on(copy.close()).unwrap();
        }
        done += usize::from(restored.is_some());
        if done > 0 {
            println!("cancel restore: done after {polls} polls");
            return;
        }
    }
}

#[test]
fn a_backup_goes_on_where_a_dropped_next_left_it() {
    let db = filled();
    let mut backup = db.backup();
    let mut found = Vec::new();
    loop {
        let early = crate::cancel::poll_times(backup.try_next(), found.len() % 3);
        let next = early.unwrap_or_else(|| block_on(backup.try_next()));
        let Some(chunk) = next.unwrap() else { break };
        found.push(chunk);
    }
    let disk = Disk::new();
    restore(&disk, &found).unwrap();
    assert_eq!(is_there(&disk, &content(&db).unwrap()), Ok(true));
}

#[test]
fn a_restore_that_fails_anywhere_leaves_nothing() {
    let db = filled();
    let chunks = chunks(&db);
    use ringdb::sim::{Call, Fault, Times};
    let mut failed = 0;
    for call in [Call::Write, Call::Sync, Call::Grow, Call::Read] {
        for nth in 0.. {
            let disk = Disk::new();
            disk.faults().add(call, nth, Fault::Fail(Times::Once));
            let restored = restore(&disk, &chunks);
            disk.faults().clear();
            let names = disk.paths();
            if restored.is_ok() {
                assert_eq!(names, [Path::new("ringdb")]);
                break;
            }
            failed += 1;
            // The very last sync is that of the directory: the name may be there then.
            assert!(
                names.is_empty() || names == [Path::new("ringdb")],
                "{call:?} {nth}: {names:?}"
            );
            if !names.is_empty() {
                assert_eq!(is_there(&disk, &content(&db).unwrap()), Ok(true));
            }
        }
    }
    assert!(failed > 20, "{failed}");
    let options = Options::new().memory_bytes(4 << 20);
    let disk = Disk::new();
    disk.faults().set_capacity(Some(1 << 20));
    let full = block_on(options.restore_sim(&disk, streamed(chunks)));
    crate::fixture::fails(full, ringdb::ErrorKind::NoSpace);
    assert!(disk.paths().is_empty());
}
