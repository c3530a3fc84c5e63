//! From a fresh connection to an established link, or to silence (PROTOCOL P4).
//!
//! Lives here: the order of the three messages, what their payloads say, every check on the peer's
//! descriptor but its admission work, the time limit, and the long silence after a failure. Does not
//! live here: Noise (`crypto/noise.rs`), the look of messages (`masking.rs`), repeats (`replay.rs`),
//! how many handshakes a source may begin (`budget.rs`), admission (ring, lazily).
//!
//! ```text
//! initiator: Second --message 2--> Over (Established)
//! responder: First --message 1--> Third --message 3--> Over (Established)
//!    any of them --anything wrong, or 10 s--> Discarding (Failed) --closing time--> Over (Close)
//! ```
//!
//! The closing time is drawn when the connection begins, 10 to 30 s later, and depends on nothing
//! that comes: so neither what a prober sends, nor how much, nor when, changes what it sees (Frolov
//! et al., "Detecting Probe-resistant Proxies", NDSS 2020, tell servers by exactly that).

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    crypto::{
        kem::DhSecret,
        noise::{
            LINK_MESSAGE1_OVERHEAD, LINK_MESSAGE2_OVERHEAD, LINK_MESSAGE3_OVERHEAD, LinkInitiator,
            LinkKeys, LinkResponder, LinkResponder3,
        },
    },
    id::{NetworkId, RouterId},
    link::{
        masking::{HEAD_LEN, Masking, SALT_LEN},
        replay::ReplayFilter,
    },
    rng::Rng,
    time::{Now, Time, Wall},
    wire::{Contact, Reader, RouterDescriptor, WireError, Writer},
};

/// A handshake takes no longer.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Between these the connection is closed if the handshake fails.
const CLOSE_MIN: Duration = Duration::from_secs(10);
const CLOSE_SPREAD_MICROS: u64 = 20_000_000;
/// Clocks may differ by so many minutes.
const MINUTES_OFF_MAX: u32 = 10;
/// Most bytes of random padding in one message.
const PADDING_MAX: usize = 511;
/// Longest message on the wire, the second: 3,988 bytes.
const WIRE_MAX: usize =
    HEAD_LEN + LINK_MESSAGE2_OVERHEAD + PAYLOAD2_MIN + RouterDescriptor::LEN_MAX + PADDING_MAX;
const PAYLOAD1_MIN: usize = 4;
const PAYLOAD2_MIN: usize = 4 + 2;
const PAYLOAD3_MIN: usize = 2;

/// What this router shows and uses in every handshake; cheap to clone.
#[derive(Clone, Debug)]
pub struct LinkIdentity {
    /// Its network.
    pub network: NetworkId,
    /// Its own descriptor, current and signed.
    pub descriptor: Arc<RouterDescriptor>,
    /// The private half of the descriptor's link key.
    pub secret: Arc<DhSecret>,
    /// The first messages it has seen; one for all its handshakes.
    pub replay: Arc<Mutex<ReplayFilter>>,
}

/// What a handshake wants done.
#[derive(Debug)]
pub enum HandshakeOutput {
    /// Write these bytes to the socket.
    Transmit(Vec<u8>),
    /// The link stands. Drop the machine; make a `LinkIo`.
    Established(Box<Established>),
    /// There will be no link. Go on reading (`handle_input` discards) until `Close`.
    Failed,
    /// Close the socket; the machine is over.
    Close,
}

/// A link that stands, on its way to `LinkIo`.
pub struct Established {
    /// Who is at the other end: signature, network, expiry and link key are checked; the admission
    /// work is not.
    pub peer: Arc<RouterDescriptor>,
    /// The split keys.
    pub keys: LinkKeys,
    /// Whether this side dialled.
    pub initiator: bool,
    /// The peer's clock. Says nothing about ours by itself (PROTOCOL P1).
    pub peer_minute: Wall,
    /// Bytes that came after the handshake.
    pub leftover: Vec<u8>,
    /// One round trip, the peer's public-key work included.
    pub rtt: Duration,
}

