//! The full handshake: the first units of a path that resumes nothing (docs/spec/session.md, 3).
//!
//! Lives here: request and answer, their payloads, and how a request is cut into units. Does not
//! live here: the Noise pattern itself (`crypto/noise.rs`), replay (`replay.rs`), what follows from
//! the keys (`resume.rs`).
//!
//! ```text
//!  client                                              service
//!  request: ciphertext ‖ message 1 ───2 to 8 units───> read_request ──> Request
//!  ClientHandshake::finish <──1 unit: message 2─────── Request::answer
//! ```

use std::{fmt, sync::Arc};

use super::record::UNIT_MAX;
use crate::{
    crypto::{
        kdf,
        kem::{self, DhSecret, KEM_CIPHERTEXT_LEN, KEM_PUBLIC_LEN, KemSecret},
        noise::{
            SESSION_MESSAGE_OVERHEAD, SessionInitiator, SessionKeys, SessionResponder,
            session_respond,
        },
        secret::Secret,
    },
    id::NetworkId,
    rng::Rng,
    service::{AccessKey, DailyKey, Name, Offer, binding},
    time::{Time, Wall},
    wire::{Reader, WireError, Writer},
};

use super::resume::Tag;

/// Most units of a request: what a service keeps of a path before anything authenticates.
pub(super) const REQUEST_UNITS_MAX: usize = 8;
/// Fewest: the ciphertext alone fills one.
const REQUEST_UNITS_MIN: usize = 2;
/// Length of a request's last unit: one short of full, which is the end mark.
const LAST_UNIT_LEN: usize = UNIT_MAX - 1;
/// Payload bytes before early data: kind 1, minute 4, mark 16, length 2.
const PAYLOAD_HEAD: usize = 23;
/// What a request holds beside early data and padding.
const REQUEST_HEAD: usize = KEM_CIPHERTEXT_LEN + SESSION_MESSAGE_OVERHEAD + PAYLOAD_HEAD;
/// Most early data in bytes: enough for any page request.
pub(super) const EARLY_MAX: usize = REQUEST_UNITS_MAX * UNIT_MAX - 1 - REQUEST_HEAD;

const PSK: &str = "warren session psk 1";
const CIPHERTEXT: &str = "warren session ciphertext 1";
const PROLOGUE: &[u8] = b"warren session 1";

/// What a client must know to open a session: from the service's descriptor.
#[derive(Clone)]
pub struct SessionTarget {
    /// The network of both.
    pub network: NetworkId,
    /// The blinded key that the session is bound to: place 0 of the day of the session keys.
    pub binding: [u8; 32],
    /// What a client of a private service shares with it.
    pub access: Option<Arc<AccessKey>>,
    /// The service's X25519 session key.
    pub dh: [u8; 32],
    /// The service's ML-KEM-768 session key.
    pub kem: Box<[u8; KEM_PUBLIC_LEN]>,
}

impl SessionTarget {
    /// What an offer says; `None` only for a day whose key cannot be blinded, which no name has.
    pub fn of(
        offer: &Offer,
        name: &Name,
        access: Option<Arc<AccessKey>>,
        network: NetworkId,
    ) -> Option<Self> {
        Some(Self {
            network,
            binding: offer.binding(name, access.as_deref(), network)?,
            access,
            dh: offer.session_dh,
            kem: offer.session_kem.clone(),
        })
    }
}

/// Of one access key follows one binding: whether that is the same says all.
impl PartialEq for SessionTarget {
    fn eq(&self, other: &Self) -> bool {
        self.network == other.network
            && self.binding == other.binding
            && self.dh == other.dh
            && self.kem == other.kem
    }
}

/// Mute: it says which service.
impl fmt::Debug for SessionTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// For whom a service answers.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The service's number for this client, never used for another; 0 for everybody.
    pub client: u32,
    /// The blinded key that its sessions are bound to.
    pub binding: [u8; 32],
    /// What it shares with the service; none for everybody.
    pub access: Option<Arc<AccessKey>>,
}

/// What a service answers with: the private halves of one day's [`SessionTarget`]s.
#[derive(Debug)]
pub struct SessionSecret {
    /// The X25519 half.
    pub dh: DhSecret,
    /// The ML-KEM half.
    pub kem: KemSecret,
    /// Who may open sessions: everybody who knows the name, or so many clients.
    pub admitted: Vec<Admitted>,
    /// Set where a process before this one may have answered to these keys: since when this one
    /// does. For 20 minutes from then early data goes unread, because what that one read is not
    /// known.
    pub restored: Option<Time>,
}

