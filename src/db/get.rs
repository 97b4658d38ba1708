//! The futures of point reads.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::Guard;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::try_join_all;

use crate::blocking;
use crate::commit::signal::yield_now;
use crate::db::column_family::Handle;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Seq;
use crate::page::cache::Held;
use crate::read::lookup::{self, Copied, Gathered, Lookup, Stored, Waiting};
use crate::snapshot::Pinned;
use crate::state::{FamilyView, Hold};
use crate::value::Value;

/// Keys whose pages `multi_get` fetches together.
const KEYS_TOGETHER: usize = 64;
/// Keys behind which it gives the runtime its turn.
const KEYS_PER_TURN: usize = 64 * KEYS_TOGETHER;

pub(super) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a read sees.
#[derive(Clone)]
pub(crate) enum At {
    /// What is visible at the first poll.
    Latest,
    Pinned(Arc<Pinned>),
    /// Nothing: the view is of one database and the family of another.
    Foreign,
}

/// One key of one family, to be looked up.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) handle: Arc<Handle>,
    pub(crate) at: At,
}

impl Target {
    pub(super) fn engine(&self) -> &Arc<Engine> {
        self.handle.engine()
    }

    /// Looks in memory, and says what to wait for if that is not enough.
    #[inline]
    fn look(&self, key: &[u8]) -> Result<Looked> {
        let look = |engine: &Engine, view: &_, hold: &_, seq| look_in(engine, view, hold, seq, key);
        Ok(self.seen(look)?.unwrap_or(Looked::Known(None)))
    }

    /// Gives what the read sees of the family to a step that waits for nothing; `None` if that is nothing.
    #[inline]
    pub(super) fn seen<T>(
        &self,
        look: impl FnOnce(&Engine, &Arc<FamilyView>, &Arc<Hold>, Seq) -> T,
    ) -> Result<Option<T>> {
        let engine = self.engine();
        engine.here()?;
        match &self.at {
            At::Latest => {
                engine.readable(&self.handle.family)?;
                let (seq, state) = engine.read_view();
                let view = state.view(self.handle.family.id);
                Ok(view.map(|view| look(engine, view, &state.hold, seq)))
            }
            At::Pinned(pinned) => {
                engine.existed(&self.handle.family, pinned.seq)?;
                let state = pinned.held_still()?;
                let view = state.view(self.handle.family.id);
                Ok(view.map(|view| look(engine, view, &state.hold, pinned.seq)))
            }
            At::Foreign => Err(foreign()),
        }
    }
}

/// What memory says.
enum Looked {
    Known(Option<Value>),
    Later(Later),
}

/// A read that needs the file. It outlives the step that saw the state, so it keeps the pages.
pub(super) struct Later {
    rest: Rest,
    hold: Arc<Hold>,
}

pub(super) enum Rest {
    /// The value lies in an extent of its own.
    Value(Stored),
    /// A page is missing.
    Row(Waiting),
}

#[inline]
fn look_in(
    engine: &Engine,
    view: &Arc<FamilyView>,
    hold: &Arc<Hold>,
    at: Seq,
    key: &[u8],
) -> Looked {
    let step = {
        let guard = ringdb_frames::pin();
        let held = Held::default();
        lookup::step(view, at, key, &engine.pages.lookups(&guard, &held, hold))
    };
    looked(engine, view, hold, step)
}

/// The same for several keys.
fn look_in_for_all(
    engine: &Engine,
    view: &Arc<FamilyView>,
    hold: &Arc<Hold>,
    at: Seq,
    keys: &[Bytes],
) -> Vec<Looked> {
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let mut gathered = Gathered::new(keys.len());
    let steps = {
        let guard = ringdb_frames::pin();
        let held = Held::default();
        let pages = engine.pages.lookups(&guard, &held, hold);
        lookup::step_many(view, at, &keys, &pages, |lent| gathered.take(lent))
    };
    let shared = gathered.into_bytes();
    let stored = |step: Lookup<_>| step.map(|copied: Copied| copied.stored(&shared));
    steps.into_iter().map(|step| looked(engine, view, hold, stored(step))).collect()
}

