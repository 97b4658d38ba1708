//! As much of the FUSE protocol as one file called `disk` needs, as plain bytes.
//!
//! Layouts are those of `linux/fuse.h`, protocol 7.31; little-endian machines only, like all of
//! this suite's machines.

/// Bytes before the body of a request, and of an answer.
pub const REQUEST_HEAD_BYTES: usize = 40;
const ANSWER_HEAD_BYTES: usize = 16;

/// Largest write that the kernel may send at once.
pub const WRITE_BYTES_MAX: usize = 1 << 20;

/// The directory and the file in it.
const ROOT: u64 = 1;
const DISK: u64 = 2;

/// What the kernel asks for, of those things that the file does itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    Read {
        offset: usize,
        len: usize,
    },
    Write {
        offset: usize,
        bytes: &'a [u8],
    },
    Flush,
    /// Answered from the protocol alone: an errno, or the body of an answer.
    Other(Result<Vec<u8>, i32>),
    /// Takes no answer.
    Forget,
}

/// A request, taken apart.
pub struct Request<'a> {
    pub id: u64,
    pub ask: Ask<'a>,
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let mut wide = [0; 8];
    wide[..len].copy_from_slice(&bytes[at..at + len]);
    u64::from_le_bytes(wide)
}

/// Takes a request apart; `disk_bytes` is the length of the file.
pub fn parse(request: &[u8], disk_bytes: u64) -> Request<'_> {
    let (operation, id) = (number(request, 4, 4), number(request, 8, 8));
    let (node, body) = (number(request, 16, 8), &request[REQUEST_HEAD_BYTES..]);
    let span = || (number(body, 8, 8) as usize, number(body, 16, 4) as usize);
    let ask = match operation {
        1 if body.strip_suffix(b"\0") == Some(b"disk") => Ask::Other(Ok(entry(disk_bytes))),
        1 => Ask::Other(Err(libc::ENOENT)),
        2 | 42 => Ask::Forget,
        3 => Ask::Other(Ok([&words(&[3600, 0])[..], &attributes(node, disk_bytes)].concat())),
        // Opened past the page cache, which would remember what the cut took away.
        14 | 27 => Ask::Other(Ok(words(&[0, 1]))),
        15 => {
            let (offset, len) = span();
            Ask::Read { offset, len }
        }
        16 => {
            let (offset, len) = span();
            Ask::Write { offset, bytes: &body[40..40 + len] }
        }
        17 => Ask::Other(Ok(words(&[0, 0, 0, 0, 0, 255 << 32 | 4096, 4096, 0, 0, 0]))),
        18 | 25 | 29 | 38 => Ask::Other(Ok(Vec::new())),
        20 => Ask::Flush,
        26 => Ask::Other(Ok(greeting(body))),
        _ => Ask::Other(Err(libc::ENOSYS)),
    };
    Request { id, ask }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Protocol version, large writes and reads side by side.
fn greeting(body: &[u8]) -> Vec<u8> {
    const ASYNC_READ: u64 = 1;
    const BIG_WRITES: u64 = 1 << 5;
    const MAX_PAGES: u64 = 1 << 22;
    let flags = number(body, 12, 4) & (ASYNC_READ | BIG_WRITES | MAX_PAGES);
    let readahead = number(body, 8, 4);
    let (background, pages) = (12 << 16 | 16, (WRITE_BYTES_MAX / 4096) as u64);
    let write = WRITE_BYTES_MAX as u64;
    words(&[
        31 << 32 | 7,
        flags << 32 | readahead,
        write << 32 | background,
        pages << 32 | 1,
        0,
        0,
        0,
        0,
    ])
}

/// What a name stands for: node, generation, and how long both may be believed.
fn entry(disk_bytes: u64) -> Vec<u8> {
    [words(&[DISK, 0, 3600, 3600, 0]), attributes(DISK, disk_bytes)].concat()
}

fn attributes(node: u64, disk_bytes: u64) -> Vec<u8> {
    let (mode, len) = match node {
        ROOT => (0o040_700, 0),
        _ => (0o100_600, disk_bytes),
    };
    let nodes = [node, len, len / 512, 0, 0, 0];
    // Nanoseconds of three times, mode and links, owner, device and block size, flags.
    words(&[&nodes[..], &[0, mode << 32, 1, 0, 4096 << 32]].concat())
}

/// The answer to a request.
pub fn answer(id: u64, outcome: Result<&[u8], i32>) -> Vec<u8> {
    let (errno, body) = match outcome {
        Ok(body) => (0, body),
        Err(errno) => (-errno, &[][..]),
    };
    let len = (ANSWER_HEAD_BYTES + body.len()) as u32;
    [&len.to_le_bytes()[..], &errno.to_le_bytes(), &id.to_le_bytes(), body].concat()
}

/// The body of the answer to a write of so many bytes.
pub fn written(len: usize) -> Vec<u8> {
    words(&[len as u64])
}
