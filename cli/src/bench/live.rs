//! Progress while the bench runs: one line that updates itself on a terminal, a plain line per case
//! elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plan::{Case, Subject};
use crate::number::grouped;

/// Where progress goes.
pub struct Live {
    bar: Option<ProgressBar>,
    cases: usize,
    case: usize,
    label: String,
}

impl Live {
    /// Starts with so many cases ahead.
    pub fn start(cases: usize) -> Live {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
            let style = style.expect("the template is a constant that parses");
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar.with_style(style)
        });
        Live { bar, cases, case: 0, label: String::new() }
    }

    /// The next case begins.
    pub fn case(&mut self, case: Case) {
        self.case += 1;
        self.label =
            format!("{:>2}/{} {}, {}", self.case, self.cases, case.workload.name(), case.writers);
        self.doing("opening");
    }

    /// What goes on now.
    pub fn doing(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {what}", self.label));
        }
    }

    /// How fast the backends are so far.
    pub fn rates(&self, rates: &[(Subject, f64)]) {
        self.doing(&told(rates));
    }

    /// The case is done.
    pub fn done(&self, rates: &[(Subject, f64)], verified: u64) {
        if self.bar.is_some() {
            return;
        }
        let verified = match verified {
            0 => String::new(),
            rows => format!("; {} rows verified after kill -9", grouped(rows as f64)),
        };
        self.say(&format!("{}: {}{verified}", self.label, told(rates)));
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        let write = || {
            // With stderr closed nobody waits for it.
            drop(writeln!(io::stderr(), "{line}"));
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the line away.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn told(rates: &[(Subject, f64)]) -> String {
    let told =
        |(subject, rate): &(Subject, f64)| format!("{} {}/s", subject.name(), grouped(*rate));
    rates.iter().map(told).collect::<Vec<_>>().join(", ")
}
