//! The rounds through tokio-uring's own file operations, on its own runtime.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use futures::future::join_all;
use ringdb_uring::{BLOCK_BYTES, Buf};
use tokio_uring::buf::{IoBuf, IoBufMut};
use tokio_uring::fs::File;

use super::{
    Group, LOG_WRITES, PAGE_BYTES, PAGE_READS, PAGE_WRITES, Round, log_offset, read_offset,
    write_offset,
};

/// An aligned buffer, as direct I/O asks for.
struct Aligned(Buf);

// SAFETY: a Buf's memory stays where it is until it is dropped, all of it initialised.
unsafe impl IoBuf for Aligned {
    fn stable_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.0.len()
    }

    fn bytes_total(&self) -> usize {
        self.0.len()
    }
}

// SAFETY: as above; a Buf is always initialised whole.
unsafe impl IoBufMut for Aligned {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    unsafe fn set_init(&mut self, _pos: usize) {}
}

struct Theirs {
    log: File,
    pages: File,
    logged: Cell<u64>,
    rounds: Cell<u64>,
}

/// Measures this round, or says why not.
pub(crate) fn measure(group: &mut Group<'_>, path: &Path, round: Round) {
    let open = |flags: i32| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(flags).open(path).map(File::from_std)
    };
    let runtime = match tokio_uring::Runtime::new(tokio_uring::builder().entries(256)) {
        Ok(runtime) => runtime,
        Err(error) => return println!("tokio-uring is skipped: {error}"),
    };
    let files = (open(libc::O_DIRECT | libc::O_DSYNC), open(libc::O_DIRECT));
    let (Ok(log), Ok(pages)) = files else {
        return println!("tokio-uring is skipped: no direct I/O here");
    };
    let theirs = Theirs { log, pages, logged: Cell::new(0), rounds: Cell::new(0) };
    group.bench_function("tokio-uring", |bencher| {
        bencher.iter(|| runtime.block_on(theirs.round(round)));
    });
}

impl Theirs {
    async fn round(&self, round: Round) {
        self.rounds.set(self.rounds.get() + 1);
        futures::join!(self.write_log(round), self.write_pages(round), self.read(round));
    }

    async fn write_log(&self, round: Round) {
        let mut buf = Aligned(Buf::zeroed(BLOCK_BYTES));
        for _ in 0..if round.writes_log() { LOG_WRITES } else { 0 } {
            let number = self.logged.replace(self.logged.get() + 1);
            let (written, back) = self.log.write_at(buf, log_offset(number)).submit().await;
            assert_eq!(written.expect("the disk works"), BLOCK_BYTES);
            buf = back;
        }
    }

    async fn write_pages(&self, round: Round) {
        if !round.writes_pages() {
            return;
        }
        let write = |index| {
            let page = Aligned(Buf::zeroed(PAGE_BYTES));
            self.pages.write_at(page, write_offset(self.rounds.get(), index)).submit()
        };
        for (written, _) in join_all((0..PAGE_WRITES).map(write)).await {
            assert_eq!(written.expect("the disk works"), PAGE_BYTES);
        }
        self.pages.sync_data().await.expect("the disk works");
    }

    async fn read(&self, round: Round) {
        if !round.reads_pages() {
            return;
        }
        let read = |index| {
            let page = Aligned(Buf::zeroed(PAGE_BYTES));
            self.pages.read_at(page, read_offset(self.rounds.get(), index))
        };
        for (read, _) in join_all((0..PAGE_READS).map(read)).await {
            assert_eq!(read.expect("the disk works"), PAGE_BYTES);
        }
    }
}
