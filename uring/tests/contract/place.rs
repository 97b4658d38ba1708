//! Where the tests run: a backend, its settings and a path.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use ringdb_uring::sim::Disk;
use ringdb_uring::{BLOCK_BYTES, BackendChoice, Buf, DirectIo, Io, Settings};

/// A run that takes longer than this hangs.
const HANG: Duration = Duration::from_secs(120);

/// Blocks of the file that [`Place::fresh`] makes.
pub const BLOCKS: usize = 256;

/// A backend, its settings and a path.
pub struct Place {
    pub name: &'static str,
    pub settings: Settings,
    pub path: PathBuf,
    pub disk: Option<Disk>,
    _directory: tempfile::TempDir,
}

/// The kinds of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Uring,
    Pwrite,
    Sim,
}

impl Place {
    fn new(kind: Kind, direct: DirectIo) -> Option<Place> {
        let directory = tempfile::tempdir().unwrap();
        let disk = (kind == Kind::Sim).then(Disk::traced);
        let (name, backend) = match (kind, &disk) {
            (Kind::Uring, _) => ("uring", BackendChoice::Uring),
            (Kind::Pwrite, _) => ("pwrite", BackendChoice::Pwrite),
            (Kind::Sim, disk) => ("sim", BackendChoice::Sim(disk.clone().unwrap())),
        };
        let settings = Settings { backend, direct, ..Settings::default() };
        let path = directory.path().join("a.ring");
        let place = Place { name, settings, path, disk, _directory: directory };
        (kind != Kind::Uring || place.has_ring()).then_some(place)
    }

    fn has_ring(&self) -> bool {
        Io::create(&self.path, &self.settings, BLOCK_BYTES as u64, &[]).unwrap();
        let opened = Io::open(&self.path, &self.settings);
        let refused = opened.as_ref().err().map(|error| error.to_string());
        drop(opened.map(|io| futures::executor::block_on(io.close())));
        std::fs::remove_file(&self.path).unwrap();
        if let Some(refused) = &refused {
            println!("skipped: io_uring is refused here: {refused}");
        }
        refused.is_none()
    }

    /// A new file of [`BLOCKS`] zero blocks.
    pub fn fresh(&self) -> Io {
        self.create();
        self.open()
    }

    pub fn create(&self) {
        let len_bytes = (BLOCKS * BLOCK_BYTES) as u64;
        Io::create(&self.path, &self.settings, len_bytes, &[]).unwrap();
    }

    pub fn open(&self) -> Io {
        Io::open(&self.path, &self.settings).unwrap()
    }

    /// The same place with another depth.
    pub fn with_depth(mut self, depth: u32) -> Place {
        self.settings.queue_depth = depth;
        self
    }

    /// The file's bytes, as somebody else sees them.
    pub fn contents(&self) -> Vec<u8> {
        match &self.disk {
            Some(disk) => disk.contents(&self.path).unwrap(),
            None => std::fs::read(&self.path).unwrap(),
        }
    }
}

/// Runs the check in every place, and fails if it hangs.
pub fn everywhere(check: fn(Place)) {
    for kind in [Kind::Uring, Kind::Pwrite, Kind::Sim] {
        for direct in [DirectIo::Auto, DirectIo::Off] {
            if let Some(place) = Place::new(kind, direct) {
                println!("in {} with {direct:?}", place.name);
                within(move || check(place));
            }
        }
    }
}

/// Runs the check on the simulated disk only.
pub fn simulated(check: fn(Place, Disk)) {
    let place = Place::new(Kind::Sim, DirectIo::Auto).unwrap();
    let disk = place.disk.clone().unwrap();
    within(move || check(place, disk));
}

/// Runs the check on real files only.
pub fn on_files(check: fn(Place)) {
    for kind in [Kind::Uring, Kind::Pwrite] {
        if let Some(place) = Place::new(kind, DirectIo::Auto) {
            println!("in {}", place.name);
            within(move || check(place));
        }
    }
}

/// Runs a check on a thread of its own and fails if it does not end.
pub fn within(check: impl FnOnce() + Send + 'static) {
    let (ended, end) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        check();
        let _ = ended.send(());
    });
    match end.recv_timeout(HANG) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Byte offset of a block.
pub fn at(block: usize) -> u64 {
    (block * BLOCK_BYTES) as u64
}

/// Blocks full of one byte.
pub fn full(blocks: usize, byte: u8) -> Buf {
    let mut buf = Buf::zeroed(blocks * BLOCK_BYTES);
    buf.fill(byte);
    buf
}

/// The first byte of each block, if the whole block has it.
pub fn bytes_of_blocks(contents: &[u8]) -> Vec<Option<u8>> {
    let same = |block: &[u8]| block.iter().all(|byte| *byte == block[0]).then_some(block[0]);
    contents.chunks(BLOCK_BYTES).map(same).collect()
}
