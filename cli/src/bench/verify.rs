//! After the kill: is every acknowledged write there, with the right value, and nothing that was
//! never written?
//!
//! One scan tells all, because a row names its writer and its counter (`key`). Beyond what was
//! acknowledged a writer may have at most the commit that was under way, whole or not at all. A
//! sample is read by `get` as well, and `check` must find nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use ringdb::{ColumnFamily, Db, ErrorKind, block_on};

use super::key::Origin;
use super::plan::{Home, Work};
use super::protocol::{Spec, family_name};
use crate::exit::Failure;

/// A killed process holds the lock until the kernel has finished its I/O.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(20);
const LOCK_WAIT_STEP: Duration = Duration::from_millis(5);
/// Rows of each writer that are read by `get` too.
const SAMPLE: u64 = 16;

/// Rows found, per writer: which, in a bit set.
struct Found {
    bits: Vec<u64>,
    beyond: u64,
}

/// Opens the databases of a killed child and verifies every row of `acknowledged`; how many rows
/// that were.
pub fn verify(spec: &Spec, acknowledged: &[u64]) -> Result<u64, Failure> {
    let Work::Durable { puts } = spec.workload.work() else { return Ok(0) };
    let mut found: Vec<Found> = acknowledged
        .iter()
        .map(|rows| Found { bits: vec![0; rows.div_ceil(64) as usize], beyond: 0 })
        .collect();
    for index in 0..spec.workload.databases(spec.writers) {
        let db = reopen(spec, &spec.database(index))?;
        let verified = verify_database(spec, index, &db, acknowledged, &mut found);
        let closed = block_on(db.close()).map_err(Failure::from);
        verified.and(closed)?;
    }
    for (writer, (found, rows)) in found.iter().zip(acknowledged).enumerate() {
        found.agree(writer, *rows, u64::from(puts)).map_err(Failure::Defects)?;
    }
    Ok(acknowledged.iter().sum())
}

fn reopen(spec: &Spec, path: &Path) -> Result<Db, Failure> {
    let start = Instant::now();
    loop {
        match block_on(spec.subject.options().create(ringdb::Create::Never).open(path)) {
            Err(error) if error.kind() == ErrorKind::Locked && start.elapsed() < LOCK_WAIT_MAX => {
                std::thread::sleep(LOCK_WAIT_STEP);
            }
            Err(error) => {
                return Err(Failure::Defects(format!("does not open after the kill: {error:?}")));
            }
            Ok(db) => return Ok(db),
        }
    }
}

fn verify_database(
    spec: &Spec,
    database: u32,
    db: &Db,
    acknowledged: &[u64],
    found: &mut [Found],
) -> Result<(), Failure> {
    for index in 0..spec.workload.families(spec.writers) {
        let family = block_on(db.existing_column_family(family_name(index)))
            .map_err(|error| Failure::Defects(format!("{}: {error:?}", family_name(index))))?;
        let home = Home { database, family: index };
        block_on(scan(spec, home, &family, acknowledged, found))?;
        block_on(sample(spec, home, &family, acknowledged))?;
    }
    let report = block_on(db.check())?;
    match report.defects.first() {
        None => Ok(()),
        Some(first) => {
            let count = report.defects.len();
            Err(Failure::Defects(format!("check found {count} defects, the first: {first:?}")))
        }
    }
}

async fn scan(
    spec: &Spec,
    home: Home,
    family: &ColumnFamily,
    acknowledged: &[u64],
    found: &mut [Found],
) -> Result<(), Failure> {
    let wrong = |what: &str, key: &[u8]| {
        Failure::Defects(format!("{}: {what}: {}", family_name(home.family), key.escape_ascii()))
    };
    let mut expected = Vec::new();
    let mut rows = family.iter();
    while let Some((key, value)) = rows.try_next().await? {
        let origin = Origin::of(&key).filter(|origin| origin.writer < spec.writers);
        let origin = origin.ok_or_else(|| wrong("a key that nobody wrote", &key))?;
        if spec.workload.home(origin.writer, spec.writers) != home {
            return Err(wrong("a row of another family", &key));
        }
        origin.value(spec.value_bytes, &mut expected);
        if *value != *expected {
            return Err(wrong("another value than was written", &key));
        }
        let writer = origin.writer as usize;
        found[writer].add(origin.counter, acknowledged[writer]);
    }
    Ok(())
}

async fn sample(
    spec: &Spec,
    home: Home,
    family: &ColumnFamily,
    acknowledged: &[u64],
) -> Result<(), Failure> {
    let mut expected = Vec::new();
    for (writer, rows) in (0..spec.writers).zip(acknowledged) {
        if spec.workload.home(writer, spec.writers) != home {
            continue;
        }
        let step = rows.div_ceil(SAMPLE).max(1);
        for counter in (0..*rows).rev().step_by(step as usize) {
            let origin = Origin { writer, counter };
            origin.value(spec.value_bytes, &mut expected);
            let value = family.get(origin.key()).await?;
            if value.as_deref() != Some(&*expected) {
                return Err(Failure::Defects(format!("get does not find {origin:?}")));
            }
        }
    }
    Ok(())
}

impl Found {
    fn add(&mut self, counter: u64, acknowledged: u64) {
        if counter < acknowledged {
            self.bits[(counter / 64) as usize] |= 1 << (counter % 64);
        } else {
            self.beyond += 1;
        }
    }

    /// Everything acknowledged, and beyond that one commit of `puts` rows or none.
    fn agree(&self, writer: usize, acknowledged: u64, puts: u64) -> Result<(), String> {
        let there: u64 = self.bits.iter().map(|word| u64::from(word.count_ones())).sum();
        if there != acknowledged {
            let missing = acknowledged - there;
            let message =
                format!("writer {writer}: {missing} of {acknowledged} acknowledged rows are lost");
            return Err(message);
        }
        if self.beyond != 0 && self.beyond != puts {
            let beyond = self.beyond;
            let message = format!(
                "writer {writer}: {beyond} rows beyond the acknowledged, not one commit of {puts}"
            );
            return Err(message);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(counters: &[u64], acknowledged: u64, puts: u64) -> Result<(), String> {
        let mut found = Found { bits: vec![0; 4], beyond: 0 };
        counters.iter().for_each(|counter| found.add(*counter, acknowledged));
        found.agree(0, acknowledged, puts)
    }

    #[test]
    fn all_acknowledged_rows_agree_with_or_without_the_commit_under_way() {
        assert_eq!(check(&[0, 1, 2], 3, 1), Ok(()));
        assert_eq!(check(&[0, 1, 2, 3], 3, 1), Ok(()));
        assert_eq!(check(&[], 0, 1), Ok(()));
        assert_eq!(check(&[0, 1, 2, 3], 2, 2), Ok(()));
    }

    #[test]
    fn lost_rows_are_seen() {
        assert!(check(&[0, 2], 3, 1).is_err());
        assert!(check(&[0, 1, 3], 3, 1).is_err());
    }

    #[test]
    fn rows_of_a_torn_batch_or_of_two_commits_are_seen() {
        assert!(check(&[0, 1, 2, 3, 4], 3, 1).is_err());
        assert!(check(&[0, 1, 2], 2, 2).is_err());
    }
}
