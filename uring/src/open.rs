//! Opening: the file, its lock, direct I/O, the backend, the owner; in this order, so that
//! nothing is touched before the lock is held.

use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};

use crate::BLOCK_BYTES;
use crate::backend::blocking::{self, Blocking, Listener};
use crate::backend::{Backend, Bell};
use crate::calls::Calls;
use crate::errors::OpenError;
use crate::file::{OsFile, Plugs};
use crate::lock::{Claim, flock};
use crate::owner::Owner;
use crate::probe;
use crate::queue::{Core, Limits, Queue};
use crate::report::{BackendKind, Report, SyncMethod};
use crate::settings::{BackendChoice, DirectIo, QUEUE_DEPTH_MAX, Settings};
use crate::shared::{Executor, Parts, Shared};
use crate::sim::Disk;
use crate::storage::{End, Storage};
use crate::threads::Mutex;
use crate::wake::Wake;

/// Opens the file as [`crate::Io::open`] says.
pub(crate) fn open(path: &Path, settings: &Settings) -> Result<Arc<Shared>, OpenError> {
    let mut settings = settings.clone();
    settings.queue_depth = settings.queue_depth.clamp(1, QUEUE_DEPTH_MAX);
    if let BackendChoice::Sim(disk) = &settings.backend {
        return open_sim(path, &settings, disk);
    }
    let _plugs = Plugs::fill();
    let failed = |step| move |error: io::Error| OpenError::new(step, path, error);
    let file = Arc::new(OsFile::open(path).map_err(failed("open the file"))?);
    let claim = file.identity().and_then(|identity| Claim::take(identity, settings.claim));
    let claim = claim.map_err(failed("lock the file"))?;
    flock(&*file).map_err(failed("lock the file"))?;
    let storage = Storage::File { file: file.clone(), claim, end: End::Clean };
    let opened = Opened::new(path, &settings, file).map_err(failed("read the file"))?;
    match settings.backend {
        BackendChoice::Pwrite => opened.pwrite(storage, "asked for by name".into()),
        BackendChoice::Auto | BackendChoice::Uring => opened.ring(storage),
        BackendChoice::Sim(_) => unreachable!("returned above"),
    }
    .map_err(failed("start the backend"))
}

/// A file that is open and locked, waiting for its backend.
struct Opened<'a> {
    path: &'a Path,
    settings: &'a Settings,
    file: Arc<OsFile>,
    /// The same for writes of the feed.
    feed_file: Arc<OsFile>,
    len_bytes: u64,
    direct: (bool, String),
    method: (SyncMethod, &'static str),
}

/// A backend, and what belongs to it.
struct Chosen {
    kind: BackendKind,
    reason: String,
    kernel: String,
    core: Arc<Core>,
    bell: Bell,
    executor: Executor,
    backend: Box<dyn Backend>,
}

