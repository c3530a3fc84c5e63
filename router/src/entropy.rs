//! The one draw from the operating system's randomness, from which all generators follow.

use rand::{TryRng, rngs::SysRng};
use warren_overlay::rng::Rng;

/// A generator that nobody else has.
///
/// # Panics
/// When the operating system gives no randomness: nothing may run then.
pub(crate) fn generator() -> Rng {
    let mut seed = [0; 32];
    SysRng.try_fill_bytes(&mut seed).expect("the operating system gives randomness");
    Rng::from_seed(seed)
}
