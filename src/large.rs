//! Values with extents of their own: written before their commit is ordered, read on demand.
//!
//! The log and the trees hold only the reference: the extent, the length and a checksum per MiB.
//! The extent is durable before the commit has a seq, so a durable record never names bytes that
//! are not. (I3)

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;
use ringdb_uring::Buf;
use ringdb_uring::planted::{self, Bug};

use crate::batch::Operations;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::format::lies_inside;
use crate::format::value::{CHUNK_BYTES, ExtentValue};
use crate::ids::{BLOCK_BYTES, PAGE_BYTES};
use crate::page::space::Reserved;

/// Pieces of a value in flight at once, each of `CHUNK_BYTES`.
const PIECES_IN_FLIGHT: usize = 4;

/// Writes the large values of a batch and puts their references into it.
pub(crate) async fn write(engine: Arc<Engine>, mut operations: Operations) -> Result<Operations> {
    let values = std::mem::take(&mut operations.large);
    for large in &values {
        let (value, reserved) = store(&engine, &large.value).await?;
        operations.put_extent(large, &value, reserved);
    }
    sync(&engine).await?;
    Ok(operations)
}

/// Writes a value to an extent of its own; it is not durable yet.
pub(crate) async fn store(engine: &Engine, value: &[u8]) -> Result<(ExtentValue, Reserved)> {
    let mut writing = Writing::begin(engine, value.len() as u64).await?;
    let pieces: Vec<_> = value.chunks(CHUNK_BYTES).collect();
    for some in pieces.chunks(PIECES_IN_FLIGHT) {
        writing.write(engine, some).await?;
    }
    Ok(writing.end())
}

/// Makes the values that were written durable, before anything names them. (I3)
pub(crate) async fn sync(engine: &Engine) -> Result<()> {
    if planted::is(Bug::ValueNotSynced) {
        return Ok(());
    }
    let synced = engine.io.sync().await;
    synced.map_err(|cause| engine.poison("syncing a large value failed", cause))
}

/// A value on its way to its extent, a MiB after the other.
pub(crate) struct Writing {
    value: ExtentValue,
    len_bytes: u64,
    reserved: Reserved,
}

impl Writing {
    /// Finds an extent for so many bytes, 1 byte to 1 GiB.
    pub(crate) async fn begin(engine: &Engine, len_bytes: u64) -> Result<Writing> {
        let pages = u32::try_from(ExtentValue::pages(len_bytes)).expect("a value is at most 1 GiB");
        let extent = engine.allocate_or_relieve(pages).await?;
        let reserved = Reserved::new(&engine.space, extent);
        Ok(Writing { value: ExtentValue::empty(extent), len_bytes, reserved })
    }

    /// Writes what comes next: pieces of a MiB each, only the last of all shorter.
    pub(crate) async fn write(&mut self, engine: &Engine, pieces: &[&[u8]]) -> Result<()> {
        let mut writes = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let offset = self.value.extent.start.byte_offset() + self.value.len_bytes;
            self.value.push_chunk(piece, &engine.file_id);
            let mut buf = Buf::zeroed(piece.len().next_multiple_of(PAGE_BYTES));
            buf[..piece.len()].copy_from_slice(piece);
            let len = buf.len();
            let write = engine.io.write(offset, buf, len);
            writes.push(async move { write.await.0 });
        }
        let written = try_join_all(writes).await;
        written.map_err(|cause| engine.poison("writing a large value failed", cause))?;
        Ok(())
    }

    /// The reference, once all is written, and the right to its extent.
    pub(crate) fn end(self) -> (ExtentValue, Reserved) {
        assert_eq!(self.value.len_bytes, self.len_bytes, "the value is written whole");
        (self.value, self.reserved)
    }
}

/// Reads a value back and checks every piece of it. (I7)
pub(crate) async fn read(engine: &Engine, value: &ExtentValue) -> Result<Bytes> {
    check_place(engine, value)?;
    let len = usize::try_from(value.len_bytes).expect("a checked reference is at most 1 GiB");
    let mut out = BytesMut::with_capacity(len);
    let pieces: Vec<usize> = (0..value.crcs.len()).collect();
    for some in pieces.chunks(PIECES_IN_FLIGHT) {
        let reads = some.iter().map(|&index| read_piece(engine, value, index));
        for (buf, piece_len) in try_join_all(reads).await? {
            out.extend_from_slice(&buf[..piece_len]);
        }
    }
    Ok(out.freeze())
}

/// Reads a value and checks every piece of it, one at a time, keeping none.
pub(crate) async fn verify(engine: &Engine, value: &ExtentValue) -> Result<()> {
    for index in 0..value.crcs.len() {
        read_piece(engine, value, index).await?;
    }
    Ok(())
}

/// Reads and checks the MiB of a value that has this index; gives it with its length.
pub(crate) async fn read_piece(
    engine: &Engine,
    value: &ExtentValue,
    index: usize,
) -> Result<(Buf, usize)> {
    check_place(engine, value)?;
    let from = index * CHUNK_BYTES;
    let len = (value.len_bytes as usize - from).min(CHUNK_BYTES);
    let offset = value.extent.start.byte_offset() + from as u64;
    let buf = Buf::zeroed(len.next_multiple_of(BLOCK_BYTES));
    let (result, buf) = engine.io.read(offset, buf).await;
    let place = || format!("{}, offset {offset}, {len} bytes", engine.io.path().display());
    result.map_err(|cause| {
        Error::of_read("reading a large value failed", cause).with_detail(place())
    })?;
    value.verify_chunk(index, &buf[..len], &engine.file_id).map_err(|defect| {
        let error = Error::new(ErrorKind::Corrupt, "a large value is not what was written");
        error.with_detail(format!("{}: {defect}", place()))
    })?;
    Ok((buf, len))
}

/// Before anything is allocated or read by the lengths that a reference claims.
fn check_place(engine: &Engine, value: &ExtentValue) -> Result<()> {
    if lies_inside(value.extent, engine.io.len_bytes() / PAGE_BYTES as u64) {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Corrupt, "a large value lies outside of the file");
    let offset = value.extent.start.byte_offset();
    Err(error.with_detail(format!("{}, offset {offset}", engine.io.path().display())))
}