impl fmt::Debug for Established {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Established").field("initiator", &self.initiator).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum State {
    /// Responder: waiting for message 1.
    First,
    /// Initiator: waiting for message 2.
    Second {
        noise: Box<LinkInitiator>,
        peer: Box<Contact>,
    },
    /// Responder: waiting for message 3.
    Third {
        noise: Box<LinkResponder3>,
        peer_minute: Wall,
    },
    /// Reading and discarding.
    Discarding,
    Over,
}

/// One handshake, either side.
#[derive(Debug)]
pub struct Handshake {
    identity: LinkIdentity,
    rng: Rng,
    state: State,
    /// The masked message that is coming in; never more than the longest.
    buffer: Vec<u8>,
    outputs: std::collections::VecDeque<HandshakeOutput>,
    limit_at: Time,
    close_at: Time,
    /// When our last message was written.
    sent_at: Time,
}

/// Something was wrong. What, is nobody's business.
struct Wrong;

impl From<WireError> for Wrong {
    fn from(_: WireError) -> Self {
        Self
    }
}

impl From<crate::crypto::noise::HandshakeError> for Wrong {
    fn from(_: crate::crypto::noise::HandshakeError) -> Self {
        Self
    }
}

impl Handshake {
    /// Dials: message 1 is the first output.
    pub fn initiate(now: Now, identity: LinkIdentity, peer: Contact, rng: Rng) -> Self {
        let mut this = Self::new(now.time, identity, rng, State::Discarding);
        if this.write_first(now, peer).is_err() {
            this.fail();
        }
        this
    }

    /// Waits for a dialler. Allocates one buffer of fixed size.
    pub fn accept(now: Now, identity: LinkIdentity, rng: Rng) -> Self {
        Self::new(now.time, identity, rng, State::First)
    }

    fn new(now: Time, identity: LinkIdentity, mut rng: Rng, state: State) -> Self {
        let spread = Duration::from_micros(rng.below(CLOSE_SPREAD_MICROS + 1));
        Self {
            identity,
            rng,
            state,
            buffer: Vec::with_capacity(SALT_LEN + WIRE_MAX),
            outputs: std::collections::VecDeque::new(),
            limit_at: now + HANDSHAKE_MAX,
            close_at: now + CLOSE_MIN + spread,
            sent_at: now,
        }
    }

