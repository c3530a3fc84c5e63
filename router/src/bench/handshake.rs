//! `warren bench handshake`: the link's handshake, and the session's.
//!
//! Lives here: both sides in one thread, without sockets. Does not live here: the machines
//! (`overlay`), the primitives one by one (`crypto.rs`).

use std::fmt;

use serde::Serialize;
use warren_overlay::{
    crypto::{
        kdf,
        kem::{self, DhSecret, KEM_CIPHERTEXT_LEN, KemSecret},
        noise::{SESSION_MESSAGE_OVERHEAD, SessionInitiator, session_respond},
    },
    link::{Handshake, HandshakeOutput, LinkIdentity},
    session::UNIT_MAX,
    time::Now,
};

use super::{
    actors::{self, Clock},
    crypto::PublicKey,
    meter::Samples,
};
use crate::entropy;

/// Samples of each primitive of the limit.
const LIMIT_ROUNDS: usize = 9;

/// One kind of handshake.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HandshakeCost {
    /// CPU time of whoever begins, in microseconds.
    pub initiator_us: f64,
    /// CPU time of the other side, in microseconds.
    pub responder_us: f64,
    /// Of that, what the public-key operations alone take, both sides together.
    pub limit_us: f64,
    /// Both sides over that.
    pub ratio_to_limit: f64,
    /// Handshakes that one core answers in a second.
    pub answered_per_s: f64,
    /// Bytes there and back, the padding of the last one included.
    pub bytes: usize,
}

/// One run of `warren bench handshake`: medians.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HandshakeFigures {
    /// Handshakes of each kind.
    pub rounds: usize,
    /// Between two routers: Noise XK, ML-KEM, both descriptors checked.
    pub link: HandshakeCost,
    /// Between client and service: ML-KEM, Noise NK; a request of two units.
    pub session: HandshakeCost,
}

impl fmt::Display for HandshakeFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "median of {} handshakes, CPU time", self.rounds)?;
        for (name, it) in [("link", &self.link), ("session", &self.session)] {
            write!(
                f,
                "\n  {name:<8} initiator {:>4.0} us, responder {:>4.0} us ({:.0} a second and core), \
                 {} bytes; limit {:.0} us for both: {:.2} times that",
                it.initiator_us,
                it.responder_us,
                it.answered_per_s,
                it.bytes,
                it.limit_us,
                it.ratio_to_limit
            )?;
        }
        Ok(())
    }
}

/// Measures; `None` if a handshake failed, which is a defect.
pub fn run(rounds: usize) -> Option<HandshakeFigures> {
    let primitives = PublicKey::measure(LIMIT_ROUNDS);
    // XK: es, ee, se on both sides; each checks the other's descriptor.
    let link_limit = primitives.exchange_ns(6.0, true) + 2.0 * primitives.verify.median();
    // NK: es, ee on both sides; the service's ML-KEM key is the day's.
    let session_limit = primitives.exchange_ns(4.0, false);
    let mut link = [Samples::default(), Samples::default()];
    let mut session = [Samples::default(), Samples::default()];
    let (mut link_bytes, mut session_bytes) = (0, 0);
    let clock = Clock::start();
    let network = actors::network();
    let member = |k| {
        let mut address = actors::address(k);
        address.set_port(9_000); // nobody dials it
        actors::identity(clock.now(), &network, address.into())
    };
    let (from, to) = (member(1)?, member(2)?);
    for _ in 0..rounds {
        link_bytes = one_link(clock.now(), &from, &to, &mut link)?;
        session_bytes = one_session(&mut session)?;
    }
    Some(HandshakeFigures {
        rounds,
        link: cost(&link, link_limit, link_bytes),
        session: cost(&session, session_limit, session_bytes),
    })
}

