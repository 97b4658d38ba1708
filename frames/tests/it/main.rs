//! The cache as its users see it.

mod bounds;
mod lookup;
mod shortcuts;
mod stress;

use ringdb_frames::{Cache, Room, pin};

const FRAME: usize = 8192;

/// A cache of that many frames.
fn cache(frames: usize) -> Cache {
    Cache::new(frames * FRAME, FRAME, 0)
}

/// A node whose every word tells its page.
fn node(page: u64, frames: usize) -> Vec<u8> {
    (page.wrapping_mul(0x9E37_79B9) + 1).to_le_bytes().repeat(frames * FRAME / 8)
}

fn insert(cache: &Cache, page: u64) -> bool {
    cache.insert(page, &node(page, 1), 0, Room::Evict)
}

/// Whether the page is there, whole.
fn holds(cache: &Cache, page: u64, frames: usize) -> bool {
    cache.get(page, &pin()).is_some_and(|frame| *frame == *node(page, frames))
}

/// How many of the pages are there.
fn held(cache: &Cache, pages: std::ops::Range<u64>) -> usize {
    pages.filter(|page| holds(cache, *page, 1)).count()
}

/// Inserts until it succeeds: other tests of this process hold guards for moments.
fn insert_soon(cache: &Cache, page: u64, frames: usize) {
    while !cache.insert(page, &node(page, frames), 0, Room::Evict) {
        std::thread::yield_now();
    }
}