impl<'a> Opened<'a> {
    fn new(path: &'a Path, settings: &'a Settings, file: Arc<OsFile>) -> io::Result<Opened<'a>> {
        let direct = file.choose_direct(settings.direct)?;
        let feed_file = file.again(path, direct.0)?;
        let method = probe::assumed(direct.0);
        let len_bytes = file.len_bytes()?;
        Ok(Opened { path, settings, file, feed_file, len_bytes, direct, method })
    }

    fn core(&self, limits: Limits) -> Arc<Core> {
        let queue = Queue::new(limits, self.settings.coalesce);
        Arc::new(Core::new(queue, self.method.0, self.len_bytes))
    }

    #[cfg(target_os = "linux")]
    fn ring(self, storage: Storage) -> io::Result<Arc<Shared>> {
        use crate::backend::{ring::Ring, setup};
        let limits = Limits::of_depth(self.settings.queue_depth);
        let named = matches!(self.settings.backend, BackendChoice::Uring);
        let core = self.core(limits);
        let ready = match setup::prepare(&self.file, &self.feed_file, limits) {
            Ok(ready) => ready,
            Err(error) if named => return Err(error),
            Err(error) => return self.pwrite(storage, format!("io_uring was refused: {error}")),
        };
        let reason = if named { "asked for by name" } else { "preferred, and the kernel has it" };
        let chosen = Chosen {
            kind: BackendKind::Uring,
            reason: reason.into(),
            kernel: ready.words.clone(),
            core: core.clone(),
            bell: Bell::Event(ready.event.clone()),
            executor: Executor::Owner(ready.pool.clone()),
            backend: Box::new(Ring::new(
                ready,
                self.file.clone(),
                self.feed_file.clone(),
                core,
                limits,
            )),
        };
        self.start(storage, chosen)
    }

    #[cfg(not(target_os = "linux"))]
    fn ring(self, storage: Storage) -> io::Result<Arc<Shared>> {
        match self.settings.backend {
            BackendChoice::Uring => Err(io::Error::from(io::ErrorKind::Unsupported)),
            _ => self.pwrite(storage, "io_uring exists on Linux only".into()),
        }
    }

    fn pwrite(self, storage: Storage, reason: String) -> io::Result<Arc<Shared>> {
        let core = self.core(blocking::limits(self.settings.queue_depth));
        let listener: Listener = Arc::new(Mutex::new(Weak::new()));
        let backend = Blocking::new(self.file.clone(), self.feed_file.clone(), core.clone());
        let backend = backend.with_pool(&listener)?;
        let chosen = Chosen {
            kind: BackendKind::Pwrite,
            reason,
            kernel: format!("a pool of {} threads", blocking::POOL_THREADS),
            core,
            bell: Bell::Silent,
            executor: Executor::Pool,
            backend: Box::new(backend),
        };
        let shared = self.start(storage, chosen)?;
        *listener.lock() = Arc::downgrade(&shared);
        Ok(shared)
    }

    fn start(self, storage: Storage, chosen: Chosen) -> io::Result<Arc<Shared>> {
        let report = Report {
            backend: chosen.kind,
            reason: chosen.reason,
            direct: self.direct.0,
            direct_reason: self.direct.1,
            sync_method: self.method.0,
            sync_reason: self.method.1.into(),
            block_bytes: BLOCK_BYTES as u32,
            kernel: chosen.kernel,
        };
        Shared::start(Parts {
            core: chosen.core,
            wake: Wake::new(chosen.bell),
            path: self.path.to_owned(),
            report,
            executor: chosen.executor,
            // With buffered I/O a sync takes as long as all that was written before it, by whomever: too long for a thread that helps.
            file: self.direct.0.then_some(self.file as Arc<dyn Calls>),
            owner: Owner::new(chosen.backend),
            storage,
        })
    }
}

fn open_sim(path: &Path, settings: &Settings, disk: &Disk) -> Result<Arc<Shared>, OpenError> {
    let failed = |step| move |error: io::Error| OpenError::new(step, path, error);
    let (file, lock) = disk.hold(path, settings.claim).map_err(failed("open the file"))?;
    let direct = settings.direct == DirectIo::Auto;
    let sync_method = match direct {
        true => SyncMethod::DsyncWrite,
        false => SyncMethod::WriteThenSync,
    };
    let report = Report {
        backend: BackendKind::Sim,
        reason: "asked for by name".into(),
        direct,
        direct_reason: "simulated".into(),
        sync_method,
        sync_reason: "follows direct I/O".into(),
        block_bytes: BLOCK_BYTES as u32,
        kernel: "none".into(),
    };
    let queue = Queue::new(Limits::of_depth(settings.queue_depth), settings.coalesce);
    let core = Arc::new(Core::new(queue, sync_method, file.len_bytes()));
    let calls = Arc::new(file.clone());
    let backend = Blocking::new(calls.clone(), calls, core.clone());
    let shared = Shared::start(Parts {
        core,
        wake: Wake::new(Bell::Silent),
        path: path.to_owned(),
        report,
        executor: Executor::Caller(file),
        file: None,
        owner: Owner::new(Box::new(backend)),
        storage: Storage::Sim(lock),
    })
    .map_err(failed("start the backend"))?;
    disk.attach(&shared);
    Ok(shared)
}
