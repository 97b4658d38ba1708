//! The rounds through this crate.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::future::join_all;
use parking_lot::Mutex;
use ringdb_uring::{BLOCK_BYTES, Buf, Feed, Io, Next, Pending, Stats};

use super::{
    LOG_WRITES, PAGE_BYTES, PAGE_READS, PAGE_WRITES, Round, log_offset, read_offset, write_offset,
};

/// How the log's writer waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// As a future: the background thread writes.
    Awaits,
    /// It drives and writes itself.
    Drives,
}

#[derive(Default)]
struct Counts {
    wanted: u64,
    begun: u64,
    done: u64,
    waker: Option<Waker>,
    spare: Option<Buf>,
}

/// A log that writes one block for each one wanted.
#[derive(Default)]
struct Log(Mutex<Counts>);

impl Feed for Log {
    fn next(&self, _now: Instant) -> Next {
        let mut counts = self.0.lock();
        if counts.begun == counts.wanted {
            return Next::Idle;
        }
        let offset = log_offset(counts.begun);
        counts.begun += 1;
        let buf = counts.spare.take().unwrap_or_else(|| Buf::zeroed(BLOCK_BYTES));
        Next::Write { offset, buf, len: BLOCK_BYTES }
    }

    fn pending(&self, _now: Instant) -> Pending {
        let counts = self.0.lock();
        if counts.begun == counts.wanted { Pending::Nothing } else { Pending::Write }
    }

    fn done(&self, result: io::Result<()>, buf: Buf, _took: Duration) {
        result.expect("the disk works");
        let mut counts = self.0.lock();
        counts.done += 1;
        counts.spare = Some(buf);
        let waker = counts.waker.take();
        drop(counts);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// An open file with a log.
pub(crate) struct Ours {
    io: Io,
    log: Arc<Log>,
    rounds: Cell<u64>,
}

impl Ours {
    pub(crate) fn new(io: Io) -> Ours {
        let log = Arc::new(Log::default());
        io.set_feed(log.clone());
        Ours { io, log, rounds: Cell::new(0) }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.io.stats()
    }

    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.get()
    }

    pub(crate) fn close(self) {
        block_on(self.io.close());
    }

    /// One round, all of its operations over.
    pub(crate) fn round(&self, round: Round, waits: Waits) {
        self.rounds.set(self.rounds.get() + 1);
        match waits {
            Waits::Drives => (0..LOG_WRITES).for_each(|_| self.drive_log()),
            Waits::Awaits => block_on(async {
                futures::join!(self.write_log(round), self.write_pages(round), self.read(round));
            }),
        }
    }

    fn want(&self) -> u64 {
        let mut counts = self.log.0.lock();
        counts.wanted += 1;
        counts.wanted
    }

    fn drive_log(&self) {
        let number = self.want();
        if !self.io.drive(&|| self.log.0.lock().done >= number) {
            self.io.kick();
            block_on(self.durable(number));
        }
    }

    fn durable(&self, number: u64) -> impl Future<Output = ()> {
        std::future::poll_fn(move |context| {
            let mut counts = self.log.0.lock();
            if counts.done >= number {
                return Poll::Ready(());
            }
            counts.waker = Some(context.waker().clone());
            Poll::Pending
        })
    }

    async fn write_log(&self, round: Round) {
        for _ in 0..if round.writes_log() { LOG_WRITES } else { 0 } {
            let number = self.want();
            self.io.kick();
            self.durable(number).await;
        }
    }

    async fn write_pages(&self, round: Round) {
        if !round.writes_pages() {
            return;
        }
        let write = |index| {
            let offset = write_offset(self.rounds.get(), index);
            self.io.write(offset, Buf::zeroed(PAGE_BYTES), PAGE_BYTES)
        };
        let writes: Vec<_> = (0..PAGE_WRITES).map(write).collect();
        for (written, _) in join_all(writes).await {
            written.expect("the disk works");
        }
        self.io.sync().await.expect("the disk works");
    }

    async fn read(&self, round: Round) {
        if !round.reads_pages() {
            return;
        }
        let read =
            |index| self.io.read(read_offset(self.rounds.get(), index), Buf::zeroed(PAGE_BYTES));
        let reads: Vec<_> = (0..PAGE_READS).map(read).collect();
        for (read, _) in join_all(reads).await {
            read.expect("the disk works");
        }
    }
}
