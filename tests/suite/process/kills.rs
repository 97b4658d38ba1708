//! `kill -9` under load, on whatever file system temporary files lie on.

use std::io::BufRead;
use std::path::Path;

use ringdb::{Backend, Options};

use super::spawn;
use crate::counts::{What, count};
use crate::fixture::{Kind, Place, Watchdog, assert_sound, block_on, family, rows_of, say, scale};

fn backend(name: &str) -> Options {
    let backend = match name {
        "uring" => Backend::Uring,
        "pwrite" => Backend::Pwrite,
        _ => Backend::Auto,
    };
    Options::new().backend(backend).memory_bytes(8 << 20).log_bytes_max(1 << 20)
}

/// Writers of the child under load; each awaits one batch before the next.
const WRITERS: u64 = 8;

/// Commits until killed. A line goes out for each commit after it was acknowledged.
pub fn load(path: &Path, argument: &str) {
    let db = block_on(backend(argument).open(path)).expect("the database opens");
    println!("ready");
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let db = &db;
            scope.spawn(move || {
                let one = family(db, &format!("one {writer}"));
                let two = family(db, "two");
                let next = block_on(one.len()).expect("the rows are counted");
                for n in next.. {
                    let mut batch = db.batch();
                    batch.put(&one, n.to_be_bytes(), vec![writer as u8; n as usize % 3000]);
                    batch.put(&two, [writer, n].map(u64::to_be_bytes).concat(), n.to_le_bytes());
                    block_on(batch.commit()).expect("the batch is committed");
                    // A pipe that nobody reads any more ends the child, too.
                    println!("ack {writer} {n}");
                }
            });
        }
    });
}

/// Kills of one database.
const CYCLES: usize = 8;

/// Acknowledgements after which a child is killed, varied by cycle.
fn acknowledgements(cycle: usize) -> usize {
    [1, 40, 400, 1500][cycle % 4]
}

/// Kills whoever writes one database again and again, and counts the kills that it survived.
///
/// # Panics
/// If anything acknowledged is lost.
pub fn kill_again_and_again(kind: Kind, cycles: usize, watchdog: &Watchdog) {
    let (place, name) = (Place::of(kind), name_of(kind));
    let mut promised = [0u64; WRITERS as usize];
    let mut total = 0;
    for cycle in 0..cycles {
        watchdog.step(format!("{name}, cycle {cycle}"));
        total += kill_once(&place, name, acknowledgements(cycle), &mut promised);
        verify(&place.path(), &promised, cycle);
    }
    count(What::Kills, format!("temporary files, {name}"), cycles as u64);
    say(format!("kill -9: {name}, {cycles} cycles, {total} acknowledged commits, all there"));
}

/// The argument by which a child opens with the same backend.
fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Uring => "uring",
        Kind::Pwrite => "pwrite",
        Kind::Auto | Kind::Sim => "auto",
    }
}

/// Kills a child after so many acknowledgements; how many it had told of.
fn kill_once(place: &Place, name: &str, after: usize, promised: &mut [u64]) -> usize {
    let (mut child, mut lines) = spawn("load", &place.path(), name);
    let mut seen = 0;
    let mut line = String::new();
    while lines.read_line(&mut line).expect("the pipe is read") > 0 {
        if let Some((writer, n)) = acknowledged(&line) {
            promised[writer] = promised[writer].max(n + 1);
            seen += 1;
            // What is still in the pipe was acknowledged before the kill.
            if seen == after {
                child.kill().expect("the child is killed");
            }
        }
        line.clear();
    }
    child.wait().expect("the child ends");
    assert!(seen >= after, "the child ended after {seen} acknowledgements");
    seen
}

fn acknowledged(line: &str) -> Option<(usize, u64)> {
    let mut words = line.strip_prefix("ack ")?.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn verify(path: &Path, promised: &[u64], cycle: usize) {
    let db = block_on(backend("").open(path)).expect("the database opens after a kill");
    let two = block_on(rows_of(family(&db, "two").iter())).expect("the rows are read");
    let mut count = 0;
    for (writer, promised) in (0u64..).zip(promised) {
        let one = family(&db, &format!("one {writer}"));
        let rows = block_on(rows_of(one.iter())).expect("the rows are read");
        assert!(rows.len() as u64 >= *promised, "cycle {cycle}: {} of {promised}", rows.len());
        for (n, (key, value)) in (0u64..).zip(&rows) {
            assert_eq!(*key, n.to_be_bytes(), "cycle {cycle}: a hole");
            assert_eq!(*value, vec![writer as u8; n as usize % 3000]);
        }
        let last = rows.len() as u64;
        let key = |n: u64| [writer, n].map(u64::to_be_bytes).concat();
        assert!(last == 0 || two.iter().any(|(found, _)| *found == key(last - 1)));
        count += rows.len();
    }
    assert_eq!(two.len(), count, "cycle {cycle}: half a batch");
    assert_sound(&db);
    block_on(db.close()).expect("the database closes");
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    kill_again_and_again(Kind::Auto, CYCLES * scale(), &Watchdog::new("kill -9"));
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged_on_pwrite() {
    kill_again_and_again(Kind::Pwrite, CYCLES * scale(), &Watchdog::new("kill -9"));
}
