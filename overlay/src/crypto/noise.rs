//! The two handshakes: router to router (link) and client to service (session).
//!
//! Lives here: snow, and wrappers that hand out keys only. Does not live here: our primitives for snow
//! (`noise/primitives.rs`; nothing else names it), masking and framing on the wire (link), what the
//! payloads say, replay windows.
//!
//! Every step consumes its state, so that a wrong order does not compile:
//!
//! ```text
//! LinkInitiator::start ──1──► LinkResponder::read1           Noise_XKpsk3_25519_AESGCM_SHA256
//! LinkInitiator::read2 ◄──2── LinkResponder2::write2         1: ek ‖ payload   2: ct ‖ payload
//! LinkInitiator3::write3 ─3─► LinkResponder3::read3          3: payload, under the psk
//!
//! SessionInitiator::start ──1──► session_respond             Noise_NKpsk0_25519_AESGCM_SHA256
//! SessionInitiator::finish ◄──2── SessionResponder::write2
//! ```
//!
//! All randomness is drawn from the caller's generator when a wrapper is made, so that a handshake
//! replays from a seed. snow wipes nothing of its own; what it is given here (private keys, cipher
//! keys) wipes itself, and the states live for one handshake only.

mod primitives;

use std::fmt;

use snow::{Builder, HandshakeState};

use self::primitives::Resolver;
use super::{
    aead::TAG_LEN,
    kdf,
    kem::{self, DhSecret, KEM_CIPHERTEXT_LEN, KEM_PUBLIC_LEN, KemSecret},
    secret::Secret,
};
use crate::rng::Rng;

const LINK_PATTERN: &str = "Noise_XKpsk3_25519_AESGCM_SHA256";
const SESSION_PATTERN: &str = "Noise_NKpsk0_25519_AESGCM_SHA256";

const LINK_PSK_CONTEXT: &str = "warren link psk 1";
const LINK_MASK_CONTEXT: &str = "warren link mask 1";

/// Longest Noise message in bytes (the Noise specification, section 3).
pub const MESSAGE_LEN_MAX: usize = 65_535;
/// What message 1 of a link adds to its payload: ephemeral 32, ML-KEM key, tag.
pub const LINK_MESSAGE1_OVERHEAD: usize = 32 + KEM_PUBLIC_LEN + TAG_LEN;
/// What message 2 of a link adds to its payload: ephemeral 32, ML-KEM ciphertext, tag.
pub const LINK_MESSAGE2_OVERHEAD: usize = 32 + KEM_CIPHERTEXT_LEN + TAG_LEN;
/// What message 3 of a link adds to its payload: static key 32, tag, tag.
pub const LINK_MESSAGE3_OVERHEAD: usize = 32 + 2 * TAG_LEN;
/// What either message of a session adds to its payload: ephemeral 32, tag.
pub const SESSION_MESSAGE_OVERHEAD: usize = 32 + TAG_LEN;

/// Why a handshake ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// What the peer sent, or the key it is known by, is not acceptable. No detail on purpose.
    #[error("handshake refused")]
    Refused,
    /// Our own payload does not fit [`MESSAGE_LEN_MAX`].
    #[error("handshake payload too long")]
    TooLong,
}

/// What a link handshake yields.
#[derive(Debug)]
pub struct LinkKeys {
    /// Seals what we send.
    pub send: Secret<32>,
    /// Opens what we receive.
    pub receive: Secret<32>,
    /// The transcript hash: the same on both sides, and unique to this link.
    pub hash: [u8; 32],
}

/// What a session handshake yields.
#[derive(Debug)]
pub struct SessionKeys {
    /// Seals what we send.
    pub send: Secret<32>,
    /// Opens what we receive.
    pub receive: Secret<32>,
    /// The transcript hash: the same on both sides, and unique to this session.
    pub hash: [u8; 32],
}

/// The dialling side of a link, waiting for message 2.
pub struct LinkInitiator {
    noise: Noise,
    kem: KemSecret,
}

