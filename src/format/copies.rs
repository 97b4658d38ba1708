//! Which of the four copies of the superblock counts.
//!
//! The newest intact one does. A generation is written twice and the one before it stays, so the loss of any one copy, or of both
//! places of one page, costs nothing; a crash between the writes leaves a generation with one copy, and recovery completes it.
//!
//! Two intact copies that contradict each other (of two files, or of one generation and not equal) cannot come from a crash. One of
//! them is a misdirected write and nothing tells which: that is refused, not guessed.

use super::Defect;
use super::superblock::{
    COPY_OFFSETS, FIRST_GENERATION, Refused, SUPERBLOCK_BYTES, Superblock, VERSION, claimed_version,
};
use crate::ids::Generation;

/// How each copy was found, in the order A0, A1, B0, B1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CopyHealth {
    /// One state per copy.
    pub copies: [CopyState; 4],
}

/// How one copy was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyState {
    /// It has the newest generation.
    Current,
    /// It has the generation before.
    Previous,
    /// It is intact and older: a write was lost, or a crash came before it.
    Stale(Generation),
    /// Nothing was ever written there.
    Empty,
    /// It is damaged.
    Bad(Refused),
}

impl CopyHealth {
    /// Whether both copies of the newest generation are there and the others are as they should be.
    pub(crate) fn is_whole(&self) -> bool {
        self.bad().next().is_none()
    }

    /// The copies that should be written again, with their byte offsets in the file.
    pub(crate) fn bad(&self) -> impl Iterator<Item = (u64, CopyState)> {
        let found = COPY_OFFSETS.into_iter().zip(self.copies);
        found.filter(|(_, state)| matches!(state, CopyState::Stale(_) | CopyState::Bad(_)))
    }
}

/// Takes the newest intact superblock of the four copies A0, A1, B0, B1; one that could not be read is given as empty.
///
/// # Errors
///
/// `NotOurs` if no copy begins as ours do; `Version` if there is an intact copy of another version, or no copy claims ours;
/// `Defect` otherwise, with its offset in the file.
pub(crate) fn choose(copies: [&[u8]; 4]) -> Result<(Superblock, CopyHealth), Refused> {
    let decoded: [_; 4] = std::array::from_fn(|index| decode(index, copies[index]));
    if let Some(Err(newer)) = decoded.iter().find(|copy| matches!(copy, Err(Refused::Version(_)))) {
        return Err(*newer);
    }
    let intact = || decoded.iter().flatten();
    let Some(newest) = intact().max_by_key(|superblock| superblock.generation) else {
        return Err(refusal(copies, &decoded));
    };
    if let Some(index) = decoded.iter().position(|copy| contradicts(copy, newest)) {
        let what = "copies of the superblock contradict each other";
        return Err(Defect { what, at: COPY_OFFSETS[index] }.into());
    }
    let state = |index: usize| state(&decoded[index], copies[index], newest.generation);
    let health = CopyHealth { copies: std::array::from_fn(state) };
    Ok((newest.clone(), health))
}

fn decode(index: usize, bytes: &[u8]) -> Result<Superblock, Refused> {
    let in_file = |refused| match refused {
        Refused::Defect(defect) => Refused::Defect(defect.shifted(COPY_OFFSETS[index])),
        Refused::NotOurs | Refused::Version(_) => refused,
    };
    let superblock = Superblock::decode(bytes).map_err(in_file)?;
    if superblock.generation.0 % 2 != index as u64 % 2 {
        let what = "superblock lies in the wrong slot";
        return Err(Defect { what, at: COPY_OFFSETS[index] }.into());
    }
    Ok(superblock)
}

fn contradicts(copy: &Result<Superblock, Refused>, newest: &Superblock) -> bool {
    copy.as_ref().is_ok_and(|copy| {
        let twin = copy.generation == newest.generation;
        copy.file_id != newest.file_id || (twin && copy != newest)
    })
}

fn state(copy: &Result<Superblock, Refused>, bytes: &[u8], newest: Generation) -> CopyState {
    match copy {
        Ok(copy) if copy.generation == newest => CopyState::Current,
        Ok(copy) if copy.generation.0 + 1 == newest.0 => CopyState::Previous,
        Ok(copy) => CopyState::Stale(copy.generation),
        Err(_) if newest == FIRST_GENERATION && is_empty(bytes) => CopyState::Empty,
        Err(refused) => CopyState::Bad(*refused),
    }
}

fn is_empty(bytes: &[u8]) -> bool {
    bytes.len() >= SUPERBLOCK_BYTES && bytes.iter().all(|&byte| byte == 0)
}

/// Why the file is refused as a whole when no copy is intact.
fn refusal(copies: [&[u8]; 4], decoded: &[Result<Superblock, Refused>; 4]) -> Refused {
    let mut claims = copies.into_iter().filter_map(claimed_version);
    let defect = decoded.iter().find_map(|copy| match copy {
        Err(refused @ Refused::Defect(_)) => Some(*refused),
        _ => None,
    });
    match (defect, claims.clone().all(|version| version != VERSION), claims.next()) {
        (None, ..) => Refused::NotOurs,
        (Some(_), true, Some(version)) => Refused::Version(version),
        (Some(defect), ..) => defect,
    }
}

