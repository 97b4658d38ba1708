//! Random bytes for tests: a seeded generator, and the damage that decoders have to survive.

/// splitmix64: small, and the same on every machine.
pub(crate) struct Chance(u64);

impl Chance {
    /// The same seed gives the same numbers.
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// Any number.
    pub(crate) fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.any() % end
    }

    /// Changes one to eight bytes, with a liking for the extremes.
    pub(crate) fn damage(&mut self, bytes: &mut [u8]) {
        for _ in 0..=self.below(8) {
            let at = self.below(bytes.len() as u64) as usize;
            bytes[at] = match self.below(4) {
                0 => 0,
                1 => 0xFF,
                2 => bytes[at] ^ (1 << self.below(8)),
                _ => self.any() as u8,
            };
        }
    }
}

/// Every cut and every flipped bit of `bytes` has to be refused.
pub(crate) fn refuses_every_cut_and_flip(bytes: &[u8], decodes: impl Fn(&[u8]) -> bool) {
    assert!(decodes(bytes));
    for len in 0..bytes.len() {
        assert!(!decodes(&bytes[..len]), "cut to {len} bytes");
    }
    let mut flipped = bytes.to_vec();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            flipped[at] ^= 1 << bit;
            assert!(!decodes(&flipped), "bit {bit} of byte {at}");
            flipped[at] ^= 1 << bit;
        }
    }
}
