//! Lines of a text, numbered and bounded.

use std::io::{self, BufRead, Read};

use super::{Defect, TextError};

/// Longest line that is read: a value of the engine's limit (1 GiB) as three characters a byte,
/// with room for a JSON line around it.
pub const LINE_BYTES_MAX: u64 = 3 * (1 << 30) + (1 << 20);

/// Reads lines into one buffer that is used again.
pub struct Lines<R> {
    from: R,
    line: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `from`.
    pub fn new(from: R) -> Lines<R> {
        Lines { from, line: Vec::new(), number: 0 }
    }

    /// The next line without its end, or `None` behind the last.
    pub fn next(&mut self) -> Result<Option<&[u8]>, TextError> {
        self.line.clear();
        let read = (&mut self.from).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.line.pop_if(|last| *last == b'\n').is_none() && read as u64 == LINE_BYTES_MAX {
            return Err(self.defect("a line longer than any row can be"));
        }
        Ok(Some(&self.line))
    }

    /// The line that was read last.
    pub fn current(&self) -> &[u8] {
        &self.line
    }

    /// The first byte of the text, if there is one, left to be read.
    pub fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.from.fill_buf()?.first().copied())
    }

    /// What is wrong with the line that was read last.
    pub fn defect(&self, what: impl Into<String>) -> TextError {
        TextError::Defect(Defect { line: self.number, what: what.into() })
    }
}
