//! The queue's rules, with plain data.

use super::*;
use crate::BLOCK_BYTES;
use crate::op::pair;
use crate::work::tests::part;

fn queue(depth: u32) -> Queue {
    Queue::new(Limits::of_depth(depth), Coalesce::On)
}

/// Takes in requests spelt as letters: r(ead), w(rite), d(urable), s(ync), g(row). Writes never
/// touch each other.
fn push(queue: &mut Queue, letters: &str) {
    for letter in letters.chars() {
        let block = queue.numbers * 3;
        let request = match letter {
            'r' => Request::Read(part(block, 1)),
            'w' => Request::Write(part(block, 1)),
            'd' => Request::Durable(SyncMethod::WriteThenSync, part(block, 1)),
            's' => Request::Sync(pair().0),
            'g' => Request::Resize(Resize::Grow(block), pair().0),
            _ => panic!("no such letter"),
        };
        queue.push(request);
    }
}

fn letter(work: &Work) -> char {
    match work {
        Work::Read(_) => 'r',
        Work::Write(_) => 'w',
        Work::Durable(..) => 'd',
        Work::Sync(_) => 's',
        Work::Resize(..) => 'g',
    }
}

/// Everything that may go now.
fn pop_all(queue: &mut Queue) -> Vec<Work> {
    std::iter::from_fn(|| queue.pop()).collect()
}

fn letters(works: &[Work]) -> String {
    works.iter().map(letter).collect()
}

#[test]
fn reads_go_first_and_nothing_waits_without_need() {
    let mut queue = queue(128);
    push(&mut queue, "wdgrw");
    assert_eq!(letters(&pop_all(&mut queue)), "rdgww");
}

#[test]
fn one_who_helps_takes_neither_reads_nor_cuts() {
    let mut queue = queue(128);
    push(&mut queue, "wdgrwg");
    let popped = std::iter::from_fn(|| queue.pop_to_help()).collect::<Vec<_>>();
    assert_eq!(letters(&popped), "dgww", "one growth at a time");
    assert_eq!(letters(&pop_all(&mut queue)), "r");
    popped.iter().for_each(|work| queue.landed(work));
    queue.push(Request::Resize(Resize::Shrink(0), pair().0));
    let grown = queue.pop_to_help().unwrap();
    assert_eq!(letter(&grown), 'g');
    queue.landed(&grown);
    assert!(queue.pop_to_help().is_none(), "the cut is next");
    assert!(queue.has_waiting());
}

#[test]
fn the_owner_is_woken_for_each_read_of_a_few_and_for_some_of_many() {
    let mut queue = queue(128);
    let urgency = |queue: &mut Queue| {
        let urgency = queue.urgency(&Request::Read(part(queue.numbers * 3, 1)));
        push(queue, "r");
        urgency
    };
    for _ in 0..READS_OFTEN_OVER {
        assert_eq!(urgency(&mut queue), Urgency::Now);
        pop_all(&mut queue);
    }
    let of_many: Vec<_> = (0..READS_TOGETHER + 1).map(|_| urgency(&mut queue)).collect();
    let (last, first) = (&of_many[READS_TOGETHER - 1], &of_many[..READS_TOGETHER - 1]);
    assert!(first.iter().all(|urgency| *urgency == Urgency::Batch), "{of_many:?}");
    assert_eq!((*last, of_many[READS_TOGETHER]), (Urgency::Now, Urgency::Batch));
    let flying = pop_all(&mut queue);
    flying.iter().for_each(|work| queue.landed(work));
    assert_eq!(urgency(&mut queue), Urgency::Batch, "the first are still in flight");
}

#[test]
fn a_sync_waits_for_every_write_before_it_and_for_none_after() {
    let mut queue = queue(128);
    push(&mut queue, "wdgsw");
    let works = pop_all(&mut queue);
    assert_eq!(letters(&works), "dgww");
    // The last write came after the sync; it is the last to be given out and never lands here.
    for (index, work) in works.iter().take(3).enumerate() {
        assert!(queue.pop().is_none(), "the sync was given out after {index} of 3");
        queue.landed(work);
    }
    assert_eq!(letters(&pop_all(&mut queue)), "s");
}

#[test]
fn completions_in_any_order_release_a_sync_only_when_all_are_there() {
    for first in 0..4 {
        let mut queue = queue(128);
        push(&mut queue, "wwwws");
        let mut works = pop_all(&mut queue);
        works.rotate_left(first);
        for work in &works {
            assert_eq!(letters(&pop_all(&mut queue)), "");
            queue.landed(work);
        }
        assert_eq!(letters(&pop_all(&mut queue)), "s");
    }
}

