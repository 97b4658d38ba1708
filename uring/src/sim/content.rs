//! A file's bytes, cheap to copy: blocks are shared until they are written.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes shared as one.
const BLOCK_BYTES: usize = 4096;
/// Blocks whose pointers are shared as one.
const CHUNK_BLOCKS: usize = 64;

type Block = [u8; BLOCK_BYTES];
type Chunk = [Option<Arc<Block>>; CHUNK_BLOCKS];

/// Sparse bytes of any length; what was never written is zero.
#[derive(Clone, Default)]
pub(super) struct Content {
    chunks: BTreeMap<u64, Arc<Chunk>>,
    len_bytes: u64,
}

impl Content {
    /// Bytes in the file.
    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Lengthens the file.
    pub(super) fn grow(&mut self, len_bytes: u64) {
        self.len_bytes = self.len_bytes.max(len_bytes);
    }

    /// Cuts the file off, so that nothing behind the end comes back.
    pub(super) fn truncate(&mut self, len_bytes: u64) {
        self.len_bytes = len_bytes;
        let block = len_bytes / BLOCK_BYTES as u64;
        let (chunk, within) = place(block);
        self.chunks.split_off(&(chunk + 1));
        let Some(last) = self.chunks.get_mut(&chunk).map(Arc::make_mut) else { return };
        let rest = (len_bytes % BLOCK_BYTES as u64) as usize;
        if let Some(partial) = last[within].as_mut().filter(|_| rest > 0) {
            Arc::make_mut(partial)[rest..].fill(0);
        }
        for gone in &mut last[within + usize::from(rest > 0)..] {
            *gone = None;
        }
    }

    /// Copies bytes out, as many as there are; their count.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let len = self.len_bytes.saturating_sub(offset).min(buf.len() as u64) as usize;
        for (at, within, range) in blocks(offset, len) {
            let (chunk, index) = place(at);
            let into = &mut buf[range];
            match self.chunks.get(&chunk).and_then(|chunk| chunk[index].as_ref()) {
                Some(block) => into.copy_from_slice(&block[within..within + into.len()]),
                None => into.fill(0),
            }
        }
        len
    }

    /// Copies bytes in. The length is not changed: see [`Content::grow`].
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        const NONE: Option<Arc<Block>> = None;
        for (at, within, range) in blocks(offset, bytes.len()) {
            let (chunk, index) = place(at);
            let chunk = self.chunks.entry(chunk).or_insert_with(|| Arc::new([NONE; CHUNK_BLOCKS]));
            let block = &mut Arc::make_mut(chunk)[index];
            let block = block.get_or_insert_with(|| Arc::new([0; BLOCK_BYTES]));
            let from = &bytes[range];
            Arc::make_mut(block)[within..within + from.len()].copy_from_slice(from);
        }
    }
}

fn place(block: u64) -> (u64, usize) {
    (block / CHUNK_BLOCKS as u64, (block % CHUNK_BLOCKS as u64) as usize)
}

/// The blocks a range touches: number, first byte within, and which of the range's bytes.
fn blocks(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % BLOCK_BYTES as u64) as usize;
        let range = done..len.min(done + BLOCK_BYTES - within);
        done = range.end;
        (!range.is_empty()).then(|| (at / BLOCK_BYTES as u64, within, range))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_across_block_borders() {
        let mut content = Content::default();
        let bytes: Vec<u8> = (0..10_000u32).map(|at| at as u8).collect();
        content.grow(1 << 44);
        content.write((1 << 43) + 4000, &bytes);
        let mut back = vec![9; 10_002];
        assert_eq!(content.read((1 << 43) + 3999, &mut back), 10_002);
        assert_eq!(back[1..10_001], bytes);
        assert_eq!((back[0], back[10_001]), (0, 0));
    }

    #[test]
    fn a_copy_does_not_see_later_writes() {
        let mut content = Content::default();
        content.grow(8192);
        content.write(0, &[1; 8192]);
        let copy = content.clone();
        content.write(0, &[2; 4096]);
        let mut back = [0; 8192];
        copy.read(0, &mut back);
        assert_eq!(back, [1; 8192]);
    }

    #[test]
    fn what_was_cut_off_does_not_come_back() {
        let mut content = Content::default();
        content.grow(1 << 20);
        content.write(0, &[7; 1 << 20]);
        content.truncate(5000);
        content.grow(1 << 20);
        let mut back = vec![1; 1 << 20];
        assert_eq!(content.read(0, &mut back), 1 << 20);
        assert_eq!(back.iter().filter(|&&byte| byte == 7).count(), 5000);
    }

    #[test]
    fn a_read_ends_with_the_file() {
        let mut content = Content::default();
        content.grow(5000);
        assert_eq!(content.read(4096, &mut [0; 4096]), 904);
        assert_eq!(content.read(8192, &mut [0; 4096]), 0);
    }
}
