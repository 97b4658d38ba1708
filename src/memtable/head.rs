//! Heads: the first bytes of a key as a number, so that most comparisons read no key.
//!
//! Heads are taken behind a prefix that all keys of a leaf (or all borders of the index) share:
//! keys such as `user:0000017` would tie on their first eight bytes otherwise. A short key is
//! padded with zeros, so unequal heads order as the keys do, and equal heads say nothing.

use std::cmp::Ordering;

use crate::format::codec::behind;

/// The first eight bytes of `rest`.
pub(crate) fn head8(rest: &[u8]) -> u64 {
    match rest.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => u64::from_be_bytes(padded(rest)),
    }
}

/// The first sixteen bytes of `rest`.
pub(super) fn head16(rest: &[u8]) -> u128 {
    match rest.first_chunk::<16>() {
        Some(bytes) => u128::from_be_bytes(*bytes),
        None => u128::from_be_bytes(padded(rest)),
    }
}

fn padded<const N: usize>(rest: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..rest.len()].copy_from_slice(rest);
    bytes
}

/// How many leading bytes two keys share.
pub(super) fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Where a key lies against all keys that begin with a prefix.
pub(super) enum Against<'a> {
    Below,
    /// It begins with the prefix; here is the rest.
    Within(&'a [u8]),
    Above,
}

/// Compares `key` with the keys that begin with `prefix`.
pub(super) fn against<'a>(key: &'a [u8], prefix: &[u8]) -> Against<'a> {
    match behind(key, prefix) {
        Some(rest) => Against::Within(rest),
        None => match key.cmp(prefix) {
            Ordering::Less => Against::Below,
            Ordering::Equal | Ordering::Greater => Against::Above,
        },
    }
}
