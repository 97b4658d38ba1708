//! `ringdb backup`: everything of one moment, to a file or a pipe.
//!
//! A file is written under another name beside its own, synced and then renamed, so that a backup
//! that failed never takes the place of one that did not.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ringdb::{Db, block_on};
use tempfile::NamedTempFile;

use crate::args::BackupArgs;
use crate::exit::Failure;
use crate::progress::{Progress, When};

/// Backs up a database.
pub fn run(args: BackupArgs) -> Result<(), Failure> {
    super::with_database(&args.place, super::options_of_a_reader(&args.place), |db| {
        let name = args.file.as_deref().map_or("stdout".into(), Path::to_string_lossy);
        let mut to = Target::new(args.file.as_deref()).map_err(|failure| failure.of(&name))?;
        let when = if args.progress { When::Always } else { When::Terminal };
        let mut progress = Progress::start(when, None);
        let written = write(db, to.writer(), &mut progress).and_then(|()| to.finish());
        written.map_err(|failure| failure.of(&name))?;
        progress.finish("backed up");
        Ok(())
    })
}

fn write(db: &Db, to: &mut dyn Write, progress: &mut Progress) -> Result<(), Failure> {
    let mut backup = db.backup();
    while let Some(chunk) = block_on(backup.try_next())? {
        to.write_all(&chunk)?;
        progress.piece(chunk.len());
    }
    Ok(to.flush()?)
}

/// Where the backup goes.
enum Target {
    /// Stdout, or what is no regular file: a pipe, a tape.
    Stream(Box<dyn Write>),
    File(NamedTempFile, PathBuf),
}

impl Target {
    fn new(file: Option<&Path>) -> Result<Target, Failure> {
        let Some(path) = file.filter(|path| *path != Path::new("-")) else {
            return Ok(Target::Stream(Box::new(io::stdout().lock())));
        };
        if path.metadata().is_ok_and(|meta| !meta.is_file()) {
            return Ok(Target::Stream(Box::new(File::options().write(true).open(path)?)));
        }
        let beside = NamedTempFile::with_prefix_in(".ringdb-backup-", directory(path))?;
        Ok(Target::File(beside, path.to_owned()))
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Target::Stream(stream) => stream,
            Target::File(file, _) => file,
        }
    }

    /// Makes a file durable and gives it its name.
    fn finish(self) -> Result<(), Failure> {
        let Target::File(file, path) = self else { return Ok(()) };
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|refused| refused.error)?;
        Ok(File::open(directory(&path))?.sync_all()?)
    }
}

fn directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}
