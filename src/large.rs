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
use crate::ids::{BLOCK_BYTES, Extent, PAGE_BYTES};
use crate::page::space::Reserved;

/// Pieces of a value in flight at once, each of `CHUNK_BYTES`.
const PIECES_IN_FLIGHT: usize = 4;

/// Writes the large values of a batch and puts their references into it.
pub(crate) async fn write(engine: Arc<Engine>, mut operations: Operations) -> Result<Operations> {
    let values = std::mem::take(&mut operations.large);
    for large in &values {
        let pages = large.value.len().div_ceil(PAGE_BYTES) as u32;
        let extent = engine.allocate_or_relieve(pages).await?;
        let reserved = Reserved::new(&engine.space, extent);
        let value = write_one(&engine, reserved.extent, &large.value).await?;
        operations.put_extent(large, &value, reserved);
    }
    if planted::is(Bug::ValueNotSynced) {
        return Ok(operations);
    }
    let synced = engine.io.sync().await;
    synced.map_err(|cause| engine.poison("syncing a large value failed", cause))?;
    Ok(operations)
}

async fn write_one(engine: &Engine, extent: Extent, bytes: &Bytes) -> Result<ExtentValue> {
    let value = ExtentValue::of(bytes, extent, &engine.file_id);
    let start = extent.start.byte_offset();
    let pieces: Vec<_> = bytes.chunks(CHUNK_BYTES).enumerate().collect();
    for some in pieces.chunks(PIECES_IN_FLIGHT) {
        let writes = some.iter().map(|(index, piece)| {
            let mut buf = Buf::zeroed(piece.len().next_multiple_of(PAGE_BYTES));
            buf[..piece.len()].copy_from_slice(piece);
            let len = buf.len();
            let write = engine.io.write(start + (index * CHUNK_BYTES) as u64, buf, len);
            async move { write.await.0 }
        });
        let written = try_join_all(writes).await;
        written.map_err(|cause| engine.poison("writing a large value failed", cause))?;
    }
    Ok(value)
}

/// Reads a value back and checks every piece of it. (I7)
pub(crate) async fn read(engine: &Engine, value: &ExtentValue) -> Result<Bytes> {
    if !lies_inside(value.extent, engine.io.len_bytes() / PAGE_BYTES as u64) {
        let error = Error::new(ErrorKind::Corrupt, "a large value lies outside of the file");
        let offset = value.extent.start.byte_offset();
        return Err(error.with_detail(format!("{}, offset {offset}", engine.io.path().display())));
    }
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

async fn read_piece(engine: &Engine, value: &ExtentValue, index: usize) -> Result<(Buf, usize)> {
    let from = index * CHUNK_BYTES;
    let len = (value.len_bytes as usize - from).min(CHUNK_BYTES);
    let offset = value.extent.start.byte_offset() + from as u64;
    let buf = Buf::zeroed(len.next_multiple_of(BLOCK_BYTES));
    let (result, buf) = engine.io.read(offset, buf).await;
    let place = || format!("{}, offset {offset}, {len} bytes", engine.io.path().display());
    result.map_err(|cause| {
        let error = Error::new(ErrorKind::Io, "reading a large value failed");
        error.with_detail(place()).with_source(cause)
    })?;
    value.verify_chunk(index, &buf[..len], &engine.file_id).map_err(|defect| {
        let error = Error::new(ErrorKind::Corrupt, "a large value is not what was written");
        error.with_detail(format!("{}: {defect}", place()))
    })?;
    Ok((buf, len))
}
