//! The integration suite: one binary, one module for each subject, test names that are facts.
//!
//! It runs on the backend that `RINGDB_TEST_BACKEND` names (`uring`, `pwrite`, `sim`; unset means
//! `Backend::Auto`), and as long as `RINGDB_TEST_SCALE` says (1 by default: every random test
//! multiplies its rounds by it). Random tests print their seed; `RINGDB_TEST_SEED` sets it.
//!
//! The net under the promises is the modules `crash` (power loss, during recovery too), `kill`,
//! `flips` (every byte), `faults`, `lies`, `histories` (real time and prefixes) and `planted`, which
//! asks whether the net catches known mistakes. All print what they counted, and `counts` repeats
//! it when the process ends. `RINGDB_TEST_IMAGES` and `RINGDB_TEST_FLIPS` bound them or (`all`) open
//! them up, and `RINGDB_TEST_MINUTES=60` runs all of it with fresh seeds for an hour: see `soak`.
//! Which test holds which promise stands in `tests/README.md`.
//!
//! Nothing here sleeps or asserts on a clock. Each wait is an await of an event, or bounded polling
//! for what another thread is about to do; the only timer is the watchdog in `fixture`, which ends
//! the process when a step hangs, and names that step.

mod counts;
mod fixture;
mod oracle;
mod rng;
mod scripts;
mod state;
mod timeline;
mod workload;

mod api;
mod cancel;
mod crash;
mod faults;
mod flips;
mod golden;
mod histories;
mod hostile;
mod kill;
mod lies;
mod model;
mod nospace;
#[cfg(debug_assertions)]
mod planted;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod realfs;
mod restores;
mod shrinks;
mod slices;
mod soak;
mod style;
#[path = "../../fuzz/src/lib.rs"]
#[allow(dead_code, reason = "the runner of cargo-fuzz is not used here")]
mod targets;
mod transactions;
mod trees;
