//! Creating a file, all or nothing.
//!
//! The content goes to a temporary name in the same directory and is synced; then the file is
//! renamed without replacing, and the directory is synced. A crash leaves no file under the name,
//! or the whole one. The zeros are really written: a log must overwrite written blocks, since the
//! first write to a reserved one makes each sync commit the file system's journal.

use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;

use crate::buf::Buf;
use crate::calls::{Durably, sync, write_full};
use crate::errors::OpenError;
use crate::file::{OsFile, Plugs};
use crate::settings::{BackendChoice, Settings};
use crate::stats::Counters;

/// Zeros written at once.
const FILL_BYTES: usize = 1 << 20;

/// Creates the file as [`crate::Io::create`] says.
pub(crate) fn create(
    path: &Path,
    settings: &Settings,
    len_bytes: u64,
    contents: &[(u64, &[u8])],
) -> Result<(), OpenError> {
    if let BackendChoice::Sim(disk) = &settings.backend {
        return disk.create(path, len_bytes, contents);
    }
    let _plugs = Plugs::fill();
    if path.symlink_metadata().is_ok() {
        let taken = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(OpenError::new("create the file", path, taken));
    }
    let temporary = temporary_name(path, "new")?;
    let file = OsFile::create(&temporary)
        .map_err(|error| OpenError::new("create a temporary file", path, error))?;
    let made = fill(&file, len_bytes, contents)
        .map_err(|error| OpenError::new("write the new file", path, error))
        .and_then(|()| publish(&temporary, path));
    if made.is_err() {
        let _ = std::fs::remove_file(&temporary); // The first error is the one to tell.
    }
    made
}

/// A name beside the file's that nobody else has, as [`crate::Io::name_beside`] says.
pub(crate) fn name_beside(
    path: &Path,
    settings: &Settings,
    purpose: &str,
) -> Result<PathBuf, OpenError> {
    match &settings.backend {
        BackendChoice::Sim(disk) => Ok(disk.name_beside(path, purpose)),
        BackendChoice::Auto | BackendChoice::Uring | BackendChoice::Pwrite => {
            temporary_name(path, purpose)
        }
    }
}

fn temporary_name(path: &Path, purpose: &str) -> Result<PathBuf, OpenError> {
    let Some(name) = path.file_name() else {
        let nameless = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(OpenError::new("create the file", path, nameless));
    };
    let mut temporary = OsString::from(".");
    temporary.push(name);
    let number = RandomState::new().hash_one(std::process::id());
    temporary.push(format!(".{number:016x}.{purpose}"));
    Ok(path.with_file_name(temporary))
}

fn fill(file: &OsFile, len_bytes: u64, contents: &[(u64, &[u8])]) -> io::Result<()> {
    let stats = Counters::default();
    let zeros = Buf::zeroed(FILL_BYTES);
    let mut at = 0;
    while at < len_bytes {
        let len = (len_bytes - at).min(FILL_BYTES as u64) as usize;
        write_full(file, at, &[&zeros[..len]], Durably::No, &stats)?;
        at += len as u64;
    }
    for (offset, bytes) in contents {
        assert!(offset + bytes.len() as u64 <= len_bytes, "contents beyond the file's length");
        write_full(file, *offset, &[bytes], Durably::No, &stats)?;
    }
    sync(file, &stats)
}

/// Whether a file has the name, as [`crate::Io::exists`] says.
pub(crate) fn exists(path: &Path, settings: &Settings) -> bool {
    match &settings.backend {
        BackendChoice::Sim(disk) => disk.has_name(path),
        BackendChoice::Auto | BackendChoice::Uring | BackendChoice::Pwrite => {
            path.symlink_metadata().is_ok()
        }
    }
}

/// Gives a file its name, as [`crate::Io::rename`] says.
pub(crate) fn rename(from: &Path, to: &Path, settings: &Settings) -> Result<(), OpenError> {
    match &settings.backend {
        BackendChoice::Sim(disk) => disk
            .rename(from, to)
            .map_err(|error| OpenError::new("give the new file its name", to, error)),
        BackendChoice::Auto | BackendChoice::Uring | BackendChoice::Pwrite => publish(from, to),
    }
}

/// Removes a file, as [`crate::Io::remove`] says.
pub(crate) fn remove(path: &Path, settings: &Settings) -> Result<(), OpenError> {
    match &settings.backend {
        BackendChoice::Sim(disk) => disk.remove_name(path),
        BackendChoice::Auto | BackendChoice::Uring | BackendChoice::Pwrite => {
            std::fs::remove_file(path)
                .map_err(|error| OpenError::new("remove the file", path, error))?;
        }
    }
    Ok(())
}

fn publish(temporary: &Path, path: &Path) -> Result<(), OpenError> {
    rename_new(temporary, path)
        .map_err(|error| OpenError::new("give the new file its name", path, error))?;
    sync_directory(path)
}

/// Makes the file's name durable, as [`crate::Io::sync_name`] says.
pub(crate) fn sync_name(path: &Path, settings: &Settings) -> Result<(), OpenError> {
    match &settings.backend {
        BackendChoice::Sim(disk) => {
            disk.sync_names().map_err(|error| OpenError::new("sync the directory", path, error))
        }
        BackendChoice::Auto | BackendChoice::Uring | BackendChoice::Pwrite => sync_directory(path),
    }
}

fn sync_directory(path: &Path) -> Result<(), OpenError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))
        .and_then(|directory| directory.sync_all())
        .map_err(|error| OpenError::new("sync the directory", path, error))
}

/// Renames unless the new name is taken.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rename_exclusive(from, to) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            // No exclusive rename here: a hard link is exclusive too.
            rustix::fs::link(from, to)?;
            Ok(rustix::fs::unlink(from)?)
        }
        other => Ok(other?),
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn rename_exclusive(from: &Path, to: &Path) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(CWD, from, CWD, to, rustix::fs::RenameFlags::NOREPLACE)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn rename_exclusive(_from: &Path, _to: &Path) -> rustix::io::Result<()> {
    let _ = CWD;
    Err(Errno::NOTSUP)
}
