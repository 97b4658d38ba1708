//! Reading the log back: which groups of a segment count, and what it means that they end.
//!
//! Groups are read from the front as long as each is intact, of the expected life of the segment, chained to the one before and
//! later in seq. Where that ends there are three cases, and only the bytes tell them apart:
//!
//! - **The log goes on in the successor**, because the next group did not fit: then the successor's first group repeats the checksum
//!   of the last group here. The caller tries that with [`Groups::into_next`].
//! - **A torn tail**: the last write before a crash did not finish. Nobody was told that it is durable. The log ends here.
//! - **Corruption**: the group was durable once. One log write is in flight at a time, so a later group of the same life that names
//!   a durable seq at or above the missing one proves it: [`check_tail`].
//!
//! What a value holds cannot pass for such a proof by chance, even if it is a copy of this log: groups that were written before name
//! smaller durable seqs. Rejected: to call every end with a later intact group corruption, which would need no durable seq but would
//! forbid two log writes in flight for ever.

use super::Defect;
use super::checksum::FileId;
use super::group::{Group, Peek, open, padded_bytes, peek, peek_front};
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::ids::{BLOCK_BYTES, Incarnation, Seq};

/// One life of the pages of a segment: no two segments, at any time, share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// Whose log.
    pub incarnation: Incarnation,
    /// Place in the chain of segments.
    pub ordinal: u64,
}

/// What the first group to be read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expect {
    /// The segment's life.
    pub life: Life,
    /// Checksum of the group before, if that is known.
    pub previous_crc: Option<u32>,
    /// Seqs of groups are above this one.
    pub after: Seq,
}

/// How the groups of a segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// They fill it.
    EndOfSegment,
    /// There is no group that counts at this offset from the front of the segment.
    InvalidAt { offset_bytes: u64, why: Defect },
}

/// A group that counts, and where it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Located<'a> {
    /// The group.
    pub group: Group<'a>,
    /// From the front of the segment.
    pub offset_bytes: u64,
}

/// Iterates over the groups of a segment that count.
#[derive(Clone, Debug)]
pub(crate) struct Groups<'a> {
    segment: &'a [u8],
    file_id: FileId,
    expect: Expect,
    at: usize,
    end: Option<End>,
}

impl<'a> Groups<'a> {
    /// Reads all bytes of a segment, its head included.
    pub(crate) fn new(segment: &'a [u8], file_id: &FileId, expect: Expect) -> Groups<'a> {
        Groups { segment, file_id: *file_id, expect, at: SEGMENT_HEADER_BYTES, end: None }
    }

    #[cfg(test)]
    /// How they ended; nothing before the iterator did.
    pub(crate) fn end(&self) -> Option<End> {
        self.end
    }

    #[cfg(test)]
    /// The last seq that was read, or that was to be followed if there was no group.
    pub(crate) fn last_seq(&self) -> Seq {
        self.expect.after
    }

    /// Where the next group would begin, from the front of the segment.
    pub(crate) fn offset_bytes(&self) -> u64 {
        self.at as u64
    }

    #[cfg(test)]
    /// What the first group of the successor has to be for the log to go on there.
    ///
    /// Nothing if no checksum is known: then a group here is missing, and nothing behind it may count.
    pub(crate) fn into_next(self) -> Option<Expect> {
        self.expect.previous_crc?;
        let Life { incarnation, ordinal } = self.expect.life;
        let life = Life { incarnation, ordinal: ordinal.checked_add(1)? };
        Some(Expect { life, ..self.expect })
    }

    fn step(&mut self) -> Result<Group<'a>, Defect> {
        let rest = &self.segment[self.at..];
        let life =
            peek(rest).map(|peek| Life { incarnation: peek.incarnation, ordinal: peek.segment });
        if life.is_some_and(|life| life != self.expect.life) {
            return Err(Defect { what: "group is of another life", at: 0 });
        }
        let group = open(rest, &self.file_id)?;
        let header = &group.header;
        if self.expect.previous_crc.is_some_and(|crc| crc != header.previous_crc) {
            return Err(Defect { what: "group does not follow the one before", at: 12 });
        }
        if header.first_seq <= self.expect.after {
            return Err(Defect { what: "group goes back in seq", at: 32 });
        }
        Ok(group)
    }
}

impl<'a> Iterator for Groups<'a> {
    type Item = Located<'a>;

