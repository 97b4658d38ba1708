//! Golden bytes, round trips, and every way to damage a backup.

use bytes::Bytes;

use super::*;
use crate::format::catalog::{FamilyOptions, Logging};
use crate::format::mutate::{Chance, refuses_every_cut_and_flip};
use crate::ids::Seq;

const ID: [u8; 16] = *b"an id of a stash";

/// A backup in words.
fn told(stream: &[u8]) -> Result<Vec<String>, Refusal> {
    let (mut decoder, mut rest, mut told) = (Decoder::new(), stream, Vec::new());
    loop {
        let mut wants = decoder.wants(rest)?;
        if wants == 0 {
            return if rest.is_empty() { Ok(told) } else { Err(decoder.goes_on()) };
        }
        let header = rest.get(..wants).ok_or(decoder.cut_short())?;
        wants = decoder.wants(header)?;
        let Some((item, behind)) = rest.split_at_checked(wants) else {
            return Err(decoder.cut_short());
        };
        rest = behind;
        told.push(match decoder.item(Bytes::copy_from_slice(item))? {
            Item::Head { seq } => format!("seq {}", seq.0),
            Item::Family { name, options } => format!("{name} {:?}", options.logging),
            Item::Rows(rows) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let rows = rows.iter().map(|(key, value)| format!("{}={}", text(key), text(value)));
                rows.collect::<Vec<_>>().join(" ")
            }
            Item::Value { key, len_bytes } => format!("{key:?}: {len_bytes}"),
            Item::Piece { bytes, is_last } => format!("{} {is_last}", bytes.len()),
            Item::End(totals) => format!("{totals:?}"),
        });
    }
}

/// Two families: rows and a value in two pieces in one, nothing in the other.
fn chunks(piece: &[u8]) -> Vec<Bytes> {
    let mut encoder = Encoder::new(ID);
    let options = |logging| FamilyOptions { logging };
    let mut rows = RowsPayload::new();
    rows.push(b"a", b"1");
    rows.push(b"ab", b"");
    let mut more = RowsPayload::new();
    more.push(b"c", b"3");
    vec![
        encoder.head(Seq(0x0102)),
        encoder.family("some", options(Logging::Logged)),
        encoder.rows(rows),
        encoder.value(b"b", PIECE_BYTES as u64 + 2),
        encoder.piece(piece),
        encoder.piece(b"xy"),
        encoder.rows(more),
        encoder.family("none", options(Logging::Unlogged)),
        encoder.end(),
    ]
}

fn small() -> Vec<Bytes> {
    let mut encoder = Encoder::new(ID);
    let mut rows = RowsPayload::new();
    rows.push(b"k", b"v");
    vec![
        encoder.head(Seq(7)),
        encoder.family("f", FamilyOptions::default()),
        encoder.rows(rows),
        encoder.value(b"l", 3),
        encoder.piece(b"xyz"),
        encoder.end(),
    ]
}

#[test]
fn a_backup_says_what_was_put_into_it() {
    let told = told(&chunks(&vec![7; PIECE_BYTES]).concat()).unwrap();
    let expected = [
        "seq 258",
        "some Logged",
        "a=1 ab=",
        "b\"b\": 1048578",
        "1048576 false",
        "2 true",
        "c=3",
        "none Unlogged",
        "Totals { families: 2, rows: 4, bytes: 1048585 }",
    ];
    assert_eq!(told, expected);
}

#[test]
fn an_empty_backup_is_these_bytes() {
    let mut encoder = Encoder::new(ID);
    let stream = [encoder.head(Seq(0x0102)), encoder.end()].concat();
    #[rustfmt::skip]
    let expected = [
        // head: magic, version, reserved, id, seq, reserved, crc
        &b"RINGBACK\x01\0\0\0\0\0\0\0an id of a stash\x02\x01\0\0\0\0\0\0\0\0\0\0"[..],
        &crc32c::crc32c(b"RINGBACK\x01\0\0\0\0\0\0\0an id of a stash\x02\x01\0\0\0\0\0\0\0\0\0\0").to_le_bytes(),
        // the end: crc, length, number, kind, reserved; then nothing three times, and its sum
        &crc32c::crc32c(&[
            &b"an id of a stash\x20\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0"[..], &[0; 24],
            &crc32c::crc32c(b"an id of a stash").to_le_bytes(), &[0; 4],
        ].concat()).to_le_bytes(),
        b"\x20\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0", &[0; 24],
        &crc32c::crc32c(b"an id of a stash").to_le_bytes(), &[0; 4],
    ].concat();
    assert_eq!(stream, expected);
}

#[test]
fn every_cut_and_every_flipped_bit_is_refused() {
    refuses_every_cut_and_flip(&small().concat(), |stream| told(stream).is_ok());
}

