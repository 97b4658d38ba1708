//! Resource limits and refused system calls, before a database is opened and while it runs: typed
//! errors, nothing half made, an end instead of a hang.

use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use ringdb::{Backend, Db, ErrorKind, Options, Result};

use super::ring::deny;
use super::{run, spawn};
use crate::fixture::{
    Kind, Place, Watchdog, assert_sound, block_on, family, get, put, resumes, say,
};

/// The options for the backend that an argument begins with.
fn options(argument: &str) -> Options {
    let options = Options::new().memory_bytes(4 << 20).log_bytes_max(1 << 20);
    match argument.split(' ').next() {
        Some("uring") => options.backend(Backend::Uring),
        Some("pwrite") => options.backend(Backend::Pwrite),
        _ => options.backend(Backend::Auto),
    }
}

/// Backends that this machine has.
fn backends() -> &'static [&'static str] {
    let place = Place::of(Kind::Uring);
    match place.open_with(place.options()) {
        Ok(_) => &["uring", "pwrite"],
        Err(error) => {
            say(format!("limits: no io_uring here: {error:?}"));
            &["pwrite"]
        }
    }
}

/// Sets a soft limit; gives the one before.
fn limit(resource: libc::__rlimit_resource_t, soft: u64) -> u64 {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the place is one `rlimit` large.
    assert_eq!(unsafe { libc::getrlimit(resource, &mut limits) }, 0);
    let before = limits.rlim_cur;
    limits.rlim_cur = soft.min(limits.rlim_max);
    // SAFETY: it reads one `rlimit`.
    assert_eq!(unsafe { libc::setrlimit(resource, &limits) }, 0);
    before
}

/// What lies in the directory of a path, the path's own file left out.
fn others(path: &Path) -> Vec<PathBuf> {
    let directory = path.parent().expect("it is in a directory");
    let entries = fs::read_dir(directory).expect("the directory is listed");
    entries.map(|entry| entry.expect("it is listed").path()).filter(|other| other != path).collect()
}

/// Opening left no file, or a whole one that is empty.
fn assert_not_half_made(path: &Path) {
    assert_eq!(others(path), Vec::<PathBuf>::new(), "nothing else lies there");
    let db = block_on(Db::open(path)).expect("the database opens without the limit");
    assert_eq!(db.column_families(), Vec::<String>::new());
    assert_sound(&db);
    block_on(db.close()).expect("the database closes");
    fs::remove_file(path).expect("the file is removed");
}

/// With so many descriptors, those of the harness among them, opening works.
const DESCRIPTORS_MAX: u64 = 100;

pub fn few_descriptors(path: &Path) {
    let mut refused = 0;
    for descriptors in 0..DESCRIPTORS_MAX {
        let before = limit(libc::RLIMIT_NOFILE, descriptors);
        let opened = block_on(Db::open(path));
        limit(libc::RLIMIT_NOFILE, before);
        let error = match opened {
            Ok(db) => {
                block_on(db.close()).expect("the database closes");
                break;
            }
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Io, "{descriptors} descriptors: {error:?}");
        refused += 1;
        if path.exists() || !others(path).is_empty() {
            assert_not_half_made(path);
        }
    }
    assert!(refused > 0 && refused < DESCRIPTORS_MAX, "{refused} times refused");
    println!("refused with fewer than {refused} descriptors");
    let db = block_on(Db::open(path)).expect("the database opens");
    limit(libc::RLIMIT_NOFILE, 0);
    let rows = family(&db, "rows");
    put(&rows, "a", "1");
    block_on(db.checkpoint()).expect("an open database needs no more descriptors");
    assert_sound(&db);
    block_on(db.close()).expect("the database closes");
    println!("done");
}

#[test]
fn without_descriptors_opening_fails_and_an_open_database_goes_on() {
    let place = Place::of(Kind::Auto);
    let watchdog = Watchdog::new("few descriptors");
    watchdog.step("the helper runs");
    let said = run("few descriptors", &place.path(), "");
    let refused = said.lines().find(|line| line.starts_with("refused with"));
    say(format!("limits: opening {}", refused.expect("it was refused at least once")));
    assert!(said.lines().any(|line| line == "done"), "{said}");
    assert_eq!(get(&family(&place.open(), "rows"), "a").as_deref(), Some(&b"1"[..]));
}

/// Opens where no thread can be started.
pub fn no_threads(path: &Path, argument: &str) {
    deny(&[libc::SYS_clone3, libc::SYS_clone], libc::EAGAIN as u32);
    let opened = block_on(options(argument).open(path));
    println!("opened {:?}", opened.map(|_| ()).map_err(|error| error.kind()));
}