#[inline]
fn looked(engine: &Engine, view: &Arc<FamilyView>, hold: &Arc<Hold>, step: Lookup) -> Looked {
    let later = |rest| Looked::Later(Later::new(rest, hold));
    match step {
        Lookup::Found(Stored::Inline(value)) => Looked::Known(Some(value)),
        Lookup::Found(stored) => later(Rest::Value(stored)),
        Lookup::Absent => Looked::Known(None),
        Lookup::Missing(missing) => later(Rest::Row(Waiting::new(engine, view, missing))),
    }
}

impl Later {
    pub(super) fn new(rest: Rest, hold: &Arc<Hold>) -> Later {
        Later { rest, hold: hold.clone() }
    }

    pub(super) async fn value(self, engine: Arc<Engine>, key: Bytes) -> Result<Option<Value>> {
        let stored = match self.rest {
            Rest::Value(stored) => Some(stored),
            Rest::Row(waiting) => waiting.answer(&engine, &self.hold, &key).await?,
        };
        match stored {
            None => Ok(None),
            Some(stored) => lookup::value(&engine, stored).await.map(Some),
        }
    }

    async fn looked_up(self, engine: Arc<Engine>, key: Bytes) -> Result<bool> {
        match self.rest {
            Rest::Value(_) => Ok(true),
            Rest::Row(waiting) => {
                let stored = waiting.answer(&engine, &self.hold, &key).await?;
                Ok(stored.is_some())
            }
        }
    }
}

/// Reads one key: ready at once if memory has the answer.
///
/// Until it resolves or is dropped, one that waits for the file keeps what its state names from being used again: do not begin
/// reads that nobody polls.
///
/// # Errors
///
/// `InvalidArgument` for an empty key, or a family of another database than the snapshot's or the
/// transaction's, `NotFound` if the family was dropped (snapshots and transactions that began before go on), `SnapshotExpired`,
/// `Closed`, `Io` and `Corrupt`.
///
/// # Cancel safety
///
/// Dropping it is harmless.
#[must_use = "futures do nothing until polled"]
pub struct Get {
    target: Target,
    step: Step,
}

enum Step {
    Known(Option<Value>),
    New(Value),
    Waiting(Boxed<Result<Option<Value>>>),
    Done,
}

impl Get {
    pub(crate) fn new(target: Target, key: Value) -> Get {
        Get { target, step: Step::New(key) }
    }

    /// A read whose answer is known: a transaction's own write.
    pub(crate) fn known(target: Target, value: Option<Value>) -> Get {
        Get { target, step: Step::Known(value) }
    }
}

impl Future for Get {
    type Output = Result<Option<Value>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let get = &mut *self;
        if let Step::Known(value) = &mut get.step {
            let value = value.take();
            get.step = Step::Done;
            return Poll::Ready(Ok(value));
        }
        if let Step::New(key) = &get.step {
            let looked = check_key(key).and_then(|()| get.target.look(key));
            let Step::New(key) = std::mem::replace(&mut get.step, Step::Done) else {
                unreachable!("it was new just now")
            };
            match looked? {
                Looked::Known(value) => return Poll::Ready(Ok(value)),
                Looked::Later(later) => {
                    let waiting = later.value(get.target.engine().clone(), key.into());
                    get.step = Step::Waiting(Box::pin(waiting));
                }
            }
        }
        let Step::Waiting(waiting) = &mut get.step else {
            return Poll::Ready(Err(polled_again()));
        };
        let polled = waiting.poll_unpin(context);
        match polled {
            Poll::Ready(_) => get.step = Step::Done,
            Poll::Pending => blocking::note(&get.target.engine().io),
        }
        polled
    }
}

/// Whether a key is there; reads no large value.
///
/// # Errors
///
/// As [`Get`].
///
/// # Cancel safety
///
/// Dropping it is harmless.
#[must_use = "futures do nothing until polled"]
pub struct Contains(Boxed<Result<bool>>, Target);

impl Contains {
    pub(crate) fn new(target: Target, key: Bytes) -> Contains {
        let found = contains(target.clone(), key);
        Contains(Box::pin(found), target)
    }

