//! Reading a backup, a chunk at a time; no byte is believed before it is checked. (I7)

use bytes::Bytes;

use super::{
    CHUNK_HEADER_BYTES, CRC_BYTES, END_BYTES, HEAD_BYTES, HEAD_CRC_AT, Kind, MAGIC,
    PAYLOAD_BYTES_MAX, PIECE_BYTES, Totals, VERSION,
};
use crate::format::Defect;
use crate::format::catalog::{FamilyOptions, NAME_BYTES_MAX};
use crate::format::checksum::{Checksum, FileId};
use crate::format::codec::Reader;
use crate::format::record::KEY_BYTES_MAX;
use crate::format::value::VALUE_BYTES_MAX;
use crate::ids::Seq;

/// Why a stream is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It does not begin as backups do.
    NotABackup,
    /// An intact head of a version that this build does not read.
    Version(u32),
    /// What is wrong, and at which byte of the stream.
    Defect(Defect),
}

impl From<Defect> for Refusal {
    fn from(defect: Defect) -> Refusal {
        Refusal::Defect(defect)
    }
}

/// What comes next in a backup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Head {
        seq: Seq,
    },
    Family {
        name: String,
        options: FamilyOptions,
    },
    Rows(Rows),
    /// A row whose value follows in pieces.
    Value {
        key: Bytes,
        len_bytes: u64,
    },
    Piece {
        bytes: Bytes,
        is_last: bool,
    },
    /// Everything came, and nothing else may.
    End(Totals),
}

/// Rows that were checked, ascending by key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rows(Bytes);

impl Rows {
    /// Each key with its value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut reader = Reader::new(&self.0, "row is cut short");
        std::iter::from_fn(move || {
            (reader.remaining() > 0).then(|| row(&mut reader).expect("rows are checked first"))
        })
    }
}

/// Where in the stream the decoder is.
#[derive(Debug)]
enum Place {
    Head,
    /// Before the first family.
    Front,
    /// In a family; the key before, empty if there is none.
    Family {
        key: Bytes,
    },
    /// In a value of the family, with so many bytes to come.
    Value {
        key: Bytes,
        left: u64,
    },
    Ended,
}

/// Takes a backup apart.
#[derive(Debug)]
pub(crate) struct Decoder {
    place: Place,
    id: FileId,
    /// Byte offset of the next item.
    at: u64,
    number: u64,
    sum: Checksum,
    totals: Totals,
}

impl Decoder {
    /// At the front of a stream.
    pub(crate) fn new() -> Decoder {
        let id = FileId::default();
        let (sum, totals) = (Checksum::salted(&id), Totals::default());
        Decoder { place: Place::Head, id, at: 0, number: 0, sum, totals }
    }

    /// Bytes that must be at hand before the next item can be taken, as far as these tell; zero
    /// at the end. At most a header and a MiB.
    pub(crate) fn wants(&self, at_hand: &[u8]) -> Result<usize, Refusal> {
        match self.place {
            Place::Head => Ok(HEAD_BYTES),
            Place::Ended => Ok(0),
            Place::Front | Place::Family { .. } | Place::Value { .. } => {
                let Some(header) = at_hand.first_chunk::<CHUNK_HEADER_BYTES>() else {
                    return Ok(CHUNK_HEADER_BYTES);
                };
                let mut reader = Reader::starting_at(header, CRC_BYTES, "chunk is cut short");
                let len = reader.u32()? as usize;
                if len > PAYLOAD_BYTES_MAX {
                    return Err(self.defect("chunk is too large", CRC_BYTES));
                }
                Ok(CHUNK_HEADER_BYTES + len)
            }
        }
    }

    /// Takes the next item out of exactly the bytes that it wants.
    pub(crate) fn item(&mut self, bytes: Bytes) -> Result<Item, Refusal> {
        let item = match self.place {
            Place::Head => self.head(&bytes)?,
            Place::Ended => return Err(self.defect("backup goes on behind its end", 0)),
            Place::Front | Place::Family { .. } | Place::Value { .. } => self.chunk(&bytes)?,
        };
        self.at += bytes.len() as u64;
        Ok(item)
    }

    /// The stream ended too early, or not at its end.
    pub(crate) fn cut_short(&self) -> Refusal {
        self.defect("backup is cut short", 0)
    }

