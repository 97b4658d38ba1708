//! Readers that look twice at every word, while writers push the same frames around.
//!
//! Every word of a node is its stamp: page and version. A frame used again under a guard shows as a
//! word with another page or version, at the first or at the second look.

use crate::FRAME;
use ringdb_frames::{Cache, Frame, Guard, Room, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

const PAGES: u64 = 64;
const PARENT: u64 = 1 << 20;

struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// The page's length never changes, so that a length can be checked as well.
fn frames_of(page: u64) -> usize {
    if page.is_multiple_of(8) { 1 + (page / 8 % 4) as usize } else { 1 }
}

fn stamp(page: u64, version: u64) -> [u8; 8] {
    (page << 32 | version & u64::from(u32::MAX)).to_le_bytes()
}

fn assert_whole(frame: &Frame<'_>, page: u64, first: &[u8]) {
    assert_eq!(frame.len(), frames_of(page) * FRAME, "page {page}");
    assert_eq!(first[4..], (page as u32).to_le_bytes(), "a frame of another page");
    assert!(frame.chunks_exact(8).all(|word| word == first), "page {page} changed under a guard");
}

/// Looks, lets the others run, and looks again.
fn look_twice(frame: &Frame<'_>, page: u64, rng: &mut Rng) {
    let first: [u8; 8] = frame[..8].try_into().unwrap();
    assert_whole(frame, page, &first);
    match rng.below(64) {
        0 => thread::yield_now(),
        turns => (0..turns * 5).for_each(|_| std::hint::spin_loop()),
    }
    assert_whole(frame, page, &first);
}

fn find<'g>(cache: &Cache, page: u64, guard: &'g Guard, rng: &mut Rng) -> Option<Frame<'g>> {
    let parent = cache.get(PARENT, guard).filter(|_| rng.below(2) == 0);
    let Some(parent) = parent else { return cache.get(page, guard) };
    cache.get_child(&parent, page as usize, page, 64, guard)
}

fn read(cache: &Cache, mut rng: Rng, done: &AtomicBool, hits: &AtomicU64) {
    while !done.load(Ordering::Relaxed) {
        let guard = pin();
        for _ in 0..1 + rng.below(4) {
            let page = rng.below(PAGES);
            let Some(frame) = find(cache, page, &guard, &mut rng) else { continue };
            look_twice(&frame, page, &mut rng);
            hits.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write(cache: &Cache, mut rng: Rng, inserts: u64) {
    let parent = [0; FRAME];
    let mut version = 0;
    while cache.stats().inserts < inserts {
        version += 1;
        let page = rng.below(PAGES);
        match rng.below(16) {
            0 => cache.remove(page),
            1 => drop(cache.insert(PARENT, &parent, PAGES as usize, Room::Evict)),
            what => {
                let node = stamp(page, version).repeat(frames_of(page) * FRAME / 8);
                let room = if what == 2 { Room::IfFree } else { Room::Evict };
                if !cache.insert(page, &node, 0, room) {
                    thread::yield_now();
                }
            }
        }
        assert!(cache.stats().bytes <= cache.stats().bytes_max);
    }
}

/// One at a time: a guard in one check holds up the epoch of the others.
static TURN: Mutex<()> = Mutex::new(());

fn check(frames: usize) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let inserts = inserts();
    let cache = Cache::new(frames * FRAME, FRAME, 0);
    let (done, hits) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for seed in 1..=2 {
            let (cache, done, hits) = (&cache, &done, &hits);
            scope.spawn(move || read(cache, Rng(seed), done, hits));
        }
        let writers = [11, 12].map(|seed| {
            let cache = &cache;
            scope.spawn(move || write(cache, Rng(seed), inserts))
        });
        let outcomes = writers.map(thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Relaxed);
        outcomes.into_iter().for_each(|outcome| outcome.expect("the writer's asserts hold"));
    });
    let stats = cache.stats();
    assert!(hits.load(Ordering::Relaxed) > 0, "{frames} frames: {stats:?}");
}

fn inserts() -> u64 {
    2_000 * factor()
}

/// Longer by an environment variable; the default takes a second or two.
pub(crate) fn factor() -> u64 {
    let factor = std::env::var("RINGDB_STRESS").ok().and_then(|text| text.parse::<u64>().ok());
    factor.unwrap_or(1)
}

#[test]
fn frames_do_not_change_under_guards_in_a_tiny_cache() {
    check(4);
}

#[test]
fn frames_do_not_change_under_guards_in_a_small_cache() {
    check(24);
}

#[test]
fn frames_do_not_change_under_guards_when_most_fits() {
    check(70);
}
