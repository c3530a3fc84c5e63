//! What one client of a private service shares with it.
//!
//! Lives here: the access key, and the three secrets that follow from it. Does not live here: what
//! they go into (`day.rs`, `descriptor.rs`, `session/handshake.rs`), names that people give to
//! clients, the line that carries a key (router).
//!
//! ```text
//!                ┌─place───> where this client's descriptors lie: unlinkable to everybody else's
//!  access key 32 ┼─seal────> who else knows the name and finds one cannot read it
//!                └─session─> who else knows where and what it says cannot open a session
//! ```

use std::fmt;

use crate::{
    crypto::{kdf, secret::Secret},
    rng::Rng,
};

const PLACE: &str = "warren access place 1";
const SEAL: &str = "warren access seal 1";
const SESSION: &str = "warren access session 1";

/// The key that a private service made for one client: without it there is no service.
pub struct AccessKey {
    secret: Secret<32>,
    place: Secret<32>,
    seal: Secret<32>,
    session: Secret<32>,
}

impl AccessKey {
    /// A key for one more client.
    pub fn generate(rng: &mut Rng) -> Self {
        Self::from_bytes(Secret::random(rng))
    }

    /// The key of these stored bytes; any 32 bytes are one.
    pub fn from_bytes(secret: Secret<32>) -> Self {
        let derive = |context| kdf::derive_secret(context, &[secret.expose_secret()]);
        Self { place: derive(PLACE), seal: derive(SEAL), session: derive(SESSION), secret }
    }

    /// What to store, and what the client is given.
    pub const fn secret_bytes(&self) -> &Secret<32> {
        &self.secret
    }

    /// Goes into the blinding of each of the client's places.
    pub(super) fn place(&self) -> &[u8; 32] {
        self.place.expose_secret()
    }

    /// Goes into the key that seals the client's descriptors.
    pub(super) fn seal(&self) -> &[u8; 32] {
        self.seal.expose_secret()
    }

    /// Goes into the psk of the client's sessions.
    pub(crate) fn session(&self) -> &[u8; 32] {
        self.session.expose_secret()
    }
}

/// Mute.
impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_a_key_differs_by_use_and_by_key() {
        let key = |byte| AccessKey::from_bytes(Secret::take(&mut [byte; 32]));
        let (one, two) = (key(1), key(2));
        let of = |key: &AccessKey| [*key.place(), *key.seal(), *key.session()];
        let all: std::collections::BTreeSet<_> = of(&one).into_iter().chain(of(&two)).collect();
        assert_eq!(all.len(), 6);
        assert_eq!(of(&one), of(&key(1)));
        assert_eq!(format!("{one:?}"), "_");
    }
}
