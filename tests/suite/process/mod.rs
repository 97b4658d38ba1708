//! Promises that need a process of their own: kill -9, a second opener, fork, closed stdio, seccomp.
//!
//! The helper is this test binary, run again with `RINGDB_TEST_CHILD` naming its role. It reports by
//! lines on its stdout (or by a file, where it has no stdout).

mod handles;
pub mod kills;
mod limits;
mod ring;
mod runtime;

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

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
        "load" => kills::load(&path, &argument),
        "hold" => handles::hold(&path),
        "fork" => handles::forked(&path),
        "no stdio" => handles::without_stdio(&path),
        "no ring" => ring::without_ring(&path, &argument),
        "few descriptors" => limits::few_descriptors(&path),
        "no threads" => limits::no_threads(&path, &argument),
        "little memory" => limits::little_memory(&path, &argument),
        "short file" => limits::short_file(&path, &argument),
        "calls denied" => limits::calls_denied(&path, &argument),
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
