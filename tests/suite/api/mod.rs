//! The public API, one promise a test.

mod backups;
mod checks;
mod durability;
mod families;
mod health;
mod ingests;
mod limits;
mod opening;
mod rows;
mod runtimes;
mod scans;
mod snapshots;
mod updates;
