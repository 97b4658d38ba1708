//! The owner's protocols under a model checker: no schedule loses a wake-up or a write.
//!
//! With loom: the mood and the bell, in every order and with what weak memory may do. With
//! shuttle: the whole crate on a simulated disk and on the pool, with callers that block, drive,
//! stand by or wait as tasks do; a lost wake-up is a deadlock, which shuttle reports.

#[cfg(ringdb_loom)]
mod wake {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use crate::backend::Bell;
    use crate::stats::Counters;
    use crate::threads::atomic::{AtomicU64, Ordering};
    use crate::threads::thread;
    use crate::wake::{Mood, Urgency, Wake};

    struct House {
        wake: Wake,
        work: AtomicU64,
        stats: Counters,
    }

    /// Serves until all of the work has come, and sleeps in between as `mood` says.
    fn serve(house: &House, mood: Mood, all: u64) {
        loop {
            house.wake.busy();
            if house.work.load(Ordering::SeqCst) == all {
                return;
            }
            house.wake.publish(mood);
            if house.work.load(Ordering::SeqCst) == all {
                return;
            }
            thread::park();
        }
    }

    fn explore(mood: Mood, urgency: Urgency, wakers: u64) {
        static SCHEDULES: AtomicUsize = AtomicUsize::new(0);
        SCHEDULES.store(0, Ordering::Relaxed);
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            SCHEDULES.fetch_add(1, Ordering::Relaxed);
            // A thread of its own, which waits for nobody: loom takes a late unpark for the end of a join.
            let server = thread::spawn(move || {
                let house = Arc::new(House {
                    wake: Wake::new(Bell::Thread(thread::current())),
                    work: AtomicU64::new(0),
                    stats: Counters::default(),
                });
                house.wake.set_background(thread::current());
                let threads: Vec<_> = (0..wakers)
                    .map(|_| {
                        let house = house.clone();
                        thread::spawn(move || {
                            house.work.fetch_add(1, Ordering::SeqCst);
                            house.wake.wake(urgency, &house.stats);
                        })
                    })
                    .collect();
                serve(&house, mood, wakers);
                threads
            });
            let threads = server.join().expect("it ends");
            threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
        });
        let schedules = SCHEDULES.load(Ordering::Relaxed);
        eprintln!("wake: {mood:?}, {urgency:?}, {wakers} wakers: {schedules} schedules");
        assert!(schedules > 10, "a dead knob must show");
    }

    #[test]
    fn no_order_loses_a_wake_up() {
        explore(Mood::Parked, Urgency::Kick, 2);
        explore(Mood::Parked, Urgency::Batch, 2);
        explore(Mood::Asleep, Urgency::Now, 2);
        explore(Mood::Asleep, Urgency::Kick, 2);
        explore(Mood::Flying, Urgency::Now, 2);
    }
}

