//! Who may share a conversation: isolation keys, and how many contexts may begin.
//!
//! Lives here: the key that follows from (listener, credentials, destination), always all three
//! (PROTOCOL P13), and the limit on new contexts. Does not live here: the contexts themselves (the
//! router's `End`s). Credentials are never checked and never kept: only a keyed hash of them is.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use warren_overlay::{
    crypto::{kdf, secret::Secret},
    rng::Rng,
    service::Name,
    time::Time,
};

/// What keys this process's isolation hashes; new with each start, never stored.
#[derive(Debug)]
pub struct IsolationSecret(Secret<32>);

impl IsolationSecret {
    /// A fresh one.
    pub fn new(rng: &mut Rng) -> Self {
        Self(Secret::random(rng))
    }
}

/// One listening socket of the front door.
///
/// Two listeners never share a context, which is how an operator keeps two programs apart that can
/// send no credentials.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Which one, counted by the driver.
    pub number: u16,
    /// The process's secret.
    pub secret: Arc<IsolationSecret>,
}

/// What an application sent to be kept apart; any value is accepted.
#[derive(Clone, Copy)]
pub(crate) enum Credentials<'a> {
    /// Nothing.
    None,
    /// SOCKS5 (RFC 1929): each 0 to 255 bytes.
    Password { user: &'a [u8], password: &'a [u8] },
    /// SOCKS4: the user id.
    UserId(&'a [u8]),
    /// HTTP: the value of `Proxy-Authorization`.
    Header(&'a [u8]),
}

/// Who asks: a listener and the credentials sent to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope([u8; 32]);

/// One isolation context: who asks, and for which service. Equal keys may share a session.
///
/// The port is not part of it: two ports of one service are one party.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IsolationKey([u8; 32]);

impl Listener {
    /// The scope of a request that carried `credentials`.
    pub(crate) fn scope(&self, credentials: Credentials<'_>) -> Scope {
        let (kind, first, second): (u8, &[u8], &[u8]) = match credentials {
            Credentials::None => (0, &[], &[]),
            Credentials::Password { user, password } => (1, user, password),
            Credentials::UserId(id) => (2, id, &[]),
            Credentials::Header(value) => (3, value, &[]),
        };
        Scope(kdf::derive(
            "warren front door scope 1",
            &[self.secret.0.expose_secret(), &self.number.to_be_bytes(), &[kind], first, second],
        ))
    }

    /// The context of a program that sends no credentials.
    pub fn context(&self, name: Name) -> IsolationKey {
        self.key(self.scope(Credentials::None), name)
    }

    /// The context for `name` within `scope`.
    pub(crate) fn key(&self, scope: Scope, name: Name) -> IsolationKey {
        IsolationKey(kdf::derive(
            "warren front door isolation 1",
            &[self.secret.0.expose_secret(), &scope.0, name.to_string().as_bytes()],
        ))
    }
}

/// Mute, although nothing follows from it without the secret.
impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl IsolationKey {
    /// Its bytes, to key what is remembered of the context.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Mute, although nothing follows from it without the secret.
impl fmt::Debug for IsolationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// How fast one listener may begin new contexts: at most 16 in any 60 s.
///
/// Each context costs tunnels of its own. Without a limit a page that names a thousand services, or
/// a program that sends random passwords, makes this router build thousands of tunnels, which is
/// both a flood and a mark on the network (PROTOCOL P13). Ask only for a key that has no context.
///
/// A context that failed keeps its place: it has cost what any costs. But whoever tries again, as error
/// pages do every 10 s, needs no second one: a key that has a place begins again without another, once
/// in [`Self::AGAIN`]. So a dead link that somebody waits for does not use up the places of others, and
/// 16 keys make 96 contexts a minute at most.
#[derive(Debug, Default)]
pub struct ContextLimiter {
    /// When a place was taken, by which key, and when that key began last.
    begun: VecDeque<(Time, IsolationKey, Time)>,
}

impl ContextLimiter {
    /// New contexts within [`Self::WINDOW`]: PROTOCOL P13's number.
    pub const CONTEXTS_MAX: usize = 16;
    /// The span that is looked at.
    pub const WINDOW: Duration = Duration::from_mins(1);
    /// How soon a key begins again by the place that it has.
    pub const AGAIN: Duration = Duration::from_secs(10);

    /// Takes one place for `key`, if it has none that it may use again and there is one.
    ///
    /// # Errors
    /// When all are taken: the time at which the next becomes free.
    pub fn admit(&mut self, now: Time, key: IsolationKey) -> Result<(), Time> {
        while self.begun.front().is_some_and(|(begun, ..)| *begun + Self::WINDOW <= now) {
            self.begun.pop_front();
        }
        let mut places = self.begun.iter_mut();
        if let Some((.., last)) =
            places.find(|(_, its, last)| *its == key && *last + Self::AGAIN <= now)
        {
            *last = now;
            return Ok(());
        }
        match self.begun.front() {
            Some((oldest, ..)) if self.begun.len() >= Self::CONTEXTS_MAX => {
                Err(*oldest + Self::WINDOW)
            }
            _ => {
                self.begun.push_back((now, key, now));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::testing::{listener, name};

    #[test]
    fn any_difference_in_listener_credentials_or_destination_is_another_context() {
        let listeners = [listener(0), listener(1)];
        let credentials = [
            Credentials::None,
            Credentials::Password { user: b"ab", password: b"c" },
            Credentials::Password { user: b"a", password: b"bc" },
            Credentials::Password { user: b"", password: b"" },
            Credentials::Password { user: b"abc", password: b"" },
            Credentials::UserId(b"abc"),
            Credentials::UserId(b""),
            Credentials::Header(b"abc"),
            Credentials::Header(b""),
        ];
        let mut keys = Vec::new();
        for listener in &listeners {
            for credential in credentials {
                for service in [name(1), name(2)] {
                    keys.push(listener.key(listener.scope(credential), service));
                }
            }
        }
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn the_same_three_give_the_same_context() {
        let (a, b) = (listener(3), listener(3));
        let credentials = Credentials::Password { user: b"u", password: b"p" };
        assert_eq!(a.key(a.scope(credentials), name(1)), b.key(b.scope(credentials), name(1)));
    }

    #[test]
    fn the_keys_of_two_processes_have_nothing_in_common() {
        let other = Listener {
            number: 0,
            secret: Arc::new(IsolationSecret::new(&mut Rng::from_seed([9; 32]))),
        };
        assert_ne!(other.scope(Credentials::None), listener(0).scope(Credentials::None));
    }

    #[test]
    fn debug_gives_nothing_away() {
        let listener = listener(0);
        let scope = listener.scope(Credentials::None);
        assert_eq!(format!("{scope:?} {:?}", listener.key(scope, name(1))), "_ _");
    }

    fn key(n: usize) -> IsolationKey {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        IsolationKey(bytes)
    }

    /// A browser that tries a dead name every ten seconds leaves fifteen places to others.
    #[test]
    fn whoever_tries_again_later_needs_no_second_place_and_whoever_does_at_once_does() {
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let mut limiter = ContextLimiter::default();
        for second in (0..60).step_by(10) {
            assert_eq!(limiter.admit(at(second), key(0)), Ok(()));
        }
        for n in 1..16 {
            assert_eq!(limiter.admit(at(55), key(n)), Ok(()), "{n}");
        }
        assert_eq!(limiter.admit(at(55), key(16)), Err(at(60)));
        assert_eq!(limiter.admit(at(56), key(0)), Err(at(60)), "too soon after 50");
        // Its place is a minute old then: it takes another.
        assert_eq!(limiter.admit(at(60), key(0)), Ok(()));
        assert_eq!(limiter.admit(at(60), key(16)), Err(at(115)));
    }

    proptest! {
        #[test]
        fn no_minute_sees_more_than_sixteen_contexts(
            steps in collection::vec(0_u64..10_000_000, 1..200)
        ) {
            let mut limiter = ContextLimiter::default();
            let mut now = Time::ZERO;
            let mut begun: Vec<Time> = Vec::new();
            for (n, step) in steps.into_iter().enumerate() {
                now = now + Duration::from_micros(step);
                let recent = begun.iter().filter(|&&at| at + ContextLimiter::WINDOW > now).count();
                match limiter.admit(now, key(n)) {
                    Ok(()) => {
                        prop_assert!(recent < ContextLimiter::CONTEXTS_MAX);
                        begun.push(now);
                    }
                    Err(free) => {
                        prop_assert_eq!(recent, ContextLimiter::CONTEXTS_MAX);
                        prop_assert!(free > now);
                    }
                }
            }
        }
    }
}
