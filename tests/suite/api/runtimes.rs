//! Every future can be spawned anywhere, and works there.

use std::future::Future;

use futures::executor::{LocalPool, ThreadPool};
use futures::future::try_join_all;
use futures::task::{LocalSpawnExt, SpawnExt};
use ringdb::{
    Bytes, ColumnFamily, ColumnFamilyOptions, Db, Error, Seq, Snapshot, Transaction, Value,
};

use crate::fixture::{Fixture, block_on, get, keys};

fn shared<T: Clone + Send + Sync + 'static>() {}
fn stream<T: futures::Stream + Send + Unpin + 'static>(_: T) {}

/// Takes a future that is never polled, and so does nothing.
fn spawnable<T: Future<Output: Send> + Send + 'static>(_: T) {}

#[test]
fn futures_are_send_and_own_what_they_need() {
    let Fixture { place, db, rows } = Fixture::new();
    spawnable(place.opening(place.options()));
    spawnable(Db::open("nowhere"));
    spawnable(db.column_family("a"));
    spawnable(db.create_column_family("a", ColumnFamilyOptions::new()));
    spawnable(db.existing_column_family("a"));
    spawnable(db.drop_column_family("a"));
    spawnable(db.rename_column_family("a", "b"));
    spawnable(db.begin());
    spawnable(db.durable(Seq(1)));
    spawnable(db.sync());
    spawnable(db.checkpoint());
    spawnable(db.check());
    spawnable(db.health_changed(&db.health()));
    spawnable(db.close());
    spawnable(rows.put("a", "1"));
    spawnable(rows.put_bytes("a", Bytes::new()));
    spawnable(rows.delete("a"));
    spawnable(rows.get("a"));
    spawnable(rows.multi_get(["a"]));
    spawnable(rows.contains("a"));
    spawnable(rows.first());
    spawnable(rows.last());
    spawnable(rows.len());
    spawnable(db.batch().commit());
    spawnable(db.batch().submit());
    spawnable(db.snapshot().get(&rows, "a"));
    stream(rows.iter());
    stream(rows.prefix("a").rev());
    shared::<Db>();
    shared::<ColumnFamily>();
    shared::<Snapshot>();
    shared::<Transaction>();
    shared::<Value>();
    shared::<Error>();
    let moved = (db.batch(), db.snapshot(), rows.iter());
    spawnable(async move { drop(moved) });
    let commit = block_on(db.batch().put(&rows, "a", "1").submit()).unwrap();
    spawnable(commit);
    block_on(db.sync()).unwrap();
    assert_eq!(keys(rows.iter()), ["a"], "of all these only the batch was ordered");
}

#[test]
fn a_future_does_nothing_until_it_is_polled() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    drop(rows.put("a", "1"));
    drop(db.column_family("new"));
    let mut batch = db.batch();
    drop(batch.put(&rows, "b", "1").commit());
    drop(batch.put(&rows, "c", "1").submit());
    assert_eq!(block_on(rows.len()).unwrap(), 0);
    assert_eq!(db.column_families(), ["rows"]);
}

/// 64 tasks write and read; returns when all have.
async fn many_tasks(db: Db) -> u64 {
    let rows = db.column_family("rows").await.unwrap();
    let tasks = (0..64u32).map(|task| tokio::spawn(one_task(db.clone(), rows.clone(), task)));
    try_join_all(tasks).await.expect("no task panics");
    rows.len().await.unwrap()
}

async fn one_task(db: Db, rows: ColumnFamily, task: u32) {
    for n in 0..20u32 {
        let key = [task.to_be_bytes(), n.to_be_bytes()].concat();
        rows.put(&key, "value").await.unwrap();
        assert_eq!(&*rows.get(&key).await.unwrap().expect("just put"), b"value");
        if n % 10 == 0 {
            let made: Result<(), Error> = db
                .transact(|tx| {
                    let (rows, key) = (rows.clone(), key.clone());
                    async move {
                        assert!(tx.contains(&rows, &key).await?);
                        tx.put(&rows, &key, "value");
                        Ok(())
                    }
                })
                .await;
            made.unwrap();
        }
    }
    let mut range = rows.prefix(task.to_be_bytes());
    let mut count = 0;
    while let Some((_, value)) = range.try_next().await.unwrap() {
        assert_eq!(&*value, b"value");
        count += 1;
    }
    assert_eq!(count, 20);
}

#[test]
fn tasks_on_a_multi_threaded_tokio_runtime_commit_and_read() {
    let Fixture { place: _place, db, .. } = Fixture::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    assert_eq!(runtime.block_on(async move { tokio::spawn(many_tasks(db)).await }).unwrap(), 1280);
}

#[test]
fn tasks_on_a_current_thread_tokio_runtime_commit_and_read() {
    let Fixture { place: _place, db, .. } = Fixture::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(many_tasks(db)), 1280);
}

#[test]
fn tasks_on_executors_without_a_reactor_commit_and_read() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let pool = ThreadPool::builder().pool_size(2).create().unwrap();
    let mut local = LocalPool::new();
    let mut handles = Vec::new();
    for task in 0..16u32 {
        let work = one_task(db.clone(), rows.clone(), task);
        handles.push(pool.spawn_with_handle(work).unwrap());
        let work = one_task(db.clone(), rows.clone(), 100 + task);
        handles.push(local.spawner().spawn_local_with_handle(work).unwrap());
    }
    local.run_until(futures::future::join_all(handles));
    assert_eq!(block_on(rows.len()).unwrap(), 640);
}

#[test]
fn a_runtime_that_dies_in_the_middle_of_commits_hurts_nobody() {
    let Fixture { place: _place, db, rows } = Fixture::new();
    for round in 0..8u32 {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
        let runtime = runtime.unwrap();
        for task in 0..16u32 {
            let rows = rows.clone();
            runtime.spawn(async move {
                let mut n = 0u32;
                while rows.put([task, n].map(u32::to_be_bytes).concat(), "x").await.is_ok() {
                    n += 1;
                }
            });
        }
        let probe = rows.clone();
        runtime.block_on(async move { probe.put("probe", round.to_be_bytes()).await }).unwrap();
        runtime.shutdown_background();
        block_on(rows.put("after", round.to_be_bytes())).unwrap();
    }
    assert_eq!(get(&rows, "after"), Some(7u32.to_be_bytes().to_vec()));
    crate::fixture::assert_sound(&db);
}
