//! The I/O crate.
