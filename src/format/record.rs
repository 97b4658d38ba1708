//! The operations of a batch, as the log holds them.
//!
//! ```text
//! len   field
//!   1   kind
//! 1-5   family        varint
//! 1-5   key length    varint
//! 1-5   value length  varint
//!       key
//!       value         directly behind the key, so that a row is one slice
//!
//! kind                  key    value
//!    1 put              key    value
//!    2 put extent       key    reference, see `value`
//!    3 delete           key    -
//!    4 delete range     low    high; the range is [low, high), an empty bound is open
//!    5 create family    name   options, one byte
//!    6 drop family      -      -
//!    7 rename family    name   -
//!    8 clear family     -      -
//! ```
//!
//! All kinds have one shape, so that one function finds the borders; a delete pays a byte for it. Operations are encoded once, when
//! they enter the batch: the same bytes are copied to the log, and the memtable's rows are slices of them.

use std::ops::Range;

use super::Defect;
use super::catalog::{FamilyOptions, is_name};
use super::codec::{Reader, put_varint, varint_len};
use super::value::ExtentValue;
use crate::ids::FamilyId;

/// Bytes of the longest key.
pub(crate) const KEY_BYTES_MAX: usize = 1 << 16;
/// Bytes of the longest value that a record holds; longer ones have extents of their own.
pub(crate) const INLINE_VALUE_BYTES_MAX: usize = 1 << 16;
/// Bytes of an operation besides its key and its value, at most.
pub(crate) const OP_OVERHEAD_BYTES_MAX: usize = 1 + 3 * 5;

/// One operation of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op<'a> {
    /// Gives a key a value.
    Put { family: FamilyId, key: &'a [u8], value: &'a [u8] },
    /// Gives a key a value that lies in an extent of its own.
    PutExtent { family: FamilyId, key: &'a [u8], value: ExtentValue },
    /// Takes a key away.
    Delete { family: FamilyId, key: &'a [u8] },
    /// Takes away the keys from `low` up to but without `high`; an empty bound is open.
    DeleteRange { family: FamilyId, low: &'a [u8], high: &'a [u8] },
    /// A new column family.
    CreateFamily { id: FamilyId, name: &'a str, options: FamilyOptions },
    /// A column family goes, with all in it.
    DropFamily { id: FamilyId },
    /// A column family gets this name.
    RenameFamily { id: FamilyId, name: &'a str },
    /// All in a column family goes.
    ClearFamily { id: FamilyId },
}

const PUT: u8 = 1;
const PUT_EXTENT: u8 = 2;
const DELETE: u8 = 3;
const DELETE_RANGE: u8 = 4;
const CREATE_FAMILY: u8 = 5;
const DROP_FAMILY: u8 = 6;
const RENAME_FAMILY: u8 = 7;
const CLEAR_FAMILY: u8 = 8;

/// Appends operations, and tells where in the output key and value of each lie; keys and names were checked when they came in.
pub(crate) struct Encoder<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// Appends to `out`.
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Encoder<'a> {
        Encoder { out }
    }

    /// Appends a put.
    pub(crate) fn put(&mut self, family: FamilyId, key: &[u8], value: &[u8]) -> Range<usize> {
        assert!(is_key(key), "a key has 1 to 65,536 bytes");
        self.append(PUT, family, key, value)
    }

    /// Appends a put of a large value.
    pub(crate) fn put_extent(
        &mut self,
        family: FamilyId,
        key: &[u8],
        value: &ExtentValue,
    ) -> Range<usize> {
        assert!(is_key(key), "a key has 1 to 65,536 bytes");
        self.append(PUT_EXTENT, family, key, &value.encode())
    }

    /// Appends a delete.
    pub(crate) fn delete(&mut self, family: FamilyId, key: &[u8]) -> Range<usize> {
        assert!(is_key(key), "a key has 1 to 65,536 bytes");
        self.append(DELETE, family, key, &[])
    }

    /// Appends a range delete.
    pub(crate) fn delete_range(
        &mut self,
        family: FamilyId,
        low: &[u8],
        high: &[u8],
    ) -> Range<usize> {
        assert!(is_range(low, high), "a range is not reversed");
        self.append(DELETE_RANGE, family, low, high)
    }

    /// Appends the creation of a column family.
    pub(crate) fn create_family(
        &mut self,
        id: FamilyId,
        name: &str,
        options: FamilyOptions,
    ) -> Range<usize> {
        assert!(is_name(name.as_bytes()), "a name has 1 to 255 bytes");
        self.append(CREATE_FAMILY, id, name.as_bytes(), &[options.encode()])
    }

    /// Appends the end of a column family.
    pub(crate) fn drop_family(&mut self, id: FamilyId) -> Range<usize> {
        self.append(DROP_FAMILY, id, &[], &[])
    }

    /// Appends a new name for a column family.
    pub(crate) fn rename_family(&mut self, id: FamilyId, name: &str) -> Range<usize> {
        assert!(is_name(name.as_bytes()), "a name has 1 to 255 bytes");
        self.append(RENAME_FAMILY, id, name.as_bytes(), &[])
    }

    #[cfg(test)]
    /// Appends the emptying of a column family.
    pub(crate) fn clear_family(&mut self, id: FamilyId) -> Range<usize> {
        self.append(CLEAR_FAMILY, id, &[], &[])
    }

    fn append(&mut self, kind: u8, family: FamilyId, key: &[u8], value: &[u8]) -> Range<usize> {
        let out = &mut *self.out;
        assert!(u32::try_from(value.len()).is_ok(), "a value is shorter than 4 GiB");
        let (id, key_len, value_len) = (u64::from(family.0), key.len() as u64, value.len() as u64);
        let head_len = 1 + varint_len(id) + varint_len(key_len) + varint_len(value_len);
        let len = head_len + key.len() + value.len();
        // Most batches have one operation, and become `Bytes` without another allocation if
        // nothing is to spare.
        if out.is_empty() {
            out.reserve_exact(len)
        } else {
            out.reserve(len)
        }
        out.push(kind);
        put_varint(out, id);
        put_varint(out, key_len);
        put_varint(out, value_len);
        let start = out.len();
        out.extend_from_slice(key);
        out.extend_from_slice(value);
        start..out.len()
    }
}

/// An operation, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    /// What it does.
    pub op: Op<'a>,
    /// Where key and value lie, one behind the other.
    pub row: Range<usize>,
    /// How much of the row is the key.
    pub key_bytes: usize,
}

