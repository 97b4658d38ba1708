//! Point reads that copy nothing: the value is lent to a closure where it lies.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;

use crate::blocking;
use crate::db::get::{Boxed, Later, Rest, Target, check_key, polled_again};
use crate::error::Result;
use crate::page::cache::Held;
use crate::read::lookup::{self, Lent, Lookup, Stored, Waiting};
use crate::value::Value;

/// Reads one key and lends its value to a closure, which runs at most once: in the first poll if
/// memory has the answer.
///
/// A value in the cache is not copied. Until the closure returns, the pages that are evicted
/// meanwhile wait for it: look at the bytes, and do the work afterwards.
///
/// # Errors
///
/// As [`Get`](crate::Get); the closure is not called then.
///
/// # Cancel safety
///
/// Dropping it is harmless; the closure is dropped with it.
#[must_use = "futures do nothing until polled"]
pub struct GetWith<F> {
    target: Target,
    step: Step<F>,
}

enum Step<F> {
    New(Value, F),
    Waiting(Boxed<Result<Option<Value>>>, F),
    Done,
}

/// What memory says.
enum Looked<T, F> {
    Known(T),
    Later(Later, F),
}

impl<F> GetWith<F> {
    pub(crate) fn new(target: Target, key: Value, look: F) -> GetWith<F> {
        GetWith { target, step: Step::New(key, look) }
    }
}

/// The closure is moved out to be called, and never pinned.
impl<F> Unpin for GetWith<F> {}

impl<F, T> Future for GetWith<F>
where
    F: FnOnce(Option<&[u8]>) -> T,
{
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let get = &mut *self;
        let (mut waiting, look) = match std::mem::replace(&mut get.step, Step::Done) {
            Step::Done => return Poll::Ready(Err(polled_again())),
            Step::Waiting(waiting, look) => (waiting, look),
            Step::New(key, look) => {
                check_key(&key)?;
                match look_with(&get.target, &key, look)? {
                    Looked::Known(looked) => return Poll::Ready(Ok(looked)),
                    Looked::Later(later, look) => {
                        let engine = get.target.engine().clone();
                        (Box::pin(later.value(engine, key.into())) as Boxed<_>, look)
                    }
                }
            }
        };
        match waiting.poll_unpin(context) {
            Poll::Ready(value) => Poll::Ready(value.map(|value| look(value.as_deref()))),
            Poll::Pending => {
                blocking::note(&get.target.engine().io);
                get.step = Step::Waiting(waiting, look);
                Poll::Pending
            }
        }
    }
}

/// Looks in memory, and lends what is there.
#[inline]
fn look_with<F, T>(target: &Target, key: &[u8], look: F) -> Result<Looked<T, F>>
where
    F: FnOnce(Option<&[u8]>) -> T,
{
    let mut look = Some(look);
    let mut lend = |bytes: Option<&[u8]>| look.take().map(|look| look(bytes));
    let looked = target.seen(|engine, view, hold, at| {
        let step = {
            let guard = ringdb_frames::pin();
            let held = Held::default();
            let pages = engine.pages.lookups(&guard, &held, hold);
            lookup::step_with(view, at, key, &pages, |lent| match lent {
                Lent::Row(bytes) => Ok(lend(Some(bytes))),
                Lent::Shared(bytes) => Ok(lend(Some(&bytes))),
                Lent::Extent(value) => Err(Rest::Value(Stored::Extent(value))),
            })
        };
        match step {
            Lookup::Found(Ok(looked)) => Ok(looked),
            Lookup::Found(Err(rest)) => Err(Later::new(rest, hold)),
            Lookup::Absent => Ok(None),
            Lookup::Missing(missing) => {
                Err(Later::new(Rest::Row(Waiting::new(engine, view, missing)), hold))
            }
        }
    })?;
    match (looked, look) {
        (Some(Ok(Some(looked))), _) => Ok(Looked::Known(looked)),
        (Some(Err(later)), Some(look)) => Ok(Looked::Later(later, look)),
        (_, Some(look)) => Ok(Looked::Known(look(None))),
        (_, None) => unreachable!("what was lent was looked at"),
    }
}
