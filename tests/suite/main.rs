//! The integration suite: one binary, one module for each subject, test names that are facts.
//!
//! It runs on the backend that `RINGDB_TEST_BACKEND` names (`uring`, `pwrite`, `sim`; unset means
//! `Backend::Auto`), and as long as `RINGDB_TEST_SCALE` says (1 by default: every random test
//! multiplies its rounds by it). Random tests print their seed; `RINGDB_TEST_SEED` sets it.
//!
//! Nothing here sleeps or asserts on a clock. Each wait is an await of an event, or bounded polling for
//! what another thread is about to do; the only timer is
//! the watchdog in `fixture`, which ends the process when a step hangs, and names that step.

mod fixture;
mod oracle;
mod rng;
mod scripts;
mod state;
mod workload;

mod api;
mod cancel;
mod crash;
mod faults;
mod flips;
mod histories;
mod lies;
mod model;
#[cfg(target_os = "linux")]
mod process;
mod style;
mod transactions;
