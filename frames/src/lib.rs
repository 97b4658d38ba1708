//! The page cache memory.
