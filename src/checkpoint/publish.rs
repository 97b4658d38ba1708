//! Catalog, free map, superblock, state: a checkpoint becomes the one that counts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringdb_uring::Buf;
use ringdb_uring::planted::{self, Bug};

use crate::alloc::runs::Runs;
use crate::checkpoint::flush::Trees;
use crate::checkpoint::freeze::Frozen;
use crate::checkpoint::writer::{Changes, Writer};
use crate::engine::{Engine, Published};
use crate::error::{Error, ErrorKind, Result};
use crate::format::blob::BlobRef;
use crate::format::catalog::{self, CatalogEntry, FamilyOptions};
use crate::format::chapter::Chapter;
use crate::format::free_map;
use crate::format::segment::SegmentRef;
use crate::format::superblock::{self, Closed, SUPERBLOCK_BYTES, Superblock};
use crate::ids::{Extent, Generation, PAGE_BYTES, PageId, Seq};
use crate::state::{FamilyView, State, Tree};

/// All that was frozen is in these trees now.
pub(crate) async fn publish(
    engine: &Arc<Engine>,
    frozen: &Frozen,
    trees: Trees,
    writer: &mut Writer<'_>,
) -> Result<()> {
    let blobs = write_blobs(engine, &frozen.catalog, &trees, writer).await?;
    let before = engine.superblock.lock().clone();
    let next = Superblock {
        generation: Generation(before.generation.0 + 1),
        checkpoint_seq: match planted::is(Bug::CheckpointMarkEarly) {
            true => engine.pipeline.order().last,
            false => frozen.seq,
        },
        seq_next_min: Seq(frozen.seq.0 + 1),
        next_family: frozen.next_family,
        next_segment: engine.next_segment(),
        file_pages: blobs.free_map.file_pages,
        catalog: blobs.catalog,
        free_map: blobs.free_map.blob,
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
    let old = swap_state(engine, trees, &changes, |state| settle_frozen(state, frozen));
    // Readers look again until they may see what the new state holds.
    engine.pipeline.show_exclusive();
    settle_space(engine, &old, changes, blobs.orphans);
    engine.pipeline.set_generation(next.generation);
    *engine.superblock.lock() = next;
    *engine.published.lock() = frozen.catalog.clone();
    engine.release_log(frozen.log_from);
    // Whoever learns that it made something durable finds it counted.
    engine.checkpoints.fetch_add(1, Ordering::Relaxed);
    // Also those that have no record in the log.
    engine.pipeline.places.mark_durable(frozen.seq);
    Ok(())
}

/// What was in other trees is in these now; the log goes on to say what comes after it.
pub(crate) async fn publish_trees(
    engine: &Arc<Engine>,
    trees: Trees,
    writer: &mut Writer<'_>,
) -> Result<()> {
    let published = engine.published.lock().clone();
    let blobs = write_blobs(engine, &published, &trees, writer).await?;
    let before = engine.superblock.lock().clone();
    let next = Superblock {
        generation: Generation(before.generation.0 + 1),
        next_segment: engine.next_segment(),
        file_pages: blobs.free_map.file_pages,
        catalog: blobs.catalog,
        free_map: blobs.free_map.blob,
        closed: Closed::No,
        ..before
    };
    write_superblock(engine, &next).await?;
    let changes = writer.changes();
    let old = swap_state(engine, trees, &changes, |_| {});
    settle_space(engine, &old, changes, blobs.orphans);
    engine.pipeline.set_generation(next.generation);
    *engine.superblock.lock() = next;
    Ok(())
}

/// What a superblock is going to name, durable.
struct Blobs {
    catalog: BlobRef,
    free_map: FreeMap,
    orphans: Vec<Extent>,
}

/// Catalog and free map in place of those before; then all that was written is synced. (I6)
async fn write_blobs(
    engine: &Arc<Engine>,
    families: &Published,
    trees: &Trees,
    writer: &mut Writer<'_>,
) -> Result<Blobs> {
    let (catalog, free_map) = {
        let before = engine.superblock.lock();
        (before.catalog, before.free_map)
    };
    writer.retire_pages(catalog.extent);
    writer.retire_pages(free_map.extent);
    let bytes = catalog::encode(&catalog_entries(engine, families, trees));
    writer.give_kept();
    let catalog = writer.write_blob(&bytes).await?;
    let free_map = write_free_map(engine, writer).await?;
    let orphans = engine.space.lock().take_orphans();
    // The length of the file too.
    if !planted::is(Bug::SuperblockBeforeData)
        && let Err(error) = writer.sync().await
    {
        // The next attempt syncs what they were written with.
        engine.space.lock().orphan(orphans);
        return Err(error);
    }
    Ok(Blobs { catalog, free_map, orphans })
}

/// Keeps pages back for catalog and free map before nodes are placed. Each is one run, however long, and on a full disk there may
/// be no other.
pub(super) fn keep_back_for_blobs(
    engine: &Engine,
    frozen: &Frozen,
    writer: &mut Writer<'_>,
) -> Result<()> {
    let entries = catalog_entries(engine, &frozen.catalog, &Trees::new());
    let more = frozen.families.len() * catalog::TREE_ENTRY_BYTES;
    let catalog = catalog::encode(&entries).len() + more;
    let (map, _) = encode_free_map(engine, writer)?;
    // What is retired leaves more runs.
    let map = map.len() + PAGE_BYTES;
    [catalog, map].iter().for_each(|bytes| writer.keep_back(BlobRef::pages(*bytes) as u32));
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
        if let Some(cause) = engine.io.failed_sync() {
            return Err(engine.poison("a sync failed", cause));
        }
        let mut buf = Buf::zeroed(SUPERBLOCK_BYTES);
        buf.copy_from_slice(&bytes);
        let (result, _) = engine.io.write_durable(offset, buf, SUPERBLOCK_BYTES).await;
        result.map_err(|cause| engine.poison("a superblock write failed", cause))?;
    }
    Ok(())
}