    fn next(&mut self) -> Option<Located<'a>> {
        if self.end.is_some() {
            return None;
        }
        if self.at >= self.segment.len() {
            self.end = Some(End::EndOfSegment);
            return None;
        }
        let offset_bytes = self.at as u64;
        match self.step() {
            Ok(group) => {
                self.at += group.padded_bytes();
                self.expect.previous_crc = Some(group.crc);
                self.expect.after = group.header.last_seq;
                Some(Located { group, offset_bytes })
            }
            Err(defect) => {
                let why = defect.shifted(offset_bytes);
                self.end = Some(End::InvalidAt { offset_bytes, why });
                None
            }
        }
    }
}

/// What could be a group of this life, by its front; it has so many bytes to the end of its segment.
pub(crate) fn candidate(front: &[u8], rest_bytes: u64, life: Life) -> Option<Peek> {
    let is_alike =
        |peek: &Peek| peek.incarnation == life.incarnation && peek.segment == life.ordinal;
    peek_front(front, rest_bytes).filter(is_alike)
}

/// Whether a segment has a whole head, and whole groups one behind the other up to `end_bytes`.
pub(crate) fn is_whole(segment: &[u8], file_id: &FileId, end_bytes: u64) -> bool {
    let mut at = SEGMENT_HEADER_BYTES;
    while (at as u64) < end_bytes {
        let Some(Ok(group)) = segment.get(at..).map(|rest| open(rest, file_id)) else {
            return false;
        };
        at += group.padded_bytes();
    }
    at as u64 == end_bytes && SegmentHeader::decode(segment, file_id).is_ok()
}

/// Checksums over at most this many times the segment's bytes decide about a tail: a file made to look full of groups costs no more.
const EFFORT_MAX: u64 = 4;

