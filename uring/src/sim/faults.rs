//! Faults of a simulated disk, each counted when it is really injected: a dead knob must show.

use std::collections::BTreeMap;
use std::ops::Range;

use rustix::io::Errno;

use crate::sim::SECTOR_BYTES;

/// Kinds of calls on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// A read.
    Read,
    /// A write, durable or not.
    Write,
    /// A sync of a file or a directory.
    Sync,
    /// Growth of a file.
    Grow,
    /// Cutting a file off.
    Shrink,
}

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// That call only.
    Once,
    /// That call and all later ones of its kind.
    Forever,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with `EIO`, once or for ever. What a failed write wrote is undefined.
    Fail(Times),
    /// It fails with `EINTR`, as if a signal had come; the call is to be made again.
    Interrupt,
    /// It transfers at most this many bytes; a read, the next multiple of a sector, because inside
    /// of one only the end of a file cuts it.
    Short(usize),
    /// It transfers so many bytes less than asked, but one at least; a read, see [`Fault::Short`].
    ShortBy(usize),
    /// A read returns this byte of its buffer with these bits flipped.
    Flip {
        /// Index of the byte in the transfer.
        byte: usize,
        /// Bits to flip.
        mask: u8,
    },
    /// A write reports success and writes nothing.
    Lose,
    /// The transfer goes to, or comes from, this offset instead.
    Misdirect(u64),
}

/// How often each fault was really injected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Calls that failed with `EIO`.
    pub failed: u64,
    /// Calls that failed with `EINTR`.
    pub interrupted: u64,
    /// Transfers cut short.
    pub short: u64,
    /// Reads with flipped bits.
    pub flipped: u64,
    /// Writes that were lost.
    pub lost: u64,
    /// Transfers that went elsewhere.
    pub misdirected: u64,
    /// Completions that came before those of calls made earlier.
    pub reordered: u64,
    /// Calls that found no space.
    pub no_space: u64,
    /// Reads of a bad range.
    pub bad: u64,
}

/// Calls of each kind so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Syncs.
    pub syncs: u64,
    /// Growths.
    pub grows: u64,
    /// Files cut off.
    pub shrinks: u64,
}

impl Calls {
    fn of(&mut self, call: Call) -> &mut u64 {
        match call {
            Call::Read => &mut self.reads,
            Call::Write => &mut self.writes,
            Call::Sync => &mut self.syncs,
            Call::Grow => &mut self.grows,
            Call::Shrink => &mut self.shrinks,
        }
    }
}

/// The plan of what is to go wrong.
#[derive(Clone, Default)]
pub(super) struct Plan {
    pub(super) calls: Calls,
    pub(super) injected: Injected,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) bad: Vec<Range<u64>>,
    once: BTreeMap<(Call, u64), Fault>,
    forever: BTreeMap<Call, u64>,
}

/// Bytes of whole sectors.
fn sectors(bytes: usize) -> usize {
    bytes.next_multiple_of(SECTOR_BYTES)
}

/// What a call is to do.
pub(super) struct Verdict {
    pub(super) offset: u64,
    pub(super) len: usize,
    pub(super) flip: Option<(usize, u8)>,
    pub(super) lost: bool,
}

impl Plan {
    /// The `nth` call of this kind from now on, 0 being the next, goes wrong.
    pub(super) fn add(&mut self, call: Call, nth: u64, fault: Fault) {
        let at = *self.calls.of(call) + nth;
        match fault {
            Fault::Fail(Times::Forever) => drop(self.forever.insert(call, at)),
            fault => drop(self.once.insert((call, at), fault)),
        }
    }

    /// Forgets all that is still to come; capacity and bad ranges too.
    pub(super) fn clear(&mut self) {
        *self = Plan { calls: self.calls, injected: self.injected, ..Plan::default() };
    }

    /// Counts a call and judges it.
    pub(super) fn judge(&mut self, call: Call, offset: u64, len: usize) -> Result<Verdict, Errno> {
        let number = *self.calls.of(call);
        *self.calls.of(call) += 1;
        if self.forever.get(&call).is_some_and(|&first| number >= first) {
            self.injected.failed += 1;
            return Err(Errno::IO);
        }
        let end = offset.saturating_add(len as u64);
        if call == Call::Read && self.bad.iter().any(|bad| bad.start < end && offset < bad.end) {
            self.injected.bad += 1;
            return Err(Errno::IO);
        }
        let verdict = Verdict { offset, len, flip: None, lost: false };
        match self.once.remove(&(call, number)) {
            None => Ok(verdict),
            Some(fault) => self.inject(call, fault, verdict),
        }
    }

    fn inject(&mut self, call: Call, fault: Fault, verdict: Verdict) -> Result<Verdict, Errno> {
        let injected = &mut self.injected;
        let cut = |len: usize| if call == Call::Read { sectors(len) } else { len };
        Ok(match fault {
            Fault::Fail(_) => {
                injected.failed += 1;
                return Err(Errno::IO);
            }
            Fault::Interrupt => {
                injected.interrupted += 1;
                return Err(Errno::INTR);
            }
            Fault::Short(len) if cut(len) < verdict.len => {
                injected.short += 1;
                Verdict { len: cut(len), ..verdict }
            }
            Fault::Short(_) => verdict,
            Fault::ShortBy(less) => {
                let len = cut(verdict.len.saturating_sub(less).max(1)).min(verdict.len);
                injected.short += u64::from(len < verdict.len);
                Verdict { len, ..verdict }
            }
            Fault::Flip { byte, mask } => {
                injected.flipped += 1;
                Verdict { flip: Some((byte, mask)), ..verdict }
            }
            Fault::Lose => {
                injected.lost += 1;
                Verdict { lost: true, ..verdict }
            }
            Fault::Misdirect(offset) => {
                injected.misdirected += 1;
                Verdict { offset, ..verdict }
            }
        })
    }
}
