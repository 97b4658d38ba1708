//! The keeper of the log: segments are ready before they are needed.
//!
//! ```text
//! allocate V, write its blocks ─▶ head of U names V, durable ─▶ U is ready
//! ```
//!
//! Blocks are written once before use, because a write onto unwritten blocks makes each sync
//! commit the file system's journal. Segments that a checkpoint released are used again without
//! that; what is left in them is of an older life and ends a replay like blank blocks do.

use std::ops::RangeInclusive;
use std::sync::Arc;

use ringdb_uring::Buf;

use crate::alloc::reserve::Need;
use crate::commit::Order;
use crate::commit::signal::{Raised, Signal};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::ids::{Extent, Incarnation, PAGE_BYTES};
use crate::log::{READY_SEGMENTS, SEGMENT_BODY_BYTES, Segment};
use crate::options::Options;
use crate::page::space::Taker;
use crate::room::{Attempt, Supply};

/// Pages of the first segments, unless none may be as large: a new database is small.
const SEGMENT_PAGES_MIN: u64 = 16;

/// A new segment has this part of the log in use.
const USED_FRACTION: u64 = 8;

/// A released segment of this part of what is sought will do: nothing has to be written.
const RECYCLED_FRACTION: u64 = 4;

/// Looks at whether the log can leave, with a segment made ready after each: the one that was named already, the one it leaves for, and
/// those to be ready then.
const LEAVING_LOOKS: usize = READY_SEGMENTS + 3;

/// Bytes of zeros written at a time: a commit that comes meanwhile waits for no more.
const ZERO_BYTES: usize = 128 << 10;
/// And where commits wait for just these.
const ZERO_BYTES_HURRIED: usize = 1 << 20;

pub(crate) struct Keeper {
    pub(crate) incarnation: Incarnation,
    /// The segment that the last ready one names: allocated, its blocks written.
    pub(crate) named: Segment,
}

impl Keeper {
    /// Runs until `stop`.
    pub(crate) async fn run(mut self, engine: &Arc<Engine>, stop: &Signal) {
        loop {
            while self.supply(engine).await == Attempt::Again {}
            if engine.pipeline.keeper.raised_before(stop).await == Raised::Other {
                return;
            }
        }
    }

    /// Has segments ready and pages for what is in the memtables, as far as the disk gives them.
    async fn supply(&mut self, engine: &Arc<Engine>) -> Attempt {
        if engine.pipeline.failure().is_some() || engine.pipeline.is_closed() {
            return Attempt::Done;
        }
        engine.pipeline.tell_accepted();
        engine.uncover_if_short();
        let wanted = self.make_ready_while(engine, Order::lacks_segment).await;
        let covered = engine.cover_memtables().await;
        let is_ready = Signal::default();
        let ahead = async {
            let left = self.let_leave(engine).await;
            let ahead = self.make_ready_while(engine, |order| order.log.wants_segment()).await;
            is_ready.raise();
            left.and(ahead)
        };
        let ahead = match covered {
            Ok(Supply::Ample) => futures::join!(ahead, cover_until(engine, &is_ready)).0,
            Ok(Supply::Bare) | Err(_) => ahead.await,
        };
        match wanted.and(ahead).and(covered) {
            Ok(supply) => {
                engine.is_supplied(supply);
                Attempt::Done
            }
            // A load that was given up may have held all there is.
            Err(_) if engine.regains_orphans().await => Attempt::Again,
            Err(cause) => engine.fall_short(cause),
        }
    }

    async fn make_ready_while(
        &mut self,
        engine: &Arc<Engine>,
        is_wanted: impl Fn(&Order) -> bool,
    ) -> Result<()> {
        while engine.pipeline.failure().is_none() && is_wanted(&engine.pipeline.order()) {
            self.make_ready(engine).await?;
        }
        Ok(())
    }

    /// Has segments ready that the log can leave for, if it is to leave the end of the file; it stays where there is no room for
    /// them.
    async fn let_leave(&mut self, engine: &Arc<Engine>) -> Result<()> {
        for _ in 0..LEAVING_LOOKS {
            let Some(limit) = engine.pipeline.order().log.leaves_for() else { return Ok(()) };
            let pages = first_pages(&engine.options);
            let is_good = |extent: Extent| extent.end() <= limit && extent.pages <= pages;
            if is_good(self.named.extent) && engine.pipeline.order().log.leave_now(is_good) {
                engine.pipeline.write_group();
                return Ok(());
            }
            let found = engine.space.lock().allocate_below(limit, pages, pages, Taker::Ingest);
            let Some(extent) = found else { break };
            fill_or_orphan(engine, extent).await?;
            self.name(engine, extent).await?;
        }
        engine.pipeline.order().log.stay();
        engine.pipeline.checkpointer.raise();
        Ok(())
    }

