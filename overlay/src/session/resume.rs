//! What makes a path without public-key work: the resume secret, path numbers and one-time tags.
//!
//! Lives here: the derivations (docs/spec/session.md, section 2) and who may use a number when.
//! Does not live here: the records under the keys (`record.rs`), when a path is made.
//!
//! No number is used twice: the client's come from [`Numbers`], which only counts up; the service
//! takes one only with its tag, which [`Tags`] burns. Each number is consumed to make its keys.

use std::collections::BTreeMap;

use crate::crypto::{kdf, noise::SessionKeys, secret::Secret};

/// How many tags ahead a service knows, and how many attempts a client has.
pub(super) const TAGS_AHEAD: u32 = 16;
/// A one-time tag or a continuation mark.
pub(super) type Tag = [u8; 16];

const RESUME: &str = "warren session resume 1";
const PATH: &str = "warren session path 1";
const TAG: &str = "warren session tag 1";
const CONTINUE: &str = "warren session continue 1";

/// Which side's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Opened the session.
    Client,
    /// Was asked.
    Service,
}

/// A path number that was not used yet. Not clonable: making keys consumes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PathNumber(u32);

impl PathNumber {
    /// The number itself.
    pub(super) const fn value(&self) -> u32 {
        self.0
    }
}

/// Both keys of one path, from one side.
#[derive(Debug)]
pub(super) struct PathKeys {
    pub(super) number: u32,
    pub(super) send: Secret<32>,
    pub(super) receive: Secret<32>,
}

/// From which all paths of a session get their keys, until the next full handshake.
#[derive(Debug)]
pub(super) struct ResumeSecret(Secret<32>);

impl ResumeSecret {
    /// What the handshake gave, and the handshake's own path, number 0, from this side.
    ///
    /// `previous` where it continued a session: who only saw the mark cannot go on.
    #[expect(clippy::needless_pass_by_value, reason = "consumed: one handshake, one path 0")]
    pub(super) fn new(keys: SessionKeys, role: Role, previous: Option<&Self>) -> (Self, PathKeys) {
        let (from_client, from_service) = match role {
            Role::Client => (&keys.send, &keys.receive),
            Role::Service => (&keys.receive, &keys.send),
        };
        let previous: &[u8] = previous.map_or(&[], |secret| secret.0.expose_secret());
        let secret = Self(kdf::derive_secret(
            RESUME,
            &[from_client.expose_secret(), from_service.expose_secret(), &keys.hash, previous],
        ));
        let path = secret.path(PathNumber(0), role);
        (secret, path)
    }

    /// The keys of a path.
    #[expect(clippy::needless_pass_by_value, reason = "consumed: one number, one pair of keys")]
    pub(super) fn path(&self, number: PathNumber, role: Role) -> PathKeys {
        let key = |direction: u8| {
            let number = number.0.to_be_bytes();
            kdf::derive_secret(PATH, &[self.0.expose_secret(), &number, &[direction]])
        };
        let (send, receive) = match role {
            Role::Client => (key(0), key(1)),
            Role::Service => (key(1), key(0)),
        };
        PathKeys { number: number.0, send, receive }
    }

    /// What shows on path `number`, once.
    pub(super) fn tag(&self, number: u32) -> Tag {
        kdf::derive(TAG, &[self.0.expose_secret(), &number.to_be_bytes()])
    }

    /// What a full handshake says, sealed, to go on with this session.
    pub(super) fn mark(&self) -> Tag {
        kdf::derive(CONTINUE, &[self.0.expose_secret()])
    }
}

/// The client's path numbers: up only, and not further ahead than the service looks.
#[derive(Debug)]
pub(super) struct Numbers {
    next: u32,
    authenticated: u32,
}

impl Numbers {
    /// After a full handshake, which was path 0.
    pub(super) const fn new() -> Self {
        Self { next: 1, authenticated: 0 }
    }

    /// A number for one attempt; `None` when only a full handshake helps.
    pub(super) const fn take(&mut self) -> Option<PathNumber> {
        if !self.left() {
            return None;
        }
        let number = PathNumber(self.next);
        self.next += 1;
        Some(number)
    }

    /// Whether [`Numbers::take`] has one.
    pub(super) const fn left(&self) -> bool {
        self.next <= self.authenticated.saturating_add(TAGS_AHEAD)
    }

    /// The path of that number authenticated.
    pub(super) fn authenticated(&mut self, number: u32) {
        self.authenticated = self.authenticated.max(number);
    }
}

/// Which tags a service would recognise, over all its sessions.
#[derive(Debug, Default)]
pub(super) struct Tags {
    tags: BTreeMap<Tag, (u32, u32)>,
    marks: BTreeMap<Tag, u32>,
}

impl Tags {
    /// A session appears, or starts over with a new secret after `forget`.
    pub(super) fn add(&mut self, session: u32, secret: &ResumeSecret) {
        for number in 1..=TAGS_AHEAD {
            self.tags.insert(secret.tag(number), (session, number));
        }
        self.marks.insert(secret.mark(), session);
    }

