//! A runtime that is shut down in the middle of an operation, at each of its steps, and handles
//! that are dropped without a close.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use ringdb::{Db, Result};

use crate::fixture::{Place, Watchdog, assert_sound, block_on, family, get, put, say};

type Operation = Pin<Box<dyn Future<Output = Result<()>> + Send>>;
type Begin = fn(Db) -> Operation;

/// Operations by name; each leaves all of its traces or none.
const OPERATIONS: [(&str, Begin); 6] = [
    ("batch", |db| Box::pin(batch(db))),
    ("large value", |db| Box::pin(large_value(db))),
    ("transaction", |db| Box::pin(transaction(db))),
    ("create", |db| Box::pin(async move { db.column_family("new").await.map(drop) })),
    ("checkpoint", |db| Box::pin(async move { db.checkpoint().await })),
    ("close", |db| Box::pin(async move { db.close().await })),
];

async fn batch(db: Db) -> Result<()> {
    let (one, two) = (db.column_family("one").await?, db.column_family("two").await?);
    let mut batch = db.batch();
    for n in 0..50u32 {
        batch.put(&one, n.to_be_bytes(), [1; 500]).put(&two, n.to_be_bytes(), [2; 500]);
    }
    batch.commit().await.map(drop)
}

async fn large_value(db: Db) -> Result<()> {
    let (one, two) = (db.column_family("one").await?, db.column_family("two").await?);
    let mut batch = db.batch();
    batch.put(&one, [1; 4], vec![1; 300_000]).put(&two, [1; 4], vec![2; 100_000]);
    batch.commit().await.map(drop)
}

async fn transaction(db: Db) -> Result<()> {
    let (one, two) = (db.column_family("one").await?, db.column_family("two").await?);
    let tx = db.begin().await?;
    tx.put(&one, "a", "1");
    tx.put(&two, "a", "2");
    tx.commit().await.map(drop)
}

/// How far a task came before its runtime died.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Waiting,
    Finished,
}

/// Polls so often, then waits for ever.
///
/// What it holds is dropped with it, the way to tell last.
async fn only(tell: mpsc::Sender<End>, polls: usize, mut operation: Operation) {
    let mut done = 0;
    poll_fn(|context| {
        if done == polls {
            // The test may be gone already, which is no matter here.
            let _ = tell.send(End::Waiting);
            return Poll::Pending;
        }
        done += 1;
        match operation.as_mut().poll(context) {
            Poll::Ready(outcome) => {
                outcome.expect("nothing is wrong with the disk");
                let _ = tell.send(End::Finished);
                Poll::Ready(())
            }
            Poll::Pending => {
                if done == polls {
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    })
    .await;
}

/// Runs an operation for so many polls, ends its runtime and drops every handle.
fn dies_after(polls: usize, place: &Place, operation: Begin) -> End {
    let db = place.open();
    put(&family(&db, "before"), "a", "1");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
    let runtime = runtime.expect("a runtime can be built");
    let (tell, told) = mpsc::channel();
    runtime.spawn(only(tell, polls, operation(db.clone())));
    let end = told.recv().expect("the task says how far it came");
    runtime.shutdown_timeout(Duration::ZERO);
    drop(db);
    // The runtime does not wait for its worker, which may still be about to drop the task.
    told.iter().for_each(drop);
    end
}

/// All of a batch or nothing of it, and what was there before.
fn check(place: &Place, end: &End, context: &str) {
    let db = place.open();
    assert!(get(&family(&db, "before"), "a").is_some(), "{context}");
    let count = |name| block_on(family(&db, name).len()).expect("the rows are counted");
    let (one, two) = (count("one"), count("two"));
    assert_eq!(one, two, "{context}: half of a batch");
    let writes = ["batch", "large value", "transaction"];
    if *end == End::Finished && writes.iter().any(|name| context.starts_with(name)) {
        assert!(one > 0, "{context}: it was acknowledged");
    }
    assert_sound(&db);
    put(&family(&db, "one"), "after", "1");
}

/// Polls that no operation needs.
const POLLS_MAX: usize = 200;

#[test]
fn a_runtime_that_dies_at_any_step_of_an_operation_hurts_nobody() {
    let watchdog = Watchdog::new("runtime");
    let mut ends = 0;
    for (name, operation) in OPERATIONS {
        let mut finished = false;
        for polls in 0..POLLS_MAX {
            let context = format!("{name}, {polls} polls");
            watchdog.step(&context);
            let place = Place::new();
            let end = dies_after(polls, &place, operation);
            check(&place, &end, &context);
            ends += 1;
            if end == End::Finished {
                finished = true;
                break;
            }
        }
        assert!(finished, "{name} needs more than {POLLS_MAX} polls");
    }
    say(format!("runtime: {ends} shut down in the middle, every batch whole or absent"));
}
