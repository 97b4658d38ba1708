//! Keys and values as readers get them.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

/// Longest key or value that needs no memory of its own. Memory for a short key cost a scan more than
/// its copy, and a read that is ready at once needs its key no longer than the call.
pub(crate) const SHORT_BYTES_MAX: usize = 38;

/// A key or value that was read. Cheap to clone; keeps its bytes, not the database, alive.
#[derive(Clone)]
pub struct Value(Held);

#[derive(Clone)]
enum Held {
    /// A short one: its length, and its bytes in front.
    Short(u8, [u8; SHORT_BYTES_MAX]),
    Shared(Bytes),
}

const _: () = assert!(size_of::<Value>() == 40);

impl Value {
    #[inline]
    pub(crate) fn new(bytes: Bytes) -> Value {
        Value::short(&bytes).unwrap_or(Value(Held::Shared(bytes)))
    }

    /// A copy of these bytes.
    #[inline]
    pub(crate) fn copied(bytes: &[u8]) -> Value {
        Value::short(bytes).unwrap_or_else(|| Value(Held::Shared(Bytes::copy_from_slice(bytes))))
    }

    /// So many bytes, as they are made out of zeros.
    #[inline]
    pub(crate) fn made(len: usize, make: impl FnOnce(&mut [u8])) -> Value {
        let mut short = [0; SHORT_BYTES_MAX];
        if let Some(bytes) = short.get_mut(..len) {
            make(bytes);
            return Value(Held::Short(len as u8, short));
        }
        let mut bytes = vec![0; len];
        make(&mut bytes);
        Value(Held::Shared(bytes.into()))
    }

    #[inline]
    fn short(bytes: &[u8]) -> Option<Value> {
        let mut short = [0; SHORT_BYTES_MAX];
        short.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Value(Held::Short(bytes.len() as u8, short)))
    }
}

impl Default for Value {
    /// No bytes.
    fn default() -> Value {
        Value(Held::Short(0, [0; SHORT_BYTES_MAX]))
    }
}

impl Deref for Value {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Short(len, bytes) => &bytes[..usize::from(*len)],
            Held::Shared(bytes) => bytes,
        }
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Value) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Value) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// A map with values as keys can be asked with bytes.
impl Borrow<[u8]> for Value {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Value> for Bytes {
    fn from(value: Value) -> Bytes {
        match value.0 {
            Held::Short(..) => Bytes::copy_from_slice(&value),
            Held::Shared(bytes) => bytes,
        }
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Value {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Bytes::from(self.clone()), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_any_length_is_its_bytes() {
        for len in [0, 1, SHORT_BYTES_MAX, SHORT_BYTES_MAX + 1, 1000] {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let (shared, copied) = (Value::new(bytes.clone().into()), Value::copied(&bytes));
            assert_eq!(&shared[..], bytes);
            assert_eq!(shared, copied);
            assert_eq!(Bytes::from(copied), bytes);
        }
    }

    #[test]
    fn a_map_of_values_is_asked_with_bytes() {
        let map = std::collections::HashMap::from([(Value::copied(b"ada"), 1815)]);
        assert_eq!(map.get(&b"ada"[..]), Some(&1815));
    }

    #[test]
    fn values_order_as_their_bytes_whether_short_or_not() {
        let long = Value::copied(&[b'b'; 100]);
        let (below, above) = (Value::copied(b"a"), Value::copied(b"c"));
        assert!(below < long && long < above);
    }
}
