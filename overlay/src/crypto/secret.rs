//! Bytes that nobody else may learn.
//!
//! Lives here: the one container for keys and shared secrets. Nothing in this file may implement
//! `Display`, `Clone`, `PartialEq` or serialisation. Does not live here: what the bytes are for.
//!
//! What wiping does and does not give is said in docs/spec/crypto.md, "Wiping".

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::rng::Rng;

/// `N` secret bytes, erased from memory when dropped.
///
/// On the heap, so that moving the value moves a pointer and leaves no copy behind. Not clonable: a
/// second copy is a second place to leak from.
///
/// ```compile_fail
/// use warren_overlay::crypto::secret::Secret;
/// fn copy(secret: &Secret<32>) -> Secret<32> { secret.clone() }
/// ```
///
/// Nor comparable by accident, since `==` is not constant time:
///
/// ```compile_fail
/// use warren_overlay::crypto::secret::Secret;
/// fn same(a: &Secret<32>, b: &Secret<32>) -> bool { a == b }
/// ```
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Takes over `bytes` and wipes the caller's copy.
    pub fn take(bytes: &mut [u8; N]) -> Self {
        let secret = Self(Box::new(*bytes));
        bytes.zeroize();
        secret
    }

    /// Fresh random bytes.
    pub fn random(rng: &mut Rng) -> Self {
        Self::take(&mut rng.bytes())
    }

    /// Lends the raw bytes to a cipher. The name is long so that a reviewer sees it.
    pub fn expose_secret(&self) -> &[u8; N] {
        &self.0
    }

    /// All zero, to be filled in place.
    pub(super) fn zeroed() -> Self {
        Self(Box::new([0; N]))
    }

    /// Lends the raw bytes to whoever derives them.
    pub(super) fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

/// Mute.
impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_a_secret_wipes_the_source() {
        let mut bytes = [7; 32];
        let secret = Secret::take(&mut bytes);
        assert_eq!(bytes, [0; 32]);
        assert_eq!(secret.expose_secret(), &[7; 32]);
    }

    #[test]
    fn zeroizing_leaves_nothing() {
        let mut secret = Secret::take(&mut [7; 32]);
        secret.zeroize();
        assert_eq!(secret.expose_secret(), &[0; 32]);
    }

    #[test]
    fn debug_gives_nothing_away() {
        assert_eq!(format!("{:?}", Secret::take(&mut [7; 64])), "_");
    }
}
