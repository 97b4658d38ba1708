//! Good checksums for whatever the file says now, from the bottom up.

use std::ops::Range;

use super::map::{self, BLOCK, COPIES_APART, number};

const CRC_AT: usize = 12;
const FILE_ID: Range<usize> = 16..32;

/// Repairs every checksum that opening and reading will meet.
pub fn seal(bytes: &mut [u8], slot_at: usize) {
    let id: [u8; 16] = bytes[slot_at..][FILE_ID].try_into().expect("an id has 16 bytes");
    // Children were found after their parents: the last are sealed first.
    for node in map::nodes(bytes, slot_at).into_iter().rev() {
        let crc = at_page(&id, node.page, &bytes[node.start..node.start + node.len]);
        put(bytes, node.crc_at, crc);
    }
    for (at, page, place) in map::filters(bytes, slot_at) {
        let crc = at_page(&id, page, &bytes[place]);
        put(bytes, at + 12, crc);
    }
    for at in [slot_at + 96, slot_at + 120] {
        if let Some((page, place)) = map::blob(bytes, at) {
            let crc = at_page(&id, page, &bytes[place]);
            put(bytes, at + 12, crc);
        }
    }
    for chapter in map::chapters(bytes, slot_at) {
        seal_log(bytes, &id, chapter);
    }
    let block = &bytes[slot_at..slot_at + BLOCK];
    let crc = crc32c::crc32c(&block[FILE_ID]);
    let crc = crc32c::crc32c_append(crc, &block[..CRC_AT]);
    let crc = crc32c::crc32c_append(crc, &block[FILE_ID.start..]);
    put(bytes, slot_at + CRC_AT, crc);
    bytes.copy_within(slot_at..slot_at + BLOCK, slot_at + COPIES_APART);
}

/// The chain of groups of one chapter, and the end that the chapter tells.
fn seal_log(bytes: &mut [u8], id: &[u8; 16], chapter: usize) {
    let (end_ordinal, end_at) =
        (number::<8>(bytes, chapter + 40), number::<8>(bytes, chapter + 48));
    let mut previous = None;
    for segment in map::segments(bytes, chapter) {
        let crc = salted(id, &bytes[segment.start + 4..segment.start + BLOCK]);
        put(bytes, segment.start, crc);
        for group in map::groups(bytes, &segment) {
            if let Some(previous) = previous {
                put(bytes, group.start + 12, previous);
            }
            let crc = salted(id, &bytes[group.start + 4..group.start + group.len]);
            put(bytes, group.start, crc);
            previous = Some(crc);
            let is_end = end_at == Some(group.end_in_segment as u64);
            if is_end && end_ordinal == Some(group.ordinal) {
                put(bytes, chapter + 56, crc);
                return;
            }
        }
    }
}

fn salted(id: &[u8; 16], bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(id), bytes)
}

fn at_page(id: &[u8; 16], page: u64, bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(id), &page.to_le_bytes());
    crc32c::crc32c_append(crc, bytes)
}

fn put(bytes: &mut [u8], at: usize, crc: u32) {
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::image::Image;
    use super::super::map::Kind;
    use super::*;

    #[test]
    fn a_file_that_is_whole_is_sealed_already() {
        let image = Image::kept();
        let mut bytes = image.bytes.clone();
        seal(&mut bytes, image.slot_at);
        let changed = bytes.iter().zip(&image.bytes).position(|(now, before)| now != before);
        assert_eq!(changed, None);
    }

    #[test]
    fn the_kept_file_has_parts_of_every_kind() {
        let image = Image::kept();
        for kind in Kind::ALL {
            let count = image.regions.iter().filter(|region| region.kind == kind).count();
            assert!(count > 0, "{kind:?}");
        }
    }
}
