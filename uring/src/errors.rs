//! What opening a file and asking a closed or failed owner answers.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Payload of the error of a second opener: the file is open elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked;

/// Payload of the error of an operation that came after `close`, or in a forked child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The file was closed.
    Closed,
    /// This process is a forked child of the one that opened the file.
    Forked,
}

/// Payload of the error of every operation after the owner failed.
#[derive(Clone, Debug)]
pub struct OwnerGone {
    /// What ended it.
    pub cause: String,
}

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the file is open elsewhere")
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Closed => "the file was closed",
            Refused::Forked => "a forked child cannot use its parent's file",
        })
    }
}

impl fmt::Display for OwnerGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the owner of the file's I/O failed: {}", self.cause)
    }
}

impl Error for Locked {}
impl Error for Refused {}
impl Error for OwnerGone {}

impl From<Locked> for io::Error {
    fn from(locked: Locked) -> io::Error {
        io::Error::new(io::ErrorKind::WouldBlock, locked)
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> io::Error {
        io::Error::new(io::ErrorKind::NotConnected, refused)
    }
}

impl From<OwnerGone> for io::Error {
    fn from(gone: OwnerGone) -> io::Error {
        io::Error::other(gone)
    }
}

/// Why a file could not be opened or created: the step that failed, the path, and the cause.
#[derive(Debug)]
pub struct OpenError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl OpenError {
    pub(crate) fn new(step: &'static str, path: &Path, source: impl Into<io::Error>) -> OpenError {
        OpenError { step, path: path.to_owned(), source: source.into() }
    }

    /// What was being done, such as "open the file".
    pub fn step(&self) -> &'static str {
        self.step
    }

    /// The file that was asked for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Kind of the cause: `WouldBlock` if locked, `NotFound`, `PermissionDenied`, and so on.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether somebody else has the file open.
    pub fn is_locked(&self) -> bool {
        self.source.get_ref().is_some_and(|cause| cause.is::<Locked>())
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}: {}", self.step, self.source)
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

/// The same error again: one failed sync or run answers several operations.
pub(crate) fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// [`copy`] inside a result.
pub(crate) fn copy_result(result: &io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(error) => Err(copy(error)),
    }
}
