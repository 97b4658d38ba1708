//! The role in the hands of callers that block anyway.
//!
//! Whoever leaves the role looks once more, after saying so: what arrives later sees a free role
//! and wakes somebody. What is left is handed to a thread that stands by, or to the background
//! thread. An appointment of the feed that is near is kept by a thread that stands by outside the
//! role, so that the commit that makes it needless takes the role without waking anybody.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::feed::Feed;
use crate::owner::{Left, Owner};
use crate::shared::{Shared, guard};
use crate::standby::Blocked;
use crate::threads::{MutexGuard, thread};

/// Appointments of the feed further away are left to the background thread.
const KEPT_AHEAD_MAX: Duration = Duration::from_millis(1);

/// Looks at a role that is just being left.
const LEAVING_LOOKS_MAX: u32 = 64;

/// What came of an attempt to drive.
enum Driven {
    /// The caller has what it wanted.
    Done,
    /// There was nothing to do, until the appointment if there is one.
    Quiet(Option<Instant>),
    /// Something came while the role was being left.
    Again,
    /// A write of the feed is over, and who waits for it was told after the role was left.
    Told(Left),
    /// Somebody else has the role.
    Refused,
}

impl Shared {
    /// Takes the role if it is free and runs the loop until `done`. True if `done`.
    pub(crate) fn drive(&self, done: &dyn Fn() -> bool) -> bool {
        loop {
            match self.try_drive(done) {
                Driven::Done => return true,
                Driven::Again | Driven::Told(_) => {}
                Driven::Quiet(alarm) => {
                    self.keep_by_others(alarm);
                    return false;
                }
                Driven::Refused => return false,
            }
        }
    }

    /// Blocks until woken, with the role whenever nobody else has it; `refused` is called once if
    /// somebody does, or if there was no time to look.
    pub(crate) fn block(&self, blocked: &Arc<Blocked>, refused: &dyn Fn()) {
        let woken = || blocked.is_woken();
        if woken() {
            return refused();
        }
        let mut tell = Some(refused);
        let mut owes_a_look = false;
        while owes_a_look || !woken() {
            // Until what it leaves behind is handed on, even if it was woken meanwhile.
            owes_a_look = true;
            let alarm = match self.try_drive(&woken) {
                Driven::Done => return,
                Driven::Told(left) if woken() => return self.settle_told(left),
                Driven::Again | Driven::Told(_) => continue,
                Driven::Quiet(alarm) => alarm,
                Driven::Refused => {
                    tell.take().into_iter().for_each(|refused| refused());
                    if woken() {
                        return; // Whoever has the role looks when leaving it.
                    }
                    None
                }
            };
            owes_a_look = self.stand_by(blocked, alarm);
        }
    }

    fn try_drive(&self, done: &dyn Fn() -> bool) -> Driven {
        let Some(mut role) = self.try_role() else { return Driven::Refused };
        let Some(owner) = role.as_mut() else { return Driven::Refused };
        self.wake.busy();
        self.core.stats.drives.bump();
        let driven = guard(|| {
            let finished = owner.drive(self, done)?;
            Ok((finished, owner.leave(self)?, owner.take_word()))
        });
        let (finished, left, owed) = match driven {
            Ok(driven) => driven,
            Err(gone) => {
                self.fail(role.take(), gone);
                return if done() { Driven::Done } else { Driven::Refused };
            }
        };
        drop(role);
        let told = owed.map(|feed| self.tell(&*feed));
        self.wake_for_close();
        match left {
            _ if told.is_some() => return Driven::Told(left),
            _ if finished => self.settle_left(left),
            Left::Working => return Driven::Again,
            Left::Quiet(_) if self.wake.was_woken() => return Driven::Again,
            Left::Quiet(alarm) => return Driven::Quiet(alarm),
        }
        Driven::Done
    }

