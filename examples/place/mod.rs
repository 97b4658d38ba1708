//! Where an example keeps its database.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The path given on the command line, or one in a temporary directory that goes with it.
pub struct Place {
    path: PathBuf,
    _temporary: Option<TempDir>,
}

impl Place {
    /// Takes the first argument that is not a flag.
    pub fn from_args() -> io::Result<Place> {
        let given = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
        if let Some(path) = given {
            return Ok(Place { path: path.into(), _temporary: None });
        }
        let directory = tempfile::tempdir()?;
        Ok(Place { path: directory.path().join("example.ring"), _temporary: Some(directory) })
    }

    /// The file, or for an example with many files the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
