//! A disk with a volatile write cache, in a process of its own.
//!
//! It is a FUSE file system with one file, on which a loop device is put. It runs apart from the
//! test, because a process that waits for its own disk could not even be killed. The test talks to
//! it by lines: `after N SEED` cuts the power at the N-th write from now, `cut SEED` at once
//! (answered by `off` and how many writes were lost, kept and torn), `on` brings it back.

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::fuse::{self, Ask};
use crate::rng::Rng;

/// What a cut may tear a write at.
const SECTOR_BYTES: usize = 512;

enum Power {
    On,
    /// Goes off after so many more writes.
    Ending {
        writes: u64,
        seed: u64,
    },
    Off,
}

/// The disk as it is, and as it would be after a cut.
struct Device {
    power: Power,
    /// What reads return.
    seen: Vec<u8>,
    /// What is durable.
    durable: Vec<u8>,
    /// Writes since the last flush, in order.
    unflushed: Vec<(usize, Vec<u8>)>,
    counts: Counts,
}

/// Unflushed writes by what a cut did to them.
#[derive(Default)]
struct Counts {
    lost: u64,
    kept: u64,
    torn: u64,
}

/// The child: serves the image at `image` as `disk` in the directory `argument`.
pub fn serve(image: &Path, argument: &str) {
    let durable = std::fs::read(image).expect("the image is read");
    let device = Device {
        power: Power::On,
        seen: durable.clone(),
        durable,
        unflushed: Vec::new(),
        counts: Counts::default(),
    };
    let device = Arc::new(Mutex::new(device));
    let kernel = mounted(argument);
    println!("ready");
    let served = Arc::clone(&device);
    std::thread::spawn(move || {
        answer_all(kernel, &served);
        std::process::exit(0);
    });
    for line in std::io::stdin().lock().lines() {
        obey(&line.expect("a command is text"), &mut device.lock());
    }
    // The test is gone or done: without a server every request fails, so nothing hangs on it.
    std::process::exit(0);
}

fn mounted(directory: &str) -> File {
    let kernel = File::options().read(true).write(true).open("/dev/fuse");
    let kernel = kernel.expect("root opens the FUSE device");
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", kernel.as_raw_fd());
    let text = |text: &str| std::ffi::CString::new(text).expect("there is no zero byte in it");
    let (source, target) = (text("ringdb-disk"), text(directory));
    let (kind, options) = (text("fuse"), text(&options));
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: all five are whole C strings that live until the call is over.
    let result = unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast())
    };
    assert_eq!(result, 0, "FUSE is mounted: {}", std::io::Error::last_os_error());
    kernel
}

/// Answers until the file system is unmounted.
fn answer_all(mut kernel: File, device: &Mutex<Device>) {
    let mut request = vec![0; fuse::WRITE_BYTES_MAX + 8192];
    loop {
        let len = match kernel.read(&mut request) {
            Ok(len) => len,
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return,
            // A request was taken back before we saw it.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(error) => panic!("reading a request failed: {error}"),
        };
        let mut device = device.lock();
        let request = fuse::parse(&request[..len], device.seen.len() as u64);
        let outcome = match request.ask {
            Ask::Forget => continue,
            Ask::Other(answer) => answer,
            Ask::Read { offset, len } => device.read(offset, len).map(<[u8]>::to_vec),
            Ask::Write { offset, bytes } => {
                device.write(offset, bytes).map(|()| fuse::written(bytes.len()))
            }
            Ask::Flush => device.flush().map(|()| Vec::new()),
        };
        let answer = fuse::answer(request.id, outcome.as_deref().map_err(|errno| *errno));
        // An answer that nobody waits for any more is refused; nothing depends on it.
        let _ = kernel.write(&answer);
    }
}

fn obey(line: &str, device: &mut Device) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |text: &str| text.parse().expect("commands have numbers");
    match words[..] {
        ["after", writes, seed] => {
            device.power = Power::Ending { writes: number(writes), seed: number(seed) };
        }
        ["cut", seed] => {
            device.cut(number(seed));
            let Counts { lost, kept, torn } = std::mem::take(&mut device.counts);
            println!("off {lost} {kept} {torn}");
        }
        ["on"] => {
            device.power = Power::On;
            println!("on");
        }
        _ => panic!("{line:?} is no command"),
    }
}

