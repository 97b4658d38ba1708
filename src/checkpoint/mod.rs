//! Checkpoints: frozen memtables into the trees, then one superblock that says so.
//!
//! 1. *Freeze.* Successors in front of every memtable that has commits; then the seq F is chosen
//!    under the commit lock. Commits go on into the successors.
//! 2. *Wait* until all up to F are visible; then no insert into a frozen memtable is under way.
//! 3. *Flush* each frozen memtable: into the newest tree of its family, or as a new one. New nodes
//!    go to free pages only (I2), in key order, with a bounded amount of them unsynced, because
//!    each commit's flush carries them.
//! 4. *Write* catalog and free map, sync, then the superblock's two copies. (I6)
//! 5. *Publish* the new roots; retire what the old ones alone named; release log segments.
//!
//! Between checkpoints, trees are merged by size, a slice at a time, each published like a
//! checkpoint that has nothing frozen. When nobody commits they are merged down to one, and what is free at the end of the file by
//! then is cut off (`shrink`).
//!
//! A checkpoint that finds the disk full gives its pages back and leaves the frozen memtables
//! where readers see them; the next attempt merges the same ones. A failed write poisons. (I8)
//!
//! It runs on a thread of its own together with the keeper of the log, as futures: a merge gives way at every page it waits for and after every bounded piece of work.

mod compaction;
mod compactions;
mod estimate;
mod filters;
mod flush;
mod freeze;
mod idle;
mod ingest;
pub(crate) mod inlet;
pub(crate) mod keeper;
pub(crate) mod load;
mod merge;
pub(crate) mod pieces;
mod policy;
pub(crate) mod publish;
mod reader;
mod rows;
mod shrink;
mod sources;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::channel::oneshot;

use crate::blocking::{wait_for, work_for};
use crate::commit::Gate;
use crate::engine::{Command, Engine, Loaded};
use crate::error::{ErrorKind, Result};
use crate::format::superblock::CHAPTERS_MAX;
use crate::state::Tree;

use compactions::{Compactions, Sliced};
use flush::Means;
use freeze::Frozen;
use idle::Idle;
use keeper::Keeper;
use policy::TREES_AT_MOST;
use shrink::{Shrinking, Step};

/// Logs of crashed openings that are kept before a checkpoint joins them: a superblock names few,
/// and an opening that crashes before it has done so leaves one more only if it took commits.
const CHAPTERS_DUE: usize = 4;

/// Runs until the database is closed or abandoned.
pub(crate) fn run(engine: Arc<Engine>, keeper: Keeper) {
    if engine.superblock.lock().chapters.len() > CHAPTERS_DUE {
        engine.pipeline.checkpointer.raise();
    }
    let ran = catch_unwind(AssertUnwindSafe(|| serve(&engine, keeper)));
    if ran.is_err() {
        // Nobody is left to answer: whoever waits gets an error, and the file is let go.
        engine.poison_by_panic();
    }
    engine.stop_commands();
    wait_for(engine.io.close());
}

fn serve(engine: &Arc<Engine>, keeper: Keeper) {
    let stop = crate::commit::signal::Signal::default();
    work_for(&engine.io, async {
        let keeping = keeper.run(engine, &stop);
        let checkpointing = async {
            Checkpointer::new(engine).run().await;
            stop.raise();
            engine.pipeline.keeper.raise();
        };
        futures::join!(keeping, checkpointing, filters::load(engine));
    });
}

/// Makes room for the logs of openings to come, before this one accepts commits: however often it
/// crashes from now on, a superblock can name the log it leaves.
pub(crate) fn join_chapters(engine: &Arc<Engine>) -> Result<()> {
    if engine.superblock.lock().chapters.len() <= CHAPTERS_MAX / 2 {
        return Ok(());
    }
    wait_for(Checkpointer::new(engine).checkpoint())
}

struct Checkpointer<'a> {
    engine: &'a Arc<Engine>,
    /// Memtables that a failed attempt left behind.
    frozen: Option<Frozen>,
    compactions: Compactions,
    /// Those who wait for every family to have one tree.
    compacting: Vec<oneshot::Sender<Result<()>>>,
    shrinking: Shrinking,
    idle: Idle,
}

