//! Writes the `VERSION=3` text, byte for byte as `mdb_dump` does, but for the header lines that
//! describe LMDB's own map.
//!
//! Of those, `mapsize` is written, because `mdb_load` makes a map of 1 MiB without it and then
//! fails at the first row that does not fit. Berkeley DB's `db_load` refuses the line, so it can be
//! left out.

use std::io::{self, Write};

use super::codec::Format;
use super::header::{DATA_END, HEADER_END, VERSION};

/// Writes sections.
pub struct Printer<W> {
    to: W,
    format: Format,
    map_bytes: Option<u64>,
    line: Vec<u8>,
}

impl<W: Write> Printer<W> {
    /// Writes to `to`, with `mapsize` lines if `map_bytes` is given.
    pub fn new(to: W, format: Format, map_bytes: Option<u64>) -> Printer<W> {
        Printer { to, format, map_bytes, line: Vec::new() }
    }

    /// Starts a section: the main database has no name.
    pub fn section(&mut self, database: Option<&str>) -> io::Result<()> {
        self.line.clear();
        self.line.extend_from_slice(VERSION);
        self.line.extend_from_slice(format!("\nformat={}\n", self.format.name()).as_bytes());
        if let Some(name) = database {
            self.line.extend_from_slice(format!("database={name}\n").as_bytes());
        }
        self.line.extend_from_slice(b"type=btree\n");
        if let Some(bytes) = self.map_bytes {
            self.line.extend_from_slice(format!("mapsize={bytes}\n").as_bytes());
        }
        self.line.extend_from_slice(HEADER_END);
        self.line.push(b'\n');
        self.to.write_all(&self.line)
    }

    /// Writes a row.
    pub fn row(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.line.clear();
        for bytes in [key, value] {
            self.line.push(b' ');
            self.format.encode(bytes, &mut self.line);
            self.line.push(b'\n');
        }
        self.to.write_all(&self.line)
    }

    /// Ends the section.
    pub fn end(&mut self) -> io::Result<()> {
        self.to.write_all(DATA_END)?;
        self.to.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Piece;
    use super::super::lines::Lines;
    use super::super::parse::Parser;
    use super::*;

    /// Parses a text and prints it again.
    fn again(text: &str, format: Format) -> String {
        let mut parser = Parser::new(Lines::new(text.as_bytes()));
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, format, Some(1048576));
        let mut sections = 0;
        while let Some(piece) = parser.next().unwrap() {
            match piece {
                Piece::Section(section) => {
                    if sections > 0 {
                        printer.end().unwrap();
                    }
                    sections += 1;
                    printer.section(section.database.as_deref()).unwrap();
                }
                Piece::Row { key, value, .. } => printer.row(key, value).unwrap(),
            }
        }
        printer.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The text without the lines about LMDB's map that we do not write.
    fn without_map(text: &str) -> String {
        let ours =
            |line: &&str| !line.starts_with("maxreaders=") && !line.starts_with("db_pagesize=");
        text.split_inclusive('\n').filter(ours).collect()
    }

    #[test]
    fn real_dumps_come_out_as_they_went_in() {
        let texts = [
            (Format::Bytevalue, include_str!("../../tests/data/lmdb-packages.txt")),
            (Format::Print, include_str!("../../tests/data/lmdb-packages-print.txt")),
            (Format::Bytevalue, include_str!("../../tests/data/lmdb-families.txt")),
            (Format::Bytevalue, include_str!("../../tests/data/lmdb-one-family.txt")),
            (Format::Bytevalue, include_str!("../../tests/data/lmdb-empty.txt")),
        ];
        for (format, text) in texts {
            assert_eq!(again(text, format), without_map(text));
        }
    }

    #[test]
    fn map_size_can_be_left_out() {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, Format::Print, None);
        printer.section(Some("users")).unwrap();
        printer.row(b"ada", b"18\n15").unwrap();
        printer.end().unwrap();
        let expected = "VERSION=3\nformat=print\ndatabase=users\ntype=btree\nHEADER=END\n \
                        ada\n 18\\0a15\nDATA=END\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
