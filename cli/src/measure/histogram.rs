//! Latencies in log-linear buckets: 32 to each power of two, so that a percentile is within 3 %,
//! from 1 ns to hundreds of years.
//!
//! Writers record into one of several shards with one relaxed addition. A histogram of its own for
//! each of a thousand tasks would push the engine out of the processor's cache; one for all would
//! pass a cache line from core to core.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const LINEAR_BITS: u32 = 5;
const PER_POWER: usize = 1 << LINEAR_BITS;
const BUCKETS: usize = (64 - LINEAR_BITS as usize + 1) * PER_POWER;
const SHARDS: usize = 8;

/// Where latencies are recorded.
pub struct Recorder {
    shards: Vec<Vec<AtomicU64>>,
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder::new()
    }
}

impl Recorder {
    /// An empty one.
    pub fn new() -> Recorder {
        let shard = || (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Recorder { shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// Counts a latency that `writer` had.
    pub fn record(&self, writer: u32, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.shards[writer as usize % SHARDS][bucket(ns)].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts all that `other` counted.
    pub fn add(&self, other: &Recorder) {
        for (shard, others) in self.shards.iter().zip(&other.shards) {
            for (count, other) in shard.iter().zip(others) {
                count.fetch_add(other.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }

    /// What was recorded so far.
    pub fn histogram(&self) -> Histogram {
        let mut counts = vec![0; BUCKETS];
        for shard in &self.shards {
            for (count, recorded) in counts.iter_mut().zip(shard) {
                *count += recorded.load(Ordering::Relaxed);
            }
        }
        Histogram { counts }
    }
}

/// Counts of latencies.
pub struct Histogram {
    counts: Vec<u64>,
}

impl Histogram {
    /// The latency in µs that this share of all were not above; zero if there are none.
    pub fn percentile_us(&self, share: f64) -> f64 {
        let total: u64 = self.counts.iter().sum();
        let rank = ((total as f64 * share).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle_ns(index) / 1e3;
            }
        }
        0.0
    }
}

fn bucket(ns: u64) -> usize {
    let power = (u64::BITS - ns.leading_zeros()).saturating_sub(LINEAR_BITS + 1);
    let linear = (ns >> power) as usize;
    power as usize * PER_POWER + linear
}

/// The middle of the bucket, except where a bucket is one nanosecond.
fn middle_ns(bucket: usize) -> f64 {
    let power = (bucket / PER_POWER).saturating_sub(1);
    let low = (bucket - power * PER_POWER) as f64 * (power as f64).exp2();
    let width = (power as f64).exp2();
    low + (width - 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_dense_and_ordered() {
        for ns in 0..100_000 {
            let step = bucket(ns + 1) - bucket(ns);
            assert!(step <= 1, "{ns}");
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn middle_is_within_two_percent() {
        for ns in [1, 31, 32, 63, 64, 1000, 81_234, 5_000_000, 123_456_789_012] {
            let middle = middle_ns(bucket(ns));
            assert!((middle / ns as f64 - 1.0).abs() < 0.02, "{ns} became {middle}");
        }
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let recorder = Recorder::new();
        for us in 1..=1000 {
            recorder.record(us as u32, Duration::from_micros(us));
        }
        let histogram = recorder.histogram();
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            let found = histogram.percentile_us(share);
            assert!((found / expected - 1.0).abs() < 0.02, "{share}: {found}");
        }
    }

    #[test]
    fn nothing_recorded_is_zero() {
        assert_eq!(Recorder::new().histogram().percentile_us(0.99), 0.0);
    }
}
