//! What else may hold the file, and which descriptors are whose: a second opener, fork, exec, stdio.

use std::fs::{self, File};
use std::io::{BufRead, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, exit};

use ringdb::{Db, ErrorKind};

use super::{child, run, spawn};
use crate::fixture::{Kind, Place, Watchdog, assert_sound, block_on, fails, family, get, put};

/// Holds the database open until its stdin ends.
pub fn hold(path: &Path) {
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
pub fn forked(path: &Path) {
    let db = block_on(Db::open(path)).expect("the database opens");
    let rows = family(&db, "rows");
    put(&rows, "before", "1");
    let tx = block_on(db.begin()).expect("a transaction begins");
    assert!(block_on(tx.contains(&rows, "before")).expect("it is read"));
    tx.put(&rows, "child", "1");
    // SAFETY: the child calls only this program's own code and `_exit`; glibc keeps its allocator
    // usable in the child of a process with threads.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork works");
    if pid == 0 {
        let refused = block_on(rows.put("child", "1")).is_err()
            && block_on(db.checkpoint()).is_err()
            && block_on(tx.clone().commit()).is_err()
            && block_on(db.begin()).is_err()
            && block_on(db.column_family("child")).is_err();
        drop((tx, rows, db));
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
pub fn without_stdio(path: &Path) {
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