impl Found<'_> {
    /// Whether both are about rows of one family, this one's key not below the other's; both were found in these bytes.
    pub(crate) fn follows(&self, before: &Found<'_>, bytes: &[u8]) -> bool {
        let key = |found: &Found<'_>| found.row.start..found.row.start + found.key_bytes;
        self.is_row()
            && before.is_row()
            && self.op.family() == before.op.family()
            && bytes[key(before)] <= bytes[key(self)]
    }

    fn is_row(&self) -> bool {
        matches!(self.op, Op::Put { .. } | Op::PutExtent { .. } | Op::Delete { .. })
    }
}

/// Iterates over encoded operations; nothing follows a defect.
#[derive(Clone, Debug)]
pub(crate) struct Ops<'a> {
    reader: Reader<'a>,
}

impl<'a> Ops<'a> {
    /// The operations that these bytes are.
    pub(crate) fn new(bytes: &'a [u8]) -> Ops<'a> {
        Ops { reader: Reader::new(bytes, "operation is cut short") }
    }

    /// The operations in a part of `bytes`, with places that count from the front of `bytes`.
    pub(crate) fn within(bytes: &'a [u8], part: Range<usize>) -> Ops<'a> {
        let short = "operation is cut short";
        Ops { reader: Reader::starting_at(&bytes[..part.end], part.start, short) }
    }

    fn step(&mut self) -> Result<Found<'a>, Defect> {
        let reader = &mut self.reader;
        let before = reader.clone();
        let kind = reader.u8()?;
        let family = FamilyId(reader.varint_u32()?);
        let (key_len, value_len) = (reader.varint_u32()?, reader.varint_u32()?);
        let start = reader.at();
        let key = reader.take(key_len as usize)?;
        let value = reader.take(value_len as usize)?;
        let row = start..reader.at();
        let at_value = (row.end - value.len()) as u64;
        let op = Op::decode(kind, family, key, value).map_err(|wrong| match wrong {
            Wrong::Op(what) => before.defect(what),
            Wrong::Value(defect) => defect.shifted(at_value),
        })?;
        Ok(Found { op, row, key_bytes: key.len() })
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<Found<'a>, Defect>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.remaining() == 0 {
            return None;
        }
        let found = self.step();
        if found.is_err() {
            self.reader = Reader::new(&[], "");
        }
        Some(found)
    }
}

