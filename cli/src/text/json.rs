//! JSON lines: one object per row, `{"family":"users","key":"ada","value":"1815"}`.
//!
//! A key or value is a string where it is UTF-8 and `{"base64":"…"}` (RFC 4648, padded) where it is
//! not, so that text stays readable and every byte survives. A row without `family` belongs to the
//! main one.

use std::io::{self, BufRead, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::lines::Lines;
use super::{Piece, TextError};

#[derive(Serialize)]
struct RowOut<'a> {
    family: &'a str,
    key: Bytes<'a>,
    value: Bytes<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Bytes<'a> {
    Text(&'a str),
    Coded { base64: String },
}

impl<'a> From<&'a [u8]> for Bytes<'a> {
    fn from(bytes: &'a [u8]) -> Bytes<'a> {
        match str::from_utf8(bytes) {
            Ok(text) => Bytes::Text(text),
            Err(_) => Bytes::Coded { base64: STANDARD.encode(bytes) },
        }
    }
}

/// Writes a row as one line.
pub fn write_row(to: &mut impl Write, family: &str, key: &[u8], value: &[u8]) -> io::Result<()> {
    let row = RowOut { family, key: key.into(), value: value.into() };
    serde_json::to_writer(&mut *to, &row)?;
    to.write_all(b"\n")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowIn {
    family: Option<String>,
    key: Field,
    value: Field,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Field {
    Text(String),
    Coded(Coded),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Coded {
    base64: String,
}

impl Field {
    fn into_bytes(self) -> Result<Vec<u8>, base64::DecodeError> {
        match self {
            Field::Text(text) => Ok(text.into_bytes()),
            Field::Coded(Coded { base64 }) => STANDARD.decode(base64),
        }
    }
}

/// The rows of a text of JSON lines.
pub struct JsonLines<R> {
    lines: Lines<R>,
    family: Option<String>,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl<R: BufRead> JsonLines<R> {
    /// Reads the text behind `lines`.
    pub fn new(lines: Lines<R>) -> JsonLines<R> {
        JsonLines { lines, family: None, key: Vec::new(), value: Vec::new() }
    }

    /// The next row, or `None` behind the last; empty lines are passed over.
    pub fn next(&mut self) -> Result<Option<Piece<'_>>, TextError> {
        loop {
            match self.lines.next()? {
                None => return Ok(None),
                Some([]) => {}
                Some(_) => break,
            }
        }
        let row = serde_json::from_slice::<RowIn>(self.lines.current())
            .map_err(|error| self.lines.defect(format!("not a row: {error}")))?;
        let bytes = |field: Field| {
            field.into_bytes().map_err(|error| self.lines.defect(format!("not base64: {error}")))
        };
        (self.key, self.value) = (bytes(row.key)?, bytes(row.value)?);
        self.family = row.family;
        let family = self.family.as_deref();
        Ok(Some(Piece::Row { family, key: &self.key, value: &self.value }))
    }

    /// What is wrong with the row read last.
    pub fn defect(&self, what: impl Into<String>) -> TextError {
        self.lines.defect(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(key: &[u8], value: &[u8]) -> String {
        let mut out = Vec::new();
        write_row(&mut out, "users", key, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_stays_readable_and_bytes_survive() {
        let text = line(b"h\xc3\xa9", b"a\"b\n");
        assert_eq!(text, "{\"family\":\"users\",\"key\":\"h\u{e9}\",\"value\":\"a\\\"b\\n\"}\n");
        let coded = line(b"\xff\x00", b"");
        assert_eq!(coded, "{\"family\":\"users\",\"key\":{\"base64\":\"/wA=\"},\"value\":\"\"}\n");
        for (written, row) in
            [(text, (&b"h\xc3\xa9"[..], &b"a\"b\n"[..])), (coded, (b"\xff\x00", b""))]
        {
            let mut rows = JsonLines::new(Lines::new(written.as_bytes()));
            let expected = Piece::Row { family: Some("users"), key: row.0, value: row.1 };
            assert_eq!(rows.next().unwrap(), Some(expected));
            assert_eq!(rows.next().unwrap(), None);
        }
    }

    #[test]
    fn family_may_be_left_out() {
        let mut rows = JsonLines::new(Lines::new(&b"\n{\"value\":\"v\",\"key\":\"k\"}"[..]));
        let expected = Piece::Row { family: None, key: b"k", value: b"v" };
        assert_eq!(rows.next().unwrap(), Some(expected));
    }

    #[test]
    fn defects_name_their_line() {
        for text in [
            "{}",
            "[1]",
            "{\"key\":1,\"value\":\"\"}",
            "{\"key\":\"\",\"value\":{\"base64\":\"*\"}}",
            "{\"key\":\"\",\"value\":\"\",\"more\":1}",
        ] {
            let mut rows = JsonLines::new(Lines::new(text.as_bytes()));
            let Err(TextError::Defect(defect)) = rows.next() else { panic!("{text} was read") };
            assert_eq!(defect.line, 1);
        }
    }
}