impl LinkInitiator {
    /// Begins a link to the holder of `their_static`; also message 1.
    ///
    /// `payload1` is encrypted to `their_static` but not yet forward secret, and can be replayed.
    /// Fails on a `their_static` of low order and on a payload over about 63,000 bytes.
    pub fn start(
        rng: &mut Rng,
        prologue: &[u8],
        my_static: &DhSecret,
        their_static: &[u8; 32],
        payload1: &[u8],
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let setup =
            Setup { my_static: Some(my_static), their_static: Some(their_static), psk: None };
        let mut noise = Noise::new(LINK_PATTERN, Secret::random(rng), prologue, &setup, true)?;
        let kem = KemSecret::generate(rng);
        let message = noise.write(&[kem.public(), payload1])?;
        Ok((Self { noise, kem }, message))
    }

    /// Masks message 2 on the wire: a key that both sides know after message 1, and nobody else
    /// who lacks the responder's identity and static key.
    pub fn mask_key(&self) -> [u8; 32] {
        self.noise.mask_key()
    }

    /// Reads message 2: next state, and its payload.
    pub fn read2(mut self, message: &[u8]) -> Result<(LinkInitiator3, Vec<u8>), HandshakeError> {
        let mut payload = self.noise.read(message)?;
        let (ciphertext, _) = payload.split_first_chunk().ok_or(HandshakeError::Refused)?;
        let secret = self.kem.decapsulate(ciphertext);
        payload.drain(..KEM_CIPHERTEXT_LEN);
        self.noise.set_link_psk(&secret)?;
        Ok((LinkInitiator3 { noise: self.noise }, payload))
    }
}

/// The dialling side of a link, about to send message 3.
pub struct LinkInitiator3 {
    noise: Noise,
}

impl LinkInitiator3 {
    /// Masks message 3 on the wire, as [`LinkInitiator::mask_key`] does message 2.
    pub fn mask_key(&self) -> [u8; 32] {
        self.noise.mask_key()
    }

    /// Keys, and message 3. The peer proves that it holds them with its first frame.
    pub fn write3(mut self, payload3: &[u8]) -> Result<(LinkKeys, Vec<u8>), HandshakeError> {
        let message = self.noise.write(&[payload3])?;
        let (send, receive, hash) = self.noise.split();
        Ok((LinkKeys { send, receive, hash }, message))
    }
}

/// The dialled side of a link, waiting for message 1.
pub struct LinkResponder {
    noise: Noise,
    /// For the encapsulation.
    rng: Rng,
}

impl LinkResponder {
    /// Ready for one dialler.
    pub fn new(
        rng: &mut Rng,
        prologue: &[u8],
        my_static: &DhSecret,
    ) -> Result<Self, HandshakeError> {
        let setup = Setup { my_static: Some(my_static), their_static: None, psk: None };
        let noise = Noise::new(LINK_PATTERN, Secret::random(rng), prologue, &setup, false)?;
        Ok(Self { noise, rng: rng.fork() })
    }

    /// Reads message 1: next state, and its payload. The caller checks the payload for replay
    /// before it goes on; encapsulation is done by the next step.
    pub fn read1(mut self, message: &[u8]) -> Result<(LinkResponder2, Vec<u8>), HandshakeError> {
        let mut payload = self.noise.read(message)?;
        let (kem_public, _) = payload.split_first_chunk().ok_or(HandshakeError::Refused)?;
        let kem_public = Box::new(*kem_public);
        payload.drain(..KEM_PUBLIC_LEN);
        Ok((LinkResponder2 { noise: self.noise, rng: self.rng, kem_public }, payload))
    }
}

/// The dialled side of a link, about to send message 2.
pub struct LinkResponder2 {
    noise: Noise,
    rng: Rng,
    kem_public: Box<[u8; KEM_PUBLIC_LEN]>,
}

