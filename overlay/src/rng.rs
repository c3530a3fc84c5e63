//! The one generator that every machine uses.
//!
//! Lives here: the concrete generator type. A machine owns one, made by its owner's `fork`, so
//! that a network on the virtual clock replays exactly from one seed (DESIGN section 2). The
//! driver seeds the first from the operating system.

use rand::{Rng as _, SeedableRng};
pub use rand_chacha::ChaCha20Rng;

/// A cryptographically strong generator that can be split without reshuffling its siblings.
#[derive(Debug)]
pub struct Rng(ChaCha20Rng);

impl Rng {
    /// A generator from 32 bytes of entropy; the same bytes give the same sequence.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// A new generator whose sequence is independent of what this one gives from here on.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::from_seed(self.bytes())
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.0.fill_bytes(&mut out);
        out
    }

    /// A uniform number in `0..bound`; zero when `bound` is zero.
    ///
    /// By widening multiplication (Lemire 2019); the bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A uniform number in `0.0..1.0`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The generator itself, for libraries that ask for a `rand` trait.
    pub fn inner(&mut self) -> &mut ChaCha20Rng {
        &mut self.0
    }
}