    /// A read whose answer is known: a transaction's own write.
    pub(crate) fn known(target: Target, there: bool) -> Contains {
        Contains(Box::pin(std::future::ready(Ok(there))), target)
    }
}

async fn contains(target: Target, key: Bytes) -> Result<bool> {
    check_key(&key)?;
    match target.look(&key)? {
        Looked::Known(value) => Ok(value.is_some()),
        Looked::Later(later) => later.looked_up(target.engine().clone(), key).await,
    }
}

impl Future for Contains {
    type Output = Result<bool>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<bool>> {
        let polled = self.0.poll_unpin(context);
        if polled.is_pending() {
            blocking::note(&self.1.engine().io);
        }
        polled
    }
}

/// Reads many keys at one seq; answers come in the order of the keys.
///
/// All pages that are missing are fetched together, 64 keys at a time. Values of up to 1 KiB that were in memory share their own:
/// one that is kept keeps those of up to 64 keys.
///
/// # Errors
///
/// As [`Get`]; the first failure fails the whole.
///
/// # Cancel safety
///
/// Dropping it is harmless.
#[must_use = "futures do nothing until polled"]
pub struct MultiGet(Boxed<Result<Vec<Option<Value>>>>, Target);

impl MultiGet {
    pub(crate) fn new(target: Target, keys: Vec<Bytes>) -> MultiGet {
        let found = multi_get(target.clone(), keys);
        MultiGet(Box::pin(found), target)
    }
}

async fn multi_get(target: Target, keys: Vec<Bytes>) -> Result<Vec<Option<Value>>> {
    keys.iter().try_for_each(|key| check_key(key))?;
    let engine = target.engine().clone();
    engine.here()?;
    let (state, at) = match &target.at {
        At::Latest => {
            engine.readable(&target.handle.family)?;
            let (seq, state) = engine.read_view();
            (Guard::into_inner(state), seq)
        }
        At::Pinned(pinned) => {
            engine.existed(&target.handle.family, pinned.seq)?;
            (pinned.state()?, pinned.seq)
        }
        At::Foreign => return Err(foreign()),
    };
    let hold = state.hold.clone();
    let view = state.view(target.handle.family.id).cloned();
    drop(state);
    let Some(view) = view else { return Ok(vec![None; keys.len()]) };
    let mut values = Vec::with_capacity(keys.len());
    for turn in keys.chunks(KEYS_PER_TURN) {
        if !values.is_empty() {
            yield_now().await;
        }
        for some in turn.chunks(KEYS_TOGETHER) {
            get_some(&engine, &view, &hold, at, some, &mut values).await?;
        }
    }
    Ok(values)
}

/// Looks in memory first, then waits for all that is missing at once.
async fn get_some(
    engine: &Arc<Engine>,
    view: &Arc<FamilyView>,
    hold: &Arc<Hold>,
    at: Seq,
    keys: &[Bytes],
    values: &mut Vec<Option<Value>>,
) -> Result<()> {
    let first = values.len();
    let mut later = Vec::new();
    let looked = look_in_for_all(engine, view, hold, at, keys);
    for (index, (key, looked)) in keys.iter().zip(looked).enumerate() {
        match looked {
            Looked::Known(value) => values.push(value),
            Looked::Later(rest) => {
                values.push(None);
                let value = rest.value(engine.clone(), key.clone());
                later.push(async move { value.await.map(|value| (first + index, value)) });
            }
        }
    }
    for (index, value) in try_join_all(later).await? {
        values[index] = value;
    }
    Ok(())
}

impl Future for MultiGet {
    type Output = Result<Vec<Option<Value>>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.0.poll_unpin(context);
        if polled.is_pending() {
            blocking::note(&self.1.engine().io);
        }
        polled
    }
}

/// A handle of another database came in.
pub(crate) fn foreign() -> Error {
    Error::new(ErrorKind::InvalidArgument, "a column family belongs to another database")
}

pub(super) fn check_key(key: &[u8]) -> Result<()> {
    match key.is_empty() {
        true => Err(Error::new(ErrorKind::InvalidArgument, "a key is empty")),
        false => Ok(()),
    }
}

pub(super) fn polled_again() -> Error {
    Error::new(ErrorKind::InvalidArgument, "a future was polled after it had resolved")
}
