//! Which pages of the file are free: bookkeeping in memory, without I/O.
//!
//! Whether a page *may* be given out is decided above: pages that a snapshot or one of the last two generations still names are
//! simply not given back yet (I6). What is here is free without conditions (I9).

pub(crate) mod free_space;
pub(crate) mod reserve;
pub(crate) mod runs;