impl SessionSecret {
    /// A service's key pair of one day, copied for the `End` that answers to it; `admitted` has the
    /// service's numbers and access keys, as for [`Admitted`].
    pub fn of<'a>(
        key: &DailyKey,
        name: &Name,
        network: NetworkId,
        admitted: impl Iterator<Item = (u32, Option<&'a Arc<AccessKey>>)>,
        restored: Option<Time>,
    ) -> Self {
        let mut dh = *key.dh().secret_bytes().expose_secret();
        let mut kem = *key.kem().to_bytes().expose_secret();
        // A name holds a valid key, whose blinding does not fail.
        let admitted = admitted.filter_map(|(client, access)| {
            let binding = binding(name, access.map(AsRef::as_ref), network, key.day())?;
            Some(Admitted { client, binding, access: access.cloned() })
        });
        Self {
            dh: DhSecret::from_bytes(Secret::take(&mut dh)),
            kem: KemSecret::from_bytes(Secret::take(&mut kem)),
            admitted: admitted.collect(),
            restored,
        }
    }
}

/// What the service did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A new session, and its early data was read.
    Taken,
    /// A new session; early data unread.
    Resend,
    /// The session goes on; its offsets follow in hellos. Also said to a new session's request if
    /// an earlier attempt had arrived.
    Continued,
    /// Not known any more: a new session was made.
    Forgotten,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose<'a> {
    /// A new session whose stream begins with these bytes; at most [`EARLY_MAX`].
    ///
    /// The nonce is the session's, the same for every attempt: a service that has heard of it goes
    /// on with what an attempt began whose answer was lost, and reads nothing twice.
    New { early: &'a [u8], nonce: Tag },
    /// To go on with the session of this mark.
    Continue { mark: Tag },
}

/// The client's side, waiting for message 2.
#[derive(Debug)]
pub(super) struct ClientHandshake {
    noise: SessionInitiator,
}

impl ClientHandshake {
    /// Begins; also the request, to be sent in the pieces of [`units`].
    ///
    /// `None` where the target's keys are none, or there is too much early data.
    pub(super) fn start(
        rng: &mut Rng,
        target: &SessionTarget,
        minute: Wall,
        purpose: Purpose<'_>,
    ) -> Option<(Self, Vec<u8>)> {
        let (kind, mark, early) = match purpose {
            Purpose::New { early, nonce } => (0, nonce, early),
            Purpose::Continue { mark } => (1, mark, &[][..]),
        };
        if early.len() > EARLY_MAX {
            return None;
        }
        let units = (REQUEST_HEAD + early.len() + 1).div_ceil(UNIT_MAX).max(REQUEST_UNITS_MIN);
        let len = units * UNIT_MAX - 1;
        let mut w = Writer::with_capacity(len);
        w.u8(kind).u32(minute.minutes()).bytes(&mark);
        w.u16(u16::try_from(early.len()).ok()?).bytes(early);
        let mut payload = w.into_bytes();
        payload.resize(len - KEM_CIPHERTEXT_LEN - SESSION_MESSAGE_OVERHEAD, 0);

        let (ciphertext, secret) = kem::encapsulate(rng, &target.kem)?;
        let psk = psk(&secret, &ciphertext, &target.kem, target.access.as_deref());
        let prologue = prologue(target.network, &target.binding, &ciphertext);
        let (noise, message) =
            SessionInitiator::start(rng, &prologue, &target.dh, &psk, &payload).ok()?;
        let mut request = Vec::with_capacity(len);
        request.extend_from_slice(&ciphertext);
        request.extend_from_slice(&message);
        Some((Self { noise }, request))
    }

    /// Reads the service's answer. `None` if it is not the service's.
    pub(super) fn finish(self, unit: &[u8]) -> Option<(SessionKeys, Answer)> {
        let (keys, payload) = self.noise.finish(unit).ok()?;
        let (code, padding) = payload.split_first()?;
        let answer = match code {
            0 => Answer::Taken,
            1 => Answer::Resend,
            2 => Answer::Continued,
            3 => Answer::Forgotten,
            _ => return None,
        };
        padding.iter().all(|&byte| byte == 0).then_some((keys, answer))
    }
}

/// Cuts a request into its units.
pub(super) fn units(request: &[u8]) -> impl Iterator<Item = &[u8]> {
    request.chunks(UNIT_MAX)
}

/// Joins units to a request.
#[derive(Debug, Default)]
pub(super) struct Joined {
    bytes: Vec<u8>,
    units: usize,
}

