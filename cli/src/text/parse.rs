//! Reads the `VERSION=3` text. States: between sections → header (read at once) → rows → between
//! sections.

use std::io::BufRead;

use super::codec::Format;
use super::header::{DATA_END, HEADER_END, Header, Section};
use super::lines::Lines;
use super::{Piece, TextError};

/// The pieces of a text, one after another.
pub struct Parser<R> {
    lines: Lines<R>,
    state: State,
    key: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Clone, Copy)]
enum State {
    Between,
    Rows(Format),
}

impl<R: BufRead> Parser<R> {
    /// Reads the text behind `lines`.
    pub fn new(lines: Lines<R>) -> Parser<R> {
        Parser { lines, state: State::Between, key: Vec::new(), value: Vec::new() }
    }

    /// The next piece, or `None` behind the last section.
    pub fn next(&mut self) -> Result<Option<Piece<'_>>, TextError> {
        match self.state {
            State::Between => self.section(),
            State::Rows(format) => {
                if self.row(format)? {
                    return Ok(Some(Piece::Row {
                        family: None,
                        key: &self.key,
                        value: &self.value,
                    }));
                }
                self.state = State::Between;
                self.section()
            }
        }
    }

    /// Number of the line read last, for messages about the row it belongs to.
    pub fn defect(&self, what: impl Into<String>) -> TextError {
        self.lines.defect(what)
    }

    fn section(&mut self) -> Result<Option<Piece<'_>>, TextError> {
        loop {
            match self.lines.next()? {
                None => return Ok(None),
                Some([]) => {}
                Some(_) => break,
            }
        }
        let (section, format) = self.header()?;
        self.state = State::Rows(format);
        Ok(Some(Piece::Section(section)))
    }

    fn header(&mut self) -> Result<(Section, Format), TextError> {
        let start = Header::start(self.lines.current());
        let mut header = start.map_err(|what| self.lines.defect(what))?;
        loop {
            let Some(line) = self.lines.next()? else {
                return Err(self.lines.defect("the text ends within a header"));
            };
            if line == HEADER_END {
                return header.end().map_err(|what| self.lines.defect(what));
            }
            if let Err(what) = header.line(line) {
                return Err(self.lines.defect(what));
            }
        }
    }

    /// Reads a key and its value; `false` at the end of the section.
    fn row(&mut self, format: Format) -> Result<bool, TextError> {
        match self.lines.next()? {
            Some([b' ', key @ ..]) => {
                let decoded = format.decode(key, &mut self.key);
                decoded.map_err(|what| self.lines.defect(what))?;
            }
            Some(line) if line == DATA_END => return Ok(false),
            Some(_) => return Err(self.lines.defect("neither a row nor DATA=END")),
            None => return Err(self.lines.defect("the text ends before DATA=END")),
        }
        match self.lines.next()? {
            Some([b' ', value @ ..]) => {
                let decoded = format.decode(value, &mut self.value);
                decoded.map_err(|what| self.lines.defect(what))?;
                Ok(true)
            }
            Some(_) => Err(self.lines.defect("a key without a value")),
            None => Err(self.lines.defect("the text ends between a key and its value")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line per piece, so that a whole text can be compared at a glance.
    fn told(text: &str) -> Result<Vec<String>, String> {
        let mut parser = Parser::new(Lines::new(text.as_bytes()));
        let mut out = Vec::new();
        loop {
            match parser.next() {
                Ok(Some(Piece::Section(section))) => out.push(format!("[{:?}]", section.database)),
                Ok(Some(Piece::Row { key, value, .. })) => {
                    out.push(format!("{}={}", key.escape_ascii(), value.escape_ascii()));
                }
                Ok(None) => return Ok(out),
                Err(TextError::Defect(defect)) => return Err(defect.to_string()),
                Err(TextError::Io(error)) => return Err(error.to_string()),
            }
        }
    }

    #[test]
    fn families_of_a_real_mdb_dump_are_read() {
        let expected = [
            "[Some(\"empty\")]",
            "[Some(\"posts\")]",
            "k=v",
            "[Some(\"users\")]",
            "\\x00\\xff\\n\\\\=",
            "ada=1815",
            "\\xc3\\xa9=\\\\\\\\z",
        ];
        assert_eq!(told(include_str!("../../tests/data/lmdb-families.txt")).unwrap(), expected);
    }

    #[test]
    fn both_spellings_of_a_real_mdb_dump_agree() {
        let bytes = told(include_str!("../../tests/data/lmdb-packages.txt")).unwrap();
        let print = told(include_str!("../../tests/data/lmdb-packages-print.txt")).unwrap();
        assert_eq!(bytes.len(), 21);
        assert_eq!(bytes, print);
        assert_eq!(bytes[1], "bash=GNU Bourne Again SHell");
    }

    #[test]
    fn both_spellings_of_a_real_db_dump_agree() {
        let bytes = told(include_str!("../../tests/data/berkeley.txt")).unwrap();
        let print = told(include_str!("../../tests/data/berkeley-print.txt")).unwrap();
        assert_eq!(bytes, print);
        assert_eq!(bytes[3], "\\xc3\\xa9=\\\\\\\\z");
    }

    #[test]
    fn empty_databases_and_empty_texts_are_read() {
        assert_eq!(told(include_str!("../../tests/data/lmdb-empty.txt")).unwrap(), ["[None]"]);
        assert_eq!(told("").unwrap(), [""; 0]);
    }

    #[test]
    fn defects_name_their_line() {
        let head = "VERSION=3\nformat=print\ntype=btree\nHEADER=END\n";
        let cases = [
            ("hello\n", "line 1: neither VERSION=3 nor a JSON object starts here"),
            ("VERSION=3\nformat=print\n", "line 2: the text ends within a header"),
            (&format!("{head} k\n v\n"), "line 6: the text ends before DATA=END"),
            (&format!("{head} k\n"), "line 5: the text ends between a key and its value"),
            (&format!("{head} k\nDATA=END\n"), "line 6: a key without a value"),
            (&format!("{head}k\n v\n"), "line 5: neither a row nor DATA=END"),
        ];
        for (text, expected) in cases {
            assert_eq!(told(text), Err(expected.to_owned()));
        }
    }

    #[test]
    fn last_line_may_lack_its_end() {
        let text = "VERSION=3\nformat=print\ntype=btree\nHEADER=END\n k\n v\nDATA=END";
        assert_eq!(told(text).unwrap(), ["[None]", "k=v"]);
    }
}
