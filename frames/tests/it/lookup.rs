//! What is found, and what is not.

use crate::{FRAME, cache, holds, insert, insert_soon, node};
use ringdb_frames::{Cache, PAGE_MAX, Room, pin};

#[test]
fn what_was_inserted_is_found_and_nothing_else() {
    let cache = cache(100);
    for page in (0..1000).step_by(10) {
        assert!(insert(&cache, page));
    }
    for page in 0..1000 {
        assert_eq!(cache.get(page, &pin()).is_some(), page % 10 == 0, "page {page}");
    }
    assert_eq!(cache.stats().evictions, 0);
}

#[test]
fn the_first_insert_of_a_page_wins() {
    let cache = cache(4);
    assert!(insert(&cache, 3));
    assert!(cache.insert(3, &node(77, 1), 0, Room::Evict));
    assert!(cache.insert(3, &node(77, 2), 0, Room::IfFree));
    assert!(holds(&cache, 3, 1));
    assert_eq!((cache.stats().nodes, cache.stats().inserts), (1, 1));
}

#[test]
fn a_removed_page_is_gone_and_may_come_back() {
    let cache = cache(4);
    cache.remove(3);
    assert!(insert(&cache, 3));
    cache.remove(3);
    cache.remove(3);
    assert!(cache.get(3, &pin()).is_none());
    insert_soon(&cache, 3, 1);
    assert!(holds(&cache, 3, 1));
}

#[test]
fn a_frame_is_readable_under_its_guard_after_removal() {
    let cache = cache(4);
    assert!(insert(&cache, 3));
    let guard = pin();
    let frame = cache.get(3, &guard).unwrap();
    cache.remove(3);
    for page in 10..30 {
        insert(&cache, page);
    }
    assert_eq!(*frame, *node(3, 1));
}

#[test]
fn a_frame_is_readable_under_its_guard_after_the_cache_is_gone() {
    let guard = pin();
    let frame = {
        let cache = cache(4);
        assert!(cache.insert(3, &node(3, 1), 9, Room::Evict));
        cache.get(3, &guard).unwrap()
    };
    assert_eq!(*frame, *node(3, 1));
}

#[test]
fn the_largest_page_number_is_cached_and_the_next_is_not() {
    let cache = cache(4);
    for (page, cached) in [(0, true), (PAGE_MAX, true), (PAGE_MAX + 1, false), (u64::MAX, false)] {
        assert_eq!(insert(&cache, page), cached, "page {page}");
        assert_eq!(cache.get(page, &pin()).is_some(), cached, "page {page}");
    }
}

#[test]
fn a_child_is_found_with_and_without_a_good_hint() {
    let cache = cache(8);
    let root = 1000;
    assert!(cache.insert(root, &node(root, 1), 3, Room::Evict));
    for page in 0..3 {
        assert!(insert(&cache, page));
    }
    let guard = pin();
    let parent = cache.get(root, &guard).unwrap();
    for _ in 0..2 {
        for page in 0..3 {
            let child = cache.get_child(&parent, page as usize, page, 64, &guard).unwrap();
            assert_eq!(*child, *node(page, 1));
        }
    }
    // The hint of child 0 leads to page 0: asked for another page, it must not be believed.
    assert_eq!(*cache.get_child(&parent, 0, 2, 64, &guard).unwrap(), *node(2, 1));
    assert_eq!(*cache.get_child(&parent, 99, 2, 64, &guard).unwrap(), *node(2, 1));
    assert!(cache.get_child(&parent, 0, 55, 64, &guard).is_none());
    cache.remove(1);
    assert!(cache.get_child(&parent, 1, 1, 64, &guard).is_none());
}

#[test]
fn a_parent_without_hints_still_finds_its_children() {
    let cache = cache(4);
    assert!(insert(&cache, 1) && insert(&cache, 2));
    let guard = pin();
    let leaf = cache.get(1, &guard).unwrap();
    assert_eq!(*cache.get_child(&leaf, 0, 2, 64, &guard).unwrap(), *node(2, 1));
}

#[test]
fn a_parent_of_another_cache_costs_only_the_lookup() {
    let (here, there) = (cache(2), cache(64));
    assert!(insert(&here, 1));
    for page in 0..64 {
        assert!(there.insert(page, &node(page, 1), 4, Room::Evict));
    }
    let guard = pin();
    let stranger = there.get(63, &guard).unwrap();
    assert_eq!(*here.get_child(&stranger, 3, 1, 64, &guard).unwrap(), *node(1, 1));
}

#[test]
fn a_node_of_many_frames_is_one_slice() {
    let cache = cache(64);
    for (page, frames) in [(1, 32), (2, 3), (3, 1), (4, 17)] {
        assert!(cache.insert(page, &node(page, frames), 0, Room::Evict));
    }
    for (page, frames) in [(1, 32), (2, 3), (3, 1), (4, 17)] {
        assert!(holds(&cache, page, frames), "page {page}");
    }
    assert_eq!(cache.stats().bytes, 53 * FRAME);
}

#[test]
#[should_panic(expected = "a node of 8191 bytes")]
fn a_node_is_whole_frames() {
    cache(4).insert(1, &[0; FRAME - 1], 0, Room::Evict);
}

#[test]
#[should_panic(expected = "a frame of 8000 bytes")]
fn a_frame_is_a_power_of_two() {
    Cache::new(1 << 20, 8000, 0);
}
