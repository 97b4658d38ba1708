//! The contract of the I/O crate, the same for every backend.
//!
//! Each test runs once per [`place::Place`]: every backend, direct and buffered (which also brings
//! both sync methods). Where the kernel refuses `io_uring` its places are skipped, and say so.

mod block;
mod close;
mod crash;
mod creation;
mod drive;
mod faults;
mod feed;
mod help;
mod lock;
mod order;
mod place;
mod process;
mod queue;
mod refusal;
mod transfer;
