//! UPnP: asking the router of a line to forward a port (Internet Gateway Device, versions 1 and 2).
//!
//! Lives here: the four things that are asked of it, and how long that may take. Does not live here: finding
//! it (`upnp/search.rs`), one exchange (`upnp/http.rs`), what its texts say (`upnp/soap.rs`), when to ask
//! (`mapping.rs`).
//!
//! ```text
//! search ──answer of the gateway itself──> description ──its services──> address? forward! ... end!
//! ```
//!
//! Everybody on a network can answer in UPnP, and say that somebody else is to be asked. So only the gateway
//! of the default route is listened to, and nothing is asked of any other machine: each address that a text
//! names is compared with the gateway's.

mod http;
mod search;
mod soap;

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use tokio::time::timeout;

pub(super) use self::search::Where;
use self::{
    http::{get, post},
    soap::{Answer, Service},
};

/// All that one try may take: a search, a description, and some questions of 3 s each.
const LIMIT: Duration = Duration::from_secs(15);
/// How long a forwarding is asked for, in seconds.
const LIFETIME_S: u32 = 3_600;
/// Ports outside that are tried where the wished one is somebody else's.
const PORTS_MAX: u16 = 4;
/// As far apart are they.
const PORTS_APART: u16 = 1_009;

/// "The port is forwarded to somebody else."
const CONFLICT: u16 = 718;
/// "Only the same port inside and outside."
const SAME_PORT: u16 = 724;
/// "Only forwardings without an end."
const FOR_GOOD: u16 = 725;

/// What the gateway forwards, and whom to tell when that shall end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Forwarded {
    service: Service,
    /// Where that is, outside.
    pub(super) address: SocketAddr,
    /// For so long, in seconds; 0 for good.
    pub(super) seconds: u32,
}

/// Has `outside` forwarded to the port `inside` of this machine, or another one that is free.
///
/// # Errors
/// `TimedOut` when nothing answers as a gateway, `PermissionDenied` when it refuses, `InvalidData` when
/// what it says makes no sense.
pub(super) async fn forward(at: Where, inside: u16, outside: u16) -> io::Result<Forwarded> {
    let all = async {
        let mut last = io::Error::from(ErrorKind::TimedOut);
        let place = search::search(at).await?;
        let description = get(&place).await?;
        // A line may have several, of which one is connected.
        for service in soap::services(&description, &place)? {
            match forward_by(service, inside, outside).await {
                Ok(forwarded) => return Ok(forwarded),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    timeout(LIMIT, all).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

async fn forward_by(service: Service, inside: u16, outside: u16) -> io::Result<Forwarded> {
    let address = match ask(&service, "GetExternalIPAddress", &[]).await? {
        Answer::Done(text) => soap::address(&text)?,
        Answer::Refused(code) => return Err(refused(code)),
    };
    if address.is_unspecified() {
        return Err(ErrorKind::AddrNotAvailable.into());
    }
    let me = local(service.place.at)?;
    let (mut port, mut seconds, mut moved) = (outside, LIFETIME_S, 0);
    loop {
        let answer = ask(&service, "AddPortMapping", &adds(port, inside, me, seconds)).await?;
        match answer {
            Answer::Done(_) => {
                let address = SocketAddr::new(address.into(), port);
                return Ok(Forwarded { service, address, seconds });
            }
            Answer::Refused(FOR_GOOD) if seconds != 0 => seconds = 0,
            Answer::Refused(SAME_PORT) if port != inside => port = inside,
            Answer::Refused(CONFLICT) if moved < PORTS_MAX => {
                moved += 1;
                port = another(port);
            }
            Answer::Refused(code) => return Err(refused(code)),
        }
    }
}

/// Ends that.
pub(super) async fn end(forwarded: &Forwarded) -> io::Result<()> {
    let port = forwarded.address.port().to_string();
    let port = [
        ("NewRemoteHost", String::new()),
        ("NewExternalPort", port),
        ("NewProtocol", "TCP".into()),
    ];
    match ask(&forwarded.service, "DeletePortMapping", &port).await? {
        Answer::Done(_) => Ok(()),
        Answer::Refused(code) => Err(refused(code)),
    }
}

/// A port that ordinary users may have, away from this one.
fn another(port: u16) -> u16 {
    port.checked_add(PORTS_APART).unwrap_or(10_000)
}

fn adds(outside: u16, inside: u16, me: Ipv4Addr, seconds: u32) -> [(&'static str, String); 8] {
    [
        ("NewRemoteHost", String::new()),
        ("NewExternalPort", outside.to_string()),
        ("NewProtocol", "TCP".into()),
        ("NewInternalPort", inside.to_string()),
        ("NewInternalClient", me.to_string()),
        ("NewEnabled", "1".into()),
        ("NewPortMappingDescription", "warren".into()),
        ("NewLeaseDuration", seconds.to_string()),
    ]
}

async fn ask(service: &Service, action: &str, values: &[(&str, String)]) -> io::Result<Answer> {
    let head = soap::action(service, action);
    let (is_good, text) =
        post(&service.place, &head, soap::question(service, action, values)).await?;
    soap::answer(is_good, text, action)
}

fn refused(code: u16) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, format!("the gateway refuses: {code}"))
}

/// The address of this machine that the gateway sees. Nothing is sent: the routing table is asked.
fn local(gateway: SocketAddrV4) -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(gateway)?;
    match socket.local_addr()? {
        SocketAddr::V4(me) => Ok(*me.ip()),
        SocketAddr::V6(_) => Err(ErrorKind::AddrNotAvailable.into()),
    }
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
