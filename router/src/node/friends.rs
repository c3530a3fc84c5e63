//! Friends: the routers with which a network of friends has links.
//!
//! Lives here: who they are, where each was last, and when to dial whom again. Does not live here: that
//! nobody else is let in (`overlay::ring::members`), the dials (`links.rs`).
//!
//! A friend may be away for months and is still one: its address is kept after its descriptor has
//! expired, and tried.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use warren_overlay::{
    id::RouterId,
    time::{Now, Time},
    wire::{Contact, RouterDescriptor},
};

/// More friends than anybody has neighbours.
pub const FRIENDS_MAX: usize = 64;
/// How often it is looked whether the link to a friend stands.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// A friend that could not be reached is dialled again after this, doubled each time in a row.
const AGAIN: Duration = Duration::from_secs(2);
/// Doublings at most: 2 s becomes 2 minutes.
const DOUBLINGS_MAX: u32 = 6;
/// How long a contact that is dialled now is good, in minutes.
const DIAL_MINUTES: u32 = 10;

#[derive(Debug)]
struct Friend {
    peer: Arc<RouterDescriptor>,
    failures: u32,
    next: Time,
}

/// All friends.
#[derive(Debug, Default)]
pub(super) struct Friends {
    list: BTreeMap<RouterId, Friend>,
}

impl Friends {
    /// From now on these are they; at most [`FRIENDS_MAX`].
    pub(super) fn set(&mut self, now: Time, friends: Vec<Arc<RouterDescriptor>>) {
        let mut before = std::mem::take(&mut self.list);
        for peer in friends.into_iter().take(FRIENDS_MAX) {
            let known = before.remove(&peer.id());
            let friend = known.unwrap_or(Friend { peer, failures: 0, next: now });
            self.list.insert(friend.peer.id(), friend);
        }
    }

    /// Who they are.
    pub(super) fn ids(&self) -> BTreeSet<RouterId> {
        self.list.keys().copied().collect()
    }

    /// How a router describes itself; true if it is a friend and this is new.
    pub(super) fn described(&mut self, peer: &Arc<RouterDescriptor>) -> bool {
        let Some(friend) = self.list.get_mut(&peer.id()) else { return false };
        let new = friend.peer.fields().published < peer.fields().published;
        if new {
            friend.peer = Arc::clone(peer);
        }
        new
    }

    /// Those to dial now, of all with whom no link stands.
    pub(super) fn due(&mut self, now: Now, linked: &BTreeSet<RouterId>) -> Vec<Contact> {
        let mut due = Vec::new();
        for (id, friend) in &mut self.list {
            if friend.next > now.time {
                continue;
            }
            if linked.contains(id) {
                (friend.failures, friend.next) = (0, now.time + LOOK_EVERY);
                continue;
            }
            friend.next = now.time + AGAIN * (1 << friend.failures);
            friend.failures = (friend.failures + 1).min(DOUBLINGS_MAX);
            // Who cannot be dialled dials.
            if let Some(contact) = friend.peer.contact() {
                due.push(Contact { expiry: now.wall.plus(DIAL_MINUTES), ..contact });
            }
        }
        due
    }

    /// All may be tried again: they were out of reach through no fault of theirs.
    pub(super) fn forgive(&mut self, now: Time) {
        for friend in self.list.values_mut() {
            (friend.failures, friend.next) = (0, now);
        }
    }

    /// When to ask who is due.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.list.values().map(|friend| friend.next).min()
    }
}

#[cfg(test)]
mod tests {
    use warren_overlay::{
        crypto::{secret::Secret, sign::IdentityKey},
        id::NetworkId,
        time::Wall,
        wire::{Admission, DescriptorFields},
    };

    use super::*;

    fn at(seconds: u64) -> Now {
        let wall = Wall::from_minutes(1_000 + u32::try_from(seconds / 60).unwrap());
        Now { time: Time::from_micros(seconds * 1_000_000), wall }
    }

    fn router(n: u8, published: u32, port: u16) -> Arc<RouterDescriptor> {
        let key = IdentityKey::from_seed(Secret::take(&mut [n; 32]));
        let fields = DescriptorFields {
            network: NetworkId([9; 32]),
            link_key: [n; 32],
            tunnel_dh: [2; 32],
            tunnel_kem: Arc::new([3; 1184]),
            addresses: vec![std::net::SocketAddr::from(([127, n, 0, 1], port)).into()],
            capabilities: 0,
            bandwidth_kbps: 1_000,
            family: None,
            admission: Admission { nonce: 0, output: [0; 32] },
            vouches: Vec::new(),
            published: Wall::from_minutes(published),
            expiry: Wall::from_minutes(published + 60),
        };
        Arc::new(RouterDescriptor::sign(fields, &key).unwrap())
    }

    #[test]
    fn a_friend_is_dialled_until_it_is_there_ever_more_rarely_and_after_its_descriptor_expired() {
        let mut friends = Friends::default();
        friends.set(at(0).time, vec![router(1, 1_000, 9_000)]);
        let nobody = BTreeSet::new();
        let mut dials = Vec::new();
        for second in 0..7_200 {
            for contact in friends.due(at(second), &nobody) {
                assert!(contact.expiry >= at(second).wall);
                dials.push(second);
            }
        }
        assert_eq!(dials[..7], [0, 2, 6, 14, 30, 62, 126]);
        assert!(dials.len() > 7_000 / 130, "for good");
        let linked = friends.ids();
        assert_eq!(friends.due(at(7_400), &linked), []);
        // Gone again: dialled at the next look, without the pauses of before.
        assert_eq!(friends.due(at(7_415), &nobody).len(), 1);
        assert_eq!(friends.due(at(7_417), &nobody).len(), 1);
    }

    #[test]
    fn a_friend_is_dialled_where_it_was_last() {
        let mut friends = Friends::default();
        friends.set(at(0).time, vec![router(1, 1_000, 9_000)]);
        assert!(friends.described(&router(1, 1_001, 9_001)));
        assert!(!friends.described(&router(1, 1_000, 9_002)), "older");
        assert!(!friends.described(&router(1, 1_001, 9_001)), "said again: nothing to write down");
        assert!(!friends.described(&router(2, 1_001, 9_003)), "no friend");
        // Told again who they are: what is known of them stays.
        friends.set(at(0).time, vec![router(1, 1_000, 9_000), router(3, 1_000, 9_000)]);
        let due = friends.due(at(0), &BTreeSet::new());
        assert_eq!(due[0].address.socket().port().max(due[1].address.socket().port()), 9_001);
        friends.set(at(0).time, Vec::new());
        assert_eq!(friends.poll_timeout(), None);
    }
}
