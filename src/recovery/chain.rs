//! The segments of a log, read one behind the other, and ahead of need.
//!
//! The head of each names the next. All heads are read first, with the block behind each, which tells whether the segment has groups:
//! the first one begins there. Up to the last segment that has some all are read whole, so that the device always has segments to
//! read while others are replayed; those behind it, made ready for groups that never came, are looked through in pieces.

use std::collections::VecDeque;
use std::sync::Arc;

use ringdb_uring::{Buf, Io, TRANSFER_BYTES_MAX};

use crate::error::{Error, Result};
use crate::format::checksum::FileId;
use crate::format::replay::{Life, candidate};
use crate::format::segment::{Remains, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentRef};
use crate::ids::{Extent, Incarnation, PAGE_BYTES};
use crate::log::Segment;
use crate::recovery::{behind, corrupt, io_error, read};

/// Segments that are being read at a time, at most.
const AHEAD: usize = 6;
/// The head of a segment and the block behind it, in one page: no segment is shorter.
const FRONT_BYTES: usize = PAGE_BYTES;
const _: () = assert!(FRONT_BYTES > SEGMENT_HEADER_BYTES);

/// The segments of one incarnation's log that are still to come.
pub(super) struct Chain<'a> {
    io: &'a Io,
    incarnation: Incarnation,
    segments: VecDeque<Headed>,
    /// Those behind the last one that has groups.
    behind: Vec<Headed>,
    reading: VecDeque<ringdb_uring::Read>,
    /// Segments that are read ahead together are no longer, unless it is one.
    bytes_max: u64,
}

/// A segment whose head was read.
#[derive(Clone, Copy)]
pub(super) struct Headed {
    pub(super) segment: Segment,
    successor: Option<Extent>,
    /// The block behind its head looks like the first group.
    has_groups: bool,
}

/// A segment that was read whole.
pub(super) struct Read {
    pub(super) segment: Segment,
    /// What its head names; nothing if the head does not say that it is the segment that is expected.
    pub(super) successor: Option<Extent>,
    pub(super) bytes: Arc<Buf>,
}

