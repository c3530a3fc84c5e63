//! Finding a gateway that speaks UPnP (SSDP).
//!
//! Lives here: the question, who may answer it, and where the answer points. Does not live here: what is
//! there (`soap.rs`).
//!
//! The gateway is asked itself; from the second question on everybody who listens for such questions is,
//! because some gateways answer only that. An answer counts if it comes from the gateway's address and
//! points to it.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use super::http::Place;

/// Where UPnP devices listen for searches.
const PORT: u16 = 1_900;
const EVERYBODY: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
/// A question, and this long for its answer.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: usize = 3;
/// Datagrams that are looked at in all: others may send as many as they like.
const ANSWERS_MAX: usize = 64;
/// Longest answer that is looked at.
const ANSWER_LEN_MAX: usize = 2_048;
const HEADERS_MAX: usize = 32;

/// Whom to ask.
#[derive(Clone, Copy, Debug)]
pub(in crate::driver) struct Where {
    /// The gateway: it alone is listened to.
    pub(super) gateway: SocketAddrV4,
    /// Where to ask whoever listens.
    pub(super) everybody: Option<SocketAddrV4>,
}

impl Where {
    /// The gateway at that address.
    pub(in crate::driver) const fn gateway(ip: Ipv4Addr) -> Self {
        let everybody = Some(SocketAddrV4::new(EVERYBODY, PORT));
        Self { gateway: SocketAddrV4::new(ip, PORT), everybody }
    }

    /// A gateway of a test, and nobody else.
    #[cfg(test)]
    pub(in crate::driver) const fn alone(gateway: SocketAddrV4) -> Self {
        Self { gateway, everybody: None }
    }
}

fn question(to: SocketAddrV4) -> String {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: {to}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
         ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
    )
}

/// Where an answer of the gateway points; `None` if it is none, or points to another machine.
fn answer(bytes: &[u8], gateway: Ipv4Addr) -> Option<Place> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let whole = answer.parse(bytes).ok()?.is_complete();
    if !whole || answer.code != Some(200) {
        return None;
    }
    let location = answer.headers.iter().find(|it| it.name.eq_ignore_ascii_case("location"))?;
    let place = Place::parse(std::str::from_utf8(location.value).ok()?.trim())?;
    (*place.at.ip() == gateway).then_some(place)
}

/// Where the gateway's description is.
///
/// # Errors
/// `TimedOut` when it does not answer in 3 s.
pub(super) async fn search(at: Where) -> io::Result<Place> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    let mut buffer = [0; ANSWER_LEN_MAX];
    let mut left = ANSWERS_MAX;
    for n in 0..TRIES {
        socket.send_to(question(at.gateway).as_bytes(), at.gateway).await?;
        if let Some(everybody) = at.everybody.filter(|_| n > 0) {
            // A machine without a way for it has asked the gateway all the same.
            let _ = socket.send_to(question(everybody).as_bytes(), everybody).await;
        }
        let until = Instant::now() + PATIENCE;
        while let Ok(came) = timeout_at(until, socket.recv_from(&mut buffer)).await {
            left = left.checked_sub(1).ok_or(ErrorKind::TimedOut)?;
            // What the gateway's kernel says of a shut port is no reason not to ask everybody.
            let Ok((len, SocketAddr::V4(from))) = came else { continue };
            let bytes = buffer.get(..len).unwrap_or_default();
            if from.ip() == at.gateway.ip()
                && let Some(place) = answer(bytes, *from.ip())
            {
                return Ok(place);
            }
        }
    }
    Err(ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn says(location: &str) -> Option<Place> {
        let text = format!(
            "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nEXT:\r\nLocation: {location}\r\n\
             ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
        );
        answer(text.as_bytes(), GATEWAY)
    }

    #[test]
    fn an_answer_counts_if_it_points_to_the_gateway_itself() {
        let place = says("http://192.168.1.1:5000/root.xml?x=1").unwrap();
        assert_eq!(place.at, "192.168.1.1:5000".parse().unwrap());
        assert_eq!(place.path, "/root.xml?x=1");
        assert_eq!(says("http://192.168.1.1/").unwrap().at.port(), 80);
        for elsewhere in [
            "http://192.168.1.2:5000/root.xml",
            "http://127.0.0.1:5000/root.xml",
            "http://gateway.example:5000/root.xml",
            "http://192.168.1.1@192.168.1.2:5000/root.xml",
            "https://192.168.1.1:5000/root.xml",
            "file:///etc/passwd",
            "http://192.168.1.1:0/root.xml",
            "",
        ] {
            assert_eq!(says(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let whole = "HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1:5000/\r\n\r\n";
        assert!(answer(whole.as_bytes(), GATEWAY).is_some());
        for len in 0..whole.len() {
            assert_eq!(answer(&whole.as_bytes()[..len], GATEWAY), None, "{len} bytes");
        }
        let other = whole.replace("200 OK", "404 No");
        assert_eq!(answer(other.as_bytes(), GATEWAY), None);
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(answer(many.as_bytes(), GATEWAY), None, "too many headers");
        assert_eq!(answer(&[0xff; 100], GATEWAY), None);
    }
}
