//! Where a test's database lives, how it is opened, and how long a test may be silent.

use std::cell::Cell;
use std::future::Future;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::Stream;
use parking_lot::Mutex;
use ringdb::{
    Backend, Bytes, ColumnFamily, Db, ErrorKind, Options, RestoreReport, Result, Seq, Task, sim,
};
use tempfile::TempDir;

/// What `RINGDB_TEST_BACKEND` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Auto,
    Uring,
    Pwrite,
    Sim,
}

impl Kind {
    /// The backend that this run of the suite is for.
    pub fn of_this_run() -> Kind {
        match std::env::var("RINGDB_TEST_BACKEND").as_deref() {
            Err(_) | Ok("" | "auto") => Kind::Auto,
            Ok("uring") => Kind::Uring,
            Ok("pwrite") => Kind::Pwrite,
            Ok("sim") => Kind::Sim,
            Ok(other) => panic!("RINGDB_TEST_BACKEND={other} is not uring, pwrite, sim or auto"),
        }
    }

    /// Options that ask for this backend; `sim` is asked for by the call that opens.
    pub fn options(self) -> Options {
        match self {
            Kind::Auto | Kind::Sim => Options::new().backend(Backend::Auto),
            Kind::Uring => Options::new().backend(Backend::Uring),
            Kind::Pwrite => Options::new().backend(Backend::Pwrite),
        }
        .memory_bytes(16 << 20)
    }
}

/// How many times longer than usual this run shall be.
pub fn scale() -> usize {
    number("RINGDB_TEST_SCALE").unwrap_or(1) as usize
}

/// Prints one line of result past the harness, which keeps back what passing tests print.
pub fn say(line: impl std::fmt::Display) {
    // A closed stderr is no reason to fail.
    let _ = writeln!(std::io::stderr().lock(), "\n    {line}");
}

/// The seed of a random test, printed so that a failure can be run again.
pub fn seed(test: &str, default: u64) -> u64 {
    let seed = number("RINGDB_TEST_SEED").unwrap_or(default);
    println!("{test}: RINGDB_TEST_SEED={seed} RINGDB_TEST_SCALE={}", scale());
    seed
}

/// A number from the environment.
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Runs a future to its end on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    ringdb::block_on(future)
}

/// A directory, or a simulated disk, with room for one database.
pub struct Place {
    kind: Kind,
    directory: TempDir,
    disk: sim::Disk,
}

impl Place {
    /// A fresh one, for the backend of this run.
    pub fn new() -> Place {
        Place::of(Kind::of_this_run())
    }

    /// A fresh one for a backend by name.
    pub fn of(kind: Kind) -> Place {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        Place { kind, directory, disk: sim::Disk::new() }
    }

    /// The options that tests start from: small memory, so that evictions happen.
    pub fn options(&self) -> Options {
        self.kind.options()
    }

    /// The path of the database file (which `sim` does not make).
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("test.ring")
    }

    /// The future that opens the database.
    pub fn opening(&self, options: Options) -> impl Future<Output = Result<Db>> + Send + use<> {
        match self.kind {
            Kind::Sim => options.open_sim(&self.disk),
            Kind::Auto | Kind::Uring | Kind::Pwrite => options.open(self.path()),
        }
    }

    /// The future that restores a backup to where the database is to be.
    pub fn restoring<E: std::error::Error + Send + Sync + 'static>(
        &self,
        options: Options,
        backup: impl Stream<Item = std::result::Result<Bytes, E>> + Send + 'static,
    ) -> Task<RestoreReport> {
        match self.kind {
            Kind::Sim => options.restore_sim(&self.disk, backup),
            Kind::Auto | Kind::Uring | Kind::Pwrite => options.restore(self.path(), backup),
        }
    }

    /// The name of the database's file, wherever it lies.
    pub fn name(&self) -> PathBuf {
        if self.kind == Kind::Sim { PathBuf::from("ringdb") } else { self.path() }
    }

    /// The names of all files in it.
    pub fn files(&self) -> Vec<PathBuf> {
        if self.kind == Kind::Sim {
            return self.disk.paths();
        }
        let entries = std::fs::read_dir(self.directory.path()).expect("the directory is there");
        entries.map(|entry| entry.expect("an entry is read").path()).collect()
    }

    /// Opens with other options.
    pub fn open_with(&self, options: Options) -> Result<Db> {
        block_on(self.opening(options))
    }

    /// Opens, or creates, the database.
    pub fn open(&self) -> Db {
        self.open_with(self.options()).expect("the database opens")
    }
}

/// A database in a place of its own, with one family.
pub struct Fixture {
    pub place: Place,
    pub db: Db,
    pub rows: ColumnFamily,
}

impl Fixture {
    /// A fresh database with the family `rows`.
    pub fn new() -> Fixture {
        Fixture::with(|options| options)
    }

    /// The same with other options.
    pub fn with(change: impl FnOnce(Options) -> Options) -> Fixture {
        let place = Place::new();
        let db = place.open_with(change(place.options())).expect("the database opens");
        let rows = family(&db, "rows");
        Fixture { place, db, rows }
    }

