//! Replaying the log: every chapter, segment by segment, group by group.
//!
//! A group counts if it is whole, of the expected life and chained to the one before. Where the
//! groups of a segment end, the log may go on in the successor; if it does not, the end is either
//! a torn tail or corruption, and the blocks behind it tell which. (I4, I7)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringdb_uring::Io;
use ringdb_uring::planted::{self, Bug};

use crate::commit::{apply_op, charge_bytes, row_kind};
use crate::error::Result;
use crate::format::Defect;
use crate::format::catalog::FAMILIES_MAX;
use crate::format::chapter::{Chapter, ChapterEnd};
use crate::format::commits::{Commit, commits};
use crate::format::group::GROUP_HEADER_BYTES;
use crate::format::record::Op;
use crate::format::replay::{Expect, Groups, Life, Located, check_tail};
use crate::format::segment::SEGMENT_HEADER_BYTES;
use crate::ids::{Extent, FamilyId, Generation, Incarnation, Seq};
use crate::log::{Segment, UsedSegment};
use crate::memtable::Pool;
use crate::options::Shares;
use crate::recovery::apart::Apart;
use crate::recovery::chain::{Chain, Read};
use crate::recovery::rows::{Number, Rows};
use crate::recovery::{Found, corrupt};
use crate::state::Family;

/// What the log held.
pub(super) struct Replayed {
    /// Every family of the catalog as it is at the end of the log, with its memtable.
    pub(super) families: BTreeMap<FamilyId, Arc<Family>>,
    /// Families of the catalog that the log dropped; their trees are still on disk.
    pub(super) dropped: BTreeMap<FamilyId, Arc<Family>>,
    /// Families that have rows in memory now.
    pub(super) touched: BTreeMap<FamilyId, Arc<Family>>,
    /// Extents of large values that the log names.
    pub(super) values: Vec<Extent>,
    /// Segments that hold the log.
    pub(super) segments: Vec<UsedSegment>,
    /// Segments without anything to replay, which the superblock names until the next one.
    pub(super) passing: Vec<Extent>,
    /// The chapters that have commits which no tree has, with their ends.
    pub(super) chapters: Vec<Chapter>,
    pub(super) next_family: FamilyId,
    pub(super) last: Seq,
    pub(super) commits: u64,
    /// Memory that the commits were charged for.
    pub(super) charged_bytes: usize,
    pub(super) log_bytes: u64,
    pub(super) tail: String,
    /// What memtables take their memory from.
    pub(super) pool: Arc<Pool>,
    /// The last rows, on their way into their memtables.
    applying: Option<Apart<Rows, usize>>,
}

impl Replayed {
    /// Ends when all rows are in their memtables.
    pub(super) fn settle(&mut self) {
        self.charged_bytes += self.applying.take().map_or(0, Apart::wait);
    }
}

/// Of the memory for a replay this part is for segments that are read ahead, the rest for rows that wait to be sorted.
const AHEAD_SHARE: usize = 4;

/// Replays all, beside the memtables in about as much memory as the page cache may take. The last rows may still be on their way into
/// their memtables.
pub(super) async fn replay(io: &Io, found: &Found, shares: &Shares) -> Result<Replayed> {
    let mut replay = Replay::new(io, found, shares);
    let chapters = &found.superblock.chapters;
    for chapter in chapters {
        replay.chapter(*chapter).await?;
    }
    replay.apply();
    Ok(replay.out)
}

const UNKNOWN_FAMILY: Defect = Defect { what: "record of an unknown column family", at: 0 };

struct Replay<'a> {
    io: &'a Io,
    file_id: [u8; 16],
    generation: Generation,
    checkpoint_seq: Seq,
    names: BTreeSet<Arc<str>>,
    ahead_bytes_max: usize,
    rows: Rows,
    out: Replayed,
}

