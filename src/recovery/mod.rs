//! Opening: superblock, catalog, free map, log; then a new incarnation.
//!
//! 1. Take the newest whole superblock, and the catalog and free map that it names.
//! 2. Replay the log after its seq, chapter by chapter, into memtables.
//! 3. Make what was replayed durable again: a page cache may hold what a failed sync lost.
//! 4. Begin a new incarnation in a new segment and say so in a new superblock. The old log is
//!    kept as ended chapters until a checkpoint covers it; nothing is ever appended to it.
//!
//! Nothing is believed before it is checked, and nothing is accepted before step 4 is durable.

mod apart;
mod behind;
mod chain;
pub(crate) mod create;
mod fresh;
mod merge;
mod places;
mod replay;
mod rows;

use std::sync::Arc;
use std::time::Instant;

use ringdb_uring::{Buf, Io, Settings, TRANSFER_BYTES_MAX};

use crate::alloc::free_space::FreeSpace;
use crate::checkpoint::keeper::Keeper;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::format::blob::BlobRef;
use crate::format::catalog::{self, CatalogEntry};
use crate::format::copies::{self, CopyState};
use crate::format::free_map;
use crate::format::superblock::{COPY_OFFSETS, Refused, SUPERBLOCK_BYTES, Superblock};
use crate::format::{Defect, superblock};
use crate::ids::{BLOCK_BYTES, Incarnation, PAGE_BYTES};
use crate::options::{Options, Place};

/// What is on disk, as far as the superblock names it.
struct Found {
    superblock: Superblock,
    catalog: Vec<CatalogEntry>,
    unnamed: FreeSpace,
    file_pages: u64,
}

/// Opens or creates; gives the engine and the keeper of its log.
pub(crate) async fn open(place: Place, options: Options) -> Result<(Arc<Engine>, Keeper)> {
    let started = Instant::now();
    let settings = create::settings(&place, &options);
    let path = place.name();
    create::create_if_wanted(path, &settings, options.create)?;
    let io = Io::open(path, &settings).map_err(|cause| create::open_error(path, cause))?;
    let opened = open_file(io.clone(), &settings, options, started).await;
    if opened.is_err() {
        io.close().await;
    }
    opened
}

async fn open_file(
    io: Io,
    settings: &Settings,
    options: Options,
    started: Instant,
) -> Result<(Arc<Engine>, Keeper)> {
    let found = find(&io).await?;
    if found.superblock.incarnation == Incarnation(0) {
        // Whoever created it may have been killed before its name was durable.
        let named = Io::sync_name(io.path(), settings);
        named.map_err(|cause| create::open_error(io.path(), cause))?;
    }
    let replayed = replay::replay(&io, &found, &options.shares()).await?;
    fresh::begin(io, options, found, replayed, started).await
}

async fn find(io: &Io) -> Result<Found> {
    let superblock = newest_superblock(io).await?;
    let file_pages = io.len_bytes() / PAGE_BYTES as u64;
    if file_pages < superblock.file_pages {
        let detail = format!("{file_pages} pages, {} expected", superblock.file_pages);
        return Err(corrupt(io, "the file is truncated", &detail));
    }
    let file_id = &superblock.file_id;
    let bytes = read_blob(io, &superblock.catalog).await?;
    let catalog = catalog::decode(&bytes, &superblock.catalog, file_id);
    let catalog = catalog.map_err(|defect| broken_blob(io, &superblock.catalog, defect))?;
    if catalog.last().is_some_and(|last| last.id >= superblock.next_family) {
        let detail = format!("it would be family {}", superblock.next_family.0);
        return Err(corrupt(io, "the next column family would have the id of another", &detail));
    }
    let bytes = read_blob(io, &superblock.free_map).await?;
    let extents = free_map::decode(&bytes, &superblock.free_map, file_id, superblock.file_pages);
    let extents = extents.map_err(|defect| broken_blob(io, &superblock.free_map, defect))?;
    let unnamed = FreeSpace::from_extents(superblock.file_pages, extents);
    let mut unnamed = unnamed.map_err(|defect| broken_blob(io, &superblock.free_map, defect))?;
    if file_pages > superblock.file_pages {
        unnamed.grow(superblock.file_pages, file_pages);
    }
    Ok(Found { superblock, catalog, unnamed, file_pages })
}