fn cost([initiator, responder]: &[Samples; 2], limit_ns: f64, bytes: usize) -> HandshakeCost {
    let both = initiator.median() + responder.median();
    HandshakeCost {
        initiator_us: initiator.median() / 1e3,
        responder_us: responder.median() / 1e3,
        limit_us: limit_ns / 1e3,
        ratio_to_limit: both / limit_ns,
        answered_per_s: 1e9 / responder.median(),
        bytes,
    }
}

fn said(machine: &mut Handshake) -> (Vec<u8>, bool) {
    let (mut bytes, mut up) = (Vec::new(), false);
    while let Some(output) = machine.poll_output() {
        match output {
            HandshakeOutput::Transmit(more) => bytes.extend(more),
            HandshakeOutput::Established(_) => up = true,
            HandshakeOutput::Failed | HandshakeOutput::Close => {}
        }
    }
    (bytes, up)
}

/// Three messages; each side's parts are summed up. The bytes of all.
fn one_link(
    now: Now,
    from: &LinkIdentity,
    to: &LinkIdentity,
    [initiator, responder]: &mut [Samples; 2],
) -> Option<usize> {
    let contact = to.descriptor.contact()?;
    let (from, to) = (from.clone(), to.clone());
    let mut first = Samples::default();
    let (mut a, one) = first.add(1, || {
        let mut a = Handshake::initiate(now, from, contact, entropy::generator());
        let (one, _) = said(&mut a);
        (a, one)
    });
    let mut second = Samples::default();
    let (mut b, two) = second.add(1, || {
        let mut b = Handshake::accept(now, to, entropy::generator());
        b.handle_input(now, &one);
        let (two, _) = said(&mut b);
        (b, two)
    });
    let answer = |machine: &mut Handshake, samples: &mut Samples, bytes: &[u8]| {
        samples.add(1, || {
            machine.handle_input(now, bytes);
            said(machine)
        })
    };
    let (mut third, mut fourth) = (Samples::default(), Samples::default());
    let (three, a_up) = answer(&mut a, &mut third, &two);
    let (_, b_up) = answer(&mut b, &mut fourth, &three);
    initiator.push(first.median() + third.median());
    responder.push(second.median() + fourth.median());
    (a_up && b_up).then_some(one.len() + two.len() + three.len())
}

/// A request of two units and its answer, as `overlay::session` makes them: this is their
/// cryptography and nothing else.
fn one_session([client, service]: &mut [Samples; 2]) -> Option<usize> {
    const CONTEXT: &str = "warren bench 1";
    let mut rng = entropy::generator();
    let (dh, kem) = (DhSecret::generate(&mut rng), KemSecret::generate(&mut rng));
    let psk = |secret: &warren_overlay::crypto::secret::Secret<32>, text: &[u8]| {
        kdf::derive_secret(CONTEXT, &[secret.expose_secret(), text, kem.public()])
    };
    let payload = vec![0; 2 * UNIT_MAX - 1 - KEM_CIPHERTEXT_LEN - SESSION_MESSAGE_OVERHEAD];
    let mut first = Samples::default();
    let (state, text, request) = first.add(1, || {
        let (text, secret) = kem::encapsulate(&mut rng, kem.public())?;
        let psk = psk(&secret, &text[..]);
        let (state, request) =
            SessionInitiator::start(&mut rng, &[], &dh.public(), &psk, &payload).ok()?;
        Some((state, text, request))
    })?;
    let mut rng = entropy::generator();
    let mut second = Samples::default();
    let answer = second.add(1, || {
        let psk = psk(&kem.decapsulate(&text), &text[..]);
        let (state, _) = session_respond(&mut rng, &[], &dh, &psk, &request).ok()?;
        let (keys, answer) = state.write2(&[0; UNIT_MAX - SESSION_MESSAGE_OVERHEAD]).ok()?;
        drop(keys);
        Some(answer)
    })?;
    let mut third = Samples::default();
    third.add(1, || state.finish(&answer).ok().map(|_| ()))?;
    client.push(first.median() + third.median());
    service.push(second.median());
    Some(KEM_CIPHERTEXT_LEN + request.len() + answer.len())
}
