//! `link.port_mapping`: having the router of the line forward a port to this one.
//!
//! Lives here: in which way to ask for that, when, when to renew it and to end it. Does not live here: the
//! questions (`natpmp.rs`, `upnp.rs`), what follows from an address that is known now (`setup::door`,
//! `node/reach.rs`).
//!
//! ```text
//! ask: NAT-PMP, then UPnP ──granted──> held ──half of its time──> ask the same way first ...
//!  '──no answer, or refused──> again after 1 minute, doubled to 15       stop: ended at the gateway
//! ```
//!
//! Off unless the operator says so: it opens a door in a machine that may be somebody else's, and everybody
//! on the same network can see in the gateway's table that it is there.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};
use warren_overlay::wire::Address;

use super::{Event, natpmp, upnp};

/// First pause after a failure; doubled up to the second.
const PAUSE: Duration = Duration::from_mins(1);
const PAUSE_MAX: Duration = Duration::from_mins(15);
/// A gateway that grants less than this is asked no more often.
const RENEW_MIN: Duration = Duration::from_secs(1);
/// One that grants for good is asked this often whether it still does.
const LOOK_EVERY: Duration = Duration::from_mins(30);
/// How long ending it may hold up the stop; as long again for a question that is under way.
const END_LIMIT: Duration = Duration::from_secs(2);

/// What came of asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mapped {
    /// Nobody asked for it.
    #[default]
    Off,
    /// No answer yet.
    Asking,
    /// The gateway forwards this to the link port.
    At(SocketAddr, Way),
    /// It does not; the next try is at most a quarter of an hour away.
    Refused {
        /// Asked by NAT-PMP.
        natpmp: Why,
        /// Asked by UPnP.
        upnp: Why,
    },
    /// There is no gateway to ask.
    NoGateway,
}

/// How it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    NatPmp,
    Upnp,
}

/// Why it does not forward a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It does not speak that, or not to this machine.
    Silent,
    /// It says no.
    Refuses,
    /// It has no address outside.
    Unconnected,
    /// It says something else.
    Nonsense,
}

impl Why {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::PermissionDenied => Self::Refuses,
            ErrorKind::AddrNotAvailable => Self::Unconnected,
            ErrorKind::InvalidData => Self::Nonsense,
            _ => Self::Silent,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Silent => "no answer",
            Self::Refuses => "it refuses",
            Self::Unconnected => "it has no address outside",
            Self::Nonsense => "an answer that makes no sense",
        }
    }
}

impl Mapped {
    /// For a person.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Off => String::new(),
            Self::Asking => "asking the line's router to forward a port".into(),
            Self::At(address, way) => {
                let way = match way {
                    Way::NatPmp => "NAT-PMP",
                    Way::Upnp => "UPnP",
                };
                let mut words = format!("the line's router forwards {address} ({way})");
                if !Address::from(address).globally_routable() {
                    words.push_str(
                        ", which is no address of the internet: another router stands before it",
                    );
                }
                words
            }
            Self::Refused { natpmp, upnp } => format!(
                "the line's router forwards no port (NAT-PMP: {}; UPnP: {})",
                natpmp.words(),
                upnp.words()
            ),
            Self::NoGateway => {
                "there is no router to ask for a port: no default route by IPv4".into()
            }
        }
    }

    /// The same in one word, for programs; empty where nobody asked for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Off => "",
            Self::Asking => "asking",
            Self::At(..) => "forwarded",
            Self::Refused { .. } | Self::NoGateway => "refused",
        }
    }

    /// Where the port is outside, if it is.
    pub(super) const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::At(address, _) => Some(address),
            Self::Off | Self::Asking | Self::Refused { .. } | Self::NoGateway => None,
        }
    }
}

/// Where to ask.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gateway {
    /// The one that packets leave through.
    Default,
    /// This one.
    #[cfg(test)]
    At { natpmp: SocketAddr, upnp: upnp::Where },
}

impl Gateway {
    fn find(self) -> io::Result<(SocketAddr, upnp::Where)> {
        match self {
            Self::Default => {
                let table = std::fs::read_to_string("/proc/net/route")?;
                let ip = default_route(&table).ok_or(ErrorKind::NetworkUnreachable)?;
                Ok(((ip, natpmp::PORT).into(), upnp::Where::gateway(ip)))
            }
            #[cfg(test)]
            Self::At { natpmp, upnp } => Ok((natpmp, upnp)),
        }
    }
}

/// The gateway of the default route with the least metric, from the kernel's table: one line a route,
/// addresses in hexadecimal, lowest byte first.
fn default_route(table: &str) -> Option<Ipv4Addr> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, to, gateway, _, _, _, metric, mask, ..] = fields[..] else { return None };
        let gateway = u32::from_str_radix(gateway, 16).ok().filter(|it| *it != 0)?;
        let is_default = to == "00000000" && mask == "00000000";
        is_default
            .then(|| (metric.parse().unwrap_or(u32::MAX), Ipv4Addr::from(gateway.to_le_bytes())))
    };
    table.lines().skip(1).filter_map(route).min().map(|(_, gateway)| gateway)
}