/// What is wrong with an operation whose borders are known.
enum Wrong {
    Op(&'static str),
    Value(Defect),
}

impl<'a> Op<'a> {
    fn decode(kind: u8, family: FamilyId, key: &'a [u8], value: &'a [u8]) -> Result<Op<'a>, Wrong> {
        let keyed = || is_key(key).then_some(()).ok_or(Wrong::Op("key is empty or too long"));
        let valueless = || value.is_empty().then_some(()).ok_or(Wrong::Op("operation has a value"));
        match kind {
            PUT if value.len() <= INLINE_VALUE_BYTES_MAX => {
                keyed().map(|()| Op::Put { family, key, value })
            }
            PUT_EXTENT if value.len() <= INLINE_VALUE_BYTES_MAX => {
                keyed()?;
                let value = ExtentValue::decode(value).map_err(Wrong::Value)?;
                Ok(Op::PutExtent { family, key, value })
            }
            PUT | PUT_EXTENT => Err(Wrong::Op("value is longer than 64 KiB")),
            DELETE => keyed().and_then(|()| valueless()).map(|()| Op::Delete { family, key }),
            DELETE_RANGE if is_range(key, value) => {
                Ok(Op::DeleteRange { family, low: key, high: value })
            }
            DELETE_RANGE => Err(Wrong::Op("range is reversed or its bounds are too long")),
            CREATE_FAMILY => {
                let [options] = *value else { return Err(Wrong::Op("options are not one byte")) };
                let options = FamilyOptions::decode(options).map_err(Wrong::Op)?;
                Ok(Op::CreateFamily { id: family, name: decode_name(key)?, options })
            }
            DROP_FAMILY if key.is_empty() => valueless().map(|()| Op::DropFamily { id: family }),
            RENAME_FAMILY => {
                valueless()?;
                Ok(Op::RenameFamily { id: family, name: decode_name(key)? })
            }
            CLEAR_FAMILY if key.is_empty() => valueless().map(|()| Op::ClearFamily { id: family }),
            DROP_FAMILY | CLEAR_FAMILY => Err(Wrong::Op("operation has a key")),
            _ => Err(Wrong::Op("operation is unknown")),
        }
    }

    /// The column family that it changes.
    pub(crate) fn family(&self) -> FamilyId {
        match *self {
            Op::Put { family, .. }
            | Op::PutExtent { family, .. }
            | Op::Delete { family, .. }
            | Op::DeleteRange { family, .. } => family,
            Op::CreateFamily { id, .. }
            | Op::DropFamily { id }
            | Op::RenameFamily { id, .. }
            | Op::ClearFamily { id } => id,
        }
    }
}

fn decode_name(bytes: &[u8]) -> Result<&str, Wrong> {
    let name = std::str::from_utf8(bytes).ok().filter(|name| is_name(name.as_bytes()));
    name.ok_or(Wrong::Op("name is not 1 to 255 bytes of UTF-8"))
}

fn is_key(key: &[u8]) -> bool {
    (1..=KEY_BYTES_MAX).contains(&key.len())
}

fn is_range(low: &[u8], high: &[u8]) -> bool {
    let lengths = low.len() <= KEY_BYTES_MAX + 1 && high.len() <= KEY_BYTES_MAX + 1;
    lengths && (high.is_empty() || low < high)
}

#[cfg(test)]
mod tests {
    use super::super::catalog::Logging;
    use super::super::mutate::Chance;
    use super::*;
    use crate::ids::{Extent, PageId};

    const FAMILY: FamilyId = FamilyId(300);

    fn large() -> ExtentValue {
        let extent = Extent { start: PageId(70), pages: 9 };
        ExtentValue { extent, len_bytes: 70_000, crcs: vec![0x0102_0304] }
    }

