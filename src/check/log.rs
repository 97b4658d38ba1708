//! The log: heads of segments, and every group up to where the log ended when the check began.

use ringdb_uring::Buf;

use super::Check;
use crate::commit::closed;
use crate::engine::Engine;
use crate::error::Result;
use crate::format::group;
use crate::format::segment::SegmentHeader;
use crate::log::{SEGMENT_BODY_BYTES, UsedSegment};

/// Bytes of log read at a time; a larger group is read whole.
const WINDOW_BYTES: u64 = 1 << 20;

/// The log as it was when the check began.
pub(super) struct Log {
    segments: Vec<UsedSegment>,
}

impl Log {
    /// As it is now.
    pub(super) fn of(engine: &Engine) -> Log {
        let order = engine.pipeline.order();
        let mut segments: Vec<_> = order.log.segments().collect();
        // Groups are written one at a time: all but the one in flight are there.
        if order.flight.is_some()
            && let Some(current) = segments.last_mut()
        {
            current.end_bytes = order.log.last_group_bytes();
        }
        Log { segments }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|used| used.end_bytes).sum()
    }
}

/// Why a segment is not what it should be: offset from its front, and what is there.
type Wrong = (u64, String);

impl Check {
    /// Verifies the log. What a checkpoint lets go meanwhile is not needed any more, and is passed
    /// over.
    pub(super) async fn log(&mut self, log: &Log) -> Result<()> {
        for used in &log.segments {
            match segment(&self.engine, used).await? {
                Ok(()) => self.report.log_bytes += used.end_bytes,
                Err((at, what)) if self.has_segment(used) => {
                    let extent = used.segment.extent;
                    let offset = extent.start.byte_offset() + at;
                    self.defect_at(None, offset, what);
                }
                Err(_) => {}
            }
            self.advance(used.end_bytes);
        }
        Ok(())
    }

    fn has_segment(&self, used: &UsedSegment) -> bool {
        let order = self.engine.pipeline.order();
        order.log.segments().any(|kept| kept.segment == used.segment)
    }
}

async fn segment(engine: &Engine, used: &UsedSegment) -> Result<std::result::Result<(), Wrong>> {
    let file_id = &engine.file_id;
    let bytes = match read_log(engine, used, 0, SEGMENT_BODY_BYTES).await? {
        Ok(bytes) => bytes,
        Err(wrong) => return Ok(Err(wrong)),
    };
    let header = match SegmentHeader::decode(&bytes, file_id) {
        Ok(header) => header,
        Err(defect) => return Ok(Err((0, defect.to_string()))),
    };
    if (header.extent, header.ordinal) != (used.segment.extent, used.segment.ordinal) {
        return Ok(Err((0, "a log segment is another one".to_owned())));
    }
    let (mut window, mut from) = (Buf::zeroed(0), SEGMENT_BODY_BYTES);
    let mut at = from;
    while at < used.end_bytes {
        let rest = used.end_bytes - at;
        let seen = &window[((at - from) as usize).min(window.len())..];
        match group::open(seen, file_id) {
            Ok(group) => {
                let head = group.header;
                if (head.incarnation, head.segment) != (header.incarnation, header.ordinal) {
                    return Ok(Err((at, "a group is of another log".to_owned())));
                }
                at += group.padded_bytes() as u64;
            }
            Err(defect) if seen.len() as u64 == rest => {
                return Ok(Err((at, defect.to_string())));
            }
            // The group may go on behind what was read.
            Err(_) => {
                let more = match seen.len() as u64 >= rest.min(WINDOW_BYTES) {
                    true => rest,
                    false => rest.min(WINDOW_BYTES),
                };
                window = match read_log(engine, used, at, more).await? {
                    Ok(bytes) => bytes,
                    Err(wrong) => return Ok(Err(wrong)),
                };
                from = at;
            }
        }
    }
    Ok(Ok(()))
}

async fn read_log(
    engine: &Engine,
    used: &UsedSegment,
    at: u64,
    len: u64,
) -> Result<std::result::Result<Buf, Wrong>> {
    let offset = used.segment.extent.start.byte_offset() + at;
    let (result, buf) = engine.io.read(offset, Buf::zeroed(len as usize)).await;
    match result {
        Ok(()) => Ok(Ok(buf)),
        Err(_) if engine.pipeline.is_closed() => Err(closed()),
        Err(cause) => Ok(Err((at, format!("reading the log failed: {cause}")))),
    }
}
