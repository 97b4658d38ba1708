//! What this disk does without an engine: durable writes in a loop, and random reads past the page
//! cache.
//!
//! Nothing may flatter an engine here, so the bare loop is the fastest of all ways to make a write
//! durable on a file whose blocks are already written. Reads 64 at a time come from 64 threads: on
//! the disks tried, that is as fast as a ring of depth 64, because the device is the limit. What
//! tasks get is measured in `task_reads`.

mod task_reads;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use serde::{Deserialize, Serialize};

use super::key::mix;

const FILE_NAME: &str = "bare";
/// Bytes of the file whose blocks are written before anything is measured.
pub const FILE_BYTES: u64 = 64 << 20;
/// Unit of direct I/O: offsets, lengths and addresses are multiples of it.
pub const BLOCK_BYTES: usize = 4096;
const CHUNK_BYTES: usize = 1 << 20;
/// Reads in flight at most.
pub const DEPTH: usize = 64;
/// Time for each method of each size in each round when all are compared: in turns, because a disk
/// has its moods.
const TRIAL: Duration = Duration::from_millis(40);
const ROUNDS: u32 = 4;
const READ_TIME: Duration = Duration::from_millis(250);
/// Time of a slice beside those of a case.
const BESIDE: Duration = Duration::from_millis(50);

/// A way to make a write durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// `O_DIRECT`, and the write itself is durable (`RWF_DSYNC`).
    DirectDsync,
    /// `O_DIRECT`, then `fdatasync`.
    DirectSync,
    /// Through the page cache, and the write itself is durable.
    BufferedDsync,
    /// Through the page cache, then `fdatasync` (`F_FULLFSYNC` on macOS).
    BufferedSync,
}

const METHODS: [Method; 4] =
    [Method::DirectDsync, Method::DirectSync, Method::BufferedDsync, Method::BufferedSync];

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::DirectDsync => "O_DIRECT + RWF_DSYNC",
            Method::DirectSync => "O_DIRECT + fdatasync",
            Method::BufferedDsync => "buffered + RWF_DSYNC",
            Method::BufferedSync => "buffered + fdatasync",
        })
    }
}

/// Durable writes a second, by method.
#[derive(Clone, Debug)]
pub struct DurableWrites {
    /// Bytes of a write.
    pub bytes: usize,
    /// The fastest method.
    pub method: Method,
    /// Its writes a second.
    pub per_s: f64,
    /// The other methods that this file system knows.
    pub others: Vec<(Method, f64)>,
}

