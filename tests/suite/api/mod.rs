//! The public API, one promise a test.

mod durability;
mod families;
mod limits;
mod opening;
mod rows;
mod runtimes;
mod scans;
mod snapshots;
mod updates;