    /// Closes and opens again.
    pub fn reopened(self) -> Fixture {
        block_on(self.db.close()).expect("the database closes");
        drop((self.db, self.rows));
        let db = self.place.open();
        let rows = family(&db, "rows");
        Fixture { place: self.place, db, rows }
    }
}

/// Opens or creates a family.
pub fn family(db: &Db, name: &str) -> ColumnFamily {
    block_on(db.column_family(name)).expect("the family opens")
}

/// Puts one row durably.
pub fn put(family: &ColumnFamily, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Seq {
    block_on(family.put(key, value)).expect("the row is put")
}

/// Reads one row.
pub fn get(family: &ColumnFamily, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    block_on(family.get(key)).expect("the row is read").map(|value| value.to_vec())
}

/// The rows of a range, read in one of the ways that there are: each call takes the next.
pub async fn rows_of(mut range: ringdb::Range) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    thread_local! {
        static CALLS: Cell<usize> = const { Cell::new(0) };
    }
    let way = CALLS.replace(CALLS.get() + 1);
    let own = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
    let mut rows = Vec::new();
    // None, a few, or all of them one by one; then the others at once.
    let one_by_one = [0, 1, 20, usize::MAX][way % 4];
    while rows.len() < one_by_one {
        let next = match way / 4 % 2 {
            0 => range.try_next().await?.map(|(key, value)| own(&key, &value)),
            _ => range.try_next_with(own).await?,
        };
        match next {
            Some(row) => rows.push(row),
            None => return Ok(rows),
        }
    }
    let look = |key: &[u8], value: &[u8]| {
        rows.push(own(key, value));
        ControlFlow::<()>::Continue(())
    };
    range.for_each_with(look).await?;
    Ok(rows)
}

/// The keys of a range as text.
pub fn keys(range: ringdb::Range) -> Vec<String> {
    let rows = block_on(rows_of(range)).expect("the range is read");
    rows.into_iter().map(|(key, _)| String::from_utf8(key).expect("the key is text")).collect()
}

/// How long something that another thread is about to do may take: far beyond any honest delay.
const EVENTUALLY_SECONDS_MAX: u64 = 120;

/// Waits, bounded, for what another thread is about to make true; false if it never did.
pub fn eventually(is_true: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while !is_true() {
        if started.elapsed().as_secs() >= EVENTUALLY_SECONDS_MAX {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// Asserts that a call failed, and how.
#[track_caller]
pub fn fails<T>(result: Result<T>, kind: ErrorKind) -> ringdb::Error {
    match result {
        Ok(_) => panic!("succeeded where {kind:?} was expected"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error:?}");
            error
        }
    }
}

/// Attempts to get space that may be on their way when space returns: the log's and a checkpoint's.
/// What they met is still told to a commit that waits then, so that many may be refused.
const STALE_REFUSALS_MAX: usize = 2;

/// A write after space has returned: it succeeds, at the latest after refusals from before.
#[track_caller]
pub fn resumes<T>(mut write: impl FnMut() -> Result<T>) -> T {
    for _ in 0..STALE_REFUSALS_MAX {
        match write() {
            Ok(written) => return written,
            Err(error) => assert_eq!(error.kind(), ErrorKind::NoSpace, "{error:?}"),
        }
    }
    write().expect("writing resumes when space returns")
}

/// Walks the whole database and asserts that nothing is wrong with it.
#[track_caller]
pub fn assert_sound(db: &Db) {
    let report = block_on(db.check()).expect("the check runs");
    assert!(report.defects.is_empty(), "{:#?}", report.defects);
}

/// How long one step may take before it counts as hung: far beyond any honest step on a slow disk.
const STEP_SECONDS_MAX: u64 = 120;

/// Ends the process, naming the step, when a step hangs. A future that nobody wakes cannot be seen
/// from inside, so this one timer stands outside. A step wakes nobody: the watching thread looks
/// now and then whether there was one.
pub struct Watchdog {
    step: Arc<Mutex<Step>>,
    ended: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Step {
    number: u64,
    words: String,
}

impl Watchdog {
    /// Watches until dropped.
    pub fn new(test: &'static str) -> Watchdog {
        let step = Arc::new(Mutex::new(Step { number: 0, words: "start".into() }));
        let (ended, is_over) = mpsc::channel::<()>();
        let watched = Arc::clone(&step);
        let thread = std::thread::spawn(move || {
            let patience = Duration::from_secs(STEP_SECONDS_MAX);
            let mut seen = None;
            while is_over.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                let step = watched.lock();
                if seen.replace(step.number) == Some(step.number) {
                    eprintln!("{test}: hung at: {}", step.words);
                    process::abort();
                }
            }
        });
        Watchdog { step, ended: Some(ended), thread: Some(thread) }
    }

    /// A new step begins, so the one before did not hang.
    pub fn step(&self, words: impl Into<String>) {
        let words = words.into();
        let mut step = self.step.lock();
        *step = Step { number: step.number + 1, words };
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.ended = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