#[test]
fn chunks_left_out_repeated_or_swapped_are_refused() {
    let chunks = small();
    let refused = |chunks: &[Bytes]| assert!(told(&chunks.concat()).is_err(), "{chunks:?}");
    for at in 0..chunks.len() {
        let mut fewer = chunks.clone();
        fewer.remove(at);
        refused(&fewer);
        let mut more = chunks.clone();
        more.insert(at, chunks[at].clone());
        refused(&more);
        for other in 0..at {
            let mut swapped = chunks.clone();
            swapped.swap(at, other);
            refused(&swapped);
        }
    }
}

#[test]
fn what_is_no_backup_or_of_another_version_is_told_apart() {
    assert_eq!(told(&[b'x'; 48]), Err(Refusal::NotABackup));
    let mut later = Encoder::new(ID).head(Seq(7)).to_vec();
    later[8] = 2;
    let crc = crc32c::crc32c(&later[..44]).to_le_bytes();
    later[44..].copy_from_slice(&crc);
    assert_eq!(told(&later), Err(Refusal::Version(2)));
}

#[test]
fn impossible_chunks_with_good_checksums_are_refused() {
    let refused = |what: &str, chunks: &dyn Fn(&mut Encoder) -> Vec<Bytes>| {
        let mut encoder = Encoder::new(ID);
        let mut stream = encoder.head(Seq(7)).to_vec();
        chunks(&mut encoder).iter().for_each(|chunk| stream.extend_from_slice(chunk));
        match told(&stream) {
            Err(Refusal::Defect(defect)) => assert_eq!(defect.what, what),
            other => panic!("{what}: {other:?}"),
        }
    };
    let family = |encoder: &mut Encoder| encoder.family("f", FamilyOptions::default());
    let rows = |rows: &[(&str, &str)]| {
        let mut payload = RowsPayload::new();
        rows.iter().for_each(|(key, value)| payload.push(key.as_bytes(), value.as_bytes()));
        payload
    };
    refused("keys do not ascend", &|e| vec![family(e), e.rows(rows(&[("b", ""), ("a", "")]))]);
    refused("keys do not ascend", &|e| {
        vec![family(e), e.rows(rows(&[("b", "")])), e.value(b"b", 1)]
    });
    refused("key has an impossible length", &|e| vec![family(e), e.rows(rows(&[("", "v")]))]);
    refused("value has an impossible length", &|e| vec![family(e), e.value(b"k", 0)]);
    refused("value has an impossible length", &|e| vec![family(e), e.value(b"k", (1 << 30) + 1)]);
    refused("piece of a value has an impossible length", &|e| {
        vec![family(e), e.value(b"k", 3), e.piece(b"xy")]
    });
    refused("chunk has no place here", &|e| vec![e.rows(rows(&[("k", "v")]))]);
    refused("chunk has no place here", &|e| vec![family(e), e.value(b"k", 3), e.end()]);
    refused("chunk has no place here", &|e| vec![family(e), e.piece(b"xy")]);
    refused("family has no name", &|e| vec![e.payload_for_tests(1, b"\0")]);
    refused("family has no name", &|e| vec![e.payload_for_tests(1, b"\0\xFF\xFE")]);
    refused("family options are unknown", &|e| vec![e.payload_for_tests(1, b"\x09f")]);
    refused("row is cut short", &|e| vec![family(e), e.payload_for_tests(2, &[1, 0, 0])]);
    refused("row is cut short", &|e| vec![family(e), e.payload_for_tests(2, &[255; 9])]);
    refused("backup does not add up", &|e| vec![e.payload_for_tests(5, &[0; 32])]);
}

/// Gives a chunk whose bytes were changed the checksum that it should have.
fn sealed_again(chunk: &[u8]) -> Vec<u8> {
    let mut chunk = chunk.to_vec();
    let crc = crc32c::crc32c(&[&ID[..], &chunk[CRC_BYTES..]].concat());
    chunk[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    chunk
}

#[test]
fn damaged_backups_never_panic() {
    let whole = chunks(&vec![7; PIECE_BYTES]);
    let mut chance = Chance::new(0xBAC);
    for _ in 0..300 {
        let mut damaged: Vec<Vec<u8>> = whole.iter().map(|chunk| chunk.to_vec()).collect();
        let at = chance.below(whole.len() as u64) as usize;
        // Where the lengths and kinds are; a piece's own bytes say nothing.
        let len = damaged[at].len().min(64);
        chance.damage(&mut damaged[at][..len]);
        assert!(damaged[at] == whole[at] || told(&damaged.concat()).is_err());
        if at > 0 {
            damaged[at] = sealed_again(&damaged[at]);
        }
        // The sum at the end knows that a chunk has another checksum.
        assert!(damaged[at] == whole[at] || told(&damaged.concat()).is_err());
    }
}
