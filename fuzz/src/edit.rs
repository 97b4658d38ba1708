//! The fuzzer's bytes as a list of edits, each within one part of the file.
//!
//! ```text
//! off len field
//!   0   1 how to seal     0: not at all, anything else: all checksums
//!   1     edits, ten bytes each:
//!           0 1 which part, of those that the target edits
//!           1 1 what to do
//!           2 2 where in the part
//!           4 4 a number
//!           8 1 an extreme
//!           9 1 a length
//! ```

use super::image::Image;
use super::map::{self, COPIES_APART, Kind, Region};

const EDIT_BYTES: usize = 10;
/// Edits of one input; the rest is not looked at.
const EDITS_MAX: usize = 64;
/// Where the heads of nodes and groups end: half of the edits fall before this.
const HEAD_BYTES: usize = 128;

/// What an input asks for.
pub struct Edits<'a> {
    kinds: &'static [Kind],
    seal: bool,
    edits: &'a [[u8; EDIT_BYTES]],
}

impl<'a> Edits<'a> {
    /// Reads an input; any bytes are one.
    pub fn new(kinds: &'static [Kind], input: &'a [u8]) -> Edits<'a> {
        let (seal, rest) =
            input.split_first().map_or((true, input), |(how, rest)| (*how != 0, rest));
        let edits = rest.as_chunks().0;
        Edits { kinds, seal, edits: &edits[..edits.len().min(EDITS_MAX)] }
    }

    /// Makes the edits. Whether checksums are to be repaired.
    pub fn apply(&self, image: &Image, bytes: &mut [u8]) -> bool {
        let parts: Vec<&Region> =
            image.regions.iter().filter(|region| self.kinds.contains(&region.kind)).collect();
        for edit in self.edits {
            // Kinds first: there are many nodes and one superblock.
            let kind = self.kinds[usize::from(edit[0]) % self.kinds.len()];
            let alike: Vec<_> = parts.iter().filter(|part| part.kind == kind).collect();
            let part = alike[usize::from(edit[0]) / self.kinds.len() % alike.len()];
            let other = alike[usize::from(edit[8]) % alike.len()];
            apply(edit, bytes, part, other);
        }
        self.seal
    }
}

fn apply(edit: &[u8; EDIT_BYTES], bytes: &mut [u8], part: &Region, other: &Region) {
    let [_, what, _, _, number @ .., extreme, length] = edit;
    let place = part.place.clone();
    let len = place.len();
    let at = usize::from(u16::from_le_bytes([edit[2], edit[3]]));
    let at = if what & 0x80 == 0 { at % len.min(HEAD_BYTES) } else { at % len };
    let number = u32::from_le_bytes(*number);
    let length = usize::from(*length) % 64;
    let extreme = extremes(bytes.len(), number)[usize::from(*extreme) % EXTREMES];
    let own = &mut bytes[place];
    match what & 0x0F {
        0 => own[at] ^= 1 << (number % 8),
        1 => own[at] = number as u8,
        2 => put(own, at, &(extreme as u16).to_le_bytes()),
        3 => put(own, at, &(extreme as u32).to_le_bytes()),
        4 | 5 => put(own, at, &extreme.to_le_bytes()),
        6 => put(own, at, &number.to_le_bytes()),
        7 => add(own, at, i64::from(number as i8)),
        8 => own[at..len.min(at + length)].fill(0),
        9 => own.copy_within(at..len.saturating_sub(length).max(at), (at + length).min(len - 1)),
        10 => own.copy_within((at + length).min(len)..len, at),
        11 => copy(own, number as usize % len, at, 8),
        12 => copy(own, number as usize % len, at, length),
        13 => own[at..len.min(at + length)].reverse(),
        14 => put(own, at, &[edit[4], edit[5], edit[6], edit[7], edit[8], edit[9]]),
        _ => whole(bytes, part, other),
    }
    if part.kind == Kind::Superblock {
        // The second copy follows when the first is sealed; unsealed, both say the same.
        let place = part.place.clone();
        bytes.copy_within(place.clone(), place.start + COPIES_APART);
    }
}

const EXTREMES: usize = 20;

/// Numbers at the border of what is possible.
fn extremes(file_bytes: usize, number: u32) -> [u64; EXTREMES] {
    let pages = (file_bytes / map::PAGE) as u64;
    [
        0,
        1,
        2,
        63,
        64,
        65,
        255,
        256,
        4096,
        1 << 15,
        u64::from(u16::MAX),
        1 << 30,
        u64::from(u32::MAX),
        1 << 50,
        i64::MAX as u64,
        u64::MAX,
        pages,
        pages - 1,
        pages + 1,
        u64::from(number) % pages,
    ]
}

fn put(own: &mut [u8], at: usize, value: &[u8]) {
    let len = value.len().min(own.len() - at);
    own[at..at + len].copy_from_slice(&value[..len]);
}

fn add(own: &mut [u8], at: usize, change: i64) {
    if let Some(now) = map::number::<8>(own, at) {
        put(own, at, &now.wrapping_add_signed(change).to_le_bytes());
    }
}

fn copy(own: &mut [u8], from: usize, to: usize, len: usize) {
    let len = len.min(own.len() - from).min(own.len() - to);
    own.copy_within(from..from + len, to);
}

/// Another part of its kind in its place, as far as there is room.
fn whole(bytes: &mut [u8], part: &Region, other: &Region) {
    let len = part.place.len().min(other.place.len());
    bytes.copy_within(other.place.start..other.place.start + len, part.place.start);
}
