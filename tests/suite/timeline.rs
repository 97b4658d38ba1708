//! What happened when, as those saw it who did it, and whether one order explains it.
//!
//! Every operation notes a tick before it begins and one after it has ended. If one ended before
//! another began, everyone could know of the first when the second began, so the order of the
//! database must have them that way round. Operations that overlap may come in either order.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// What an operation did to, or saw of, the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It took this place, and ended when it was visible.
    Commit(u64),
    /// It showed everything up to this place.
    Snapshot(u64),
    /// It read of one key what the commit at this place wrote.
    Read {
        /// Which key.
        key: usize,
        /// Whose value.
        of: u64,
    },
    /// It wrote one key at this place, and ended when it was visible.
    Write {
        /// Which key.
        key: usize,
        /// Its place.
        at: u64,
    },
}

/// One operation with its ticks.
#[derive(Clone, Copy, Debug)]
struct Span {
    begun: u64,
    ended: u64,
    what: What,
}

/// The clock, and what was noted.
#[derive(Default)]
pub struct Timeline {
    clock: AtomicU64,
    spans: Mutex<Vec<Span>>,
}

impl Timeline {
    /// A tick: something begins or has ended now.
    pub fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Something began and ended at these ticks.
    pub fn note(&self, begun: u64, ended: u64, what: What) {
        self.spans.lock().push(Span { begun, ended, what });
    }

    /// How many operations were noted.
    ///
    /// # Errors
    /// Two operations that no order explains, in words.
    pub fn judge(&self) -> Result<usize, String> {
        let spans = self.spans.lock();
        let keys = spans.iter().filter_map(|span| key(span.what)).max().map_or(0, |key| key + 1);
        forward(&spans, |_| true, order)?;
        (0..keys).try_for_each(|key| forward(&spans, |what| of_key(what, key), read_order(key)))?;
        Ok(spans.len())
    }
}

fn key(what: What) -> Option<usize> {
    match what {
        What::Commit(_) | What::Snapshot(_) => None,
        What::Read { key, .. } | What::Write { key, .. } => Some(key),
    }
}

fn of_key(what: What, wanted: usize) -> bool {
    key(what) == Some(wanted)
}

/// The least place that an operation may have, and what it makes the least for those behind it.
struct Bounds {
    own: u64,
    least: u64,
}

/// The order of everything that has a place of its own: a commit is behind all that was known when
/// it began, a snapshot shows it.
fn order(what: What) -> Option<Bounds> {
    match what {
        What::Commit(at) | What::Write { at, .. } => Some(Bounds { own: at, least: at + 1 }),
        // A later snapshot may show the same, a later commit comes behind it.
        What::Snapshot(at) => Some(Bounds { own: at + 1, least: at + 1 }),
        What::Read { .. } => None,
    }
}

/// The order of what happened to one key: a read sees no value older than one known before.
fn read_order(wanted: usize) -> impl Fn(What) -> Option<Bounds> {
    move |what| match what {
        What::Read { key, of } if key == wanted => Some(Bounds { own: of, least: of }),
        What::Write { key, at } if key == wanted => Some(Bounds { own: at, least: at }),
        _ => None,
    }
}

/// Whether no operation is before one that had ended when it began.
fn forward(
    spans: &[Span],
    concerns: impl Fn(What) -> bool,
    bounds: impl Fn(What) -> Option<Bounds>,
) -> Result<(), String> {
    let mut begun: Vec<&Span> = spans.iter().filter(|span| concerns(span.what)).collect();
    let mut ended = begun.clone();
    begun.sort_by_key(|span| span.begun);
    ended.sort_by_key(|span| span.ended);
    let mut ended = ended.into_iter().peekable();
    let mut known: Option<(u64, &Span)> = None;
    for span in begun {
        while let Some(before) = ended.next_if(|before| before.ended < span.begun) {
            let Some(Bounds { least, .. }) = bounds(before.what) else { continue };
            if known.is_none_or(|(most, _)| least > most) {
                known = Some((least, before));
            }
        }
        let (Some(Bounds { own, .. }), Some((least, before))) = (bounds(span.what), known) else {
            continue;
        };
        if own < least {
            return Err(format!("{span:?} began after the end of {before:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operations as (begun, ended, what).
    #[track_caller]
    fn check(spans: &[(u64, u64, What)], is_good: bool) {
        let timeline = Timeline::default();
        let spans = spans.iter().map(|&(begun, ended, what)| Span { begun, ended, what });
        *timeline.spans.lock() = spans.collect();
        let verdict = timeline.judge();
        assert_eq!(verdict.is_ok(), is_good, "{verdict:?}");
    }

    const WRITE: What = What::Write { key: 0, at: 7 };

    #[test]
    fn one_after_another_must_be_in_that_order() {
        check(&[(0, 1, What::Commit(5)), (2, 3, What::Commit(6))], true);
        check(&[(0, 1, What::Commit(6)), (2, 3, What::Commit(5))], false);
        check(&[(0, 2, What::Commit(6)), (1, 3, What::Commit(5))], true);
    }

    #[test]
    fn a_snapshot_shows_what_was_visible_and_never_goes_back() {
        check(&[(0, 1, What::Commit(5)), (2, 3, What::Snapshot(5))], true);
        check(&[(0, 1, What::Commit(5)), (2, 3, What::Snapshot(4))], false);
        check(&[(0, 1, What::Snapshot(5)), (2, 3, What::Snapshot(5))], true);
        check(&[(0, 1, What::Snapshot(5)), (2, 3, What::Snapshot(4))], false);
        check(&[(0, 1, What::Snapshot(5)), (2, 3, What::Commit(5))], false);
        check(&[(0, 1, What::Snapshot(5)), (2, 3, What::Commit(6))], true);
    }

    #[test]
    fn a_read_sees_nothing_older_than_what_was_known() {
        check(&[(0, 1, WRITE), (2, 3, What::Read { key: 0, of: 7 })], true);
        check(&[(0, 1, WRITE), (2, 3, What::Read { key: 0, of: 6 })], false);
        check(&[(0, 1, WRITE), (2, 3, What::Read { key: 1, of: 6 })], true);
        check(&[(0, 9, WRITE), (2, 3, What::Read { key: 0, of: 6 })], true);
        let seen = What::Read { key: 0, of: 7 };
        check(&[(0, 9, WRITE), (1, 2, seen), (3, 4, What::Read { key: 0, of: 6 })], false);
    }
}
