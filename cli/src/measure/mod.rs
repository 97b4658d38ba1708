//! Where and with what is measured: the place, the machine, the bare device, rows that prove
//! themselves, latencies, and the chart.

pub mod bare;
pub mod chart;
pub mod histogram;
pub mod key;
pub mod machine;
pub mod place;
