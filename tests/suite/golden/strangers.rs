//! Files that are not ours, not of this version, or not whole: a typed error each, and no panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ringdb::{Error, ErrorKind, Result};

use super::{Copy, holds, image, listed};
use crate::fixture::{Kind, Watchdog, assert_sound, block_on, fails, say};
use crate::state::State;

const BLOCK_BYTES: usize = 4096;
/// Where the four copies of the superblock lie.
const COPIES: [usize; 4] = [0, 4096, 512 << 10, (512 << 10) + 4096];
const VERSION_AT: usize = 8;
const CRC_AT: usize = 12;
const FILE_ID: std::ops::Range<usize> = 16..32;

/// Opens the bytes, reads every row and checks; the error of the first that fails.
fn look(bytes: &[u8], kind: Kind) -> Result<State> {
    let copy = Copy::of(bytes, kind);
    let db = copy.open()?;
    let state = block_on(State::read(&db))?;
    block_on(db.check())?;
    block_on(db.close())?;
    Ok(state)
}

fn refused(bytes: &[u8], kind: ErrorKind) -> Error {
    let error = fails(look(bytes, Kind::Sim), kind);
    assert_eq!(fails(look(bytes, Kind::Auto), kind).to_string(), error.to_string());
    error
}

/// The image with another version and good checksums.
fn of_version(version: u32) -> Vec<u8> {
    let mut bytes = image();
    for at in COPIES {
        let block = &mut bytes[at..at + BLOCK_BYTES];
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        block[VERSION_AT..CRC_AT].copy_from_slice(&version.to_le_bytes());
        let sum = crc32c::crc32c(&block[FILE_ID]);
        let sum = crc32c::crc32c_append(sum, &block[..CRC_AT]);
        let sum = crc32c::crc32c_append(sum, &block[FILE_ID.start..]);
        block[CRC_AT..FILE_ID.start].copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}

#[test]
fn a_file_of_another_version_is_refused_and_both_versions_are_named() {
    for version in [0, 2, 3, 0x0100, u32::MAX] {
        let error = refused(&of_version(version), ErrorKind::Version);
        let said = error.to_string();
        let expected = format!("the file has format version {version}, this build reads 1");
        assert!(said.contains(&expected), "{said}");
    }
    // The seal is right: with the version of this build the same file opens.
    assert!(look(&of_version(1), Kind::Sim).is_ok());
}

#[test]
fn a_file_of_another_version_with_a_bad_checksum_is_not_taken_for_damage() {
    let mut bytes = of_version(2);
    for at in COPIES {
        bytes[at + CRC_AT] ^= 1;
    }
    refused(&bytes, ErrorKind::Version);
}

#[test]
fn files_that_are_not_ours_are_refused() {
    let image = image();
    let other_magic = |magic: &[u8; 8]| {
        let mut bytes = image.clone();
        COPIES.iter().for_each(|at| bytes[*at..at + 8].copy_from_slice(magic));
        bytes
    };
    let text = "no database, just words\n".repeat(40_000).into_bytes();
    let strangers = [
        ("empty", Vec::new()),
        ("one byte", vec![b'r']),
        ("the magic alone", b"ringdb\x01\0".to_vec()),
        ("a picture", b"GIF89a".repeat(200_000)),
        ("another database", b"SQLite format 3\0".repeat(70_000)),
        ("text", text),
        ("zeros", vec![0; 1 << 20]),
        ("ones", vec![0xFF; 1 << 20]),
        ("an older magic", other_magic(b"ringdb\0\0")),
        ("a later magic", other_magic(b"ringdb\x02\0")),
        ("text for a magic", other_magic(b"ringdb\r\n")),
    ];
    for (name, bytes) in strangers {
        let said = refused(&bytes, ErrorKind::Corrupt).to_string();
        assert!(said.contains("the file is not a ringdb database"), "{name}: {said}");
    }
}

#[test]
fn a_file_cut_at_any_block_is_refused() {
    let image = image();
    let watchdog = Watchdog::new("truncated");
    let mut cuts = 0;
    for len in (0..image.len()).step_by(BLOCK_BYTES) {
        for len in [len, len + 1, len + BLOCK_BYTES - 1] {
            watchdog.step(format!("{len} bytes"));
            let error = fails(look(&image[..len], Kind::Sim), ErrorKind::Corrupt);
            assert!(!error.is_retryable(), "{error:?}");
            cuts += 1;
        }
    }
    say(format!("truncated: {cuts} lengths, each refused as corrupt"));
}

#[test]
fn a_longer_file_is_the_same_database() {
    let (image, listed) = (image(), listed());
    for (more, fill) in [(1, 7), (512, 0), (4096, 0xAA), (8192, 0), (8192, 0xFF), (1 << 20, 0x5A)] {
        let mut bytes = image.clone();
        bytes.resize(image.len() + more, fill);
        let copy = Copy::of(&bytes, Kind::Sim);
        let db = copy.open().unwrap_or_else(|error| panic!("{more} bytes more: {error:?}"));
        holds(&db, &listed);
        assert_sound(&db);
        block_on(db.close()).expect("the longer file closes");
        let db = copy.open().expect("the longer file opens again");
        holds(&db, &listed);
    }
}

#[test]
fn a_file_with_a_zeroed_block_gives_the_right_answers_or_says_so() {
    let (image, expected) = (image(), look(&image(), Kind::Sim).expect("the kept file opens"));
    let watchdog = Watchdog::new("zeroed");
    let (mut right, mut refused) = (0, 0);
    for start in (0..image.len()).step_by(BLOCK_BYTES) {
        let block = start..image.len().min(start + BLOCK_BYTES);
        if image[block.clone()].iter().all(|byte| *byte == 0) {
            continue;
        }
        watchdog.step(format!("block at {start}"));
        let mut bytes = image.clone();
        bytes[block].fill(0);
        let found = catch_unwind(AssertUnwindSafe(|| look(&bytes, Kind::Sim)));
        match found.unwrap_or_else(|_| panic!("block at {start}: panicked")) {
            Ok(found) if found == expected => right += 1,
            Ok(found) => panic!("block at {start}: {}", found.difference(&expected)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "block at {start}: {error:?}");
                refused += 1;
            }
        }
    }
    say(format!("zeroed: {right} blocks right, {refused} refused as corrupt, 0 wrong"));
    assert!(right > 0 && refused > 0, "a dead knob must show");
}
