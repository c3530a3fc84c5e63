//! The routers around the one that is measured: who they are, and how their links come to be.
//!
//! Lives here: their identities, real handshakes in memory and over sockets, the clock, a middle
//! hop's lanes. Does not live here: what they do with their links (`load.rs`).

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::net::TcpStream;
use warren_overlay::{
    crypto::{
        kem::DhSecret,
        onion::{Direction, LayerKeys, RelayBackward, RelayForward},
        puzzle::Difficulty,
        secret::Secret,
        sign::IdentityKey,
    },
    id::{EndNo, LinkNo, TunnelId},
    link::{
        CreditQuota, Established, Handshake, HandshakeOutput, LinkIdentity, LinkIo, LinkSettings,
        ReplayFilter,
    },
    plane::{Lane, TransitHalf},
    ring::admission::{Mode, Network, NetworkName, ProofWork, SUITE_HYBRID},
    rng::{Rng, SharedRng},
    time::{Now, Time, Wall},
    tunnel::build::TunnelKeys,
    wire::{Address, Contact, DescriptorFields, RouterDescriptor},
};

use crate::entropy;

/// Memory of each router: enough that windows reach their cap.
const MEMORY_BYTES: u64 = 1 << 30;
/// Minutes that a descriptor is good for.
const LIFE_MINUTES: u32 = 60;

/// The link on which the hop takes cells in, and the one on which it sends them.
pub(super) const IN: LinkNo = LinkNo(1);
pub(super) const OUT: LinkNo = LinkNo(2);

/// Router `k`'s loopback address: each in another /16, so that path rules apply. Any port.
pub(super) const fn address(k: u8) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, k, 0, 1)), 0)
}

/// A network that only benchmarks use.
pub(super) fn network() -> Network {
    Network {
        name: NetworkName::Random(entropy::generator().bytes()),
        mode: Mode::Proof,
        difficulty: Difficulty::NONE,
        suite: SUITE_HYBRID,
        local: true,
    }
}

/// Monotonic time since it was made, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

#[expect(clippy::disallowed_methods, reason = "a benchmark is a driver: it reads the clock")]
impl Clock {
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
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 60;
        Now { time: self.time(), wall: Wall::from_minutes(u32::try_from(wall).unwrap_or(u32::MAX)) }
    }
}

/// Where to dial a router.
///
/// # Errors
/// When it is one that nobody can dial.
pub(super) fn contact(router: &RouterDescriptor) -> io::Result<Contact> {
    router.contact().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// A new member of `network` that listens on `address`; `None` without memory for its work.
pub(super) fn identity(now: Now, network: &Network, address: Address) -> Option<LinkIdentity> {
    let mut rng = entropy::generator();
    let key = IdentityKey::generate(&mut rng);
    let keys = TunnelKeys::generate(network.id(), key.id(), &mut rng);
    member(now, network, address, &key, &keys)
}

/// The same, with the keys to open builds.
pub(super) fn hop(
    now: Now,
    network: &Network,
    address: Address,
) -> Option<(TunnelKeys, Arc<RouterDescriptor>)> {
    let mut rng = entropy::generator();
    let key = IdentityKey::generate(&mut rng);
    let keys = TunnelKeys::generate(network.id(), key.id(), &mut rng);
    let descriptor = member(now, network, address, &key, &keys)?.descriptor;
    Some((keys, descriptor))
}

fn member(
    now: Now,
    network: &Network,
    address: Address,
    key: &IdentityKey,
    keys: &TunnelKeys,
) -> Option<LinkIdentity> {
    let mut rng = entropy::generator();
    let secret = DhSecret::generate(&mut rng);
    let mut work = ProofWork::new(network, key.id(), 0)?;
    let admission = std::iter::repeat_with(|| work.step()).find_map(|done| done)?;
    let fields = DescriptorFields {
        network: network.id(),
        link_key: secret.public(),
        tunnel_dh: keys.dh_public(),
        tunnel_kem: keys.kem_public(),
        addresses: vec![address],
        capabilities: 0,
        bandwidth_kbps: 8_000,
        family: None,
        admission,
        vouches: Vec::new(),
        published: now.wall,
        expiry: now.wall.plus(LIFE_MINUTES),
    };
    Some(LinkIdentity {
        network: network.id(),
        descriptor: Arc::new(RouterDescriptor::sign(fields, key).ok()?),
        secret: Arc::new(secret),
        replay: Arc::new(Mutex::new(ReplayFilter::new(&mut rng))),
    })
}

/// An established link as the machine that runs it.
pub(super) fn link_io(now: Time, link: LinkNo, established: Established) -> LinkIo {
    let pads = SharedRng::new(entropy::generator());
    let settings = LinkSettings::new(Arc::new(CreditQuota::new(MEMORY_BYTES)), pads);
    LinkIo::new(now, link, established, settings)
}

/// Both ends of a link, made in memory.
pub(super) fn shake(
    now: Now,
    from: LinkIdentity,
    to: &LinkIdentity,
) -> Option<(Established, Established)> {
    let contact = to.descriptor.contact()?;
    let mut a = Handshake::initiate(now, from, contact, entropy::generator());
    let mut b = Handshake::accept(now, to.clone(), entropy::generator());
    let (mut a_up, mut b_up) = (None, None);
    // Three messages; whoever sent the last one is up first.
    for _ in 0..3 {
        turn(now, &mut a, &mut b, &mut a_up);
        turn(now, &mut b, &mut a, &mut b_up);
    }
    Some((a_up?, b_up?))
}

fn turn(now: Now, from: &mut Handshake, to: &mut Handshake, up: &mut Option<Established>) {
    while let Some(output) = from.poll_output() {
        match output {
            HandshakeOutput::Transmit(bytes) => to.handle_input(now, &bytes),
            HandshakeOutput::Established(it) => *up = Some(*it),
            HandshakeOutput::Failed | HandshakeOutput::Close => {}
        }
    }
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

pub(super) async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
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

/// Tunnel `number`'s lane on the link over which cells come in; its dialler numbers it.
pub(super) const fn lane_in(number: u32) -> TunnelId {
    TunnelId(number)
}

/// Tunnel `number`'s lane on the link over which cells leave; here the dialled hop numbers it.
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