impl Device {
    fn powered(&self) -> Result<(), i32> {
        match self.power {
            Power::On | Power::Ending { .. } => Ok(()),
            Power::Off => Err(libc::EIO),
        }
    }

    fn read(&self, offset: usize, len: usize) -> Result<&[u8], i32> {
        self.powered()?;
        let end = (offset + len).min(self.seen.len());
        Ok(&self.seen[offset.min(end)..end])
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), i32> {
        if let Power::Ending { writes, seed } = &mut self.power {
            match writes.checked_sub(1) {
                Some(left) => *writes = left,
                None => {
                    let seed = *seed;
                    // The write that met the cut was on its way, too.
                    self.unflushed.push((offset, bytes.to_vec()));
                    self.cut(seed);
                }
            }
        }
        self.powered()?;
        self.seen[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.unflushed.push((offset, bytes.to_vec()));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), i32> {
        self.powered()?;
        for (offset, bytes) in self.unflushed.drain(..) {
            self.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(())
    }

    /// The power goes, and with it the cache. Without effect when it is off already.
    fn cut(&mut self, seed: u64) {
        if let Power::Off = self.power {
            return;
        }
        self.power = Power::Off;
        let mut rng = Rng::new(seed);
        let mut pending = std::mem::take(&mut self.unflushed);
        let touched: Vec<_> =
            pending.iter().map(|(offset, bytes)| *offset..offset + bytes.len()).collect();
        while !pending.is_empty() {
            // The cache empties itself in any order.
            let (offset, bytes) = pending.swap_remove(rng.below(pending.len()));
            self.survive(&mut rng, offset, &bytes);
        }
        for range in touched {
            self.seen[range.clone()].copy_from_slice(&self.durable[range]);
        }
    }

    /// One unflushed write is lost, kept, cut short, or kept in some of its sectors.
    fn survive(&mut self, rng: &mut Rng, offset: usize, bytes: &[u8]) {
        let count = bytes.len().div_ceil(SECTOR_BYTES);
        let kept: Vec<bool> = match rng.below(4) {
            0 => vec![false; count],
            1 => vec![true; count],
            2 => {
                let border = rng.below(count + 1);
                (0..count).map(|n| n < border).collect()
            }
            _ => (0..count).map(|_| rng.one_in(2)).collect(),
        };
        match kept.iter().filter(|kept| **kept).count() {
            0 => self.counts.lost += 1,
            whole if whole == count => self.counts.kept += 1,
            _ => self.counts.torn += 1,
        }
        for (n, sector) in bytes.chunks(SECTOR_BYTES).enumerate().filter(|(n, _)| kept[*n]) {
            let start = offset + n * SECTOR_BYTES;
            self.durable[start..start + sector.len()].copy_from_slice(sector);
        }
    }
}

#[test]
fn a_cut_takes_only_what_no_flush_covered() {
    let image = vec![0; 64 << 10];
    let mut device = Device {
        power: Power::On,
        seen: image.clone(),
        durable: image,
        unflushed: Vec::new(),
        counts: Counts::default(),
    };
    device.write(0, &[1; 4096]).unwrap();
    device.flush().unwrap();
    for n in 1..15 {
        device.write(n * 4096, &[2; 4096]).unwrap();
    }
    device.power = Power::Ending { writes: 0, seed: 3 };
    assert_eq!(device.write(15 * 4096, &[2; 4096]), Err(libc::EIO));
    assert_eq!(device.read(0, 1), Err(libc::EIO));
    assert_eq!(device.flush(), Err(libc::EIO));
    device.power = Power::On;
    assert_eq!(device.read(0, 4096).unwrap(), [1; 4096]);
    assert!(device.seen == device.durable && device.unflushed.is_empty());
    let Counts { lost, kept, torn } = device.counts;
    assert!(lost > 0 && kept > 0 && torn > 0 && lost + kept + torn == 15);
}
