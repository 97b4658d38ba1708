//! A file's bytes, cheap to copy: blocks are shared until they are written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes shared as one.
const BLOCK_BYTES: usize = 4096;
/// Blocks whose pointers are shared as one.
const CHUNK_BLOCKS: usize = 64;

type Bytes = [u8; BLOCK_BYTES];

struct Block {
    bytes: Bytes,
    /// Of the bytes; 0 while it is not known.
    digest: AtomicU64,
}

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
            Arc::make_mut(partial).change()[rest..].fill(0);
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
                Some(block) => into.copy_from_slice(&block.bytes[within..within + into.len()]),
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
            let known = self.chunks.get(&chunk).is_some_and(|chunk| chunk[index].is_some());
            if !known && is_zero(&bytes[range.clone()]) {
                continue; // It reads as zero already.
            }
            let chunk = self.chunks.entry(chunk).or_insert_with(|| Arc::new([NONE; CHUNK_BLOCKS]));
            let block = &mut Arc::make_mut(chunk)[index];
            let block = block.get_or_insert_with(Arc::default);
            let from = &bytes[range];
            Arc::make_mut(block).change()[within..within + from.len()].copy_from_slice(from);
        }
    }

    /// A digest of length and bytes: equal contents have equal ones, however they came about.
    pub(super) fn digest(&self) -> u64 {
        let mut digest = mix(self.len_bytes);
        for (place, chunk) in &self.chunks {
            for (index, block) in (0u64..).zip(chunk.iter()) {
                let block = block.as_ref().map_or(ZERO_DIGEST, |block| block.digest());
                if block != ZERO_DIGEST {
                    let at = mix(place * CHUNK_BLOCKS as u64 + index + 1);
                    digest = digest.wrapping_add(mix(block ^ at));
                }
            }
        }
        digest
    }
}

/// What a block of zeros has for a digest.
const ZERO_DIGEST: u64 = 1;

impl Block {
    /// The bytes, to be changed.
    fn change(&mut self) -> &mut Bytes {
        *self.digest.get_mut() = 0;
        &mut self.bytes
    }

    fn digest(&self) -> u64 {
        let known = self.digest.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let digest = match is_zero(&self.bytes) {
            true => ZERO_DIGEST,
            false => {
                let (words, _) = self.bytes.as_chunks::<8>();
                let words = words.iter().map(|word| u64::from_le_bytes(*word));
                words.fold(BLOCK_BYTES as u64, |digest, word| mix(digest ^ word)).max(2)
            }
        };
        self.digest.store(digest, Ordering::Relaxed);
        digest
    }
}

impl Default for Block {
    fn default() -> Block {
        Block { bytes: [0; BLOCK_BYTES], digest: AtomicU64::new(ZERO_DIGEST) }
    }
}

impl Clone for Block {
    fn clone(&self) -> Block {
        let digest = AtomicU64::new(self.digest.load(Ordering::Relaxed));
        Block { bytes: self.bytes, digest }
    }
}

/// Spreads every bit over all (the last steps of splitmix64).
pub(super) fn mix(word: u64) -> u64 {
    let mut mixed = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: Bytes = [0; BLOCK_BYTES];
    bytes == &ZEROS[..bytes.len()]
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
    fn equal_contents_have_equal_digests_however_they_came_about() {
        let mut content = Content::default();
        content.grow(1 << 20);
        let empty = content.digest();
        content.write(5000, &[7; 10_000]);
        let full = content.digest();
        assert_ne!(full, empty);
        let mut other = Content::default();
        other.write(4096, &[9; 20_000]);
        other.write(0, &[0; 30_000]);
        other.write(5000, &[7; 10_000]);
        other.grow(1 << 20);
        assert_eq!(other.digest(), full);
        other.write(5000, &[8]);
        assert_ne!(other.digest(), full);
        content.truncate(0);
        content.grow(1 << 20);
        assert_eq!(content.digest(), empty);
    }

    #[test]
    fn a_read_ends_with_the_file() {
        let mut content = Content::default();
        content.grow(5000);
        assert_eq!(content.read(4096, &mut [0; 4096]), 904);
        assert_eq!(content.read(8192, &mut [0; 4096]), 0);
    }
}
