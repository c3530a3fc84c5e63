//! Gateways that grant, refuse and say nothing, in both ways. All on loopback.

use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

use super::{
    upnp::testing::{Fake, Manner},
    *,
};

/// A gateway that speaks NAT-PMP and forwards what it is asked to, one port further, for two seconds; what
/// it was asked.
async fn natpmp(refuses: bool) -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
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

/// An address at which nobody listens.
async fn shut() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn next(inbox: &mut mpsc::Receiver<Event>) -> Mapped {
    let Some(Event::Mapped(mapped)) = inbox.recv().await else { panic!("no event") };
    mapped
}

#[tokio::test]
async fn a_port_is_forwarded_kept_and_given_back() {
    let (at, asked) = natpmp(false).await;
    let upnp = Fake::start(Manner::Good).await;
    let (events, mut inbox) = mpsc::channel(8);
    let gateway = Gateway::At { natpmp: at, upnp: upnp.at };
    let mapping = Mapping::start(40_000, gateway, events);
    for _ in 0..2 {
        let mapped = next(&mut inbox).await;
        assert_eq!(mapped, Mapped::At("203.0.113.7:40001".parse().unwrap(), Way::NatPmp));
    }
    mapping.stop().await;
    let ports: Vec<_> = asked.lock().unwrap().iter().filter(|it| it.len() == 12).cloned().collect();
    assert_eq!(ports.len(), 3, "asked, renewed, ended");
    assert_eq!(ports[0][4..8], [0x9c, 0x40, 0x9c, 0x40]);
    assert_eq!(ports[1][4..8], [0x9c, 0x40, 0x9c, 0x41], "renewed as it was granted");
    assert_eq!(ports[2], [0, 2, 0, 0, 0x9c, 0x40, 0, 0, 0, 0, 0, 0], "ended");
    assert!(upnp.asked().is_empty(), "the first way led there");
}

#[tokio::test]
async fn where_natpmp_leads_nowhere_upnp_does_and_is_kept_to() {
    let (refusing, asked) = natpmp(true).await;
    let upnp = Fake::start(Manner::Good).await;
    let (events, mut inbox) = mpsc::channel(8);
    let gateway = Gateway::At { natpmp: refusing, upnp: upnp.at };
    let mapping = Mapping::start(40_000, gateway, events);
    let mapped = next(&mut inbox).await;
    assert_eq!(mapped, Mapped::At("203.0.113.7:40000".parse().unwrap(), Way::Upnp));
    assert!(
        mapped.words().contains("(UPnP), which is no address of the internet"),
        "documentation"
    );
    mapping.stop().await;
    assert_eq!(upnp.asked().last().unwrap(), "DeletePortMapping - 40000 TCP");

    // Asked anew, what is held is asked for in the same way.
    let questions = asked.lock().unwrap().len();
    let held = ask(gateway, 40_000, 40_000, Way::Upnp).await.unwrap();
    assert_eq!((held.way(), held.wait()), (Way::Upnp, Duration::from_mins(30)));
    assert_eq!(asked.lock().unwrap().len(), questions);
}

#[tokio::test]
async fn what_is_granted_for_good_is_looked_after_and_ended_too() {
    let upnp = Fake::start(Manner::ForGood).await;
    let gateway = Gateway::At { natpmp: shut().await, upnp: upnp.at };
    let held = ask(gateway, 40_000, 40_000, Way::NatPmp).await.unwrap();
    assert_eq!(held.wait(), LOOK_EVERY);
    held.end(40_000).await.unwrap();
    assert_eq!(upnp.asked().last().unwrap(), "DeletePortMapping - 40000 TCP");
}

#[tokio::test]
async fn a_gateway_that_refuses_or_is_none_is_said_so() {
    let (refusing, asked) = natpmp(true).await;
    let (no, none) = (Fake::start(Manner::Refuses).await, Fake::start(Manner::Silent).await);
    for (natpmp, upnp, words) in [
        (refusing, no.at, "(NAT-PMP: it refuses; UPnP: it refuses)"),
        (shut().await, none.at, "(NAT-PMP: no answer; UPnP: no answer)"),
    ] {
        let (events, mut inbox) = mpsc::channel(8);
        let mapping = Mapping::start(40_000, Gateway::At { natpmp, upnp }, events);
        let mapped = next(&mut inbox).await;
        assert_eq!(mapped.word(), "refused");
        assert!(mapped.words().contains(words), "{}", mapped.words());
        mapping.stop().await;
    }
    let ports = asked.lock().unwrap().iter().filter(|it| it.len() == 12).count();
    assert_eq!(ports, 1, "nothing was granted, so nothing is ended");
    assert!(!no.asked().iter().any(|it| it.starts_with("Delete")), "{:?}", no.asked());
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
