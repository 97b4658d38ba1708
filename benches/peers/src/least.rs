//! A log that is brought back into memory without an engine: its bytes are read past the page cache and checked, and its rows are
//! copied in another order, that of their keys, into memory that nobody has touched. There is no record to decode here, nothing is
//! sorted, and nothing finds a row afterwards. (Ours leaves rows where they were read, where the log has little else, and finds them.)

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use ringdb_cli::measure::bare::BLOCK_BYTES;
use ringdb_cli::measure::key::mix;

use crate::data::ROW_BYTES;

const SEGMENT_BYTES: usize = 4 << 20;
const ROWS_OF_SEGMENT: usize = SEGMENT_BYTES / ROW_BYTES as usize;
/// Segments that are read at once.
const READERS: usize = 3;
/// Threads that copy.
const COPIERS: usize = 2;

/// Bytes of a log of about so many that come back in a second.
pub fn recovery(directory: &Path, bytes: u64) -> io::Result<f64> {
    let path = directory.join("least");
    let segments = (bytes as usize).div_ceil(SEGMENT_BYTES);
    let log = Segment::fresh();
    let mut file = File::create_new(&path)?;
    (0..segments).try_for_each(|_| io::Write::write_all(&mut file, log.bytes()))?;
    file.sync_all()?;
    let recovered = recover(&open(&path)?, segments);
    std::fs::remove_file(&path)?;
    recovered
}

fn recover(file: &File, segments: usize) -> io::Result<f64> {
    let start = Instant::now();
    let read = read(file, segments)?;
    std::thread::scope(|scope| {
        for copier in 0..COPIERS {
            let read = &read;
            scope.spawn(move || copy(read, copier as u64));
        }
    });
    Ok((segments * SEGMENT_BYTES) as f64 / start.elapsed().as_secs_f64())
}

/// All segments, each checked while the next ones are read.
fn read(file: &File, segments: usize) -> io::Result<Vec<Segment>> {
    let next = AtomicUsize::new(0);
    let (done, is_read) = mpsc::sync_channel(READERS);
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
                for number in numbers.take_while(|number| *number < segments) {
                    let mut segment = Segment::fresh();
                    let offset = (number * SEGMENT_BYTES) as u64;
                    let read = file.read_exact_at(segment.bytes_mut(), offset);
                    // Whoever takes them stops at the first error.
                    if done.send(read.map(|()| segment)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let checked = |segment: Segment| {
            black_box(crc32c::crc32c(segment.bytes()));
            segment
        };
        is_read.into_iter().map(|segment| segment.map(checked)).collect()
    })
}

/// A share of the rows, side by side.
fn copy(segments: &[Segment], seed: u64) {
    let row_bytes = ROW_BYTES as usize;
    let rows = segments.len() * ROWS_OF_SEGMENT / COPIERS;
    let mut copied = vec![0; rows * row_bytes];
    let mut random = mix(seed + 1);
    for row in copied.chunks_exact_mut(row_bytes) {
        random = mix(random.wrapping_add(1));
        let number = random as usize % (segments.len() * ROWS_OF_SEGMENT);
        let at = number % ROWS_OF_SEGMENT * row_bytes;
        row.copy_from_slice(&segments[number / ROWS_OF_SEGMENT].bytes()[at..at + row_bytes]);
    }
    black_box(copied);
}

/// Memory of a segment, at an address that direct I/O takes.
struct Segment {
    memory: Vec<u8>,
    start: usize,
}

impl Segment {
    fn fresh() -> Segment {
        // Zeros that the kernel has ready, not written here.
        let memory = vec![0; SEGMENT_BYTES + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        Segment { memory, start }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + SEGMENT_BYTES]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + SEGMENT_BYTES]
    }
}

#[cfg(target_os = "linux")]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(direct).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}
