//! A kernel that refuses io_uring: the same results on `pwrite`, and the reason is told.

use std::collections::BTreeMap;
use std::path::Path;

use ringdb::{Backend, BackendKind, Db, Options};

use super::run;
use crate::fixture::{Kind, Place, Watchdog, assert_sound, block_on, family, get, put, say};

/// Opens with `io_uring_setup` answered by an errno.
pub fn without_ring(path: &Path, argument: &str) {
    let errno: u32 = argument.parse().expect("the argument is an errno");
    deny(&[libc::SYS_io_uring_setup], errno);
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

/// From here on these system calls fail in this process.
pub fn deny(calls: &[i64], errno: u32) {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
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
