//! The canonical workloads, each about one thing that a crash may interrupt.

use crate::workload::Recorder;

/// What a recorder is told to do.
pub type Script = fn(&mut Recorder);

/// Every script by name.
pub const SCRIPTS: [(&str, Script); 14] = [
    ("create", create),
    ("puts", puts),
    ("batches_over_families", batches_over_families),
    ("family_life_cycle", family_life_cycle),
    ("checkpoints", checkpoints),
    ("log_wrap", log_wrap),
    ("growth", growth),
    ("extents", extents),
    ("range_deletes", range_deletes),
    ("unlogged", unlogged),
    ("mixed", mixed),
    ("compaction", compaction),
    ("ingest", ingest),
    ("shrinking", shrinking),
];

/// Nothing but opening and closing.
pub fn create(_: &mut Recorder) {}

/// Single puts and deletes, some awaited, some not.
pub fn puts(recorder: &mut Recorder) {
    recorder.create("rows");
    for n in 0..60 {
        let key = format!("key {}", recorder.rng.below(20));
        let changes = recorder.changes();
        let changes = match n % 5 {
            0 => changes.delete("rows", key),
            1 | 2 => changes.put("rows", key, 100).buffered(),
            _ => changes.put("rows", key, 1000),
        };
        if n % 4 == 0 { changes.commit() } else { changes.submit() }
    }
}

/// Batches that touch three families each, so that half of one would show.
pub fn batches_over_families(recorder: &mut Recorder) {
    for name in ["a", "b", "c"] {
        recorder.create(name);
    }
    for n in 0..40 {
        let len = 10 + recorder.rng.below(3000);
        let mut changes = recorder.changes();
        for family in ["a", "b", "c"] {
            changes = changes.put(family, format!("{:02}", n % 15), len);
            changes = changes.delete(family, format!("{:02}", (n + 7) % 15));
        }
        if n % 6 == 0 { changes.commit() } else { changes.submit() }
    }
}

/// Families made, filled, cleared, renamed, dropped, made again, with checkpoints between.
pub fn family_life_cycle(recorder: &mut Recorder) {
    for round in 0..4 {
        recorder.create("stays");
        recorder.create("goes");
        for n in 0..4 {
            let key = format!("{round} {n}");
            recorder.changes().put("stays", &key, 50).put("goes", &key, 50).submit();
        }
        if round % 2 == 0 {
            recorder.checkpoint();
        }
        recorder.drop_family("goes");
        recorder.changes().clear("stays").put("stays", "cleared", 70).submit();
        recorder.rename("stays", &format!("renamed {round}"));
        recorder.create("goes");
        recorder.changes().put("goes", "again", 5000).commit();
        recorder.drop_family("goes");
        if round == 2 {
            recorder.checkpoint();
        }
    }
}

/// Rows overwritten across checkpoints and while they are written, some of them under an open
/// snapshot.
pub fn checkpoints(recorder: &mut Recorder) {
    recorder.create("rows");
    let mut snapshot = None;
    for round in 0..6 {
        for _ in 0..3 {
            let mut changes = recorder.changes();
            for n in 0..20 {
                changes = changes.put("rows", format!("{:03}", (n * 7 + round * 3) % 50), 700);
            }
            changes.submit();
        }
        recorder.checkpoint_during(|recorder| {
            for n in 0..round {
                recorder.changes().put("rows", format!("{n:03}"), 300).commit();
            }
        });
        if round % 3 == 0 {
            snapshot = Some(recorder.db.snapshot());
        }
    }
    drop(snapshot);
    recorder.checkpoint();
}

/// Many times more log than the log may hold.
pub fn log_wrap(recorder: &mut Recorder) {
    recorder.create("rows");
    for n in 0..110 {
        let key = format!("{:02}", n % 13);
        let changes = recorder.changes().put("rows", key, 10_000);
        if n % 3 == 0 { changes.commit() } else { changes.submit() }
    }
}

/// A file that has to grow, by rows, again and again.
pub fn growth(recorder: &mut Recorder) {
    recorder.create("rows");
    for n in 0..14 {
        let mut changes = recorder.changes();
        for m in 0..10 {
            changes = changes.put("rows", format!("{n:03} {m}"), 12_000);
        }
        changes.commit();
    }
}

/// Values in extents of their own: put, overwritten by small ones, deleted.
pub fn extents(recorder: &mut Recorder) {
    recorder.create("rows");
    for n in 0..12 {
        let key = format!("{}", n % 3);
        let len = [70_000, 300_000, 100, 1_100_000][n % 4];
        let changes = recorder.changes().put("rows", &key, len).put("rows", "small", 100);
        let changes = if n % 5 == 4 { changes.delete("rows", &key) } else { changes };
        if n % 3 == 0 {
            changes.commit()
        } else {
            changes.submit()
        }
        if n % 4 == 3 {
            recorder.checkpoint();
        }
    }
}

/// Range deletes over rows in memory and in trees, and puts into the holes.
pub fn range_deletes(recorder: &mut Recorder) {
    recorder.create("rows");
    for round in 0..8 {
        let mut changes = recorder.changes();
        for n in 0..30 {
            changes = changes.put("rows", format!("{n:02}"), 300);
        }
        changes.submit();
        if round % 3 == 1 {
            recorder.checkpoint();
        }
        let (low, high) = (format!("{:02}", round * 2), format!("{:02}", round * 2 + 11));
        let changes = recorder.changes().delete_range("rows", &low, &high);
        changes.put("rows", format!("{:02}", round * 2 + 3), 40).submit();
    }
}

