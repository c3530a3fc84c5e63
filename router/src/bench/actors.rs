//! The three routers of a benchmark: who they are, and how their links come to be.
//!
//! Lives here: identities from fixed seeds, so that two processes know each other without a word;
//! real handshakes, in memory and over sockets; the clock. Does not live here: what the routers do
//! with their links (`hop.rs`, `load.rs`).
//!
//! The keys are public. Nothing but benchmarks may use them.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rand::{TryRng, rngs::SysRng};
use tokio::net::TcpStream;
use warren_overlay::{
    crypto::{
        kem::DhSecret,
        onion::{Direction, LayerKeys, RelayBackward, RelayForward},
        secret::Secret,
        sign::IdentityKey,
    },
    id::{EndNo, LinkNo, NetworkId, TunnelId},
    link::{
        CreditQuota, Established, Handshake, HandshakeOutput, LinkIdentity, LinkIo, LinkSettings,
        ReplayFilter,
    },
    plane::{Lane, TransitHalf},
    rng::Rng,
    time::{Now, Time, Wall},
    wire::{Admission, Contact, DescriptorFields, RouterDescriptor},
};

const NETWORK: NetworkId = NetworkId([0xbe; 32]);
/// All actors live in this minute: no benchmark lasts ten.
const WALL: Wall = Wall::from_minutes(30_000_000);
/// Memory of each router: enough that windows reach their cap.
const MEMORY_BYTES: u64 = 1 << 30;

/// The router that is measured.
pub(super) const HOP: u8 = 1;
/// Where cells come from.
pub(super) const SOURCE: u8 = 2;
/// Where they go.
pub(super) const SINK: u8 = 3;

/// The link on which the hop takes cells in, and the one on which it sends them.
pub(super) const IN: LinkNo = LinkNo(1);
pub(super) const OUT: LinkNo = LinkNo(2);

/// Monotonic time since it was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "a benchmark is a driver: it reads the clock")]
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    pub(super) fn time(self) -> Time {
        Time::from_micros(u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn now(self) -> Now {
        Now { time: self.time(), wall: WALL }
    }
}

/// The router `seed`, the same in every process.
pub(super) fn identity(seed: u8) -> LinkIdentity {
    let mut rng = Rng::from_seed([seed; 32]);
    let key = IdentityKey::generate(&mut rng);
    let secret = DhSecret::generate(&mut rng);
    let fields = DescriptorFields {
        network: NETWORK,
        link_key: secret.public(),
        tunnel_dh: rng.bytes(),
        tunnel_kem: Box::new(rng.bytes()),
        addresses: vec![SocketAddr::from(([127, seed, 0, 1], 9_000)).into()],
        capabilities: 0,
        bandwidth_kbps: 8_000,
        family: None,
        admission: Admission { nonce: 7, output: rng.bytes() },
        published: WALL,
        expiry: WALL.plus(1_000),
    };
    let descriptor = RouterDescriptor::sign(fields, &key).expect("one address, a short life");
    LinkIdentity {
        network: NETWORK,
        descriptor: Arc::new(descriptor),
        secret: Arc::new(secret),
        replay: Arc::new(Mutex::new(ReplayFilter::new(&mut rng))),
    }
}

/// Whom to dial for the router `seed`.
pub(super) fn contact(seed: u8) -> Contact {
    identity(seed).descriptor.contact()
}

/// Randomness, not the same in two runs.
pub(super) fn fresh_rng() -> Rng {
    let mut seed = [0; 32];
    SysRng.try_fill_bytes(&mut seed).expect("the operating system has randomness");
    Rng::from_seed(seed)
}

/// An established link as the machine that runs it.
pub(super) fn link_io(now: Time, link: LinkNo, established: Established) -> LinkIo {
    let settings = LinkSettings::new(Arc::new(CreditQuota::new(MEMORY_BYTES)));
    LinkIo::new(now, link, established, settings, fresh_rng())
}

/// Both ends of a link, made in memory.
pub(super) fn shake(now: Now, dialler: u8, to: u8) -> Option<(Established, Established)> {
    let mut a = Handshake::initiate(now, identity(dialler), contact(to), fresh_rng());
    let mut b = Handshake::accept(now, identity(to), fresh_rng());
    let (mut a_up, mut b_up) = (None, None);
    while a_up.is_none() || b_up.is_none() {
        let before = (a_up.is_some(), b_up.is_some());
        let sent = turn(now, &mut a, &mut b, &mut a_up) | turn(now, &mut b, &mut a, &mut b_up);
        if !sent && before == (a_up.is_some(), b_up.is_some()) {
            return None;
        }
    }
    Some((a_up?, b_up?))
}

fn turn(now: Now, from: &mut Handshake, to: &mut Handshake, up: &mut Option<Established>) -> bool {
    let mut sent = false;
    while let Some(output) = from.poll_output() {
        match output {
            HandshakeOutput::Transmit(bytes) => {
                to.handle_input(now, &bytes);
                sent = true;
            }
            HandshakeOutput::Established(it) => *up = Some(*it),
            HandshakeOutput::Failed | HandshakeOutput::Close => {}
        }
    }
    sent
}

/// Carries a handshake over a socket.
pub(super) async fn shake_over(
    clock: Clock,
    stream: &TcpStream,
    mut machine: Handshake,
) -> io::Result<Established> {
    let mut buffer = vec![0; 16 * 1_024];
    loop {
        while let Some(output) = machine.poll_output() {
            match output {
                HandshakeOutput::Transmit(bytes) => write_all(stream, &bytes).await?,
                HandshakeOutput::Established(established) => return Ok(*established),
                HandshakeOutput::Failed | HandshakeOutput::Close => {
                    return Err(io::Error::other("the handshake failed"));
                }
            }
        }
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => machine.handle_input(clock.now(), buffer.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Tunnel `number`'s lane on the link over which cells come in; the generators number lanes there.
pub(super) const fn lane_in(number: u32) -> TunnelId {
    TunnelId(number)
}

/// Tunnel `number`'s lane on the link over which cells leave; the hop numbers lanes there.
pub(super) const fn lane_out(number: u32) -> TunnelId {
    TunnelId(number | 1 << 31)
}

/// What a middle hop does with both lanes of tunnel `number`: for the link in, for the link out.
pub(super) fn transit_lanes(number: u32, rng: &mut Rng) -> (Lane, Lane) {
    let secret: Secret<32> = Secret::random(rng);
    let keys = |direction| LayerKeys::derive(&secret, direction);
    let forward = Lane::Transit {
        half: TransitHalf::Forward(RelayForward::new(keys(Direction::Forward))),
        to: OUT,
        tunnel: lane_out(number),
    };
    let backward = Lane::Transit {
        half: TransitHalf::Backward(RelayBackward::new(keys(Direction::Backward))),
        to: IN,
        tunnel: lane_in(number),
    };
    (forward, backward)
}

/// What a generator does with a lane.
pub(super) const fn own_lane() -> Lane {
    Lane::ToEnd { end: EndNo(1) }
}
