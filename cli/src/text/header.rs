//! The header of a section: which database the rows belong to and how they are spelled.
//!
//! Lines that describe the other engine's file (`mapsize`, `maxreaders`, `db_pagesize`, `h_nelem`,
//! …) are passed over. Of those that change what rows mean, the ones that ringdb cannot keep are
//! either refused (rows without keys) or handed on by name.

use super::codec::Format;

/// The first line of every section.
pub const VERSION: &[u8] = b"VERSION=3";
/// The last line of every header.
pub const HEADER_END: &[u8] = b"HEADER=END";
/// The last line of every section.
pub const DATA_END: &[u8] = b"DATA=END";

/// Flags of LMDB and Berkeley DB that give rows an order or a number that ringdb does not give
/// them.
const FOREIGN_FLAGS: [&str; 7] =
    ["duplicates", "reversekey", "dupsort", "integerkey", "dupfixed", "integerdup", "reversedup"];

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// The name of a named database; the main one has none.
    pub database: Option<String>,
    /// Flags that ringdb does not keep: rows are ordered by their bytes and a key has one value.
    pub foreign_flags: Vec<&'static str>,
}

/// A header while its lines arrive.
#[derive(Debug)]
pub struct Header {
    section: Section,
    format: Option<Format>,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Keyed,
    Numbered,
}

impl Header {
    /// Starts with the line that starts a section.
    pub fn start(line: &[u8]) -> Result<Header, String> {
        match line {
            b"VERSION=2" | VERSION => {
                Ok(Header { section: Section::default(), format: None, kind: Kind::Keyed })
            }
            _ => Err("neither VERSION=3 nor a JSON object starts here".to_owned()),
        }
    }

    /// Takes one of the lines before `HEADER=END`.
    pub fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let Ok(line) = str::from_utf8(line) else {
            return Err("a header line that is not UTF-8".to_owned());
        };
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("not a header line: {line:.40}"));
        };
        match (name, value) {
            ("format", "bytevalue") => self.format = Some(Format::Bytevalue),
            ("format", "print") => self.format = Some(Format::Print),
            ("format", other) => return Err(format!("unknown format {other:.40}")),
            ("database" | "subdatabase", name) => self.section.database = Some(name.to_owned()),
            ("type", "btree" | "hash") => self.kind = Kind::Keyed,
            ("type", "recno" | "queue") => self.kind = Kind::Numbered,
            ("type", other) => return Err(format!("rows of type {other:.40} have no keys")),
            ("keys", "1") => self.kind = Kind::Keyed,
            (flag, "1") => self.foreign_flag(flag),
            _ => {}
        }
        Ok(())
    }

    fn foreign_flag(&mut self, flag: &str) {
        let known = FOREIGN_FLAGS.into_iter().find(|known| *known == flag);
        self.section.foreign_flags.extend(known);
    }

    /// What the header said, at `HEADER=END`.
    pub fn end(self) -> Result<(Section, Format), String> {
        if self.kind == Kind::Numbered {
            return Err("numbered rows without keys: dump them with db_dump -k".to_owned());
        }
        Ok((self.section, self.format.unwrap_or(Format::Bytevalue)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<(Section, Format), String> {
        let mut header = Header::start(b"VERSION=3")?;
        lines.iter().try_for_each(|line| header.line(line.as_bytes()))?;
        header.end()
    }

    #[test]
    fn lines_about_the_other_file_are_passed_over() {
        let lines = [
            "format=print",
            "type=btree",
            "mapsize=1048576",
            "mapaddr=0x7f",
            "maxreaders=126",
            "db_pagesize=4096",
        ];
        assert_eq!(read(&lines), Ok((Section::default(), Format::Print)));
    }

    #[test]
    fn database_names_the_section() {
        let (section, _) = read(&["format=bytevalue", "database=a=b", "type=btree"]).unwrap();
        assert_eq!(section.database.as_deref(), Some("a=b"));
    }

    #[test]
    fn flags_that_cannot_be_kept_are_named() {
        let (section, _) =
            read(&["duplicates=1", "dupsort=1", "recnum=1", "integerkey=0"]).unwrap();
        assert_eq!(section.foreign_flags, ["duplicates", "dupsort"]);
    }

    #[test]
    fn rows_without_keys_are_refused() {
        assert!(read(&["type=recno"]).is_err());
        assert!(read(&["type=heap"]).is_err());
        assert!(read(&["type=recno", "keys=1"]).is_ok());
    }

    #[test]
    fn other_versions_formats_and_noise_are_refused() {
        assert!(Header::start(b"VERSION=4").is_err());
        assert!(read(&["format=xml"]).is_err());
        assert!(read(&["hello"]).is_err());
    }
}