    async fn make_ready(&mut self, engine: &Arc<Engine>) -> Result<()> {
        let sizes = self.pages(engine);
        let extent = match allocate(engine, sizes.clone(), Need::Growth).await {
            Err(refused) if engine.relief_is_due() => {
                self.relieve(engine, *sizes.end(), refused).await?
            }
            allocated => allocated?,
        };
        self.name(engine, extent).await
    }

    /// The segment that was named is ready, with this one named behind it.
    async fn name(&mut self, engine: &Arc<Engine>, extent: Extent) -> Result<()> {
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
        {
            let mut order = engine.pipeline.order();
            order.log.add_ready(ready);
            order.cover.segment_waits = false;
        }
        // An empty group may have found no room.
        engine.io.kick();
        engine.pipeline.wake_front();
        // A seal may wait for room too.
        engine.io.kick();
        Ok(())
    }

    /// A segment for deletes out of the reserve, a shorter one if its pages lie in crumbs.
    async fn relieve(
        &self,
        engine: &Arc<Engine>,
        mut pages: u32,
        refused: Error,
    ) -> Result<Extent> {
        let wanted = engine.pipeline.order().log.wanted_bytes() + SEGMENT_BODY_BYTES;
        let least = wanted.div_ceil(PAGE_BYTES as u64) as u32;
        loop {
            match allocate(engine, pages..=pages, Need::Relief).await {
                Err(error) if error.kind() == ErrorKind::NoSpace && pages > least => {
                    pages = (pages / 2).max(least);
                }
                Err(error) if error.kind() == ErrorKind::NoSpace => return Err(refused),
                answered => return answered,
            }
        }
    }

    /// What will do, as large as a waiting commit needs; and what is sought, in proportion to the log in use, up to the bound.
    fn pages(&self, engine: &Engine) -> RangeInclusive<u32> {
        let order = engine.pipeline.order();
        let usual = order.log.used_bytes() / USED_FRACTION;
        let bounded = usual.min(engine.options.segment_bytes_max) / PAGE_BYTES as u64;
        let wanted = (order.log.wanted_bytes() + SEGMENT_BODY_BYTES).div_ceil(PAGE_BYTES as u64);
        let needed = wanted.max(u64::from(first_pages(&engine.options)));
        let sought = bounded.max(needed);
        needed.max(sought / RECYCLED_FRACTION) as u32..=sought as u32
    }
}

/// Promises pages to rows that come before segments are ready, so that commits do not wait for both, while the disk has more than
/// is needed.
async fn cover_until(engine: &Engine, is_ready: &Signal) {
    let keeper = &engine.pipeline.keeper;
    let mut was_asked = false;
    while is_ready.raised_before(keeper).await == Raised::Other {
        was_asked = true;
        if !matches!(engine.cover_memtables().await, Ok(Supply::Ample)) {
            break;
        }
    }
    if was_asked {
        // Perhaps it was not pages that somebody asked for, or there are no more of them.
        keeper.raise();
    }
}

/// Pages of the first segments.
pub(crate) fn first_pages(options: &Options) -> u32 {
    (options.segment_bytes_max / PAGE_BYTES as u64).min(SEGMENT_PAGES_MIN) as u32
}

/// A released segment between the two sizes or larger, or a new one of the larger size.
async fn allocate(engine: &Arc<Engine>, sizes: RangeInclusive<u32>, need: Need) -> Result<Extent> {
    let pages = *sizes.end();
    if let Some(extent) = engine.recycled_segment(sizes) {
        return Ok(extent);
    }
    let extent = engine.allocate(pages, need).await?;
    fill_or_orphan(engine, extent).await?;
    Ok(extent)
}

async fn fill_or_orphan(engine: &Engine, extent: Extent) -> Result<()> {
    let filled = fill_with_zeros(engine, extent).await;
    if filled.is_err() {
        engine.space.lock().orphan(vec![extent]);
    }
    filled
}

/// Writes every block once.
pub(crate) async fn fill_with_zeros(engine: &Engine, extent: Extent) -> Result<()> {
    let (mut offset, end) = (extent.start.byte_offset(), extent.end().byte_offset());
    while offset < end {
        let piece = match engine.pipeline.order().lacks_segment() {
            true => ZERO_BYTES_HURRIED,
            false => ZERO_BYTES,
        };
        let len = (end - offset).min(piece as u64) as usize;
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
