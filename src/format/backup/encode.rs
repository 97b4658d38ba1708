//! Writing a backup, a chunk at a time.

use bytes::Bytes;

use super::{
    CHUNK_HEADER_BYTES, CRC_BYTES, END_BYTES, HEAD_BYTES, HEAD_CRC_AT, Kind, MAGIC,
    PAYLOAD_BYTES_MAX, Totals, VERSION,
};
use crate::format::catalog::{FamilyOptions, NAME_BYTES_MAX};
use crate::format::checksum::{Checksum, FileId};
use crate::format::codec::Writer;
use crate::ids::Seq;

/// Makes the chunks of one backup, in order.
pub(crate) struct Encoder {
    id: FileId,
    number: u64,
    /// Over the checksums of all chunks so far.
    sum: Checksum,
    totals: Totals,
}

/// The payload of a chunk of rows in the making.
pub(crate) struct RowsPayload {
    chunk: Vec<u8>,
    rows: usize,
    bytes: u64,
}

impl RowsPayload {
    /// Without rows.
    pub(crate) fn new() -> RowsPayload {
        RowsPayload { chunk: vec![0; CHUNK_HEADER_BYTES], rows: 0, bytes: 0 }
    }

    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Bytes of the payload so far.
    pub(crate) fn len_bytes(&self) -> usize {
        self.chunk.len() - CHUNK_HEADER_BYTES
    }

    /// Adds a row. The payload stays within its bound, which sealing asserts.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        self.chunk.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.chunk.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.chunk.extend_from_slice(key);
        self.chunk.extend_from_slice(value);
        self.rows += 1;
        self.bytes += (key.len() + value.len()) as u64;
    }
}

impl Encoder {
    /// The id is random, so that no chunk of another backup passes for one of this.
    pub(crate) fn new(id: FileId) -> Encoder {
        Encoder { id, number: 0, sum: Checksum::salted(&id), totals: Totals::default() }
    }

    /// What comes first.
    pub(crate) fn head(&self, seq: Seq) -> Bytes {
        let mut head = vec![0; HEAD_BYTES];
        let mut out = Writer::new(&mut head);
        out.put(&MAGIC).u32(VERSION).zeros_to(16).put(&self.id).u64(seq.0).zeros_to(HEAD_CRC_AT);
        let crc = crc32c::crc32c(&head[..HEAD_CRC_AT]);
        head[HEAD_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        head.into()
    }

    /// A family begins.
    pub(crate) fn family(&mut self, name: &str, options: FamilyOptions) -> Bytes {
        assert!((1..=NAME_BYTES_MAX).contains(&name.len()), "a family has a name");
        self.totals.families += 1;
        self.payload(Kind::Family, &[&[options.encode()], name.as_bytes()])
    }

    /// Rows of the family.
    pub(crate) fn rows(&mut self, rows: RowsPayload) -> Bytes {
        assert!(rows.len() > 0, "a chunk has rows");
        self.totals.rows += rows.rows as u64;
        self.totals.bytes += rows.bytes;
        self.seal(Kind::Rows, rows.chunk)
    }

    /// A row whose value follows in pieces.
    pub(crate) fn value(&mut self, key: &[u8], len_bytes: u64) -> Bytes {
        self.totals.rows += 1;
        self.totals.bytes += key.len() as u64 + len_bytes;
        self.payload(Kind::Value, &[&len_bytes.to_le_bytes(), key])
    }

    /// The next piece of a value.
    pub(crate) fn piece(&mut self, bytes: &[u8]) -> Bytes {
        self.payload(Kind::Piece, &[bytes])
    }

    /// What comes last.
    pub(crate) fn end(&mut self) -> Bytes {
        let mut payload = [0; END_BYTES];
        let (totals, sum) = (self.totals, self.sum.value());
        let mut out = Writer::new(&mut payload);
        out.u64(totals.families).u64(totals.rows).u64(totals.bytes).u32(sum);
        self.payload(Kind::End, &[&payload])
    }

    fn payload(&mut self, kind: Kind, parts: &[&[u8]]) -> Bytes {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut chunk = Vec::with_capacity(CHUNK_HEADER_BYTES + len);
        chunk.resize(CHUNK_HEADER_BYTES, 0);
        parts.iter().for_each(|part| chunk.extend_from_slice(part));
        self.seal(kind, chunk)
    }

    #[cfg(test)]
    pub(super) fn payload_for_tests(&mut self, kind: u8, payload: &[u8]) -> Bytes {
        self.payload(Kind::decode(kind).expect("a kind that there is"), &[payload])
    }

    /// Fills in the header of a chunk whose payload is there.
    fn seal(&mut self, kind: Kind, mut chunk: Vec<u8>) -> Bytes {
        let len = chunk.len() - CHUNK_HEADER_BYTES;
        assert!(len <= PAYLOAD_BYTES_MAX, "a payload of {len} bytes is too large");
        let mut out = Writer::new(&mut chunk);
        out.u32(0).u32(len as u32).u64(self.number).u8(kind as u8).zeros_to(CHUNK_HEADER_BYTES);
        let crc = Checksum::salted(&self.id).and(&chunk[CRC_BYTES..]).value().to_le_bytes();
        chunk[..CRC_BYTES].copy_from_slice(&crc);
        self.sum = self.sum.and(&crc);
        self.number += 1;
        chunk.into()
    }
}
