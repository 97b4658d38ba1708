//! Puts that are not synced return in the order of their seqs.

use std::sync::atomic::{AtomicU64, Ordering};

/// Puts that may be under way at once; a power of two.
const PLACES: u64 = 1 << 14;
/// Looks before a thread gives its turn away: those before it are at work, as a rule, on the other processor.
const LOOKS: u32 = 2000;

/// Which puts are in their maps.
pub struct Order {
    /// The last seq that had this place.
    places: Box<[AtomicU64]>,
    visible: AtomicU64,
}

impl Default for Order {
    fn default() -> Order {
        let places = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Order { places, visible: AtomicU64::new(0) }
    }
}

impl Order {
    /// Whether nothing was shown yet.
    pub fn is_new(&self) -> bool {
        self.visible.load(Ordering::Relaxed) == 0
    }

    /// Whether the put with this seq has a place.
    pub fn has_place(&self, seq: u64) -> bool {
        seq - self.visible.load(Ordering::Acquire) < PLACES
    }

    /// The row of this seq is in its map: waits until those before it are.
    pub fn show(&self, seq: u64) {
        self.place(seq).store(seq, Ordering::SeqCst);
        let mut looks = 0;
        loop {
            let visible = self.visible.load(Ordering::SeqCst);
            if self.place(visible + 1).load(Ordering::SeqCst) == visible + 1 {
                // Whoever was faster showed the same.
                let _ = self.visible.compare_exchange(
                    visible,
                    visible + 1,
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                );
                continue;
            }
            if visible >= seq {
                return;
            }
            looks += 1;
            match looks % LOOKS {
                0 => std::thread::yield_now(),
                _ => std::hint::spin_loop(),
            }
        }
    }

    fn place(&self, seq: u64) -> &AtomicU64 {
        &self.places[(seq % PLACES) as usize]
    }
}