#[cfg(test)]
mod tests {
    use super::super::superblock::tests::{repair, superblock};
    use super::*;
    use CopyState::{Current, Empty, Previous, Stale};

    type Block = [u8; SUPERBLOCK_BYTES];

    fn block(generation: u64) -> Block {
        superblock(generation).encode()
    }

    fn chosen(blocks: &[Block; 4]) -> Result<(u64, [CopyState; 4]), Refused> {
        let (superblock, health) = choose(blocks.each_ref().map(|block| &block[..]))?;
        Ok((superblock.generation.0, health.copies))
    }

    #[test]
    fn the_newest_intact_generation_counts() {
        let zeros = [0; SUPERBLOCK_BYTES];
        for (blocks, expected) in [
            ([zeros, block(1), zeros, block(1)], (1, [Empty, Current, Empty, Current])),
            ([block(8), block(7), block(8), block(7)], (8, [Current, Previous, Current, Previous])),
            (
                [block(8), block(9), block(8), block(7)],
                (9, [Previous, Current, Previous, Stale(Generation(7))]),
            ),
            (
                [block(8), block(7), block(6), block(7)],
                (8, [Current, Previous, Stale(Generation(6)), Previous]),
            ),
        ] {
            assert_eq!(chosen(&blocks), Ok(expected));
        }
    }

    #[test]
    fn any_one_flipped_byte_leaves_the_newest_generation() {
        for copy in 0..4 {
            for at in 0..SUPERBLOCK_BYTES {
                let mut blocks = [block(8), block(7), block(8), block(7)];
                blocks[copy][at] ^= 0x55;
                let (superblock, health) =
                    choose(blocks.each_ref().map(|block| &block[..])).unwrap();
                assert_eq!(superblock.generation, Generation(8));
                let bad: Vec<_> = health.bad().map(|(offset, _)| offset).collect();
                assert_eq!(bad, [COPY_OFFSETS[copy]]);
            }
        }
    }

    #[test]
    fn both_copies_lost_leave_the_generation_before() {
        let mut blocks = [block(8), block(7), block(8), block(7)];
        (blocks[0][500], blocks[2][600]) = (1, 1);
        assert_eq!(chosen(&blocks).unwrap().0, 7);
        let unread = choose([&[], &blocks[1], &[], &blocks[3]]).unwrap();
        assert_eq!(unread.0.generation, Generation(7));
        assert!(!unread.1.is_whole());
    }

    #[test]
    fn a_lost_slot_is_bad_and_not_empty() {
        let blocks = [block(2), [0; SUPERBLOCK_BYTES], block(2), block(1)];
        let expected = [Current, CopyState::Bad(Refused::NotOurs), Current, Previous];
        assert_eq!(chosen(&blocks), Ok((2, expected)));
    }

    #[test]
    fn a_file_without_our_magic_is_not_ours() {
        assert_eq!(chosen(&[[0; SUPERBLOCK_BYTES]; 4]), Err(Refused::NotOurs));
        assert_eq!(choose([b"GIF89a", &[], &[], &[]]).unwrap_err(), Refused::NotOurs);
    }

    #[test]
    fn another_version_is_told_from_damage() {
        let other = |repaired: bool| {
            let mut block = block(8);
            block[8] = 9;
            if repaired {
                repair(&mut block);
            }
            block
        };
        let zeros = [0; SUPERBLOCK_BYTES];
        assert_eq!(chosen(&[other(true), block(7), zeros, zeros]), Err(Refused::Version(9)));
        assert_eq!(chosen(&[other(false), zeros, zeros, zeros]), Err(Refused::Version(9)));
        assert_eq!(chosen(&[other(false), block(7), zeros, zeros]).unwrap().0, 7);
    }

    #[test]
    fn damage_to_all_copies_is_corruption_and_names_the_place() {
        let mut bad = block(8);
        bad[100] ^= 1;
        let defect = Defect { what: "superblock checksum does not match", at: 524_300 };
        let zeros = [0; SUPERBLOCK_BYTES];
        assert_eq!(chosen(&[zeros, zeros, bad, zeros]), Err(Refused::Defect(defect)));
    }

    #[test]
    fn copies_that_contradict_each_other_are_refused() {
        let mut twin = superblock(8);
        twin.next_segment += 1;
        let mut stranger = superblock(7);
        stranger.file_id = [9; 16];
        for blocks in [
            [block(8), block(7), twin.encode(), block(7)],
            [block(8), block(7), block(8), stranger.encode()],
        ] {
            assert!(matches!(chosen(&blocks), Err(Refused::Defect(_))));
        }
    }

    #[test]
    fn a_copy_in_the_wrong_slot_is_bad() {
        let blocks = [block(8), block(8), block(8), block(7)];
        let (generation, states) = chosen(&blocks).unwrap();
        assert_eq!(generation, 8);
        assert!(matches!(states[1], CopyState::Bad(Refused::Defect(_))));
    }
}
