//! The oracle of RELIABILITY.md: what may be found on a disk after power loss, and what must be.
//!
//! A run in commit order has as many legal outcomes as it has prefixes. The marks in the trace say
//! how long the prefix must be at least. So the oracle replays every prefix once, and looks up what
//! it finds: anything that is no prefix (a hole, half a batch, a row that came back) is not there.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ringdb::sim::Disk;
use ringdb::{Create, Defect, Error, Options};

use crate::fixture::block_on;
use crate::state::{Change, Rows, State};
use crate::workload::{CREATED, UNLOGGED, UNLOGGED_FAMILY, options};

/// Where a life of the database begins, and where one ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// Whether the database file is known to exist.
    pub exists: bool,
    /// The logged families. The unlogged one is among them, without its rows.
    pub logged: State,
    /// The rows of the unlogged one.
    pub unlogged: Rows,
}

impl Base {
    /// What a database shows.
    pub fn of(mut shown: State) -> Base {
        let unlogged = shown.0.get_mut(UNLOGGED_FAMILY).map(std::mem::take).unwrap_or_default();
        Base { exists: true, logged: shown, unlogged }
    }
}

/// What was promised before some point of the trace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Floor {
    created: bool,
    logged: usize,
    unlogged: usize,
}

impl Floor {
    /// Whether the database must be there.
    pub fn is_created(self) -> bool {
        self.created
    }
}

/// How much of a life was found after it.
#[derive(Clone, Copy, Debug)]
pub struct Prefix {
    logged: usize,
    unlogged: usize,
}

impl Prefix {
    /// The floor of those who have seen it.
    pub fn floor(self) -> Floor {
        Floor { created: true, logged: self.logged, unlogged: self.unlogged }
    }

    /// Whether it holds all that was promised.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn reaches(self, floor: Floor) -> Result<(), String> {
        if self.logged < floor.logged {
            let (found, promised) = (self.logged, floor.logged);
            return Err(format!("only {found} entries of {promised} promised ones are there"));
        }
        match self.unlogged >= floor.unlogged {
            true => Ok(()),
            false => {
                Err(format!("unlogged: {} entries, {} promised", self.unlogged, floor.unlogged))
            }
        }
    }
}

/// One recorded life of a database: every state that may be found after it, in order.
pub struct Recorded {
    pub disk: Disk,
    /// The last point of the trace at which power may be lost; the first is 0.
    pub points: usize,
    exists: bool,
    logged: Vec<State>,
    logged_by_digest: HashMap<u64, usize>,
    unlogged: Vec<Rows>,
}

impl Recorded {
    /// Replays what was submitted on top of where the life began.
    pub fn new(disk: Disk, base: &Base, entries: &[Vec<Change>], unlogged: &[Change]) -> Recorded {
        let mut states = vec![base.logged.clone()];
        for changes in entries {
            let mut state = states.last().expect("the base is there").clone();
            changes.iter().for_each(|change| state.apply(change));
            states.push(state);
        }
        let mut rows = vec![base.unlogged.clone()];
        for change in unlogged {
            let Change::Put { key, value, .. } = change else {
                unreachable!("scripts only put into the unlogged family")
            };
            let mut next = rows.last().expect("the base is there").clone();
            next.insert(key.clone(), value.clone());
            rows.push(next);
        }
        // Of equal states the last one counts: it satisfies the highest floor.
        let logged_by_digest = states.iter().map(State::digest).zip(0..).collect();
        let points = disk.crash_points().saturating_sub(1);
        Recorded {
            disk,
            points,
            exists: base.exists,
            logged: states,
            logged_by_digest,
            unlogged: rows,
        }
    }

    /// What must be found after a clean close.
    pub fn last(&self) -> Base {
        let logged = self.logged.last().expect("the base is there").clone();
        let unlogged = self.unlogged.last().expect("the base is there").clone();
        Base { exists: true, logged, unlogged }
    }

    /// What was promised before each point.
    pub fn floors(&self) -> Vec<Floor> {
        (0..=self.points).map(|point| self.floor(point)).collect()
    }

    /// What was promised before a point.
    pub fn floor(&self, point: usize) -> Floor {
        let mut floor = Floor { created: self.exists, ..Floor::default() };
        for mark in self.disk.marks(point) {
            match mark {
                CREATED => floor.created = true,
                mark if mark >= UNLOGGED => {
                    floor.unlogged = floor.unlogged.max((mark - UNLOGGED) as usize);
                }
                mark => floor.logged = floor.logged.max(mark as usize),
            }
        }
        floor
    }

    /// Opens a disk as power loss left it and asks the oracle; the answer is what was found there.
    ///
    /// # Errors
    /// What is wrong, in words. A panic counts as wrong.
    pub fn verify(&self, disk: &Disk, floor: Floor) -> Result<Base, String> {
        let (found, prefix) = self.recover(disk, floor, Ending::Closed)?;
        prefix.reaches(floor)?;
        Ok(found)
    }

