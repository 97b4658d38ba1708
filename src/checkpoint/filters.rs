//! Filters of new trees, and those of the file when it has been opened.

use ringdb_uring::{Buf, TRANSFER_BYTES_MAX};

use crate::checkpoint::writer::Writer;
use crate::engine::Engine;
use crate::error::Result;
use crate::format::blob::BlobRef;
use crate::format::lies_inside;
use crate::format::node_ref::TreeRoot;
use crate::ids::PAGE_BYTES;
use crate::state::{Charged, Tree};
use crate::tree::Filter;

/// The tree with its filter, written. It goes without where the disk has no run for one: pages are promised to rows, but not so
/// many of them in a row.
pub(super) async fn attach(
    root: Option<TreeRoot>,
    filter: Option<Charged>,
    writer: &mut Writer<'_>,
) -> Result<Option<Tree>> {
    let (Some(root), Some(filter)) = (root, filter) else { return Ok(root.map(Tree::plain)) };
    let bytes = filter.encode();
    let Some(extent) = writer.place_if_room(BlobRef::pages(bytes.len()) as u32).await? else {
        return Ok(Some(Tree::plain(root)));
    };
    let blob = writer.write_placed_blob(&bytes, extent).await?;
    Ok(Some(Tree::filtered(root, blob, filter)))
}

/// Reads the filters that the file has. One that cannot be read, or is not what was written, is left out: lookups are right
/// without, and a check tells.
pub(super) async fn load(engine: &Engine) {
    let state = engine.state().clone();
    for tree in state.families.iter().flat_map(|view| view.trees.iter()) {
        let blob = tree.kept.blob;
        let inside = lies_inside(blob.extent, engine.io.len_bytes() / PAGE_BYTES as u64);
        let is_readable = inside && blob.extent.len_bytes() <= TRANSFER_BYTES_MAX as u64;
        if blob.extent.is_empty() || !is_readable || !engine.filters.has_room(blob.len_bytes, 0) {
            continue;
        }
        let buf = Buf::zeroed(blob.extent.len_bytes() as usize);
        let (Ok(()), bytes) = engine.io.read(blob.extent.start.byte_offset(), buf).await else {
            continue;
        };
        let filter = blob.open(&bytes, &engine.file_id).and_then(Filter::decode);
        if let Ok(filter) = filter {
            tree.kept.put(engine.filters.replacement(filter));
        }
    }
}
