//! A process is killed, the next one opens and reads, then power is lost: what was read is there.
//!
//! The page cache shows the next process more than the device may have kept. Whoever reads after
//! recovery must be able to rely on it (oracle 7), so recovery makes durable what it found.

use ringdb::sim::{Choice, Disk};
use ringdb::{Create, Options};

use crate::counts::{What, count};
use crate::crash::record;
use crate::fixture::{Watchdog, block_on, say, scale, seed};
use crate::oracle::{Base, Ending, Recorded};
use crate::rng::Rng;
use crate::scripts::{SCRIPTS, Script};
use crate::state::State;
use crate::workload::options;

/// Kills of each script.
const KILLS: usize = 25;
/// Power losses after each, between the kill and the read.
const LOSSES: usize = 3;

/// One kill: what the next process reads survives, and so does what it was promised before.
fn kill(recorded: &Recorded, point: usize, rng: &mut Rng) -> Result<usize, String> {
    let disk = recorded.disk.after_kill(point);
    let before = recorded.floor(point);
    let killed = disk.crash_points() - 1;
    let create = if before.is_created() { Create::Never } else { Create::IfMissing };
    let (found, read) = open_and_read(&disk, options().create(create))?;
    let seen = recorded.prefix(&found, before)?;
    seen.reaches(before)?;
    let last = disk.crash_points() - 1;
    let mut images = vec![(read, Choice::None), (last, Choice::None)];
    images.extend((0..LOSSES).map(|_| {
        let point = killed + rng.below(last - killed + 1);
        (point, Choice::Seeded(rng.bits()))
    }));
    for (point, choice) in &images {
        let floor = if *point >= read { seen.floor() } else { before };
        let image = disk.image(*point, *choice);
        image.stop_trace();
        let verdict = recorded.recover(&image, floor, Ending::Closed);
        let verdict = verdict.and_then(|(_, found)| found.reaches(floor));
        verdict.map_err(|wrong| format!("then power loss at {point} {choice:?}: {wrong}"))?;
    }
    Ok(images.len())
}

/// What the next process finds, and the point of the trace at which it has read it.
pub fn open_and_read(disk: &Disk, options: Options) -> Result<(Base, usize), String> {
    let db = block_on(options.open_sim(disk)).map_err(|error| format!("open: {error:?}"))?;
    let logged = block_on(State::read(&db)).map_err(|error| format!("read: {error:?}"))?;
    let read = disk.crash_points() - 1;
    block_on(db.close()).map_err(|error| format!("close: {error:?}"))?;
    Ok((Base::of(logged), read))
}

/// Kills a life of a script at some points; how many power losses were looked at.
pub fn kill_life(
    name: &str,
    script: Script,
    seed: u64,
    kills: usize,
    watchdog: &Watchdog,
) -> usize {
    let recorded = record(&Disk::traced(), &Base::default(), script, seed);
    let mut rng = Rng::new(seed);
    let mut images = 0;
    for _ in 0..kills {
        let point = rng.below(recorded.points + 1);
        watchdog.step(format!("{name}, seed {seed}, killed at {point}"));
        match kill(&recorded, point, &mut rng) {
            Ok(looked_at) => images += looked_at,
            Err(wrong) => panic!("{name}, seed {seed}, killed at {point}: {wrong}"),
        }
    }
    images
}

#[test]
fn what_was_read_after_a_kill_survives_power_loss() {
    let seed = seed("kill", 9);
    let watchdog = Watchdog::new("kill");
    let mut images = 0;
    for (name, script) in SCRIPTS {
        images += kill_life(name, script, seed, KILLS * scale(), &watchdog);
    }
    count(What::LossesAfterKills, "in the simulation", images as u64);
    say(format!("kills: seed {seed}, {images} power losses after {} kills", KILLS * SCRIPTS.len()));
}
