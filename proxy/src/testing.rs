//! What the tests share: names and listeners made of small numbers.

use std::sync::Arc;

use warren_overlay::{
    crypto::{secret::Secret, sign::IdentityKey},
    rng::Rng,
    service::{Name, NameKind},
};

use crate::isolation::{IsolationSecret, Listener};

/// A listener of one process: the secret is always the same.
pub(crate) fn listener(number: u16) -> Listener {
    Listener { number, secret: Arc::new(IsolationSecret::new(&mut Rng::from_seed([5; 32]))) }
}

/// A valid name.
pub(crate) fn name(number: u8) -> Name {
    let key = IdentityKey::from_seed(Secret::take(&mut [number; 32])).id();
    Name::new(*key.as_bytes(), NameKind::Service).unwrap()
}
