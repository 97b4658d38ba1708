//! Futures of operations that are rare enough to be boxed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::blocking;
use crate::engine::Engine;
use crate::error::Result;

/// A rare operation under way.
///
/// # Cancel safety
///
/// Dropping it leaves the database correct; what was begun may still happen, whole.
#[must_use = "futures do nothing until polled"]
pub struct Task<T> {
    work: Pin<Box<dyn Future<Output = Result<T>> + Send>>,
    engine: Option<Arc<Engine>>,
}

impl<T> Task<T> {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Task<T> {
        Task { work: Box::pin(work), engine: Some(engine.clone()) }
    }

    /// Work on a database that is not open yet.
    pub(crate) fn without_engine(
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Task<T> {
        Task { work: Box::pin(work), engine: None }
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        if let Some(engine) = &self.engine {
            engine.here()?;
        }
        let polled = self.work.as_mut().poll(context);
        if polled.is_pending()
            && let Some(engine) = &self.engine
        {
            blocking::note(&engine.io);
        }
        polled
    }
}
