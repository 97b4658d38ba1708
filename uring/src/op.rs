//! An operation's two ends: the reply its owner will send, and the future its caller holds.
//!
//! The buffer travels with the operation, never with the future, so a future may be dropped at any
//! time and no buffer is freed under the kernel. A reply that is dropped unsent (the owner failed)
//! answers with an error: nobody hangs.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::buf::Buf;
use crate::errors::OwnerGone;
use crate::queue::Core;
use crate::threads::Mutex;

enum State {
    Waiting(Option<Waker>),
    Done(io::Result<()>, Buf),
    Taken,
}

/// The owner's end: sends the result once.
pub(crate) struct Reply(Option<Arc<Mutex<State>>>);

/// The caller's end.
struct Ticket {
    state: Arc<Mutex<State>>,
    place: Option<(Arc<Core>, u64)>,
}

/// A reply and the place where its result will be looked for.
pub(crate) fn pair() -> (Reply, Pending) {
    let state = Arc::new(Mutex::new(State::Waiting(None)));
    (Reply(Some(state.clone())), Pending(Ticket { state, place: None }))
}

/// A future in the making: the queue has not been told yet.
pub(crate) struct Pending(Ticket);

impl Pending {
    /// Names the operation's place beyond the queue's bound, from which a drop withdraws it.
    pub(crate) fn at(mut self, core: &Arc<Core>, number: u64) -> Pending {
        self.0.place = Some((core.clone(), number));
        self
    }

    pub(crate) fn read(self) -> Read {
        Read(self.0)
    }

    pub(crate) fn write(self) -> Write {
        Write(self.0)
    }

    pub(crate) fn sync(self) -> Sync {
        Sync(self.0)
    }

    pub(crate) fn grow(self) -> Grow {
        Grow(self.0)
    }

    pub(crate) fn shrink(self) -> Shrink {
        Shrink(self.0)
    }
}

impl Reply {
    /// Sends the result and wakes the caller.
    pub(crate) fn send(mut self, result: io::Result<()>, buf: Buf) {
        if let Some(state) = self.0.take() {
            settle(&state, result, buf);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(state) = self.0.take() {
            let gone = OwnerGone { cause: "the operation was abandoned".into() };
            settle(&state, Err(gone.into()), Buf::empty());
        }
    }
}

fn settle(state: &Mutex<State>, result: io::Result<()>, buf: Buf) {
    let before = std::mem::replace(&mut *state.lock(), State::Done(result, buf));
    if let State::Waiting(Some(waker)) = before {
        waker.wake();
    }
}

impl Ticket {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(io::Result<()>, Buf)> {
        let mut state = self.state.lock();
        match &mut *state {
            State::Waiting(Some(waker)) => waker.clone_from(cx.waker()),
            State::Waiting(waker) => *waker = Some(cx.waker().clone()),
            State::Done(..) => {
                let State::Done(result, buf) = std::mem::replace(&mut *state, State::Taken) else {
                    unreachable!("the arm matched it");
                };
                return Poll::Ready((result, buf));
            }
            State::Taken => panic!("polled after it was ready"),
        }
        Poll::Pending
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some((core, number)) = self.place.take()
            && core.birth.is_here()
            && matches!(*self.state.lock(), State::Waiting(_))
        {
            core.withdraw(number);
        }
    }
}

macro_rules! operation {
    ($(#[$doc:meta])* $name:ident, $output:ty, $finish:expr) => {
        $(#[$doc])*
        ///
        /// # Cancel safety
        /// The operation was submitted when the method was called. Dropping the future forgets its
        /// result, no more: the buffer lives on until the device is done with it. Only while the
        /// operation still waits for room in the queue does a drop withdraw it.
        #[must_use = "the operation was submitted, but only the future tells its result"]
        pub struct $name(Ticket);

        impl Future for $name {
            type Output = $output;

            fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<$output> {
                self.0.poll(cx).map($finish)
            }
        }
    };
}

operation!(
    /// Resolves when the buffer is filled, or to an error; gives the buffer back.
    Read, (io::Result<()>, Buf), |outcome| outcome);
operation!(
    /// Resolves when the bytes are written, or to an error; gives the buffer back.
    Write, (io::Result<()>, Buf), |outcome| outcome);
operation!(
    /// Resolves when everything written before is durable.
    Sync, io::Result<()>, |(result, _)| result);
operation!(
    /// Resolves when the file has the length.
    Grow, io::Result<()>, |(result, _)| result);
operation!(
    /// Resolves when the file is cut off, or to an error.
    Shrink, io::Result<()>, |(result, _)| result);