/// Random reads a second.
#[derive(Clone, Copy, Debug)]
pub struct RandomReads {
    /// One at a time.
    pub depth_1_per_s: f64,
    /// 64 at a time.
    pub depth_64_per_s: f64,
    /// Whether they went past the page cache.
    pub direct: bool,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Rates {
    /// 4 KiB.
    pub small: DurableWrites,
    /// 64 KiB.
    pub large: DurableWrites,
    /// 4 KiB.
    pub reads: RandomReads,
}

/// A file to measure on; whoever created it removes it when dropped.
pub struct Bare {
    path: PathBuf,
    is_creator: bool,
    buffered: File,
    direct: Option<File>,
    next: AtomicU64,
    /// Bytes at the front of the file that are read.
    read_bytes: AtomicU64,
}

impl Drop for Bare {
    fn drop(&mut self) {
        // The directory goes next and takes it along if this does not.
        if self.is_creator {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

impl Bare {
    /// Writes the file in full, so that no write that is measured allocates.
    pub fn create(directory: &Path) -> io::Result<Bare> {
        let path = directory.join(FILE_NAME);
        let buffered = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        fill(&buffered, 0..FILE_BYTES)?;
        let mut bare = Bare::open(directory)?;
        bare.is_creator = true;
        Ok(bare)
    }

    /// Opens the file that another process created in this directory, and takes its turns with it.
    pub fn open(directory: &Path) -> io::Result<Bare> {
        let path = directory.join(FILE_NAME);
        let buffered = OpenOptions::new().read(true).write(true).open(&path)?;
        let direct = open_direct(&path).ok();
        let (next, read_bytes) = (AtomicU64::new(0), AtomicU64::new(FILE_BYTES));
        Ok(Bare { path, is_creator: false, buffered, direct, next, read_bytes })
    }

    /// Has reads go to so many bytes from now on, in whole MiB: as many as the table has that they are compared with. A disk
    /// may keep a short file near.
    pub fn read_as_much_as(&self, bytes: u64) -> io::Result<()> {
        let bytes = bytes.next_multiple_of(CHUNK_BYTES as u64);
        fill(&self.buffered, self.read_bytes.load(Ordering::Relaxed)..bytes)?;
        self.read_bytes.fetch_max(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Measures everything.
    pub fn rates(&self) -> io::Result<Rates> {
        Ok(Rates {
            small: self.writes(4 << 10)?,
            large: self.writes(64 << 10)?,
            reads: self.reads()?,
        })
    }

    /// The fastest way to make 4 KiB durable here.
    pub fn fastest(&self) -> io::Result<Method> {
        Ok(self.writes(4 << 10)?.method)
    }

    fn writes(&self, bytes: usize) -> io::Result<DurableWrites> {
        let mut rates: Vec<(Method, f64)> = METHODS.map(|method| (method, 0.0)).to_vec();
        for _ in 0..ROUNDS {
            for (method, per_s) in &mut rates {
                // A method that the kernel or the file system does not know does nothing.
                let trial = self.write_loop(*method, bytes, TRIAL).map_or(0.0, rate);
                *per_s += trial / f64::from(ROUNDS);
            }
        }
        rates.retain(|(_, per_s)| *per_s > 0.0);
        rates.sort_by(|a, b| b.1.total_cmp(&a.1));
        match rates.split_first() {
            Some(((method, per_s), others)) => {
                Ok(DurableWrites { bytes, method: *method, per_s: *per_s, others: others.to_vec() })
            }
            None => Err(io::Error::other("no durable write succeeded")),
        }
    }

    /// The 4 KiB loop again, in a slice beside those of a case; writes a second.
    pub fn writes_beside(&self, method: Method) -> io::Result<f64> {
        self.writes_for(method, BESIDE).map(rate)
    }

    /// Reads of so many bytes, 64 at a time, in a slice beside those of a case; reads a second.
    pub fn reads_beside(&self, bytes: usize) -> io::Result<f64> {
        self.read_threads(DEPTH, bytes, BESIDE)
    }

    fn write_loop(&self, method: Method, bytes: usize, time: Duration) -> io::Result<(u64, f64)> {
        let buffer = Aligned::new(bytes);
        let start = Instant::now();
        let mut writes = 0;
        while start.elapsed() < time {
            self.write_next(method, &buffer)?;
            writes += 1;
        }
        Ok((writes, start.elapsed().as_secs_f64()))
    }

    /// The 4 KiB loop on this thread for so long; writes, and seconds.
    pub fn writes_for(&self, method: Method, time: Duration) -> io::Result<(u64, f64)> {
        self.write_loop(method, 4 << 10, time)
    }

    /// A thread that makes 4 KiB writes for a task, since a task must not wait for a disk.
    pub fn writer(self: &Arc<Bare>, method: Method) -> Writer {
        let (wanted, writes) = mpsc::channel::<oneshot::Sender<io::Result<()>>>();
        let bare = self.clone();
        std::thread::spawn(move || {
            let buffer = Aligned::new(4 << 10);
            for done in writes {
                // A task that went away waits for nothing.
                drop(done.send(bare.write_next(method, &buffer)));
            }
        });
        Writer { wanted }
    }

    /// Writes to where the write before ended.
    fn write_next(&self, method: Method, buffer: &Aligned) -> io::Result<()> {
        let len_bytes = buffer.len as u64;
        let offset = self.next.fetch_add(len_bytes, Ordering::Relaxed);
        let offset = offset.next_multiple_of(len_bytes) % FILE_BYTES;
        self.write_durable(method, buffer.bytes(), offset)
    }

    /// Makes whole blocks durable, at most [`FILE_BYTES`] of them; direct methods want them from [`Aligned`] memory.
    pub fn write_durable(&self, method: Method, bytes: &[u8], offset: u64) -> io::Result<()> {
        let direct = || self.direct.as_ref().ok_or(io::ErrorKind::Unsupported);
        match method {
            Method::DirectDsync => write_dsync(direct()?, bytes, offset),
            Method::BufferedDsync => write_dsync(&self.buffered, bytes, offset),
            Method::DirectSync => {
                direct()?.write_all_at(bytes, offset)?;
                direct()?.sync_data()
            }
            Method::BufferedSync => {
                self.buffered.write_all_at(bytes, offset)?;
                self.buffered.sync_data()
            }
        }
    }

    fn reads(&self) -> io::Result<RandomReads> {
        Ok(RandomReads {
            depth_1_per_s: self.read_threads(1, BLOCK_BYTES, READ_TIME)?,
            depth_64_per_s: self.read_threads(DEPTH, BLOCK_BYTES, READ_TIME)?,
            direct: self.direct.is_some(),
        })
    }

    fn read_threads(&self, depth: usize, bytes: usize, time: Duration) -> io::Result<f64> {
        let file = self.direct.as_ref().unwrap_or(&self.buffered);
        let start = Instant::now();
        let until = start + time;
        let file_bytes = self.read_bytes.load(Ordering::Relaxed);
        let read = |seed| {
            let mut reader = Reader::new(bytes, seed, file_bytes);
            while Instant::now() < until {
                reader.read_next(file)?;
            }
            Ok::<u64, io::Error>(reader.reads)
        };
        let reads = std::thread::scope(|scope| {
            let start = |seed| scope.spawn(move || read(seed));
            let threads: Vec<_> = (0..depth as u64).map(start).collect();
            threads.into_iter().try_fold(0, |sum, thread| {
                let reads = thread.join().map_err(|_| io::Error::other("a reader panicked"))??;
                Ok::<u64, io::Error>(sum + reads)
            })
        })?;
        Ok(reads as f64 / start.elapsed().as_secs_f64())
    }
}

fn rate((writes, seconds): (u64, f64)) -> f64 {
    writes as f64 / seconds
}

/// Writes for a task, one by one. Its thread ends with it.
pub struct Writer {
    wanted: mpsc::Sender<oneshot::Sender<io::Result<()>>>,
}

impl Writer {
    /// The 4 KiB loop with a task that awaits each write; writes, and seconds. What this takes beyond the loop itself is the way
    /// to the thread and back.
    pub async fn writes_for(&self, time: Duration) -> io::Result<(u64, f64)> {
        let start = Instant::now();
        let mut writes = 0;
        while start.elapsed() < time {
            let (done, written) = oneshot::channel();
            self.wanted.send(done).map_err(io::Error::other)?;
            written.await.map_err(io::Error::other)??;
            writes += 1;
        }
        Ok((writes, start.elapsed().as_secs_f64()))
    }
}

/// Reads at random places of a file.
struct Reader {
    buffer: Aligned,
    places: Places,
    reads: u64,
}

impl Reader {
    fn new(bytes: usize, seed: u64, file_bytes: u64) -> Reader {
        let places = Places::new(bytes, seed, file_bytes);
        Reader { buffer: Aligned::new(bytes), places, reads: 0 }
    }

    fn read_next(&mut self, file: &File) -> io::Result<()> {
        file.read_exact_at(self.buffer.bytes_mut(), self.places.draw())?;
        self.reads += 1;
        Ok(())
    }
}

/// The places: multiples of so many bytes.
struct Places {
    len_bytes: u64,
    file_bytes: u64,
    random: u64,
}

impl Places {
    fn new(bytes: usize, seed: u64, file_bytes: u64) -> Places {
        Places { len_bytes: bytes as u64, file_bytes, random: mix(seed + 1) }
    }

    /// Byte offset of the next.
    fn draw(&mut self) -> u64 {
        self.random = mix(self.random.wrapping_add(1));
        self.random % (self.file_bytes / self.len_bytes) * self.len_bytes
    }
}

/// Writes zeros to whole pieces of a file, and syncs them.
fn fill(file: &File, bytes: Range<u64>) -> io::Result<()> {
    let zeros = vec![0; CHUNK_BYTES];
    for offset in bytes.step_by(CHUNK_BYTES) {
        file.write_all_at(&zeros, offset)?;
    }
    file.sync_all()
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    let file = OpenOptions::new().read(true).write(true).custom_flags(direct).open(path)?;
    // Some file systems accept the flag and refuse the I/O.
    file.read_exact_at(Aligned::new(BLOCK_BYTES).bytes_mut(), 0)?;
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn write_dsync(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use rustix::io::{ReadWriteFlags, pwritev2};
    let written = pwritev2(file, &[io::IoSlice::new(bytes)], offset, ReadWriteFlags::DSYNC)?;
    if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(not(target_os = "linux"))]
fn write_dsync(_file: &File, _bytes: &[u8], _offset: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Memory at an address that direct I/O takes.
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// So many bytes.
    pub fn new(len: usize) -> Aligned {
        let memory = vec![0x5a; len + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        Aligned { memory, start, len }
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    /// The same, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use ringdb_uring::{BackendChoice, Io, Settings};

    use super::*;

    #[test]
    fn memory_for_direct_io_is_aligned() {
        let mut buffer = Aligned::new(64 << 10);
        assert_eq!(buffer.bytes().len(), 64 << 10);
        assert!(buffer.bytes().as_ptr().addr().is_multiple_of(BLOCK_BYTES));
        buffer.bytes_mut()[0] = 1;
        assert_eq!(buffer.bytes()[0], 1);
    }

    #[test]
    fn awaited_writes_go_on_where_the_loop_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let created = Bare::create(directory.path()).unwrap();
        let bare = Arc::new(Bare::open(directory.path()).unwrap());
        let (method, time) = (Method::BufferedSync, Duration::from_millis(1));
        let (writes, _) = bare.writes_for(method, time).unwrap();
        let awaited = block_on(bare.writer(method).writes_for(time)).unwrap().0;
        assert!(writes > 0 && awaited > 0);
        assert_eq!(bare.next.load(Ordering::Relaxed), (writes + awaited) * 4096);
        drop(bare);
        assert!(directory.path().join(FILE_NAME).exists());
        drop(created);
        assert!(!directory.path().join(FILE_NAME).exists());
    }

    #[test]
    fn reads_by_threads_and_by_tasks_go_to_all_of_a_longer_file() {
        let directory = tempfile::tempdir().unwrap();
        let bare = Bare::create(directory.path()).unwrap();
        bare.read_as_much_as(FILE_BYTES + 1).unwrap();
        let len_bytes = FILE_BYTES + CHUNK_BYTES as u64;
        assert_eq!(bare.buffered.metadata().unwrap().len(), len_bytes);
        assert!(bare.reads_beside(BLOCK_BYTES).unwrap() > 0.0);
        assert!(bare.task_reads_beside(BLOCK_BYTES).unwrap() > 0.0);
        let mut places = Places::new(CHUNK_BYTES, 0, len_bytes);
        let last = (0..10_000).any(|_| places.draw() == FILE_BYTES);
        assert!(last, "the bytes that were added are read too");
    }

    #[test]
    fn a_ring_reads_for_tasks_wherever_one_can_be_set_up() {
        let directory = tempfile::tempdir().unwrap();
        let bare = Bare::create(directory.path()).unwrap();
        let named = Settings { backend: BackendChoice::Uring, ..Settings::default() };
        let has_ring = Io::open(&bare.path, &named).is_ok();
        for bytes in [BLOCK_BYTES, 2 * BLOCK_BYTES] {
            let per_s = bare.ring_reads_beside(bytes).unwrap();
            assert_eq!(per_s.is_some(), has_ring);
            assert!(per_s.is_none_or(|per_s| per_s > 0.0));
        }
        assert!(bare.reads_beside(BLOCK_BYTES).unwrap() > 0.0, "the others go on");
    }
}