    /// Bytes came from the socket.
    pub fn handle_input(&mut self, now: Now, mut bytes: &[u8]) {
        while !bytes.is_empty() && !matches!(self.state, State::Discarding | State::Over) {
            if self.step(now, &mut bytes).is_err() {
                self.fail();
            }
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Time) {
        match self.state {
            State::First | State::Second { .. } | State::Third { .. } if now >= self.limit_at => {
                self.fail();
            }
            _ => {}
        }
        if matches!(self.state, State::Discarding) && now >= self.close_at {
            self.state = State::Over;
            self.outputs.push_back(HandshakeOutput::Close);
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<HandshakeOutput> {
        self.outputs.pop_front()
    }

    /// When to call `handle_timeout`.
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.state {
            State::First | State::Second { .. } | State::Third { .. } => Some(self.limit_at),
            State::Discarding => Some(self.close_at),
            State::Over => None,
        }
    }

    fn fail(&mut self) {
        self.state = State::Discarding;
        self.buffer = Vec::new();
        self.outputs.push_back(HandshakeOutput::Failed);
    }

    /// Takes what the message in hand still lacks, and reads it once it is whole.
    fn step(&mut self, now: Now, bytes: &mut &[u8]) -> Result<(), Wrong> {
        let (salt_len, lengths) = match &self.state {
            State::First => (SALT_LEN, LINK_MESSAGE1_OVERHEAD + PAYLOAD1_MIN..=WIRE_MAX - HEAD_LEN),
            State::Second { .. } => {
                (0, LINK_MESSAGE2_OVERHEAD + PAYLOAD2_MIN..=WIRE_MAX - HEAD_LEN)
            }
            State::Third { .. } => (0, LINK_MESSAGE3_OVERHEAD + PAYLOAD3_MIN..=WIRE_MAX - HEAD_LEN),
            State::Discarding | State::Over => return Ok(()),
        };
        if !self.gather(bytes, salt_len + HEAD_LEN) {
            return Ok(());
        }
        let masking = self.masking()?;
        let head = self.buffer.get(salt_len..).and_then(<[u8]>::first_chunk).ok_or(Wrong)?;
        let length = masking.length(head);
        if !lengths.contains(&length) {
            return Err(Wrong);
        }
        if !self.gather(bytes, salt_len + HEAD_LEN + length) {
            return Ok(());
        }
        let mut wire = std::mem::take(&mut self.buffer);
        let noise = wire.get_mut(salt_len..).and_then(|wire| masking.open(wire)).ok_or(Wrong)?;
        match std::mem::replace(&mut self.state, State::Over) {
            State::First => self.read_first(now, noise)?,
            State::Second { noise: state, peer } => {
                self.read_second(now, *state, &peer, noise, bytes)?;
            }
            State::Third { noise: state, peer_minute } => {
                self.read_third(now, *state, peer_minute, noise, bytes)?;
            }
            State::Discarding | State::Over => {}
        }
        wire.clear();
        self.buffer = wire;
        Ok(())
    }

    /// Moves bytes into the buffer until it holds `want`; says whether it does.
    fn gather(&mut self, bytes: &mut &[u8], want: usize) -> bool {
        let missing = want.saturating_sub(self.buffer.len()).min(bytes.len());
        let (part, rest) = bytes.split_at(missing);
        self.buffer.extend_from_slice(part);
        *bytes = rest;
        self.buffer.len() >= want
    }

    /// The mask of the message that is awaited.
    fn masking(&self) -> Result<Masking, Wrong> {
        let me = self.identity.descriptor.id();
        Ok(match &self.state {
            State::First => Masking::new(me, self.buffer.get(..SALT_LEN).ok_or(Wrong)?),
            State::Second { noise, peer } => Masking::new(peer.id, &noise.mask_key()),
            State::Third { noise, .. } => Masking::new(me, &noise.mask_key()),
            State::Discarding | State::Over => return Err(Wrong),
        })
    }

    fn write_first(&mut self, now: Now, peer: Contact) -> Result<(), Wrong> {
        let mut payload = Writer::default();
        payload.u32(now.wall.minutes()).bytes(&self.padding());
        let (noise, message) = LinkInitiator::start(
            &mut self.rng,
            &prologue(self.identity.network, peer.id),
            &self.identity.secret,
            &peer.link_key,
            &payload.into_bytes(),
        )?;
        let mut wire = self.rng.bytes::<SALT_LEN>().to_vec();
        let masking = Masking::new(peer.id, &wire);
        masking.seal(&message, &mut wire);
        self.transmit(now.time, wire);
        self.state = State::Second { noise: Box::new(noise), peer: Box::new(peer) };
        Ok(())
    }

    fn read_first(&mut self, now: Now, noise: &[u8]) -> Result<(), Wrong> {
        let ephemeral = noise.first_chunk::<32>().ok_or(Wrong)?;
        if self.replay(|filter| filter.has_seen(ephemeral)) {
            return Err(Wrong);
        }
        let me = self.identity.descriptor.id();
        let prologue = prologue(self.identity.network, me);
        let state = LinkResponder::new(&mut self.rng, &prologue, &self.identity.secret)?;
        let (state, payload) = state.read1(noise)?;
        let mut payload = Reader::new(&payload);
        let peer_minute = Wall::from_minutes(payload.u32("minute")?);
        if payload.remaining() > PADDING_MAX
            || !peer_minute.within(now.wall, MINUTES_OFF_MAX, MINUTES_OFF_MAX)
            || !self.replay(|filter| filter.admit(now.time, ephemeral))
        {
            return Err(Wrong);
        }
        let mut payload = Writer::default();
        payload.u32(now.wall.minutes());
        self.append_descriptor(&mut payload);
        let masking = Masking::new(me, &state.mask_key());
        let (state, message) = state.write2(&payload.into_bytes())?;
        let mut wire = Vec::with_capacity(HEAD_LEN + message.len());
        masking.seal(&message, &mut wire);
        self.transmit(now.time, wire);
        self.state = State::Third { noise: Box::new(state), peer_minute };
        Ok(())
    }

    fn read_second(
        &mut self,
        now: Now,
        state: LinkInitiator,
        peer: &Contact,
        noise: &[u8],
        leftover: &mut &[u8],
    ) -> Result<(), Wrong> {
        let (state, payload) = state.read2(noise)?;
        let mut payload = Reader::new(&payload);
        let peer_minute = Wall::from_minutes(payload.u32("minute")?);
        let descriptor = self.read_descriptor(now, payload, &peer.link_key)?;
        if descriptor.id() != peer.id {
            return Err(Wrong);
        }
        let rtt = now.time.since(self.sent_at);
        let mut payload = Writer::default();
        self.append_descriptor(&mut payload);
        let masking = Masking::new(peer.id, &state.mask_key());
        let (keys, message) = state.write3(&payload.into_bytes())?;
        let mut wire = Vec::with_capacity(HEAD_LEN + message.len());
        masking.seal(&message, &mut wire);
        self.transmit(now.time, wire);
        self.establish(descriptor, keys, true, peer_minute, leftover, rtt);
        Ok(())
    }

    fn read_third(
        &mut self,
        now: Now,
        state: LinkResponder3,
        peer_minute: Wall,
        noise: &[u8],
        leftover: &mut &[u8],
    ) -> Result<(), Wrong> {
        let (keys, their_static, payload) = state.read3(noise)?;
        let descriptor = self.read_descriptor(now, Reader::new(&payload), &their_static)?;
        let rtt = now.time.since(self.sent_at);
        self.establish(descriptor, keys, false, peer_minute, leftover, rtt);
        Ok(())
    }

    fn establish(
        &mut self,
        peer: Arc<RouterDescriptor>,
        keys: LinkKeys,
        initiator: bool,
        peer_minute: Wall,
        leftover: &mut &[u8],
        rtt: Duration,
    ) {
        let leftover = std::mem::take(leftover).to_vec();
        let established = Established { peer, keys, initiator, peer_minute, leftover, rtt };
        self.outputs.push_back(HandshakeOutput::Established(Box::new(established)));
        self.state = State::Over;
    }

    fn transmit(&mut self, now: Time, wire: Vec<u8>) {
        self.sent_at = now;
        self.outputs.push_back(HandshakeOutput::Transmit(wire));
    }

    /// Length 2, our descriptor, random padding.
    fn append_descriptor(&mut self, payload: &mut Writer) {
        let descriptor = self.identity.descriptor.encode();
        payload.u16(u16::try_from(descriptor.len()).expect("descriptors are under 64 KiB"));
        payload.bytes(&descriptor).bytes(&self.padding());
    }

    /// The rest of a payload: the peer's descriptor, which must be true of the peer.
    fn read_descriptor(
        &self,
        now: Now,
        mut payload: Reader<'_>,
        proven_key: &[u8; 32],
    ) -> Result<Arc<RouterDescriptor>, Wrong> {
        let len = usize::from(payload.u16("descriptor length")?);
        let bytes = payload.slice(len, "descriptor")?;
        if payload.remaining() > PADDING_MAX {
            return Err(Wrong);
        }
        let descriptor = RouterDescriptor::decode_shared(bytes, self.identity.network)?;
        let is_true = descriptor.fields().link_key == *proven_key
            && descriptor.is_current(now.wall)
            && descriptor.id() != self.identity.descriptor.id();
        if is_true { Ok(descriptor) } else { Err(Wrong) }
    }

    fn padding(&mut self) -> Vec<u8> {
        let len = usize::try_from(self.rng.below(PADDING_MAX as u64 + 1)).unwrap_or_default();
        let mut padding = self.rng.bytes::<PADDING_MAX>().to_vec();
        padding.truncate(len);
        padding
    }

    fn replay<T>(&self, ask: impl FnOnce(&mut ReplayFilter) -> T) -> T {
        ask(&mut self.identity.replay.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Network and responder are bound from the first byte: a key that answers for another identity,
/// or in another network, never agrees (PROTOCOL P4).
fn prologue(network: NetworkId, responder: RouterId) -> Vec<u8> {
    [&b"warren link 1"[..], network.as_bytes(), responder.as_bytes()].concat()
}
