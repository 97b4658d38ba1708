//! Every row of a database as text: a line with each family's name, then a line for each row.

use std::fmt::Write;

use crate::state::State;

/// Longer values are listed by their length and a checksum.
const VALUE_BYTES_MAX: usize = 80;

/// The listing of a state.
pub fn of(state: &State) -> String {
    let mut text = String::new();
    for (name, rows) in &state.0 {
        writeln!(text, "[{name}] {} rows", rows.len()).expect("a string takes all");
        for (key, value) in rows {
            let (key, value) = (key.escape_ascii(), shown(value));
            writeln!(text, "{key} = {value}").expect("a string takes all");
        }
    }
    text
}

fn shown(value: &[u8]) -> String {
    if value.len() <= VALUE_BYTES_MAX {
        return value.escape_ascii().to_string();
    }
    let head = value[..16].escape_ascii();
    format!("{head}... {} bytes, crc32c {:08x}", value.len(), crc32c::crc32c(value))
}
