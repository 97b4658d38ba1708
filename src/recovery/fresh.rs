//! A new incarnation on top of what recovery found.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use ringdb_uring::planted::{self, Bug};
use ringdb_uring::threads::Mutex;
use ringdb_uring::{Buf, Io};

use crate::checkpoint::keeper::{Keeper, fill_with_zeros, first_pages, write_header};
use crate::checkpoint::publish;
use crate::commit::{Pipeline, Start};
use crate::engine::{Engine, Parts, Published};
use crate::error::{ErrorKind, Result};
use crate::format::chapter::Chapter;
use crate::format::checksum::FileId;
use crate::format::replay::is_whole;
use crate::format::segment::{SegmentHeader, SegmentRef};
use crate::format::superblock::{CHAPTERS_MAX, Closed};
use crate::ids::{Extent, Incarnation, PageId, Seq};
use crate::log::{LogPosition, Segment};
use crate::options::Options;
use crate::page::cache::PageCache;
use crate::page::space::{Space, Taker};
use crate::recovery::replay::Replayed;
use crate::recovery::{Found, corrupt, io_error, read};
use crate::report::RecoveryReport;
use crate::room;
use crate::state::{Family, FamilyView, State, Tree};

/// Seqs skipped after an unclean shutdown go up to the next multiple of this: more than any
/// incarnation can have given out beyond what its log shows.
const SEQ_SKIP: u64 = 1 << 36;

/// Pages of the first segments at least: a group of some rows fits.
const FIRST_PAGES_LEAST: u32 = 2;

pub(super) async fn begin(
    io: Io,
    options: Options,
    mut found: Found,
    mut replayed: Replayed,
    started: Instant,
) -> Result<(Arc<Engine>, Keeper)> {
    lengthen_again(&io, &mut found).await?;
    make_durable_again(&io, &found.superblock.file_id, &replayed).await?;
    let last = last_seq(&found, &replayed);
    let incarnation = Incarnation(found.superblock.incarnation.0 + 1);
    let space = Arc::new(Mutex::new(space(&io, &found, &replayed)?));
    let ordinal = found.superblock.next_segment;
    let [first, named] = first_extents(&io, &space, first_pages(&options)).await?;
    let first = Segment { extent: first, ordinal };
    let named = Segment { extent: named, ordinal: ordinal + 1 };
    let state = state(&found, &replayed);
    let published = published(&found, &replayed);
    let mut superblock = found.superblock;
    superblock.incarnation = incarnation;
    superblock.next_family = replayed.next_family;
    let shares = options.shares();
    let pipeline = Pipeline::new(
        io.clone(),
        Start {
            file_id: superblock.file_id,
            incarnation,
            generation: superblock.generation,
            last,
            log: LogPosition::new(first, VecDeque::from(replayed.segments.clone()), last),
            shares,
            grouping: options.grouping,
            next_family: replayed.next_family,
            pool: replayed.pool.clone(),
        },
    );
    restore_order(&pipeline, &replayed);
    let chapters = chapters(&io, &replayed, incarnation, first)?;
    let engine = Engine::new(Parts {
        pages: PageCache::new(io.clone(), superblock.file_id, &shares),
        io,
        pipeline,
        space,
        options,
        superblock,
        state,
        published,
        named_segment: named,
    });
    for segment in [first, named] {
        fill_with_zeros(&engine, segment.extent).await?;
    }
    // Not beside threads that take the processors: the methods are compared.
    replayed.settle();
    engine.pipeline.order().memory.active = replayed.charged_bytes;
    measure_sync_methods(&engine, first.extent).await?;
    let header = SegmentHeader {
        file_id: engine.file_id,
        incarnation,
        ordinal: first.ordinal,
        extent: first.extent,
        successor: named.extent,
    };
    write_header(&engine, &header).await?;
    publish::begin_incarnation(&engine, chapters, Seq(last.0 + 1)).await?;
    // (I6) The superblock that named them is not the newest any more.
    replayed.passing.iter().for_each(|extent| engine.space.lock().release(*extent));
    // The first commits find room. On a disk that has none they are told so, not the opener.
    drop(engine.cover_memtables().await);
    let report = RecoveryReport {
        commits: replayed.commits,
        log_bytes: replayed.log_bytes,
        duration: started.elapsed(),
        tail: replayed.tail,
    };
    engine.recovery.set(report).expect("a recovery is told of once");
    Ok((engine, Keeper { incarnation, named }))
}

/// Two runs of so many pages for the log to begin with. On a full disk shorter ones will do: its reserve is free, but perhaps in no
/// run as long, and whoever cannot open it cannot delete anything either.
async fn first_extents(io: &Io, space: &Mutex<Space>, mut pages: u32) -> Result<[Extent; 2]> {
    loop {
        let extents = [(); 2].map(|()| space.lock().allocate(pages, Taker::Checkpoint));
        match room::grow(io, space).await {
            Err(error) if error.kind() == ErrorKind::NoSpace && pages > FIRST_PAGES_LEAST => {
                extents.into_iter().for_each(|extent| space.lock().release(extent));
                pages = (pages / 2).max(FIRST_PAGES_LEAST);
            }
            grown => return grown.map(|()| extents),
        }
    }
}

