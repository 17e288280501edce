//! Numbers that look random and are the same for a seed.

/// An xorshift generator.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.next() >> 24) as u8).collect()
    }

    /// Of any magnitude between 1e-12 and 1e12.
    pub(crate) fn float(&mut self) -> f64 {
        let digits = self.below(2_000_000) as f64 - 1_000_000.0;
        let exponent = self.below(19) as i32 - 12;
        digits * 10f64.powi(exponent)
    }
}
