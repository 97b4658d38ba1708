//! What is measured: workloads, the backends they run on, and the cases that follow from the
//! arguments. Pure.

use clap::ValueEnum;
use ringdb::{Backend, Grouping, Options};
use serde::{Deserialize, Serialize};

/// A workload; its name is the `workload` of the JSON rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Durable single puts, each writer a thread with its own column family
    DurablePuts,
    /// Durable single puts, all writers in one column family
    DurablePutsOneFamily,
    /// Durable single puts by tokio tasks
    DurablePutsTasks,
    /// Durable single puts, each writer with its own database
    SeparateDatabases,
    /// Durable batches of 1,000 puts
    DurableBatches,
    /// Puts that resolve when ordered and visible
    BufferedPuts,
    /// Puts to families without a log
    UnloggedPuts,
    /// Reads of rows that are in the cache
    PointReads,
    /// Reads of 100 neighbouring rows in the cache
    RangeReads,
    /// Reads of rows of which few fit into the cache, many in flight
    ColdReads,
}

/// Who runs a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// Threads that block.
    Threads,
    /// Tasks on tokio's multi-threaded runtime.
    Tasks,
}

/// What a workload does with the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Durable commits of so many puts each.
    Durable { puts: u32 },
    /// Single puts that are not waited for to be durable, or have no log at all.
    Volatile,
    /// Reads of so many neighbouring rows.
    Read { rows: u32 },
}

/// Tasks share this many families, so that neither one family nor a thousand is what is measured.
const TASK_FAMILIES: u32 = 8;

impl Workload {
    /// Its name.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The numbers of writers (or readers, or tasks) that it is run with.
    pub fn writers(self) -> &'static [u32] {
        match self {
            Workload::DurablePuts => &[1, 2, 4, 8, 16, 64],
            Workload::DurablePutsTasks => &[64, 1024],
            Workload::DurablePutsOneFamily
            | Workload::SeparateDatabases
            | Workload::DurableBatches
            | Workload::BufferedPuts
            | Workload::UnloggedPuts => &[8],
            Workload::PointReads | Workload::RangeReads => &[1],
            Workload::ColdReads => &[64],
        }
    }

    /// Who runs it.
    pub fn runner(self) -> Runner {
        match self {
            Workload::DurablePutsTasks | Workload::ColdReads => Runner::Tasks,
            Workload::DurablePuts
            | Workload::DurablePutsOneFamily
            | Workload::SeparateDatabases
            | Workload::DurableBatches
            | Workload::BufferedPuts
            | Workload::UnloggedPuts
            | Workload::PointReads
            | Workload::RangeReads => Runner::Threads,
        }
    }

    /// What it does.
    pub fn work(self) -> Work {
        match self {
            Workload::DurablePuts
            | Workload::DurablePutsOneFamily
            | Workload::DurablePutsTasks
            | Workload::SeparateDatabases => Work::Durable { puts: 1 },
            Workload::DurableBatches => Work::Durable { puts: 1000 },
            Workload::BufferedPuts | Workload::UnloggedPuts => Work::Volatile,
            Workload::PointReads | Workload::ColdReads => Work::Read { rows: 1 },
            Workload::RangeReads => Work::Read { rows: 100 },
        }
    }

    /// Whether acknowledged writes must outlive a kill, and are verified.
    pub fn is_durable(self) -> bool {
        matches!(self.work(), Work::Durable { .. })
    }

    /// How many databases it uses.
    pub fn databases(self, writers: u32) -> u32 {
        match self {
            Workload::SeparateDatabases => writers,
            _ => 1,
        }
    }

    /// How many column families each of its databases has.
    pub fn families(self, writers: u32) -> u32 {
        match self {
            Workload::DurablePuts
            | Workload::DurableBatches
            | Workload::BufferedPuts
            | Workload::UnloggedPuts => writers,
            Workload::DurablePutsTasks => writers.min(TASK_FAMILIES),
            Workload::DurablePutsOneFamily
            | Workload::SeparateDatabases
            | Workload::PointReads
            | Workload::RangeReads
            | Workload::ColdReads => 1,
        }
    }

    /// Which database and family a writer writes to.
    pub fn home(self, writer: u32, writers: u32) -> Home {
        Home {
            database: writer % self.databases(writers),
            family: match self {
                Workload::SeparateDatabases => 0,
                _ => writer % self.families(writers),
            },
        }
    }

    /// Rows that are there before the first read; about 174 bytes each by default.
    pub fn rows_before(self) -> u64 {
        match self {
            Workload::PointReads | Workload::RangeReads => 100_000,
            Workload::ColdReads => 200_000,
            _ => 0,
        }
    }

    /// Memory of the database while it is measured; `None` for the engine's default.
    pub fn memory_bytes(self) -> Option<usize> {
        match self {
            // A quarter of the rows at most, so that most reads go to the disk.
            Workload::ColdReads => Some(8 << 20),
            _ => None,
        }
    }
}

