//! Health: what can still be done, why not more, and waiting for that to change.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::FutureExt;
use ringdb::sim::{Call, Disk, Fault, Times};
use ringdb::{ColumnFamily, Db, ErrorKind, HealthChanged};

use crate::fixture::{Fixture, block_on, family, put};
use crate::workload::options;

fn on(disk: &Disk) -> (Db, ColumnFamily) {
    let db = block_on(options().open_sim(disk)).unwrap();
    let rows = family(&db, "rows");
    (db, rows)
}

fn is_waiting(changed: &mut HealthChanged) -> bool {
    changed.now_or_never().is_none()
}

#[test]
fn nothing_changes_while_all_is_well() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let health = db.health();
    assert!(health.reads.is_ok() && health.writes.is_ok());
    let mut changed = db.health_changed(&health);
    put(&rows, "a", "1");
    block_on(db.checkpoint()).unwrap();
    assert!(is_waiting(&mut changed));
}

#[test]
fn poison_is_told_and_reads_go_on() {
    let disk = Disk::new();
    let (db, rows) = on(&disk);
    put(&rows, "a", "1");
    let mut changed = db.health_changed(&db.health());
    assert!(is_waiting(&mut changed));
    disk.faults().add(Call::Write, 0, Fault::Fail(Times::Forever));
    block_on(rows.put("b", "2")).expect_err("the write fails");
    let health = block_on(changed);
    assert!(health.reads.is_ok());
    let cause = health.writes.expect_err("nothing more is accepted");
    assert_eq!(cause.kind(), ErrorKind::Poisoned);
    assert!(std::error::Error::source(&cause).is_some(), "{cause:?}");
}

#[test]
fn a_full_disk_is_told_and_so_is_its_end() {
    let disk = Disk::new();
    let (db, rows) = on(&disk);
    disk.faults().set_capacity(Some(3 << 20));
    let well = db.health();
    let mut full = db.health_changed(&well);
    assert!(is_waiting(&mut full));
    let mut count = 0u32;
    while block_on(rows.put(count.to_be_bytes(), vec![1; 5000])).is_ok() {
        count += 1;
    }
    let full = block_on(full);
    assert!(full.reads.is_ok());
    assert_eq!(full.writes.as_ref().unwrap_err().kind(), ErrorKind::NoSpace);
    let over = db.health_changed(&full);
    block_on(rows.delete_range(0u32.to_be_bytes()..count.to_be_bytes())).unwrap();
    block_on(db.checkpoint()).unwrap();
    put(&rows, "again", vec![1; 5000]);
    let health = block_on(over);
    health.writes.expect("there is room again");
}

#[test]
fn closing_is_told_to_everybody_who_waits() {
    let Fixture { place: _place, db, rows: _ } = Fixture::new();
    let health = db.health();
    let waiting: Vec<_> = (0..3).map(|_| db.health_changed(&health)).collect();
    let all = std::thread::spawn(move || block_on(futures::future::join_all(waiting)));
    block_on(db.close()).unwrap();
    for health in all.join().expect("it does not panic") {
        assert_eq!(health.writes.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(health.reads.unwrap_err().kind(), ErrorKind::Closed);
    }
    let late = block_on(db.health_changed(&health));
    assert_eq!(late.writes.unwrap_err().kind(), ErrorKind::Closed);
}

/// Counts how often it was woken.
#[derive(Default)]
struct Count(AtomicU64);

impl Wake for Count {
    fn wake(self: Arc<Count>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn whoever_drops_its_wait_at_any_poll_is_not_woken_and_loses_nothing() {
    let disk = Disk::new();
    let (db, rows) = on(&disk);
    let health = db.health();
    let (dropped, kept) = (Arc::new(Count::default()), Arc::new(Count::default()));
    for polls in 0..3 {
        let mut changed = db.health_changed(&health);
        let waker = Waker::from(dropped.clone());
        for _ in 0..polls {
            assert!(changed.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        }
    }
    let mut stays = Box::pin(db.health_changed(&health));
    let waker = Waker::from(kept.clone());
    assert!(stays.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    disk.faults().add(Call::Write, 0, Fault::Fail(Times::Forever));
    block_on(rows.put("b", "2")).expect_err("the write fails");
    // Whoever poisons wakes the writer and then, maybe a little later, who waits for a change.
    while kept.0.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    let Poll::Ready(now) = stays.as_mut().poll(&mut Context::from_waker(&waker)) else {
        panic!("it was woken for a change")
    };
    assert_eq!(now.writes.unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(dropped.0.load(Ordering::SeqCst), 0);
}

#[test]
fn waiting_outlives_the_handles() {
    let disk = Disk::new();
    let (db, rows) = on(&disk);
    let changed = db.health_changed(&db.health());
    drop((db, rows));
    assert_eq!(block_on(changed).writes.unwrap_err().kind(), ErrorKind::Closed);
}
