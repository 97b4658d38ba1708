//! What was promised to the writers so far, and whether the database keeps it.

use std::path::Path;

use super::Way;
use super::load::{self, BUFFERED, KEPT, WAITING, WRITERS, key_of_two, name_of};
use crate::fixture::{assert_sound, block_on, family};

/// How the check leaves the database.
#[derive(Clone, Copy, Debug)]
pub enum Leave {
    Closed,
    Dropped,
}

/// Everything known of one database over all its lives.
#[derive(Default)]
pub struct Story {
    /// Commits of each writer that must be there.
    promised: [u64; WRITERS as usize],
    /// Commits of each writer that were there after each life.
    lives: Vec<[u64; WRITERS as usize]>,
    /// The latest acknowledged place in the order in this life.
    acknowledged: u64,
    /// Places of the buffered writer's commits in this life.
    ordered: Vec<(u64, u64)>,
    /// Acknowledgements in all lives.
    pub acknowledgements: u64,
}

impl Story {
    /// The life that is going on or comes next.
    pub fn life(&self) -> u64 {
        self.lives.len() as u64
    }

    /// Takes in a line of a child. True if it was an acknowledgement.
    pub fn hear(&mut self, line: &str) -> bool {
        let mut words = line.split_whitespace();
        let kind = words.next();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        match kind {
            Some("ack") => {
                let numbers = (number(), number(), number());
                // A killed child's last line may be cut short.
                let (Some(writer), Some(n), Some(seq)) = numbers else { return false };
                if !line.ends_with('\n') {
                    return false;
                }
                let promised = &mut self.promised[writer as usize];
                *promised = (*promised).max(n + 1);
                self.acknowledged = self.acknowledged.max(seq);
                self.acknowledgements += 1;
                true
            }
            Some("ordered") if line.ends_with('\n') => {
                self.ordered.extend(number().zip(number()));
                false
            }
            _ => false,
        }
    }

    /// Opens, compares every family with what it must hold, and ends this life.
    pub fn verify(&mut self, path: &Path, way: Way, leave: Leave) {
        let db = block_on(way.options().open(path)).expect("the database opens after the cut");
        let heads = family(&db, "heads");
        let there: Vec<u64> = (0..WRITERS).map(|writer| load::head(&heads, writer)).collect();
        let there: [u64; WRITERS as usize] = there.try_into().expect("one for each writer");
        self.check_promises(&there);
        self.lives.push(there);
        for writer in 0..WRITERS {
            self.check_own_family(&load::rows_of(&db, &name_of(writer)), writer);
        }
        self.check_two(&load::rows_of(&db, "two"));
        assert_sound(&db);
        // What was seen after reopening is durable.
        self.promised = there;
        (self.acknowledged, self.ordered) = (0, Vec::new());
        if let Leave::Closed = leave {
            block_on(db.close()).expect("the database closes");
        }
    }

    /// Acknowledged commits are there, and whatever is there is a prefix of the order.
    fn check_promises(&self, there: &[u64; WRITERS as usize]) {
        let life = self.life();
        for (writer, (there, promised)) in there.iter().zip(&self.promised).enumerate() {
            assert!(there >= promised, "life {life}, writer {writer}: {there} of {promised}");
            let waits = (writer as u64) < WAITING;
            let possible = !waits || *there <= promised + 1;
            assert!(possible, "life {life}, writer {writer}: {there}, acknowledged {promised}");
        }
        let lost =
            |(n, seq): &&(u64, u64)| *seq < self.acknowledged && *n >= there[BUFFERED as usize];
        let hole = self.ordered.iter().find(lost);
        let acknowledged = self.acknowledged;
        assert!(hole.is_none(), "life {life}: {hole:?} is lost, {acknowledged} was acknowledged");
    }

    /// The life that wrote row `n`: the first after which it was there.
    fn life_of(&self, writer: u64, n: u64) -> u64 {
        let life = self.lives.iter().position(|there| there[writer as usize] > n);
        life.expect("the row is there now") as u64
    }

    fn last(&self, writer: u64) -> u64 {
        self.lives.last().expect("a life has just ended")[writer as usize]
    }

    fn check_own_family(&self, rows: &[(Vec<u8>, Vec<u8>)], writer: u64) {
        let last = self.last(writer);
        let kept = last.saturating_sub(KEPT)..last;
        assert_eq!(rows.len() as u64, kept.end - kept.start, "writer {writer}: {kept:?}");
        for (n, (key, value)) in kept.zip(rows) {
            assert_eq!(*key, n.to_be_bytes(), "writer {writer}");
            let expected = load::value(writer, n, self.life_of(writer, n));
            assert!(*value == expected, "writer {writer}, row {n}: another value");
        }
    }

    fn check_two(&self, rows: &[(Vec<u8>, Vec<u8>)]) {
        let mut rows = rows.iter();
        for (writer, n) in (0..WRITERS).flat_map(|w| (0..self.last(w)).map(move |n| (w, n))) {
            let (key, value) = rows.next().expect("half of a batch is missing");
            assert_eq!(*key, key_of_two(writer, n), "half of a batch is missing");
            assert_eq!(*value, self.life_of(writer, n).to_be_bytes(), "writer {writer}, row {n}");
        }
        assert!(rows.next().is_none(), "half of a batch that was rolled back");
    }
}
