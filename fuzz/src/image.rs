//! The database that all inputs edit: the golden file of the integration suite, with its parts.

use super::map::{self, Region};
use super::sparse;

/// The kept database and where its parts lie.
pub struct Image {
    /// The file.
    pub bytes: Vec<u8>,
    /// The first copy of the newest superblock.
    pub slot_at: usize,
    /// Every part that is in use.
    pub regions: Vec<Region>,
}

impl Image {
    /// The golden file.
    pub fn kept() -> Image {
        let kept = include_bytes!("../../tests/golden/v1.sparse");
        let bytes = sparse::expand(kept).expect("the golden file is whole");
        let slot_at = map::newest_slot(&bytes);
        let regions = map::regions(&bytes, slot_at);
        Image { bytes, slot_at, regions }
    }
}
