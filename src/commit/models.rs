//! Places, watchers and signals under loom: in every order, and with what weak memory may do, no
//! wake-up is lost and nothing is shown behind a hole.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use loom::future::block_on;
use ringdb_uring::threads::atomic::Ordering;
use ringdb_uring::threads::thread;

use crate::commit::places::{Places, Shown};
use crate::commit::signal::Signal;
use crate::ids::Seq;

fn explore(name: &str, preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
    let schedules = Arc::new(AtomicUsize::new(0));
    let counted = schedules.clone();
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 10_000;
    model.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        run();
    });
    let schedules = schedules.load(Ordering::Relaxed);
    eprintln!("{name}: {schedules} schedules, {preemptions} preemptions");
    assert!(schedules > 10, "a dead knob must show");
}

async fn visible(places: &Places, seq: u64) {
    poll_fn(|context| match places.poll_visible(Seq(seq), context) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
    assert!(places.visible() >= Seq(seq), "what resolved is visible");
}

#[test]
fn a_commit_resolves_whoever_marks_last() {
    explore("two commits, a flush", 3, || {
        let places = Arc::new(Places::new(Seq(0), 4));
        let other = places.clone();
        let committer = thread::spawn(move || {
            other.mark_applied(Seq(2), Shown::WhenDurable);
            block_on(visible(&other, 2));
        });
        let other = places.clone();
        let owner = thread::spawn(move || other.mark_durable(Seq(2)));
        places.mark_applied(Seq(1), Shown::WhenDurable);
        block_on(visible(&places, 1));
        committer.join().expect("it ends");
        owner.join().expect("it ends");
        assert_eq!((places.visible(), places.applied()), (Seq(2), Seq(2)));
    });
}

#[test]
fn nothing_is_visible_behind_a_hole_or_before_it_is_durable() {
    explore("a hole", 3, || {
        let places = Arc::new(Places::new(Seq(0), 4));
        let other = places.clone();
        let buffered = thread::spawn(move || other.mark_applied(Seq(2), Shown::WhenApplied));
        let other = places.clone();
        let owner = thread::spawn(move || other.mark_durable(Seq(1)));
        let seen = places.visible();
        assert_eq!(seen, Seq(0), "the first is not applied");
        places.mark_applied(Seq(1), Shown::WhenDurable);
        let seen = places.visible();
        assert!(seen == Seq(0) || places.durable() >= Seq(1));
        buffered.join().expect("it ends");
        owner.join().expect("it ends");
        assert_eq!(places.visible(), Seq(2));
    });
}

#[test]
fn a_place_serves_its_next_life() {
    explore("a place twice", 2, || {
        let places = Arc::new(Places::new(Seq(0), 4));
        let other = places.clone();
        let first = thread::spawn(move || block_on(visible(&other, 1)));
        for seq in 1..=4 {
            places.mark_applied(Seq(seq), Shown::WhenApplied);
        }
        assert!(places.has_room(Seq(4), 1));
        let other = places.clone();
        let second = thread::spawn(move || other.mark_applied(Seq(5), Shown::WhenApplied));
        block_on(visible(&places, 5));
        first.join().expect("it ends");
        second.join().expect("it ends");
    });
}

#[test]
fn who_watches_a_counter_is_woken() {
    explore("a watcher", 3, || {
        let places = Arc::new(Places::new(Seq(0), 4));
        let other = places.clone();
        let owner = thread::spawn(move || {
            other.mark_applied(Seq(1), Shown::WhenDurable);
            other.mark_durable(Seq(1));
        });
        block_on(poll_fn(|context| match places.watch_durable(Seq(1), context) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }));
        block_on(poll_fn(|context| match places.watch_visible(Seq(1), context) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }));
        owner.join().expect("it ends");
    });
}

#[test]
fn a_signal_is_seen_after_it_was_raised() {
    explore("a signal", 3, || {
        let signal = Arc::new(Signal::default());
        let raisers: Vec<_> = (0..2)
            .map(|_| {
                let signal = signal.clone();
                thread::spawn(move || signal.raise())
            })
            .collect();
        block_on(signal.raised());
        raisers.into_iter().for_each(|raiser| raiser.join().expect("it ends"));
    });
}
