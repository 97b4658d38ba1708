//! The parent's side of a child: orders, answers with a time limit, and the kill.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::protocol::{FRAME_BYTES, Outcome, Slice, Spec, unframe};
use crate::exit::Failure;

/// A child that says nothing for so long hangs; the longest honest silence is filling a database on
/// a slow disk.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a child writes and tells of it before it is killed.
const STREAM_TIME: Duration = Duration::from_millis(80);
/// Answers that wait to be read; a child says one thing at a time.
const ANSWERS_MAX: usize = 4;

/// A running child; killed and collected when dropped.
pub struct Child {
    process: std::process::Child,
    orders: ChildStdin,
    answers: Receiver<Answer>,
    writers: u32,
}

enum Answer {
    Line(String),
    /// The pipe has ended: rows acknowledged by frame, per writer.
    Ended(Vec<u64>),
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to kill.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Child {
    /// Starts one; it opens its databases while others start.
    pub fn start(spec: &Spec) -> Result<Child, Failure> {
        let json =
            serde_json::to_string(spec).map_err(|error| Failure::error(error.to_string()))?;
        let program = std::env::current_exe()?;
        let mut process = Command::new(program)
            .args(["bench-child", &json])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = process.stdin.take().expect("stdin was asked to be a pipe");
        let stdout = process.stdout.take().expect("stdout was asked to be a pipe");
        let (send, answers) = sync_channel(ANSWERS_MAX);
        let writers = spec.writers;
        std::thread::spawn(move || listen(stdout, writers, &send));
        Ok(Child { process, orders, answers, writers })
    }

    /// Waits until its databases are open and filled.
    pub fn ready(&mut self) -> Result<(), Failure> {
        self.answer("ready").map(drop)
    }

    /// Runs without counting.
    pub fn warm(&mut self, time: Duration) -> Result<(), Failure> {
        self.order(&format!("warm {}", time.as_millis()))?;
        self.answer("done").map(drop)
    }

    /// Runs and counts.
    pub fn slice(&mut self, time: Duration) -> Result<Slice, Failure> {
        self.order(&format!("slice {}", time.as_millis().max(1)))?;
        from_json(&self.answer("slice ")?)
    }

    /// The sums of its slices.
    pub fn result(&mut self) -> Result<Outcome, Failure> {
        self.order("result")?;
        from_json(&self.answer("result ")?)
    }

    /// Lets it write on and kills it in the middle; rows that it acknowledged meanwhile, per
    /// writer.
    pub fn kill_while_writing(mut self) -> Result<Vec<u64>, Failure> {
        self.order("stream")?;
        self.answer("streaming")?;
        match self.answers.recv_timeout(STREAM_TIME) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Answer::Line(line)) => return Err(unexpected(&line)),
            Ok(Answer::Ended(_)) | Err(RecvTimeoutError::Disconnected) => return Err(ended()),
        }
        self.process.kill()?;
        self.process.wait()?;
        match self.answers.recv_timeout(SILENCE_MAX) {
            Ok(Answer::Ended(acknowledged)) => Ok(acknowledged),
            Ok(Answer::Line(line)) => Err(unexpected(&line)),
            Err(_) => Err(Failure::error("the pipe of a killed child does not end")),
        }
    }

    /// Lets it close its databases.
    pub fn quit(mut self) -> Result<(), Failure> {
        self.order("quit")?;
        match self.answers.recv_timeout(SILENCE_MAX) {
            Ok(Answer::Ended(_)) => Ok(()),
            Ok(Answer::Line(line)) => Err(unexpected(&line)),
            Err(_) => Err(self.hangs()),
        }
    }

    fn order(&mut self, line: &str) -> Result<(), Failure> {
        // Its last words say more than the broken pipe.
        match writeln!(self.orders, "{line}") {
            Ok(()) => Ok(()),
            Err(_) => self.answer("nothing").map(drop).and(Err(ended())),
        }
    }

    fn answer(&mut self, prefix: &str) -> Result<String, Failure> {
        match self.answers.recv_timeout(SILENCE_MAX) {
            Ok(Answer::Line(line)) => match line.strip_prefix(prefix) {
                Some(rest) => Ok(rest.to_owned()),
                None => Err(unexpected(&line)),
            },
            Ok(Answer::Ended(_)) | Err(RecvTimeoutError::Disconnected) => Err(ended()),
            Err(RecvTimeoutError::Timeout) => Err(self.hangs()),
        }
    }

    fn hangs(&self) -> Failure {
        let seconds = SILENCE_MAX.as_secs();
        Failure::error(format!("{} writers: no answer for {seconds} seconds", self.writers))
    }
}

fn unexpected(line: &str) -> Failure {
    Failure::error(line.strip_prefix("error ").unwrap_or(line))
}

fn ended() -> Failure {
    Failure::error("the child ended by itself")
}

fn from_json<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, Failure> {
    serde_json::from_str(json).map_err(|error| Failure::error(format!("{json}: {error}")))
}

/// Hands on lines until `streaming`, then reads frames until the pipe ends.
fn listen(stdout: ChildStdout, writers: u32, send: &SyncSender<Answer>) {
    let mut stdout = BufReader::new(stdout);
    let mut acknowledged = vec![0; writers as usize];
    let mut line = String::new();
    while stdout.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        let is_stream = line == "streaming\n";
        // A parent that does not listen any more has given the child up.
        if send.send(Answer::Line(line.trim_end().to_owned())).is_err() {
            return;
        }
        if is_stream {
            read_frames(&mut stdout, &mut acknowledged);
            break;
        }
        line.clear();
    }
    drop(send.send(Answer::Ended(acknowledged)));
}

fn read_frames(from: &mut impl Read, acknowledged: &mut [u64]) {
    let mut bytes = [0; FRAME_BYTES];
    while from.read_exact(&mut bytes).is_ok() {
        let (writer, rows) = unframe(bytes);
        if let Some(place) = acknowledged.get_mut(writer as usize) {
            *place = rows.max(*place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::frame;
    use super::*;

    #[test]
    fn last_frame_of_each_writer_counts_and_a_torn_one_does_not() {
        let mut bytes: Vec<u8> = [frame(0, 5), frame(2, 9), frame(0, 6), frame(7, 1)].concat();
        bytes.extend_from_slice(&frame(1, 3)[..7]);
        let mut acknowledged = vec![0; 3];
        read_frames(&mut bytes.as_slice(), &mut acknowledged);
        assert_eq!(acknowledged, [6, 0, 9]);
    }
}