    /// As [`Recorded::verify`], but whether the prefix is long enough is left to the caller, who
    /// may have several floors for the same bytes.
    ///
    /// # Errors
    /// What is wrong, in words. A panic counts as wrong.
    pub fn recover(
        &self,
        disk: &Disk,
        floor: Floor,
        ending: Ending,
    ) -> Result<(Base, Prefix), String> {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let create = if floor.created { Create::Never } else { Create::IfMissing };
            let found = read(disk, options().create(create), ending);
            let found = found.map_err(|unread| unread.to_string())?;
            let prefix = self.prefix(&found, floor)?;
            Ok((found, prefix))
        }));
        outcome.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            Err(format!("panicked: {}", text.unwrap_or_default()))
        })
    }

    /// Whether what was found is a prefix that is long enough.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn judge(&self, found: &Base, floor: Floor) -> Result<(), String> {
        self.prefix(found, floor)?.reaches(floor)
    }

    /// Which prefix was found.
    ///
    /// # Errors
    /// It is none: how it differs from the nearest.
    pub fn prefix(&self, found: &Base, floor: Floor) -> Result<Prefix, String> {
        let logged = self.logged_by_digest.get(&found.logged.digest()).copied();
        let Some(logged) = logged.filter(|prefix| self.logged[*prefix] == found.logged) else {
            return Err(self.no_prefix(&found.logged, floor));
        };
        match self.unlogged.iter().rposition(|rows| *rows == found.unlogged) {
            Some(unlogged) => Ok(Prefix { logged, unlogged }),
            None => Err(format!("unlogged: {} rows are no prefix", found.unlogged.len())),
        }
    }

    /// Says how far what was found is from the nearest legal states.
    fn no_prefix(&self, found: &State, floor: Floor) -> String {
        let last = self.logged.len() - 1;
        let nearest =
            (floor.logged..=last).min_by_key(|n| found.difference(&self.logged[*n]).len());
        let nearest = nearest.unwrap_or(last);
        let difference = found.difference(&self.logged[nearest]);
        format!("no prefix (floor {}, nearest {nearest} of {last}):\n{difference}", floor.logged)
    }
}

/// Why a database could not be read whole.
pub enum Unread {
    /// A call failed.
    Failed(&'static str, Error),
    /// `check` listed defects.
    Listed(Vec<Defect>),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unread::Failed(call, error) => write!(f, "{call}: {error:?}"),
            Unread::Listed(defects) => write!(f, "check: {defects:?}"),
        }
    }
}

/// What is done with a database that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A checkpoint and a clean end, which may fail on what reading did not meet.
    Closed,
    /// The handle is dropped, which costs half as much.
    LetGo,
}

/// Opens, reads everything, checks, and ends it.
pub fn read(disk: &Disk, options: Options, ending: Ending) -> Result<Base, Unread> {
    let failed = |call| move |error| Unread::Failed(call, error);
    let db = block_on(options.open_sim(disk)).map_err(failed("open"))?;
    let found = Base::of(block_on(State::read(&db)).map_err(failed("read"))?);
    let report = block_on(db.check()).map_err(failed("check"))?;
    if !report.defects.is_empty() {
        return Err(Unread::Listed(report.defects));
    }
    if ending == Ending::Closed {
        block_on(db.close()).map_err(failed("close"))?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn put(family: &str, key: &str, value: &str) -> Change {
        let [key, value] = [key, value].map(|text| Bytes::copy_from_slice(text.as_bytes()));
        Change::Put { family: family.into(), key, value }
    }

    fn create(family: &str) -> Change {
        Change::Create { family: family.into() }
    }

    /// Five entries: two families, a row, a batch over both, a deletion.
    fn recorded() -> Recorded {
        let delete = Change::Delete { family: "a".into(), key: Bytes::from_static(b"k") };
        let batch = vec![put("a", "m", "2"), put("b", "m", "2")];
        let entries =
            [vec![create("a")], vec![create("b")], vec![put("a", "k", "1")], batch, vec![delete]];
        let unlogged = [put(UNLOGGED_FAMILY, "u", "1"), put(UNLOGGED_FAMILY, "u", "2")];
        Recorded::new(Disk::new(), &Base::default(), &entries, &unlogged)
    }

    fn found(changes: &[Change]) -> Base {
        let mut found = Base::default();
        changes.iter().for_each(|change| found.logged.apply(change));
        found
    }

    #[track_caller]
    fn check(changes: &[Change], logged_floor: usize, expected: Result<(), &str>) {
        let floor = Floor { created: true, logged: logged_floor, unlogged: 0 };
        let verdict = recorded().judge(&found(changes), floor);
        match (&verdict, expected) {
            (Ok(()), Ok(())) => {}
            (Err(wrong), Err(part)) if wrong.contains(part) => {}
            _ => panic!("{verdict:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn every_prefix_from_the_floor_on_is_legal() {
        check(&[], 0, Ok(()));
        check(&[create("a"), create("b"), put("a", "k", "1")], 3, Ok(()));
        check(&[create("a"), create("b"), put("a", "m", "2"), put("b", "m", "2")], 5, Ok(()));
    }

    #[test]
    fn a_lost_promise_is_wrong() {
        check(&[create("a"), create("b")], 3, Err("only 2 entries of 3 promised"));
        check(&[], 1, Err("only 0 entries of 1 promised"));
    }

    #[test]
    fn a_hole_half_a_batch_and_a_row_that_came_back_are_wrong() {
        let hole = [create("a"), create("b"), put("a", "k", "1"), put("b", "m", "2")];
        check(&hole, 0, Err("no prefix"));
        let half = [create("a"), create("b"), put("a", "m", "2")];
        check(&half, 0, Err("no prefix"));
        let stranger = [create("a"), create("b"), put("a", "k", "0")];
        check(&stranger, 0, Err("no prefix"));
        check(&[create("b")], 0, Err("no prefix"));
    }

    #[test]
    fn an_unlogged_family_may_not_fall_behind_its_checkpoint() {
        let recorded = recorded();
        let floor = Floor { created: true, logged: 0, unlogged: 2 };
        let mut found = Base::default();
        assert!(recorded.judge(&found, floor).is_err());
        found.unlogged.insert(Bytes::from_static(b"u"), Bytes::from_static(b"1"));
        assert!(recorded.judge(&found, floor).is_err());
        found.unlogged.insert(Bytes::from_static(b"u"), Bytes::from_static(b"2"));
        assert_eq!(recorded.judge(&found, floor), Ok(()));
    }
}