/// Whether the log may end at `from` in this segment: no group from there on says that `missing` was durable.
///
/// `missing` is the seq after the last that was read. Asked again for each later segment of the chain, with `from` behind its head.
///
/// # Errors
///
/// The defect says what proves the corruption, and at which offset of the segment.
pub(crate) fn check_tail(
    segment: &[u8],
    file_id: &FileId,
    life: Life,
    from: u64,
    missing: Seq,
) -> Result<(), Defect> {
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(segment.len());
    let first = from.next_multiple_of(BLOCK_BYTES);
    let mut effort = EFFORT_MAX.saturating_mul(segment.len() as u64);
    for at in (first..segment.len()).step_by(BLOCK_BYTES) {
        let rest = &segment[at..];
        let Some(candidate) = candidate(rest, rest.len() as u64, life) else {
            continue;
        };
        let cost = padded_bytes(candidate.len_bytes as usize) as u64;
        let at = at as u64;
        effort = effort
            .checked_sub(cost)
            .ok_or(Defect { what: "more broken groups than a torn tail leaves", at })?;
        if open(rest, file_id).is_ok_and(|group| group.header.durable >= missing) {
            return Err(Defect { what: "a later group says that the missing one was durable", at });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::group::tests::FILE_ID;
    use super::super::group::{GROUP_HEADER_BYTES, GroupHeader, seal};
    use super::super::mutate::Chance;
    use super::*;
    use crate::ids::Generation;

    const LIFE: Life = Life { incarnation: Incarnation(4), ordinal: 6 };
    const SEGMENT_BYTES: usize = 16 * BLOCK_BYTES;

    /// Writes groups one at a time, as the log does.
    struct Log {
        segment: Vec<u8>,
        life: Life,
        at: usize,
        crc: u32,
        seq: u64,
    }

    impl Log {
        fn new(life: Life, crc: u32, seq: u64) -> Log {
            Log { segment: vec![0; SEGMENT_BYTES], life, at: SEGMENT_HEADER_BYTES, crc, seq }
        }

        /// A group of one commit, whose payload is not looked at here.
        fn group(&mut self, payload_bytes: usize) -> usize {
            self.write(payload_bytes, 1)
        }

        fn seal(&mut self) -> usize {
            self.write(0, 0)
        }

        fn write(&mut self, payload_bytes: usize, commits: u32) -> usize {
            let header = GroupHeader {
                len_bytes: payload_bytes as u32,
                previous_crc: self.crc,
                incarnation: self.life.incarnation,
                segment: self.life.ordinal,
                first_seq: Seq(self.seq + 1),
                last_seq: Seq(self.seq + u64::from(commits)),
                durable: Seq(self.seq),
                generation: Generation(1),
                commits,
            };
            let at = self.at;
            let buf = &mut self.segment[at..];
            buf[GROUP_HEADER_BYTES..][..payload_bytes].fill(0x5A);
            let sealed = seal(buf, &header, &FILE_ID);
            (self.at, self.crc) = (at + sealed.len_bytes, sealed.crc);
            self.seq += u64::from(commits);
            at
        }

        fn expect(&self) -> Expect {
            Expect { life: LIFE, previous_crc: None, after: Seq(0) }
        }

        /// Last seqs of the groups that count, how they ended, and what the tail is.
        fn replay(&self) -> (Vec<u64>, End, Result<(), Defect>) {
            let mut groups = Groups::new(&self.segment, &FILE_ID, self.expect());
            let seqs = groups.by_ref().map(|found| found.group.header.last_seq.0).collect();
            let missing = Seq(groups.last_seq().0 + 1);
            let from = groups.offset_bytes();
            let tail = check_tail(&self.segment, &FILE_ID, LIFE, from, missing);
            (seqs, groups.end().unwrap(), tail)
        }
    }

    fn invalid(at: usize, what: &'static str, why_at: usize) -> End {
        End::InvalidAt { offset_bytes: at as u64, why: Defect { what, at: why_at as u64 } }
    }

    #[test]
    fn a_blank_block_ends_the_log() {
        let mut log = Log::new(LIFE, 0, 0);
        log.group(100);
        log.group(5000);
        let end = invalid(4096 + 4096 + 8192, "there is no group", 16384);
        assert_eq!(log.replay(), (vec![1, 2], end, Ok(())));
    }

    #[test]
    fn groups_may_fill_the_segment() {
        let mut log = Log::new(LIFE, 0, 0);
        log.group(14 * BLOCK_BYTES);
        assert_eq!(log.replay(), (vec![1], End::EndOfSegment, Ok(())));
    }

    #[test]
    fn torn_group_ends_the_log() {
        let mut log = Log::new(LIFE, 0, 0);
        log.group(100);
        let torn = log.group(9000);
        for sector in 1..18 {
            let mut log = Log { segment: log.segment.clone(), ..log };
            let cut = torn + sector * 512;
            log.segment[cut..].fill(0xEE);
            let end = invalid(torn, "group checksum does not match", torn);
            assert_eq!(log.replay(), (vec![1], end, Ok(())), "sector {sector}");
        }
    }

    #[test]
    fn every_flipped_byte_before_a_sealed_group_is_corruption() {
        let mut log = Log::new(LIFE, 0, 0);
        log.group(100);
        let flipped = log.group(5000);
        let sealed = log.seal();
        assert_eq!(log.replay().2, Ok(()));
        for at in 0..GROUP_HEADER_BYTES + 5000 {
            log.segment[flipped + at] ^= 0x10;
            let (seqs, _, tail) = log.replay();
            let what = "a later group says that the missing one was durable";
            assert_eq!((seqs, tail), (vec![1], Err(Defect { what, at: sealed as u64 })));
            log.segment[flipped + at] ^= 0x10;
        }
    }

    #[test]
    fn a_flipped_byte_in_the_seal_costs_no_commit() {
        let mut log = Log::new(LIFE, 0, 0);
        log.group(100);
        let sealed = log.seal();
        for at in 0..GROUP_HEADER_BYTES {
            log.segment[sealed + at] ^= 1;
            assert_eq!((log.replay().0, log.replay().2), (vec![1], Ok(())));
            log.segment[sealed + at] ^= 1;
        }
    }

    #[test]
    fn flipped_padding_changes_nothing() {
        let mut log = Log::new(LIFE, 0, 0);
        let at = log.group(100);
        log.segment[at + GROUP_HEADER_BYTES + 100..at + BLOCK_BYTES].fill(9);
        assert_eq!(log.replay().0, [1]);
    }

    #[test]
    fn stale_group_of_an_older_life_ends_the_log() {
        for older in [Life { incarnation: Incarnation(3), ..LIFE }, Life { ordinal: 5, ..LIFE }] {
            let mut stale = Log::new(older, 0, 0);
            for _ in 0..4 {
                stale.group(100);
            }
            stale.seal();
            let mut log = Log::new(LIFE, 0, 10);
            log.segment = stale.segment;
            let at = log.group(100) + BLOCK_BYTES;
            let end = invalid(at, "group is of another life", at);
            assert_eq!(log.replay(), (vec![11], end, Ok(())));
        }
    }

    #[test]
    fn a_lost_write_before_a_later_group_is_corruption() {
        let mut log = Log::new(LIFE, 0, 0);
        log.group(100);
        let lost = log.group(100);
        let later = log.group(100);
        log.segment[lost..later].fill(0);
        let (seqs, end, tail) = log.replay();
        assert_eq!((seqs, end), (vec![1], invalid(lost, "there is no group", lost)));
        assert_eq!(tail.unwrap_err().at, later as u64);
    }

    #[test]
    fn a_group_in_the_place_of_a_missing_one_is_corruption() {
        let mut log = Log::new(LIFE, 0, 0);
        log.group(100);
        let lost = log.group(100);
        let later = log.group(100);
        log.segment.copy_within(later..later + BLOCK_BYTES, lost);
        log.segment[later..].fill(0);
        let (seqs, end, tail) = log.replay();
        let why = "group does not follow the one before";
        assert_eq!((seqs, end), (vec![1], invalid(lost, why, lost + 12)));
        assert_eq!(tail.unwrap_err().at, lost as u64);
    }

    #[test]
    fn a_copy_of_an_older_group_proves_nothing() {
        let mut log = Log::new(LIFE, 0, 0);
        let first = log.group(100);
        let torn = log.group(9000);
        log.segment.copy_within(first..first + BLOCK_BYTES, torn + BLOCK_BYTES);
        let (seqs, _, tail) = log.replay();
        assert_eq!((seqs, tail), (vec![1], Ok(())));
    }

    #[test]
    fn the_log_goes_on_in_the_successor_only_where_the_chain_does() {
        let mut log = Log::new(LIFE, 0, 0);
        log.group(100);
        let next_life = Life { ordinal: LIFE.ordinal + 1, ..LIFE };
        let mut next = Log::new(next_life, log.crc, log.seq);
        next.group(100);
        let mut groups = Groups::new(&log.segment, &FILE_ID, log.expect());
        assert_eq!(groups.by_ref().count(), 1);
        let expect = groups.into_next().unwrap();
        assert_eq!(expect.life, next_life);
        assert_eq!(Groups::new(&next.segment, &FILE_ID, expect).count(), 1);
        let gone = Expect { previous_crc: Some(log.crc ^ 1), ..expect };
        let mut groups = Groups::new(&next.segment, &FILE_ID, gone);
        assert_eq!((groups.next(), groups.into_next().is_some()), (None, true));
        let empty = Log::new(LIFE, 0, 0);
        let mut groups = Groups::new(&empty.segment, &FILE_ID, empty.expect());
        assert_eq!((groups.next(), groups.into_next()), (None, None));
    }

    #[test]
    fn a_segment_full_of_broken_groups_is_refused_within_bounds() {
        let mut log = Log::new(LIFE, 0, 0);
        log.group(15 * BLOCK_BYTES - GROUP_HEADER_BYTES);
        let head = log.segment[SEGMENT_HEADER_BYTES..][..GROUP_HEADER_BYTES].to_vec();
        for block in 1..16 {
            let fits = (16 - block) * BLOCK_BYTES - GROUP_HEADER_BYTES;
            let place = &mut log.segment[block * BLOCK_BYTES..][..GROUP_HEADER_BYTES];
            place.copy_from_slice(&head);
            place[0] ^= 1;
            place[8..12].copy_from_slice(&(fits as u32).to_le_bytes());
        }
        let what = "more broken groups than a torn tail leaves";
        let tail = check_tail(&log.segment, &FILE_ID, LIFE, 4096, Seq(1));
        assert_eq!(tail.unwrap_err().what, what);
        assert_eq!(check_tail(&log.segment, &FILE_ID, LIFE, u64::MAX, Seq(1)), Ok(()));
    }

    #[test]
    fn damaged_segments_never_panic() {
        let mut chance = Chance::new(8);
        for round in 0..3_000 {
            let mut log = Log::new(LIFE, 0, 0);
            for _ in 0..3 {
                log.group(8 + chance.below(9000) as usize);
            }
            log.seal();
            let segment_end = if round % 3 == 0 { 1 + chance.below(65535) as usize } else { 65536 };
            log.segment.truncate(segment_end);
            chance.damage(&mut log.segment);
            let (seqs, ..) = log.replay();
            assert!(seqs.len() <= 4);
        }
    }
}
