//! That durable means synced on both sides: the syncs of one writer's durable commits, as `strace`
//! sees the calls.
//!
//! It does not see what goes through a ring, so ours is counted on plain calls here; the groups and
//! their order are the same. A write with `RWF_DSYNC` is a sync by itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::bench::Bench;
use crate::engines::{Calls, Durability, Outcome};
use crate::peer::Peer;
use crate::protocol::{Load, Order, Spec};
use crate::rows::Unit;

const MEMORY_BYTES: u64 = 128 << 20;
/// Two runs: what opening and closing sync is the same in both.
const COMMITS: [u64; 2] = [100, 600];

/// Runs it.
pub fn run(bench: &mut Bench<'_>) -> Outcome<()> {
    if Command::new("strace").arg("-V").output().is_err() {
        println!("    no strace: syncs are not counted");
        return Ok(());
    }
    let mut counts = Vec::new();
    for engine in bench.in_one() {
        let mut spec = bench.spec(engine, "syncs", 1, MEMORY_BYTES, Durability::Synced);
        spec.settings.calls = Calls::Plain;
        let [few, many] = COMMITS.map(|commits| bench.kept(counted(&spec, commits)));
        if let (Some(few), Some(many)) = (few, many) {
            counts.push((engine, (many - few) as f64 / (COMMITS[1] - COMMITS[0]) as f64));
        }
    }
    bench.tell_values("syncs-of-a-durable-put", Unit::PerCommit, counts)
}

fn counted(spec: &Spec, commits: u64) -> Outcome<u64> {
    let trace = spec.settings.directory.with_extension("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=fsync,fdatasync,msync,pwritev2", "-o"]).arg(&trace);
    let mut peer = Peer::start_by(strace, spec)?;
    peer.ask(Order::Load { load: Load::Random, rows: commits, batch: 1 })?;
    let directory = peer.directory().to_path_buf();
    peer.quit()?;
    fs::remove_dir_all(directory)?;
    Ok(syncs(&trace)?)
}

fn syncs(trace: &Path) -> std::io::Result<u64> {
    let text = fs::read_to_string(trace)?;
    fs::remove_file(trace)?;
    Ok(text.lines().filter(|line| is_sync(line)).count() as u64)
}

/// A call that another thread's line cuts in two is counted where it begins.
fn is_sync(line: &str) -> bool {
    let call = line.split_once(' ').map_or(line, |(_process, call)| call.trim_start());
    let named = |name: &str| call.starts_with(name);
    named("fsync(")
        || named("fdatasync(")
        || (named("msync(") && call.contains("MS_SYNC"))
        || (named("pwritev2(") && call.contains("RWF_DSYNC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_sync_is_seen_once() {
        let cases = [
            ("12 fdatasync(5) = 0", true),
            ("12 fsync(5 <unfinished ...>", true),
            ("12 <... fsync resumed>) = 0", false),
            ("7 pwritev2(9, [{iov_base=\"\", iov_len=4096}], 1, 4096, RWF_DSYNC) = 4096", true),
            ("7 pwritev2(9, [{iov_base=\"\", iov_len=4096}], 1, 4096, 0) = 4096", false),
            ("7 msync(0x7f, 4096, MS_SYNC) = 0", true),
            ("7 msync(0x7f, 4096, MS_ASYNC) = 0", false),
        ];
        for (line, expected) in cases {
            assert_eq!(is_sync(line), expected, "{line}");
        }
    }
}
