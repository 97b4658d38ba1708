//! `ringdb load`: rows from a text, in bounded batches.
//!
//! While one batch commits, the next is read and prepared; more than two never exist. Puts are
//! idempotent and families are opened or created, so loading the same text again after a crash in
//! the middle gives the same rows.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use ringdb::{Batch, ColumnFamily, Commit, Create, Db, block_on};

use crate::args::{Duplicates, LoadArgs};
use crate::exit::Failure;
use crate::progress::{Counted, Passed, Progress, When};
use crate::text::header::Section;
use crate::text::json::JsonLines;
use crate::text::lines::Lines;
use crate::text::parse::Parser;
use crate::text::{Piece, TextError};

/// Bytes of rows in a batch, but for the row that reaches it. Far above what amortises a flush, far
/// below the engine's own bound.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// With little memory, a batch is this part of it: the engine bounds a batch by a part of its
/// memtable budget.
const BATCHES_PER_MEMORY: usize = 128;
const READ_BYTES: usize = 1 << 18;

/// Loads a text into a database, which is created if need be.
pub fn run(args: LoadArgs) -> Result<(), Failure> {
    let (from, total_bytes) = super::source(args.file.as_deref())?;
    let passed = Passed::default();
    let from = BufReader::with_capacity(READ_BYTES, Counted::new(from, &passed));
    let mut text = Text::new(from)?;
    let when = if args.progress { When::Always } else { When::Terminal };
    let mut progress = Progress::start(when, total_bytes);
    super::with_database(&args.place, super::options(&args.place, Create::IfMissing), |db| {
        let batch_bytes_max = ((args.place.memory as usize) << 20) / BATCHES_PER_MEMORY;
        let mut loader = Loader::new(db, &args, batch_bytes_max.min(BATCH_BYTES_MAX));
        let loaded = block_on(loader.load(&mut text, || progress.row(passed.bytes())));
        let name = args.file.as_deref().map_or("stdin".into(), Path::to_string_lossy);
        loaded.map_err(|failure| failure.of(name))
    })?;
    progress.finish("loaded");
    Ok(())
}

/// A text of either kind.
enum Text<R> {
    Sections(Parser<R>),
    Json(JsonLines<R>),
}

impl<R: BufRead> Text<R> {
    /// Tells the kinds apart by the first byte.
    fn new(from: R) -> io::Result<Text<R>> {
        let mut lines = Lines::new(from);
        match lines.peek()? {
            Some(b'{') => Ok(Text::Json(JsonLines::new(lines))),
            _ => Ok(Text::Sections(Parser::new(lines))),
        }
    }

    fn next(&mut self) -> Result<Option<Piece<'_>>, TextError> {
        match self {
            Text::Sections(parser) => parser.next(),
            Text::Json(rows) => rows.next(),
        }
    }

    fn defect(&self, what: impl Into<String>) -> TextError {
        match self {
            Text::Sections(parser) => parser.defect(what),
            Text::Json(rows) => rows.defect(what),
        }
    }
}

struct Loader<'a> {
    db: &'a Db,
    main: &'a str,
    duplicates: Duplicates,
    batch_bytes_max: usize,
    families: HashMap<String, ColumnFamily>,
    /// Family of the section that is being read; JSON lines have none.
    section: Option<String>,
    /// Key before this one in the section: a dump has the values of one key side by side. Keys are
    /// not empty.
    previous: Vec<u8>,
    batch: Batch,
    batch_bytes: usize,
    in_flight: Option<Commit>,
}

impl<'a> Loader<'a> {
    fn new(db: &'a Db, args: &'a LoadArgs, batch_bytes_max: usize) -> Loader<'a> {
        Loader {
            db,
            main: &args.family,
            duplicates: args.duplicates,
            batch_bytes_max,
            families: HashMap::new(),
            section: None,
            previous: Vec::new(),
            batch: db.batch(),
            batch_bytes: 0,
            in_flight: None,
        }
    }

    async fn load<R: BufRead>(
        &mut self,
        text: &mut Text<R>,
        mut row: impl FnMut(),
    ) -> Result<(), Failure> {
        loop {
            match text.next()? {
                None => break,
                Some(Piece::Section(section)) => self.start(section).await?,
                Some(Piece::Row { family, key, value }) => {
                    match self.put(family, key, value).await {
                        Ok(()) => {}
                        Err(Refused::Row(what)) => return Err(text.defect(what).into()),
                        Err(Refused::Database(error)) => {
                            return Err(text.defect(format!("{error:?}")).into());
                        }
                    }
                    row();
                }
            }
            if self.batch_bytes >= self.batch_bytes_max {
                self.submit().await?;
            }
        }
        self.submit().await?;
        self.settle().await
    }

    async fn start(&mut self, section: Section) -> Result<(), Failure> {
        let name = section.database.unwrap_or_else(|| self.main.to_owned());
        if !section.foreign_flags.is_empty() {
            let flags = section.foreign_flags.join(", ");
            eprintln!(
                "ringdb: {name}: {flags} not kept: rows are ordered by bytes, a key has one value"
            );
        }
        // An empty section is an empty family.
        let family = self.db.column_family(&name).await?;
        self.families.insert(name.clone(), family);
        self.section = Some(name);
        self.previous.clear();
        Ok(())
    }

    async fn put(&mut self, family: Option<&str>, key: &[u8], value: &[u8]) -> Result<(), Refused> {
        if self.section.is_some() {
            self.refuse_duplicate(key)?;
        }
        let name = family.or(self.section.as_deref()).unwrap_or(self.main);
        if !self.families.contains_key(name) {
            let opened = self.db.column_family(name).await?;
            self.families.insert(name.to_owned(), opened);
        }
        self.batch.put(&self.families[name], key, value);
        self.batch_bytes += key.len() + value.len();
        Ok(())
    }

    fn refuse_duplicate(&mut self, key: &[u8]) -> Result<(), Refused> {
        if self.duplicates == Duplicates::Last {
            return Ok(());
        }
        if !key.is_empty() && self.previous == key {
            let what = "a second value for one key (--duplicates last keeps the last)";
            return Err(Refused::Row(what));
        }
        self.previous.clear();
        self.previous.extend_from_slice(key);
        Ok(())
    }

    /// Orders the batch, then waits for the one before it.
    async fn submit(&mut self) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let commit = self.batch.submit().await?;
        self.batch_bytes = 0;
        self.settle().await?;
        self.in_flight = Some(commit);
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        if let Some(commit) = self.in_flight.take() {
            commit.await?;
        }
        Ok(())
    }
}

/// Why a row was not taken.
enum Refused {
    Row(&'static str),
    Database(ringdb::Error),
}

impl From<ringdb::Error> for Refused {
    fn from(error: ringdb::Error) -> Refused {
        Refused::Database(error)
    }
}
