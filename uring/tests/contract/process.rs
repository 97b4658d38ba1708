//! Forked children and closed standard streams.
#![cfg(target_os = "linux")]

use std::future::Future;
use std::pin::pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};

use futures::executor::block_on;
use ringdb_uring::{BLOCK_BYTES, BackendChoice, Io, Refused, Settings};

use crate::place::{at, bytes_of_blocks, full, on_files};

/// Names the test that a child process is to run for real.
pub const CHILD: &str = "RINGDB_URING_TEST_CHILD";

/// Runs one of the tests below in a process of its own; its exit code.
pub fn in_child(test: &str, backend: &str) -> Option<i32> {
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", test, "--nocapture", "--test-threads=1"];
    let status = Command::new(program).args(arguments).env(CHILD, backend).status().unwrap();
    status.code()
}

fn settings_of(backend: &str) -> Settings {
    let backend = match backend {
        "pwrite" => BackendChoice::Pwrite,
        _ => BackendChoice::Auto,
    };
    Settings { backend, ..Settings::default() }
}

/// An operation in a child is refused at once.
fn refused(io: &Io) -> bool {
    let mut read = pin!(io.read(0, full(1, 0)));
    match read.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready((Err(error), _)) => {
            error.get_ref().and_then(|cause| cause.downcast_ref()) == Some(&Refused::Forked)
        }
        Poll::Ready((Ok(()), _)) | Poll::Pending => false,
    }
}

#[test]
fn a_forked_child_is_refused_and_touches_nothing() {
    let Ok(backend) = std::env::var(CHILD) else {
        for backend in ["uring", "pwrite"] {
            let name = "process::a_forked_child_is_refused_and_touches_nothing";
            assert_eq!(in_child(name, backend), Some(0), "{backend}");
        }
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.ring");
    let settings = settings_of(&backend);
    Io::create(&path, &settings, at(8), &[]).unwrap();
    let io = Io::open(&path, &settings).unwrap();
    block_on(io.write(at(1), full(1, 1), BLOCK_BYTES)).0.unwrap();
    // SAFETY: the child makes no call that needs another thread, and leaves with _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let right = refused(&io) && !io.drive(&|| false);
        io.kick();
        drop(io);
        // SAFETY: ends this process without running what belongs to the parent.
        unsafe { libc::_exit(if right { 0 } else { 7 }) }
    }
    let mut status = 0;
    // SAFETY: status is a valid place for the child's status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    block_on(io.write(at(2), full(1, 2), BLOCK_BYTES)).0.unwrap();
    assert!(Io::open(&path, &settings).unwrap_err().is_locked());
    block_on(io.close());
    let blocks = bytes_of_blocks(&std::fs::read(&path).unwrap());
    assert_eq!(blocks[..3], [Some(0), Some(1), Some(2)]);
    directory.close().unwrap();
    std::process::exit(0);
}

#[test]
fn closed_standard_streams_are_not_taken() {
    let Ok(backend) = std::env::var(CHILD) else {
        for backend in ["uring", "pwrite"] {
            let name = "process::closed_standard_streams_are_not_taken";
            assert_eq!(in_child(name, backend), Some(0), "{backend}");
        }
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.ring");
    let settings = settings_of(&backend);
    for stream in 0..3 {
        // SAFETY: nothing in this process uses the streams from here on.
        unsafe { libc::close(stream) };
    }
    let right = Io::create(&path, &settings, at(8), &[]).is_ok_and(|()| {
        Io::open(&path, &settings).is_ok_and(|io| {
            let written = block_on(io.write(at(1), full(1, 1), BLOCK_BYTES)).0.is_ok();
            let ours = (0..3).any(|stream| {
                // SAFETY: asks for flags only.
                unsafe { libc::fcntl(stream, libc::F_GETFD) != -1 }
            });
            block_on(io.close());
            written && !ours
        })
    });
    drop(directory);
    std::process::exit(if right { 0 } else { 7 });
}

#[test]
fn descriptors_are_closed_on_exec() {
    on_files(|place| {
        let io = place.fresh();
        for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
            let entry = entry.unwrap();
            let name: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            let target = target.to_string_lossy().into_owned();
            let ours = ["a.ring", "io_uring", "eventfd"].iter().any(|word| target.contains(word));
            // SAFETY: asks for flags only.
            let flags = unsafe { libc::fcntl(name, libc::F_GETFD) };
            assert!(!ours || flags == -1 || flags & libc::FD_CLOEXEC != 0, "{target}");
        }
        drop(io);
    });
}

#[test]
fn the_feed_has_a_file_description_of_its_own() {
    on_files(|place| {
        let io = place.fresh();
        let fds: Vec<i32> = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .map(Result::unwrap)
            .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == place.path))
            .map(|entry| entry.file_name().to_str().unwrap().parse().unwrap())
            .collect();
        assert_eq!(fds.len(), 2, "for the queue and for the feed");
        // SAFETY: asks for flags only.
        let flags = || [0, 1].map(|index| unsafe { libc::fcntl(fds[index], libc::F_GETFL) });
        let before = flags();
        assert_eq!(before[0], before[1], "both are direct or neither is");
        // SAFETY: a flag of the description that changes nothing for who reads and writes.
        unsafe { libc::fcntl(fds[0], libc::F_SETFL, before[0] | libc::O_NOATIME) };
        assert_eq!(flags(), [before[0] | libc::O_NOATIME, before[1]], "it is not shared");
        drop(io);
    });
}
