//! A kernel that refuses `io_uring`: by a filter of system calls, or for want of descriptors.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use futures::executor::block_on;
use ringdb_uring::{BLOCK_BYTES, BackendChoice, BackendKind, Io, Settings};

use crate::place::{at, full};
use crate::process::{CHILD, in_child};

/// Lets `io_uring_setup` fail with this error in this process from now on.
fn refuse_rings(error: i32) {
    const SETUP: u32 = 425;
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let (load, equals, ret) =
        (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ, libc::BPF_RET);
    let mut filter = [
        step(load, 0, 0, 0),
        step(equals, 0, 1, SETUP),
        step(ret, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(ret, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: plain flags.
    let alone = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(alone, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the program points to a filter that outlives the call, which copies it.
    let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &program as *const _) };
    assert_eq!(filtered, 0);
}

#[test]
fn a_refused_ring_falls_back_and_says_why_or_fails_by_name() {
    let Ok(error) = std::env::var(CHILD) else {
        for error in [libc::EPERM, libc::ENOSYS, libc::ENOMEM, libc::EOPNOTSUPP, libc::EINVAL] {
            let name = "refusal::a_refused_ring_falls_back_and_says_why_or_fails_by_name";
            assert_eq!(in_child(name, &error.to_string()), Some(0), "error {error}");
        }
        return;
    };
    let error: i32 = error.parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.ring");
    refuse_rings(error);
    let auto = Settings::default();
    Io::create(&path, &auto, at(8), &[]).unwrap();
    let named = Settings { backend: BackendChoice::Uring, ..Settings::default() };
    assert!(Io::open(&path, &named).is_err());
    let io = Io::open(&path, &auto).unwrap();
    let report = io.report();
    assert_eq!(report.backend, BackendKind::Pwrite);
    let cause = std::io::Error::from_raw_os_error(error).to_string();
    assert!(report.reason.contains(&cause), "{}", report.reason);
    block_on(io.write_durable(at(1), full(1, 1), BLOCK_BYTES)).0.unwrap();
    block_on(io.close());
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn want_of_descriptors_leaves_nothing_half_made() {
    if std::env::var(CHILD).is_err() {
        let name = "refusal::want_of_descriptors_leaves_nothing_half_made";
        assert_eq!(in_child(name, "auto"), Some(0));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.ring");
    Io::create(&path, &Settings::default(), at(8), &[]).unwrap();
    let before = descriptors();
    let mut seen = vec![];
    for limit in 3..64 {
        let limits = libc::rlimit { rlim_cur: limit, rlim_max: 1024 };
        // SAFETY: the limits are a valid place to read from.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limits) }, 0);
        let opened = Io::open(&path, &Settings::default());
        let limits = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limits) }, 0);
        seen.push(opened.as_ref().ok().map(|io| io.report().backend));
        if let Ok(io) = opened {
            block_on(io.read(0, full(1, 1))).0.unwrap();
            block_on(io.close());
        }
        // The last descriptor goes with the owner's thread, just after the close. A leak hangs.
        while descriptors() != before {
            std::thread::yield_now();
        }
    }
    assert!(seen.contains(&None) && seen.contains(&Some(BackendKind::Pwrite)), "{seen:?}");
}
