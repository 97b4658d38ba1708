//! The backend of blocking calls: `preadv`, `pwritev` and the platform's true sync.
//!
//! The holder of the role writes for the feed inline: a hop to another thread would cost more
//! than the call. Everything else goes to a small pool that takes it from the queue by itself, so
//! a read waits neither for a log write nor for the holder of the role.
//!
//! A simulated disk is driven by the same backend without a pool: there the caller that pushed
//! does the work at once.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::backend::Backend;
use crate::backend::perform::{complete, write_durably};
use crate::calls::Calls;
use crate::errors::copy;
use crate::feed::{FeedDone, FeedWrite};

use crate::queue::{Core, Limits};
use crate::shared::Shared;
use crate::threads::Mutex;
use crate::threads::thread::{self, JoinHandle};

/// Threads of the pool: reads overlap, and the rest keeps one or two of them busy.
pub(crate) const POOL_THREADS: usize = 8;

/// Shares of a pool: half of its threads always stay free for reads.
pub(crate) fn limits(depth: u32) -> Limits {
    let threads = POOL_THREADS.min(depth as usize).max(1);
    Limits { reads: threads, writes: (threads / 4).max(1), ..Limits::of_depth(depth) }
}

/// Whom the workers tell that the queue is idle; known only after the backend is built.
pub(crate) type Listener = Arc<Mutex<Weak<Shared>>>;

/// Blocking calls on a pool, and inline for the feed.
pub(crate) struct Blocking {
    file: Arc<dyn Calls>,
    feed_file: Arc<dyn Calls>,
    core: Arc<Core>,
    feed: Option<FeedWrite>,
    over: Option<FeedDone>,
    workers: Vec<JoinHandle<()>>,
}

impl Blocking {
    /// Without a pool: only the feed is served.
    pub(crate) fn new(
        file: Arc<dyn Calls>,
        feed_file: Arc<dyn Calls>,
        core: Arc<Core>,
    ) -> Blocking {
        Blocking { file, feed_file, core, feed: None, over: None, workers: Vec::new() }
    }

    /// Starts the pool.
    pub(crate) fn with_pool(mut self, listener: &Listener) -> io::Result<Blocking> {
        for number in 0..POOL_THREADS {
            let (file, core) = (self.file.clone(), self.core.clone());
            let listener = listener.clone();
            let worker = thread::Builder::new()
                .name(format!("ringdb-io-{number}"))
                .spawn(move || work(&*file, &core, &listener));
            match worker {
                Ok(worker) => self.workers.push(worker),
                Err(error) => {
                    Box::new(self).stop();
                    return Err(error);
                }
            }
        }
        Ok(self)
    }
}

fn work(file: &dyn Calls, core: &Core, listener: &Listener) {
    while let Some(work) = core.pop_wait() {
        // What its end makes ready this worker takes next, and wakes others for the rest.
        if complete(file, core, work)
            && let Some(shared) = listener.lock().upgrade()
        {
            shared.queue_is_idle();
        }
    }
}

impl Backend for Blocking {
    fn start_feed(&mut self, write: FeedWrite) {
        assert!(self.feed.is_none() && self.over.is_none(), "one write of the feed at a time");
        self.feed = Some(write);
    }

    fn pump(&mut self) {}

    fn is_deaf(&self) -> bool {
        true
    }

    fn in_flight(&self) -> usize {
        usize::from(self.feed.is_some() || self.over.is_some())
    }

    fn wait(&mut self, _timeout: Option<Duration>) -> io::Result<()> {
        let write = self.feed.take().expect("nothing else is waited for");
        let result = write_durably(&*self.feed_file, &self.core, &write);
        self.core.feed_landed(&write, &result);
        self.over = Some(write.over(result));
        Ok(())
    }

    fn feed_done(&mut self) -> Option<FeedDone> {
        self.over.take()
    }

    fn settle(&mut self) {}

    fn abandon(mut self: Box<Self>, error: &io::Error) -> Option<FeedDone> {
        let lost = self.feed.take().map(|write| write.over(Err(copy(error))));
        let over = self.over.take();
        self.stop();
        over.or(lost)
    }

    fn stop(self: Box<Self>) {
        self.core.stop_workers();
        for worker in self.workers {
            worker.join().expect("a worker catches what it calls");
        }
    }
}