/// The task that sees to it.
#[derive(Debug)]
pub(super) struct Mapping {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Mapping {
    /// Has a port forwarded to `port` of this machine; what comes of it is told by events.
    pub(super) fn start(port: u16, gateway: Gateway, events: mpsc::Sender<Event>) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(keep(port, gateway, events, stopped)) }
    }

    /// Ends it at the gateway.
    pub(super) async fn stop(mut self) {
        let _ = self.stop.send(());
        let _ = timeout(2 * END_LIMIT, &mut self.task).await;
        self.task.abort();
    }
}

async fn keep(
    port: u16,
    gateway: Gateway,
    events: mpsc::Sender<Event>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut pause = PAUSE;
    let mut outside = port;
    let mut held: Option<Held> = None;
    loop {
        let first = held.as_ref().map_or(Way::NatPmp, Held::way);
        let (mapped, wait) = match ask(gateway, port, outside, first).await {
            Ok(granted) => {
                let (way, address, wait) = (granted.way(), granted.address(), granted.wait());
                (pause, outside, held) = (PAUSE, address.port(), Some(granted));
                (Mapped::At(address, way), wait)
            }
            Err(refused) => {
                let wait = pause;
                pause = (pause * 2).min(PAUSE_MAX);
                (refused, wait)
            }
        };
        if events.send(Event::Mapped(mapped)).await.is_err() {
            break;
        }
        tokio::select! {
            () = sleep(wait) => {}
            _ = &mut stopped => break,
        }
    }
    if let Some(held) = held {
        let _ = timeout(END_LIMIT, held.end(port)).await;
    }
}

/// A port that is forwarded, and how to end that.
enum Held {
    NatPmp { gateway: SocketAddr, address: SocketAddr, seconds: u32 },
    Upnp(upnp::Forwarded),
}

impl Held {
    const fn way(&self) -> Way {
        match self {
            Self::NatPmp { .. } => Way::NatPmp,
            Self::Upnp(_) => Way::Upnp,
        }
    }

    const fn address(&self) -> SocketAddr {
        match self {
            Self::NatPmp { address, .. } => *address,
            Self::Upnp(forwarded) => forwarded.address,
        }
    }

    /// When to ask again.
    fn wait(&self) -> Duration {
        let seconds = match self {
            Self::NatPmp { seconds, .. } => *seconds,
            Self::Upnp(upnp::Forwarded { seconds: 0, .. }) => return LOOK_EVERY,
            Self::Upnp(forwarded) => forwarded.seconds,
        };
        Duration::from_secs(u64::from(seconds) / 2).max(RENEW_MIN)
    }

    async fn end(&self, port: u16) -> io::Result<()> {
        match self {
            Self::NatPmp { gateway, .. } => natpmp::end(*gateway, port).await,
            Self::Upnp(forwarded) => upnp::end(forwarded).await,
        }
    }
}

/// Asks in one way, then in the other.
async fn ask(gateway: Gateway, port: u16, outside: u16, first: Way) -> Result<Held, Mapped> {
    let (to_natpmp, to_upnp) = gateway.find().map_err(|_| Mapped::NoGateway)?;
    let second = match first {
        Way::NatPmp => Way::Upnp,
        Way::Upnp => Way::NatPmp,
    };
    let (mut natpmp, mut upnp) = (Why::Silent, Why::Silent);
    for way in [first, second] {
        let (asked, why) = match way {
            Way::NatPmp => (by_natpmp(to_natpmp, port, outside).await, &mut natpmp),
            Way::Upnp => (upnp::forward(to_upnp, port, outside).await.map(Held::Upnp), &mut upnp),
        };
        match asked {
            Ok(held) => return Ok(held),
            Err(error) => *why = Why::of(&error),
        }
    }
    Err(Mapped::Refused { natpmp, upnp })
}

async fn by_natpmp(gateway: SocketAddr, port: u16, outside: u16) -> io::Result<Held> {
    let address = natpmp::address(gateway).await?;
    if address.is_unspecified() {
        return Err(ErrorKind::AddrNotAvailable.into());
    }
    let forwarded = natpmp::forward(gateway, port, outside).await?;
    if forwarded.port == 0 || forwarded.seconds == 0 {
        return Err(ErrorKind::PermissionDenied.into());
    }
    let address = SocketAddr::new(IpAddr::V4(address), forwarded.port);
    Ok(Held::NatPmp { gateway, address, seconds: forwarded.seconds })
}

#[cfg(test)]
mod tests;
