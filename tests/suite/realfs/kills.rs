//! `kill -9` under load, on each file system, in each way to open.

use std::io::BufRead;

use super::stage::{Cut, Stage};
use super::story::{Leave, Story};
use super::{FileSystem, Way};
use crate::counts::{What, count};
use crate::fixture::{Watchdog, say, scale, seed};
use crate::process;
use crate::rng::Rng;

/// Kills of one database.
const KILLS: usize = 5;

fn survives(file_system: FileSystem) {
    let watchdog = Watchdog::new("kills");
    let mut rng = Rng::new(seed("kills", 12));
    for way in Way::possible() {
        if let Err(reason) = kill(file_system, way, KILLS * scale(), &mut rng, &watchdog) {
            return say(format!("kill -9: {}: skipped: {reason}", file_system.name()));
        }
    }
}

/// Kills whoever writes one database so many times, and counts the kills that it survived.
///
/// # Errors
/// What is missing here for such a file system.
///
/// # Panics
/// If anything acknowledged is lost.
pub fn kill(
    file_system: FileSystem,
    way: Way,
    kills: usize,
    rng: &mut Rng,
    watchdog: &Watchdog,
) -> Result<(), String> {
    let what = format!("{}, {}", file_system.name(), way.words());
    watchdog.step(format!("{what}, it is made"));
    let stage = Stage::new(file_system, Cut::Shutdown)?;
    let mut story = Story::default();
    for kill in 0..kills {
        watchdog.step(format!("{what}, kill {kill}"));
        killed(&stage, way, &mut story, [1, 100, 400, 1200][rng.below(4)]);
        let leave = if kill.is_multiple_of(2) { Leave::Dropped } else { Leave::Closed };
        story.verify(&stage.database(), way, leave);
    }
    count(What::Kills, what.clone(), kills as u64);
    let acknowledged = story.acknowledgements;
    say(format!(
        "kill -9: {what}: {kills} survived, {acknowledged} acknowledged commits, all there"
    ));
    Ok(())
}

/// Writers work until so many acknowledgements were heard.
fn killed(stage: &Stage, way: Way, story: &mut Story, acknowledgements: usize) {
    let argument = format!("{} {}", way.words(), story.life());
    let (mut child, mut lines) = process::spawn("work", &stage.database(), &argument);
    let (mut seen, mut line, mut words) = (0, String::new(), String::new());
    while lines.read_line(&mut line).expect("the pipe is read") > 0 {
        // What is still in the pipe after the kill was acknowledged before.
        if story.hear(&line) {
            seen += 1;
            if seen == acknowledgements {
                child.kill().expect("the child is killed");
            }
        } else if !line.starts_with("ordered") {
            words.push_str(&line);
        }
        line.clear();
    }
    child.wait().expect("the child ends");
    assert!(seen >= acknowledgements, "the child ended after {seen} acknowledgements\n{words}");
}

#[test]
fn a_killed_writer_on_ext4_loses_nothing_that_was_acknowledged() {
    survives(FileSystem::Ext4);
}

#[test]
fn a_killed_writer_on_ext4_without_a_journal_loses_nothing_that_was_acknowledged() {
    survives(FileSystem::Ext4WithoutJournal);
}

#[test]
fn a_killed_writer_on_xfs_loses_nothing_that_was_acknowledged() {
    survives(FileSystem::Xfs);
}

#[test]
fn a_killed_writer_on_btrfs_loses_nothing_that_was_acknowledged() {
    survives(FileSystem::Btrfs);
}
