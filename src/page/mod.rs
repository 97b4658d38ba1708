//! Pages on their way between file, cache and readers; and which of them are free.

pub(crate) mod cache;
pub(crate) mod lookups;
mod retired;
pub(crate) mod space;
pub(crate) mod unpublished;
