//! A look behind the end of the log, for groups that prove that one is missing.
//!
//! Segments without a first group hold none, as a rule: they were made ready, and the process ended. Nothing of them is kept, so a
//! few buffers do for all of them, and memory that was never touched before, which costs more than the read, is not needed.

use std::collections::VecDeque;

use ringdb_uring::{Buf, Io};

use super::chain::Headed;
use crate::error::Result;
use crate::format::replay::{Life, candidate};
use crate::format::segment::SEGMENT_HEADER_BYTES;
use crate::ids::{BLOCK_BYTES, Incarnation};
use crate::recovery::{corrupt, io_error};

/// Bytes that are read at a time.
const PIECE_BYTES: u64 = 1 << 20;
/// Pieces that are being read at a time, at most: little enough for the buffers to stay in a processor's cache.
const AHEAD: u64 = 4;

/// Where the first group of a segment begins, from its front.
const FIRST_GROUP_AT: u64 = SEGMENT_HEADER_BYTES as u64;

/// A part of a segment.
struct Piece {
    /// The segment, in the order in which they are given.
    index: usize,
    from: u64,
    len: u64,
}

/// Those segments that have a block in which a group of their own life could begin.
pub(super) async fn suspects(
    io: &Io,
    incarnation: Incarnation,
    segments: &[Headed],
    bytes_max: u64,
) -> Result<Vec<Headed>> {
    let mut pieces = segments.iter().enumerate().flat_map(|(index, headed)| {
        let len_bytes = headed.segment.extent.len_bytes();
        let starts = (FIRST_GROUP_AT..len_bytes).step_by(PIECE_BYTES as usize);
        starts.map(move |from| Piece { index, from, len: PIECE_BYTES.min(len_bytes - from) })
    });
    let ahead = (bytes_max / PIECE_BYTES).clamp(1, AHEAD) as usize;
    let (mut reading, mut unused) = (VecDeque::with_capacity(ahead), Vec::with_capacity(ahead));
    let mut suspects: Vec<Headed> = Vec::new();
    loop {
        for piece in pieces.by_ref().take(ahead - reading.len()) {
            let start = segments[piece.index].segment.extent.start.byte_offset();
            let fits = |buf: &Buf| buf.len() as u64 == piece.len;
            let buf = unused.pop().filter(fits).unwrap_or_else(|| Buf::zeroed(piece.len as usize));
            reading.push_back((io.read(start + piece.from, buf), piece));
        }
        let Some((read, piece)) = reading.pop_front() else { return Ok(suspects) };
        let (result, buf) = read.await;
        let headed = segments[piece.index];
        let extent = headed.segment.extent;
        let offset = extent.start.byte_offset() + piece.from;
        result
            .map_err(|cause| io_error(io, &format!("reading at offset {offset} failed"), cause))?;
        let life = Life { incarnation, ordinal: headed.segment.ordinal };
        let mut blocks = (piece.from..).step_by(BLOCK_BYTES).zip(buf.chunks(BLOCK_BYTES));
        let is_candidate =
            |(at, front): &(u64, &[u8])| candidate(front, extent.len_bytes() - at, life).is_some();
        match blocks.find(is_candidate) {
            // It is one of those behind the end because there was none.
            Some((FIRST_GROUP_AT, _)) => {
                let detail = format!("offset {offset}");
                return Err(corrupt(io, "the log has a group that was not there before", &detail));
            }
            Some(_) if suspects.last().is_none_or(|last| last.segment != headed.segment) => {
                suspects.push(headed);
            }
            _ => {}
        }
        unused.push(buf);
    }
}
