//! The keeper of the log: segments are ready before they are needed.
//!
//! ```text
//! allocate V, write its blocks ─▶ head of U names V, durable ─▶ U is ready
//! ```
//!
//! Blocks are written once before use, because a write onto unwritten blocks makes each sync
//! commit the file system's journal. Segments that a checkpoint released are used again without
//! that; what is left in them is of an older life and ends a replay like blank blocks do.

use std::sync::Arc;

use ringdb_uring::Buf;

use crate::commit::signal::Signal;
use crate::engine::Engine;
use crate::error::Result;
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::ids::{Extent, Incarnation, PAGE_BYTES};
use crate::log::{SEGMENT_BODY_BYTES, Segment};
use crate::options::Options;

/// Pages of the first segments, unless none may be as large: a new database is small.
const SEGMENT_PAGES_MIN: u64 = 16;

/// A new segment has this part of the log in use.
const USED_FRACTION: u64 = 4;

/// Bytes of zeros written at a time.
const ZERO_BYTES: usize = 1 << 20;

pub(crate) struct Keeper {
    pub(crate) incarnation: Incarnation,
    /// The segment that the last ready one names: allocated, its blocks written.
    pub(crate) named: Segment,
}

impl Keeper {
    /// Runs until `stop`.
    pub(crate) async fn run(mut self, engine: &Arc<Engine>, stop: &Signal) {
        loop {
            while engine.pipeline.failure().is_none() && engine.pipeline.order().log.wants_segment()
            {
                if let Err(cause) = self.make_ready(engine).await {
                    engine.pipeline.order().stall(cause);
                    engine.pipeline.wake_front();
                    break;
                }
            }
            let woken = std::pin::pin!(engine.pipeline.keeper.raised());
            let stopped = std::pin::pin!(stop.raised());
            if let futures::future::Either::Right(_) = futures::future::select(woken, stopped).await
            {
                return;
            }
        }
    }

    async fn make_ready(&mut self, engine: &Arc<Engine>) -> Result<()> {
        let extent = allocate(engine, self.pages(engine)).await?;
        let header = SegmentHeader {
            file_id: engine.file_id,
            incarnation: self.incarnation,
            ordinal: self.named.ordinal,
            extent: self.named.extent,
            successor: extent,
        };
        write_header(engine, &header).await?;
        let ready = self.named;
        self.named = Segment { extent, ordinal: ready.ordinal + 1 };
        engine.set_named_segment(self.named);
        engine.pipeline.order().log.add_ready(ready);
        // An empty group may have found no room.
        engine.io.kick();
        engine.pipeline.wake_front();
        // A seal may wait for room too.
        engine.io.kick();
        Ok(())
    }

    /// In proportion to the log in use, up to the bound; as large as a waiting commit needs.
    fn pages(&self, engine: &Engine) -> u32 {
        let order = engine.pipeline.order();
        let usual = order.log.used_bytes() / USED_FRACTION;
        let bounded = usual.min(engine.options.segment_bytes_max) / PAGE_BYTES as u64;
        let wanted = (order.log.wanted_bytes() + SEGMENT_BODY_BYTES).div_ceil(PAGE_BYTES as u64);
        bounded.max(wanted).max(u64::from(first_pages(&engine.options))) as u32
    }
}

/// Pages of the first segments.
pub(crate) fn first_pages(options: &Options) -> u32 {
    (options.segment_bytes_max / PAGE_BYTES as u64).min(SEGMENT_PAGES_MIN) as u32
}

async fn allocate(engine: &Arc<Engine>, pages: u32) -> Result<Extent> {
    if let Some(extent) = engine.recycled_segment(pages) {
        return Ok(extent);
    }
    let extent = engine.space.lock().allocate(pages);
    if let Err(error) = fill_with_zeros(engine, extent).await {
        engine.space.lock().orphan(vec![extent]);
        return Err(error);
    }
    Ok(extent)
}

/// Writes every block once.
pub(crate) async fn fill_with_zeros(engine: &Engine, extent: Extent) -> Result<()> {
    engine.grow().await?;
    let (mut offset, end) = (extent.start.byte_offset(), extent.end().byte_offset());
    while offset < end {
        let len = (end - offset).min(ZERO_BYTES as u64) as usize;
        let (result, _) = engine.io.write(offset, Buf::zeroed(len), len).await;
        result.map_err(|cause| engine.poison("writing a log segment failed", cause))?;
        offset += len as u64;
    }
    let synced = engine.io.sync().await;
    synced.map_err(|cause| engine.poison("syncing a log segment failed", cause))
}

/// Makes the head of a segment durable.
pub(crate) async fn write_header(engine: &Engine, header: &SegmentHeader) -> Result<()> {
    let mut buf = Buf::zeroed(SEGMENT_HEADER_BYTES);
    buf.copy_from_slice(&header.encode());
    let offset = header.extent.start.byte_offset();
    let (result, _) = engine.io.write_durable(offset, buf, SEGMENT_HEADER_BYTES).await;
    result.map_err(|cause| engine.poison("writing the head of a log segment failed", cause))
}
