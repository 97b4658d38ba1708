//! The bench's side of an engine's process.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use ringdb_cli::exit::Failure;

use crate::engines::{Name, Outcome};
use crate::limit::Limit;
use crate::protocol::{Answer, Order, Spec};
use crate::usage::Usage;

/// A time that is looked at, and what of a processor is nothing.
const IDLE_MS: u64 = 1000;
const BUSY_MIN: f64 = 0.001;
/// Such times with nothing, one after the other: longer than any engine here waits before it begins to tidy up.
const QUIET_TIMES: u32 = 11;
/// Such times at most.
const TIMES_MAX: u32 = 71;

/// An engine in a process of its own, waiting for orders.
pub struct Peer {
    /// Which.
    pub engine: Name,
    /// What it said when it had opened its database; its seconds are those of opening.
    pub opened: Answer,
    spec: Spec,
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What a database is like at rest.
pub struct Rest {
    /// Processors that it keeps busy.
    pub busy: f64,
    pub usage: Usage,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // One that was told to quit has ended; any other has nothing to keep.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Peer {
    /// Starts it, under a limit of memory if there is one.
    pub fn start(spec: &Spec, limit: Option<&Limit>) -> Outcome<Peer> {
        let program = Command::new(std::env::current_exe()?);
        Peer::start_with(program, spec, limit)
    }

    /// Starts it under another program that takes a command at its end.
    pub fn start_by(mut under: Command, spec: &Spec) -> Outcome<Peer> {
        under.arg(std::env::current_exe()?);
        Peer::start_with(under, spec, None)
    }

    fn start_with(mut command: Command, spec: &Spec, limit: Option<&Limit>) -> Outcome<Peer> {
        std::fs::create_dir_all(&spec.settings.directory)?;
        let json =
            serde_json::to_string(spec).map_err(|error| Failure::error(error.to_string()))?;
        command.arg("--child").arg(json).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        if let Some(limit) = limit {
            limit.hold(process.id())?;
        }
        let (Some(orders), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(Failure::error("a child without pipes"));
        };
        let mut peer = Peer {
            engine: spec.engine,
            opened: Answer::default(),
            spec: spec.clone(),
            process,
            orders,
            answers: BufReader::new(stdout),
        };
        peer.opened = peer.answer()?;
        Ok(peer)
    }

    /// Orders, and waits for the answer.
    pub fn ask(&mut self, order: Order) -> Outcome<Answer> {
        self.tell(order)?;
        self.answer()
    }

    /// Waits, for a bounded time, until what a database does of itself when nobody asks, such as merging, is over.
    pub fn rest(&mut self) -> Outcome<Rest> {
        let mut before = self.ask(Order::Idle { ms: IDLE_MS })?;
        let (mut busy, mut quiet_times) = (f64::MAX, 0);
        for _ in 0..TIMES_MAX {
            let after = self.ask(Order::Idle { ms: IDLE_MS })?;
            busy = (after.usage.cpu_s - before.usage.cpu_s) / after.seconds;
            before = after;
            quiet_times = if busy < BUSY_MIN { quiet_times + 1 } else { 0 };
            if quiet_times == QUIET_TIMES {
                break;
            }
        }
        Ok(Rest { busy, usage: before.usage })
    }

    /// Orders and does not wait.
    pub fn tell(&mut self, order: Order) -> Outcome<()> {
        let line =
            serde_json::to_string(&order).map_err(|error| Failure::error(error.to_string()))?;
        Ok(writeln!(self.orders, "{line}")?)
    }

    fn answer(&mut self) -> Outcome<Answer> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(Failure::error(format!("{}: the process ended", self.engine.text())));
        }
        let answer: Answer =
            serde_json::from_str(&line).map_err(|error| Failure::error(error.to_string()))?;
        match answer.failure {
            Some(failure) => Err(Failure::error(format!("{}: {failure}", self.engine.text()))),
            None => Ok(answer),
        }
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.spec.settings.directory
    }

    /// Closes in order; its files stay.
    pub fn quit(mut self) -> Outcome<Answer> {
        let answer = self.ask(Order::Quit)?;
        self.process.wait()?;
        Ok(answer)
    }

    /// Ends it as a crash would; its files stay.
    pub fn kill(mut self) -> Outcome<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Ends it and removes its files.
    pub fn remove(self) -> Outcome<()> {
        let directory = self.directory().to_path_buf();
        drop(self);
        Ok(std::fs::remove_dir_all(directory)?)
    }
}
