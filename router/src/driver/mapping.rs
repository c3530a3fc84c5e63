//! `link.port_mapping`: having the router of the line forward a port to this one.
//!
//! Lives here: when to ask for that, to renew it and to end it. Does not live here: the questions
//! (`natpmp.rs`), what follows from an address that is known now (`setup::door`, `node/reach.rs`).
//!
//! ```text
//! ask ──granted──> held ──half of its time──> ask ...        stop: ended at the gateway
//!  '──no answer, or refused──> again after 1 minute, doubled to 15
//! ```
//!
//! Off unless the operator says so: it opens a door in a machine that may be somebody else's, and everybody
//! on the same network can see in the gateway's table that it is there.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Event, natpmp};

/// First pause after a failure; doubled up to the second.
const PAUSE: Duration = Duration::from_mins(1);
const PAUSE_MAX: Duration = Duration::from_mins(15);
/// A gateway that grants less than this is asked no more often.
const RENEW_MIN: Duration = Duration::from_secs(1);
/// How long ending it may hold up the stop.
const END_LIMIT: Duration = Duration::from_secs(1);

/// What came of asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mapped {
    /// Nobody asked for it.
    #[default]
    Off,
    /// No answer yet.
    Asking,
    /// The gateway forwards this to the link port.
    At(SocketAddr),
    /// It does not; the next try is at most a quarter of an hour away.
    Refused,
}

impl Mapped {
    /// For a person.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Off => String::new(),
            Self::Asking => "asking the line's router to forward a port".into(),
            Self::At(address) => format!("the line's router forwards {address}"),
            Self::Refused => {
                "the line's router forwards no port: it does not speak NAT-PMP, or refuses".into()
            }
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
    At(SocketAddr),
}

impl Gateway {
    fn address(self) -> io::Result<SocketAddr> {
        match self {
            Self::Default => {
                let table = std::fs::read_to_string("/proc/net/route")?;
                let ip = default_route(&table).ok_or(io::ErrorKind::NetworkUnreachable)?;
                Ok((ip, natpmp::PORT).into())
            }
            #[cfg(test)]
            Self::At(address) => Ok(address),
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
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = timeout(2 * END_LIMIT, self.task).await;
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
    let mut held = None;
    loop {
        let (mapped, wait) = match ask(gateway, port, outside).await {
            Ok((at, address, wait)) => {
                (pause, outside, held) = (PAUSE, address.port(), Some(at));
                (Mapped::At(address), wait)
            }
            Err(_) => {
                let wait = pause;
                pause = (pause * 2).min(PAUSE_MAX);
                (Mapped::Refused, wait)
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
    if let Some(gateway) = held {
        let _ = timeout(END_LIMIT, natpmp::end(gateway, port)).await;
    }
}

/// The gateway that was asked, what it forwards, and when to ask again.
async fn ask(
    gateway: Gateway,
    port: u16,
    outside: u16,
) -> io::Result<(SocketAddr, SocketAddr, Duration)> {
    let gateway = gateway.address()?;
    let address = natpmp::address(gateway).await?;
    let forwarded = natpmp::forward(gateway, port, outside).await?;
    if forwarded.port == 0 || forwarded.seconds == 0 || address.is_unspecified() {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    let wait = Duration::from_secs(u64::from(forwarded.seconds) / 2).max(RENEW_MIN);
    Ok((gateway, SocketAddr::new(IpAddr::V4(address), forwarded.port), wait))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::net::UdpSocket;

    use super::*;

    /// A gateway that forwards what it is asked to, one port further, for two seconds; what it was asked.
    async fn gateway(refuses: bool) -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                let question = buffer[..len].to_vec();
                heard.lock().unwrap().push(question.clone());
                let result = u8::from(refuses) * 2;
                let answer = match question[..] {
                    [0, 0] => vec![0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 7],
                    [0, 2, 0, 0, a, b, c, d, _, _, e, f] => {
                        let seconds = if [e, f] == [0, 0] { 0 } else { 2 };
                        let d = if seconds == 0 { d } else { d | 1 };
                        vec![0, 130, 0, result, 0, 0, 0, 9, a, b, c, d, 0, 0, 0, seconds]
                    }
                    _ => continue,
                };
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        (address, asked)
    }

    #[tokio::test]
    async fn a_port_is_forwarded_kept_and_given_back() {
        let (at, asked) = gateway(false).await;
        let (events, mut inbox) = mpsc::channel(8);
        let mapping = Mapping::start(40_000, Gateway::At(at), events);
        for _ in 0..2 {
            let Some(Event::Mapped(mapped)) = inbox.recv().await else { panic!("no event") };
            assert_eq!(mapped, Mapped::At("203.0.113.7:40001".parse().unwrap()));
        }
        mapping.stop().await;
        let ports: Vec<_> =
            asked.lock().unwrap().iter().filter(|it| it.len() == 12).cloned().collect();
        assert_eq!(ports.len(), 3, "asked, renewed, ended");
        assert_eq!(ports[0][4..8], [0x9c, 0x40, 0x9c, 0x40]);
        assert_eq!(ports[1][4..8], [0x9c, 0x40, 0x9c, 0x41], "renewed as it was granted");
        assert_eq!(ports[2], [0, 2, 0, 0, 0x9c, 0x40, 0, 0, 0, 0, 0, 0], "ended");
    }

    #[tokio::test]
    async fn a_gateway_that_refuses_or_is_none_is_said_so() {
        let (refusing, asked) = gateway(true).await;
        // Nobody listens at this one.
        let shut = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for at in [refusing, shut] {
            let (events, mut inbox) = mpsc::channel(8);
            let mapping = Mapping::start(40_000, Gateway::At(at), events);
            assert!(matches!(inbox.recv().await, Some(Event::Mapped(Mapped::Refused))));
            mapping.stop().await;
        }
        let ports = asked.lock().unwrap().iter().filter(|it| it.len() == 12).count();
        assert_eq!(ports, 1, "nothing was granted, so nothing is ended");
    }

    #[test]
    fn the_default_route_is_read_from_the_kernels_table() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     wlan0\t00000000\t0201A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
                     eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                     eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(default_route(table), Some([192, 168, 1, 1].into()));
        assert_eq!(default_route(""), None);
        let no_default =
            table.lines().filter(|line| !line.contains("\t00000000\t0")).collect::<Vec<_>>();
        assert_eq!(default_route(&no_default.join("\n")), None);
    }
}