#[test]
fn without_threads_opening_fails_and_leaves_nothing_half_made() {
    let watchdog = Watchdog::new("no threads");
    for backend in backends() {
        watchdog.step(*backend);
        let place = Place::of(Kind::Auto);
        let said = run("no threads", &place.path(), backend);
        assert!(said.contains("opened Err(Io)"), "{backend}: {said}");
        assert_not_half_made(&place.path());
    }
}

/// Works with little address space beyond what it has, until it is refused or ended: Rust ends a
/// process whose allocation fails.
pub fn little_memory(path: &Path, argument: &str) {
    let words: Vec<&str> = argument.split(' ').collect();
    let mebibytes: u64 = words[2].parse().expect("the argument names a size");
    let restrict = || {
        let pages = fs::read_to_string("/proc/self/statm").expect("the size is told");
        let pages: u64 = pages.split(' ').next().expect("it comes first").parse().expect("pages");
        limit(libc::RLIMIT_AS, pages * 4096 + (mebibytes << 20));
    };
    if words[1] == "before" {
        restrict();
    }
    let opened = block_on(options(argument).open(path));
    if words[1] == "after" {
        restrict();
    }
    let worked = opened.and_then(|db| {
        let rows = block_on(db.column_family("rows"))?;
        for n in 0..400u32 {
            block_on(rows.put(n.to_be_bytes(), vec![n as u8; 4000]))?;
            println!("ack {n}");
        }
        block_on(db.checkpoint())?;
        block_on(db.close())
    });
    println!("worked {:?}", worked.map_err(|error| error.kind()));
}

#[test]
fn without_memory_a_process_may_end_but_loses_nothing_that_was_acknowledged() {
    let watchdog = Watchdog::new("little memory");
    let (mut runs, mut ended, mut acknowledged) = (0, 0, 0);
    for backend in backends() {
        for moment in ["before", "after"] {
            for mebibytes in [0, 2, 8, 32, 256] {
                let argument = format!("{backend} {moment} {mebibytes}");
                watchdog.step(&argument);
                let place = Place::of(Kind::Auto);
                let (mut child, lines) = spawn("little memory", &place.path(), &argument);
                let lines: Vec<_> = lines.lines().map_while(std::result::Result::ok).collect();
                let status = child.wait().expect("the child ends");
                let last = lines.iter().filter_map(|line| line.strip_prefix("ack ")).next_back();
                let last = last.map(|n| n.parse::<u32>().expect("acknowledgements are numbers"));
                let worked = lines.iter().any(|line| line.starts_with("worked Ok"));
                assert!(!worked || status.success(), "{argument}: {status}");
                assert!(worked || mebibytes < 256, "{argument}: there is enough: {lines:?}");
                verify_acknowledged(&place, last);
                runs += 1;
                ended += u32::from(!worked);
                acknowledged += last.map_or(0, |last| last + 1);
            }
        }
    }
    say(format!(
        "limits: {ended} of {runs} processes ended for lack of memory; {acknowledged} \
         acknowledged commits, all there"
    ));
    assert!(ended > 0, "a dead knob must show");
}

fn verify_acknowledged(place: &Place, last: Option<u32>) {
    assert_eq!(others(&place.path()).len(), leftovers(&place.path()), "one database, no more");
    let db = place.open();
    let rows = family(&db, "rows");
    for n in 0..last.map_or(0, |last| last + 1) {
        assert_eq!(get(&rows, n.to_be_bytes()), Some(vec![n as u8; 4000]), "row {n}");
    }
    assert_sound(&db);
}

/// Temporary files: a process that was ended while it created a database may leave one.
fn leftovers(path: &Path) -> usize {
    let temporary = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "new");
    others(path).iter().filter(|path| temporary(path)).count()
}

/// Meets the limit on file sizes, when the file is created and when it grows.
pub fn short_file(path: &Path, argument: &str) {
    // SAFETY: a signal that is ignored runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let before = limit(libc::RLIMIT_FSIZE, 100 << 10);
    let refused = block_on(options(argument).open(path)).expect_err("there is no room for it");
    assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused:?}");
    assert!(!path.exists() && others(path).is_empty(), "nothing is half made");
    limit(libc::RLIMIT_FSIZE, before);

    let db = block_on(options(argument).open(path)).expect("the database opens");
    let rows = family(&db, "rows");
    put(&rows, "first", "1");
    limit(libc::RLIMIT_FSIZE, db.stat().file_bytes + (2 << 20));
    let put_row = |n: u32| block_on(rows.put(n.to_be_bytes(), vec![n as u8; 30_000]));
    let (n, refused) = (0..1000)
        .find_map(|n| put_row(n).err().map(|error| (n, error)))
        .expect("a thousand rows find no room");
    assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused:?}");
    assert!(refused.is_retryable() && !refused.outcome_unknown(), "{refused:?}");
    assert!(get(&rows, "first").is_some(), "reads go on");
    limit(libc::RLIMIT_FSIZE, before);
    resumes(|| put_row(n));
    block_on(db.checkpoint()).expect("a checkpoint is written");
    (0..=n).for_each(|n| assert_eq!(get(&rows, n.to_be_bytes()), Some(vec![n as u8; 30_000])));
    assert_sound(&db);
    block_on(db.close()).expect("the database closes");
    println!("refused after {n} rows");
}

