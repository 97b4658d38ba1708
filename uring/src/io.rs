//! The public handle of an open file.

use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::BLOCK_BYTES;
use crate::buf::Buf;
use crate::create;
use crate::errors::{OpenError, Refused};
use crate::feed::Feed;
use crate::op::{Grow, Pending, Read, Reply, Shrink, Sync, Write, pair};
use crate::open;
use crate::probe;
use crate::queue::Request;
use crate::report::{BackendKind, Report, SyncMethod};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::standby::Blocked;
use crate::stats::Stats;
use crate::work::{Part, Resize};

/// Largest transfer of one operation, in bytes.
pub const TRANSFER_BYTES_MAX: usize = 1 << 30;

/// Largest offset behind a transfer: what the kernel's signed offsets can say.
const OFFSET_MAX: u64 = i64::MAX as u64;

/// An open file. Clones are cheap and share everything; when the last one is dropped the owner
/// finishes what was submitted and then releases the file, without blocking the dropper.
///
/// Operations are submitted when the method is called, not when the future is first polled.
///
/// In a forked child every operation is refused, and dropping the handle touches nothing.
#[derive(Clone)]
pub struct Io(Arc<Handle>);

/// Its drop is the drop of the last handle.
struct Handle(ManuallyDrop<Arc<Shared>>);

impl Drop for Handle {
    fn drop(&mut self) {
        if self.0.birth.is_here() {
            self.0.begin_close();
            // SAFETY: this is the only drop of the field, and self is not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.0) }
        }
    }
}

impl Io {
    /// Opens an existing file for this process alone, and starts its owner.
    ///
    /// If this process is still closing the same file, waits for that, bounded. Blocks; call it
    /// off the async threads.
    ///
    /// # Errors
    /// Kind `WouldBlock` with payload [`crate::Locked`] if the file is open elsewhere; `NotFound`,
    /// `PermissionDenied` and so on from the file system; any set-up error of `io_uring` if that
    /// backend was asked for by name.
    pub fn open(path: &Path, settings: &Settings) -> Result<Io, OpenError> {
        let shared = open::open(path, settings)?;
        Ok(Io(Arc::new(Handle(ManuallyDrop::new(shared)))))
    }

    /// Creates a file, all or nothing: `len_bytes` zeros with `contents` (offset, bytes) over
    /// them, readable and writable by its owner only, durable with its name when this returns.
    ///
    /// It is written under a temporary name in the same directory and renamed without replacing.
    /// Blocks; call it off the async threads.
    ///
    /// # Errors
    /// Kind `AlreadyExists` if the name is taken; `NotFound` if the directory is missing;
    /// `StorageFull` and so on. No temporary file is left behind.
    pub fn create(
        path: &Path,
        settings: &Settings,
        len_bytes: u64,
        contents: &[(u64, &[u8])],
    ) -> Result<(), OpenError> {
        create::create(path, settings, len_bytes, contents)
    }

    /// A buffer to read into: registered with the kernel where the ring has one of this length
    /// free, and then with whatever was read into it before; else as [`Buf::zeroed`].
    ///
    /// # Panics
    /// As [`Buf::zeroed`].
    pub fn read_buf(&self, len_bytes: usize) -> Buf {
        self.shared().read_buf(len_bytes)
    }

