//! Lookups and scans over memtables and trees, newest source first.

pub(crate) mod chunk;
pub(crate) mod lookup;
mod merge;
pub(crate) mod scan;
pub(crate) mod source;
pub(crate) mod span;
