//! Power cuts under load and during recovery, on each file system, in each way to open.

use std::io::BufRead;

use super::load::WRITERS;
use super::stage::{Cut, Stage};
use super::story::{Leave, Story};
use super::{FileSystem, Way};
use crate::counts::{What, count};
use crate::fixture::{Watchdog, say, scale, seed};
use crate::process;
use crate::rng::Rng;

/// Lives of one database: each ends by a power cut under load, and another during its recovery.
const LIVES: usize = 6;

/// Each file system that can lose power here, and how.
pub const CUTS: [(FileSystem, Cut); 6] = [
    (FileSystem::Ext4, Cut::Shutdown),
    (FileSystem::Ext4WithoutJournal, Cut::Shutdown),
    (FileSystem::Xfs, Cut::Shutdown),
    (FileSystem::Ext4, Cut::LostCache),
    (FileSystem::Xfs, Cut::LostCache),
    (FileSystem::Btrfs, Cut::LostCache),
];

/// Writes within which a recovery meets its cut; beyond them it is over.
const RECOVERY_WRITES: usize = 60;

fn survives(file_system: FileSystem, cut: Cut) {
    let watchdog = Watchdog::new("power cuts");
    let mut rng = Rng::new(seed("power cuts", 11));
    for way in Way::possible() {
        if let Err(reason) = lose_power(file_system, cut, way, LIVES * scale(), &mut rng, &watchdog)
        {
            return say(format!("power cuts: {}, {cut:?}: skipped: {reason}", file_system.name()));
        }
    }
}

/// Cuts the power of one database again and again, and counts the cuts that it survived.
///
/// # Errors
/// What is missing here for such a file system.
///
/// # Panics
/// If anything acknowledged is lost, or anything else is found than a prefix.
pub fn lose_power(
    file_system: FileSystem,
    cut: Cut,
    way: Way,
    lives: usize,
    rng: &mut Rng,
    watchdog: &Watchdog,
) -> Result<(), String> {
    let what = format!("{}, {cut:?}, {}", file_system.name(), way.words());
    watchdog.step(format!("{what}, it is made"));
    let stage = Stage::new(file_system, cut)?;
    let mut run = Run { stage, way, story: Story::default(), rng, totals: Totals::default() };
    for life in 0..lives {
        watchdog.step(format!("{what}, life {life}"));
        run.live(life);
    }
    let Totals { cuts, in_recovery, unflushed: [lost, kept, torn] } = run.totals;
    count(What::PowerCuts, what.clone(), cuts);
    let device = match cut {
        Cut::Shutdown => String::new(),
        Cut::LostCache => format!("; unflushed writes: {lost} lost, {kept} kept, {torn} torn"),
    };
    let acknowledged = run.story.acknowledgements;
    say(format!(
        "power cuts: {what}: {cuts} survived, {in_recovery} of them in a recovery, {acknowledged} \
         acknowledged commits, all there{device}"
    ));
    Ok(())
}

#[derive(Default)]
struct Totals {
    cuts: u64,
    /// While it recovered, wrote the checkpoint that follows, or closed; not after.
    in_recovery: u64,
    unflushed: [u64; 3],
}

struct Run<'a> {
    stage: Stage,
    way: Way,
    story: Story,
    rng: &'a mut Rng,
    totals: Totals,
}

impl Run<'_> {
    /// Work, cut, recover, cut, and check.
    fn live(&mut self, life: usize) {
        self.work();
        self.power_up();
        // Once, twice or not at all.
        for _ in 0..life % 3 {
            self.recover();
            self.power_up();
        }
        let leave = if life.is_multiple_of(2) { Leave::Dropped } else { Leave::Closed };
        self.story.verify(&self.stage.database(), self.way, leave);
    }

    /// Writers are under way when the power goes; their end must be an error, never a hang.
    fn work(&mut self) {
        let argument = format!("{} {}", self.way.words(), self.story.life());
        let (mut child, mut lines) = process::spawn("work", &self.stage.database(), &argument);
        let acknowledgements = [1, 100, 400, 1200][self.rng.below(4)];
        let (mut seen, mut line, mut words) = (0, String::new(), String::new());
        while lines.read_line(&mut line).expect("the pipe is read") > 0 {
            if self.story.hear(&line) {
                seen += 1;
                if seen == acknowledgements {
                    let writes = self.rng.below(RECOVERY_WRITES) as u64;
                    self.stage.cut_after(writes, self.rng.bits());
                }
            } else if !line.starts_with("ordered") {
                words.push_str(&line);
            }
            line.clear();
        }
        let status = child.wait().expect("the child ends");
        assert!(status.success() && seen >= acknowledgements, "{status}, {seen} seen\n{words}");
        // A checkpoint may meet a page that cannot be read any more, which poisons nothing.
        let named = |line: &&str| line.contains(" Poisoned ") || line.contains(" Io ");
        let ended = words.lines().filter(|line| line.starts_with("ended ")).filter(named).count();
        assert_eq!(ended as u64, WRITERS, "writers do not end otherwise:\n{words}");
    }

    fn recover(&mut self) {
        let argument = format!("{} 0", self.way.words());
        let writes = self.rng.below(RECOVERY_WRITES) as u64;
        if let Cut::LostCache = self.stage.kind() {
            self.stage.cut_after(writes, self.rng.bits());
        }
        let (mut child, lines) = process::spawn("recover", &self.stage.database(), &argument);
        let mut words = String::new();
        for line in lines.lines().map_while(Result::ok) {
            if line == "recovering" && self.stage.kind() == Cut::Shutdown {
                self.stage.cut_after(writes, self.rng.bits());
            }
            words.extend([&line, "\n"]);
        }
        let status = child.wait().expect("the child ends");
        assert!(status.success(), "{status}\n{words}");
        self.totals.in_recovery += u64::from(!words.contains("closed Ok"));
    }

    fn power_up(&mut self) {
        let counts = self.stage.power_up(self.rng.bits());
        self.totals.cuts += 1;
        for (total, count) in self.totals.unflushed.iter_mut().zip(counts) {
            *total += count;
        }
    }
}

#[test]
fn ext4_keeps_what_was_acknowledged() {
    survives(FileSystem::Ext4, Cut::Shutdown);
}

#[test]
fn ext4_without_a_journal_keeps_what_was_acknowledged() {
    survives(FileSystem::Ext4WithoutJournal, Cut::Shutdown);
}

#[test]
fn xfs_keeps_what_was_acknowledged() {
    survives(FileSystem::Xfs, Cut::Shutdown);
}

#[test]
fn ext4_on_a_device_that_lost_its_cache_keeps_what_was_acknowledged() {
    survives(FileSystem::Ext4, Cut::LostCache);
}

#[test]
fn xfs_on_a_device_that_lost_its_cache_keeps_what_was_acknowledged() {
    survives(FileSystem::Xfs, Cut::LostCache);
}

#[test]
fn btrfs_on_a_device_that_lost_its_cache_keeps_what_was_acknowledged() {
    survives(FileSystem::Btrfs, Cut::LostCache);
}