    /// Makes the name of a file durable that somebody else may have created: killed between giving
    /// it its name and syncing the directory, they leave one that power loss still takes. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync_name(path: &Path, settings: &Settings) -> Result<(), OpenError> {
        create::sync_name(path, settings)
    }

    /// Whether anything has that name. Blocks.
    pub fn exists(path: &Path, settings: &Settings) -> bool {
        create::exists(path, settings)
    }

    /// A name in the directory of `path` that no file has, for one that is to take its place:
    /// what it is for stands at its end.
    ///
    /// # Errors
    /// Kind `InvalidInput` if `path` ends in no name.
    pub fn name_beside(
        path: &Path,
        settings: &Settings,
        purpose: &str,
    ) -> Result<PathBuf, OpenError> {
        create::name_beside(path, settings, purpose)
    }

    /// Gives a file that nobody has open another name in the same directory, without replacing,
    /// and makes that durable. Its content must be durable already. Blocks.
    ///
    /// # Errors
    /// Kind `AlreadyExists` if the name is taken; what the file system says otherwise.
    pub fn rename(from: &Path, to: &Path, settings: &Settings) -> Result<(), OpenError> {
        create::rename(from, to, settings)
    }

    /// Removes a file that nobody has open; after power loss it may be there again. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(path: &Path, settings: &Settings) -> Result<(), OpenError> {
        create::remove(path, settings)
    }

    /// Fills the whole buffer from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before; what the device says otherwise.
    ///
    /// # Panics
    /// If the offset is not a multiple of [`BLOCK_BYTES`] or the buffer is too large.
    pub fn read(&self, offset: u64, buf: Buf) -> Read {
        check_range(offset, buf.len(), buf.len());
        let len = buf.len();
        self.transfer(offset, buf, len, Request::Read).read()
    }

    /// Writes the first `len` bytes of the buffer at `offset`; not durable until a sync. Adjacent
    /// queued writes travel together. Of writes in flight to the same bytes either may win.
    ///
    /// # Panics
    /// If offset or length is not a multiple of [`BLOCK_BYTES`], or the length exceeds the buffer.
    pub fn write(&self, offset: u64, buf: Buf, len: usize) -> Write {
        check_range(offset, len, buf.len());
        self.transfer(offset, buf, len, Request::Write).write()
    }

    /// As [`Io::write`], and durable when it resolves.
    ///
    /// # Panics
    /// As [`Io::write`].
    pub fn write_durable(&self, offset: u64, buf: Buf, len: usize) -> Write {
        self.write_durable_by(self.shared().core.method(), offset, buf, len)
    }

    /// As [`Io::write_durable`], by this method.
    pub(crate) fn write_durable_by(
        &self,
        method: SyncMethod,
        offset: u64,
        buf: Buf,
        len: usize,
    ) -> Write {
        check_range(offset, len, buf.len());
        self.transfer(offset, buf, len, |part| Request::Durable(method, part)).write()
    }

    /// Times a few durable writes of each sync method over this range, whose content the caller
    /// does not need, and has later durable writes use the faster one; the report tells the times.
    /// Nothing outside the range is touched, and the range is full of zeros or as it was. Times
    /// are worth something only while nothing else is written.
    ///
    /// On a simulated disk, and where there is one method only, it does nothing.
    ///
    /// # Errors
    /// `InvalidInput` if there is no block in the range or it is not within the file; what the
    /// device says otherwise. The method is as it was then.
    ///
    /// # Cancel safety
    /// The method is chosen at the end or not at all.
    pub async fn measure_sync_methods(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        let block = BLOCK_BYTES as u64;
        let inside = offset.checked_add(len_bytes).is_some_and(|end| end <= self.len_bytes());
        if !offset.is_multiple_of(block) || len_bytes < block || !inside {
            return Err(io::Error::new(ErrorKind::InvalidInput, "no such range to measure in"));
        }
        let report = self.report();
        if report.backend == BackendKind::Sim || cfg!(not(target_os = "linux")) {
            return Ok(());
        }
        let (method, reason) = probe::measure(self, report.sync_method, offset, len_bytes).await?;
        self.shared().choose_sync_method(method, reason);
        Ok(())
    }

    /// Makes every write and growth submitted before it durable. It is issued when they have all
    /// completed; whether they succeeded is for their own futures to tell. After a sync that failed it fails, whoever asked
    /// for that one: see [`Io::failed_sync`].
    pub fn sync(&self) -> Sync {
        self.submit(Request::Sync).sync()
    }

    /// What every sync and durable write behind a sync that failed is told, with the cause of the first; `None` while none has. A feed
    /// asks for it itself, behind each of its writes.
    /// It does not matter who asked for that sync, or whether they still wait for its result. What it covered is undefined for
    /// ever, what others wrote included: a later sync that succeeds proves nothing about it.
    pub fn failed_sync(&self) -> Option<io::Error> {
        self.shared().core.failed_sync()
    }

    /// Makes the file at least `len_bytes` long, with space reserved where the file system can. A
    /// later sync makes the length durable.
    ///
    /// # Errors
    /// Kind `StorageFull` if there is no room; nothing else is affected.
    pub fn grow(&self, len_bytes: u64) -> Grow {
        assert!(len_bytes <= OFFSET_MAX);
        self.submit(|reply| Request::Resize(Resize::Grow(len_bytes), reply)).grow()
    }

    /// Cuts the file off behind `len_bytes`, if it is longer, behind all growth that was submitted
    /// before and in front of what is submitted later. A later sync makes the length durable;
    /// until then a crash may bring the longer file back.
    ///
    /// Nothing may be read or written behind the new end from now on, before the file grows again.
    ///
    /// # Errors
    /// Where the file ends then is not known; [`Io::len_bytes`] says where it was to end, and a
    /// growth from there on makes that right. Nothing else is affected.
    pub fn shrink(&self, len_bytes: u64) -> Shrink {
        self.submit(|reply| Request::Resize(Resize::Shrink(len_bytes), reply)).shrink()
    }

    /// Length of the file.
    pub fn len_bytes(&self) -> u64 {
        self.shared().core.len_bytes()
    }

    /// Sets the source of durable writes, once. It is dropped when the file has been closed; a
    /// feed that holds an `Io` keeps the file open until then.
    ///
    /// # Panics
    /// If it was set before.
    pub fn set_feed(&self, feed: Arc<dyn Feed>) {
        self.shared().set_feed(feed);
    }

    /// Tells that the feed has, or may have, something. One load while the owner runs or a write
    /// of the feed is in flight; it wakes the owner only if that sleeps for another reason. A
    /// caller about to [`Io::drive`] or [`Io::block`] need not kick, unless it is refused.
    pub fn kick(&self) {
        self.shared().kick();
    }

    /// Lets this thread own the I/O until `done`. For callers that would block anyway: their
    /// durable write then costs no hop between threads.
    ///
    /// Answers whether `done` held at the end. False at once, without asking `done`, if somebody
    /// else owns the I/O, or took it over while this thread told who waited for a write of the feed, and false when nothing is in
    /// flight and the feed is idle: then wait by other means. `done` is only called while this thread owns the I/O, so what it submits wakes
    /// nobody: a future may be polled in it. It must not block.
    pub fn drive(&self, done: &dyn Fn() -> bool) -> bool {
        self.shared().birth.is_here() && self.shared().drive(done)
    }

    /// Blocks this thread until it is woken, and lets it own the I/O whenever nobody else does. Woken by somebody else while it sleeps
    /// as the owner, it returns behind the next completion.
    /// Until then `blocked` must be the waker of what it waits for. `refused` is called, once, if
    /// somebody else owns the I/O, or if the thread was woken before it could: it kicks if the feed
    /// has more of which nobody else may know.
    pub fn block(&self, blocked: &Arc<Blocked>, refused: &dyn Fn()) {
        if self.shared().birth.is_here() {
            return self.shared().block(blocked, refused);
        }
        while !blocked.is_woken() {
            crate::threads::thread::park();
        }
    }

    /// Makes page writes, durable writes, growths and syncs of the queue on this thread, whoever asked for them, until the queue has none
    /// in front of a cut, or `is_over`; 64 behind a write of the feed, and nothing with buffered I/O. For a thread that waits for such and never drives: beside a feed that writes, its
    /// own call is quicker than two wake-ups, and the owner has the feed to itself. One thread helps at a time.
    pub fn help(&self, is_over: &dyn Fn() -> bool) {
        if self.shared().birth.is_here() {
            self.shared().help(is_over);
        }
    }

    /// Whether both are handles of one open file.
    pub fn is_same(&self, other: &Io) -> bool {
        Arc::ptr_eq(self.shared(), other.shared())
    }

    /// The file opened with [`crate::Claim::Tentative`] is wanted: other openers are refused.
    pub fn settle(&self) {
        if self.shared().birth.is_here() {
            self.shared().settle();
        }
    }

    /// The file will be closed soon, when the last work on it is done: an `open` in this process
    /// waits for that from now on, bounded, instead of being refused.
    pub fn announce_close(&self) {
        if self.shared().birth.is_here() {
            self.shared().closing();
        }
    }

    /// Refuses new work, drains to zero in flight (the feed included), stops the owner and
    /// releases the lock. May be called more than once.
    pub fn close(&self) -> Close {
        let here = self.shared().birth.is_here();
        if here {
            self.shared().begin_close();
        }
        Close(here.then(|| Arc::clone(self.shared())))
    }

    /// Whether this process opened the file. In a forked child nobody answers: what would wait
    /// must refuse instead. A load or two.
    pub fn is_here(&self) -> bool {
        self.shared().birth.is_here()
    }

    /// Counters since open.
    pub fn stats(&self) -> Stats {
        self.shared().core.stats.read()
    }

    /// What was chosen, and why.
    pub fn report(&self) -> Report {
        self.shared().report.lock().clone()
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.shared().path
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }

    fn transfer(
        &self,
        offset: u64,
        buf: Buf,
        len: usize,
        request: impl FnOnce(Part) -> Request,
    ) -> Pending {
        if len == 0 {
            let (reply, pending) = pair();
            reply.send(Ok(()), buf);
            return pending;
        }
        self.submit(|reply| request(Part { offset, len, buf, reply }))
    }

    fn submit(&self, request: impl FnOnce(Reply) -> Request) -> Pending {
        let (reply, pending) = pair();
        let request = request(reply);
        let shared = self.shared();
        if !shared.birth.is_here() {
            request.answer(Err(Refused::Forked.into()));
            return pending;
        }
        match shared.push(request) {
            Some(place) => pending.at(&shared.core, place),
            None => pending,
        }
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Io({:?}, {:?})", self.path(), self.report().backend)
    }
}

/// Resolves when the file is closed and its lock released.
///
/// # Cancel safety
/// The close was begun when the method was called and goes on without the future.
#[must_use = "the close goes on without it, but only the future tells when it is over"]
pub struct Close(Option<Arc<Shared>>);

impl Future for Close {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &self.0 {
            Some(shared) => shared.poll_closed(cx.waker()),
            None => Poll::Ready(()),
        }
    }
}

/// Offsets and lengths that the device would refuse are our own mistakes.
pub(crate) fn check_range(offset: u64, len: usize, buf_bytes: usize) {
    assert!(offset.is_multiple_of(BLOCK_BYTES as u64), "offset {offset} is inside a block");
    assert!(len.is_multiple_of(BLOCK_BYTES), "length {len} is no multiple of a block");
    assert!(len <= buf_bytes, "{len} bytes from a buffer of {buf_bytes}");
    assert!(len <= TRANSFER_BYTES_MAX, "{len} bytes in one transfer");
    assert!(offset <= OFFSET_MAX - len as u64, "offset {offset} is beyond any file");
}