    fn encode(op: &Op<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out);
        let row = match op {
            Op::Put { family, key, value } => encoder.put(*family, key, value),
            Op::PutExtent { family, key, value } => encoder.put_extent(*family, key, value),
            Op::Delete { family, key } => encoder.delete(*family, key),
            Op::DeleteRange { family, low, high } => encoder.delete_range(*family, low, high),
            Op::CreateFamily { id, name, options } => encoder.create_family(*id, name, *options),
            Op::DropFamily { id } => encoder.drop_family(*id),
            Op::RenameFamily { id, name } => encoder.rename_family(*id, name),
            Op::ClearFamily { id } => encoder.clear_family(*id),
        };
        assert_eq!(row.end, out.len());
        out
    }

    fn check(op: Op<'_>, bytes: &[u8]) {
        assert_eq!(encode(&op), bytes);
        let found: Vec<_> = Ops::new(bytes).map(|found| found.unwrap().op).collect();
        assert_eq!(found, [op]);
    }

    #[test]
    fn operations_have_these_bytes() {
        let (family, id) = (FAMILY, FAMILY);
        let options = FamilyOptions { logging: Logging::Unlogged };
        check(Op::Put { family, key: b"ab", value: b"c" }, b"\x01\xAC\x02\x02\x01abc");
        check(Op::Put { family, key: b"ab", value: b"" }, b"\x01\xAC\x02\x02\x00ab");
        check(
            Op::PutExtent { family, key: b"a", value: large() },
            b"\x02\xAC\x02\x01\x18a\x46\0\0\0\0\0\0\0\x09\0\0\0\x70\x11\x01\0\0\0\0\0\x04\x03\x02\x01",
        );
        check(Op::Delete { family, key: b"ab" }, b"\x03\xAC\x02\x02\x00ab");
        check(Op::DeleteRange { family, low: b"a", high: b"c" }, b"\x04\xAC\x02\x01\x01ac");
        check(Op::DeleteRange { family, low: b"", high: b"" }, b"\x04\xAC\x02\x00\x00");
        check(Op::CreateFamily { id, name: "ü", options }, b"\x05\xAC\x02\x02\x01\xC3\xBC\x01");
        check(Op::DropFamily { id }, b"\x06\xAC\x02\x00\x00");
        check(Op::RenameFamily { id, name: "n" }, b"\x07\xAC\x02\x01\x00n");
        check(Op::ClearFamily { id }, b"\x08\xAC\x02\x00\x00");
    }

    #[test]
    fn a_row_is_the_key_and_the_value_behind_it() {
        let mut out = b"before".to_vec();
        let row = Encoder::new(&mut out).put(FAMILY, b"key", b"value");
        assert_eq!(&out[row.clone()], b"keyvalue");
        let found = Ops::within(&out, 6..out.len()).next().unwrap().unwrap();
        assert_eq!((found.row, found.key_bytes, found.op.family()), (row, 3, FAMILY));
    }

    #[test]
    fn bad_operations_are_defects_and_nothing_follows() {
        for (bytes, what, at) in [
            (&b"\x09\x01\x00\x00"[..], "operation is unknown", 0),
            (b"\x00\x01\x00\x00", "operation is unknown", 0),
            (b"\x01\x01\x00\x01v", "key is empty or too long", 0),
            (b"\x03\x01\x01\x01kv", "operation has a value", 0),
            (b"\x04\x01\x01\x01ba", "range is reversed or its bounds are too long", 0),
            (b"\x05\x01\x01\x01n\x02", "family options are unknown", 0),
            (b"\x05\x01\x01\x00n", "options are not one byte", 0),
            (b"\x05\x01\x00\x01\x00", "name is not 1 to 255 bytes of UTF-8", 0),
            (b"\x07\x01\x01\x00\xFF", "name is not 1 to 255 bytes of UTF-8", 0),
            (b"\x06\x01\x01\x00k", "operation has a key", 0),
            (b"\x01\x01\x02\xFF\xFF\xFF\xFF\x0Fkk", "operation is cut short", 10),
            (b"\x01\x80\x80\x80\x80\x10\x01\x01kv", "varint is too large", 6),
            (b"\x02\x01\x01\x01kv", "value reference is cut short", 5),
        ] {
            let mut ops = Ops::new(bytes);
            assert_eq!(ops.next(), Some(Err(Defect { what, at })), "{bytes:?}");
            assert_eq!(ops.next(), None);
        }
    }

    #[test]
    fn keys_have_a_greatest_length() {
        let key = vec![7; KEY_BYTES_MAX];
        let bytes = encode(&Op::Delete { family: FAMILY, key: &key });
        assert!(Ops::new(&bytes).next().unwrap().is_ok());
        let mut longer = b"\x03\x01\x81\x80\x04\x00".to_vec();
        longer.resize(6 + KEY_BYTES_MAX + 1, 7);
        let what = "key is empty or too long";
        assert_eq!(Ops::new(&longer).next(), Some(Err(Defect { what, at: 0 })));
    }

    #[test]
    fn damaged_operations_never_panic_and_what_decodes_encodes_the_same() {
        let mut whole = encode(&Op::Put { family: FAMILY, key: b"ab", value: b"c" });
        whole.extend(encode(&Op::PutExtent { family: FAMILY, key: b"a", value: large() }));
        whole.extend(encode(&Op::DeleteRange { family: FAMILY, low: b"a", high: b"c" }));
        whole.extend(encode(&Op::RenameFamily { id: FAMILY, name: "name" }));
        let mut chance = Chance::new(1);
        for _ in 0..50_000 {
            let mut bytes = whole.clone();
            chance.damage(&mut bytes);
            let mut again = Vec::new();
            for found in Ops::new(&bytes).map_while(Result::ok) {
                again.extend(encode(&found.op));
            }
            assert_eq!(bytes[..again.len()], again);
        }
    }
}
