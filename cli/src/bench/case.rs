//! Measures one case: its backends in slices that take turns, so that a disk that is slow for a
//! second is slow for all of them; then each is killed in the middle of writing and verified.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::bare::{BLOCK_BYTES, Bare, Method};
use super::live::Live;
use super::parent::Child;
use super::plan::{Case, Subject, Work};
use super::protocol::{BareLoop, BareSlice, Spec};
use super::rows::Row;
use super::verify::verify;
use crate::exit::Failure;

/// Runs first and is not counted: caches, log segments and processor clocks settle.
const WARM: Duration = Duration::from_millis(100);

/// What all cases share.
pub struct Setting<'a> {
    /// Where databases are made.
    pub directory: &'a Path,
    /// The bare file.
    pub bare: &'a Bare,
    /// The fastest durable write of this disk.
    pub method: Method,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// How many slices, of which length.
    pub slices: (u32, Duration),
}

/// A backend that takes part, until it fails.
struct Runner {
    spec: Spec,
    child: Child,
    ops: u64,
    seconds: f64,
    /// What the bare loop did that took turns with it.
    bare: BareSlice,
}

/// What a case gave: rows, and what failed with the backend that it failed on.
pub struct Measured {
    /// A row for each backend that came through.
    pub rows: Vec<Row>,
    /// What failed.
    pub failures: Vec<Failure>,
}

/// Measures a case on all its backends.
pub fn measure(setting: &Setting<'_>, case: Case, subjects: &[Subject], live: &Live) -> Measured {
    let mut failures = Vec::new();
    let subjects = subjects.iter().filter(|subject| subject.runs(case.workload));
    let started: Vec<_> =
        subjects.map(|subject| (*subject, Runner::start(setting, case, *subject))).collect();
    let mut runners = Vec::new();
    for (subject, runner) in started {
        let ready = runner.and_then(|mut runner| runner.child.ready().map(|()| runner));
        keep(ready, case, subject, &mut runners, &mut failures);
    }
    runners = each(runners, case, &mut failures, |runner| runner.child.warm(WARM));
    let (slices, time) = setting.slices;
    let mut bare_rates = Vec::new();
    for _ in 0..slices {
        if !case.takes_turns() {
            bare_rates.push(bare(setting, case));
        }
        runners = each(runners, case, &mut failures, |runner| runner.slice(time));
        live.rates(&rates(&runners));
    }
    let rates = rates(&runners);
    let mut rows = Vec::new();
    for runner in runners {
        let subject = runner.spec.subject;
        live.doing(&format!("{}: kill -9 and verify", subject.name()));
        let bare_per_s = match case.takes_turns() {
            true => Ok(runner.bare.writes as f64 / runner.bare.seconds.max(1e-9)),
            false => mean(&bare_rates),
        };
        let row = bare_per_s.and_then(|bare_per_s| runner.end(case, bare_per_s));
        keep(row, case, subject, &mut rows, &mut failures);
    }
    live.done(&rates, rows.iter().map(|row| row.verified).sum());
    Measured { rows, failures }
}

fn each(
    runners: Vec<Runner>,
    case: Case,
    failures: &mut Vec<Failure>,
    mut act: impl FnMut(&mut Runner) -> Result<(), Failure>,
) -> Vec<Runner> {
    let mut kept = Vec::new();
    for mut runner in runners {
        let subject = runner.spec.subject;
        let acted = act(&mut runner).map(|()| runner);
        keep(acted, case, subject, &mut kept, failures);
    }
    kept
}

fn keep<T>(
    result: Result<T, Failure>,
    case: Case,
    subject: Subject,
    kept: &mut Vec<T>,
    failures: &mut Vec<Failure>,
) {
    let what = || format!("{}, {}, {}", case.workload.name(), case.writers, subject.name());
    match result {
        Ok(result) => kept.push(result),
        // A pipe that broke is one to a child here, and no reason to end quietly.
        Err(Failure::BrokenPipe) => failures.push(Failure::error("the child went away").of(what())),
        Err(failure) => failures.push(failure.of(what())),
    }
}

/// A slice of the bare loop that the case is compared with.
fn bare(setting: &Setting<'_>, case: Case) -> io::Result<f64> {
    match case.workload.work() {
        Work::Read { .. } => setting.bare.reads_beside(BLOCK_BYTES),
        Work::Durable { .. } | Work::Volatile => setting.bare.writes_beside(setting.method),
    }
}

fn mean(rates: &[io::Result<f64>]) -> Result<f64, Failure> {
    let mut sum = 0.0;
    for rate in rates {
        sum += rate.as_ref().map_err(|error| Failure::error(format!("bare loop: {error}")))?;
    }
    Ok(sum / rates.len() as f64)
}

fn rates(runners: &[Runner]) -> Vec<(Subject, f64)> {
    let rate =
        |runner: &Runner| (runner.spec.subject, runner.ops as f64 / runner.seconds.max(1e-9));
    runners.iter().map(rate).collect()
}

impl Runner {
    fn start(setting: &Setting<'_>, case: Case, subject: Subject) -> Result<Runner, Failure> {
        let name = format!("{}-{}-{}", case.workload.name(), case.writers, subject.name());
        let directory = setting.directory.join(name);
        std::fs::create_dir(&directory)?;
        let spec = Spec {
            directory,
            subject,
            workload: case.workload,
            writers: case.writers,
            value_bytes: setting.value_bytes,
            turns_with: case.takes_turns().then(|| BareLoop {
                directory: setting.directory.to_owned(),
                method: setting.method,
            }),
        };
        let child = Child::start(&spec)?;
        Ok(Runner { spec, child, ops: 0, seconds: 0.0, bare: BareSlice::default() })
    }

    fn slice(&mut self, time: Duration) -> Result<(), Failure> {
        let slice = self.child.slice(time)?;
        self.ops += slice.ops;
        self.seconds += slice.seconds;
        self.bare.writes += slice.bare.writes;
        self.bare.seconds += slice.bare.seconds;
        Ok(())
    }

    /// Takes the result, ends the child, verifies what it wrote, and removes it.
    fn end(mut self, case: Case, bare_per_s: f64) -> Result<Row, Failure> {
        let outcome = self.child.result()?;
        let verified = if case.workload.is_durable() {
            let streamed = self.child.kill_while_writing()?;
            let both = outcome.acknowledged.iter().zip(&streamed);
            let acknowledged: Vec<u64> =
                both.map(|(before, streamed)| *before.max(streamed)).collect();
            verify(&self.spec, &acknowledged)?
        } else {
            self.child.quit()?;
            0
        };
        std::fs::remove_dir_all(&self.spec.directory)?;
        Ok(Row { case, subject: self.spec.subject, outcome, verified, bare_per_s })
    }
}
