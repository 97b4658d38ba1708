//! A key on its way into a point read.
//!
//! A read that is ready at once needs its key no longer than the call; memory of its own for it was a twentieth of
//! the whole. So the future holds short keys itself, and one that has to wait makes bytes to share.

use std::ops::Deref;

use bytes::Bytes;

/// Longest key that the future holds itself; with its length it takes no more than a few words.
const SHORT_BYTES_MAX: usize = 39;

/// A key.
pub(crate) enum Key {
    /// A short one: its length, and its bytes in front.
    Short(u8, [u8; SHORT_BYTES_MAX]),
    /// A longer one, or one that had memory of its own already.
    Shared(Bytes),
}

impl Key {
    pub(crate) fn new(key: &[u8]) -> Key {
        if key.len() > SHORT_BYTES_MAX {
            return Key::Shared(Bytes::copy_from_slice(key));
        }
        let mut bytes = [0; SHORT_BYTES_MAX];
        bytes[..key.len()].copy_from_slice(key);
        Key::Short(key.len() as u8, bytes)
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Key::Short(len, bytes) => Bytes::copy_from_slice(&bytes[..usize::from(len)]),
            Key::Shared(bytes) => bytes,
        }
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Key::Short(len, bytes) => &bytes[..usize::from(*len)],
            Key::Shared(bytes) => bytes,
        }
    }
}

/// Keys that share one piece of memory, in their order.
pub(crate) fn together<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Vec<Bytes> {
    let (mut bytes, mut lens) = (Vec::new(), Vec::new());
    for key in keys {
        bytes.extend_from_slice(key.as_ref());
        lens.push(key.as_ref().len());
    }
    let mut rest = Bytes::from(bytes);
    lens.into_iter().map(|len| rest.split_to(len)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_any_length_stays_itself() {
        for len in [0, 1, SHORT_BYTES_MAX, SHORT_BYTES_MAX + 1, 1000] {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let key = Key::new(&bytes);
            assert_eq!(&key[..], bytes);
            assert_eq!(key.into_bytes(), bytes);
        }
    }

    #[test]
    fn keys_together_keep_their_order() {
        let keys = together([&b"b"[..], b"", b"long", b"a"]);
        assert_eq!(keys, [&b"b"[..], b"", b"long", b"a"]);
    }
}