/// Where a writer writes: indexes of its database and of its family there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Home {
    /// Index of the database.
    pub database: u32,
    /// Index of the family.
    pub family: u32,
}

/// What is measured: the engine on one of its backends; the name is the `backend` of the JSON rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// io_uring
    Uring,
    /// Plain writes, with the same groups and coalescing
    Pwrite,
    /// Plain writes, one write and one sync per commit, as most engines do
    PwritePerCommit,
}

impl Subject {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Subject::Uring => "uring",
            Subject::Pwrite => "pwrite",
            Subject::PwritePerCommit => "pwrite-per-commit",
        }
    }

    /// Its name where there is little room.
    pub fn label(self) -> &'static str {
        match self {
            Subject::Uring | Subject::Pwrite => self.name(),
            Subject::PwritePerCommit => "pwrite/commit",
        }
    }

    /// Options of the engine that make it so.
    pub fn options(self) -> Options {
        let options = Options::new();
        match self {
            Subject::Uring => options.backend(Backend::Uring),
            Subject::Pwrite => options.backend(Backend::Pwrite),
            Subject::PwritePerCommit => {
                options.backend(Backend::Pwrite).grouping(Grouping::PerCommit)
            }
        }
    }

    /// Whether it says anything to run the workload on it.
    pub fn runs(self, workload: Workload) -> bool {
        match self {
            Subject::Uring | Subject::Pwrite => true,
            Subject::PwritePerCommit => workload.is_durable(),
        }
    }
}

/// A workload with a number of writers: its backends are measured side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// What is run.
    pub workload: Workload,
    /// By how many.
    pub writers: u32,
}

impl Case {
    /// Whether the writer and the bare loop take turns on one thread: what one durable write costs depends on the thread that makes
    /// it and on its processor.
    pub fn takes_turns(self) -> bool {
        let is_thread = self.workload.runner() == Runner::Threads;
        self.writers == 1 && is_thread && self.workload.is_durable()
    }
}

/// The cases that the arguments ask for; `writers` empty for each workload's own.
pub fn cases(workloads: &[Workload], writers: &[u32]) -> Vec<Case> {
    let case = |workload: Workload| {
        let counts = if writers.is_empty() { workload.writers() } else { writers };
        counts.iter().map(move |writers| Case { workload, writers: *writers }).collect::<Vec<_>>()
    };
    workloads.iter().copied().flat_map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_has_its_counts_unless_told_otherwise() {
        let workloads = [Workload::DurablePuts, Workload::PointReads];
        let counts = |writers: &[u32]| {
            cases(&workloads, writers).iter().map(|case| case.writers).collect::<Vec<_>>()
        };
        assert_eq!(counts(&[]), [1, 2, 4, 8, 16, 64, 1]);
        assert_eq!(counts(&[3]), [3, 3]);
    }

    #[test]
    fn writers_live_where_the_workload_says() {
        let home = |workload: Workload, writer, writers| {
            let Home { database, family } = workload.home(writer, writers);
            (database, family)
        };
        assert_eq!(home(Workload::DurablePuts, 5, 8), (0, 5));
        assert_eq!(home(Workload::DurablePutsOneFamily, 5, 8), (0, 0));
        assert_eq!(home(Workload::DurablePutsTasks, 13, 64), (0, 5));
        assert_eq!(home(Workload::SeparateDatabases, 5, 8), (5, 0));
    }

    #[test]
    fn one_sync_per_commit_is_measured_only_where_there_are_syncs() {
        assert!(Subject::PwritePerCommit.runs(Workload::SeparateDatabases));
        assert!(!Subject::PwritePerCommit.runs(Workload::BufferedPuts));
        assert!(!Subject::PwritePerCommit.runs(Workload::ColdReads));
        assert!(Subject::Uring.runs(Workload::ColdReads));
    }

    #[test]
    fn a_lone_durable_writer_takes_turns_with_the_bare_loop() {
        let takes_turns = |workload, writers| Case { workload, writers }.takes_turns();
        assert!(takes_turns(Workload::DurablePuts, 1) && takes_turns(Workload::DurableBatches, 1));
        assert!(!takes_turns(Workload::DurablePuts, 2));
        assert!(!takes_turns(Workload::DurablePutsTasks, 1));
        assert!(!takes_turns(Workload::BufferedPuts, 1) && !takes_turns(Workload::PointReads, 1));
    }

    #[test]
    fn names_are_those_of_the_command_line_and_of_json() {
        for workload in Workload::value_variants() {
            assert_eq!(serde_json::to_string(workload).unwrap(), format!("{:?}", workload.name()));
        }
        for subject in Subject::value_variants() {
            assert_eq!(serde_json::to_string(subject).unwrap(), format!("{:?}", subject.name()));
        }
    }
}