impl<'a> Checkpointer<'a> {
    fn new(engine: &'a Arc<Engine>) -> Checkpointer<'a> {
        let compactions = Compactions::new(engine);
        let (frozen, compacting, idle) = (None, Vec::new(), Idle::Unknown);
        let shrinking = Shrinking::new();
        Checkpointer { engine, frozen, compactions, compacting, shrinking, idle }
    }

    async fn run(mut self) {
        loop {
            self.idle.wait(self.engine, &mut self.compactions, &self.shrinking).await;
            for command in self.engine.take_commands() {
                match command {
                    Command::Checkpoint(reply) => {
                        drop(reply.send(self.checkpoint_all().await));
                    }
                    Command::Compact(reply) => self.begin_compacting(reply).await,
                    Command::Ingest(loaded, reply) => {
                        drop(reply.send(self.ingest(*loaded).await));
                    }
                    Command::Between(work) => work.await,
                    Command::Close(reply) => {
                        let closed = self.close().await;
                        // The file's lock goes before the caller is told.
                        self.engine.io.close().await;
                        drop(reply.send(closed));
                        return;
                    }
                    Command::Abandon => return self.finish().await,
                }
            }
            match self.compacting.is_empty() {
                true => self.idle.look(self.engine, &mut self.compactions, &mut self.shrinking),
                false => self.idle.end(self.engine),
            }
            if self.engine.pipeline.failure().is_none() && self.is_due() {
                self.checkpoint_or_stall().await;
            }
            if self.compact_some().await {
                self.engine.pipeline.checkpointer.raise();
            }
            self.bound_snapshots();
        }
    }

    /// Memtables are half full or hold a sequence, the log is long, or somebody waits for memory.
    fn is_due(&self) -> bool {
        let order = self.engine.pipeline.order();
        order.memory.is_half_active()
            || order.has_sequence()
            || order.log.used_bytes() > self.engine.shares.log_bytes_max
            || order.is_log_padded(self.engine.shares.padded_log_bytes_max)
            || order.memory.frozen > 0
            || order.ranges_wanted
            || self.engine.superblock.lock().chapters.len() > CHAPTERS_DUE
            || order.memory_wanted && order.memory.active > 0
    }

    /// Merges a slice of some trees, or goes on to shorten the file once those are merged that were to be. Says whether to look
    /// for more at once.
    async fn compact_some(&mut self) -> bool {
        if let Some(failure) = self.engine.pipeline.failure() {
            self.compacted(&Err(failure));
            return false;
        }
        let merged = self.merge_some().await;
        let is_asked = !self.compacting.is_empty() || self.idle.is_merging();
        if !is_asked || !self.compactions.are_merged() {
            return merged;
        }
        match self.shorten_some().await {
            Ok(Step::Some | Step::Checkpoint) => true,
            Ok(Step::Waits) => merged,
            Ok(Step::Done) => {
                self.compacted(&Ok(()));
                merged
            }
            Err(cause) => {
                self.shrinking.give_up(self.engine);
                // Without room to move anything the trees are merged all the same.
                let full = cause.kind() == ErrorKind::NoSpace;
                self.compacted(&if full { Ok(()) } else { Err(cause) });
                merged
            }
        }
    }

    /// Merges a slice of some trees, if there are any to be merged and there is room.
    async fn merge_some(&mut self) -> bool {
        match self.compactions.slice(self.engine).await {
            Sliced::Some => true,
            Sliced::Nothing => false,
            Sliced::SetAside(cause) => {
                self.compacted(&Err(cause));
                true
            }
            Sliced::Postponed(cause) => {
                self.compacted(&Err(cause));
                false
            }
        }
    }

    async fn shorten_some(&mut self) -> Result<Step> {
        let step = self.shrinking.step(self.engine).await?;
        if matches!(step, Step::Checkpoint) {
            self.checkpoint_all().await?;
            self.compactions.merge_all(self.engine);
        }
        Ok(step)
    }

    /// Those who wait for it are told how the merging ended.
    fn compacted(&mut self, outcome: &Result<()>) {
        self.compacting.drain(..).for_each(|reply| drop(reply.send(outcome.clone())));
    }

    /// On a full disk, rows that newer trees replaced or deleted are room that is needed now.
    async fn compact_for_space(&mut self) {
        self.compactions.merge_all(self.engine);
        while self.merge_some().await {}
    }

    /// All that was committed so far goes into one tree a family, slice by slice.
    async fn begin_compacting(&mut self, reply: oneshot::Sender<Result<()>>) {
        self.idle.end(self.engine);
        match self.checkpoint_all().await {
            Ok(()) => {
                self.compactions.merge_all(self.engine);
                self.shrinking.unsettle();
                self.compacting.push(reply);
            }
            Err(cause) => drop(reply.send(Err(cause))),
        }
    }

    async fn checkpoint_or_stall(&mut self) {
        if let Err(cause) = self.checkpoint().await {
            // Those who wait for room hear the cause; the next commit tries again.
            self.engine.pipeline.stall(cause);
        }
    }

    /// Covers all commits ordered so far: a retried attempt alone covers what it had frozen.
    async fn checkpoint_all(&mut self) -> Result<()> {
        let last = self.engine.pipeline.order().last;
        self.checkpoint().await?;
        if self.engine.superblock.lock().checkpoint_seq < last {
            self.checkpoint().await?;
        }
        Ok(())
    }

    async fn checkpoint(&mut self) -> Result<()> {
        let engine = self.engine;
        // Flushes that are faster than the merging of what they leave wait for it here.
        while self.compactions.is_behind(engine) && self.merge_some().await {}
        self.compactions.give_way(&engine.state(), TREES_AT_MOST);
        let frozen = match self.frozen.take() {
            Some(frozen) => frozen,
            None => self.freeze(),
        };
        let mut attempt = self.attempt(&frozen, None, Means::Ample).await;
        if matches!(&attempt, Err(error) if error.kind() == ErrorKind::NoSpace) {
            attempt = self.attempt(&frozen, None, Means::Scarce).await;
        }
        self.conclude(frozen, attempt).await
    }

    /// A superblock says of all commits up to its seq that they are in trees, so what was frozen before is in them first. (I5)
    fn freeze(&self) -> Frozen {
        assert!(
            self.frozen.is_none(),
            "what an attempt left frozen is what the next one begins with"
        );
        freeze::freeze(self.engine)
    }

    /// What follows from an attempt to bring into trees what was frozen.
    async fn conclude(&mut self, frozen: Frozen, attempt: Result<()>) -> Result<()> {
        let engine = self.engine;
        match attempt {
            Ok(()) => {
                self.compactions.flushed(frozen.families.iter().map(|part| part.family.id));
                if !frozen.families.is_empty() {
                    self.shrinking.unsettle();
                }
                let is_full = engine.is_full();
                if is_full {
                    engine.begin_relief();
                }
                engine.pipeline.thaw();
                engine.settle_promise();
                engine.pipeline.keeper.raise();
                if is_full {
                    self.compact_for_space().await;
                    engine.end_relief();
                }
                Ok(())
            }
            Err(error) => {
                self.frozen = Some(frozen);
                engine.settle_promise();
                Err(error)
            }
        }
    }

    /// Brings what was frozen into trees, and in front of them what was loaded, which has the last seq.
    async fn attempt(&self, frozen: &Frozen, loaded: Option<&Loaded>, means: Means) -> Result<()> {
        let engine = self.engine;
        if loaded.is_none() {
            engine.pipeline.visible(frozen.seq).await?;
        }
        frozen.settle();
        engine.settle_orphans().await?;
        engine.begin_drawing();
        let mut writer = writer::Writer::new(engine);
        if means == Means::Scarce {
            publish::keep_back_for_blobs(engine, frozen, &mut writer)?;
        }
        let busy = |family, tree: &Tree| self.compactions.has(family, tree);
        let flushed = flush::flush(engine, frozen, means, busy, &mut writer).await;
        engine.flush_bytes.fetch_add(writer.written_bytes(), Ordering::Relaxed);
        let published = match flushed {
            Ok(mut trees) => {
                if let Some(loaded) = loaded {
                    flush::put_in_front(engine, &mut trees, loaded, &mut writer);
                }
                publish::publish(engine, frozen, trees, &mut writer).await
            }
            Err(error) => Err(error),
        };
        if published.is_err() {
            writer.abandon();
        }
        published
    }

    async fn close(&mut self) -> Result<()> {
        // Not if the last handle was dropped: scans outlive it.
        self.engine.is_closed.store(true, Ordering::Release);
        self.finish().await;
        if let Some(failure) = self.engine.pipeline.failure() {
            return Err(failure);
        }
        self.checkpoint_all().await?;
        publish::record_clean_end(self.engine).await
    }

    /// Waits until everything that was ordered is visible; nothing more is, by now.
    async fn finish(&self) {
        let (last, last_logged) = {
            let mut order = self.engine.pipeline.order();
            order.gate = Gate::Closed;
            (order.last, order.last_logged)
        };
        self.engine.pipeline.refuse_waiters();
        // A failure was told to those whose commits it concerns.
        drop(self.engine.pipeline.visible(last).await);
        // Not those behind it: they have no record, and in a full log no seal can tell of them.
        drop(self.engine.pipeline.durable(last_logged).await);
    }

    fn bound_snapshots(&self) {
        let engine = self.engine;
        engine.snapshots.expire_older(engine.options.snapshot_age_max);
        let max = engine.options.snapshot_pinned_bytes_max;
        loop {
            let (retired_bytes, oldest) = {
                let mut space = engine.space.lock();
                // What nobody holds any more is no snapshot's fault.
                space.reclaim();
                (space.retired_bytes(), space.oldest_held())
            };
            let memtable_bytes = engine.snapshots.memtable_bytes(&engine.state());
            if retired_bytes + memtable_bytes <= max {
                return;
            }
            if oldest.is_some_and(|oldest| engine.snapshots.expire_holding(&oldest)) {
                continue;
            }
            // Nor is what is held by somebody else.
            let current = engine.state().hold.clone();
            if memtable_bytes <= max || !engine.snapshots.expire_oldest(&current) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
