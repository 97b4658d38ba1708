//! Shortcuts: what they lead to, and when they count.

use crate::{FRAME, node};
use ringdb_frames::{Cache, May, Room, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

const HASH: u64 = 0x1234_5678_9ABC_DEF0;

fn cache(frames: usize) -> Cache {
    Cache::new(frames * FRAME, FRAME, 1 << 16)
}

fn insert(cache: &Cache, page: u64) {
    assert!(cache.insert(page, &node(page, 1), 0, Room::Evict));
}

/// Finds the page as a descent does in this turn, and has a shortcut to it if it may have one.
fn descend(cache: &Cache, page: u64, hash: u64, turn: u64) -> May {
    let guard = pin();
    let frame = cache.get(page, &guard).expect("it is cached");
    let may = cache.ask_for_shortcuts(&frame, turn);
    if may != May::Not {
        cache.note(hash, &frame, page as u32);
    }
    may
}

/// The page that a shortcut leads to in this turn.
fn followed(cache: &Cache, hash: u64, turn: u64) -> Option<u64> {
    let guard = pin();
    let shortcut = cache.shortcut(hash)?;
    cache.bring_near_by(shortcut, [0..64, FRAME - 64..2 * FRAME]);
    let frame = cache.follow(shortcut, turn, &guard)?;
    let page = u64::from(shortcut.place());
    assert_eq!(*frame, *node(page, 1), "the frame holds another node");
    Some(page)
}

#[test]
fn a_node_that_is_found_twice_has_shortcuts() {
    let cache = cache(4);
    insert(&cache, 7);
    cache.bring_shortcut_near(HASH);
    let asked: Vec<May> = (0..4).map(|_| descend(&cache, 7, HASH, 0)).collect();
    assert_eq!(asked, [May::Not, May::NoteAll, May::Note, May::Note]);
    assert_eq!(followed(&cache, HASH, 0), Some(7));
    assert_eq!(cache.shortcut(!HASH), None);
}

#[test]
fn a_turn_without_the_page_ends_its_shortcuts_and_one_with_it_does_not() {
    let cache = cache(4);
    insert(&cache, 7);
    insert(&cache, 8);
    for page in [7, 8] {
        for _ in 0..2 {
            descend(&cache, page, HASH + page, 0);
        }
    }
    cache.begin_turn(1, [7, 9]);
    assert_eq!(followed(&cache, HASH + 7, 1), None);
    assert_eq!(followed(&cache, HASH + 8, 1), Some(8));
    // Who still reads in the turn before has descents.
    assert_eq!((followed(&cache, HASH + 7, 0), followed(&cache, HASH + 8, 0)), (None, None));
}

#[test]
fn a_turn_ends_the_shortcuts_of_any_number_of_pages() {
    let cache = cache(300);
    for page in 0..300 {
        insert(&cache, page);
        for _ in 0..2 {
            descend(&cache, page, HASH.wrapping_mul(page + 1), 0);
        }
    }
    let is_led = |page: u64, turn| followed(&cache, HASH.wrapping_mul(page + 1), turn).is_some();
    let led = |turn| (0..300).filter(|page| is_led(*page, turn)).collect::<Vec<u64>>();
    let before = led(0).len();
    assert!(before > 250, "{before} of 300 pages have shortcuts");
    cache.begin_turn(1, (0..300).filter(|page| page % 5 != 0));
    assert!(led(1).iter().all(|page| page % 5 == 0) && led(1).len() > 50);
}

#[test]
fn a_reader_of_a_past_turn_gives_no_node_shortcuts() {
    let cache = cache(4);
    insert(&cache, 7);
    cache.begin_turn(1, [7]);
    (0..3).for_each(|_| assert_eq!(descend(&cache, 7, HASH, 0), May::Not));
    // Read again by somebody who still needs it.
    cache.remove(7);
    insert(&cache, 7);
    (0..3).for_each(|_| assert_eq!(descend(&cache, 7, HASH, 0), May::Not));
    assert_eq!(followed(&cache, HASH, 1), None);
}

#[test]
fn a_shortcut_to_a_frame_that_is_used_again_leads_to_nothing_that_is_not_current() {
    let cache = cache(1);
    insert(&cache, 7);
    for _ in 0..2 {
        descend(&cache, 7, HASH, 0);
    }
    assert_eq!(followed(&cache, HASH, 0), Some(7));
    cache.remove(7);
    while !cache.insert(8, &node(8, 1), 0, Room::Evict) {
        thread::yield_now();
    }
    assert_eq!(followed(&cache, HASH, 0), None, "page 8 is nobody's yet");
    for _ in 0..2 {
        descend(&cache, 8, HASH, 0);
    }
    assert_eq!(followed(&cache, HASH, 0), Some(8));
}

/// What the trees of a turn say: the page of each key.
struct Trees {
    turn: u64,
    pages: Vec<u64>,
}

/// Readers compare what shortcuts lead to with what their own trees say, while a writer gives keys new pages and writes
/// ahead what is not published yet.
#[test]
fn in_every_turn_shortcuts_lead_where_descents_do() {
    const KEYS: u64 = 24;
    let turns = 10_000 * crate::stress::factor();
    let cache = cache(32);
    let trees = Mutex::new(Arc::new(Trees { turn: 0, pages: (0..KEYS).collect() }));
    let (done, followed_count) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut key = 0;
                while !done.load(Ordering::Relaxed) {
                    key = (key + 1) % KEYS;
                    let trees = Arc::clone(&trees.lock().unwrap());
                    let page = trees.pages[key as usize];
                    if let Some(found) = place_followed(&cache, key, trees.turn) {
                        assert_eq!(found, page as u32, "key {key} in turn {}", trees.turn);
                        followed_count.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let guard = pin();
                    let Some(frame) = cache.get(page, &guard) else {
                        drop(guard);
                        // As one who misses does; pages are filled with their numbers.
                        cache.insert(page, &node(page, 1), 0, Room::Evict);
                        continue;
                    };
                    if cache.ask_for_shortcuts(&frame, trees.turn) != May::Not {
                        cache.note(HASH.wrapping_mul(key + 1), &frame, page as u32);
                    }
                }
            });
        }
        let write = || {
            for turn in 1..=turns {
                let mut pages = trees.lock().unwrap().pages.clone();
                let (key, page) = ((turn % KEYS) as usize, KEYS + turn);
                let past = std::mem::replace(&mut pages[key], page);
                cache.insert(page, &node(page, 1), 0, Room::Evict);
                cache.begin_turn(turn, [past]);
                *trees.lock().unwrap() = Arc::new(Trees { turn, pages });
                cache.remove(past);
            }
        };
        let writer = scope.spawn(write);
        let outcome = writer.join();
        done.store(true, Ordering::Relaxed);
        outcome.expect("the writer has no asserts");
    });
    assert!(followed_count.load(Ordering::Relaxed) > 0);
}

fn place_followed(cache: &Cache, key: u64, turn: u64) -> Option<u32> {
    let guard = pin();
    let shortcut = cache.shortcut(HASH.wrapping_mul(key + 1))?;
    let frame = cache.follow(shortcut, turn, &guard)?;
    // As a key is compared: a frame of another page has other bytes.
    (*frame == *node(u64::from(shortcut.place()), 1)).then(|| shortcut.place())
}
