//! The log: one open group, and durable writes of one group after the other.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::Thread;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use ringdb_cli::exit::Failure;
use ringdb_cli::measure::bare::{Aligned, BLOCK_BYTES, Bare, FILE_BYTES, Method};

use super::order::Order;
use super::{Outcome, held};

/// Bytes of a group; whoever finds it full waits.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// Turns that a thread gives away before it sleeps, where there are few and where more of them wait than processors run.
const TURNS: [u32; 2] = [3, 24];
/// So many threads are few, on two processors.
const FEW_MAX: u32 = 5;
/// A thread that was not woken for so long writes the group itself: others have stopped.
const PATIENCE: Duration = Duration::from_millis(2);

/// Records on their way to the disk.
pub struct Log {
    bare: Bare,
    method: Method,
    /// Threads that put.
    writers: u32,
    group: Mutex<Group>,
    /// The open group wants the thread that writes.
    came: Condvar,
    /// Groups up to this number are durable.
    written: AtomicU64,
    /// A group could not be written: nothing waits for the log any more.
    failed: AtomicBool,
    /// Where the next group goes, in a memory that the disk takes.
    end: Mutex<(u64, Aligned)>,
}

#[derive(Default)]
struct Group {
    /// How many were taken before it.
    number: u64,
    records: u32,
    bytes: Vec<u8>,
    /// The last put that joined, in the order of those that are not synced.
    seq: u64,
    threads: Vec<Thread>,
    tasks: Vec<oneshot::Sender<()>>,
    /// So many records are waited for.
    wanted: u32,
    ended: bool,
}

impl Log {
    /// A file whose blocks are written already.
    pub fn create(directory: &Path, writers: u32) -> Outcome<Log> {
        let bare = Bare::create(directory)?;
        Ok(Log {
            method: bare.fastest()?,
            bare,
            writers,
            group: Mutex::new(Group { number: 1, ..Group::default() }),
            came: Condvar::new(),
            written: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            end: Mutex::new((0, Aligned::new(2 * GROUP_BYTES_MAX))),
        })
    }

    /// Hands a record in, and returns when it is durable. The last of all threads writes.
    pub fn write_together(&self, record: &[u8]) -> Outcome<()> {
        let mut group = held(&self.group);
        group.add(record);
        let number = group.number;
        if group.records >= self.writers {
            return self.write(group);
        }
        group.threads.push(std::thread::current());
        drop(group);
        let (mut turns, turns_max) = (0, TURNS[usize::from(self.writers > FEW_MAX)]);
        while self.written.load(Ordering::Acquire) < number {
            self.goes_on()?;
            if turns < turns_max {
                turns += 1;
                std::thread::yield_now();
                continue;
            }
            let slept = Instant::now();
            std::thread::park_timeout(PATIENCE);
            if slept.elapsed() >= PATIENCE {
                let group = held(&self.group);
                if group.number == number {
                    return self.write(group);
                }
            }
        }
        Ok(())
    }

    /// Takes the open group, writes it, and tells those who wait.
    fn write(&self, mut group: MutexGuard<'_, Group>) -> Outcome<()> {
        let next = Group {
            number: group.number + 1,
            seq: group.seq,
            ended: group.ended,
            ..Group::default()
        };
        let taken = std::mem::replace(&mut *group, next);
        drop(group);
        if let Err(failure) = self.write_out(&taken.bytes) {
            // Threads see it when they wake, tasks when their senders are gone.
            self.failed.store(true, Ordering::Release);
            held(&self.group).tasks.clear();
            return Err(failure);
        }
        self.written.store(taken.number, Ordering::Release);
        taken.threads.iter().for_each(Thread::unpark);
        // A task that went away waits for nothing.
        for task in taken.tasks {
            let _ = task.send(());
        }
        Ok(())
    }

    fn goes_on(&self) -> Outcome<()> {
        match self.failed.load(Ordering::Acquire) {
            true => Err(Failure::error("the log could not be written")),
            false => Ok(()),
        }
    }

    fn write_out(&self, bytes: &[u8]) -> Outcome<()> {
        let (offset, memory) = &mut *held(&self.end);
        let len = bytes.len().next_multiple_of(BLOCK_BYTES);
        let block = memory.bytes_mut().get_mut(..len).ok_or_else(|| Failure::error("too much"))?;
        block[..bytes.len()].copy_from_slice(bytes);
        std::hint::black_box(crc32c::crc32c(block));
        if *offset + len as u64 > FILE_BYTES {
            *offset = 0;
        }
        self.bare.write_durable(self.method, block, *offset)?;
        *offset += len as u64;
        Ok(())
    }

    /// Hands a task's record in; whether it is the first of all.
    pub fn push(&self, record: &[u8], done: oneshot::Sender<()>) -> bool {
        let mut group = held(&self.group);
        if self.goes_on().is_err() {
            // Its task hears of it, as nobody has the other end.
            return false;
        }
        group.add(record);
        group.tasks.push(done);
        let (is_first, records) = (group.number == 1 && group.records == 1, group.records);
        if records == 1 || records == group.wanted {
            self.came.notify_one();
        }
        is_first
    }

    /// Hands in a record that nobody waits for; its place in the order.
    pub fn push_in_order(&self, record: &[u8], order: &Order) -> Outcome<u64> {
        loop {
            self.goes_on()?;
            let mut group = held(&self.group);
            if group.ended {
                return Err(Failure::error("the log has ended"));
            }
            let has_room = group.bytes.len() + record.len() <= GROUP_BYTES_MAX;
            if has_room && order.has_place(group.seq + 1) {
                group.add(record);
                group.seq += 1;
                let seq = group.seq;
                if group.records == 1 {
                    self.came.notify_one();
                }
                return Ok(seq);
            }
            drop(group);
            std::thread::yield_now();
        }
    }

    /// Writes one group after the other. Behind one that woke tasks it waits for as many, or as long as that one took.
    pub fn write_until_the_end(&self) -> Outcome<()> {
        let (mut woken, mut took) = (0, Duration::ZERO);
        loop {
            let mut group = held(&self.group);
            while group.records == 0 && !group.ended {
                group = self.came.wait(group).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            let until = Instant::now() + took;
            group.wanted = woken;
            while group.records < woken && !group.ended {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let waited = self.came.wait_timeout(group, left);
                group = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            }
            if group.records == 0 {
                return Ok(());
            }
            woken = group.tasks.len() as u32;
            let start = Instant::now();
            self.write(group)?;
            took = start.elapsed();
        }
    }

    /// The thread that writes is to end when it has written what is there.
    pub fn end(&self) {
        held(&self.group).ended = true;
        self.came.notify_all();
    }
}

impl Group {
    fn add(&mut self, record: &[u8]) {
        self.records += 1;
        self.bytes.extend_from_slice(record);
    }
}
