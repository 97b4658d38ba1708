//! Checking a database while it is used.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::blocking;
use crate::check::{self, Watch};
use crate::db::Db;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::report::{CheckProgress, CheckReport};

/// Pages that a check reads ahead unless it is told otherwise: half a MiB.
const PAGES_AHEAD: u32 = 64;

impl Db {
    /// Reads and verifies every page of every family, the catalog, the free map, the superblock and
    /// the log, and proves that each page of the file is live, in the log, or free, exactly once.
    ///
    /// Commits, reads and checkpoints go on meanwhile. Rows that no checkpoint has written yet are
    /// in the log.
    ///
    /// # Errors
    ///
    /// As [`Check`]. What is found to be wrong is in the report.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the check ends; nothing else does.
    ///
    /// # Examples
    ///
    /// ```
    /// # ringdb::block_on(async {
    /// let db = ringdb::Db::in_memory().await?;
    /// let users = db.column_family("users").await?;
    /// users.put("ada", "1815").await?;
    /// let show = |p: ringdb::CheckProgress| eprintln!("{} of {}", p.bytes, p.total_bytes);
    /// let report = db.check().pages_ahead(16).progress(show).await?;
    /// assert!(report.is_sound(), "{:?}", report.defects);
    /// # Ok::<(), ringdb::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn check(&self) -> Check {
        Check { engine: self.engine().clone(), step: Step::New(PAGES_AHEAD, None) }
    }
}

/// A check of the whole database.
///
/// It holds the pages that it looks at like a snapshot does, and expires like one.
///
/// # Errors
///
/// `Closed`; `SnapshotExpired` if it took longer, or kept more space from being reused, than
/// snapshots may: see `Options::snapshot_age_max`.
///
/// # Cancel safety
///
/// Dropped, the check ends; nothing else does.
#[must_use = "futures do nothing until polled"]
pub struct Check {
    engine: Arc<Engine>,
    step: Step,
}

enum Step {
    New(u32, Option<Watch>),
    Running(Pin<Box<dyn Future<Output = Result<CheckReport>> + Send>>),
    Done,
}

impl Check {
    /// Pages that are in flight or read ahead of need, 64 by default; of large values, a MiB. The
    /// fewer, the less other reads of the disk wait. Only before the first poll.
    ///
    /// # Panics
    ///
    /// If the check has begun.
    pub fn pages_ahead(mut self, pages: u32) -> Check {
        let Step::New(ahead, _) = &mut self.step else { panic!("the check has begun") };
        *ahead = pages;
        self
    }

    /// Tells how far it is after every node, value and log segment. Only before the first poll.
    ///
    /// # Panics
    ///
    /// If the check has begun.
    pub fn progress(mut self, watch: impl FnMut(CheckProgress) + Send + 'static) -> Check {
        let Step::New(_, told) = &mut self.step else { panic!("the check has begun") };
        *told = Some(Box::new(watch));
        self
    }
}

impl Future for Check {
    type Output = Result<CheckReport>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<CheckReport>> {
        self.engine.here()?;
        if let Step::New(ahead, watch) = &mut self.step {
            let (ahead, watch) = (*ahead, watch.take());
            let work = check::check(self.engine.clone(), ahead, watch);
            self.step = Step::Running(Box::pin(work));
        }
        let Step::Running(work) = &mut self.step else {
            let message = "a future was polled after it had resolved";
            return Poll::Ready(Err(Error::new(ErrorKind::InvalidArgument, message)));
        };
        let polled = work.as_mut().poll(context);
        match polled {
            Poll::Ready(_) => self.step = Step::Done,
            Poll::Pending => blocking::note(&self.engine.io),
        }
        polled
    }
}
