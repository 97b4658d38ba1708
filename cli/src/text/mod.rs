//! Rows as text: the `VERSION=3` format of `mdb_dump` and `db_dump`, and JSON lines. Pure but for
//! `Read` and `Write`.
//!
//! ```text
//! VERSION=3            header.rs reads and writes these lines
//! format=bytevalue     or print
//! database=users       only for a named database: a column family
//! type=btree
//! HEADER=END
//!  616461              codec.rs: a space, then a key …
//!  31383135            … a space, then its value
//! DATA=END             the next section may follow
//! ```

pub mod codec;
pub mod header;
pub mod json;
pub mod lines;
pub mod parse;
pub mod print;

use std::fmt;

/// What is wrong with a text, and in which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// Counted from one.
    pub line: u64,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Why no further piece of a text could be had.
#[derive(Debug)]
pub enum TextError {
    /// The text is not what it should be.
    Defect(Defect),
    /// It could not be read.
    Io(std::io::Error),
}

impl From<std::io::Error> for TextError {
    fn from(error: std::io::Error) -> TextError {
        TextError::Io(error)
    }
}

impl From<TextError> for crate::exit::Failure {
    fn from(error: TextError) -> crate::exit::Failure {
        match error {
            TextError::Defect(defect) => crate::exit::Failure::error(defect.to_string()),
            TextError::Io(error) => error.into(),
        }
    }
}

/// One piece of a text, in the order of the text.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The rows that follow, up to the next section, belong here.
    Section(header::Section),
    /// A row.
    Row {
        /// Its column family, where each row names its own (JSON lines).
        family: Option<&'a str>,
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
}
