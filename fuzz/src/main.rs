//! Every target for a bounded time, on stable Rust: first the corpus, then inputs drawn by a seed.
//!
//! ```text
//! bounded [--target NAME] [--seconds N] [--executions N] [--seed N] [--memory-mib N]
//! bounded --target NAME --replay FILE
//! ```
//!
//! Prints what was run and how it ended. A panic on any thread, an answer that takes a minute, or
//! memory beyond the bound ends it; the input is left in `artifacts/`, to be replayed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, abort};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use hostile::Target;

/// Time for one input, far more than an honest one takes on a loaded machine.
const SECONDS_MAX: u64 = 60;
/// Edits of a drawn input, at most.
const EDITS_MAX: u64 = 6;
const EDIT_BYTES: usize = 10;

/// Counts what is allocated, so that an input that asks for more than the bound is found.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static BOUND: AtomicUsize = AtomicUsize::new(usize::MAX);
static PANICS: AtomicU64 = AtomicU64::new(0);
static FINISHED: AtomicU64 = AtomicU64::new(0);
static CURRENT: Mutex<Option<Case>> = Mutex::new(None);

// SAFETY: every call is the system allocator's own; counting touches no memory of the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, bytes: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(bytes, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    if live > PEAK.fetch_max(live, Ordering::Relaxed) && live > BOUND.load(Ordering::Relaxed) {
        BOUND.store(usize::MAX, Ordering::Relaxed);
        eprintln!("{} MiB are live, {bytes} bytes were asked for last", live >> 20);
        leave();
    }
}

#[derive(Clone)]
struct Case {
    target: Target,
    input: Vec<u8>,
}

/// Keeps the input that did it, and ends the process.
fn leave() -> ! {
    let case = CURRENT.try_lock().ok().and_then(|case| case.clone());
    if let Some(Case { target, input }) = case {
        let path = PathBuf::from("artifacts").join(format!("{}-found", target.name()));
        let kept = fs::create_dir_all("artifacts").and_then(|()| fs::write(&path, input));
        eprintln!("replay: --target {} --replay {} ({kept:?})", target.name(), path.display());
    }
    abort()
}

/// splitmix64.
struct Rng(u64);

impl Rng {
    fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn input(&mut self) -> Vec<u8> {
        let mut input = vec![u8::from(!self.any().is_multiple_of(16))];
        for _ in 0..=self.any() % EDITS_MAX {
            let bytes = [self.any().to_le_bytes(), self.any().to_le_bytes()].concat();
            input.extend_from_slice(&bytes[..EDIT_BYTES]);
        }
        input
    }
}

/// What is asked for on the command line.
struct Asked {
    targets: Vec<Target>,
    seconds: u64,
    executions: u64,
    seed: u64,
    replay: Option<PathBuf>,
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked {
        targets: Target::ALL.to_vec(),
        seconds: u64::MAX,
        executions: u64::MAX,
        seed: 1,
        replay: None,
    };
    let mut memory_mib = 512;
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} wants a value"))?;
        let number = value.parse::<u64>().map_err(|_| format!("{word} {value}: not a number"));
        match word.as_str() {
            "--target" => {
                asked.targets.retain(|target| target.name() == value);
            }
            "--seconds" => asked.seconds = number?,
            "--executions" => asked.executions = number?,
            "--seed" => asked.seed = number?,
            "--memory-mib" => memory_mib = number?,
            "--replay" => asked.replay = Some(value.into()),
            _ => return Err(format!("{word} is unknown")),
        }
    }
    if asked.targets.is_empty() {
        return Err("no such target".into());
    }
    BOUND.store((memory_mib as usize) << 20, Ordering::Relaxed);
    Ok(asked)
}

/// How the inputs of a target ended.
#[derive(Default)]
struct Counts([u64; 3]);

fn one(target: Target, input: Vec<u8>, counts: &mut Counts) {
    *CURRENT.lock().expect("nobody panics with it") = Some(Case { target, input: input.clone() });
    let outcome = hostile::outcome(target, &input);
    FINISHED.fetch_add(1, Ordering::SeqCst);
    if PANICS.load(Ordering::SeqCst) != 0 {
        eprintln!("a thread of the engine panicked");
        leave();
    }
    counts.0[outcome as usize] += 1;
}

fn corpus(target: Target) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name());
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files
}

fn fuzz(target: Target, asked: &Asked) {
    let started = Instant::now();
    let mut counts = Counts::default();
    let kept = match &asked.replay {
        Some(file) => vec![file.clone()],
        None => corpus(target),
    };
    for file in &kept {
        let input = fs::read(file).expect("the input is there");
        one(target, input, &mut counts);
    }
    let mut rng = Rng(asked.seed);
    let mut executions = 0;
    let time = Duration::from_secs((asked.seconds / asked.targets.len() as u64).max(1));
    while asked.replay.is_none() && executions < asked.executions && started.elapsed() < time {
        one(target, rng.input(), &mut counts);
        executions += 1;
    }
    let [refused, noticed, accepted] = counts.0;
    println!(
        "{}: {} kept inputs, {executions} drawn with seed {}: {refused} refused, {noticed} noticed, \
         {accepted} accepted, 0 panicked; {:.1} s, peak {} MiB",
        target.name(),
        kept.len(),
        asked.seed,
        started.elapsed().as_secs_f32(),
        PEAK.load(Ordering::Relaxed) >> 20,
    );
    assert!(asked.replay.is_some() || refused + noticed > 0, "a dead knob must show");
}

/// Ends the process when an input takes too long.
fn watch() {
    let mut before = (u64::MAX, Instant::now());
    loop {
        thread::sleep(Duration::from_secs(1));
        let finished = FINISHED.load(Ordering::SeqCst);
        if finished != before.0 {
            before = (finished, Instant::now());
        } else if before.1.elapsed() > Duration::from_secs(SECONDS_MAX) {
            eprintln!("an input takes longer than {SECONDS_MAX} seconds");
            leave();
        }
    }
}

fn main() -> ExitCode {
    let asked = match asked() {
        Ok(asked) => asked,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        before(panic);
        leave();
    }));
    thread::spawn(watch);
    for target in asked.targets.clone() {
        fuzz(target, &asked);
    }
    ExitCode::SUCCESS
}
