//! What a gateway's texts say.
//!
//! Lives here: the services that a description names, questions and their answers. Does not live here: how
//! they come and go (`http.rs`).
//!
//! Texts are at most 64 KiB long, have no document type (so nothing in them can grow), and at most 4,096
//! elements, attributes and pieces of text.

use std::{
    fmt::Write,
    io::{self, ErrorKind},
    net::Ipv4Addr,
};

use roxmltree::{Document, Node, ParsingOptions};

use super::http::Place;

const NODES_MAX: u32 = 4_096;
/// Services of a description that are asked.
const SERVICES_MAX: usize = 4;
/// Those that forward ports, by what they are called.
const KINDS: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// Something at a gateway that forwards ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    /// Where it is asked.
    pub(super) place: Place,
    /// What it is called.
    kind: &'static str,
}

/// What came of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// This was said.
    Done(String),
    /// It was refused, with that number.
    Refused(u16),
}

fn nonsense(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn parsed(text: &str) -> io::Result<Document<'_>> {
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..Default::default() };
    Document::parse_with_options(text, options).map_err(|_| nonsense("no XML, or too much of it"))
}

/// The text of the first element of that name in `node`.
fn text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.descendants().find(|it| it.tag_name().name() == name)?.text().map(str::trim)
}

/// What forwards ports, of all that the description at `place` names.
///
/// # Errors
/// When it makes no sense, or nothing in it does.
pub(super) fn services(description: &str, place: &Place) -> io::Result<Vec<Service>> {
    let document = parsed(description)?;
    let root = document.root();
    let base = text(root, "URLBase").filter(|base| !base.is_empty());
    let base = base.map_or_else(|| Some(place.clone()), |base| place.join(base));
    let base = base.ok_or_else(|| nonsense("another machine's description"))?;
    let service = |node: Node<'_, '_>| {
        let said = text(node, "serviceType")?;
        let kind = KINDS.into_iter().find(|kind| *kind == said)?;
        Some(Service { place: base.join(text(node, "controlURL")?)?, kind })
    };
    let nodes = root.descendants().filter(|it| it.tag_name().name() == "service");
    let found: Vec<_> = nodes.filter_map(service).take(SERVICES_MAX).collect();
    if found.is_empty() { Err(nonsense("it forwards no ports")) } else { Ok(found) }
}

/// The head that says what is asked.
pub(super) fn action(service: &Service, action: &str) -> String {
    format!("\"{}#{action}\"", service.kind)
}

/// A question. Values are numbers, addresses and fixed words: nothing in them means anything in XML.
pub(super) fn question(service: &Service, action: &str, values: &[(&str, String)]) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{}\">",
        service.kind
    );
    for (name, value) in values {
        let _ = write!(text, "<{name}>{value}</{name}>");
    }
    let _ = write!(text, "</u:{action}></s:Body></s:Envelope>\r\n");
    text
}

/// What is said to the question `action`.
///
/// # Errors
/// When it is an answer to something else, or none.
pub(super) fn answer(is_good: bool, said: String, action: &str) -> io::Result<Answer> {
    let code = {
        let document = parsed(&said)?;
        let mut names = document.descendants().map(|it| it.tag_name().name());
        match is_good {
            true if names.any(|it| it.strip_suffix("Response") == Some(action)) => None,
            true => return Err(nonsense("an answer to another question")),
            false => {
                let code = text(document.root(), "errorCode").and_then(|code| code.parse().ok());
                Some(code.ok_or_else(|| nonsense("a refusal without a number"))?)
            }
        }
    };
    Ok(code.map_or(Answer::Done(said), Answer::Refused))
}

