//! A file without its zeros, so that a database of a MiB is kept in little more than its rows.
//!
//! ```text
//! off len field
//!   0   8 length of the file
//!   8     stretches, ascending:
//!           8 offset in the file
//!           4 bytes
//!           n the bytes
//! ```

/// Zeros that are worth a new stretch.
const GAP_BYTES: usize = 32;

/// The kept form of a file.
pub fn shrink(bytes: &[u8]) -> Vec<u8> {
    let mut kept = (bytes.len() as u64).to_le_bytes().to_vec();
    let mut at = 0;
    while let Some(start) = bytes[at..].iter().position(|byte| *byte != 0).map(|skip| at + skip) {
        let mut end = start + 1;
        let gap = |end: usize| &bytes[end..bytes.len().min(end + GAP_BYTES)];
        while let Some(more) = gap(end).iter().position(|byte| *byte != 0) {
            end += more + 1;
        }
        kept.extend_from_slice(&(start as u64).to_le_bytes());
        kept.extend_from_slice(&((end - start) as u32).to_le_bytes());
        kept.extend_from_slice(&bytes[start..end]);
        at = end;
    }
    kept
}

/// The file of a kept form, if that is whole.
pub fn expand(kept: &[u8]) -> Option<Vec<u8>> {
    let (len, mut rest) = kept.split_first_chunk()?;
    let mut bytes = vec![0; usize::try_from(u64::from_le_bytes(*len)).ok()?];
    while !rest.is_empty() {
        let (offset, after) = rest.split_first_chunk()?;
        let (len, after) = after.split_first_chunk()?;
        let (stretch, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        let start = usize::try_from(u64::from_le_bytes(*offset)).ok()?;
        bytes.get_mut(start..start.checked_add(stretch.len())?)?.copy_from_slice(stretch);
        rest = after;
    }
    Some(bytes)
}

#[test]
fn a_file_comes_back_as_it_was() {
    let mut bytes = vec![0; 5000];
    (bytes[0], bytes[40], bytes[41], bytes[80], bytes[4000]) = (1, 2, 3, 4, 5);
    let kept = shrink(&bytes);
    assert_eq!(kept.len(), 8 + 4 * 12 + 1 + 2 + 1 + 1);
    assert_eq!(expand(&kept), Some(bytes));
    assert_eq!(expand(&kept[..kept.len() - 1]), None);
    assert_eq!(expand(&shrink(&[0; 100])), Some(vec![0; 100]));
}