impl<'a> Replay<'a> {
    fn new(io: &'a Io, found: &Found, shares: &Shares) -> Replay<'a> {
        // What the page cache may take is free: nothing was read yet.
        let bytes_max = shares.cache_bytes_max;
        let pool = Pool::new(shares.memtable_bytes_max);
        let superblock = &found.superblock;
        let families = found.catalog.iter().map(|entry| {
            let (name, logging) = (&entry.name, entry.options.logging);
            let family = Family::new(entry.id, name, logging, Seq(0), &pool);
            (entry.id, family)
        });
        let out = Replayed {
            families: families.collect(),
            dropped: BTreeMap::new(),
            touched: BTreeMap::new(),
            values: Vec::new(),
            segments: Vec::new(),
            passing: Vec::new(),
            chapters: Vec::new(),
            next_family: superblock.next_family,
            last: superblock.checkpoint_seq,
            commits: 0,
            charged_bytes: 0,
            log_bytes: 0,
            tail: "clean".to_owned(),
            pool,
            applying: None,
        };
        Replay {
            io,
            file_id: superblock.file_id,
            generation: superblock.generation,
            checkpoint_seq: superblock.checkpoint_seq,
            names: found.catalog.iter().map(|entry| entry.name.as_str().into()).collect(),
            ahead_bytes_max: bytes_max / AHEAD_SHARE,
            rows: Rows::new(bytes_max - bytes_max / AHEAD_SHARE),
            out,
        }
    }

    /// Replays one incarnation's log to its end, known or found.
    async fn chapter(&mut self, chapter: Chapter) -> Result<()> {
        let incarnation = chapter.incarnation;
        let commits_before = self.out.commits;
        let first = Segment { extent: chapter.segment.extent, ordinal: chapter.segment.ordinal };
        let mut expect = Expect {
            life: Life { incarnation, ordinal: first.ordinal },
            previous_crc: None,
            after: Seq(0),
        };
        let last_ordinal = chapter.end.map(|end| end.ordinal);
        let (file_id, bytes_max) = (&self.file_id, self.ahead_bytes_max);
        let mut chain =
            Chain::find(self.io, file_id, incarnation, first, last_ordinal, bytes_max).await?;
        let read = chain.next().await?;
        let Some(mut current) = read.filter(|read| read.successor.is_some()) else {
            let detail = format!("segment at offset {}", first.extent.start.byte_offset());
            return Err(corrupt(self.io, "the first segment of the log is damaged", &detail));
        };
        let mut end = ChapterEnd {
            last_seq: self.out.last,
            last_crc: 0,
            ordinal: first.ordinal,
            offset_bytes: SEGMENT_HEADER_BYTES as u64,
        };
        // The last segment with groups and what was read behind it, to be searched for proof that a group is missing.
        let mut ending: Vec<Read> = Vec::new();
        let mut segments = Vec::new();
        loop {
            let mut groups = Groups::new(&current.bytes, &self.file_id, expect);
            let (mut any, mut end_bytes) = (false, SEGMENT_HEADER_BYTES as u64);
            for located in groups.by_ref() {
                if is_past(&chapter, current.segment.ordinal, located.offset_bytes) {
                    break;
                }
                self.group(&located, &current)?;
                any = true;
                end_bytes = located.offset_bytes + located.group.padded_bytes() as u64;
                end = ChapterEnd {
                    last_seq: located.group.header.last_seq,
                    last_crc: located.group.crc,
                    ordinal: current.segment.ordinal,
                    offset_bytes: end_bytes,
                };
            }
            self.out.log_bytes += groups.offset_bytes();
            segments.push(UsedSegment { segment: current.segment, end_bytes, last: end.last_seq });
            if any {
                ending.clear();
            }
            let life = Life { incarnation, ordinal: current.segment.ordinal + 1 };
            expect = match any {
                true if planted::is(Bug::HoleSkipped) => {
                    Expect { life, previous_crc: None, after: end.last_seq }
                }
                true => Expect { life, previous_crc: Some(end.last_crc), after: end.last_seq },
                // The first group of an incarnation repeats 0; a first segment without groups is
                // one that its first group did not fit into.
                false => Expect { life, previous_crc: expect.previous_crc.or(Some(0)), ..expect },
            };
            ending.push(current);
            match chain.next().await? {
                Some(read) if read.successor.is_some() => current = read,
                Some(read) => {
                    self.check_without_head(&read, life)?;
                    break;
                }
                None => break,
            }
        }
        // What lies behind the end will not be replayed again: it is free.
        segments.retain(|used: &UsedSegment| used.segment.ordinal <= end.ordinal);
        let is_needed = self.out.commits > commits_before;
        match is_needed {
            true => self.out.segments.append(&mut segments),
            false => self.out.passing.extend(segments.iter().map(|used| used.segment.extent)),
        }
        match chapter.end {
            Some(known) if known != end => {
                let detail =
                    format!("it ends at seq {}, {} expected", end.last_seq.0, known.last_seq.0);
                return Err(corrupt(self.io, "the log is damaged", &detail));
            }
            Some(_) => {}
            None => self.check_end(chain, &ending, incarnation, end).await?,
        }
        self.out.last = self.out.last.max(end.last_seq);
        if is_needed {
            self.out.chapters.push(Chapter { end: Some(end), ..chapter });
        }
        Ok(())
    }

    /// Looks through all behind the end. The rows that wait are put into their memtables meanwhile, if that takes a while.
    async fn check_end(
        &mut self,
        chain: Chain<'_>,
        ending: &[Read],
        incarnation: Incarnation,
        end: ChapterEnd,
    ) -> Result<()> {
        if self.rows.are_slow() {
            self.out.settle();
            self.out.applying = Some(Apart::begin(self.rows.take(), Rows::apply));
        }
        self.out.tail = format!("ended at seq {}", end.last_seq.0);
        for read in ending.iter().filter(|read| read.segment.ordinal >= end.ordinal) {
            self.check_tail(read, incarnation, end)?;
        }
        let mut suspects = chain.suspects().await?;
        while let Some(read) = suspects.next().await? {
            let life = Life { incarnation, ordinal: read.segment.ordinal };
            match read.successor {
                Some(_) => self.check_tail(&read, incarnation, end)?,
                None => self.check_without_head(&read, life)?,
            }
        }
        Ok(())
    }

    /// A head is durable before its segment takes a group: a group of the expected life behind a
    /// head that does not say so proves that the head is damaged.
    fn check_without_head(&self, read: &Read, life: Life) -> Result<()> {
        let behind = SEGMENT_HEADER_BYTES as u64;
        check_tail(&read.bytes, &self.file_id, life, behind, Seq(0)).map_err(|_| {
            let offset = read.segment.extent.start.byte_offset();
            let detail = format!("segment at offset {offset}, ordinal {}", life.ordinal);
            corrupt(self.io, "the head of a log segment is damaged", &detail)
        })
    }

    fn group(&mut self, located: &Located<'_>, read: &Read) -> Result<()> {
        let group = &located.group;
        let place = read.segment.extent.start.byte_offset() + located.offset_bytes;
        if group.header.generation > self.generation {
            let detail = format!("offset {place}: generation {}", group.header.generation.0);
            return Err(corrupt(self.io, "the newest superblock is lost", &detail));
        }
        if group.header.last_seq <= self.checkpoint_seq || group.header.commits == 0 {
            return Ok(());
        }
        self.rows.are_in(&read.bytes);
        let payload_at = located.offset_bytes as usize + GROUP_HEADER_BYTES;
        for commit in commits(group) {
            let applied = commit.and_then(|commit| self.commit(&commit, group.payload, payload_at));
            applied.map_err(|defect| {
                corrupt(
                    self.io,
                    "a record of the log is malformed",
                    &format!("offset {place}: {defect}"),
                )
            })?;
        }
        if self.rows.are_many() {
            self.apply();
        }
        Ok(())
    }

    /// Puts the rows that were read into their memtables.
    fn apply(&mut self) {
        let rows = self.rows.take();
        if !rows.is_empty() {
            self.out.settle();
            self.out.charged_bytes += rows.apply();
        }
    }

    fn commit(
        &mut self,
        commit: &Commit<'_>,
        payload: &[u8],
        payload_at: usize,
    ) -> std::result::Result<(), Defect> {
        if commit.seq <= self.checkpoint_seq {
            return Ok(());
        }
        self.out.commits += 1;
        for found in commit.ops.clone() {
            let found = found?;
            match &found.op {
                Op::CreateFamily { id, name, options } => {
                    self.take_name(name)?;
                    if self.out.families.len() >= FAMILIES_MAX || *id == FamilyId(u32::MAX) {
                        return Err(Defect { what: "there are too many column families", at: 0 });
                    }
                    let pool = &self.out.pool;
                    let family = Family::new(*id, name, options.logging, commit.seq, pool);
                    let was_dropped = self.out.dropped.contains_key(id);
                    if self.out.families.insert(*id, family).is_some() || was_dropped {
                        return Err(Defect { what: "a column family is created twice", at: 0 });
                    }
                    self.out.next_family = self.out.next_family.max(FamilyId(id.0 + 1));
                }
                Op::DropFamily { id } => {
                    let family = self.out.families.remove(id).ok_or(UNKNOWN_FAMILY)?;
                    self.names.remove(&family.name());
                    self.rows.end_family(*id);
                    family.mark_dropped(commit.seq);
                    self.out.dropped.insert(*id, family);
                }
                Op::RenameFamily { id, name } => {
                    self.take_name(name)?;
                    let family = self.out.families.get(id).ok_or(UNKNOWN_FAMILY)?;
                    self.names.remove(&family.name());
                    family.rename(name);
                }
                op => {
                    if let Op::PutExtent { value, .. } = op {
                        self.out.values.push(value.extent);
                    }
                    self.out.charged_bytes += charge_bytes(found.row.len(), 1, 0);
                    match row_kind(op) {
                        Some(kind) => {
                            let family = self.number(op.family())?;
                            self.rows.push(commit.seq, family, kind, &found, payload_at);
                        }
                        None => apply_op(commit.seq, self.touch(op.family())?, &found, payload),
                    }
                    if planted::is(Bug::HalfBatch) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// The number that the rows of a family have; it is touched once it has one.
    fn number(&mut self, id: FamilyId) -> std::result::Result<Number, Defect> {
        if let Some(number) = self.rows.number(id) {
            return Ok(number);
        }
        let family = self.touch(id)?.clone();
        Ok(self.rows.number_anew(&family))
    }

    /// A family that gets something into its memtable.
    fn touch(&mut self, id: FamilyId) -> std::result::Result<&Arc<Family>, Defect> {
        let family = self.out.families.get(&id).ok_or(UNKNOWN_FAMILY)?;
        self.out.touched.entry(id).or_insert_with(|| {
            self.out.charged_bytes += charge_bytes(0, 0, 1);
            family.clone()
        });
        Ok(family)
    }

    /// Names are unique at every seq.
    fn take_name(&mut self, name: &str) -> std::result::Result<(), Defect> {
        match self.names.insert(name.into()) {
            true => Ok(()),
            false => Err(Defect { what: "two column families have one name", at: 0 }),
        }
    }

    /// Tells a torn tail from corruption, by what one segment has behind the end.
    fn check_tail(&self, read: &Read, incarnation: Incarnation, end: ChapterEnd) -> Result<()> {
        if planted::is(Bug::LogCutAtDamage) {
            return Ok(());
        }
        let missing = Seq(end.last_seq.0 + 1);
        let from = match read.segment.ordinal == end.ordinal {
            true => end.offset_bytes,
            false => SEGMENT_HEADER_BYTES as u64,
        };
        let life = Life { incarnation, ordinal: read.segment.ordinal };
        let checked = check_tail(&read.bytes, &self.file_id, life, from, missing);
        checked.map_err(|defect| {
            let at = read.segment.extent.start.byte_offset() + defect.at;
            let detail = format!("offset {at}, seq {}: {}", missing.0, defect.what);
            corrupt(self.io, "the log is damaged in the middle", &detail)
        })
    }
}

/// Whether a group lies behind the known end of its chapter: it was rolled back once and stays so.
fn is_past(chapter: &Chapter, ordinal: u64, offset: u64) -> bool {
    chapter.end.is_some_and(|end| (ordinal, offset) >= (end.ordinal, end.offset_bytes))
}
