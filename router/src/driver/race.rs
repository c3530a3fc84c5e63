//! Both families at once: which of a router's addresses a link is made to.
//!
//! Lives here: the order in which addresses are tried and how far apart, and which family leads nowhere
//! from this machine (after RFC 8305, "happy eyeballs"). Does not live here: one connection (`conn.rs`),
//! which addresses may be dialled at all (`node/links.rs`).
//!
//! ```text
//!  v6 ──250 ms──> v4 ──250 ms──> next v6 ...      a failure starts the next one at once
//!  '── the first that stands wins, all others are dropped
//! ```

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// One gets so much of a start (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// A family in which nothing leaves this machine is left aside for so long.
const ASIDE: Duration = Duration::from_mins(10);

/// Which families of addresses lead out of this machine.
#[derive(Debug, Default)]
pub(super) struct Families {
    /// Until when IPv4 and IPv6 are left aside.
    aside: [Option<Instant>; 2],
}

impl Families {
    /// `addresses` in the order to try them: IPv6 and IPv4 in turn, each family as it was given. A family
    /// left aside is tried only if there is nothing else.
    pub(super) fn order(&self, now: Instant, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let of = |v6: bool| addresses.iter().copied().filter(move |it| it.is_ipv6() == v6);
        let is_aside = |v6: bool| self.slot(v6).is_some_and(|until| now < until);
        match (of(true).next().is_some(), of(false).next().is_some()) {
            (true, true) if is_aside(true) && !is_aside(false) => of(false).collect(),
            (true, true) if is_aside(false) && !is_aside(true) => of(true).collect(),
            _ => {
                let (mut v6, mut v4) = (of(true), of(false));
                let mut order = Vec::with_capacity(addresses.len());
                while order.len() < addresses.len() {
                    order.extend(v6.next().into_iter().chain(v4.next()));
                }
                order
            }
        }
    }

    /// What came of trying an address.
    pub(super) fn note(
        &mut self,
        now: Instant,
        address: SocketAddr,
        failed: Option<io::ErrorKind>,
    ) {
        let until = match failed {
            None => None,
            Some(io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable) => {
                Some(now + ASIDE)
            }
            // Says something of that address, not of the family.
            Some(_) => return,
        };
        let [v4, v6] = &mut self.aside;
        *(if address.is_ipv6() { v6 } else { v4 }) = until;
    }

    /// The network is another one.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    const fn slot(&self, v6: bool) -> Option<Instant> {
        let [v4, six] = self.aside;
        if v6 { six } else { v4 }
    }
}

/// The families that all dials of a router share.
pub(super) fn locked(families: &Mutex<Families>) -> MutexGuard<'_, Families> {
    families.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connection that stands first, and where; `note` hears what came of each address tried.
///
/// # Errors
/// When none of `addresses` could be reached: the last one's reason.
pub(super) async fn race<T, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
    mut note: impl FnMut(SocketAddr, Option<io::ErrorKind>),
) -> io::Result<(SocketAddr, T)>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut rest = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let more = rest.next();
        let started = more.is_some();
        if let Some(address) = more {
            let attempt = connect(address);
            attempts.spawn(async move { (address, attempt.await) });
        }
        let ended = if started {
            tokio::select! {
                ended = attempts.join_next() => ended,
                () = sleep(STAGGER) => continue,
            }
        } else {
            attempts.join_next().await
        };
        match ended {
            Some(Ok((address, Ok(made)))) => {
                note(address, None);
                return Ok((address, made));
            }
            Some(Ok((address, Err(error)))) => {
                note(address, Some(error.kind()));
                last = error;
            }
            Some(Err(_)) => {}
            None => return Err(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn both_families_are_tried_in_turn_and_one_that_leads_nowhere_is_left_aside_for_a_while() {
        let all = addresses(&["9.9.9.9:1", "9.9.9.8:1", "[2a00::1]:1", "[2a00::2]:1"]);
        let [a, b, c, d] = all[..] else { panic!() };
        let now = Instant::now();
        let mut families = Families::default();
        assert_eq!(families.order(now, &all), [c, a, d, b]);
        assert_eq!(families.order(now, &[a, b]), [a, b]);
        // That one router does not answer says nothing of IPv6.
        families.note(now, c, Some(io::ErrorKind::ConnectionRefused));
        assert_eq!(families.order(now, &all), [c, a, d, b]);
        families.note(now, c, Some(io::ErrorKind::NetworkUnreachable));
        assert_eq!(families.order(now, &all), [a, b]);
        assert_eq!(families.order(now, &[c]), [c], "unless there is nothing else");
        assert_eq!(families.order(now + ASIDE, &all), [c, a, d, b]);
        families.note(now, a, Some(io::ErrorKind::NetworkUnreachable));
        assert_eq!(families.order(now, &all), [c, a, d, b], "neither does");
        families.note(now, d, None);
        assert_eq!(families.order(now, &all), [c, d]);
        families.forget();
        assert_eq!(families.order(now, &all), [c, a, d, b], "in another network");
    }

    #[tokio::test]
    async fn whichever_family_answers_on_this_machine_is_taken() {
        let v4 = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = v4.local_addr().unwrap();
        // The same port of the other family, where nobody listens.
        let six: SocketAddr = format!("[::1]:{}", at.port()).parse().unwrap();
        let mut noted = Vec::new();
        let note = |address: SocketAddr, failed: Option<_>| noted.push((address, failed.is_some()));
        let (won, _) = race(vec![six, at], TcpStream::connect, note).await.unwrap();
        assert_eq!(won, at);
        assert_eq!(noted, [(six, true), (at, false)]);
        // And with both open the first one is, though the other would do.
        let Ok(v6) = TcpListener::bind("[::1]:0").await else { return };
        let six = v6.local_addr().unwrap();
        let (won, _) = race(vec![six, at], TcpStream::connect, |_, _| {}).await.unwrap();
        assert_eq!(won, six);
    }

    #[tokio::test]
    async fn one_that_says_nothing_holds_nobody_up_and_none_at_all_is_an_error() {
        let all = addresses(&["[2a00::1]:1", "9.9.9.9:1"]);
        let tried = Arc::new(Mutex::new(Vec::new()));
        let connect = |address: SocketAddr| {
            tried.lock().unwrap().push(address);
            async move { if address.is_ipv6() { std::future::pending().await } else { Ok(7) } }
        };
        let (won, made) = race(all.clone(), connect, |_, _| {}).await.unwrap();
        assert_eq!((won, made), (all[1], 7));
        assert_eq!(*tried.lock().unwrap(), all);
        let fails = |_| async { Err::<(), _>(io::ErrorKind::ConnectionRefused.into()) };
        let error = race(all, fails, |_, _| {}).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(race(Vec::new(), fails, |_, _| {}).await.is_err());
    }
}
