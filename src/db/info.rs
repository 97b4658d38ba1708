//! What a database tells of itself.

use std::sync::atomic::Ordering;

use ringdb_uring::SyncMethod;

use crate::db::Db;
use crate::format::catalog::Logging;
use crate::ids::PAGE_BYTES;
use crate::report::RecoveryReport;
use crate::state::FamilyView;

pub use crate::report::{CheckProgress, CheckReport, Defect};
pub use ringdb_uring::BackendKind;

/// How the file is read and written, and why so.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackendReport {
    /// The backend in use.
    pub kind: BackendKind,
    /// Why this one; for `pwrite`, why not the other.
    pub reason: String,
    /// Whether the kernel's page cache is passed by.
    pub direct: bool,
    /// Why, or why not.
    pub direct_reason: String,
    /// How a write is made durable.
    pub sync_method: String,
    /// Kernel features in use, in words.
    pub kernel: String,
}

/// Sizes and counts of an open database.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stat {
    /// Every family, ascending by name.
    pub families: Vec<FamilyStat>,
    /// Length of the file.
    pub file_bytes: u64,
    /// Log that a recovery would look through.
    pub log_bytes: u64,
    /// Free pages of the file.
    pub free_bytes: u64,
    /// Pages that trees name, and the catalog and free map.
    pub tree_bytes: u64,
    /// The newest superblock.
    pub generation: u64,
    /// Which opening of the database this is.
    pub incarnation: u64,
}

/// Sizes and counts of one family.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FamilyStat {
    /// Its name.
    pub name: String,
    /// Whether its commits are in the log.
    pub logged: bool,
    /// Rows in its trees and versions in memory.
    pub approximate_rows: u64,
    /// Pages of its trees, of its large values and of its filters.
    pub tree_bytes: u64,
    /// Of these, pages of filters.
    pub filter_bytes: u64,
    /// Memory of its memtables.
    pub memtable_bytes: u64,
    /// How many trees it has.
    pub trees: u32,
    /// Levels of the highest, zero if there is none.
    pub height: u32,
}

/// Counters since open, and sizes as they are now.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Commits ordered.
    pub commits: u64,
    /// Log groups written, seals of an idle log among them.
    pub groups: u64,
    /// Syncs, durable writes among them.
    pub syncs: u64,
    /// System calls of the I/O crate for I/O, waiting and waking; turns that threads give away are not counted.
    pub syscalls: u64,
    /// Bytes of log groups and other durable writes.
    pub log_bytes: u64,
    /// Bytes of pages written.
    pub page_bytes: u64,
    /// Reads of the file.
    pub page_reads: u64,
    /// Bytes read from the file.
    pub read_bytes: u64,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Bytes in the page cache.
    pub cache_bytes: u64,
    /// Memory charged for memtables.
    pub memtable_bytes: u64,
    /// Transactions that met a conflict.
    pub conflicts: u64,
    /// Bytes of pages written to bring memtables into trees.
    pub flush_bytes: u64,
    /// Bytes of pages written to make one tree of several.
    pub merge_bytes: u64,
    /// Memory of the filters in front of trees.
    pub filter_bytes: u64,
}

impl Db {
    /// How the file is read and written, and why so.
    pub fn backend(&self) -> BackendReport {
        let report = self.engine().io.report();
        let method = match report.sync_method {
            SyncMethod::DsyncWrite => "one write with RWF_DSYNC",
            SyncMethod::WriteThenSync => "a write, then fdatasync",
            SyncMethod::WriteThenFullSync => "a write, then F_FULLFSYNC",
        };
        BackendReport {
            kind: report.backend,
            reason: report.reason,
            direct: report.direct,
            direct_reason: report.direct_reason,
            sync_method: format!("{method} ({})", report.sync_reason),
            kernel: report.kernel,
        }
    }

    /// Sizes and counts.
    pub fn stat(&self) -> Stat {
        let engine = self.engine();
        let state = engine.state();
        let shown = state.families.iter().filter(|view| view.family.dropped().is_none());
        let mut families: Vec<FamilyStat> = shown.map(|view| family_stat(view)).collect();
        families.sort_by(|left, right| left.name.cmp(&right.name));
        let log_bytes = engine.pipeline.order().log.used_bytes();
        let occupancy = engine.space.lock().occupancy();
        let superblock = engine.superblock.lock();
        let bytes = |pages: u64| pages * PAGE_BYTES as u64;
        Stat {
            families,
            file_bytes: engine.io.len_bytes(),
            log_bytes,
            free_bytes: bytes(occupancy.free),
            tree_bytes: bytes(occupancy.file - occupancy.unnamed),
            generation: superblock.generation.0,
            incarnation: superblock.incarnation.0,
        }
    }

    /// Counters since open, and sizes as they are now.
    pub fn metrics(&self) -> Metrics {
        let engine = self.engine();
        let (io, cache) = (engine.io.stats(), engine.pages.stats());
        let (groups, commits) = engine.pipeline.counts();
        let memory = {
            let order = engine.pipeline.order();
            order.memory.active + order.memory.frozen
        };
        Metrics {
            commits,
            groups,
            syncs: io.syncs + io.durable_writes,
            syscalls: io.syscalls,
            log_bytes: io.durable_bytes,
            page_bytes: io.write_bytes,
            page_reads: io.reads,
            read_bytes: io.read_bytes,
            checkpoints: engine.checkpoints.load(Ordering::Relaxed),
            cache_bytes: cache.bytes as u64,
            memtable_bytes: memory as u64,
            conflicts: engine.conflicts.load(Ordering::Relaxed),
            flush_bytes: engine.flush_bytes.load(Ordering::Relaxed),
            merge_bytes: engine.merge_bytes.load(Ordering::Relaxed),
            filter_bytes: engine.filters.bytes() as u64,
        }
    }

    /// What opening found in the log.
    pub fn recovery(&self) -> RecoveryReport {
        self.engine().recovery.get().cloned().unwrap_or_default()
    }
}

fn family_stat(view: &FamilyView) -> FamilyStat {
    let pages = view.trees.iter().map(|tree| tree.pages()).sum::<u64>();
    let memtable = view.memtables.iter().map(|memtable| memtable.table.bytes()).sum::<usize>();
    let height = view.trees.iter().map(|tree| u32::from(tree.root.height) + 1).max();
    FamilyStat {
        name: view.family.name().to_string(),
        logged: view.family.logging == Logging::Logged,
        approximate_rows: view.approximate_rows(),
        tree_bytes: pages.saturating_mul(PAGE_BYTES as u64),
        filter_bytes: view.trees.iter().map(|tree| tree.kept.blob.extent.len_bytes()).sum(),
        memtable_bytes: memtable as u64,
        trees: view.trees.len() as u32,
        height: height.unwrap_or(0),
    }
}
