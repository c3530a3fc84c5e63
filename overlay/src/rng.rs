//! The one generator that every machine uses.
//!
//! Lives here: the concrete generator type. A machine owns one, made by its owner's `fork`, so
//! that a network on the virtual clock replays exactly from one seed (DESIGN section 2). The
//! driver seeds the first from the operating system. Machines that draw little, and are many,
//! share one (`SharedRng`): the links of a router, for their padding.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rand::{Rng as _, SeedableRng};
pub use rand_chacha::ChaCha20Rng;

/// A cryptographically strong generator that can be split without reshuffling its siblings.
///
/// 48 bytes until it is asked for something, and again after `rest`; 300 more in between.
pub struct Rng {
    seed: [u8; 32],
    /// Words given before the last rest.
    given: u64,
    awake: Option<Box<ChaCha20Rng>>,
}

impl Rng {
    /// A generator from 32 bytes of entropy; the same bytes give the same sequence.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed, given: 0, awake: None }
    }

    /// A new generator whose sequence is independent of what this one gives from here on.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::from_seed(self.bytes())
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.inner().fill_bytes(&mut out);
        out
    }

    /// A uniform number in `0..bound`; zero when `bound` is zero.
    ///
    /// By widening multiplication (Lemire 2019); the bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.inner().next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A uniform number in `0.0..1.0`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    pub fn unit(&mut self) -> f64 {
        (self.inner().next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The generator itself, for libraries that ask for a `rand` trait.
    pub fn inner(&mut self) -> &mut ChaCha20Rng {
        self.awake.get_or_insert_with(|| {
            let mut generator = ChaCha20Rng::from_seed(self.seed);
            generator.set_word_pos(self.given.into());
            Box::new(generator)
        })
    }

    /// Gives back the memory that drawing takes; goes on where it was.
    pub fn rest(&mut self) {
        if let Some(generator) = self.awake.take() {
            self.given = u64::try_from(generator.get_word_pos()).unwrap_or(u64::MAX);
        }
    }
}

/// A generator that many machines of one owner draw from, none of them much: 8 bytes for each.
#[derive(Clone, Debug)]
pub struct SharedRng(Arc<Mutex<Rng>>);

impl SharedRng {
    /// Shares `rng`.
    pub fn new(rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(rng)))
    }

    /// See [`Rng::below`].
    pub fn below(&self, bound: u64) -> u64 {
        self.with(|rng| rng.below(bound))
    }

    /// See [`Rng::rest`].
    pub fn rest(&self) {
        self.with(Rng::rest);
    }

    fn with<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Mute: whoever knows the seed knows everything drawn.
impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_that_rested_goes_on_where_it_was() {
        let [mut one, mut other] = [(); 2].map(|()| Rng::from_seed([3; 32]));
        for round in 0..300 {
            assert_eq!(one.bytes::<7>(), other.bytes::<7>());
            assert_eq!(one.below(1 << 40), other.below(1 << 40));
            if round % 3 == 0 {
                other.rest();
            }
        }
    }
}