impl Joined {
    /// Adds a unit: the whole request, `None` while there is more to come.
    ///
    /// # Errors
    /// It is no request, whatever follows.
    pub(super) fn add(&mut self, unit: &[u8]) -> Result<Option<Vec<u8>>, WireError> {
        self.units += 1;
        self.bytes.extend_from_slice(unit);
        match unit.len() {
            LAST_UNIT_LEN if (REQUEST_UNITS_MIN..=REQUEST_UNITS_MAX).contains(&self.units) => {
                Ok(Some(std::mem::take(&mut self.bytes)))
            }
            UNIT_MAX if self.units < REQUEST_UNITS_MAX => Ok(None),
            _ => Err(WireError::Bad("request unit")),
        }
    }
}

/// A request that opened under one of the service's keys.
#[derive(Debug)]
pub(super) struct Request {
    responder: SessionResponder,
    /// When the client says it wrote.
    pub(super) minute: Wall,
    /// Whether it says that its session exists.
    pub(super) continues: bool,
    /// The mark of that session, else the nonce of the new one.
    pub(super) mark: Tag,
    /// The first bytes of a new session's stream.
    pub(super) early: Vec<u8>,
    /// What makes this request different from every other.
    pub(super) ephemeral: [u8; 32],
    /// [`SessionSecret::restored`] of the key that opened it.
    pub(super) restored: Option<Time>,
    /// [`Admitted::client`] of who it is from.
    pub(super) client: u32,
}

impl Request {
    /// Reads a request under the first of `secrets` that opens it.
    pub(super) fn read(
        rng: &mut Rng,
        network: NetworkId,
        secrets: &[SessionSecret],
        bytes: &[u8],
    ) -> Option<Self> {
        let (ciphertext, message) = bytes.split_first_chunk::<KEM_CIPHERTEXT_LEN>()?;
        let ephemeral = *message.first_chunk::<32>()?;
        let ((responder, payload), client, restored) = secrets.iter().find_map(|secret| {
            let (shared, kem) = (secret.kem.decapsulate(ciphertext), secret.kem.public());
            secret.admitted.iter().find_map(|admitted| {
                let psk = psk(&shared, ciphertext, kem, admitted.access.as_deref());
                let prologue = prologue(network, &admitted.binding, ciphertext);
                let opened = session_respond(rng, &prologue, &secret.dh, &psk, message).ok()?;
                Some((opened, admitted.client, secret.restored))
            })
        })?;
        let Payload { minute, continues, mark, early } = read_payload(&payload).ok()?;
        Some(Self { responder, minute, continues, mark, early, ephemeral, restored, client })
    }

    /// Keys, and the unit that answers.
    pub(super) fn answer(self, answer: Answer) -> Option<(SessionKeys, Vec<u8>)> {
        let mut payload = [0; UNIT_MAX - SESSION_MESSAGE_OVERHEAD];
        *payload.first_mut()? = match answer {
            Answer::Taken => 0,
            Answer::Resend => 1,
            Answer::Continued => 2,
            Answer::Forgotten => 3,
        };
        self.responder.write2(&payload).ok()
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Payload {
    minute: Wall,
    continues: bool,
    mark: Tag,
    early: Vec<u8>,
}

fn read_payload(payload: &[u8]) -> Result<Payload, WireError> {
    let mut r = Reader::new(payload);
    let kind = r.u8("request kind")?;
    let minute = Wall::from_minutes(r.u32("request minute")?);
    let mark: Tag = r.array("continuation mark")?;
    let len = usize::from(r.u16("early length")?);
    let early = r.slice(len, "early data")?;
    if r.rest().iter().any(|&byte| byte != 0) {
        return Err(WireError::Bad("request padding"));
    }
    let continues = match (kind, len) {
        (0, _) => false,
        (1, 0) => true,
        _ => return Err(WireError::Bad("request kind")),
    };
    Ok(Payload { minute, continues, mark, early: early.to_vec() })
}

/// Binds the KEM's secret to ciphertext and key, so that nothing rests on the KEM's own binding; and
/// to what one client shares with a private service.
fn psk(
    secret: &Secret<32>,
    ciphertext: &[u8; KEM_CIPHERTEXT_LEN],
    kem: &[u8; KEM_PUBLIC_LEN],
    access: Option<&AccessKey>,
) -> Secret<32> {
    let mut parts: Vec<&[u8]> = vec![secret.expose_secret(), ciphertext, kem];
    parts.extend(access.map(|access| access.session().as_slice()));
    kdf::derive_secret(PSK, &parts)
}

fn prologue(
    network: NetworkId,
    binding: &[u8; 32],
    ciphertext: &[u8; KEM_CIPHERTEXT_LEN],
) -> Vec<u8> {
    let hash = kdf::hash(CIPHERTEXT, &[ciphertext]);
    [PROLOGUE, network.as_bytes(), binding, &hash].concat()
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