/// The blank log is the first range of the file that may be overwritten, and the last that nothing
/// depends on: it has no head yet.
async fn measure_sync_methods(engine: &Engine, blank: Extent) -> Result<()> {
    let (offset, len_bytes) = (blank.start.byte_offset(), blank.len_bytes());
    let measured = engine.io.measure_sync_methods(offset, len_bytes).await;
    measured.map_err(|cause| engine.poison("measuring the sync methods failed", cause))
}

/// What a failed sync covered is not made sure by a later one, and that goes for the file's length
/// too. A length that the superblock does not know is made a new one, which the next sync covers.
async fn lengthen_again(io: &Io, found: &mut Found) -> Result<()> {
    if found.file_pages == found.superblock.file_pages {
        return Ok(());
    }
    let pages = found.file_pages + 1;
    match io.grow(PageId(pages).byte_offset()).await {
        Ok(()) => {
            found.unnamed.grow(found.file_pages, pages);
            found.file_pages = pages;
            Ok(())
        }
        // A full disk must not keep anybody from reading and deleting.
        Err(cause) if room::is_full(&cause) => Ok(()),
        Err(cause) => Err(io_error(io, "lengthening the file failed", cause)),
    }
}

/// A page cache may hold, as clean, what a failed sync lost: what was replayed is written again
/// where it lies, and flushed. Direct reads came from the device, and only its cache is flushed.
async fn make_durable_again(io: &Io, file_id: &FileId, replayed: &Replayed) -> Result<()> {
    if planted::is(Bug::TailBelieved) {
        return Ok(());
    }
    if !io.report().direct {
        for used in &replayed.segments {
            let offset = used.segment.extent.start.byte_offset();
            let bytes: Buf = read(io, offset, used.segment.extent.len_bytes() as usize).await?;
            // It was read before, and what is wrong in it now would be so for good.
            if !is_whole(&bytes, file_id, used.end_bytes) {
                let detail = format!("segment at offset {offset}");
                return Err(corrupt(io, "the log was read differently before", &detail));
            }
            let len = bytes.len();
            let (result, _) = io.write(offset, bytes, len).await;
            result.map_err(|cause| io_error(io, "writing the log again failed", cause))?;
        }
    }
    io.sync().await.map_err(|cause| io_error(io, "syncing the log failed", cause))
}

fn last_seq(found: &Found, replayed: &Replayed) -> Seq {
    let last = Seq(replayed.last.0.max(found.superblock.seq_next_min.0 - 1));
    match found.superblock.closed {
        Closed::Cleanly => last,
        Closed::No => Seq((last.0 / SEQ_SKIP + 1) * SEQ_SKIP),
    }
}

/// What is free now: what the superblock does not name, less what the log holds and names. (I9)
fn space(io: &Io, found: &Found, replayed: &Replayed) -> Result<Space> {
    let mut free = found.unnamed.clone();
    let segments = replayed.segments.iter().map(|used| used.segment.extent);
    let values = replayed.values.iter().copied();
    for extent in segments.chain(replayed.passing.iter().copied()).chain(values) {
        free.take(extent).map_err(|defect| {
            let detail = format!("offset {}: {defect}", extent.start.byte_offset());
            corrupt(io, "the log names pages that are in use", &detail)
        })?;
    }
    Ok(Space::new(found.unnamed.clone(), free, found.file_pages))
}

fn state(found: &Found, replayed: &Replayed) -> State {
    let all = replayed.families.values().chain(replayed.dropped.values());
    let views = all.map(|family| {
        let mut view = FamilyView::empty(family);
        // The catalog ascends by id.
        if let Ok(known) = found.catalog.binary_search_by_key(&family.id, |entry| entry.id) {
            view.trees = found.catalog[known].trees.iter().map(Tree::named).collect();
        }
        Arc::new(view)
    });
    let mut families: Vec<_> = views.collect();
    families.sort_unstable_by_key(|view| view.family.id);
    State { hold: Arc::default(), checkpoint_seq: found.superblock.checkpoint_seq, families }
}

/// The families that the catalog names, as it names them.
fn published(found: &Found, replayed: &Replayed) -> Published {
    let family = |id| replayed.families.get(&id).or_else(|| replayed.dropped.get(&id)).cloned();
    let named = found.catalog.iter().filter_map(|entry| {
        let name: Arc<str> = entry.name.as_str().into();
        family(entry.id).map(|family| (name, family))
    });
    named.collect::<Vec<(Arc<str>, Arc<Family>)>>().into()
}

fn restore_order(pipeline: &Pipeline, replayed: &Replayed) {
    let mut order = pipeline.order();
    let named = replayed.families.values().map(|family| (family.name(), family.clone()));
    order.names = Arc::new(named.collect());
    for family in replayed.touched.values().chain(replayed.dropped.values()) {
        order.mark_dirty(family);
    }
}

/// The chapters that still have something to replay, and the new one.
fn chapters(
    io: &Io,
    replayed: &Replayed,
    incarnation: Incarnation,
    first: Segment,
) -> Result<Vec<Chapter>> {
    if replayed.chapters.len() >= CHAPTERS_MAX {
        let detail = format!("{} of them", replayed.chapters.len());
        return Err(corrupt(io, "there are more logs than a superblock can name", &detail));
    }
    let segment = SegmentRef { extent: first.extent, ordinal: first.ordinal };
    let new = Chapter { incarnation, segment, end: None };
    Ok(replayed.chapters.iter().copied().chain([new]).collect())
}
