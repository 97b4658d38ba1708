//! What is evicted, and what never grows.

use crate::{FRAME, cache, held, holds, insert, insert_soon, node};
use ringdb_frames::{Room, pin};

#[test]
fn a_full_cache_evicts_and_stays_within_its_bound() {
    for frames in [1, 2, 4, 63, 64, 65, 1024, 3000] {
        let cache = cache(frames);
        for page in 0..frames as u64 * 3 {
            insert_soon(&cache, page, 1);
            assert!(holds(&cache, page, 1), "page {page} of {frames} frames");
            assert!(cache.stats().bytes <= frames * FRAME);
        }
        let stats = cache.stats();
        assert_eq!(stats.inserts, frames as u64 * 3);
        assert_eq!(stats.evictions + stats.nodes as u64, stats.inserts);
        assert_eq!(held(&cache, 0..frames as u64 * 3), stats.nodes);
    }
}

#[test]
fn what_is_used_outlives_what_is_not() {
    let cache = cache(256);
    for page in 0..2000 {
        insert_soon(&cache, page, 1);
        for hot in 0..100.min(page) {
            assert!(cache.get(hot, &pin()).is_some(), "page {hot} after {page}");
        }
    }
    assert_eq!(held(&cache, 0..100), 100);
}

#[test]
fn without_leave_to_evict_only_free_frames_are_taken() {
    let cache = cache(4);
    let insert = |page| cache.insert(page, &node(page, 1), 0, Room::IfFree);
    assert_eq!((0..6).filter(|page| insert(*page)).count(), 4);
    assert_eq!(held(&cache, 0..4), 4);
    assert_eq!(cache.stats().evictions, 0);
}

#[test]
fn under_a_guard_inserts_fail_and_most_of_a_cache_stays() {
    let cache = cache(64);
    for page in 0..64 {
        assert!(insert(&cache, page));
    }
    let guard = pin();
    for page in 100..200 {
        assert!(!insert(&cache, page));
    }
    assert!(held(&cache, 0..64) >= 56);
    assert!(cache.stats().bytes <= 64 * FRAME);
    drop(guard);
    insert_soon(&cache, 300, 1);
    assert!(holds(&cache, 300, 1));
}

#[test]
fn a_long_node_pushes_out_neighbours() {
    let cache = cache(64);
    for page in 0..64 {
        assert!(insert(&cache, page));
    }
    insert_soon(&cache, 100, 32);
    assert!(holds(&cache, 100, 32));
    assert!(held(&cache, 0..64) <= 32);
    for page in 200..240 {
        insert_soon(&cache, page, 1);
        assert!(cache.stats().bytes <= 64 * FRAME);
    }
}

#[test]
fn lengths_mixed_at_random_all_find_room() {
    let cache = cache(100);
    let mut state = 1_u64;
    for page in 0..3000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let frames = 1 + (state >> 59) as usize;
        insert_soon(&cache, page, frames);
        assert!(holds(&cache, page, frames), "page {page} of {frames} frames");
        assert!(cache.stats().bytes <= 100 * FRAME);
    }
}

#[test]
fn a_node_longer_than_the_cache_or_the_limit_is_refused() {
    for (frames, run, cached) in [(4, 4, true), (4, 5, false), (64, 32, true), (64, 33, false)] {
        let inserted = cache(frames).insert(1, &node(1, run), 0, Room::Evict);
        assert_eq!(inserted, cached, "{run} of {frames} frames");
    }
}

#[test]
fn a_cache_of_no_frames_caches_nothing() {
    let cache = cache(0);
    assert!(!insert(&cache, 1));
    assert!(cache.get(1, &pin()).is_none());
    cache.remove(1);
    assert_eq!(cache.stats().bytes_max, 0);
}

#[test]
fn removed_pages_give_their_room_back() {
    let cache = cache(128);
    for round in 0..50 {
        for page in 0..128 {
            insert_soon(&cache, round * 1000 + page, 1);
        }
        for page in 0..128 {
            cache.remove(round * 1000 + page);
        }
        // Whether room came back by removal or by eviction depends on guards of other threads.
        assert_eq!(cache.stats().nodes, 0);
    }
}

#[test]
fn children_beyond_the_share_of_hints_are_found_by_hash() {
    let cache = cache(8);
    for page in 0..8 {
        assert!(cache.insert(page, &node(page, 1), 1 << 20, Room::Evict));
    }
    let guard = pin();
    let parent = cache.get(0, &guard).unwrap();
    assert_eq!(*cache.get_child(&parent, 5, 5, 64, &guard).unwrap(), *node(5, 1));
}
