//! A new file: no file, or a valid empty one; never half of one.

use std::path::Path;

use ringdb_uring::{BackendChoice, Claim, Coalesce, Io, OpenError, Settings};

use crate::alloc::free_space::FreeSpace;
use crate::error::{Error, ErrorKind, Result};
use crate::format::blob::BlobRef;
use crate::format::checksum::FileId;
use crate::format::superblock::{self, Closed, FIRST_GENERATION, Superblock};
use crate::format::{catalog, free_map};
use crate::ids::{Extent, FamilyId, Incarnation, PAGE_BYTES, PageId, Seq};
use crate::options::{Backend, Create, DirectIo, Grouping, Options, Place};

/// Pages of a new file: both places of the superblock, and room for the first log segments.
const NEW_FILE_PAGES: u64 = 130;
const CATALOG_PAGE: PageId = PageId(1);
const FREE_MAP_PAGE: PageId = PageId(2);

/// How the I/O crate is to open the file.
pub(crate) fn settings(place: &Place, options: &Options) -> Settings {
    let backend = match (place, options.backend) {
        (Place::Disk(disk, _), _) => BackendChoice::Sim(disk.clone()),
        (Place::Path(_), Backend::Auto) => BackendChoice::Auto,
        (Place::Path(_), Backend::Uring) => BackendChoice::Uring,
        (Place::Path(_), Backend::Pwrite) => BackendChoice::Pwrite,
    };
    let direct = match options.direct_io {
        DirectIo::Auto => ringdb_uring::DirectIo::Auto,
        DirectIo::Off => ringdb_uring::DirectIo::Off,
    };
    let coalesce = match options.grouping {
        Grouping::Shared => Coalesce::On,
        Grouping::PerCommit => Coalesce::Off,
    };
    Settings {
        backend,
        direct,
        queue_depth: options.queue_depth,
        coalesce,
        claim: Claim::Tentative,
    }
}

pub(super) fn create_if_wanted(path: &Path, settings: &Settings, create: Create) -> Result<()> {
    if create == Create::Never || (create == Create::IfMissing && Io::exists(path, settings)) {
        return Ok(());
    }
    let (superblock, catalog, free_map) = empty_database();
    let block = superblock.encode();
    let [first, second] = superblock::offsets(superblock.generation);
    let contents: [(u64, &[u8]); 4] = [
        (first, &block),
        (second, &block),
        (CATALOG_PAGE.byte_offset(), &catalog),
        (FREE_MAP_PAGE.byte_offset(), &free_map),
    ];
    let len_bytes = NEW_FILE_PAGES * PAGE_BYTES as u64;
    match Io::create(path, settings, len_bytes, &contents) {
        Ok(()) => Ok(()),
        // Another opener was faster; that is as good.
        Err(error)
            if create == Create::IfMissing && error.kind() == std::io::ErrorKind::AlreadyExists =>
        {
            Ok(())
        }
        Err(error) => Err(open_error(path, error)),
    }
}

fn empty_database() -> (Superblock, Vec<u8>, Vec<u8>) {
    let file_id = new_file_id();
    let one_page = |page| Extent { start: page, pages: 1 };
    let catalog = padded(catalog::encode(&[]));
    let catalog_ref = BlobRef::of(&catalog::encode(&[]), one_page(CATALOG_PAGE), &file_id);
    let mut free = FreeSpace::new(0);
    free.grow(0, NEW_FILE_PAGES);
    for page in [CATALOG_PAGE, FREE_MAP_PAGE] {
        free.take(one_page(page)).expect("a new file is free");
    }
    let map = free_map::encode(free.extents());
    let free_map_ref = BlobRef::of(&map, one_page(FREE_MAP_PAGE), &file_id);
    let superblock = Superblock {
        file_id,
        generation: FIRST_GENERATION,
        incarnation: Incarnation(0),
        checkpoint_seq: Seq(0),
        seq_next_min: Seq(1),
        next_family: FamilyId(0),
        next_segment: 1,
        file_pages: NEW_FILE_PAGES,
        catalog: catalog_ref,
        free_map: free_map_ref,
        chapters: Vec::new(),
        closed: Closed::Cleanly,
    };
    (superblock, catalog, padded(map))
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
    bytes
}

/// Salts every checksum of the file, so that a block of another file is never taken for one of
/// this. Unique, not secret.
pub(crate) fn new_file_id() -> FileId {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let half = || RandomState::new().build_hasher().finish().to_le_bytes();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&half());
    id[8..].copy_from_slice(&half());
    id
}

