//! Keys on their way into reads of several rows.

use bytes::Bytes;

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
    fn keys_together_keep_their_order() {
        let keys = together([&b"b"[..], b"", b"long", b"a"]);
        assert_eq!(keys, [&b"b"[..], b"", b"long", b"a"]);
    }
}
