//! A directory to measure in: on a disk, fresh, and gone afterwards, also after Ctrl-C.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::machine::mount_of;
use crate::exit::Failure;

/// Makes one under `wanted`, or under the first of ./target, the system's directory for such files
/// and the current directory that is not memory: a durable write to memory is none.
pub fn fresh(wanted: Option<&Path>) -> Result<TempDir, Failure> {
    let parent = match wanted {
        Some(wanted) => {
            std::fs::create_dir_all(wanted)
                .map_err(|error| Failure::from(error).of(wanted.display()))?;
            wanted.to_path_buf()
        }
        None => default_parent()?,
    };
    let made = tempfile::Builder::new().prefix("ringdb-bench-").tempdir_in(&parent);
    let made = made.map_err(|error| Failure::from(error).of(parent.display()))?;
    clean_up_on_interrupt(made.path().to_path_buf())?;
    Ok(made)
}

fn default_parent() -> Result<PathBuf, Failure> {
    let current = std::env::current_dir()?;
    let candidates = [current.join("target"), std::env::temp_dir(), current];
    let is_disk =
        |path: &PathBuf| path.is_dir() && !mount_of(path).is_some_and(|mount| mount.is_memory());
    candidates
        .into_iter()
        .find(is_disk)
        .ok_or_else(|| Failure::Usage("no directory on a disk: name one with --dir".to_owned()))
}

fn clean_up_on_interrupt(directory: PathBuf) -> Result<(), Failure> {
    /// 128 + SIGINT, as shells count.
    const INTERRUPTED: i32 = 130;
    ctrlc::set_handler(move || {
        // What the children still write goes with the directory; they end when their pipes do.
        drop(std::fs::remove_dir_all(&directory));
        std::process::exit(INTERRUPTED);
    })
    .map_err(|error| Failure::error(error.to_string()))
}
