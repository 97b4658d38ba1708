//! Lookups and scans over memtables and trees, newest source first.

pub(crate) mod chunk;
pub(crate) mod lookup;
pub(crate) mod scan;
pub(crate) mod source;
pub(crate) mod span;
