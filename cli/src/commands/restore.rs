//! `ringdb restore`: a new database out of a backup.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream;
use ringdb::{Bytes, Create, ErrorKind, block_on};

use crate::args::RestoreArgs;
use crate::exit::Failure;
use crate::number::{count, counted};
use crate::progress::{Progress, When};

const READ_BYTES: usize = 1 << 18;

/// Restores a database.
pub fn run(args: RestoreArgs) -> Result<(), Failure> {
    let (from, total_bytes) = super::source(Some(&args.file))?;
    let when = if args.progress { When::Always } else { When::Terminal };
    let progress = Arc::new(Mutex::new(Progress::start(when, total_bytes)));
    let options = super::options(&args.place, Create::Always);
    let pieces = stream::iter(Pieces { from, progress: progress.clone() });
    let restored = block_on(options.restore(&args.place.path, pieces));
    let report = restored.map_err(|error| match error.kind() {
        ErrorKind::Corrupt => Failure::Defects(format!("{}: {error:?}", args.file.display())),
        _ => Failure::from(error).of(args.place.path.display()),
    })?;
    let families = match report.families {
        1 => "1 column family".to_owned(),
        several => format!("{} column families", count(several)),
    };
    let rows = counted(report.rows, "row");
    let progress = Arc::into_inner(progress).expect("the stream is gone");
    let progress = progress.into_inner().unwrap_or_else(PoisonError::into_inner);
    progress.finish(&format!("restored {families}, {rows}"));
    Ok(())
}

/// What is read, until the end or an error.
struct Pieces {
    from: Box<dyn Read + Send>,
    progress: Arc<Mutex<Progress>>,
}

impl Iterator for Pieces {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        let mut piece = vec![0; READ_BYTES];
        let len = loop {
            match self.from.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Some(Err(error)),
                Ok(len) => break len,
            }
        };
        piece.truncate(len);
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).piece(len);
        (len > 0).then(|| Ok(piece.into()))
    }
}
