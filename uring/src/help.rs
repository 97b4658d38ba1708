//! Work of the queue on the thread that waits for it.
//!
//! A thread that never drives may make page writes, growths and syncs itself, by plain calls, instead of sleeping until they
//! are over. Beside writes of the feed that is quicker for both. Through the ring, such an act ends in a worker of the kernel
//! and wakes its owner, which wakes who waits; and the next write of the feed goes through the ring as well. Where other
//! threads compute, each of these steps stands behind one of them for milliseconds. A plain call is one step, of a thread
//! that has to wait anyway.
//!
//! Where no feed writes nobody is held up, and the ring has more in flight than a thread can have.
//!
//! A thread that helps has nothing of its own in the ring, so its call may wait for a file system that is being frozen:
//! nothing in flight waits for that thread. It leaves cuts to the owner, which makes them when nothing is in the ring.
//!
//! Nobody helps with buffered I/O: a sync there takes as long as everything that anybody wrote before it, and the thread may
//! have something to do before that.

use crate::backend::perform::complete;
use crate::shared::{Executor, Shared};

impl Shared {
    /// Makes what the queue has, until there is nothing or the wait `is_over`. One thread at a time, others return at once.
    pub(crate) fn help(&self, is_over: &dyn Fn() -> bool) {
        let Some(helped) = self.helped.try_lock() else { return };
        let Some(file) = &*helped else { return };
        let mut has_helped = false;
        while !is_over()
            && let Some((work, let_in)) = self.core.pop_to_help()
        {
            has_helped = true;
            if let_in || matches!(self.executor, Executor::Pool) {
                self.tell_of_room(); // As a worker of the pool wakes the next one.
            }
            if complete(&**file, &self.core, work) {
                self.queue_is_idle();
            }
        }
        drop(helped);
        if has_helped {
            self.tell_of_room();
        }
    }
}