impl LinkResponder2 {
    /// Masks message 2 on the wire, see [`LinkInitiator::mask_key`].
    pub fn mask_key(&self) -> [u8; 32] {
        self.noise.mask_key()
    }

    /// Next state, and message 2. Fails where the dialler's ML-KEM key is none.
    pub fn write2(mut self, payload2: &[u8]) -> Result<(LinkResponder3, Vec<u8>), HandshakeError> {
        let (ciphertext, secret) =
            kem::encapsulate(&mut self.rng, &self.kem_public).ok_or(HandshakeError::Refused)?;
        let message = self.noise.write(&[&ciphertext, payload2])?;
        self.noise.set_link_psk(&secret)?;
        Ok((LinkResponder3 { noise: self.noise }, message))
    }
}

/// The dialled side of a link, waiting for message 3.
pub struct LinkResponder3 {
    noise: Noise,
}

impl LinkResponder3 {
    /// Masks message 3 on the wire, see [`LinkInitiator::mask_key`].
    pub fn mask_key(&self) -> [u8; 32] {
        self.noise.mask_key()
    }

    /// Keys, the dialler's static key, and the payload of message 3.
    pub fn read3(
        mut self,
        message: &[u8],
    ) -> Result<(LinkKeys, [u8; 32], Vec<u8>), HandshakeError> {
        let payload = self.noise.read(message)?;
        let their_static = self.noise.their_static().ok_or(HandshakeError::Refused)?;
        let (send, receive, hash) = self.noise.split();
        Ok((LinkKeys { send, receive, hash }, their_static, payload))
    }
}

/// The client's side of a session, waiting for message 2.
pub struct SessionInitiator {
    noise: Noise,
}

impl SessionInitiator {
    /// Begins a session with the holder of `service_static`; also message 1.
    ///
    /// `psk` comes from the ML-KEM encapsulation that travels before it (PROTOCOL P9). `payload` is
    /// early data: hybrid-encrypted to the day's keys, and can be replayed.
    pub fn start(
        rng: &mut Rng,
        prologue: &[u8],
        service_static: &[u8; 32],
        psk: &Secret<32>,
        payload: &[u8],
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let setup = Setup { my_static: None, their_static: Some(service_static), psk: Some(psk) };
        let mut noise = Noise::new(SESSION_PATTERN, Secret::random(rng), prologue, &setup, true)?;
        let message = noise.write(&[payload])?;
        Ok((Self { noise }, message))
    }

    /// Reads message 2: keys, and its payload. The service is authenticated from here on.
    pub fn finish(mut self, message: &[u8]) -> Result<(SessionKeys, Vec<u8>), HandshakeError> {
        let payload = self.noise.read(message)?;
        let (send, receive, hash) = self.noise.split();
        Ok((SessionKeys { send, receive, hash }, payload))
    }
}

/// Reads a client's message 1: the service's side of a session, and the early data.
pub fn session_respond(
    rng: &mut Rng,
    prologue: &[u8],
    my_static: &DhSecret,
    psk: &Secret<32>,
    message: &[u8],
) -> Result<(SessionResponder, Vec<u8>), HandshakeError> {
    let setup = Setup { my_static: Some(my_static), their_static: None, psk: Some(psk) };
    let mut noise = Noise::new(SESSION_PATTERN, Secret::random(rng), prologue, &setup, false)?;
    let payload = noise.read(message)?;
    Ok((SessionResponder { noise }, payload))
}

/// The service's side of a session, about to send message 2.
pub struct SessionResponder {
    noise: Noise,
}

impl SessionResponder {
    /// Keys, and message 2.
    pub fn write2(mut self, payload: &[u8]) -> Result<(SessionKeys, Vec<u8>), HandshakeError> {
        let message = self.noise.write(&[payload])?;
        let (send, receive, hash) = self.noise.split();
        Ok((SessionKeys { send, receive, hash }, message))
    }
}

