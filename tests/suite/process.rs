//! Promises that need a process of their own: kill -9, a second opener, fork, closed stdio, seccomp.
//!
//! The helper is this test binary, run again with `RINGDB_TEST_CHILD` naming its role. It reports by
//! lines on its stdout (or by a file, where it has no stdout).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio, exit};

use ringdb::{Backend, BackendKind, Db, ErrorKind, Options};

use crate::fixture::{
    Kind, Place, Watchdog, assert_sound, block_on, fails, family, get, put, rows_of, say, scale,
};
use crate::realfs;

const ROLE: &str = "RINGDB_TEST_CHILD";
const PATH: &str = "RINGDB_TEST_PATH";
const ARGUMENT: &str = "RINGDB_TEST_ARGUMENT";

/// The helper's entry. Without a role, as in every ordinary run, there is nothing to do.
#[test]
fn a_child_does_what_its_role_says() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let path = PathBuf::from(std::env::var(PATH).expect("a child has a path"));
    let argument = std::env::var(ARGUMENT).unwrap_or_default();
    // The harness has written the beginning of a line.
    println!();
    match role.as_str() {
        "load" => load(&path, &argument),
        "hold" => hold(&path),
        "fork" => forked(&path),
        "no stdio" => without_stdio(&path),
        "no ring" => without_ring(&path, &argument),
        "device" => realfs::device::serve(&path, &argument),
        "work" => realfs::load::work(&path, &argument),
        "recover" => realfs::load::recover(&path, &argument),
        other => panic!("there is no role {other}"),
    }
}

fn child(role: &str, path: &Path, argument: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary has a path"));
    command
        .args(["--exact", "process::a_child_does_what_its_role_says", "--nocapture"])
        .env(ROLE, role)
        .env(PATH, path)
        .env(ARGUMENT, argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// Starts this binary again in a role; its stdout can be read line by line.
pub fn spawn(role: &str, path: &Path, argument: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = child(role, path, argument).spawn().expect("the child starts");
    let stdout = child.stdout.take().expect("it is a pipe");
    (child, BufReader::new(stdout))
}

/// Everything a child says until it ends, which must be well.
fn run(role: &str, path: &Path, argument: &str) -> String {
    let output = child(role, path, argument).output().expect("the child runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{role}: {}\n{said}", output.status);
    said
}

fn backend(name: &str) -> Options {
    let backend = match name {
        "uring" => Backend::Uring,
        "pwrite" => Backend::Pwrite,
        _ => Backend::Auto,
    };
    Options::new().backend(backend).memory_bytes(8 << 20).log_bytes_max(1 << 20)
}

/// Writers of the child under load; each awaits one batch before the next.
const WRITERS: u64 = 8;

/// Commits until killed. A line goes out for each commit after it was acknowledged.
fn load(path: &Path, argument: &str) {
    let db = block_on(backend(argument).open(path)).expect("the database opens");
    println!("ready");
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let db = &db;
            scope.spawn(move || {
                let one = family(db, &format!("one {writer}"));
                let two = family(db, "two");
                let next = block_on(one.len()).expect("the rows are counted");
                for n in next.. {
                    let mut batch = db.batch();
                    batch.put(&one, n.to_be_bytes(), vec![writer as u8; n as usize % 3000]);
                    batch.put(&two, [writer, n].map(u64::to_be_bytes).concat(), n.to_le_bytes());
                    block_on(batch.commit()).expect("the batch is committed");
                    // A pipe that nobody reads any more ends the child, too.
                    println!("ack {writer} {n}");
                }
            });
        }
    });
}

/// Acknowledgements after which a child is killed, varied by cycle.
fn acknowledgements(cycle: usize) -> usize {
    [1, 40, 400, 1500][cycle % 4]
}

fn killed_again_and_again(kind: Kind, name: &str) {
    let place = Place::of(kind);
    let watchdog = Watchdog::new("kill -9");
    let mut promised = [0u64; WRITERS as usize];
    let mut total = 0;
    for cycle in 0..8 * scale() {
        watchdog.step(format!("{name}, cycle {cycle}"));
        let (mut child, mut lines) = spawn("load", &place.path(), name);
        let mut seen = 0;
        let mut line = String::new();
        while lines.read_line(&mut line).expect("the pipe is read") > 0 {
            if let Some((writer, n)) = acknowledged(&line) {
                promised[writer] = promised[writer].max(n + 1);
                seen += 1;
                // What is still in the pipe was acknowledged before the kill.
                if seen == acknowledgements(cycle) {
                    child.kill().expect("the child is killed");
                }
            }
            line.clear();
        }
        child.wait().expect("the child ends");
        assert!(seen >= acknowledgements(cycle), "the child ended after {seen} acknowledgements");
        total += seen;
        verify(&place.path(), &promised, cycle);
    }
    say(format!(
        "kill -9: {name}, {} cycles, {total} acknowledged commits, all there",
        8 * scale()
    ));
}

