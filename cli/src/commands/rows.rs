//! `ringdb get`, `put`, `delete` and `scan`: single rows and ranges from a shell.

use std::ffi::OsStr;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::ops::Bound;

use ringdb::{Create, Range, block_on};

use crate::args::{KeyArgs, PutArgs, ScanArgs};
use crate::exit::Failure;
use crate::text::codec::Format;
use crate::text::json;

/// Writes the value of a key, and a newline only where a person looks at it.
pub fn get(args: KeyArgs) -> Result<(), Failure> {
    let key = argument(&args.key, args.hex)?;
    super::with_database(&args.place, super::options(&args.place, Create::Never), |db| {
        let family = super::existing(db, &args.family.family)?;
        let value = block_on(family.get(&key))?.ok_or(Failure::NotFound(None))?;
        let mut out = io::stdout().lock();
        if args.hex {
            let mut spelled = Vec::new();
            Format::Bytevalue.encode(&value, &mut spelled);
            out.write_all(&spelled)?;
        } else {
            out.write_all(&value)?;
        }
        if args.hex || out.is_terminal() {
            out.write_all(b"\n")?;
        }
        Ok(out.flush()?)
    })
}

/// Puts a row; it is durable when this returns.
pub fn put(args: PutArgs) -> Result<(), Failure> {
    let key = argument(&args.key, args.hex)?;
    let value = match &args.value {
        Some(value) => argument(value, args.hex)?,
        None => {
            let mut value = Vec::new();
            io::stdin().lock().read_to_end(&mut value)?;
            value
        }
    };
    super::with_database(&args.place, super::options(&args.place, Create::IfMissing), |db| {
        let family = block_on(db.column_family(&args.family.family))?;
        block_on(family.put(&key, &value))?;
        Ok(())
    })
}

/// Deletes a row that must be there.
pub fn delete(args: KeyArgs) -> Result<(), Failure> {
    let key = argument(&args.key, args.hex)?;
    super::with_database(&args.place, super::options(&args.place, Create::Never), |db| {
        let family = super::existing(db, &args.family.family)?;
        // Nobody else has the file open, so nothing comes between the two.
        if !block_on(family.contains(&key))? {
            return Err(Failure::NotFound(None));
        }
        block_on(family.delete(&key))?;
        Ok(())
    })
}

/// Writes the rows of a range.
pub fn scan(args: ScanArgs) -> Result<(), Failure> {
    let bound = |key: &Option<_>| key.as_deref().map(|key| argument(key, args.hex)).transpose();
    let (from, to, prefix) = (bound(&args.from)?, bound(&args.to)?, bound(&args.prefix)?);
    super::with_database(&args.place, super::options_of_a_reader(&args.place), |db| {
        let family = super::existing(db, &args.family.family)?;
        let rows = match prefix {
            Some(prefix) => family.prefix(prefix),
            None => family.range::<Vec<u8>>((
                from.map_or(Bound::Unbounded, Bound::Included),
                to.map_or(Bound::Unbounded, Bound::Excluded),
            )),
        };
        let rows = if args.reverse { rows.rev() } else { rows };
        block_on(write_rows(&args, rows))
    })
}

async fn write_rows(args: &ScanArgs, mut rows: Range) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let format = if args.hex { Format::Bytevalue } else { Format::Print };
    let mut line = Vec::new();
    let mut written = 0;
    while args.limit.is_none_or(|limit| written < limit) {
        let Some((key, value)) = rows.try_next().await? else { break };
        written += 1;
        line.clear();
        match (args.count, args.json) {
            (true, _) => continue,
            (false, true) => json::write_row(&mut line, &args.family.family, &key, &value)?,
            (false, false) => {
                format.encode(&key, &mut line);
                if !args.keys {
                    line.push(b'\t');
                    format.encode(&value, &mut line);
                }
                line.push(b'\n');
            }
        }
        out.write_all(&line)?;
    }
    if args.count {
        writeln!(out, "{written}")?;
    }
    Ok(out.flush()?)
}

/// The bytes that an argument means: its own, or those that its hex digits spell.
fn argument(text: &OsStr, hex: bool) -> Result<Vec<u8>, Failure> {
    let text = text.as_encoded_bytes();
    if !hex {
        return Ok(text.to_vec());
    }
    let mut bytes = Vec::new();
    let decoded = Format::Bytevalue.decode(text, &mut bytes);
    decoded.map_err(|what| Failure::Usage(format!("{}: {what}", text.escape_ascii())))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_arguments_are_decoded_and_others_taken_as_they_are() {
        assert_eq!(argument(OsStr::new("616461"), true).unwrap(), b"ada");
        assert_eq!(argument(OsStr::new("616461"), false).unwrap(), b"616461");
        assert!(matches!(argument(OsStr::new("61646"), true), Err(Failure::Usage(_))));
    }
}