pub(crate) fn open_error(path: &Path, cause: OpenError) -> Error {
    use std::io::ErrorKind as Os;
    let (kind, message) = match cause.kind() {
        _ if cause.is_locked() => (ErrorKind::Locked, "the database is open elsewhere"),
        Os::NotFound => (ErrorKind::NotFound, "the file or its directory does not exist"),
        Os::AlreadyExists => (ErrorKind::AlreadyExists, "the file exists already"),
        Os::StorageFull | Os::QuotaExceeded | Os::FileTooLarge => {
            (ErrorKind::NoSpace, "there is no space for the file")
        }
        Os::PermissionDenied => (ErrorKind::Io, "the file may not be read and written"),
        Os::ReadOnlyFilesystem => (ErrorKind::Io, "the file system is read-only"),
        Os::Unsupported => (ErrorKind::Unsupported, "the platform cannot open the file so"),
        _ => (ErrorKind::Io, "the file could not be opened"),
    };
    Error::new(kind, message).with_detail(path.display().to_string()).with_source(cause)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use ringdb_uring::sim::Disk;

    use super::*;
    use crate::blocking::block_on;
    use crate::db::Db;

    /// Runs of free pages of a disk in pieces, and where they begin: behind the second superblock.
    const FREE_RUNS: u64 = 40;
    const FREE_PAGES_FROM: u64 = 80;

    /// A database whose free pages all lie from `first` on, as if the rest were in use, in a file
    /// with holes.
    fn create_vast(path: &Path, first: PageId) -> std::io::Result<()> {
        let (mut superblock, catalog, _) = empty_database();
        let free = Extent { start: first, pages: 4096 };
        let map = free_map::encode([free]);
        superblock.free_map = BlobRef::of(&map, superblock.free_map.extent, &superblock.file_id);
        superblock.file_pages = free.end().0;
        let file = File::options().create_new(true).read(true).write(true).open(path)?;
        file.set_len(free.end().byte_offset())?;
        for offset in superblock::offsets(superblock.generation) {
            file.write_all_at(&superblock.encode(), offset)?;
        }
        file.write_all_at(&catalog, CATALOG_PAGE.byte_offset())?;
        file.write_all_at(&padded(map), FREE_MAP_PAGE.byte_offset())
    }

    fn value(n: u32) -> Vec<u8> {
        vec![n as u8; if n.is_multiple_of(100) { 200_000 } else { 2000 }]
    }

    fn works_at(first: PageId) {
        // Not every file system takes such a file; where there is a tmpfs, it does.
        let memory = Path::new("/dev/shm");
        let directory = match memory.exists() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let directory = directory.expect("a temporary directory can be made");
        let path = directory.path().join("vast.ring");
        if let Err(error) = create_vast(&path, first) {
            eprintln!("{} bytes: skipped: {error}", first.byte_offset());
            return;
        }
        block_on(async {
            for round in 0..2 {
                let db = Db::open(&path).await.unwrap();
                let rows = db.column_family("rows").await.unwrap();
                for n in 0..400u32 {
                    if round == 0 {
                        rows.put(n.to_be_bytes(), value(n)).await.unwrap();
                    }
                    assert_eq!(*rows.get(n.to_be_bytes()).await.unwrap().unwrap(), value(n));
                }
                db.checkpoint().await.unwrap();
                let report = db.check().await.unwrap();
                let lost = |what: &str| what.starts_with("a page is lost before");
                assert!(report.defects.iter().all(|defect| lost(&defect.what)), "{report:?}");
                assert!(report.rows == 400 && report.pages > 0);
                db.close().await.unwrap();
            }
        });
        let written = |page: u64| {
            let mut bytes = vec![0; PAGE_BYTES];
            let file = File::open(&path).unwrap();
            file.read_exact_at(&mut bytes, PageId(first.0 + page).byte_offset()).unwrap();
            bytes.iter().any(|byte| *byte != 0)
        };
        assert!((0..4096).filter(|page| written(*page)).count() > 200, "it lies where it should");
    }

    #[test]
    fn pages_beyond_4_gib_are_written_and_read() {
        works_at(PageId((5 << 30) / PAGE_BYTES as u64));
    }

    #[test]
    fn pages_beyond_16_tib_are_written_and_read() {
        works_at(PageId((17 << 40) / PAGE_BYTES as u64));
    }

    /// A disk with an empty database whose free pages lie in runs of so many, and room for nothing more.
    fn full_in_pieces(run_pages: u32) -> Disk {
        let (mut superblock, catalog, _) = empty_database();
        let first = FREE_PAGES_FROM;
        let run =
            |n| Extent { start: PageId(first + n * (u64::from(run_pages) + 1)), pages: run_pages };
        let free: Vec<_> = (0..FREE_RUNS).map(run).collect();
        let map = free_map::encode(free.iter().copied());
        superblock.free_map = BlobRef::of(&map, superblock.free_map.extent, &superblock.file_id);
        superblock.file_pages = run(FREE_RUNS).start.0;
        let mut file = vec![0; superblock.file_pages as usize * PAGE_BYTES];
        let mut write = |offset: u64, bytes: &[u8]| {
            file[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        };
        for offset in superblock::offsets(superblock.generation) {
            write(offset, &superblock.encode());
        }
        write(CATALOG_PAGE.byte_offset(), &catalog);
        write(FREE_MAP_PAGE.byte_offset(), &padded(map));
        let disk = Disk::new();
        disk.set_contents(Path::new("ringdb"), &file);
        disk.faults().set_capacity(Some(file.len() as u64));
        disk
    }

    #[test]
    fn a_full_disk_in_pieces_is_opened_with_short_segments() {
        for run_pages in [16, 8, 4, 2] {
            block_on(async {
                let disk = full_in_pieces(run_pages);
                let open = || Options::new().memory_bytes(4 << 20).open_sim(&disk);
                for round in 0..2u8 {
                    let db = open().await.unwrap_or_else(|error| panic!("{run_pages}: {error}"));
                    let rows = db.column_family("rows").await.unwrap();
                    // They stop at a reserve in runs of eight pages; deletes do not.
                    let put = rows.put([round], "row").await;
                    assert_eq!(put.is_ok(), run_pages >= 8, "{run_pages}: {put:?}");
                    rows.delete([round]).await.unwrap();
                    db.close().await.unwrap();
                }
            });
        }
    }
}