fn acknowledged(line: &str) -> Option<(usize, u64)> {
    let mut words = line.strip_prefix("ack ")?.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn verify(path: &Path, promised: &[u64], cycle: usize) {
    let db = block_on(backend("").open(path)).expect("the database opens after a kill");
    let two = block_on(rows_of(family(&db, "two").iter())).expect("the rows are read");
    let mut count = 0;
    for (writer, promised) in (0u64..).zip(promised) {
        let one = family(&db, &format!("one {writer}"));
        let rows = block_on(rows_of(one.iter())).expect("the rows are read");
        assert!(rows.len() as u64 >= *promised, "cycle {cycle}: {} of {promised}", rows.len());
        for (n, (key, value)) in (0u64..).zip(&rows) {
            assert_eq!(*key, n.to_be_bytes(), "cycle {cycle}: a hole");
            assert_eq!(*value, vec![writer as u8; n as usize % 3000]);
        }
        let last = rows.len() as u64;
        let key = |n: u64| [writer, n].map(u64::to_be_bytes).concat();
        assert!(last == 0 || two.iter().any(|(found, _)| *found == key(last - 1)));
        count += rows.len();
    }
    assert_eq!(two.len(), count, "cycle {cycle}: half a batch");
    assert_sound(&db);
    block_on(db.close()).expect("the database closes");
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    killed_again_and_again(Kind::Auto, "auto");
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged_on_pwrite() {
    killed_again_and_again(Kind::Pwrite, "pwrite");
}

/// Holds the database open until its stdin ends.
fn hold(path: &Path) {
    let db = block_on(Db::open(path)).expect("the database opens");
    put(&family(&db, "rows"), "held", "1");
    println!("ready");
    let _ = std::io::stdin().read_line(&mut String::new());
    block_on(db.close()).expect("the database closes");
}

#[test]
fn a_second_process_is_told_that_the_file_is_locked() {
    let place = Place::of(Kind::Auto);
    let watchdog = Watchdog::new("lock");
    watchdog.step("a child holds the lock");
    let (mut child, mut lines) = spawn("hold", &place.path(), "");
    // The pipe stays open: the child's harness has more to say.
    assert!(lines.by_ref().lines().map_while(Result::ok).any(|line| line == "ready"));
    fails(block_on(Db::open(place.path())), ErrorKind::Locked);
    drop(child.stdin.take());
    assert!(child.wait().expect("the child ends").success());
    watchdog.step("the lock is free");
    let db = place.open();
    assert!(get(&family(&db, "rows"), "held").is_some());
}

/// Forks with the database open; the child's handle must refuse, the parent's must go on.
fn forked(path: &Path) {
    let db = block_on(Db::open(path)).expect("the database opens");
    let rows = family(&db, "rows");
    put(&rows, "before", "1");
    // SAFETY: the child calls only this program's own code and `_exit`; glibc keeps its allocator
    // usable in the child of a process with threads.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork works");
    if pid == 0 {
        let refused = block_on(rows.put("child", "1")).is_err()
            && block_on(db.checkpoint()).is_err()
            && block_on(db.column_family("child")).is_err();
        drop((rows, db));
        // SAFETY: ends this process and nothing else.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is a valid place for the answer, and `pid` is our child.
    let waited = unsafe { libc::waitpid(pid, &mut status, 0) };
    assert_eq!(waited, pid);
    println!("forked child: {status}");
    put(&rows, "after", "1");
    block_on(db.close()).expect("the parent's database is untouched");
}

#[test]
fn a_forked_childs_handle_refuses_and_its_drop_touches_nothing() {
    let place = Place::of(Kind::Auto);
    let watchdog = Watchdog::new("fork");
    watchdog.step("the helper forks");
    let said = run("fork", &place.path(), "");
    assert!(said.contains("forked child: 0"), "{said}");
    let db = place.open();
    let rows = family(&db, "rows");
    assert!(get(&rows, "before").is_some() && get(&rows, "after").is_some());
    assert!(get(&rows, "child").is_none());
    assert_sound(&db);
}

/// Opens with 0, 1 and 2 closed; what came to lie there is told by a file.
fn without_stdio(path: &Path) {
    for fd in 0..3 {
        // SAFETY: nothing in this process uses these three from here on: it reports by a file.
        unsafe { libc::close(fd) };
    }
    let outcome = block_on(Db::open(path)).and_then(|db| {
        block_on(block_on(db.column_family("rows"))?.put("a", "1"))?;
        Ok(db)
    });
    let at_stdio: Vec<_> = (0..3)
        .filter_map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).ok())
        .filter(|target| target.starts_with(path.parent().expect("it is in a directory")))
        .collect();
    let closed = outcome.map(|db| block_on(db.close()));
    let mut report = File::create(path.with_extension("report")).expect("the report is made");
    // The report's own descriptor may be one of the three; the database was looked at before.
    let _ = report.as_raw_fd();
    write!(report, "{closed:?} {at_stdio:?}").expect("the report is written");
    exit(0);
}

#[test]
fn a_database_opened_without_stdio_never_lies_at_its_descriptors() {
    let place = Place::of(Kind::Auto);
    let watchdog = Watchdog::new("no stdio");
    watchdog.step("the helper runs");
    let _ = child("no stdio", &place.path(), "").output().expect("the child runs");
    let report = fs::read_to_string(place.path().with_extension("report")).expect("it reported");
    assert_eq!(report, "Ok(Ok(())) []");
}

/// Opens with `io_uring_setup` answered by an errno.
fn without_ring(path: &Path, argument: &str) {
    let errno: u32 = argument.parse().expect("the argument is an errno");
    deny(libc::SYS_io_uring_setup, errno);
    let refused = block_on(Options::new().backend(Backend::Uring).open(path.with_extension("no")));
    println!("by name: {:?}", refused.map(|_| ()).map_err(|error| error.kind()));
    let db = block_on(Db::open(path)).expect("the database opens without a ring");
    let report = db.backend();
    println!("backend: {:?} because {}", report.kind, report.reason);
    let rows = family(&db, "rows");
    for n in 0..200u32 {
        put(&rows, n.to_be_bytes(), n.to_le_bytes());
    }
    block_on(db.checkpoint()).expect("a checkpoint is written");
    assert_sound(&db);
    block_on(db.close()).expect("the database closes");
}

/// From here on a system call fails in this process.
fn deny(call: i64, errno: u32) {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let rules = BTreeMap::from([(call, Vec::new())]);
    let arch = std::env::consts::ARCH.try_into().expect("the architecture is known");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), arch);
    let filter: BpfProgram = filter.expect("the filter is valid").try_into().expect("it compiles");
    seccompiler::apply_filter_all_threads(&filter).expect("the filter is accepted");
}

