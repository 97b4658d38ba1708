//! Random reads that tasks of tokio get of the bare file: what a program gets that has no engine at all.
//!
//! A task must not wait for a disk, so another thread does. Either each read takes one of those that
//! `spawn_blocking` has, or one thread with a ring of its own makes all reads: the owner in the I/O
//! crate, which reads for the engine too.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::executor::block_on;
use futures::future::try_join_all;
use ringdb_uring::{BackendKind, DirectIo, Io, Settings};

use super::{BESIDE, Bare, DEPTH, Places, Reader};

impl Bare {
    /// Reads of so many bytes by 64 tasks, each read by `spawn_blocking`, in a slice beside those of a case; reads a second.
    pub fn task_reads_beside(&self, bytes: usize) -> io::Result<f64> {
        let file = Arc::new(self.direct.as_ref().unwrap_or(&self.buffered).try_clone()?);
        let file_bytes = self.read_bytes.load(Ordering::Relaxed);
        reads_of_tasks(|seed, until| {
            let file = file.clone();
            async move {
                let mut reader = Reader::new(bytes, seed, file_bytes);
                while Instant::now() < until {
                    let file = file.clone();
                    let read = move || reader.read_next(&file).map(|()| reader);
                    reader =
                        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
                }
                Ok(reader.reads)
            }
        })
    }

    /// The same, where one thread with a ring makes the reads of all tasks. None if no ring can be set up.
    pub fn ring_reads_beside(&self, bytes: usize) -> io::Result<Option<f64>> {
        let Some(ring) = self.open_with_ring()? else { return Ok(None) };
        let file_bytes = self.read_bytes.load(Ordering::Relaxed);
        let per_s = reads_of_tasks(|seed, until| {
            let ring = ring.clone();
            async move {
                let mut places = Places::new(bytes, seed, file_bytes);
                let (mut buffer, mut reads) = (ring.read_buf(bytes), 0);
                while Instant::now() < until {
                    let (read, given_back) = ring.read(places.draw(), buffer).await;
                    read?;
                    buffer = given_back;
                    reads += 1;
                }
                Ok(reads)
            }
        });
        // Its threads are gone when the next slice begins.
        block_on(ring.close());
        per_s.map(Some)
    }

    /// The file once more, for a ring, past the page cache if the other reads are. The lock that this takes is in nobody's way:
    /// those who have the bare file open ask for none.
    fn open_with_ring(&self) -> io::Result<Option<Io>> {
        let direct = if self.direct.is_some() { DirectIo::Auto } else { DirectIo::Off };
        let Ok(io) = Io::open(&self.path, &Settings { direct, ..Settings::default() }) else {
            return Ok(None);
        };
        let report = io.report();
        if report.backend == BackendKind::Uring && report.direct == self.direct.is_some() {
            return Ok(Some(io));
        }
        block_on(io.close());
        Ok(None)
    }
}

/// Starts 64 tasks, each with a seed of its own, that read until then and tell how often; reads a second.
fn reads_of_tasks<T>(task: impl Fn(u64, Instant) -> T) -> io::Result<f64>
where
    T: Future<Output = io::Result<u64>> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    let start = Instant::now();
    let tasks = (0..DEPTH as u64).map(|seed| runtime.spawn(task(seed, start + BESIDE)));
    let done = runtime.block_on(try_join_all(tasks)).map_err(io::Error::other)?;
    let reads = done.into_iter().sum::<io::Result<u64>>()?;
    Ok(reads as f64 / start.elapsed().as_secs_f64())
}
