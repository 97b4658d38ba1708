//! Where and with what is measured: the place, the machine, the bare device, rows that prove
//! themselves, and latencies.

pub mod bare;
pub mod histogram;
pub mod key;
pub mod machine;
pub mod place;
