//! A batch: operations over any column families, applied all or none.
//!
//! Operations are encoded as they will lie in the log while the batch is built, so that ordering
//! a commit is one copy; memtables copy their rows out of the same buffer.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::alloc::reserve::Need;
use crate::commit::footprint::Footprint;
use crate::commit::{Shown, Submission};
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::{Encoder, INLINE_VALUE_BYTES_MAX, OP_OVERHEAD_BYTES_MAX, Op, Ops};
use crate::format::value::{self, ExtentValue};
use crate::options::Durability;
use crate::page::space::Reserved;
use crate::state::Family;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = crate::format::record::KEY_BYTES_MAX;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = value::VALUE_BYTES_MAX as usize;
/// Deletes of ranges that one batch may have: every read of a family compares with those of it that are in memory.
pub const BATCH_RANGE_DELETES_MAX: usize = 1024;

/// Every family that a batch touches, once; most touch one.
type Families = SmallVec<[Arc<Family>; 1]>;

/// Operations on their way to one commit.
#[derive(Default)]
pub(crate) struct Operations {
    bytes: Vec<u8>,
    families: Families,
    footprint: Footprint,
    /// Values that need extents of their own: where their operation stands, and the bytes.
    pub(crate) large: Vec<Large>,
    /// Extents of large values that are written but not ordered.
    reserved: Vec<Reserved>,
    operations: usize,
    range_deletes: usize,
    need: Need,
    /// The first mistake of the caller; reported when the batch is submitted.
    mistake: Option<Error>,
}

/// A value on its way to an extent of its own.
pub(crate) struct Large {
    pub(crate) family: Arc<Family>,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
}

/// Operations that are complete and encoded.
pub(crate) struct Encoded {
    payload: Bytes,
    families: Families,
    footprint: Footprint,
    reserved: Vec<Reserved>,
    operations: usize,
    range_deletes: usize,
    need: Need,
}

impl Large {
    /// Bytes of its operation in the log, at most.
    fn record_bytes(&self) -> usize {
        let reference = ExtentValue::encoded_bytes(self.value.len() as u64);
        OP_OVERHEAD_BYTES_MAX + self.key.len() + reference as usize
    }
}

impl Operations {
    pub(crate) fn len(&self) -> usize {
        self.operations
    }

