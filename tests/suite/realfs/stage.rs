//! A small file system on an image of its own: made, mounted, cut off, mounted again.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use super::FileSystem;
use crate::process;

/// How the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Shutdown,
    LostCache,
}

/// What makes a power cut possible.
enum Source {
    /// The image itself; the file system is told to stop.
    Image,
    /// A server of the image with a cache.
    Device(Server),
}

struct Server {
    child: Child,
    lines: BufReader<ChildStdout>,
}

/// A file system and its mount point. Dropped, both are gone.
pub struct Stage {
    file_system: FileSystem,
    source: Source,
    directory: TempDir,
    /// The loop device, while it is mounted.
    device: Option<String>,
}

impl Stage {
    /// Makes and mounts one, or says what is missing here.
    pub fn new(file_system: FileSystem, cut: Cut) -> Result<Stage, String> {
        if !is_root() {
            return Err("not root".into());
        }
        let directory = roomy_directory();
        let at = |name: &str| directory.path().join(name);
        let image = File::create(at("image")).expect("the image is created");
        image.set_len(file_system.image_bytes()).expect("the image is made as long as wanted");
        let (program, arguments) = file_system.mkfs();
        said(Command::new(program).args(arguments).arg(at("image")))?;
        fs::create_dir(at("mount")).expect("the mount point is made");
        let source = match cut {
            Cut::Shutdown => Source::Image,
            Cut::LostCache => Source::Device(Server::start(&at("image"), &at("device"))?),
        };
        let mut stage = Stage { file_system, source, directory, device: None };
        stage.try_mount()?;
        Ok(stage)
    }

    /// Where files can be put.
    pub fn mount_point(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    /// Where the database lies.
    pub fn database(&self) -> PathBuf {
        self.mount_point().join("test.ring")
    }

    /// How the power is cut here.
    pub fn kind(&self) -> Cut {
        match self.source {
            Source::Image => Cut::Shutdown,
            Source::Device(_) => Cut::LostCache,
        }
    }

    /// The power goes now.
    pub fn cut(&mut self, seed: u64) {
        match &mut self.source {
            Source::Image => shut_down(&self.mount_point()),
            Source::Device(server) => drop(server.ask(&format!("cut {seed}"))),
        }
    }

    /// The power goes at the n-th write from now, or soon, where writes cannot be counted.
    pub fn cut_after(&mut self, writes: u64, seed: u64) {
        match &mut self.source {
            Source::Image => {
                // The file system is stopped from outside: give the others some turns first.
                (0..writes * 20).for_each(|_| std::thread::yield_now());
                self.cut(seed);
            }
            Source::Device(server) => server.tell(&format!("after {writes} {seed}")),
        }
    }

    /// After a cut: everything that was in memory is given up, and the image mounted again.
    /// Returns how many unflushed writes were lost, kept and torn, where that is known.
    pub fn power_up(&mut self, seed: u64) -> [u64; 3] {
        let counts = match &mut self.source {
            Source::Image => [0; 3],
            Source::Device(server) => server.ask(&format!("cut {seed}")),
        };
        self.unmount();
        if let Source::Device(server) = &mut self.source {
            server.ask("on");
        }
        self.try_mount().expect("it was mounted before");
        counts
    }

    /// What the loop device shows.
    fn attached_file(&self) -> PathBuf {
        match &self.source {
            Source::Image => self.directory.path().join("image"),
            Source::Device(_) => self.directory.path().join("device/disk"),
        }
    }

    fn try_mount(&mut self) -> Result<(), String> {
        let file = self.attached_file();
        let device = said(Command::new("losetup").args(["-f", "--show"]).arg(file))?;
        let device = self.device.insert(device.trim().to_string()).clone();
        if self.file_system == FileSystem::Ext4WithoutJournal {
            // As any system does after a cut: there is no journal that would repair it. Its result
            // tells of repairs; whether they were enough is seen by mounting.
            let _ = said(Command::new("fsck.ext4").args(["-y", "-f", &device]));
        }
        let kind = self.file_system.kind();
        said(Command::new("mount").args(["-t", kind, &device]).arg(self.mount_point())).map(drop)
    }

    /// Waits until nobody is there any more: a killed process may still be giving up its I/O.
    fn unmount(&mut self) {
        let Some(device) = self.device.take() else { return };
        until_done(Command::new("umount").arg(self.mount_point()));
        until_done(Command::new("losetup").args(["-d", &device]));
        // Detaching waits for the last user; the next attachment must not meet the old one. The
        // device may be another stage's by then, so it is the file that is asked for.
        let file = self.attached_file();
        let attached = || said(Command::new("losetup").arg("-j").arg(&file));
        let is_over = |_| attached().is_ok_and(|devices| devices.trim().is_empty());
        assert!((0..ATTEMPTS_MAX).any(is_over), "{device} is detached");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The first failure is the one to tell; what is in the way is left behind.
            let _ = said(Command::new("umount").arg("-l").arg(self.mount_point()));
            if let Some(device) = self.device.take() {
                let _ = said(Command::new("losetup").args(["-d", &device]));
            }
        } else {
            self.unmount();
        }
        if let Source::Device(server) = &mut self.source {
            let _ =
                said(Command::new("umount").arg("-l").arg(self.directory.path().join("device")));
            drop(server.child.stdin.take());
            let _ = server.child.wait();
        }
    }
}

