//! Exit codes that scripts can use, and errors in one line on stderr.
//!
//! ```text
//! 0  done                      2  usage
//! 1  not found, or defects     3  an error
//! ```
//!
//! A reader that closes the pipe early (`ringdb dump app.ring | head`) has what it wanted: that
//! ends quietly with 0.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub enum Failure {
    /// The key or the column family is not there; a message only where silence would puzzle.
    NotFound(Option<String>),
    /// A check or a verification found something wrong.
    Defects(String),
    /// The arguments contradict each other in a way that clap cannot see.
    Usage(String),
    /// Who read our output went away.
    BrokenPipe,
    /// Everything else.
    Error(String),
}

impl Failure {
    /// The same failure, said to be of `what`, such as a file name.
    pub fn of(self, what: impl fmt::Display) -> Failure {
        match self {
            Failure::Error(message) => Failure::Error(format!("{what}: {message}")),
            Failure::NotFound(Some(message)) => {
                Failure::NotFound(Some(format!("{what}: {message}")))
            }
            Failure::Defects(message) => Failure::Defects(format!("{what}: {message}")),
            other @ (Failure::NotFound(None) | Failure::Usage(_) | Failure::BrokenPipe) => other,
        }
    }

    /// An error of our own words.
    pub fn error(message: impl Into<String>) -> Failure {
        Failure::Error(message.into())
    }
}

impl From<ringdb::Error> for Failure {
    /// The operator may see what a client may not, so this is the `Debug` form: kind, message,
    /// detail and cause.
    fn from(error: ringdb::Error) -> Failure {
        Failure::Error(format!("{error:?}"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
            _ => Failure::Error(error.to_string()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotFound(Some(message))
            | Failure::Defects(message)
            | Failure::Usage(message)
            | Failure::Error(message) => f.write_str(&one_line(message)),
            Failure::NotFound(None) => f.write_str("not found"),
            Failure::BrokenPipe => f.write_str("broken pipe"),
        }
    }
}

/// Says what went wrong and with which code the program ends.
pub fn code(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    let code = match &failure {
        Failure::BrokenPipe => return ExitCode::SUCCESS,
        Failure::NotFound(None) => return ExitCode::from(1),
        Failure::NotFound(Some(_)) | Failure::Defects(_) => 1,
        Failure::Usage(_) => 2,
        Failure::Error(_) => 3,
    };
    complain(&failure.to_string());
    ExitCode::from(code)
}

/// Help and version as clap prints them; a usage error in one line.
pub fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion,
    };
    match error.kind() {
        DisplayHelp | DisplayVersion => {
            // A pipe that closed while help was printed is nobody's problem.
            drop(error.print());
            ExitCode::SUCCESS
        }
        DisplayHelpOnMissingArgumentOrSubcommand => {
            drop(error.print());
            ExitCode::from(2)
        }
        _ => {
            let text = error.render().to_string();
            let told: Vec<&str> = text
                .lines()
                .take_while(|line| !line.starts_with("Usage:"))
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .collect();
            complain(told.join(" ").trim_start_matches("error: "));
            ExitCode::from(2)
        }
    }
}

fn complain(message: &str) {
    use std::io::Write;
    // With stderr closed there is nobody left to tell.
    drop(writeln!(io::stderr(), "ringdb: {message}"));
}

fn one_line(message: &str) -> String {
    message
        .split(['\n', '\r'])
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_of_several_lines_becomes_one() {
        let failure = Failure::error("first\n  second\r\n\nthird");
        assert_eq!(failure.to_string(), "first; second; third");
    }

    #[test]
    fn broken_pipe_is_told_from_other_io_errors() {
        let broken = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(broken, Failure::BrokenPipe));
        let denied = Failure::from(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(matches!(denied, Failure::Error(_)));
    }

    #[test]
    fn context_goes_in_front() {
        let failure = Failure::error("line 3: odd").of("dump.txt");
        assert_eq!(failure.to_string(), "dump.txt: line 3: odd");
    }
}