    /// Whether there is nothing to do, and no mistake to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.operations == 0 && self.mistake.is_none()
    }

    /// Bytes of its operations in the log, and of large values.
    pub(crate) fn bytes(&self) -> usize {
        let large = self.large.iter().map(|large| large.value.len()).sum::<usize>();
        self.record_bytes() + large
    }

    fn record_bytes(&self) -> usize {
        self.bytes.len() + self.large.iter().map(Large::record_bytes).sum::<usize>()
    }

    pub(crate) fn put(&mut self, family: &Arc<Family>, key: &[u8], value: &[u8]) {
        if !self.accepts_key(key) || !self.accepts_value(value.len()) {
            return;
        }
        self.touch(family, key);
        self.need = Need::Growth;
        if value.len() > INLINE_VALUE_BYTES_MAX {
            self.add_large(family, key, Bytes::copy_from_slice(value));
        } else {
            Encoder::new(&mut self.bytes).put(family.id, key, value);
        }
    }

    pub(crate) fn put_bytes(&mut self, family: &Arc<Family>, key: &[u8], value: Bytes) {
        if value.len() <= INLINE_VALUE_BYTES_MAX {
            return self.put(family, key, &value);
        }
        if self.accepts_key(key) && self.accepts_value(value.len()) {
            self.touch(family, key);
            self.need = Need::Growth;
            self.add_large(family, key, value);
        }
    }

    pub(crate) fn delete(&mut self, family: &Arc<Family>, key: &[u8]) {
        if self.accepts_key(key) {
            self.touch(family, key);
            Encoder::new(&mut self.bytes).delete(family.id, key);
        }
    }

    /// Deletes from `low` to below `high`; an empty `high` is open.
    pub(crate) fn delete_range(&mut self, family: &Arc<Family>, low: &[u8], high: &[u8]) {
        if !high.is_empty() && low > high {
            return self.refuse_range();
        }
        if low == high && !high.is_empty() {
            return;
        }
        // The bound behind the longest key is a byte longer.
        if low.len().max(high.len()) > KEY_BYTES_MAX + 1 {
            return self.refuse(ErrorKind::TooLarge, "a bound is longer than a key can be");
        }
        if self.range_deletes == BATCH_RANGE_DELETES_MAX {
            let message = format!("a batch deletes more than {BATCH_RANGE_DELETES_MAX} ranges");
            self.accepts(Err(Error::new(ErrorKind::TooLarge, message)));
            return;
        }
        // A range delete hides what is older than its commit; keys that this very batch put
        // before it need deletes of their own.
        let inside = |key: &[u8]| key >= low && (high.is_empty() || key < high);
        self.large.retain(|large| large.family.id != family.id || !inside(&large.key));
        for key in self.keys_put(family, inside) {
            self.delete(family, &key);
        }
        self.touch_family(family);
        self.footprint.delete_range(family.id, low, high);
        self.operations += 1;
        self.range_deletes += 1;
        Encoder::new(&mut self.bytes).delete_range(family.id, low, high);
    }

    /// The caller's range is reversed.
    pub(crate) fn refuse_range(&mut self) {
        self.refuse(ErrorKind::InvalidArgument, "a range to delete is reversed");
    }

    /// A handle of another database came in.
    pub(crate) fn refuse_family(&mut self) {
        self.refuse(ErrorKind::InvalidArgument, "a column family belongs to another database");
    }

    /// Ends building. Values with extents of their own must have been written and added.
    pub(crate) fn encode(self) -> Encoded {
        assert!(self.large.is_empty(), "large values are written before the batch is ordered");
        Encoded {
            payload: self.bytes.into(),
            families: self.families,
            footprint: self.footprint,
            reserved: self.reserved,
            operations: self.operations,
            range_deletes: self.range_deletes,
            need: self.need,
        }
    }

    /// Adds the reference of a large value that now lies in its extent.
    pub(crate) fn put_extent(&mut self, large: &Large, value: &ExtentValue, reserved: Reserved) {
        Encoder::new(&mut self.bytes).put_extent(large.family.id, &large.key, value);
        self.reserved.push(reserved);
    }

    /// Puts a value that was written to its extent, and synced, before the batch was built.
    pub(crate) fn put_written(
        &mut self,
        family: &Arc<Family>,
        key: &[u8],
        value: &ExtentValue,
        reserved: Reserved,
    ) {
        if self.accepts_key(key) {
            self.touch(family, key);
            self.need = Need::Growth;
            Encoder::new(&mut self.bytes).put_extent(family.id, key, value);
            self.reserved.push(reserved);
        }
    }

    /// The caller's first mistake, or a batch over its bound.
    pub(crate) fn check(&self, batch_bytes_max: usize) -> Result<()> {
        if let Some(mistake) = &self.mistake {
            return Err(mistake.clone());
        }
        let bytes = self.record_bytes();
        if bytes > batch_bytes_max {
            let detail = format!("{bytes} bytes, at most {batch_bytes_max}");
            let error = Error::new(ErrorKind::TooLarge, "the batch is too large for the memory");
            return Err(error.with_detail(detail));
        }
        Ok(())
    }

    fn add_large(&mut self, family: &Arc<Family>, key: &[u8], value: Bytes) {
        // The reference is encoded behind all other operations, once the value has its extent, so
        // an earlier small value of the key is outdone; `touch` drops an earlier large one.
        self.large.push(Large { family: family.clone(), key: Bytes::copy_from_slice(key), value });
    }

    /// The keys of the family that the batch gives a value last.
    fn keys_put(&self, family: &Family, inside: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let ops = Ops::new(&self.bytes).map(|op| op.expect("a batch encodes what it can decode"));
        let mut put = BTreeSet::new();
        for op in ops.map(|found| found.op).filter(|op| op.family() == family.id) {
            match op {
                Op::Put { key, .. } | Op::PutExtent { key, .. } if inside(key) => put.insert(key),
                Op::Delete { key, .. } => put.remove(key),
                _ => continue,
            };
        }
        put.into_iter().map(<[u8]>::to_vec).collect()
    }

    fn touch(&mut self, family: &Arc<Family>, key: &[u8]) {
        self.touch_family(family);
        if !self.large.is_empty() {
            self.large.retain(|large| large.family.id != family.id || large.key != key);
        }
        self.footprint.write(family.id, key);
        self.operations += 1;
    }

    fn touch_family(&mut self, family: &Arc<Family>) {
        if !self.families.iter().any(|known| known.id == family.id) {
            self.families.push(family.clone());
        }
    }

    fn accepts_key(&mut self, key: &[u8]) -> bool {
        self.accepts(check_key(key))
    }

    fn accepts_value(&mut self, len: usize) -> bool {
        self.accepts(check_value(len))
    }

    /// The submission will fail with this, unless there was a mistake before.
    pub(crate) fn refuse(&mut self, kind: ErrorKind, message: &'static str) {
        self.accepts(Err(Error::new(kind, message)));
    }

    fn accepts(&mut self, checked: Result<()>) -> bool {
        match checked {
            Ok(()) => true,
            Err(error) => {
                self.mistake.get_or_insert(error);
                false
            }
        }
    }
}

/// Whether a row may have this key and a value of so many bytes.
pub(crate) fn check_row(key: &[u8], value_bytes: usize) -> Result<()> {
    check_key(key)?;
    check_value(value_bytes)
}

fn check_key(key: &[u8]) -> Result<()> {
    match key.len() {
        0 => Err(Error::new(ErrorKind::InvalidArgument, "a key is empty")),
        1..=KEY_BYTES_MAX => Ok(()),
        _ => Err(Error::new(ErrorKind::TooLarge, "a key is longer than 64 KiB")),
    }
}

fn check_value(len: usize) -> Result<()> {
    match len > VALUE_BYTES_MAX {
        true => Err(Error::new(ErrorKind::TooLarge, "a value is longer than 1 GiB")),
        false => Ok(()),
    }
}

impl Encoded {
    pub(crate) fn submission<'a>(&'a self, durability: Durability) -> Submission<'a> {
        let shown = match durability {
            Durability::Immediate => Shown::WhenDurable,
            Durability::Buffered => Shown::WhenApplied,
        };
        Submission {
            payload: &self.payload,
            operations: self.operations,
            has_ranges: self.range_deletes > 0,
            need: self.need,
            families: &self.families,
            shown,
            footprint: &self.footprint,
            reads: None,
        }
    }

    /// The commit is ordered: its extents belong to it.
    pub(crate) fn keep_extents(&mut self) {
        self.reserved.drain(..).for_each(Reserved::keep);
    }

    /// Back to a batch that can be extended or submitted again.
    pub(crate) fn into_operations(self) -> Operations {
        Operations {
            bytes: self.payload.into(),
            families: self.families,
            footprint: self.footprint,
            large: Vec::new(),
            reserved: self.reserved,
            operations: self.operations,
            range_deletes: self.range_deletes,
            need: self.need,
            mistake: None,
        }
    }
}
