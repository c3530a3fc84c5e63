//! A gateway on loopback that speaks UPnP, well or ill.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

use super::Where;

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) enum Manner {
    /// Forwards what it is asked to.
    Good,
    /// Says of the first port that it is taken.
    Taken,
    /// Says of every port that it is taken.
    AllTaken,
    /// Forwards for good or not at all.
    ForGood,
    /// Forwards a port to the same one inside alone, for good.
    SamePort,
    /// Allows nobody.
    Refuses,
    /// Has no address.
    Unconnected,
    /// Says nothing to searches.
    Silent,
    /// Its answer to a search points to that address.
    PointsTo(SocketAddrV4),
    /// Sends everybody who asks it for its description there.
    Redirects(SocketAddrV4),
    /// Its description says that its services are there.
    DescribesAt(SocketAddrV4),
    /// Its description has no end.
    Endless,
    /// Its description is shorter than it says.
    Short,
    /// Its description is longer than it says.
    Longer,
    /// Its head has no end.
    EndlessHead,
    /// It accepts, and says nothing.
    Slow,
    /// It answers questions with something else.
    Confused,
}

/// It, while this exists in the test's runtime.
#[derive(Debug)]
pub(in crate::driver) struct Fake {
    pub(in crate::driver) at: Where,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub(in crate::driver) async fn start(manner: Manner) -> Self {
        let search = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let pages = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (SocketAddr::V4(at), SocketAddr::V4(page)) =
            (search.local_addr().unwrap(), pages.local_addr().unwrap())
        else {
            panic!("not IPv4")
        };
        let asked = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(answer_searches(search, page, manner));
        let list = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((socket, _)) = pages.accept().await {
                tokio::spawn(serve(socket, manner, Arc::clone(&list)));
            }
        });
        Self { at: Where::alone(at), asked }
    }

    /// What was asked of its services: action and values.
    pub(in crate::driver) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer_searches(socket: UdpSocket, page: SocketAddrV4, manner: Manner) {
    let mut buffer = [0; 1_024];
    while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
        let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
        assert!(text.starts_with("M-SEARCH * HTTP/1.1\r\n"), "{text}");
        assert!(
            text.contains("MAN: \"ssdp:discover\"") && text.contains("InternetGatewayDevice:1")
        );
        let at = match manner {
            Manner::Silent => continue,
            Manner::PointsTo(at) => at,
            _ => page,
        };
        let answer = format!("HTTP/1.1 200 OK\r\nST: x\r\nLOCATION: http://{at}/desc.xml\r\n\r\n");
        socket.send_to(b"NOTIFY * HTTP/1.1\r\n\r\n", from).await.unwrap();
        socket.send_to(answer.as_bytes(), from).await.unwrap();
    }
}

/// Head and body of a request.
async fn request(socket: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let len = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= len.map_or(0, |len| len.parse().unwrap()) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn description(services: &str) -> String {
    let device = format!(
        "<device><serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1\
         </serviceType><controlURL>{services}</controlURL></service></serviceList></device>"
    );
    format!(
        "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\">{device}</root>"
    )
}

fn page(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

async fn serve(
    mut socket: TcpStream,
    manner: Manner,
    asked: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let (head, body) = request(&mut socket).await?;
    let answer = if head.starts_with("GET /desc.xml ") {
        match manner {
            Manner::Slow => std::future::pending().await,
            Manner::Endless | Manner::EndlessHead => {
                let start = if manner == Manner::Endless { "\r\n<root>" } else { "X: " };
                socket.write_all(format!("HTTP/1.1 200 OK\r\n{start}").as_bytes()).await.ok()?;
                // Until the other side has had enough.
                while socket.write_all(&[b'a'; 4_096]).await.is_ok() {}
                return None;
            }
            Manner::Short => {
                let body = description("/ctl");
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len() + 9)
            }
            Manner::Longer => {
                let body = description("/ctl");
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len() - 9)
            }
            Manner::Redirects(to) => {
                format!("HTTP/1.1 302 Found\r\nLocation: http://{to}/\r\nContent-Length: 0\r\n\r\n")
            }
            Manner::DescribesAt(at) => page("200 OK", &description(&format!("http://{at}/ctl"))),
            _ => page("200 OK", &description("/ctl")),
        }
    } else {
        assert!(head.starts_with("POST /ctl "), "{head}");
        let action = head.lines().find_map(|line| line.split_once('#'))?.1.trim_end_matches('"');
        let values = values(&body);
        let said = format!("{action} {values}");
        let first = !asked.lock().unwrap().iter().any(|it| it.starts_with(action));
        asked.lock().unwrap().push(said);
        control(manner, action, &values, first)
    };
    socket.write_all(answer.as_bytes()).await.ok()
}

/// The values of a question, one space apart.
fn values(body: &str) -> String {
    let document = roxmltree::Document::parse(body).unwrap();
    let values = document.descendants().filter(|it| it.tag_name().name().starts_with("New"));
    values.map(|it| it.text().unwrap_or("-").to_owned()).collect::<Vec<_>>().join(" ")
}

fn control(manner: Manner, action: &str, values: &str, first: bool) -> String {
    let adds = action == "AddPortMapping";
    let values: Vec<&str> = values.split(' ').collect();
    let lasts = adds && values[7] != "0";
    let other_port = adds && values[1] != values[3];
    let refusal = match manner {
        Manner::Refuses if adds => 606,
        Manner::Taken | Manner::AllTaken if adds && (first || manner == Manner::AllTaken) => 718,
        Manner::SamePort if other_port => 724,
        Manner::ForGood | Manner::SamePort if lasts => 725,
        Manner::Confused => return page("200 OK", "<a><SomethingResponse/></a>"),
        _ => {
            let ip = match manner {
                Manner::Unconnected => Ipv4Addr::UNSPECIFIED,
                _ => Ipv4Addr::new(203, 0, 113, 7),
            };
            let inner = format!("<NewExternalIPAddress>{ip}</NewExternalIPAddress>");
            let inner = if action == "GetExternalIPAddress" { inner.as_str() } else { "" };
            let body = format!(
                "<s:Envelope xmlns:s=\"s\"><s:Body><u:{action}Response xmlns:u=\"u\">{inner}\
                 </u:{action}Response></s:Body></s:Envelope>"
            );
            return page("200 OK", &body);
        }
    };
    let fault = format!(
        "<s:Envelope xmlns:s=\"s\"><s:Body><s:Fault><detail><UPnPError><errorCode>{refusal}</errorCode>\
         </UPnPError></detail></s:Fault></s:Body></s:Envelope>"
    );
    page("500 Internal Server Error", &fault)
}