impl<'a> Chain<'a> {
    /// Finds the segments from the first on. Nothing is behind one without its head, one that is not in the file or longer than a
    /// segment can be, and the last one, if that is known.
    pub(super) async fn find(
        io: &'a Io,
        file_id: &FileId,
        incarnation: Incarnation,
        first: Segment,
        last_ordinal: Option<u64>,
        bytes_max: usize,
    ) -> Result<Chain<'a>> {
        let (mut segments, mut next) = (VecDeque::new(), Some(first));
        // The first one is always read: the log begins in it.
        let (mut with_groups, mut bytes) = (1, 0);
        // Place of the first segment whose head is damaged.
        let mut damaged = None;
        while let Some(segment) = next.take() {
            let extent = segment.extent;
            bytes += extent.len_bytes();
            let is_inside = extent.end().byte_offset() <= io.len_bytes();
            // Segments lie apart, and those that are read at the end of the log are kept in memory until it is proved.
            let can_be = extent.len_bytes() <= TRANSFER_BYTES_MAX as u64 && bytes <= io.len_bytes();
            if extent.is_empty() || !is_inside || !can_be {
                break;
            }
            let front = read(io, extent.start.byte_offset(), FRONT_BYTES).await?;
            let successor = match remains(&front, file_id, incarnation, segment) {
                Remains::Whole(successor) => Some(successor),
                Remains::Damaged(named) if !segments.is_empty() => {
                    if !leads_on(io, file_id, incarnation, segment, named).await? {
                        return Err(head_is_damaged(io, segment));
                    }
                    damaged.get_or_insert(segments.len());
                    Some(named)
                }
                Remains::Damaged(_) | Remains::Nothing => None,
            };
            let has_groups = begins_with_group(&front, incarnation, segment);
            segments.push_back(Headed { segment, successor, has_groups });
            if has_groups {
                with_groups = segments.len();
            }
            if last_ordinal.is_none_or(|last| segment.ordinal < last) {
                let ordinal = segment.ordinal + 1;
                next = successor.map(|extent| Segment { extent, ordinal });
            }
        }
        if let Some(place) = damaged
            && place < with_groups
        {
            return Err(head_is_damaged(io, segments[place].segment));
        }
        let behind = segments.split_off(with_groups.min(segments.len())).into();
        let reading = VecDeque::with_capacity(AHEAD);
        let bytes_max = bytes_max as u64;
        Ok(Chain { io, incarnation, segments, behind, reading, bytes_max })
    }

    /// Goes on with those segments behind the last one with groups in which there could be groups all the same, behind a first one that
    /// is damaged.
    pub(super) async fn suspects(self) -> Result<Chain<'a>> {
        let suspects = behind::suspects(self.io, self.incarnation, &self.behind, self.bytes_max);
        let segments = suspects.await?.into();
        Ok(Chain { segments, behind: Vec::new(), ..self })
    }

    /// The next segment, up to the last one that has groups, or the last suspect.
    pub(super) async fn next(&mut self) -> Result<Option<Read>> {
        self.read_ahead();
        let Some(read) = self.reading.pop_front() else { return Ok(None) };
        let (result, bytes) = read.await;
        let headed = self.segments.pop_front().expect("it was being read");
        let Headed { segment, successor, has_groups } = headed;
        // The device is not to wait for what becomes of this one.
        self.read_ahead();
        let what = || format!("reading at offset {} failed", segment.extent.start.byte_offset());
        result.map_err(|cause| io_error(self.io, &what(), cause))?;
        if has_groups && !begins_with_group(&bytes, self.incarnation, segment) {
            let detail = format!("segment at offset {}", segment.extent.start.byte_offset());
            return Err(corrupt(
                self.io,
                "the log has no group where there was one before",
                &detail,
            ));
        }
        Ok(Some(Read { segment, successor, bytes: Arc::new(bytes) }))
    }

    fn read_ahead(&mut self) {
        let mut bytes = 0;
        for (index, Headed { segment, .. }) in self.segments.iter().take(AHEAD).enumerate() {
            let extent = segment.extent;
            bytes += extent.len_bytes();
            if index > 0 && bytes > self.bytes_max {
                break;
            }
            if index == self.reading.len() {
                let buf = Buf::zeroed(extent.len_bytes() as usize);
                self.reading.push_back(self.io.read(extent.start.byte_offset(), buf));
            }
        }
    }
}

fn remains(front: &[u8], file_id: &FileId, incarnation: Incarnation, segment: Segment) -> Remains {
    let head = front.first_chunk().expect("a front begins with a head");
    let known = SegmentRef { extent: segment.extent, ordinal: segment.ordinal };
    SegmentHeader::remains(head, known, (file_id, incarnation))
}

/// Whether the pages that a damaged head names are the next segment: that one gets its head when this one is durable. Groups may lie
/// behind it though its own segment has none, as a large one does not fit into every segment; where it leads to no other head,
/// nobody knows. All that a head says lies in one sector, so no torn write leaves one that is damaged.
async fn leads_on(
    io: &Io,
    file_id: &FileId,
    incarnation: Incarnation,
    segment: Segment,
    named: Extent,
) -> Result<bool> {
    if named.is_empty() || named.end().byte_offset() > io.len_bytes() {
        return Ok(false);
    }
    let front = read(io, named.start.byte_offset(), FRONT_BYTES).await?;
    let next = Segment { extent: named, ordinal: segment.ordinal + 1 };
    Ok(matches!(remains(&front, file_id, incarnation, next), Remains::Whole(_)))
}

fn head_is_damaged(io: &Io, segment: Segment) -> Error {
    let (offset, ordinal) = (segment.extent.start.byte_offset(), segment.ordinal);
    let detail = format!("segment at offset {offset}, ordinal {ordinal}");
    corrupt(io, "the head of a log segment is damaged", &detail)
}

/// Whether the first block behind the head of a segment looks like a group of its own life.
fn begins_with_group(bytes: &[u8], incarnation: Incarnation, segment: Segment) -> bool {
    let rest_bytes = segment.extent.len_bytes() - SEGMENT_HEADER_BYTES as u64;
    let life = Life { incarnation, ordinal: segment.ordinal };
    candidate(&bytes[SEGMENT_HEADER_BYTES..], rest_bytes, life).is_some()
}