#[test]
fn a_limit_on_file_sizes_is_a_lack_of_space_that_may_pass() {
    let watchdog = Watchdog::new("short file");
    for backend in backends() {
        watchdog.step(*backend);
        let place = Place::of(Kind::Auto);
        let said = run("short file", &place.path(), backend);
        let refused = said.lines().find(|line| line.starts_with("refused after"));
        say(format!("limits: file size, {backend}: {}", refused.expect("it was refused")));
    }
}

/// System calls that are refused while a database runs, what the first operation that meets it is
/// told, and whether the database is poisoned then.
const DENIED: [(&str, &[i64], ErrorKind, After); 5] = [
    ("uring enter", &[libc::SYS_io_uring_enter], ErrorKind::Io, After::Poisoned),
    (
        "pwrite write",
        &[libc::SYS_pwritev, libc::SYS_pwritev2, libc::SYS_pwrite64],
        ErrorKind::Poisoned,
        After::Poisoned,
    ),
    (
        "pwrite sync",
        &[libc::SYS_fdatasync, libc::SYS_pwritev2],
        ErrorKind::Poisoned,
        After::Poisoned,
    ),
    ("pwrite grow", &[libc::SYS_fallocate, libc::SYS_ftruncate], ErrorKind::Io, After::NotPoisoned),
    (
        "pwrite read",
        &[libc::SYS_preadv, libc::SYS_preadv2, libc::SYS_pread64],
        ErrorKind::Io,
        After::NotPoisoned,
    ),
];

/// What a refused call leaves behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Poisoned,
    /// Writers go on, or wait for what may come back.
    NotPoisoned,
}

/// Rows that are there before.
const ROWS: u32 = 3000;

/// Runs until the calls are refused; then all that is asked of it must end, with an error.
pub fn calls_denied(path: &Path, argument: &str) {
    let denied = DENIED.iter().find(|(name, ..)| *name == argument);
    let (_, calls, ..) = denied.expect("the argument is in the table");
    let db = block_on(options(argument).open(path)).expect("the database opens");
    let rows = family(&db, "rows");
    for n in 0..ROWS {
        let put =
            rows.with_durability(ringdb::Durability::Buffered).put(n.to_be_bytes(), [1; 2000]);
        block_on(put).expect("the row is put");
    }
    block_on(db.checkpoint()).expect("a checkpoint is written");
    deny(calls, libc::EPERM as u32);
    let outcome: Result<()> = (0..ROWS).try_for_each(|n| {
        block_on(rows.get(n.to_be_bytes()))?;
        block_on(rows.put([b"new ", &n.to_be_bytes()[..]].concat(), vec![2; 40_000])).map(drop)
    });
    println!("failed {:?}", outcome.as_ref().map_err(ringdb::Error::kind));
    // Whatever this answers: a failure that only reads have met is known to writers from here on.
    println!("put {:?}", block_on(rows.put("last", "1")).map_err(|error| error.kind()));
    println!("because {outcome:?}");
    println!("health {:?}", db.health().writes.map_err(|error| error.kind()));
    println!("checkpoint {:?}", block_on(db.checkpoint()).map_err(|error| error.kind()));
    println!("closed {:?}", block_on(db.close()).map_err(|error| error.kind()));
    drop((rows, db));
    println!("done");
}

#[test]
fn calls_that_are_refused_later_end_in_typed_errors_and_hang_nobody() {
    let watchdog = Watchdog::new("calls denied");
    let here = backends();
    for (name, _, kind, after) in DENIED {
        if !here.iter().any(|backend| name.starts_with(backend)) {
            continue;
        }
        watchdog.step(name);
        let place = Place::of(Kind::Auto);
        let said = run("calls denied", &place.path(), name);
        assert!(said.contains(&format!("failed Err({kind:?})")), "{name}: {said}");
        let poisoned = said.contains("health Err(Poisoned)");
        assert_eq!(poisoned, after == After::Poisoned, "{name}: {said}");
        assert!(said.lines().any(|line| line == "done"), "{name}: {said}");
        let because = said.lines().find(|line| line.starts_with("because "));
        say(format!("limits: {name} refused: {}", because.expect("it says why")));
        let db = place.open();
        let rows = family(&db, "rows");
        for n in 0..ROWS {
            assert_eq!(get(&rows, n.to_be_bytes()), Some(vec![1; 2000]), "{name}, row {n}");
        }
        assert_sound(&db);
    }
}