#[cfg(ringdb_shuttle)]
mod whole {
    use std::future::Future;
    use std::io;
    use std::path::Path;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};
    use std::time::{Duration, Instant};

    use shuttle::future::block_on;
    use shuttle::scheduler::{PctScheduler, RandomScheduler};

    use crate::sim::Disk;
    use crate::threads::atomic::{AtomicBool, Ordering};
    use crate::threads::{Mutex, thread};
    use crate::{
        BLOCK_BYTES, BackendChoice, Blocked, Buf, DirectIo, Feed, Io, Next, Pending, Settings,
    };

    const FILE_BYTES: u64 = 1 << 20;
    const CALLERS: u64 = 3;
    const WRITES_EACH: u64 = 2;

    /// Writes that callers gave and wait for; all that wait go into one write.
    #[derive(Default)]
    struct Line {
        given: u64,
        taken: u64,
        done: u64,
        writes: u64,
        waiting: Vec<(u64, Waker)>,
        /// Whose write is over, and who is to be told.
        due: Vec<Waker>,
    }

    #[derive(Default)]
    struct Lines {
        line: Mutex<Line>,
        /// Who wakes the callers, if it is not the owner: as commits that become visible late wake others.
        waker: Option<Arc<Relay>>,
    }

    /// A thread that wakes whom it is told to, at any time.
    struct Relay {
        thread: thread::Thread,
        told: Mutex<Vec<Waker>>,
        is_over: AtomicBool,
    }

    impl Relay {
        fn start() -> (Arc<Relay>, thread::JoinHandle<()>) {
            let started = Arc::new(Mutex::new(None::<Arc<Relay>>));
            let handed = started.clone();
            let joined = thread::spawn(move || {
                let relay = loop {
                    let relay = handed.lock().take();
                    if let Some(relay) = relay {
                        break relay;
                    }
                    thread::park();
                };
                while !relay.is_over.load(Ordering::SeqCst) {
                    let told = std::mem::take(&mut *relay.told.lock());
                    if told.is_empty() {
                        thread::park();
                    }
                    told.into_iter().for_each(Waker::wake);
                }
            });
            let relay = Arc::new(Relay {
                thread: joined.thread().clone(),
                told: Mutex::new(Vec::new()),
                is_over: AtomicBool::new(false),
            });
            *started.lock() = Some(relay.clone());
            joined.thread().unpark();
            (relay, joined)
        }

        fn tell(&self, due: Vec<Waker>) {
            self.told.lock().extend(due);
            self.thread.unpark();
        }

        fn end(&self) {
            self.is_over.store(true, Ordering::SeqCst);
            self.thread.unpark();
        }
    }

    impl Lines {
        fn give(&self) -> u64 {
            let mut line = self.line.lock();
            line.given += 1;
            line.given
        }

        fn poll(&self, number: u64, waker: &Waker) -> bool {
            let mut line = self.line.lock();
            if line.done < number {
                line.waiting.push((number, waker.clone()));
            }
            line.done >= number
        }
    }

    impl Feed for Lines {
        fn next(&self, _: Instant) -> Next {
            let mut line = self.line.lock();
            assert_eq!(line.taken, line.done, "one write at a time");
            if line.given == line.taken {
                return Next::Idle;
            }
            line.taken = line.given;
            let offset = line.writes * BLOCK_BYTES as u64;
            line.writes += 1;
            let mut buf = Buf::zeroed(BLOCK_BYTES);
            buf[0] = line.taken as u8;
            Next::Write { offset, buf, len: BLOCK_BYTES }
        }

        fn pending(&self, _: Instant) -> Pending {
            let line = self.line.lock();
            if line.given == line.taken { Pending::Nothing } else { Pending::Write }
        }

        fn done(&self, result: io::Result<()>, _: Buf, _: Duration) {
            result.expect("the disk is well");
            let mut line = self.line.lock();
            line.done = line.taken;
            let done = line.done;
            let due: Vec<_> = line.waiting.extract_if(.., |(number, _)| *number <= done).collect();
            line.due.extend(due.into_iter().map(|(_, waker)| waker));
        }

        fn tell(&self) {
            let due = std::mem::take(&mut self.line.lock().due);
            match &self.waker {
                None => due.into_iter().for_each(Waker::wake),
                Some(relay) => relay.tell(due),
            }
        }
    }

    /// Who wakes the callers.
    #[derive(Clone, Copy)]
    enum Wakes {
        Owner,
        Another,
    }

    /// How a caller waits.
    #[derive(Clone, Copy)]
    enum Waits {
        /// It owns the I/O whenever nobody else does.
        Blocking,
        /// As a task does.
        Elsewhere,
    }

    fn commit(io: &Io, feed: &Lines, waits: Waits) {
        let blocked = Blocked::here();
        let waker = Waker::from(blocked.clone());
        let number = feed.give();
        while !feed.poll(number, &waker) {
            match waits {
                Waits::Blocking => io.block(&blocked, &|| io.kick()),
                Waits::Elsewhere => {
                    io.kick();
                    while !blocked.is_woken() {
                        thread::park();
                    }
                }
            }
            blocked.settle();
        }
    }

    /// Waits for a page write or a sync, and makes it, if nobody else does.
    fn helping<F: Future>(io: &Io, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let blocked = Blocked::here();
        let waker = Waker::from(blocked.clone());
        loop {
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(output) = polled {
                return output;
            }
            io.help(&|| blocked.is_woken());
            while !blocked.is_woken() {
                thread::park();
            }
            blocked.settle();
        }
    }

    fn read(io: &Io, block: u64) -> Buf {
        let offset = block * BLOCK_BYTES as u64;
        let (result, buf) = block_on(io.read(offset, Buf::zeroed(BLOCK_BYTES)));
        result.expect("the block is read");
        buf
    }

    fn life(io: &Io, waits: fn(u64) -> Waits, wakes: Wakes) {
        let (waker, relay) = match wakes {
            Wakes::Owner => (None, None),
            Wakes::Another => {
                let (relay, thread) = Relay::start();
                (Some(relay.clone()), Some((relay, thread)))
            }
        };
        let feed = Arc::new(Lines { line: Mutex::default(), waker });
        io.set_feed(feed.clone());
        let callers = (0..CALLERS).map(|caller| {
            let (io, feed) = (io.clone(), feed.clone());
            thread::spawn(move || {
                for _ in 0..WRITES_EACH {
                    commit(&io, &feed, waits(caller));
                }
                // And the queue beside the feed: written, synced and read back.
                let mut page = Buf::zeroed(BLOCK_BYTES);
                page[0] = 0x80 | caller as u8;
                let block = 100 + caller;
                let write = io.write(block * BLOCK_BYTES as u64, page, BLOCK_BYTES);
                let sync = io.sync();
                // The sync may become ready when nobody helps any more.
                match waits(caller) {
                    Waits::Blocking => helping(&io, write),
                    Waits::Elsewhere => block_on(write),
                }
                .0
                .expect("the page is written");
                block_on(sync).expect("the page is synced");
                assert_eq!(read(&io, block)[0], 0x80 | caller as u8);
            })
        });
        let callers: Vec<_> = callers.collect();
        callers.into_iter().for_each(|caller| caller.join().expect("it ends"));
        if let Some((relay, thread)) = relay {
            relay.end();
            thread.join().expect("it ends");
        }
        let (done, writes) = {
            let line = feed.line.lock();
            (line.done, line.writes)
        };
        assert_eq!(done, CALLERS * WRITES_EACH);
        assert_eq!(u64::from(read(io, writes - 1)[0]), done, "the last write has all of them");
        block_on(io.close());
    }

    fn on(backend: BackendChoice, path: &Path, waits: fn(u64) -> Waits, wakes: Wakes) {
        let direct = match backend {
            BackendChoice::Sim(_) => DirectIo::Off,
            _ => DirectIo::Auto, // With buffered I/O nobody helps.
        };
        let settings = Settings { backend, direct, ..Settings::default() };
        if !path.exists() {
            Io::create(path, &settings, FILE_BYTES, &[]).expect("the file is made");
        }
        let io = Io::open(path, &settings).expect("the file opens");
        life(&io, waits, wakes);
    }

    fn explore(name: &str, schedules: usize, run: impl Fn() + Send + Sync + Clone + 'static) {
        let seed = 7;
        let mut config = shuttle::Config::new();
        (config.stack_size, config.silence_warnings) = (1 << 20, true);
        let random = RandomScheduler::new_from_seed(seed, schedules);
        let drawn = shuttle::Runner::new(random, config.clone()).run(run.clone());
        let few_preemptions = PctScheduler::new_from_seed(seed, 3, schedules);
        let ranked = shuttle::Runner::new(few_preemptions, config).run(run);
        eprintln!("{name}: seed {seed}: {drawn} schedules at random, {ranked} by priorities");
        assert_eq!(drawn + ranked, 2 * schedules);
    }

    fn mixed(caller: u64) -> Waits {
        if caller == 0 { Waits::Elsewhere } else { Waits::Blocking }
    }

    #[test]
    fn no_schedule_loses_a_wake_up_on_the_simulated_disk() {
        for (name, waits) in
            [("callers that block", (|_| Waits::Blocking) as fn(u64) -> Waits), ("both", mixed)]
        {
            explore(name, 4000, move || {
                on(BackendChoice::Sim(Disk::new()), Path::new("model"), waits, Wakes::Owner);
            });
        }
    }

    #[test]
    fn no_schedule_loses_a_wake_up_when_others_wake_the_callers() {
        for (name, waits) in [
            ("woken by another", (|_| Waits::Blocking) as fn(u64) -> Waits),
            ("so are both", mixed),
        ] {
            explore(name, 4000, move || {
                on(BackendChoice::Sim(Disk::new()), Path::new("model"), waits, Wakes::Another);
            });
        }
    }

    #[test]
    fn no_schedule_loses_a_wake_up_on_the_pool() {
        let directory = tempfile::tempdir().expect("a directory is made");
        let path = directory.path().join("model");
        explore("the pool", 400, move || {
            on(BackendChoice::Pwrite, &path, mixed, Wakes::Owner);
        });
    }
}
