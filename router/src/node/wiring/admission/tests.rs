//! What one node does with routers that its network's mode keeps out.

use std::{net::SocketAddr, sync::Arc};

use warren_datastore::{MemoryRecords, blocks::MemoryBlocks};
use warren_overlay::{
    crypto::{puzzle::Difficulty, secret::Secret, sign::IdentityKey},
    ring::{
        VIEW_MAX,
        admission::{Network, NetworkName, ProofWork, SUITE_HYBRID},
    },
    rng::Rng,
    time::{Time, Wall},
    wire::{Admission, DescriptorFields, Vouch, week},
};

use super::*;
use crate::node::{Door, Membership, NodeInput, NodeSettings};

const WALL: Wall = Wall::from_minutes(29_730_000);

fn at(seconds: u64) -> Now {
    Now { time: Time::from_micros(seconds * 1_000_000), wall: WALL }
}

fn key(n: u8) -> IdentityKey {
    IdentityKey::from_seed(Secret::take(&mut [n; 32]))
}

fn network(mode: Mode) -> Network {
    let (name, difficulty) = (NetworkName::Named("test".into()), Difficulty::NONE);
    Network { name, mode, difficulty, suite: SUITE_HYBRID, local: true }
}

fn by_invitation() -> Network {
    network(Mode::Invite { founder: key(0).id(), weekly: 2 })
}

fn work(network: &Network, n: u8) -> Admission {
    ProofWork::new(network, key(n).id(), 0).unwrap().step().unwrap()
}

/// Router 0, the founder where there is one.
fn node(network: &Network, friends: Vec<Arc<RouterDescriptor>>) -> Node {
    let settings = NodeSettings {
        network: network.clone(),
        admission: work(network, 0),
        also: None,
        membership: Membership::default(),
        friends,
        identity: key(0),
        link_key: [1; 32],
        door: Door::At(SocketAddr::from(([127, 0, 0, 1], 9_000)).into()),
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

fn router(network: &Network, n: u8, vouches: Vec<Vouch>) -> Arc<RouterDescriptor> {
    let fields = DescriptorFields {
        network: network.id(),
        link_key: [n; 32],
        tunnel_dh: [2; 32],
        tunnel_kem: Arc::new([3; 1184]),
        addresses: vec![SocketAddr::from(([127, n, 0, 1], 9_000)).into()],
        capabilities: 0,
        bandwidth_kbps: 1_000,
        family: None,
        admission: work(network, n),
        vouches,
        published: WALL,
        expiry: WALL.plus(60),
    };
    Arc::new(RouterDescriptor::sign(fields, &key(n)).unwrap())
}

/// A handshake of a router that came in; whether its link may be used, and was closed if not.
fn comes_in(node: &mut Node, peer: &Arc<RouterDescriptor>) -> (bool, bool) {
    let link = node.accept(at(1), "127.9.0.1:5000".parse().unwrap()).unwrap();
    let input =
        NodeInput::LinkUp { link, peer: Arc::clone(peer), initiator: false, peer_minute: WALL };
    node.handle_input(at(1), input);
    let outputs: Vec<_> = std::iter::from_fn(|| node.poll_output()).collect();
    let shut = |output: &NodeOutput| matches!(output, NodeOutput::Link { link: at, command: LinkCommand::Shut } if *at == link);
    let said = |output: &NodeOutput| matches!(output, NodeOutput::Link { link: at, command: LinkCommand::Send(_) } if *at == link);
    let closed = outputs.iter().any(shut);
    assert!(!closed || !outputs.iter().any(said), "a stranger is told nothing");
    (node.links().any(|(up, _)| up == link), closed)
}

#[test]
fn who_was_not_invited_is_shut_out_and_who_was_is_let_in() {
    let network = by_invitation();
    let mut node = node(&network, Vec::new());
    let stranger = router(&network, 1, Vec::new());
    assert_eq!(comes_in(&mut node, &stranger), (false, true));
    let chain = node.invite_for(at(2), key(1).id()).unwrap().chain;
    assert_eq!(comes_in(&mut node, &router(&network, 1, chain.clone())), (true, false));
    let thief = router(&network, 2, chain);
    assert_eq!(comes_in(&mut node, &thief), (false, true), "another's invitation");
    assert_eq!(node.links().count(), 1);
    // Two a week, and no third, whoever signs it.
    assert!(node.invite_for(at(3), key(2).id()).is_ok());
    assert_eq!(node.invite_for(at(3), key(3).id()), Err(NoVouch::WeekOver(2)));
    let third = Vouch::sign(network.id(), &key(0), key(3).id(), week(WALL), 2);
    assert_eq!(comes_in(&mut node, &router(&network, 3, vec![third])), (false, true));
}

#[test]
fn friends_alone_are_let_in_and_dialled() {
    let network = network(Mode::Friends);
    let anna = router(&network, 1, Vec::new());
    let bert = router(&network, 2, Vec::new());
    let mut node = node(&network, vec![Arc::clone(&anna)]);
    node.handle_timeout(at(0));
    let dialled: Vec<_> = std::iter::from_fn(|| node.poll_output())
        .filter_map(|output| match output {
            NodeOutput::Dial { contact, .. } => Some(contact.id),
            _ => None,
        })
        .collect();
    assert_eq!(dialled, [anna.id()]);
    assert_eq!(comes_in(&mut node, &bert), (false, true));
    assert_eq!(comes_in(&mut node, &anna), (true, false));
    // Bert's operator and this one agreed meanwhile; with Anna it is over.
    node.handle_input(at(2), NodeInput::Friends(vec![Arc::clone(&bert)]));
    assert_eq!(comes_in(&mut node, &bert), (true, false));
    assert_eq!(comes_in(&mut node, &anna), (false, true));
    assert_eq!(node.invite().routers.len(), 1, "a friend's line names that friend alone");
}
