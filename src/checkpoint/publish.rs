//! Catalog, free map, superblock, state: a checkpoint becomes the one that counts.

use std::sync::Arc;

use ringdb_uring::Buf;
use ringdb_uring::planted::{self, Bug};

use crate::checkpoint::freeze::Frozen;
use crate::checkpoint::merge::Trees;
use crate::checkpoint::writer::{Changes, Writer};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::format::blob::BlobRef;
use crate::format::catalog::{self, CatalogEntry, FamilyOptions};
use crate::format::chapter::Chapter;
use crate::format::free_map;
use crate::format::segment::SegmentRef;
use crate::format::superblock::{self, Closed, SUPERBLOCK_BYTES, Superblock};
use crate::ids::{Extent, Generation, PageId, Seq};
use crate::state::{Hold, State};

pub(crate) async fn publish(
    engine: &Arc<Engine>,
    frozen: &Frozen,
    trees: Trees,
    writer: &mut Writer<'_>,
) -> Result<()> {
    let before = engine.superblock.lock().clone();
    writer.retire_pages(before.catalog.extent);
    writer.retire_pages(before.free_map.extent);
    let entries = catalog_entries(engine, frozen, &trees);
    let catalog = write_catalog(&entries, writer).await?;
    let free_map = write_free_map(engine, writer).await?;
    // Only now: an attempt that ends before the sync leaves them to the next.
    let orphans = engine.space.lock().take_orphans();
    // The length of the file too.
    if !planted::is(Bug::SuperblockBeforeData) {
        writer.sync().await?;
    }
    let next = Superblock {
        generation: Generation(before.generation.0 + 1),
        checkpoint_seq: match planted::is(Bug::CheckpointMarkEarly) {
            true => engine.pipeline.order().last,
            false => frozen.seq,
        },
        seq_next_min: Seq(frozen.seq.0 + 1),
        next_family: frozen.next_family,
        next_segment: engine.next_segment(),
        file_pages: free_map.file_pages,
        catalog,
        free_map: free_map.blob,
        chapters: vec![Chapter {
            incarnation: before.incarnation,
            segment: SegmentRef {
                extent: frozen.log_from.extent,
                ordinal: frozen.log_from.ordinal,
            },
            end: None,
        }],
        closed: Closed::No,
        ..before
    };
    write_superblock(engine, &next).await?;
    if planted::is(Bug::SuperblockBeforeData) {
        writer.sync().await?;
    }
    let changes = writer.changes();
    let old = swap_state(engine, frozen, trees, next.generation);
    settle_space(engine, &old, changes, orphans);
    engine.pipeline.set_generation(next.generation);
    *engine.superblock.lock() = next;
    engine.release_log(frozen.log_from);
    // Also those that have no record in the log.
    engine.pipeline.places.mark_durable(frozen.seq);
    Ok(())
}

/// Says that a new incarnation has begun: its log follows the chapters of the old ones.
pub(crate) async fn begin_incarnation(
    engine: &Arc<Engine>,
    chapters: Vec<Chapter>,
    seq_next_min: Seq,
) -> Result<()> {
    let before = engine.superblock.lock().clone();
    let mut writer = Writer::new(engine);
    // The free map lists pages up to the end of the file, so it changes if the file grew.
    let unchanged = engine.space.lock().grown_pages() == before.file_pages;
    let free_map = match unchanged {
        true => FreeMap { blob: before.free_map, file_pages: before.file_pages },
        false => {
            writer.retire_pages(before.free_map.extent);
            write_free_map(engine, &mut writer).await?
        }
    };
    writer.sync().await?;
    let next = Superblock {
        generation: Generation(before.generation.0 + 1),
        seq_next_min,
        next_segment: engine.next_segment(),
        file_pages: free_map.file_pages,
        free_map: free_map.blob,
        chapters,
        closed: Closed::No,
        ..before
    };
    write_superblock(engine, &next).await?;
    let changes = writer.changes();
    let state = engine.state().clone();
    settle_space(engine, &state, changes, Vec::new());
    engine.pipeline.set_generation(next.generation);
    *engine.superblock.lock() = next;
    Ok(())
}

/// After a checkpoint at the very end: the log has nothing to replay.
pub(crate) async fn record_clean_end(engine: &Arc<Engine>) -> Result<()> {
    let mut next = engine.superblock.lock().clone();
    next.generation = Generation(next.generation.0 + 1);
    next.chapters.clear();
    next.closed = Closed::Cleanly;
    write_superblock(engine, &next).await?;
    *engine.superblock.lock() = next;
    Ok(())
}

