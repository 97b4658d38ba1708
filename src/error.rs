//! One error type for the whole engine.
//!
//! `kind()` is what a program acts on; `Display` is fit to be sent to a client, so it holds no keys, values or paths; `Debug` and `source()` hold
//! the file, the offset and the cause. An error is a cheap clone, because one failed sync answers many commits.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use ringdb_uring::Refused;

/// What went wrong, as far as a program can act on it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// An argument is out of its documented bounds, such as an empty key or a reversed range.
    InvalidArgument,
    /// A key, value, name or batch exceeds its documented limit.
    TooLarge,
    /// The file or column family does not exist, or the family was dropped.
    NotFound,
    /// The file or column family exists already.
    AlreadyExists,
    /// A transaction met a concurrent commit; run it again.
    Conflict,
    /// There is no room now and the caller asked not to wait, or trees wait to be merged.
    Busy,
    /// The database was closed.
    Closed,
    /// Another opening of the database, here or in another process, holds the file.
    Locked,
    /// The file system is full or a quota is exhausted; nothing acknowledged is at risk.
    NoSpace,
    /// An earlier write or sync failed: nothing more is accepted until the database is opened again.
    Poisoned,
    /// Bytes on disk are not what was written.
    Corrupt,
    /// The file has a format version that this build does not read.
    Version,
    /// The snapshot was held longer, or pinned more, than the options allow.
    SnapshotExpired,
    /// The platform, the file, this call or a forked child cannot do this.
    Unsupported,
    /// The operating system failed an operation.
    Io,
}

/// The error of every fallible operation of the engine.
///
/// # Examples
///
/// ```
/// use ringdb::{Error, ErrorKind};
///
/// fn status(error: &Error) -> u16 {
///     match error.kind() {
///         ErrorKind::NotFound => 404,
///         ErrorKind::InvalidArgument | ErrorKind::TooLarge => 400,
///         kind if error.is_retryable() => { let _ = kind; 503 }
///         _ => 500,
///     }
/// }
/// # let db = ringdb::block_on(ringdb::Db::in_memory()).unwrap();
/// # let error = ringdb::block_on(db.existing_column_family("users")).unwrap_err();
/// assert_eq!(status(&error), 404);
/// ```
#[derive(Clone)]
pub struct Error(Arc<Report>);

/// The result of every fallible operation of the engine.
pub type Result<T> = std::result::Result<T, Error>;

struct Report {
    kind: ErrorKind,
    message: Cow<'static, str>,
    detail: Option<String>,
    outcome: Outcome,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Known,
    Unknown,
}

impl Error {
    /// An error whose message is fit to be sent to a client.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Error {
        let message = message.into();
        Error(Arc::new(Report {
            kind,
            message,
            detail: None,
            outcome: Outcome::Known,
            source: None,
        }))
    }

    /// A read of the file failed; if that is because it was closed, the error says so.
    pub(crate) fn of_read(message: &'static str, cause: std::io::Error) -> Error {
        let refused = cause.get_ref().and_then(|payload| payload.downcast_ref::<Refused>());
        let error = match refused {
            Some(Refused::Closed) => Error::new(ErrorKind::Closed, "the database is closed"),
            Some(_) | None => Error::new(ErrorKind::Io, message),
        };
        error.with_source(cause)
    }

    /// The same error with what only the operator should see: file, offset, names.
    pub(crate) fn with_detail(self, detail: impl Into<String>) -> Error {
        let detail = Some(detail.into());
        self.rebuilt(|report| Report { detail, ..report })
    }

    /// The same error with its cause.
    pub(crate) fn with_source(
        self,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        let source: Option<Arc<dyn std::error::Error + Send + Sync>> = Some(Arc::new(source));
        self.rebuilt(|report| Report { source, ..report })
    }

    /// The same error, saying that the operation may or may not have happened.
    pub(crate) fn with_outcome_unknown(self) -> Error {
        self.rebuilt(|report| Report { outcome: Outcome::Unknown, ..report })
    }

    fn rebuilt(&self, change: impl FnOnce(Report) -> Report) -> Error {
        let report = &*self.0;
        Error(Arc::new(change(Report {
            kind: report.kind,
            message: report.message.clone(),
            detail: report.detail.clone(),
            outcome: report.outcome,
            source: report.source.clone(),
        })))
    }

    /// What a program acts on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later without a change by the caller. A batch that failed has lost its content: it has to be
    /// filled again first.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Conflict | ErrorKind::Busy | ErrorKind::NoSpace)
    }

    /// Whether the commit may be found after the database is opened again although this call failed.
    ///
    /// A handler should answer as after a time-out: retry idempotently.
    pub fn outcome_unknown(&self) -> bool {
        self.0.outcome == Outcome::Unknown
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)?;
        if let Some(detail) = &self.0.detail {
            write!(f, " ({detail})")?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}
