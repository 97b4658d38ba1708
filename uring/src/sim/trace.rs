//! What happened on a simulated disk, in order.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::calls::Durably;

/// Number of a file, whatever its names.
pub(super) type FileId = u64;

/// Number of a call; its end names it again.
pub(super) type CallId = u64;

/// One thing that happened. Power may be lost between any two.
#[derive(Clone)]
pub(super) enum Event {
    /// A write was issued.
    Write { call: CallId, file: FileId, offset: u64, bytes: Arc<[u8]>, how: Durably },
    /// It is over.
    WriteOver { call: CallId, result: Ended },
    /// The file was lengthened.
    Size { file: FileId, len_bytes: u64 },
    /// The file was cut off.
    Cut { file: FileId, len_bytes: u64 },
    /// A sync of the file was issued.
    Sync { call: CallId, file: FileId },
    /// It is over.
    SyncOver { call: CallId, result: Ended },
    /// A name was given to a new file, from nothing or from another name.
    Name { from: Option<PathBuf>, to: PathBuf, file: FileId },
    /// A name was removed.
    Unname { path: PathBuf },
    /// All names are durable.
    SyncNames,
    /// Something the observer wants to find again.
    Mark(u64),
}

/// Whether the event behind this point leaves what power loss may take as it is.
pub(super) fn changes_nothing(events: &[Event], point: usize) -> bool {
    match events.get(point) {
        Some(Event::Mark(_) | Event::Sync { .. }) => true,
        Some(Event::WriteOver { call, .. }) => {
            let begun = events[..point].iter().rev().find_map(|event| match event {
                Event::Write { call: c, how, .. } if c == call => Some(*how),
                _ => None,
            });
            begun == Some(Durably::No)
        }
        _ => false,
    }
}

/// The events of a process that was killed behind the last of them: writes that were not over lie
/// in the page cache like others, and no answer tells that they are durable.
pub(super) fn left_behind(events: &[Event]) -> Vec<Event> {
    let is_over = |call: &CallId| {
        events.iter().any(|event| matches!(event, Event::WriteOver { call: c, .. } if c == call))
    };
    let mut left = Vec::with_capacity(events.len());
    for event in events {
        match event {
            Event::Write { call, file, offset, bytes, .. } if !is_over(call) => {
                let (call, file, offset, bytes) = (*call, *file, *offset, bytes.clone());
                left.push(Event::Write { call, file, offset, bytes, how: Durably::No });
                left.push(Event::WriteOver { call, result: Ended::Well });
            }
            event => left.push(event.clone()),
        }
    }
    left
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Well.
    Well,
    /// With an error: what it did is undefined for ever.
    Badly,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Write { call, file, offset, bytes, how } => {
                let how = if *how == Durably::Itself { " durably" } else { "" };
                write!(f, "#{call} write file {file} at {offset}, {} bytes{how}", bytes.len())
            }
            Event::WriteOver { call, result } => write!(f, "#{call} write over {result:?}"),
            Event::Size { file, len_bytes } => write!(f, "size of file {file} is {len_bytes}"),
            Event::Cut { file, len_bytes } => write!(f, "file {file} is cut off at {len_bytes}"),
            Event::Sync { call, file } => write!(f, "#{call} sync file {file}"),
            Event::SyncOver { call, result } => write!(f, "#{call} sync over {result:?}"),
            Event::Name { from, to, file } => write!(f, "name {from:?} -> {to:?} for file {file}"),
            Event::Unname { path } => write!(f, "remove name {path:?}"),
            Event::SyncNames => f.write_str("sync names"),
            Event::Mark(mark) => write!(f, "mark {mark}"),
        }
    }
}