#[test]
fn syncs_are_one_at_a_time_and_share() {
    let mut queue = queue(128);
    push(&mut queue, "ss");
    let first = queue.pop().unwrap();
    assert!(matches!(&first, Work::Sync(waiters) if waiters.len() == 2));
    push(&mut queue, "sss");
    assert!(queue.pop().is_none());
    queue.landed(&first);
    assert!(matches!(queue.pop(), Some(Work::Sync(waiters)) if waiters.len() == 3));
}

#[test]
fn reads_do_not_take_the_room_of_writes_nor_writes_that_of_reads() {
    let mut queue = queue(8);
    push(&mut queue, &"r".repeat(20));
    push(&mut queue, &"w".repeat(20));
    let works = pop_all(&mut queue);
    assert_eq!(letters(&works), "rrrrrrww");
    queue.landed(&works[0]);
    queue.landed(&works[7]);
    assert_eq!(letters(&pop_all(&mut queue)), "rw");
}

#[test]
fn page_writes_in_flight_are_bounded_in_bytes() {
    let mut queue = queue(4096);
    let blocks = crate::coalesce::RUN_BYTES_MAX / BLOCK_BYTES;
    for run in 0..20 {
        queue.push(Request::Write(part(run * 1000, blocks)));
    }
    let works = pop_all(&mut queue);
    let bytes: usize = works.len() * crate::coalesce::RUN_BYTES_MAX;
    assert_eq!(bytes, WRITE_BYTES_IN_FLIGHT_MAX);
    queue.landed(&works[0]);
    assert_eq!(letters(&pop_all(&mut queue)), "w");
}

#[test]
fn a_write_above_the_bound_goes_alone() {
    let mut queue = queue(128);
    let blocks = 2 * WRITE_BYTES_IN_FLIGHT_MAX / BLOCK_BYTES;
    queue.push(Request::Write(part(0, blocks)));
    queue.push(Request::Write(part(10_000, 1)));
    let works = pop_all(&mut queue);
    assert_eq!(letters(&works), "w");
    queue.landed(&works[0]);
    assert_eq!(letters(&pop_all(&mut queue)), "w");
}

#[test]
fn changes_of_the_length_are_one_at_a_time() {
    let mut queue = queue(128);
    push(&mut queue, "gg");
    let first = pop_all(&mut queue);
    assert_eq!(letters(&first), "g");
    queue.landed(&first[0]);
    assert_eq!(letters(&pop_all(&mut queue)), "g");
}

#[test]
fn beyond_the_bound_requests_stand_in_line_in_order() {
    let mut queue = queue(1);
    let inside = queue.limits.queued_max;
    for number in 0..inside as u64 + 4 {
        let place = queue.push(Request::Durable(SyncMethod::WriteThenSync, part(number, 1)));
        assert_eq!(place.is_some(), number >= inside as u64);
    }
    // The second in line leaves it.
    assert!(queue.withdraw(inside as u64 + 2).is_some());
    assert!(queue.withdraw(inside as u64 + 2).is_none());
    assert!(queue.withdraw(1).is_none(), "what is inside is not withdrawn");
    let mut blocks = vec![];
    while let Some(work) = queue.pop() {
        let Work::Durable(_, _, part) = &work else { panic!("only durable writes were pushed") };
        blocks.push(part.offset / BLOCK_BYTES as u64);
        queue.landed(&work);
    }
    let expected: Vec<u64> =
        (0..inside as u64 + 4).filter(|block| *block != inside as u64 + 1).collect();
    assert_eq!(blocks, expected);
    assert!(queue.is_idle());
}

#[test]
fn a_sync_in_line_covers_the_writes_in_line_before_it() {
    let mut queue = queue(1);
    push(&mut queue, &"w".repeat(12));
    push(&mut queue, "sw");
    let mut order = String::new();
    while let Some(work) = queue.pop() {
        order.push(letter(&work));
        queue.landed(&work);
    }
    assert_eq!(order, "wwwwwwwwwwwwsw");
}

#[test]
fn a_durable_write_of_two_steps_waits_for_a_sync_of_its_own() {
    let mut queue = queue(128);
    push(&mut queue, "d");
    let written = queue.pop().unwrap();
    queue.landed(&written);
    let Work::Durable(_, _, part) = written else { panic!("a durable write was pushed") };
    queue.sync_after(part);
    assert!(!queue.is_idle());
    let sync = queue.pop().unwrap();
    assert_eq!(letter(&sync), 's');
    queue.landed(&sync);
    assert!(queue.is_idle());
}

#[test]
fn the_shares_of_any_depth_have_room_for_each_kind() {
    for depth in 1..300 {
        let limits = Limits::of_depth(depth);
        assert!(limits.reads >= 1 && limits.writes >= 1 && limits.queued_max >= 1);
        assert!(limits.reads + limits.writes <= depth as usize + 1);
    }
}