/// A family without a log beside one with a log.
pub fn unlogged(recorder: &mut Recorder) {
    recorder.create("rows");
    recorder.create_unlogged();
    for n in 0..40 {
        recorder.put_unlogged(&format!("{:02}", n % 12), 400);
        if n % 4 == 0 {
            recorder.changes().put("rows", format!("{n}"), 200).submit();
        }
        if n == 13 {
            recorder.checkpoint();
        }
        if n == 29 {
            recorder.sync();
        }
    }
}

/// Loads between commits, under and over their rows: in key order, in none, with large values and keys that come twice, and one that
/// is given up.
pub fn ingest(recorder: &mut Recorder) {
    recorder.create("rows");
    for round in 0..5 {
        for n in 0..10 {
            let key = format!("{:03}", (n * 31 + round) % 220);
            let changes = recorder.changes().put("rows", &key, 500);
            let changes = if n % 3 == 0 { changes.delete("rows", &key) } else { changes };
            changes.submit();
        }
        let mut changes = recorder.changes();
        for n in 0..[20, 100, 220, 60, 1][round] {
            let key =
                format!("{:03}", if [0, 3].contains(&round) { n * 3 } else { (n * 67) % 200 });
            let len = if n % 50 == 49 { 70_000 } else { 2000 };
            changes = changes.put("rows", key, len);
        }
        match round {
            1 => {
                changes.ingest_in_vain("rows");
                recorder.checkpoint();
            }
            _ => changes.ingest("rows"),
        }
    }
    recorder.changes().put("rows", "after", 100).commit();
}

/// Everything, in an order that the seed decides.
pub fn mixed(recorder: &mut Recorder) {
    recorder.create_unlogged();
    recorder.create("rows");
    recorder.create("other");
    for n in 0..70 {
        let key = format!("{:02}", recorder.rng.below(40));
        let len = [0, 20, 500, 4000, 9000, 30_000, 80_000][recorder.rng.below(7)];
        match recorder.rng.below(16) {
            0 => recorder.checkpoint(),
            1 => recorder.sync(),
            2 => recorder.put_unlogged(&key, len),
            3 => recorder.changes().delete_range("rows", &key, "99").submit(),
            4 => match recorder.has("brief") {
                true => recorder.drop_family("brief"),
                false => recorder.create("brief"),
            },
            5 if recorder.has("brief") => recorder.rename("brief", &format!("kept {n}")),
            6 if recorder.rng.one_in(2) => recorder.changes().clear("other").submit(),
            6 => recorder.settle(),
            7..=9 => recorder.changes().put("rows", &key, len).buffered().submit(),
            10 => recorder.changes().delete("rows", &key).delete("other", &key).submit(),
            _ => {
                let changes = recorder.changes().put("rows", &key, len).put("other", &key, len);
                changes.submit();
            }
        }
    }
}

/// Rows that lie apart, in trees of their own, which become one in several slices; with deletes, a
/// range delete and large values among them.
pub fn compaction(recorder: &mut Recorder) {
    const ROWS: usize = 260;
    recorder.create("rows");
    for first in (0..ROWS).step_by(52) {
        let mut changes = recorder.changes();
        for n in first..first + 52 {
            changes = changes.put("rows", format!("{n:03}"), 2500);
        }
        changes.submit();
    }
    recorder.checkpoint();
    for round in 0..5 {
        let mut changes = recorder.changes();
        for n in 0..22 {
            let key = format!("{:03}", (n * 12 + round * 3) % ROWS);
            changes = match (n + round) % 5 {
                0 => changes.delete("rows", key),
                1 if n % 10 == round => changes.put("rows", key, 70_000),
                _ => changes.put("rows", key, 2000),
            };
        }
        changes.submit();
        recorder.checkpoint();
    }
    recorder.changes().delete_range("rows", "100", "110").put("rows", "105", 300).commit();
    recorder.compact();
    recorder.changes().put("rows", "after", 100).commit();
}

/// A file that becomes much shorter, with rows, some large values and the log at its end, and grows again.
pub fn shrinking(recorder: &mut Recorder) {
    const ROWS: usize = 400;
    recorder.create("rows");
    recorder.create("other");
    for first in (0..ROWS).step_by(40) {
        let mut changes = recorder.changes();
        for n in first..first + 40 {
            changes = changes.put("rows", format!("{n:03}"), 3000);
        }
        changes.put("other", format!("{first:03}"), 4000).submit();
        if first == 120 {
            recorder.changes().put("other", "large", 70_000).submit();
            recorder.checkpoint();
        }
    }
    recorder.checkpoint();
    recorder.changes().delete_range("rows", "010", "380").delete("other", "large").commit();
    recorder.compact();
    recorder.changes().put("rows", "after", 100).commit();
    for n in 0..40 {
        recorder.changes().put("rows", format!("{n:03}"), 9000).submit();
    }
    recorder.checkpoint();
    recorder.changes().put("other", "last", 100).commit();
}
