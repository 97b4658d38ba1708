//! The two spellings of bytes: `bytevalue`, two hex digits a byte, and `print`, which shows what
//! ASCII can show.
//!
//! In `print`, bytes from space to tilde stand for themselves and all others are a backslash and
//! two hex digits. The backslash itself is written `\5c`: every loader reads that, while Debian's
//! `mdb_load` misreads `\\` behind an earlier escape and Debian's `mdb_dump -p` writes a bare `\`,
//! which it cannot read back itself. On reading, `\\` (Berkeley DB) and `\5c` are both a backslash,
//! and a bare one is an error: guessing would turn `\ab` into another value without a word.

/// How the bytes of a section are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Two hex digits a byte.
    Bytevalue,
    /// Printable ASCII as it is, all else escaped.
    Print,
}

impl Format {
    /// Its name in a header.
    pub fn name(self) -> &'static str {
        match self {
            Format::Bytevalue => "bytevalue",
            Format::Print => "print",
        }
    }

    /// Appends the spelling of `bytes`.
    pub fn encode(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Format::Bytevalue => bytes.iter().for_each(|byte| out.extend_from_slice(&hex(*byte))),
            Format::Print => bytes.iter().for_each(|byte| print(*byte, out)),
        }
    }

    /// Replaces `out` by the bytes that `text` spells.
    pub fn decode(self, text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        out.clear();
        match self {
            Format::Bytevalue => decode_hex(text, out),
            Format::Print => decode_print(text, out),
        }
    }
}

fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

fn print(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'\\' => out.extend_from_slice(b"\\5c"),
        b' '..=b'~' => out.push(byte),
        _ => {
            out.push(b'\\');
            out.extend_from_slice(&hex(byte));
        }
    }
}

fn decode_hex(text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("an odd number of hex digits");
    }
    out.reserve(pairs.len());
    for pair in pairs {
        out.push(byte(*pair).ok_or("not a hex digit")?);
    }
    Ok(())
}

fn decode_print(text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    const BARE: &str = "a backslash that is neither doubled nor before two hex digits \
                        (mdb_dump -p does not escape it: dump without -p)";
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'\\', [b'\\', tail @ ..]) => {
                out.push(b'\\');
                tail
            }
            (b'\\', [high, low, tail @ ..]) => {
                out.push(byte([*high, *low]).ok_or(BARE)?);
                tail
            }
            (b'\\', _) => return Err(BARE),
            (plain, tail) => {
                out.push(*plain);
                tail
            }
        };
    }
    Ok(())
}

fn byte([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: Format, bytes: &[u8], text: &str) {
        let mut spelled = Vec::new();
        format.encode(bytes, &mut spelled);
        assert_eq!(String::from_utf8_lossy(&spelled), text);
        let mut back = Vec::new();
        assert_eq!(format.decode(text.as_bytes(), &mut back), Ok(()));
        assert_eq!(back, bytes);
    }

    #[test]
    fn bytes_are_spelled_as_the_tools_spell_them() {
        check(Format::Bytevalue, b"", "");
        check(Format::Bytevalue, b"\x00\xff\n\\", "00ff0a5c");
        check(Format::Print, b"", "");
        check(Format::Print, b"h\xc3\xa9llo\t~ \x7f", "h\\c3\\a9llo\\09~ \\7f");
        check(Format::Print, b"a\\b", "a\\5cb");
    }

    #[test]
    fn every_byte_survives_both_spellings() {
        let all: Vec<u8> = (0..=255).collect();
        for format in [Format::Bytevalue, Format::Print] {
            let (mut text, mut back) = (Vec::new(), Vec::new());
            format.encode(&all, &mut text);
            assert_eq!(format.decode(&text, &mut back), Ok(()));
            assert_eq!(back, all);
        }
    }

    #[test]
    fn other_spellings_are_read_too() {
        let mut back = Vec::new();
        assert_eq!(Format::Print.decode(b"a\\\\b\\C3", &mut back), Ok(()));
        assert_eq!(back, b"a\\b\xc3");
        assert_eq!(Format::Bytevalue.decode(b"AbCD", &mut back), Ok(()));
        assert_eq!(back, b"\xab\xcd");
    }

    #[test]
    fn wrong_spellings_are_refused() {
        let mut back = Vec::new();
        for text in ["a\\", "a\\0", "a\\zz", "\\5"] {
            assert!(Format::Print.decode(text.as_bytes(), &mut back).is_err(), "{text}");
        }
        for text in ["0", "0g", "abc", " 0"] {
            assert!(Format::Bytevalue.decode(text.as_bytes(), &mut back).is_err(), "{text}");
        }
    }
}
