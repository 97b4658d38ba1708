//! A checkpointer in the test's own hands: what it does in the few moments that no call from outside can choose.

use futures::channel::oneshot;
use ringdb_uring::sim::Disk;

use super::Checkpointer;
use super::flush::Means;
use super::policy::TREES_FILLED_MAX;
use super::shrink::Shrinking;
use crate::blocking::block_on;
use crate::engine::Command;
use crate::options::Options;
use crate::{ColumnFamily, Db};

/// Keeps the checkpointer of a database waiting for as long as it is there.
struct Held(#[expect(dead_code, reason = "dropped, it lets go")] oneshot::Sender<()>);

async fn hold(db: &Db) -> Held {
    let (begin, begun) = oneshot::channel();
    let (end, ended) = oneshot::channel::<()>();
    let wait = async move {
        let _ = begin.send(());
        let _ = ended.await;
    };
    db.engine().command(Command::Between(Box::pin(wait)));
    begun.await.expect("the checkpointer takes commands");
    Held(end)
}

async fn database(disk: &Disk) -> (Db, Held) {
    let db = Options::new().memory_bytes(4 << 20).open_sim(disk).await.unwrap();
    let held = hold(&db).await;
    (db, held)
}

/// Brings a row into a tree of its own.
async fn add_tree(checkpointer: &mut Checkpointer<'_>, family: &ColumnFamily, n: usize) {
    family.put(format!("{n:04}"), "row").await.unwrap();
    let frozen = checkpointer.freeze();
    let attempt = checkpointer.attempt(&frozen, None, Means::Scarce).await;
    checkpointer.conclude(frozen, attempt).await.unwrap();
}

fn trees(family: &ColumnFamily, db: &Db) -> usize {
    db.engine().state().view(family.family().id).map_or(0, |view| view.trees.len())
}

#[test]
fn a_load_makes_room_for_its_tree_by_merging_and_freezes_nothing_meanwhile() {
    block_on(async {
        let (db, _held) = database(&Disk::new()).await;
        let family = db.column_family("a").await.unwrap();
        let mut checkpointer = Checkpointer::new(db.engine());
        for n in 0..TREES_FILLED_MAX - 1 {
            add_tree(&mut checkpointer, &family, n).await;
        }
        // Somebody waits for all trees to be merged, and for the file to be cut off then.
        let (reply, _answer) = oneshot::channel();
        checkpointer.compacting.push(reply);
        checkpointer.shrinking = Shrinking::behind_the_log();
        family.put("more", "row").await.unwrap();
        let checkpoints = db.metrics().checkpoints;
        checkpointer.check_trees(family.family().id).await.unwrap();
        assert!(trees(&family, &db) + 2 <= TREES_FILLED_MAX);
        // What a checkpoint froze and could not write would be passed over by the load's superblock.
        assert_eq!(db.metrics().checkpoints, checkpoints);
    });
}