/// Both copies, each durable before the other is begun, so that one of them is always whole.
pub(crate) async fn write_superblock(engine: &Engine, superblock: &Superblock) -> Result<()> {
    let bytes = superblock.encode();
    let copies = if planted::is(Bug::SuperblockOnce) { 1 } else { 2 };
    for offset in superblock::offsets(superblock.generation).into_iter().take(copies) {
        // A sync that failed elsewhere may have taken our pages' errors with it: a later one that
        // succeeds proves nothing. (I8)
        if let Some(cause) = engine.pipeline.failure() {
            return Err(cause);
        }
        if engine.io.has_failed_sync() {
            let cause = std::io::Error::other("nobody waited for its result");
            return Err(engine.poison("a sync failed", cause));
        }
        let mut buf = Buf::zeroed(SUPERBLOCK_BYTES);
        buf.copy_from_slice(&bytes);
        let (result, _) = engine.io.write_durable(offset, buf, SUPERBLOCK_BYTES).await;
        result.map_err(|cause| engine.poison("a superblock write failed", cause))?;
    }
    Ok(())
}

fn catalog_entries(engine: &Engine, frozen: &Frozen, trees: &Trees) -> Vec<CatalogEntry> {
    let state = engine.state();
    let trees_of = |id| match trees.get(&id) {
        Some(merged) => merged.clone(),
        None => state.view(id).map(|view| view.trees.clone()).unwrap_or_default(),
    };
    let entry = |(name, family): &(Arc<str>, Arc<crate::state::Family>)| CatalogEntry {
        id: family.id,
        name: name.to_string(),
        options: FamilyOptions { logging: family.logging },
        trees: trees_of(family.id),
    };
    frozen.catalog.iter().map(entry).collect()
}

async fn write_catalog(entries: &[CatalogEntry], writer: &mut Writer<'_>) -> Result<BlobRef> {
    let bytes = catalog::encode(entries);
    let extent = writer.place_pages(BlobRef::pages(bytes.len()) as u32);
    writer.write_blob(&bytes, extent).await
}

/// The free map, and the pages of the file as it knows them.
struct FreeMap {
    blob: BlobRef,
    file_pages: u64,
}

/// The map lists what the new superblock does not name, so its own pages are placed first, by a
/// bound on what it will need.
///
/// It ends where the file ended when it was made. The plan may go beyond that, and back; what it
/// adds is found free by the length of the file when the database is opened.
async fn write_free_map(engine: &Arc<Engine>, writer: &mut Writer<'_>) -> Result<FreeMap> {
    let (without_itself, _) = encode_free_map(engine, writer)?;
    // Its own pages, and what the file grows by in between.
    let bound = without_itself.len() + 2 * free_map::CHANGE_BYTES_MAX;
    let extent = writer.place_pages(BlobRef::pages(bound) as u32);
    writer.grow().await?;
    let (map, file_pages) = encode_free_map(engine, writer)?;
    let blob = writer.write_blob(&map, extent).await?;
    Ok(FreeMap { blob, file_pages })
}

/// What is retired is what trees named, and no checksum says that they were right: a page that is
/// named twice, or is free already, ends the checkpoint before anything was published.
fn encode_free_map(engine: &Engine, writer: &Writer<'_>) -> Result<(Vec<u8>, u64)> {
    let (mut unnamed, file_pages) = {
        let space = engine.space.lock();
        (space.unnamed().clone(), space.grown_pages())
    };
    let (placed, retired) = writer.pending();
    for extent in placed {
        unnamed.take(extent).expect("a checkpoint places on pages that nobody names");
    }
    for extent in retired {
        unnamed.give_back(*extent).map_err(|defect| {
            let path = engine.io.path().display();
            let error = Error::new(ErrorKind::Corrupt, "a page is named twice");
            error.with_detail(format!("{path}: {defect}"))
        })?;
    }
    unnamed.shrink_towards(file_pages);
    Ok((free_map::encode(unnamed.extents()), file_pages))
}

fn swap_state(
    engine: &Engine,
    frozen: &Frozen,
    trees: Trees,
    generation: Generation,
) -> Arc<State> {
    let edit = engine.edit_state();
    let mut state = State::clone(&edit.current());
    state.hold = Arc::new(Hold);
    state.generation = generation;
    state.checkpoint_seq = frozen.seq;
    for part in &frozen.families {
        let id = part.family.id;
        if part.family.dropped().is_some_and(|seq| seq <= frozen.seq) {
            state.remove(id);
            continue;
        }
        let Some(view) = state.view(id) else { continue };
        let mut view = (**view).clone();
        view.memtables.retain(|memtable| !Arc::ptr_eq(memtable, &part.memtable));
        if let Some(merged) = trees.get(&id) {
            view.trees.clone_from(merged);
        }
        state.set(view);
    }
    edit.publish(state)
}

fn settle_space(engine: &Engine, old: &Arc<State>, changes: Changes, orphans: Vec<Extent>) {
    for extent in &changes.retired {
        for page in extent.start.0..extent.end().0 {
            engine.pages.forget(PageId(page));
        }
    }
    let mut space = engine.space.lock();
    changes.placed.iter().for_each(|extent| space.name(*extent));
    changes.retired.iter().for_each(|extent| space.unname(*extent));
    let mut extents = changes.retired;
    extents.extend(changes.superseded);
    space.retire(Arc::downgrade(&old.hold), extents);
    // The sync of this checkpoint began after their writers were gone.
    orphans.into_iter().for_each(|extent| space.release(extent));
}