async fn newest_superblock(io: &Io) -> Result<Superblock> {
    let mut copies: [Vec<u8>; 4] = Default::default();
    let mut unread: [Option<std::io::Error>; 4] = Default::default();
    for (index, offset) in COPY_OFFSETS.into_iter().enumerate() {
        if offset + SUPERBLOCK_BYTES as u64 > io.len_bytes() {
            continue;
        }
        match io.read(offset, Buf::zeroed(SUPERBLOCK_BYTES)).await {
            (Ok(()), buf) => copies[index] = buf.to_vec(),
            (Err(cause), _) => unread[index] = Some(cause),
        }
    }
    let [a0, a1, b0, b1] = &copies;
    let chosen = copies::choose([a0, a1, b0, b1]);
    // What could not be read may be the newest, unless the same slot of the other place was read.
    let intact = |index: usize| match &chosen {
        Ok((_, health)) => !matches!(health.copies[index], CopyState::Empty | CopyState::Bad(_)),
        Err(_) => false,
    };
    for (index, cause) in unread.into_iter().enumerate() {
        if let Some(cause) = cause.filter(|_| !intact(index ^ 2)) {
            return Err(io_error(io, "reading the superblock failed", cause));
        }
    }
    let (superblock, health) = chosen.map_err(|refused| refusal(io, refused))?;
    if !health.is_whole() {
        complete(io, &superblock).await?;
    }
    Ok(superblock)
}

/// A crash between the two copies leaves one; the other is written before anything builds on it.
async fn complete(io: &Io, superblock: &Superblock) -> Result<()> {
    let bytes = superblock.encode();
    for offset in superblock::offsets(superblock.generation) {
        let mut buf = Buf::zeroed(SUPERBLOCK_BYTES);
        buf.copy_from_slice(&bytes);
        let (result, _) = io.write_durable(offset, buf, SUPERBLOCK_BYTES).await;
        result.map_err(|cause| io_error(io, "writing the superblock failed", cause))?;
    }
    Ok(())
}

async fn read_blob(io: &Io, blob: &BlobRef) -> Result<Buf> {
    read(io, blob.extent.start.byte_offset(), blob.extent.len_bytes() as usize).await
}

/// Reads whole blocks.
async fn read(io: &Io, offset: u64, len: usize) -> Result<Buf> {
    assert!(len.is_multiple_of(BLOCK_BYTES), "reads are whole blocks");
    let is_inside = offset.checked_add(len as u64).is_some_and(|end| end <= io.len_bytes());
    if !is_inside || len > TRANSFER_BYTES_MAX {
        let detail = format!("offset {offset}, {len} bytes");
        return Err(corrupt(io, "something lies outside of the file", &detail));
    }
    let (result, buf) = io.read(offset, Buf::zeroed(len)).await;
    result.map_err(|cause| io_error(io, &format!("reading at offset {offset} failed"), cause))?;
    Ok(buf)
}

fn refusal(io: &Io, refused: Refused) -> Error {
    let path = io.path().display();
    match refused {
        Refused::NotOurs => {
            let error = Error::new(ErrorKind::Corrupt, "the file is not a ringdb database");
            error.with_detail(path.to_string())
        }
        Refused::Version(version) => {
            let message = format!(
                "the file has format version {version}, this build reads {}",
                superblock::VERSION
            );
            Error::new(ErrorKind::Version, message).with_detail(path.to_string())
        }
        Refused::Defect(defect) => corrupt(io, "no superblock is whole", &defect.to_string()),
    }
}

fn broken_blob(io: &Io, blob: &BlobRef, defect: Defect) -> Error {
    let place = blob.extent.start.byte_offset();
    corrupt(io, "the catalog or the free map is damaged", &format!("offset {place}: {defect}"))
}

fn corrupt(io: &Io, message: &'static str, detail: &str) -> Error {
    let error = Error::new(ErrorKind::Corrupt, message);
    error.with_detail(format!("{}: {detail}", io.path().display()))
}

fn io_error(io: &Io, what: &str, cause: std::io::Error) -> Error {
    let error = Error::new(ErrorKind::Io, "the file could not be read or written");
    error.with_detail(format!("{}: {what}", io.path().display())).with_source(cause)
}