    /// Tells who waits for the last write of the feed; a feed that panics is the end of the owner, whoever that is by now.
    fn tell(&self, feed: &dyn Feed) {
        let told = guard(|| {
            feed.tell();
            Ok(())
        });
        let Err(gone) = told else { return };
        // Who has the role meanwhile leaves it then.
        self.core.fail(&gone);
        let owner = self.role.lock().take();
        match owner {
            Some(owner) => self.fail(Some(owner), gone),
            None => feed.abandoned(gone.into()),
        }
    }

    /// The role; one that is being left is waited for, shortly.
    fn try_role(&self) -> Option<MutexGuard<'_, Option<Owner>>> {
        for _ in 0..LEAVING_LOOKS_MAX {
            let role = self.role.try_lock();
            if role.is_some() || !self.wake.is_left() {
                return role;
            }
            std::hint::spin_loop();
        }
        None
    }

    /// The role was left: whoever has to go on is told.
    fn settle_left(&self, left: Left) {
        match left {
            Left::Working => self.hand_over(),
            Left::Quiet(_) if self.wake.was_woken() => self.hand_over(),
            Left::Quiet(alarm) => self.keep_by_others(alarm),
        }
    }

    /// The same, after others were told, and may have taken the role: whoever has it looks when leaving it.
    fn settle_told(&self, left: Left) {
        if !self.role.is_locked() {
            self.settle_left(left);
        }
    }

    /// Makes sure that somebody who is not this thread keeps the appointment.
    fn keep_by_others(&self, alarm: Option<Instant>) {
        match alarm {
            alarm if self.is_kept_by_others(alarm) => {}
            Some(near) if is_near(near) => self.hand_over(),
            _ => self.wake.unpark(&self.core.stats),
        }
    }

    /// Whether somebody who is not this thread keeps the appointment, if there is one.
    fn is_kept_by_others(&self, alarm: Option<Instant>) -> bool {
        match alarm {
            Some(near) if is_near(near) => self.wake.is_kept(near),
            alarm => !self.wake.oversleeps(alarm),
        }
    }

    /// Somebody has to take the role.
    fn hand_over(&self) {
        if !self.standbys.nominate(&self.core.stats) {
            self.wake.unpark(&self.core.stats);
        }
    }

    /// Waits until woken, nominated, or due at an appointment that nobody else keeps. True if others rely on it to look: it was nominated,
    /// or kept an appointment.
    ///
    /// Others run first: what the thread waits for is often a step of one that lost its processor, and a wait that ends then costs
    /// neither a sleep nor a wake-up. It says that it stands by, and what it keeps, before that, so that nobody else is woken for it.
    fn stand_by(&self, blocked: &Arc<Blocked>, alarm: Option<Instant>) -> bool {
        let near = alarm.filter(|alarm| is_near(*alarm));
        let keeps = near.filter(|alarm| self.wake.keeps(*alarm));
        if near.is_none() {
            self.keep_by_others(alarm);
        }
        let mut turns = self.turns.before_sleep(self.standbys.join(blocked));
        loop {
            if blocked.is_woken() || self.standbys.has_nominated(blocked) {
                break;
            }
            let wait = keeps.map(|alarm| alarm.saturating_duration_since(Instant::now()));
            if wait != Some(Duration::ZERO) && turns > 0 && self.turns.give() {
                turns -= 1;
                continue;
            }
            match wait {
                Some(Duration::ZERO) => break,
                Some(wait) => self.counted(|| thread::park_timeout(wait)),
                None => self.counted(thread::park),
            }
        }
        if let Some(alarm) = keeps {
            self.wake.keeps_no_more(alarm);
        }
        self.standbys.leave(blocked) || keeps.is_some()
    }

    fn wake_for_close(&self) {
        if self.is_closing.load(Ordering::SeqCst) {
            self.wake.unpark(&self.core.stats);
        }
    }

    fn counted(&self, call: impl FnOnce()) {
        self.core.stats.syscalls.bump();
        call();
    }
}

fn is_near(alarm: Instant) -> bool {
    alarm.saturating_duration_since(Instant::now()) <= KEPT_AHEAD_MAX
}
