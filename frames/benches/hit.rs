//! What a hit costs: by hash, through the parent's hint, and by a shortcut; random pages of 100,000, a parent for each 250.
//!
//! `tag` reads no byte of the node (the cost of the cache itself), `bytes` reads one word in it (the miss that nobody
//! can avoid). `arena` is that read alone, at an address known beforehand. `hot` stays with one parent's children: no
//! misses, so it shows the instructions. Each lookup waits for the one before, so these are latencies.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringdb_frames::{Cache, Frame, Guard, Room, pin};
use std::hint::black_box;

const FRAME: usize = 8192;
const FANOUT: u64 = 250;
/// Parents' pages come after all leaves'.
const PARENTS: u64 = 1 << 32;
const LOOKUPS: usize = 4096;

struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * u128::from(end)) >> 64) as u64
    }
}

/// Under test the whole bench is a smoke test.
fn leaves() -> u64 {
    if std::env::args().any(|arg| arg == "--bench") { 100_000 } else { 1_000 }
}

fn filled(leaves: u64) -> Cache {
    let parents = leaves.div_ceil(FANOUT);
    let shortcut_bytes = 16 * leaves as usize;
    let cache = Cache::new((leaves + parents) as usize * FRAME, FRAME, shortcut_bytes);
    for parent in 0..parents {
        cache.insert(PARENTS + parent, &[1; FRAME], FANOUT as usize, Room::IfFree);
    }
    for page in 0..leaves {
        cache.insert(page, &[2; FRAME], 0, Room::IfFree);
    }
    cache
}

fn parents<'g>(cache: &Cache, leaves: u64, guard: &'g Guard) -> Vec<Frame<'g>> {
    (0..leaves.div_ceil(FANOUT))
        .map(|parent| cache.get(PARENTS + parent, guard).expect("inserted, never evicted"))
        .collect()
}

fn child<'g>(cache: &Cache, parents: &[Frame<'g>], page: u64, guard: &'g Guard) -> Frame<'g> {
    let (parent, index) = (&parents[(page / FANOUT) as usize], (page % FANOUT) as usize);
    cache.get_child(parent, index, page, 64, guard).expect("inserted, never evicted")
}

fn hits(criterion: &mut Criterion) {
    let leaves = leaves();
    let cache = filled(leaves);
    let guard = pin();
    let parents = parents(&cache, leaves, &guard);
    let warm: Vec<Frame<'_>> =
        (0..leaves).map(|page| child(&cache, &parents, page, &guard)).collect();
    note(&cache, &warm);
    let mut rng = Rng(7);
    let mut pages = || (0..LOOKUPS).map(|_| rng.below(leaves)).collect::<Vec<u64>>();
    let mut group = criterion.benchmark_group("hit");
    group.throughput(Throughput::Elements(LOOKUPS as u64));
    let mut bench = |name: &str, look: &dyn Fn(u64) -> u64| {
        group.bench_function(name, |bencher| {
            let run =
                |pages: Vec<u64>| pages.iter().fold(0, |sum, page| sum ^ look(*page ^ sum & 1));
            bencher.iter_batched(&mut pages, |pages| black_box(run(pages)), BatchSize::SmallInput);
        });
    };
    // All results are even, so `sum & 1` chains the lookups without changing a page.
    bench("nothing", &|page| page & 2);
    bench("get, tag", &|page| cache.get(page, &guard).map_or(1, |frame| frame.len() as u64));
    bench("get_child, tag", &|page| child(&cache, &parents, page, &guard).len() as u64);
    bench("get, hot", &|page| cache.get(page % FANOUT, &guard).map_or(1, |frame| word(&frame)));
    bench("get_child, hot", &|page| {
        let page = page % FANOUT;
        cache
            .get_child(&parents[0], page as usize, page, 64, &guard)
            .map_or(1, |frame| word(&frame))
    });
    bench("arena, hot", &|page| word(&warm[(page % FANOUT) as usize]));
    bench("arena, bytes", &|page| word(&warm[page as usize]));
    bench("get, bytes", &|page| cache.get(page, &guard).map_or(1, |frame| word(&frame)));
    bench("get_child, bytes", &|page| word(&child(&cache, &parents, page, &guard)));
    bench("shortcut, bytes", &|page| {
        by_shortcut(&cache, page, &guard).map_or(1, |frame| word(&frame))
    });
    group.finish();
    criterion.bench_function("pin", |bencher| bencher.iter(|| drop(pin_alone())));
}

/// As a key's hash would be.
fn hash(page: u64) -> u64 {
    (page + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Has every leaf noted, as when it was found here twice.
fn note(cache: &Cache, warm: &[Frame<'_>]) {
    for (page, frame) in (0..).zip(warm) {
        (0..2).for_each(|_| _ = cache.ask_for_shortcuts(frame, 0));
        cache.note(hash(page), frame, 0);
    }
}

fn by_shortcut<'g>(cache: &Cache, page: u64, guard: &'g Guard) -> Option<Frame<'g>> {
    cache.follow(cache.shortcut(hash(page))?, 0, guard)
}

/// A word in the middle of a node.
fn word(node: &[u8]) -> u64 {
    u64::from_le_bytes(node[4096..4104].try_into().expect("eight bytes"))
}

/// On a thread that holds no other guard.
fn pin_alone() -> Guard {
    pin()
}

criterion_group!(benches, hits);
criterion_main!(benches);