/// The address that an answer names.
///
/// # Errors
/// When it names none.
pub(super) fn address(said: &str) -> io::Result<Ipv4Addr> {
    let document = parsed(said)?;
    let address = text(document.root(), "NewExternalIPAddress").and_then(|text| text.parse().ok());
    address.ok_or_else(|| nonsense("no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place::parse("http://10.0.0.1:49000/desc.xml").unwrap()
    }

    fn description(base: &str, services: &[(&str, &str)]) -> String {
        let service = |(kind, control): &(&str, &str)| {
            format!(
                "<service><serviceType>urn:schemas-upnp-org:service:{kind}</serviceType>\
                 <controlURL>{control}</controlURL></service>"
            )
        };
        let list: String = services.iter().map(service).collect();
        format!(
            "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\">{base}<device>\
             <deviceList><device><serviceList>{list}</serviceList></device></deviceList></device></root>"
        )
    }

    fn found(text: &str) -> Vec<String> {
        let services = services(text, &place()).unwrap_or_default();
        services.iter().map(|it| format!("{}{}", it.place.at, it.place.path)).collect()
    }

    #[test]
    fn services_that_forward_ports_are_found_wherever_they_stand() {
        let text = description(
            "",
            &[
                ("WANCommonInterfaceConfig:1", "/common"),
                ("WANPPPConnection:1", "/ppp"),
                ("WANIPConnection:1", "ip"),
                ("WANIPConnection:2", "http://10.0.0.2:1/ip"),
            ],
        );
        assert_eq!(found(&text), ["10.0.0.1:49000/ppp", "10.0.0.1:49000/ip"]);
        let base = "<URLBase>http://10.0.0.1:80/x/</URLBase>";
        assert_eq!(found(&description(base, &[("WANIPConnection:1", "ip")])), ["10.0.0.1:80/x/ip"]);
        let elsewhere = "<URLBase>http://10.0.0.2:80/</URLBase>";
        assert!(found(&description(elsewhere, &[("WANIPConnection:1", "/ip")])).is_empty());
        assert!(found(&description("", &[("Layer3Forwarding:1", "/l3")])).is_empty());
        let many = vec![("WANIPConnection:1", "/ip"); 100];
        assert_eq!(found(&description("", &many)).len(), SERVICES_MAX);
    }

    #[test]
    fn texts_that_would_grow_or_nest_without_end_are_refused() {
        let bomb = "<!DOCTYPE r [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><r>&b;</r>";
        assert!(parsed(bomb).is_err());
        assert!(parsed("<root/>").is_ok());
        assert!(parsed(&format!("<r>{}</r>", "<a/>".repeat(5_000))).is_err(), "too many");
        let deep = format!("{}{}", "<a>".repeat(9_000), "</a>".repeat(9_000));
        assert!(parsed(&deep).is_err(), "too deep");
        // As deep as may be: walked without running out of stack.
        let deep = format!("{}x{}", "<a>".repeat(4_000), "</a>".repeat(4_000));
        assert!(parsed(&deep).is_ok());
        assert!(found(&deep).is_empty());
        for text in ["", "<", "<a", "<a></b>", "\0", "plain"] {
            assert!(parsed(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn questions_and_answers_have_the_documented_form() {
        let service = Service { place: place(), kind: KINDS[1] };
        assert_eq!(
            action(&service, "DeletePortMapping"),
            "\"urn:schemas-upnp-org:service:WANIPConnection:1#DeletePortMapping\""
        );
        let said = question(&service, "DeletePortMapping", &[("NewExternalPort", "7".into())]);
        let inner = "<s:Body><u:DeletePortMapping \
                     xmlns:u=\"urn:schemas-upnp-org:service:WANIPConnection:1\">\
                     <NewExternalPort>7</NewExternalPort></u:DeletePortMapping></s:Body>";
        assert!(said.contains(inner), "{said}");
        assert!(parsed(&said).is_ok());

        let done =
            "<e:Envelope xmlns:e=\"x\"><e:Body><u:XResponse xmlns:u=\"y\"/></e:Body></e:Envelope>";
        assert_eq!(answer(true, done.into(), "X").unwrap(), Answer::Done(done.into()));
        assert!(answer(true, done.into(), "Y").is_err(), "to another question");
        assert!(answer(true, "fine".into(), "X").is_err());
        let fault = "<E><B><Fault><detail><UPnPError><errorCode>718</errorCode></UPnPError></detail>\
                     </Fault></B></E>";
        assert_eq!(answer(false, fault.into(), "X").unwrap(), Answer::Refused(718));
        assert!(answer(false, done.into(), "X").is_err(), "without a number");
        assert!(answer(false, fault.replace("718", "70000"), "X").is_err());

        let says = |text: &str| {
            address(&format!("<a><NewExternalIPAddress>{text}</NewExternalIPAddress></a>"))
        };
        assert_eq!(says(" 203.0.113.7 ").unwrap(), Ipv4Addr::new(203, 0, 113, 7));
        for text in ["", "::1", "203.0.113", "host.example"] {
            assert!(says(text).is_err(), "{text}");
        }
    }
}