macro_rules! mute {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("_")
            }
        }
    )*};
}

mute!(
    LinkInitiator,
    LinkInitiator3,
    LinkResponder,
    LinkResponder2,
    LinkResponder3,
    SessionInitiator,
    SessionResponder
);

/// The keys that are known before the first message.
struct Setup<'a> {
    my_static: Option<&'a DhSecret>,
    their_static: Option<&'a [u8; 32]>,
    psk: Option<&'a Secret<32>>,
}

/// A snow state, boxed because it is large and moves from step to step.
struct Noise(Box<HandshakeState>);

impl Noise {
    fn new(
        pattern: &str,
        ephemeral: Secret<32>,
        prologue: &[u8],
        setup: &Setup<'_>,
        initiator: bool,
    ) -> Result<Self, HandshakeError> {
        let build = || -> Result<HandshakeState, snow::Error> {
            let resolver = Box::new(Resolver { ephemeral });
            let mut builder =
                Builder::with_resolver(pattern.parse()?, resolver).prologue(prologue)?;
            if let Some(key) = setup.my_static {
                builder = builder.local_private_key(key.secret_bytes().expose_secret())?;
            }
            if let Some(key) = setup.their_static {
                builder = builder.remote_public_key(key)?;
            }
            if let Some(psk) = setup.psk {
                builder = builder.psk(0, psk.expose_secret())?;
            }
            if initiator { builder.build_initiator() } else { builder.build_responder() }
        };
        build().map(|state| Self(Box::new(state))).map_err(|_| HandshakeError::Refused)
    }

    /// Writes the next message with a payload in parts.
    fn write(&mut self, payload: &[&[u8]]) -> Result<Vec<u8>, HandshakeError> {
        let payload = payload.concat();
        let room = payload.len() + LINK_MESSAGE1_OVERHEAD;
        if room > MESSAGE_LEN_MAX {
            return Err(HandshakeError::TooLong);
        }
        let mut message = vec![0; room];
        let len =
            self.0.write_message(&payload, &mut message).map_err(|_| HandshakeError::Refused)?;
        message.truncate(len);
        Ok(message)
    }

    /// Reads the next message's payload.
    fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        if message.len() > MESSAGE_LEN_MAX {
            return Err(HandshakeError::Refused);
        }
        let mut payload = vec![0; message.len()];
        let len =
            self.0.read_message(message, &mut payload).map_err(|_| HandshakeError::Refused)?;
        payload.truncate(len);
        Ok(payload)
    }

    fn hash(&self) -> [u8; 32] {
        self.0.get_handshake_hash().try_into().unwrap_or([0; 32])
    }

    fn mask_key(&self) -> [u8; 32] {
        kdf::derive(LINK_MASK_CONTEXT, &[&self.hash()])
    }

    /// The psk of a link: KDF(ML-KEM secret, hash after message 2), which covers both ML-KEM
    /// halves, both ephemerals, the responder's static key and the prologue.
    fn set_link_psk(&mut self, secret: &Secret<32>) -> Result<(), HandshakeError> {
        let psk: Secret<32> =
            kdf::derive_secret(LINK_PSK_CONTEXT, &[secret.expose_secret(), &self.hash()]);
        self.0.set_psk(3, psk.expose_secret()).map_err(|_| HandshakeError::Refused)
    }

    fn their_static(&self) -> Option<[u8; 32]> {
        self.0.get_remote_static()?.try_into().ok()
    }

    /// (send, receive, transcript hash), after the last message.
    fn split(mut self) -> (Secret<32>, Secret<32>, [u8; 32]) {
        let hash = self.hash();
        let (mut forth, mut back) = self.0.dangerously_get_raw_split();
        let (forth, back) = (Secret::take(&mut forth), Secret::take(&mut back));
        if self.0.is_initiator() { (forth, back, hash) } else { (back, forth, hash) }
    }
}

#[cfg(test)]
#[path = "noise_tests.rs"]
mod tests;