impl Server {
    fn start(image: &Path, directory: &Path) -> Result<Server, String> {
        if !Path::new("/dev/fuse").exists() {
            return Err("there is no /dev/fuse".into());
        }
        fs::create_dir(directory).expect("the mount point is made");
        let argument = directory.to_str().expect("temporary names are text");
        let (child, lines) = process::spawn("device", image, argument);
        let mut server = Server { child, lines };
        let ready = server.answer("ready");
        ready.map(|_| server).ok_or_else(|| "FUSE cannot be mounted".into())
    }

    fn tell(&mut self, command: &str) {
        let stdin = self.child.stdin.as_mut().expect("the pipe is open until drop");
        writeln!(stdin, "{command}").expect("the device listens");
    }

    fn ask(&mut self, command: &str) -> [u64; 3] {
        self.tell(command);
        let word = if command == "on" { "on" } else { "off" };
        let line = self.answer(word).expect("the device answers");
        let mut numbers =
            line.split_whitespace().skip(1).map(|word| word.parse().expect("numbers"));
        [(); 3].map(|()| numbers.next().unwrap_or(0))
    }

    /// The next line that begins so; others are the harness's.
    fn answer(&mut self, word: &str) -> Option<String> {
        let lines = self.lines.by_ref().lines().map_while(Result::ok);
        lines.into_iter().find(|line| line.split_whitespace().next() == Some(word))
    }
}

/// How often something that is in use is tried again: far more than a loaded machine needs.
const ATTEMPTS_MAX: usize = 20_000;

fn until_done(command: &mut Command) {
    let mut outcome = Ok(String::new());
    for _ in 0..ATTEMPTS_MAX {
        outcome = said(command);
        match &outcome {
            Ok(_) => return,
            Err(error) if error.contains("not mounted") || error.contains("No such") => return,
            Err(_) => std::thread::yield_now(),
        }
    }
    panic!("{outcome:?}");
}

/// What a program printed, or why it failed.
fn said(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{name} cannot be run: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let words = String::from_utf8_lossy(&output.stderr);
            Err(format!("{name}: {}", words.lines().next().unwrap_or("failed")))
        }
    }
}

fn is_root() -> bool {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Memory, if it has room for the images of several tests, else wherever temporary files go.
fn roomy_directory() -> TempDir {
    const ROOM_BYTES: u64 = 2 << 30;
    let memory = Path::new("/dev/shm");
    let in_memory = free_bytes(memory).is_some_and(|free| free >= ROOM_BYTES);
    let made = if in_memory { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary directory can be made")
}

/// Free bytes of the file system that a path lies on.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let path = std::ffi::CString::new(path.to_str()?).ok()?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is a C string, and the place is one `statvfs` large.
    let result = unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) };
    // SAFETY: the call succeeded, so it filled the place.
    (result == 0).then(|| unsafe { stat.assume_init() }).map(|stat| stat.f_bavail * stat.f_frsize)
}

/// Stops a file system at once, without writing anything more.
fn shut_down(mount_point: &Path) {
    const SHUTDOWN: libc::c_ulong = 0x8004_587d;
    const WITHOUT_LOG_FLUSH: u32 = 2;
    let root = File::open(mount_point).expect("the mount point opens");
    // SAFETY: the request reads one u32, which lives until the call is over.
    let result = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN as _, &WITHOUT_LOG_FLUSH) };
    assert_eq!(result, 0, "shutdown: {}", std::io::Error::last_os_error());
}
