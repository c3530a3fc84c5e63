//! A gateway that speaks UPnP well, and those that do not. All on loopback.

use tokio::net::TcpListener;

use super::{
    testing::{Fake, Manner},
    *,
};

/// What comes of asking for port 40,000 for the link port 40,001, and what was asked of the gateway's services.
async fn ask_a(manner: Manner) -> (io::Result<Forwarded>, Vec<String>) {
    let fake = Fake::start(manner).await;
    let forwarded = forward(fake.at, 40_001, 40_000).await;
    (forwarded, fake.asked())
}

fn port(forwarded: &io::Result<Forwarded>) -> u16 {
    forwarded.as_ref().unwrap().address.port()
}

#[tokio::test]
async fn a_port_is_forwarded_and_given_back() {
    let fake = Fake::start(Manner::Good).await;
    let forwarded = forward(fake.at, 40_001, 40_000).await.unwrap();
    assert_eq!(forwarded.address, "203.0.113.7:40000".parse().unwrap());
    assert_eq!(forwarded.seconds, 3_600);
    end(&forwarded).await.unwrap();
    assert_eq!(
        fake.asked(),
        [
            "GetExternalIPAddress ",
            "AddPortMapping - 40000 TCP 40001 127.0.0.1 1 warren 3600",
            "DeletePortMapping - 40000 TCP",
        ]
    );
}

#[tokio::test]
async fn where_a_port_is_taken_others_are_tried_and_not_without_end() {
    let (taken, asked) = ask_a(Manner::Taken).await;
    assert_eq!(port(&taken), 41_009);
    assert_eq!(asked.len(), 3);
    let (all, asked) = ask_a(Manner::AllTaken).await;
    assert_eq!(all.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(asked.len(), 2 + usize::from(PORTS_MAX));
    assert_eq!(another(65_000), 10_000);
}

#[tokio::test]
async fn a_gateway_with_conditions_is_met() {
    let (for_good, _) = ask_a(Manner::ForGood).await;
    assert_eq!((port(&for_good), for_good.unwrap().seconds), (40_000, 0));
    let (same, asked) = ask_a(Manner::SamePort).await;
    assert_eq!((port(&same), same.unwrap().seconds), (40_001, 0));
    assert_eq!(asked.len(), 4);
}

#[tokio::test]
async fn a_gateway_that_refuses_is_unconnected_or_confused_is_told_apart_from_none() {
    for (manner, kind, questions) in [
        (Manner::Refuses, ErrorKind::PermissionDenied, 2),
        (Manner::Unconnected, ErrorKind::AddrNotAvailable, 1),
        (Manner::Confused, ErrorKind::InvalidData, 1),
        (Manner::Silent, ErrorKind::TimedOut, 0),
    ] {
        let (result, asked) = ask_a(manner).await;
        assert_eq!(result.unwrap_err().kind(), kind, "{manner:?}");
        assert_eq!(asked.len(), questions, "{manner:?}: {asked:?}");
    }
}

#[tokio::test]
async fn what_a_gateway_says_sends_nobody_to_another_machine() {
    // Whom it would like to have asked: loopback, but another address.
    let victim = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let SocketAddr::V4(at) = victim.local_addr().unwrap() else { panic!("not IPv4") };
    let manners = [Manner::PointsTo(at), Manner::Redirects(at), Manner::DescribesAt(at)];
    for manner in manners {
        let (result, asked) = ask_a(manner).await;
        assert!(result.is_err() && asked.is_empty(), "{manner:?}");
    }
    let came = timeout(Duration::from_millis(100), victim.accept()).await;
    assert!(came.is_err(), "somebody was sent there");
}

#[tokio::test]
async fn texts_without_end_and_lengths_that_lie_are_refused() {
    for manner in [
        Manner::Endless,
        Manner::EndlessHead,
        Manner::Short,
        // Cut off in the middle of its last element.
        Manner::Longer,
    ] {
        let (result, asked) = ask_a(manner).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidData, "{manner:?}");
        assert!(asked.is_empty(), "{manner:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_says_nothing_more_holds_nobody_up() {
    let (result, _) = ask_a(Manner::Slow).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
}
