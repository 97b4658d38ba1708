//! Histories of transactions that append to lists: what each read says in which order they ran, and no order may have a cycle.

use std::sync::atomic::{AtomicU64, Ordering};

use ringdb::{ColumnFamily, Db, Durability, ErrorKind};

use crate::fixture::{Fixture, block_on, get, rows_of, say, scale, seed};
use crate::rng::Rng;

/// One committed transaction of a history.
struct Done {
    /// Event numbers of its begin and of the moment after its commit resolved.
    began: u64,
    ended: u64,
    /// Lists that were read: key, what was in it.
    reads: Vec<(usize, Vec<u64>)>,
    /// Keys whose list this transaction put its id at the end of.
    appends: Vec<usize>,
    id: u64,
}

const LISTS: usize = 6;

/// Writers append their id to lists and read others; returns what committed, and the final lists.
fn history(seed: u64) -> (Vec<Done>, Vec<Vec<u64>>) {
    let Fixture { place: _place, db, rows } = Fixture::new();
    let clock = AtomicU64::new(0);
    let ids = AtomicU64::new(1);
    let done = parking_lot::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (db, rows, clock, ids, done) = (&db, &rows, &clock, &ids, &done);
            scope.spawn(move || {
                let mut rng = Rng::new(seed ^ (writer << 32));
                for n in 0..60 {
                    let id = ids.fetch_add(1, Ordering::SeqCst);
                    let one = append(db, rows, clock, id, &mut rng);
                    done.lock().extend(block_on(one));
                    if writer == 0 && n % 20 == 10 {
                        block_on(db.checkpoint()).unwrap();
                    }
                }
            });
        }
    });
    let lists = (0..LISTS).map(|key| list(get(&rows, key_of(key)))).collect();
    (done.into_inner(), lists)
}

fn key_of(list: usize) -> String {
    format!("list {list}")
}

fn list(bytes: Option<Vec<u8>>) -> Vec<u64> {
    let bytes = bytes.unwrap_or_default();
    bytes.chunks(8).map(|id| u64::from_le_bytes(id.try_into().expect("ids are whole"))).collect()
}

/// One attempt at one transaction; nothing if it met a conflict.
async fn append(
    db: &Db,
    rows: &ColumnFamily,
    clock: &AtomicU64,
    id: u64,
    rng: &mut Rng,
) -> Option<Done> {
    let began = clock.fetch_add(1, Ordering::SeqCst);
    let tx = db.begin().await.unwrap();
    let (mut reads, mut appends) = (Vec::new(), Vec::new());
    if rng.one_in(4) {
        // By a scan, so that range validation is part of the history.
        let scanned = rows_of(tx.range(rows, "list".."list~")).await.unwrap();
        for key in 0..LISTS {
            let found = scanned.iter().find(|(name, _)| *name == key_of(key).into_bytes());
            reads.push((key, list(found.map(|(_, value)| value.clone()))));
        }
    }
    for _ in 0..1 + rng.below(3) {
        let key = rng.below(LISTS);
        if appends.contains(&key) {
            continue;
        }
        let found = tx.get(rows, key_of(key)).await.unwrap().map(|value| value.to_vec());
        let mut ids = list(found);
        reads.push((key, ids.clone()));
        if rng.one_in(2) {
            ids.push(id);
            let value: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            tx.put(rows, key_of(key), value);
            appends.push(key);
        }
    }
    if rng.one_in(2) {
        tx.durability(Durability::Buffered);
    }
    match tx.commit().await {
        Ok(_) => {
            let ended = clock.fetch_add(1, Ordering::SeqCst);
            Some(Done { began, ended, reads, appends, id })
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
            None
        }
    }
}

/// Which transaction must come before which: a list of successors for each.
fn order(done: &[Done], lists: &[Vec<u64>]) -> Vec<Vec<usize>> {
    let index = |id: u64| done.iter().position(|tx| tx.id == id).expect("only commits are seen");
    let mut after = vec![Vec::new(); done.len()];
    for ids in lists {
        for pair in ids.windows(2) {
            after[index(pair[0])].push(index(pair[1]));
        }
    }
    for (reader, tx) in done.iter().enumerate() {
        for (key, seen) in &tx.reads {
            assert!(lists[*key].starts_with(seen), "{seen:?} was never in list {key}");
            if let Some(writer) = seen.last() {
                after[index(*writer)].push(reader);
            }
            let next = lists[*key].get(seen.len()).map(|id| index(*id));
            after[reader].extend(next.filter(|next| *next != reader));
        }
    }
    for (first, one) in done.iter().enumerate() {
        let later = done.iter().enumerate().filter(|(_, other)| one.ended < other.began);
        after[first].extend(later.map(|(second, _)| second));
    }
    after
}

/// The transactions that lie on cycles: what is left when sources are taken away again and again.
fn cycle(after: &[Vec<usize>]) -> Vec<usize> {
    let mut before = vec![0usize; after.len()];
    after.iter().flatten().for_each(|successor| before[*successor] += 1);
    let mut ready: Vec<_> = (0..after.len()).filter(|tx| before[*tx] == 0).collect();
    while let Some(tx) = ready.pop() {
        for successor in &after[tx] {
            before[*successor] -= 1;
            if before[*successor] == 0 {
                ready.push(*successor);
            }
        }
    }
    (0..after.len()).filter(|tx| before[*tx] > 0).collect()
}

#[test]
fn the_cycle_checker_finds_a_cycle_and_only_a_cycle() {
    assert_eq!(cycle(&[vec![1], vec![2], vec![]]), [0usize; 0]);
    assert_eq!(cycle(&[vec![1], vec![2], vec![1], vec![]]), [1, 2]);
}

#[test]
fn histories_of_appends_are_strictly_serializable() {
    let first = seed("histories of appends", 1);
    for round in 0..3 * scale() as u64 {
        let seed = first.wrapping_add(round);
        let (done, lists) = history(seed);
        let appended: usize = done.iter().map(|tx| tx.appends.len()).sum();
        assert_eq!(appended, lists.iter().map(Vec::len).sum::<usize>(), "seed {seed}");
        let cycle = cycle(&order(&done, &lists));
        assert!(cycle.is_empty(), "seed {seed}: a cycle among {cycle:?}");
        say(format!(
            "histories of appends: seed {seed}: {} committed, {appended} appends, no cycle",
            done.len()
        ));
        assert!(done.len() > 20, "seed {seed}: hardly anything commits");
    }
}
