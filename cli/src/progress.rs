//! How far a long command is: one line that updates itself on a terminal, a line a second where
//! asked for, else nothing.

use std::cell::Cell;
use std::io::{self, IsTerminal, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Rows between two looks at the clock.
const ROWS_PER_LOOK: u64 = 1024;
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Progress over rows and bytes.
pub struct Progress {
    show: Show,
    counted: Counts,
    started: Instant,
}

/// What is counted.
#[derive(Clone, Copy)]
enum Counts {
    Rows(u64),
    /// Where the rows are not seen one by one.
    Bytes(u64),
}

enum Show {
    Nothing,
    Line(ProgressBar),
    Lines { next: Instant, total_bytes: Option<u64> },
}

/// Whether to show progress where no terminal is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Only on a terminal.
    Terminal,
    /// Anyway.
    Always,
}

impl Progress {
    /// Starts the clock; `total_bytes` where it is known.
    pub fn start(when: When, total_bytes: Option<u64>) -> Progress {
        let started = Instant::now();
        let show = if io::stderr().is_terminal() {
            Show::Line(bar(total_bytes))
        } else {
            match when {
                When::Always => Show::Lines { next: started + LINE_EVERY, total_bytes },
                When::Terminal => Show::Nothing,
            }
        };
        Progress { show, counted: Counts::Rows(0), started }
    }

    /// Counts a row; `bytes` is where the text stands now.
    pub fn row(&mut self, bytes: u64) {
        let rows = match self.counted {
            Counts::Rows(rows) => rows + 1,
            Counts::Bytes(_) => 1,
        };
        self.counted = Counts::Rows(rows);
        if rows.is_multiple_of(ROWS_PER_LOOK) {
            self.look(bytes);
        }
    }

    /// So many bytes more went through, in one piece of many rows.
    pub fn piece(&mut self, len_bytes: usize) {
        let before = match self.counted {
            Counts::Rows(_) => 0,
            Counts::Bytes(bytes) => bytes,
        };
        let bytes = before + len_bytes as u64;
        self.counted = Counts::Bytes(bytes);
        self.look(bytes);
    }

    fn look(&mut self, bytes: u64) {
        let now = Instant::now();
        let text = self.text(now);
        match &mut self.show {
            Show::Nothing => {}
            Show::Line(bar) => {
                bar.set_position(bytes);
                bar.set_message(text);
            }
            Show::Lines { next, total_bytes } if now >= *next => {
                *next = now + LINE_EVERY;
                let share = total_bytes.filter(|total| *total > 0).map_or(String::new(), |total| {
                    format!(" of {} ({} %)", HumanBytes(total), bytes.saturating_mul(100) / total)
                });
                // Progress that nobody can read is no reason to stop.
                drop(writeln!(io::stderr(), "{}{share}, {text}", HumanBytes(bytes)));
            }
            Show::Lines { .. } => {}
        }
    }

    fn text(&self, now: Instant) -> String {
        let seconds = now.duration_since(self.started).as_secs_f64().max(1e-6);
        let per_second = |count: u64| (count as f64 / seconds) as u64;
        match self.counted {
            Counts::Rows(rows) => {
                format!("{} rows, {} rows/s", HumanCount(rows), HumanCount(per_second(rows)))
            }
            Counts::Bytes(bytes) => format!("{}/s", HumanBytes(per_second(bytes))),
        }
    }

    /// Takes the line away and says what was done, where progress was shown.
    pub fn finish(self, done: &str) {
        let text = self.text(Instant::now());
        match self.show {
            Show::Nothing => return,
            Show::Line(bar) => bar.finish_and_clear(),
            Show::Lines { .. } => {}
        }
        drop(writeln!(io::stderr(), "{done}: {text}"));
    }
}

fn bar(total_bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match total_bytes {
        Some(total) => {
            (ProgressBar::new(total), "{bar:30} {bytes} of {total_bytes}, {msg}, {eta} left")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {msg}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template(template).expect("the template is a constant that parses");
    bar.with_style(style)
}

/// How many bytes of how many, on a terminal; nothing elsewhere.
pub fn byte_bar() -> ProgressBar {
    bar(Some(0))
}

/// Bytes that passed, shared with whoever shows progress.
#[derive(Clone, Default)]
pub struct Passed(Rc<Cell<u64>>);

impl Passed {
    /// How many so far.
    pub fn bytes(&self) -> u64 {
        self.0.get()
    }

    fn add(&self, bytes: usize) {
        self.0.set(self.0.get() + bytes as u64);
    }
}

/// Counts what is read or written through it.
pub struct Counted<T> {
    through: T,
    passed: Passed,
}

impl<T> Counted<T> {
    /// Counts into `passed`.
    pub fn new(through: T, passed: &Passed) -> Counted<T> {
        Counted { through, passed: passed.clone() }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.through.read(into).inspect(|bytes| self.passed.add(*bytes))
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.through.write(from).inspect(|bytes| self.passed.add(*bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.through.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_in_both_directions() {
        let passed = Passed::default();
        let mut text = String::new();
        Counted::new(&b"abc"[..], &passed).read_to_string(&mut text).unwrap();
        Counted::new(Vec::new(), &passed).write_all(b"de").unwrap();
        assert_eq!((text.as_str(), passed.bytes()), ("abc", 5));
    }
}