#[test]
fn without_io_uring_the_same_works_on_pwrite_and_the_reason_is_told() {
    let watchdog = Watchdog::new("no ring");
    for errno in [libc::EPERM, libc::ENOSYS, libc::ENOMEM, libc::EOPNOTSUPP] {
        watchdog.step(format!("errno {errno}"));
        let place = Place::of(Kind::Auto);
        let said = run("no ring", &place.path(), &errno.to_string());
        assert!(said.contains("backend: Pwrite because "), "{said}");
        assert!(said.contains("by name: Err("), "asked for by name it fails loudly: {said}");
        let reason = said.lines().find(|line| line.starts_with("backend:")).expect("it was found");
        say(format!("no ring, errno {errno}: {reason}"));
        let db = place.open();
        let rows = family(&db, "rows");
        for n in 0..200u32 {
            assert_eq!(get(&rows, n.to_be_bytes()), Some(n.to_le_bytes().to_vec()));
        }
        assert!(db.backend().kind != BackendKind::Sim);
        assert_sound(&db);
    }
}

#[test]
fn descriptors_are_closed_on_exec() {
    let place = Place::of(Kind::Auto);
    let db = place.open();
    put(&family(&db, "rows"), "a", "1");
    let directory = place.path().parent().expect("it is in a directory").to_owned();
    let output = Command::new("ls").args(["-l", "/proc/self/fd"]).output().expect("ls runs");
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!listed.contains(directory.to_str().expect("the path is text")), "{listed}");
    assert!(!listed.contains("io_uring"), "{listed}");
}