fn catalog_entries(engine: &Engine, families: &Published, trees: &Trees) -> Vec<CatalogEntry> {
    let state = engine.state();
    let trees_of = |id| {
        let kept = || state.view(id).map(|view| &view.trees);
        trees.get(&id).or_else(kept).into_iter().flatten().map(Tree::entry).collect()
    };
    let entry = |(name, family): &(Arc<str>, Arc<crate::state::Family>)| CatalogEntry {
        id: family.id,
        name: name.to_string(),
        options: FamilyOptions { logging: family.logging },
        trees: trees_of(family.id),
    };
    families.iter().map(entry).collect()
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
    let blob = writer.write_placed_blob(&map, extent).await?;
    Ok(FreeMap { blob, file_pages })
}

/// What is retired is what trees named, and no checksum says that they were right: a page that is
/// named twice, or is free already, ends the checkpoint before anything was published.
fn encode_free_map(engine: &Engine, writer: &Writer<'_>) -> Result<(Vec<u8>, u64)> {
    let (unnamed, planned_pages, file_pages) = {
        let space = engine.space.lock();
        (space.unnamed().to_runs(), space.occupancy().file, space.grown_pages())
    };
    let (placed, retired) = writer.pending();
    let placed = Runs::of(placed, planned_pages).and_then(|placed| unnamed.without(&placed));
    let left = placed.expect("a checkpoint places on pages that nobody names");
    let retired = Runs::of(retired, planned_pages).and_then(|retired| left.with(&retired));
    let unnamed = retired.map_err(|defect| {
        let path = engine.io.path().display();
        let error = Error::new(ErrorKind::Corrupt, "a page is named twice");
        error.with_detail(format!("{path}: {defect}"))
    })?;
    Ok((free_map::encode(unnamed.up_to(file_pages).extents()), file_pages))
}

/// Readers see the new trees from now on; gives the state that they saw before.
fn swap_state(
    engine: &Engine,
    trees: Trees,
    changes: &Changes,
    change: impl FnOnce(&mut State),
) -> Arc<State> {
    let edit = engine.edit_state();
    let mut state = State::clone(&edit.current());
    state.hold = Arc::new(state.hold.next());
    engine.pages.begin_turn(&state.hold, pages_of(&changes.retired));
    for (id, trees) in trees {
        if let Some(view) = state.view(id) {
            let view = FamilyView { trees, ..(**view).clone() };
            state.set(view);
        }
    }
    change(&mut state);
    edit.publish(state)
}

/// The frozen memtables are in trees, and families that were dropped by then are gone.
fn settle_frozen(state: &mut State, frozen: &Frozen) {
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
        state.set(view);
    }
}

fn pages_of(runs: &Runs) -> impl Iterator<Item = PageId> {
    runs.extents().flat_map(|extent| (extent.start.0..extent.end().0).map(PageId))
}

fn settle_space(engine: &Engine, old: &Arc<State>, changes: Changes, orphans: Vec<Extent>) {
    pages_of(&changes.retired).for_each(|page| engine.pages.forget(page));
    let mut space = engine.space.lock();
    changes.placed.extents().for_each(|extent| space.name(extent));
    changes.retired.extents().for_each(|extent| space.unname(extent));
    let extents = changes.retired.extents().chain(changes.superseded).collect();
    space.retire(Arc::downgrade(&old.hold), extents);
    // The sync of this checkpoint began after their writers were gone.
    orphans.into_iter().for_each(|extent| space.release(extent));
}
