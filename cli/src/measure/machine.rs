//! What the numbers were measured on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The machine, as far as durable writes care.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Of the program that measures.
    pub commit: &'static str,
    /// Name, release and architecture.
    pub kernel: String,
    /// Processors that may be used.
    pub cores: usize,
    /// File system and mount options.
    pub file_system: String,
    /// Device, its write cache and whether it writes through (FUA).
    pub device: String,
}

impl Machine {
    /// Looks at the machine and at what `directory` is on.
    pub fn look(directory: &Path) -> Machine {
        let uname = rustix::system::uname();
        let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let mount = mount_of(directory);
        Machine {
            commit: option_env!("RINGDB_COMMIT").unwrap_or("unknown"),
            kernel: [uname.sysname(), uname.release(), uname.machine()].map(part).join(" "),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            file_system: file_system(directory, mount.as_ref()),
            device: mount.as_ref().map_or_else(|| "unknown".to_owned(), device),
        }
    }
}

/// A line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    device: String,
    point: PathBuf,
    options: String,
    kind: String,
    source: String,
}

/// The mount that a directory is on, where the platform tells.
pub fn mount_of(directory: &Path) -> Option<Mount> {
    let directory = fs::canonicalize(directory).ok()?;
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    // Of mounts over the same point, the last covers the others.
    text.lines()
        .filter_map(mount)
        .filter(|mount| directory.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())
}

impl Mount {
    /// Whether it is memory: what is durable there is lost with the power.
    pub fn is_memory(&self) -> bool {
        matches!(self.kind.as_str(), "tmpfs" | "ramfs")
    }
}

/// Reads a line: `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/vda rw`.
fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(2);
    let (device, _root, point, options) = (left.next()?, left.next()?, left.next()?, left.next()?);
    let mut right = right.split(' ');
    let (kind, source, more) = (right.next()?, right.next()?, right.next().unwrap_or(""));
    let more = more.split(',').filter(|option| !options.split(',').any(|o| o == *option));
    let options: Vec<&str> = options.split(',').chain(more).filter(|o| !o.is_empty()).collect();
    Some(Mount {
        device: device.to_owned(),
        point: PathBuf::from(unescaped(point)),
        options: options.join(","),
        kind: kind.to_owned(),
        source: unescaped(source),
    })
}

/// Spaces, tabs, newlines and backslashes are three octal digits there.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

fn file_system(directory: &Path, mount: Option<&Mount>) -> String {
    let magic = magic(directory);
    match (mount, magic) {
        (Some(mount), Some(magic)) => {
            format!("{} (magic {magic:#x}), {}", mount.kind, mount.options)
        }
        (Some(mount), None) => format!("{}, {}", mount.kind, mount.options),
        (None, Some(magic)) => format!("magic {magic:#x}"),
        (None, None) => "unknown".to_owned(),
    }
}

#[cfg(target_os = "linux")]
fn magic(directory: &Path) -> Option<u64> {
    rustix::fs::statfs(directory).ok().and_then(|stat| u64::try_from(stat.f_type).ok())
}

#[cfg(not(target_os = "linux"))]
fn magic(_directory: &Path) -> Option<u64> {
    None
}

fn device(mount: &Mount) -> String {
    let Some(directory) = block_device(mount) else {
        return format!("{}: no block device", mount.source);
    };
    let name =
        directory.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let read = |what: &str| {
        let text = fs::read_to_string(directory.join("queue").join(what)).ok()?;
        Some(text.trim().to_owned())
    };
    let unknown = || "unknown".to_owned();
    let cache = read("write_cache").unwrap_or_else(unknown);
    let fua = match read("fua").as_deref() {
        Some("0") => "no",
        Some(_) => "yes",
        None => "unknown",
    };
    let scheduler = read("scheduler").unwrap_or_else(unknown);
    format!("{name}: write cache {cache}, FUA {fua}, scheduler {scheduler}")
}

/// The directory of the whole disk under `/sys`.
fn block_device(mount: &Mount) -> Option<PathBuf> {
    let of = |numbers: &str| fs::canonicalize(format!("/sys/dev/block/{numbers}")).ok();
    // File systems that span devices have numbers of their own; their source may still be a device.
    let directory = of(&mount.device).or_else(|| {
        let rdev = fs::metadata(&mount.source).ok()?.rdev();
        of(&format!("{}:{}", rustix::fs::major(rdev), rustix::fs::minor(rdev)))
    })?;
    match directory.join("partition").exists() {
        true => directory.parent().map(Path::to_path_buf),
        false => Some(directory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_lines_are_read() {
        let line =
            r"36 35 98:0 / /mnt/a\040b rw,noatime master:1 - ext4 /dev/vda rw,errors=continue";
        let expected = Mount {
            device: "98:0".to_owned(),
            point: PathBuf::from("/mnt/a b"),
            options: "rw,noatime,errors=continue".to_owned(),
            kind: "ext4".to_owned(),
            source: "/dev/vda".to_owned(),
        };
        assert_eq!(mount(line), Some(expected));
    }

    #[test]
    fn other_lines_are_none() {
        for line in ["", "36 35 98:0 / /mnt rw", "36 35 - ext4 /dev/vda rw"] {
            assert_eq!(mount(line), None, "{line}");
        }
    }

    #[test]
    fn memory_is_told_from_disks() {
        let kind =
            |kind| mount(&format!("1 2 0:5 / /tmp rw - {kind} none rw")).unwrap().is_memory();
        assert!(kind("tmpfs") && !kind("ext4"));
    }
}
