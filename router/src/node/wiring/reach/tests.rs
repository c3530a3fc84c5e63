//! What one node does for peers that ask to be dialled back.

use std::{net::SocketAddr, sync::Arc};

use warren_datastore::{MemoryRecords, blocks::MemoryBlocks};
use warren_overlay::{
    crypto::{puzzle::Difficulty, secret::Secret, sign::IdentityKey},
    id::RouterId,
    plane::LinkEvent,
    ring::{
        VIEW_MAX,
        admission::{Mode, Network, NetworkName, ProofWork, SUITE_HYBRID},
    },
    rng::Rng,
    time::{Time, Wall},
    wire::{Admission, DescriptorFields},
};

use super::*;
use crate::node::{Door, Membership, NodeInput, NodeOutput, NodeSettings};

const WALL: Wall = Wall::from_minutes(1_000);

fn at(seconds: u64) -> Now {
    Now { time: Time::from_micros(seconds * 1_000_000), wall: WALL }
}

fn network() -> Network {
    let name = NetworkName::Named("test".into());
    let (mode, difficulty) = (Mode::Proof, Difficulty::NONE);
    Network { name, mode, difficulty, suite: SUITE_HYBRID, local: false }
}

fn work(key: &IdentityKey) -> Admission {
    ProofWork::new(&network(), key.id(), 0).unwrap().step().unwrap()
}

fn key(n: u8) -> IdentityKey {
    IdentityKey::from_seed(Secret::take(&mut [n; 32]))
}

fn node() -> Node {
    let settings = NodeSettings {
        network: network(),
        admission: work(&key(0)),
        also: None,
        membership: Membership::default(),
        friends: Vec::new(),
        identity: key(0),
        link_key: [1; 32],
        door: Door::At(SocketAddr::from(([9, 9, 9, 9], 9_000)).into()),
        hops: 3,
        degree: 20,
        known_max: VIEW_MAX,
        bandwidth_kbps: 1_000,
        memory_bytes: 8 << 20,
        builds_per_second: 100,
        transit: true,
        links_max: 64,
        bans: Vec::new(),
        peers: Vec::new(),
        guards: Vec::new(),
        store: Box::new(MemoryRecords::default()),
        blocks: Box::new(MemoryBlocks::default()),
    };
    Node::new(at(0), settings, Rng::from_seed([1; 32]))
}

/// A guest, as those are that ask.
fn guest(n: u8) -> Arc<RouterDescriptor> {
    let fields = DescriptorFields {
        network: network().id(),
        link_key: [n; 32],
        tunnel_dh: [2; 32],
        tunnel_kem: Arc::new([3; 1184]),
        addresses: Vec::new(),
        capabilities: 0,
        bandwidth_kbps: 1_000,
        family: None,
        admission: work(&key(n)),
        vouches: Vec::new(),
        published: WALL,
        expiry: WALL.plus(60),
    };
    Arc::new(RouterDescriptor::sign(fields, &key(n)).unwrap())
}

/// A link from guest `n`, which comes from `from`.
fn linked(node: &mut Node, n: u8, from: &str) -> LinkNo {
    let link = node.accept(at(0), from.parse().unwrap()).unwrap();
    let peer = guest(n);
    let input = NodeInput::LinkUp { link, peer, initiator: false, peer_minute: WALL };
    node.handle_input(at(0), input);
    link
}

/// A dial: on which link, to whom, where.
type Dialled = (LinkNo, RouterId, SocketAddr);
/// An answer to a question: on which link, what came of it, where it dialled.
type Answered = (LinkNo, DialBackOutcome, SocketAddr);

/// What it is asked, and what follows: dials and answers.
fn ask(node: &mut Node, now: Now, link: LinkNo, port: u16) -> (Vec<Dialled>, Vec<Answered>) {
    let event = LinkEvent::Message(Box::new(LinkMessage::DialBack { port }));
    node.handle_input(now, NodeInput::Link { link, event });
    follows(node)
}

fn follows(node: &mut Node) -> (Vec<Dialled>, Vec<Answered>) {
    let (mut dials, mut answers) = (Vec::new(), Vec::new());
    while let Some(output) = node.poll_output() {
        match output {
            NodeOutput::Dial { link, contact, .. } => {
                dials.push((link, contact.id, contact.address.socket()));
            }
            NodeOutput::Link {
                link,
                command: LinkCommand::Send(LinkMessage::DialBackReply { seen, outcome }),
            } => answers.push((link, outcome, seen.socket())),
            _ => {}
        }
    }
    (dials, answers)
}

#[test]
fn a_router_that_is_asked_dials_where_the_link_comes_from_and_nowhere_else() {
    let mut node = node();
    let link = linked(&mut node, 1, "8.8.1.1:51234");
    let there = "8.8.1.1:9000".parse().unwrap();
    let (dials, answers) = ask(&mut node, at(1), link, 9_000);
    assert_eq!(answers, []);
    let [(dial, id, to)] = dials[..] else { panic!("{dials:?}") };
    assert_eq!((id, to), (key(1).id(), there), "the asker itself, at its own address");
    node.handle_input(at(2), NodeInput::LinkDown { link: dial });
    assert_eq!(follows(&mut node).1, [(link, DialBackOutcome::Failed, there)]);
    // Not again at once; a low port never.
    let untried = (vec![], vec![(link, DialBackOutcome::NotTried, there)]);
    assert_eq!(ask(&mut node, at(40), link, 9_000), untried);
    assert_eq!(ask(&mut node, at(70), link, 9_000).0.len(), 1);
    follows(&mut node);
    let (dials, answers) = ask(&mut node, at(200), link, 22);
    assert_eq!((dials.len(), answers[0].1), (0, DialBackOutcome::NotTried));
    // Nor is somebody's own house dialled, or on a link that this router opened itself.
    let inside = linked(&mut node, 2, "192.168.0.7:51234");
    follows(&mut node);
    let (dials, answers) = ask(&mut node, at(201), inside, 9_000);
    assert_eq!((dials.len(), answers[0].1), (0, DialBackOutcome::NotTried));
    assert_eq!(ask(&mut node, at(202), LinkNo(999), 9_000), (vec![], vec![]));
}

#[test]
fn who_is_met_is_told_so_and_the_connection_serves_nothing_else() {
    let mut node = node();
    let link = linked(&mut node, 1, "8.8.1.1:51234");
    let (dials, _) = ask(&mut node, at(1), link, 9_000);
    let dial = dials[0].0;
    let before = node.status(at(1)).links;
    let peer = guest(1);
    let input = NodeInput::LinkUp { link: dial, peer, initiator: true, peer_minute: WALL };
    node.handle_input(at(2), input);
    let outputs: Vec<_> = std::iter::from_fn(|| node.poll_output()).collect();
    let commands = |of: LinkNo, is: fn(&LinkCommand) -> bool| {
        let said = outputs.iter().filter(|output| {
            matches!(output, NodeOutput::Link { link, command } if *link == of && is(command))
        });
        said.count()
    };
    assert_eq!(commands(dial, |it| matches!(it, LinkCommand::Goodbye)), 1);
    let reached = |it: &LinkCommand| {
        let LinkCommand::Send(LinkMessage::DialBackReply { outcome, .. }) = it else {
            return false;
        };
        *outcome == DialBackOutcome::Reached
    };
    assert_eq!(commands(link, reached), 1);
    assert_eq!(node.status(at(2)).links, before);
    node.handle_input(at(3), NodeInput::LinkDown { link: dial });
    assert_eq!(follows(&mut node).1, [], "told once");
    assert_eq!(node.links().count(), 1, "the asker's own link stands");
}
