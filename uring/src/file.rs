//! An open file of the operating system: its descriptor and the calls on it.
//!
//! Descriptors are close-on-exec from the start and never 0, 1 or 2: a program started with its
//! standard streams closed would print into the database.

use std::io::{self, IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::Arc;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::BLOCK_BYTES;
use crate::buf::Buf;
use crate::calls::{Calls, Durably};
use crate::settings::DirectIo;

/// A file that is open for reading and writing.
pub(crate) struct OsFile {
    fd: OwnedFd,
}

/// Which file it is, whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl OsFile {
    /// Opens an existing regular file.
    pub(crate) fn open(path: &Path) -> io::Result<OsFile> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = OsFile { fd: rustix::fs::open(path, flags, Mode::empty())? };
        let stat = rustix::fs::fstat(&file.fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        Ok(file)
    }

    /// Creates a file that must not exist, for its owner's eyes only.
    pub(crate) fn create(path: &Path) -> io::Result<OsFile> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL;
        Ok(OsFile { fd: rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)? })
    }

    /// The same file with an open file description of its own, or this one if neither the kernel nor its name leads there.
    ///
    /// The kernel tells every description once of bytes that it could not write back. With one of
    /// its own the feed hears of each such failure itself, however shortly before its sync somebody
    /// else was told.
    ///
    /// # Errors
    ///
    /// There are no more descriptors, or direct I/O is refused now.
    pub(crate) fn again(self: &Arc<OsFile>, path: &Path, direct: bool) -> io::Result<Arc<OsFile>> {
        use rustix::fd::AsRawFd;
        let by_number = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        for path in [Path::new(&by_number), path] {
            let again = match OsFile::open(path) {
                Ok(again) => again,
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::MFILE | Errno::NFILE) => return Err(error),
                    _ => continue,
                },
            };
            if again.identity()? == self.identity()? {
                if direct {
                    set_direct(again.fd.as_fd())?;
                }
                return Ok(Arc::new(again));
            }
        }
        Ok(self.clone())
    }

    /// Which file it is.
    pub(crate) fn identity(&self) -> io::Result<Identity> {
        let stat = rustix::fs::fstat(&self.fd)?;
        #[allow(clippy::unnecessary_cast, reason = "the widths differ between systems")]
        Ok(Identity { device: stat.st_dev as u64, inode: stat.st_ino as u64 })
    }

    /// Length now.
    pub(crate) fn len_bytes(&self) -> io::Result<u64> {
        Ok(u64::try_from(rustix::fs::fstat(&self.fd)?.st_size).unwrap_or(0))
    }

    /// Bypasses the page cache if asked for and possible, and says why or why not.
    pub(crate) fn choose_direct(&self, wish: DirectIo) -> io::Result<(bool, String)> {
        if wish == DirectIo::Off {
            return Ok((false, "switched off".into()));
        }
        if let Err(error) = set_direct(self.fd.as_fd()) {
            return Ok((false, format!("refused when it was set: {error}")));
        }
        let mut first = Buf::zeroed(BLOCK_BYTES);
        match rustix::io::pread(&self.fd, &mut first[..], 0) {
            Ok(_) => Ok((true, "the file system takes it".into())),
            Err(Errno::INVAL) => {
                unset_direct(self.fd.as_fd())?;
                Ok((false, "the file system refused an aligned read".into()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for OsFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Calls for OsFile {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::preadv(&self.fd, &mut [IoSliceMut::new(buf)], offset)
    }

    fn write(&self, offset: u64, pieces: &[IoSlice<'_>], how: Durably) -> Result<usize, Errno> {
        write_vectored(self.fd.as_fd(), pieces, offset, how)
    }

    fn sync(&self) -> Result<(), Errno> {
        sync_data(self.fd.as_fd())
    }

    fn allocate(&self, from: u64, to: u64) -> Result<(), Errno> {
        allocate(self.fd.as_fd(), from, to)
    }

    fn truncate(&self, len_bytes: u64) -> Result<(), Errno> {
        rustix::fs::ftruncate(&self.fd, len_bytes)
    }
}

#[cfg(target_os = "linux")]
fn write_vectored(
    fd: BorrowedFd<'_>,
    pieces: &[IoSlice<'_>],
    offset: u64,
    durably: Durably,
) -> rustix::io::Result<usize> {
    match durably {
        Durably::No => rustix::io::pwritev(fd, pieces, offset),
        Durably::Itself => {
            rustix::io::pwritev2(fd, pieces, offset, rustix::io::ReadWriteFlags::DSYNC)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn write_vectored(
    fd: BorrowedFd<'_>,
    pieces: &[IoSlice<'_>],
    offset: u64,
    durably: Durably,
) -> rustix::io::Result<usize> {
    assert_eq!(durably, Durably::No, "a write that syncs itself exists on Linux only");
    rustix::io::pwritev(fd, pieces, offset)
}

#[cfg(target_vendor = "apple")]
fn sync_data(fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::fs::fcntl_fullfsync(fd)
}

#[cfg(not(target_vendor = "apple"))]
fn sync_data(fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::fs::fdatasync(fd)
}

#[cfg(target_os = "linux")]
fn allocate(fd: BorrowedFd<'_>, from: u64, to: u64) -> rustix::io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate, ftruncate};
    match fallocate(fd, FallocateFlags::empty(), from, to - from) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => ftruncate(fd, to),
        other => other,
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(fd: BorrowedFd<'_>, _from: u64, to: u64) -> rustix::io::Result<()> {
    rustix::fs::ftruncate(fd, to)
}

#[cfg(target_os = "linux")]
fn set_direct(fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    rustix::fs::fcntl_setfl(fd, flags | OFlags::DIRECT)
}

#[cfg(target_os = "linux")]
fn unset_direct(fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    rustix::fs::fcntl_setfl(fd, flags - OFlags::DIRECT)
}

#[cfg(target_vendor = "apple")]
fn set_direct(fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::fs::fcntl_nocache(fd, true)
}

#[cfg(target_vendor = "apple")]
fn unset_direct(fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::fs::fcntl_nocache(fd, false)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn set_direct(_fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    Err(Errno::NOTSUP)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn unset_direct(_fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    Ok(())
}

/// Occupies descriptors 0, 1 and 2 where they are closed, for as long as it lives.
pub(crate) struct Plugs(#[allow(dead_code, reason = "held for their numbers")] Vec<OwnedFd>);

impl Plugs {
    /// Fills the gaps, so that nothing opened meanwhile becomes a standard stream.
    pub(crate) fn fill() -> Plugs {
        use rustix::fd::AsRawFd;
        let mut plugs = Vec::new();
        while let Ok(null) = rustix::fs::open("/dev/null", OFlags::CLOEXEC, Mode::empty()) {
            let low = null.as_raw_fd() <= 2;
            if !low {
                break;
            }
            plugs.push(null);
        }
        Plugs(plugs)
    }
}