    /// A path authenticated: older tags go, and as many further ones come.
    pub(super) fn advance(&mut self, session: u32, secret: &ResumeSecret, from: u32, to: u32) {
        for number in from.saturating_add(1)..=to {
            self.tags.remove(&secret.tag(number));
        }
        for number in from.max(to.saturating_sub(TAGS_AHEAD)).saturating_add(1)..=to {
            if let Some(ahead) = number.checked_add(TAGS_AHEAD) {
                self.tags.insert(secret.tag(ahead), (session, ahead));
            }
        }
    }

    /// A session is gone, or has a new secret. `highest` is its highest authenticated path.
    pub(super) fn forget(&mut self, secret: &ResumeSecret, highest: u32) {
        for number in 1..=TAGS_AHEAD {
            self.tags.remove(&secret.tag(highest.saturating_add(number)));
        }
        self.marks.remove(&secret.mark());
    }

    /// Whose tag this is. It is burnt: the same bytes will mean nothing.
    pub(super) fn burn(&mut self, tag: &Tag) -> Option<(u32, PathNumber)> {
        self.tags.remove(tag).map(|(session, number)| (session, PathNumber(number)))
    }

    /// A new session's nonce counts as a mark until its client has confirmed it.
    pub(super) fn add_nonce(&mut self, session: u32, nonce: Tag) {
        self.marks.insert(nonce, session);
    }

    /// The nonce means nothing any more.
    pub(super) fn forget_nonce(&mut self, nonce: &Tag) {
        self.marks.remove(nonce);
    }

    /// Whose continuation mark this is.
    pub(super) fn marked(&self, mark: &Tag) -> Option<u32> {
        self.marks.get(mark).copied()
    }

    /// How many tags are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.tags.len() + self.marks.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(n: u8) -> SessionKeys {
        SessionKeys {
            send: Secret::take(&mut [n; 32]),
            receive: Secret::take(&mut [n ^ 255; 32]),
            hash: [n; 32],
        }
    }

    fn swapped(n: u8) -> SessionKeys {
        let SessionKeys { send, receive, hash } = keys(n);
        SessionKeys { send: receive, receive: send, hash }
    }

    #[test]
    fn both_sides_derive_the_same_paths() {
        let (client, zero_client) = ResumeSecret::new(keys(1), Role::Client, None);
        let (service, zero_service) = ResumeSecret::new(swapped(1), Role::Service, None);
        assert_eq!(zero_client.send.expose_secret(), zero_service.receive.expose_secret());
        let (a, b) =
            (client.path(PathNumber(3), Role::Client), service.path(PathNumber(3), Role::Service));
        assert_eq!(a.send.expose_secret(), b.receive.expose_secret());
        assert_eq!(a.receive.expose_secret(), b.send.expose_secret());
        assert_ne!(a.send.expose_secret(), a.receive.expose_secret());
        assert_eq!(client.tag(3), service.tag(3));
        assert_ne!(client.tag(3), client.tag(4));
        assert_eq!(client.mark(), service.mark());
    }

    #[test]
    fn a_continued_session_needs_the_previous_secret() {
        let (old, _) = ResumeSecret::new(keys(1), Role::Client, None);
        let (with, _) = ResumeSecret::new(keys(2), Role::Client, Some(&old));
        let (without, _) = ResumeSecret::new(keys(2), Role::Client, None);
        assert_ne!(with.tag(1), without.tag(1));
    }

    #[test]
    fn a_tag_is_burnt_by_its_first_use() {
        let (secret, _) = ResumeSecret::new(keys(1), Role::Service, None);
        let mut tags = Tags::default();
        tags.add(7, &secret);
        assert_eq!(tags.burn(&secret.tag(2)), Some((7, PathNumber(2))));
        assert_eq!(tags.burn(&secret.tag(2)), None);
    }

    proptest! {
        /// Whatever is lost on the way: each attempt of the client is known to the service until it
        /// is used, and the index neither grows nor leaks.
        #[test]
        fn client_and_service_never_lose_each_other(fates in prop::collection::vec(0..3u8, 1..60)) {
            let (secret, _) = ResumeSecret::new(keys(1), Role::Service, None);
            let (mut tags, mut numbers, mut highest) = (Tags::default(), Numbers::new(), 0);
            tags.add(7, &secret);
            let mut used = std::collections::BTreeSet::new();
            for fate in fates {
                let Some(number) = numbers.take() else { break };
                let value = number.value();
                prop_assert!(used.insert(value));
                if fate == 0 {
                    continue; // never arrived
                }
                let found = tags.burn(&secret.tag(value));
                prop_assert_eq!(found, Some((7, PathNumber(value))));
                if fate == 2 {
                    tags.advance(7, &secret, highest, value);
                    highest = value;
                    numbers.authenticated(value);
                }
                prop_assert!(tags.len() <= TAGS_AHEAD as usize + 1);
            }
            tags.forget(&secret, highest);
            prop_assert_eq!(tags.len(), 0);
        }
    }
}
