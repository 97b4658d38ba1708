//! Keeping what writers touch off the cache lines that readers need.

use std::ops::{Deref, DerefMut};

/// A value on cache lines of its own: 128 bytes, because lines are fetched in pairs.
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Apart<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
