//! The open group: commits that will share one log write and one sync.
//!
//! Small records are copied under the commit lock, since a copy of a few hundred bytes costs less
//! than a second visit. A larger one only reserves its bytes there; whoever closes the group
//! copies it, outside the lock.

use bytes::Bytes;
use ringdb_uring::Buf;

use crate::format::commits::{COMMIT_HEADER_BYTES, CommitHeader};
use crate::format::group::GROUP_HEADER_BYTES;
use crate::ids::{BLOCK_BYTES, Seq};

/// Records up to this size are copied under the commit lock.
const COPY_BYTES_MAX: usize = 4096;

/// Larger records a group may hold; bounds what the list of them costs.
const PIECES_MAX: usize = 512;

pub(crate) struct OpenGroup {
    buf: Buf,
    len: usize,
    pieces: Vec<(usize, Bytes)>,
    commits: u32,
    first: Seq,
}

impl OpenGroup {
    pub(crate) fn new(buf: Buf) -> OpenGroup {
        OpenGroup {
            buf,
            len: GROUP_HEADER_BYTES,
            pieces: Vec::with_capacity(PIECES_MAX),
            commits: 0,
            first: Seq(0),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commits == 0
    }

    pub(crate) fn commits(&self) -> u32 {
        self.commits
    }

    /// Bytes the group would write with so many commits more, of this size together.
    pub(crate) fn padded_with(&self, commits: usize, payload_bytes: usize) -> usize {
        padded(self.len + commits * COMMIT_HEADER_BYTES + payload_bytes)
    }

    /// Whether the buffer has room for so many commits more, of this size together.
    pub(crate) fn fits(&self, commits: usize, payload_bytes: usize) -> bool {
        self.padded_with(commits, payload_bytes) <= self.buf.len()
    }

    /// Whether the list has room for so many larger records more.
    pub(crate) fn lists(&self, pieces: usize) -> bool {
        self.pieces.len() + pieces <= PIECES_MAX
    }

    pub(crate) fn push(&mut self, seq: Seq, payload: &Bytes) {
        if self.commits == 0 {
            self.first = seq;
        }
        self.commits += 1;
        let header = CommitHeader {
            len_bytes: u32::try_from(payload.len()).expect("a batch is bounded far below 4 GiB"),
            seq_delta: u32::try_from(seq.0 - self.first.0).expect("places bound a group's seqs"),
        };
        let header = header.encode();
        let start = self.len + header.len();
        self.buf[self.len..start].copy_from_slice(&header);
        self.len = start + payload.len();
        if is_piece(payload.len()) {
            self.pieces.push((start, payload.clone()));
        } else {
            self.buf[start..self.len].copy_from_slice(payload);
        }
    }

    /// Takes the content and leaves an empty group on `next`.
    pub(crate) fn take(&mut self, next: Buf) -> ClosedGroup {
        ClosedGroup {
            buf: std::mem::replace(&mut self.buf, next),
            len: std::mem::replace(&mut self.len, GROUP_HEADER_BYTES),
            pieces: std::mem::replace(&mut self.pieces, Vec::with_capacity(PIECES_MAX)),
            commits: std::mem::take(&mut self.commits),
            first: self.first,
        }
    }

    /// Exchanges the buffer of an empty group for a larger one.
    pub(crate) fn enlarge(&mut self, buf: Buf) {
        assert!(self.is_empty(), "only an empty group changes its buffer");
        self.buf = buf;
    }

    pub(crate) fn capacity_bytes(&self) -> usize {
        self.buf.len()
    }
}

/// A group that takes no more commits.
pub(crate) struct ClosedGroup {
    pub(crate) buf: Buf,
    pub(crate) len: usize,
    pieces: Vec<(usize, Bytes)>,
    pub(crate) commits: u32,
    pub(crate) first: Seq,
}

impl ClosedGroup {
    /// Copies the larger records into the places they reserved.
    pub(crate) fn fill(&mut self) {
        for (start, payload) in self.pieces.drain(..) {
            self.buf[start..start + payload.len()].copy_from_slice(&payload);
        }
    }
}

/// Whether a record of this size is copied when the group closes.
pub(crate) fn is_piece(payload_bytes: usize) -> bool {
    payload_bytes > COPY_BYTES_MAX
}

/// The length a group takes in the log.
pub(crate) fn padded(len_bytes: usize) -> usize {
    len_bytes.next_multiple_of(BLOCK_BYTES)
}

/// Bytes of a buffer that holds one commit of this size alone.
pub(crate) fn buffer_bytes_for(payload_bytes: usize) -> usize {
    padded(GROUP_HEADER_BYTES + COMMIT_HEADER_BYTES + payload_bytes)
}
