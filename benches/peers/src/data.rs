//! The rows: 24 random bytes of key, 150 of value.

use ringdb_cli::measure::key::{KEY_BYTES, Origin, mix};

/// Bytes of a value.
pub const VALUE_BYTES: usize = 150;
/// Bytes of a row as its user counts them.
pub const ROW_BYTES: u64 = (KEY_BYTES + VALUE_BYTES) as u64;

/// A key.
pub type Key = [u8; KEY_BYTES];

/// A row to be put, or a key to be removed.
#[derive(Clone)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// The value; `None` removes.
    pub value: Option<[u8; VALUE_BYTES]>,
}

/// The key of a writer's row.
pub fn key(writer: u32, counter: u64) -> Key {
    Origin { writer, counter }.key()
}

/// A writer's row; another `version` of it has the same key and another value.
pub fn row(writer: u32, counter: u64, version: u64) -> Change {
    let origin = Origin { writer, counter };
    let mut state = mix(mix(counter ^ u64::from(writer) << 44).wrapping_add(version));
    let mut value = [0; VALUE_BYTES];
    for bytes in value.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bytes.copy_from_slice(&mix(state).to_le_bytes()[..bytes.len()]);
    }
    Change { key: origin.key(), value: Some(value) }
}

/// The removal of a writer's row.
pub fn removal(writer: u32, counter: u64) -> Change {
    Change { key: key(writer, counter), value: None }
}

/// A row whose keys ascend with the counter, for sorted loads.
pub fn sorted_row(counter: u64) -> Change {
    let mut row = row(0, counter, 0);
    row.key[..8].copy_from_slice(&counter.to_be_bytes());
    row
}