    /// More came behind the end.
    pub(crate) fn goes_on(&self) -> Refusal {
        self.defect("backup goes on behind its end", 0)
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Item, Refusal> {
        let mut reader = Reader::new(bytes, "head is cut short");
        if reader.array::<8>()? != MAGIC {
            return Err(Refusal::NotABackup);
        }
        let (version, _) = (reader.u32()?, reader.u32()?);
        let (id, seq) = (reader.array()?, Seq(reader.u64()?));
        let crc = crc32c::crc32c(&bytes[..HEAD_CRC_AT]).to_le_bytes();
        if bytes[HEAD_CRC_AT..] != crc {
            return Err(self.defect("head checksum does not match", HEAD_CRC_AT));
        }
        if version != VERSION {
            return Err(Refusal::Version(version));
        }
        Reader::starting_at(bytes, 12, "head is cut short").zeros(4)?;
        Reader::starting_at(bytes, 40, "head is cut short").zeros(4)?;
        self.id = id;
        self.sum = Checksum::salted(&id);
        self.place = Place::Front;
        Ok(Item::Head { seq })
    }

    fn chunk(&mut self, bytes: &Bytes) -> Result<Item, Refusal> {
        let mut reader = Reader::new(bytes, "chunk is cut short");
        let crc: [u8; CRC_BYTES] = reader.array()?;
        let sum = Checksum::salted(&self.id).and(&bytes[CRC_BYTES..]).value();
        if crc != sum.to_le_bytes() {
            return Err(self.defect("chunk checksum does not match", 0));
        }
        let (_, number, kind) = (reader.u32()?, reader.u64()?, reader.u8()?);
        let kind = Kind::decode(kind).ok_or_else(|| self.defect("chunk is of no kind", 16))?;
        if reader.zeros(7).is_err() {
            return Err(self.defect("reserved byte is not zero", 17));
        }
        if number != self.number {
            return Err(self.defect("chunk is not the next one", 8));
        }
        let item = self.payload(kind, bytes.slice(CHUNK_HEADER_BYTES..));
        let item = item.map_err(|defect| Defect { at: self.at, ..defect })?;
        self.number += 1;
        self.sum = self.sum.and(&crc);
        Ok(item)
    }

    fn payload(&mut self, kind: Kind, bytes: Bytes) -> Result<Item, Defect> {
        let place = std::mem::replace(&mut self.place, Place::Ended);
        let (item, place) = match (kind, place) {
            (Kind::Family, Place::Front | Place::Family { .. }) => self.family(&bytes)?,
            (Kind::Rows, Place::Family { key }) => self.rows(bytes, key)?,
            (Kind::Value, Place::Family { key: before }) => self.value(&bytes, &before)?,
            (Kind::Piece, Place::Value { key, left }) => piece(bytes, key, left)?,
            (Kind::End, Place::Front | Place::Family { .. }) => self.end(&bytes)?,
            (
                Kind::Family | Kind::Rows | Kind::Value | Kind::Piece | Kind::End,
                Place::Head
                | Place::Front
                | Place::Family { .. }
                | Place::Value { .. }
                | Place::Ended,
            ) => return Err(wrong("chunk has no place here")),
        };
        self.place = place;
        Ok(item)
    }

    fn family(&mut self, bytes: &[u8]) -> Result<(Item, Place), Defect> {
        let mut reader = Reader::new(bytes, "family is cut short");
        let options = FamilyOptions::decode(reader.u8()?).map_err(wrong)?;
        let name = std::str::from_utf8(reader.take(reader.remaining())?).ok();
        let fits = |name: &&str| (1..=NAME_BYTES_MAX).contains(&name.len());
        let name = name.filter(fits).ok_or_else(|| wrong("family has no name"))?.to_owned();
        self.totals.families += 1;
        Ok((Item::Family { name, options }, Place::Family { key: Bytes::new() }))
    }

    fn rows(&mut self, bytes: Bytes, before: Bytes) -> Result<(Item, Place), Defect> {
        let mut reader = Reader::new(&bytes, "row is cut short");
        let mut last = &before[..];
        while reader.remaining() > 0 {
            let (key, value) = row(&mut reader)?;
            check_key(key, last)?;
            last = key;
            self.totals.rows += 1;
            self.totals.bytes += (key.len() + value.len()) as u64;
        }
        let key = Bytes::copy_from_slice(last);
        Ok((Item::Rows(Rows(bytes)), Place::Family { key }))
    }

    fn value(&mut self, bytes: &Bytes, before: &[u8]) -> Result<(Item, Place), Defect> {
        let mut reader = Reader::new(bytes, "value is cut short");
        let left = reader.u64()?;
        let key = bytes.slice(reader.at()..);
        check_key(&key, before)?;
        if !(1..=VALUE_BYTES_MAX).contains(&left) {
            return Err(wrong("value has an impossible length"));
        }
        self.totals.rows += 1;
        self.totals.bytes += key.len() as u64 + left;
        // The chunk is not kept alive by its key.
        let key = Bytes::copy_from_slice(&key);
        Ok((Item::Value { key: key.clone(), len_bytes: left }, Place::Value { key, left }))
    }

    fn end(&self, bytes: &[u8]) -> Result<(Item, Place), Defect> {
        let mut reader = Reader::new(bytes, "end is cut short");
        let totals = Totals { families: reader.u64()?, rows: reader.u64()?, bytes: reader.u64()? };
        let sum = reader.u32()?;
        reader.zeros_to(END_BYTES)?;
        reader.finish()?;
        if totals != self.totals || sum != self.sum.value() {
            return Err(wrong("backup does not add up"));
        }
        Ok((Item::End(totals), Place::Ended))
    }

    fn defect(&self, what: &'static str, at: usize) -> Refusal {
        Refusal::Defect(Defect { what, at: self.at.saturating_add(at as u64) })
    }
}

fn piece(bytes: Bytes, key: Bytes, left: u64) -> Result<(Item, Place), Defect> {
    if bytes.len() as u64 != left.min(PIECE_BYTES as u64) {
        return Err(wrong("piece of a value has an impossible length"));
    }
    let left = left - bytes.len() as u64;
    let place = match left {
        0 => Place::Family { key },
        left => Place::Value { key, left },
    };
    Ok((Item::Piece { bytes, is_last: left == 0 }, place))
}

fn row<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), Defect> {
    let (key, value) = (reader.u32()? as usize, reader.u32()? as usize);
    Ok((reader.take(key)?, reader.take(value)?))
}

fn check_key(key: &[u8], before: &[u8]) -> Result<(), Defect> {
    if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Err(wrong("key has an impossible length"));
    }
    if key <= before {
        return Err(wrong("keys do not ascend"));
    }
    Ok(())
}

/// Where it is, the decoder knows: in this chunk.
fn wrong(what: &'static str) -> Defect {
    Defect { what, at: 0 }
}
