//! `link.lan_discovery`: routers of one network find one another on a local network, by multicast DNS.
//!
//! Lives here: spreading this router's notice, hearing those of others, and how much of that is listened
//! to. Does not live here: what a notice says (`crate::lan`), dialling (`node`).
//!
//! ```text
//! announce, ask ──notice of this network──> found: dialled now, and each minute while there are few
//!       '──more answers than there can be routers──> deaf for 5 minutes, then anew
//! ```
//!
//! Off unless the operator says so: everybody on each network that this machine is on hears that a router
//! is here.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use data_encoding::BASE32_NOPAD;
use if_addrs::{IfAddr, Interface};
use mdns_sd::{Metrics, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo, TxtProperty};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use warren_overlay::{
    id::{NetworkId, RouterId},
    wire::{Address, Contact},
};

use super::{Clock, Event};
use crate::{
    entropy,
    lan::{NAME_LEN, Notice},
};

/// What these services are called.
const KIND: &str = "_warren._tcp.local.";
/// The one thing that is said beside where it is.
const NOTICE: &str = "n";
/// Routers that are remembered.
const FOUND_MAX: usize = 64;
/// Names, addresses and texts of others that may be heard of at the same time. The library remembers all.
const HEARD_MAX: i64 = 2_048;
/// How often it is looked how many those are.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Those that were found are dialled again after so many looks.
const AGAIN_AFTER: u32 = 30;
/// Where more was heard, or nothing could be.
const DEAF: Duration = Duration::from_mins(5);
/// How long one that is dialled now may be dialled, in minutes.
const DIAL_MINUTES: u32 = 10;
/// How long taking the notice back may hold up the stop.
const END_LIMIT: Duration = Duration::from_millis(500);

/// What the task tells.
#[derive(Debug)]
pub(crate) enum News {
    /// How it is.
    Nearby(Nearby),
    /// There is a router; `again`: it was told before.
    Found { contact: Contact, also: Option<Address>, again: bool },
}

/// What is known of routers nearby.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Nearby {
    /// Nobody looks.
    #[default]
    Off,
    /// So many say now that they are there.
    Found(usize),
    /// Too much is said on the network.
    Crowded,
    /// It cannot be looked.
    Failed(String),
}

impl Nearby {
    /// For a person.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Off => String::new(),
            Self::Found(0) => "looking for routers of this network nearby: none so far".into(),
            Self::Found(n) => format!("routers of this network that say they are nearby: {n}"),
            Self::Crowded => {
                "not looking for routers nearby for some minutes: more answers than there \
                              can be routers"
                    .into()
            }
            Self::Failed(why) => format!("cannot look for routers nearby: {why}"),
        }
    }
}

/// This router.
#[derive(Clone, Copy, Debug)]
pub(super) struct Me {
    pub(super) network: NetworkId,
    pub(super) id: RouterId,
    pub(super) link_key: [u8; 32],
    /// Where it can be dialled; one that listens nowhere says nothing.
    pub(super) port: Option<u16>,
}

/// The task that sees to it.
#[derive(Debug)]
pub(super) struct Lan {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Lan {
    /// Begins; what comes of it is told by events.
    pub(super) fn start(me: Me, clock: Clock, events: mpsc::Sender<Event>) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(keep(me, clock, events, stopped)) }
    }

    /// Takes the notice back.
    pub(super) async fn stop(mut self) {
        let _ = self.stop.send(());
        let _ = timeout(2 * END_LIMIT, &mut self.task).await;
        self.task.abort();
    }
}

async fn keep(
    me: Me,
    clock: Clock,
    events: mpsc::Sender<Event>,
    mut stopped: oneshot::Receiver<()>,
) {
    loop {
        let ended = match Search::begin(me, clock, events.clone()) {
            Ok(mut search) => {
                let ended = search.run(&mut stopped).await;
                search.end().await;
                ended
            }
            Err(error) => Ended::For(Nearby::Failed(error.to_string())),
        };
        let Ended::For(why) = ended else { return };
        if events.send(Event::Lan(News::Nearby(why))).await.is_err() {
            return;
        }
        tokio::select! {
            () = sleep(DEAF) => {}
            _ = &mut stopped => return,
        }
    }
}

/// Why a search is over.
enum Ended {
    /// The router stops.
    Stopped,
    For(Nearby),
}

/// One life of the library's thread.
struct Search {
    me: Me,
    clock: Clock,
    events: mpsc::Sender<Event>,
    daemon: ServiceDaemon,
    heard: mdns_sd::Receiver<ServiceEvent>,
    /// What this router's own notice is called.
    own: Option<String>,
    /// Those that say they are there, by what their notices are called.
    found: BTreeMap<String, (Contact, Option<Address>)>,
}

impl Search {
    fn begin(me: Me, clock: Clock, events: mpsc::Sender<Event>) -> mdns_sd::Result<Self> {
        let daemon = ServiceDaemon::new()?;
        let own = me.port.map(|port| announcement(me, port)).transpose()?;
        let name = own.as_ref().map(|own| own.get_fullname().to_owned());
        if let Some(own) = own {
            daemon.register(own)?;
        }
        let heard = daemon.browse(KIND)?;
        let found = BTreeMap::new();
        Ok(Self { me, clock, events, daemon, heard, own: name, found })
    }

    async fn run(&mut self, stopped: &mut oneshot::Receiver<()>) -> Ended {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked = 0;
        self.tell(News::Nearby(Nearby::Found(0))).await;
        loop {
            tokio::select! {
                _ = &mut *stopped => return Ended::Stopped,
                event = self.heard.recv_async() => match event {
                    Ok(event) => self.hear(event).await,
                    // The library ends what does not keep up.
                    Err(_) => return Ended::For(Nearby::Crowded),
                },
                _ = looks.tick() => {
                    if self.is_crowded().await {
                        return Ended::For(Nearby::Crowded);
                    }
                    looked += 1;
                    if looked % AGAIN_AFTER == 0 {
                        self.tell_again().await;
                    }
                }
            }
        }
    }

    /// Takes the notice back, so that nobody looks for this router when it is gone.
    async fn end(self) {
        let said = self.own.and_then(|own| self.daemon.unregister(&own).ok());
        if let Some(said) = said {
            let _ = timeout(END_LIMIT, said.recv_async()).await;
        }
        let _ = self.daemon.shutdown();
    }

    async fn tell(&self, news: News) {
        // A router that is gone needs no news.
        let _ = self.events.send(Event::Lan(news)).await;
    }

    async fn hear(&mut self, event: ServiceEvent) {
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let name = service.get_fullname().to_owned();
                let Some((contact, also)) = self.read(&service) else { return };
                // Said again: only that it is true for longer is new.
                let same = |it: &(Contact, _)| {
                    (it.0.id, it.0.address, it.1) == (contact.id, contact.address, also)
                };
                let known = self.found.get(&name).is_some_and(same);
                if known || self.found.len() >= FOUND_MAX && !self.found.contains_key(&name) {
                    return;
                }
                self.found.insert(name, (contact, also));
                self.tell(News::Found { contact, also, again: false }).await;
            }
            ServiceEvent::ServiceRemoved(_, name) => {
                if self.found.remove(&name).is_none() {
                    return;
                }
            }
            _ => return,
        }
        self.tell(News::Nearby(Nearby::Found(self.found.len()))).await;
    }

    /// Whom a notice of this network asks to dial.
    fn read(&self, service: &ResolvedService) -> Option<(Contact, Option<Address>)> {
        let name = name_of(service.get_fullname())?;
        let said = service.get_property(NOTICE).and_then(TxtProperty::val)?;
        let notice = Notice::open(self.me.network, &name, said)?;
        // Copied by somebody who is elsewhere.
        if notice.id == self.me.id || notice.port != service.get_port() {
            return None;
        }
        let mine = if_addrs::get_if_addrs().unwrap_or_default();
        let said = service.get_addresses().iter().map(mdns_sd::ScopedIp::to_ip_addr);
        let mut near: Vec<IpAddr> = said.filter(|ip| is_near(*ip, &mine)).collect();
        near.sort_unstable();
        let [first, also] =
            [near.iter().find(|it| it.is_ipv4()), near.iter().find(|it| it.is_ipv6())]
                .map(|ip| ip.map(|ip| Address::from(std::net::SocketAddr::new(*ip, notice.port))));
        let (address, also) = match first {
            Some(first) => (first, also),
            None => (also?, None),
        };
        let expiry = self.clock.now().wall.plus(DIAL_MINUTES);
        let contact = Contact { id: notice.id, link_key: notice.link_key, address, expiry };
        Some((contact, also))
    }

    async fn tell_again(&mut self) {
        let expiry = self.clock.now().wall.plus(DIAL_MINUTES);
        for (contact, also) in self.found.values() {
            let contact = Contact { expiry, ..*contact };
            self.tell(News::Found { contact, also: *also, again: true }).await;
        }
    }

    /// Whether the library remembers more than there can be routers.
    async fn is_crowded(&self) -> bool {
        let Ok(metrics) = self.daemon.get_metrics() else { return false };
        let metrics = timeout(LOOK_EVERY, metrics.recv_async()).await;
        matches!(metrics, Ok(Ok(metrics)) if heard(&metrics) > HEARD_MAX)
    }
}

/// What the library remembers of what others said.
fn heard(metrics: &Metrics) -> i64 {
    metrics.iter().filter(|(what, _)| what.starts_with("cached-")).map(|(_, count)| count).sum()
}

/// What is announced. Its name and its host's are drawn: nothing in it is this machine's name, or was
/// announced before.
fn announcement(me: Me, port: u16) -> mdns_sd::Result<ServiceInfo> {
    let name = entropy::generator().bytes::<NAME_LEN>();
    let notice = Notice { id: me.id, link_key: me.link_key, port };
    let said = TxtProperty::from((NOTICE, notice.seal(me.network, &name).as_slice()));
    let text = BASE32_NOPAD.encode(&name).to_ascii_lowercase();
    let host = format!("{text}.local.");
    // Its addresses are those of each network that it is announced on.
    let info = ServiceInfo::new(KIND, &text, &host, "", port, vec![said])?;
    Ok(info.enable_addr_auto())
}

/// The drawn name in what an announcement is called.
fn name_of(full: &str) -> Option<[u8; NAME_LEN]> {
    let text = full.strip_suffix(KIND)?.strip_suffix('.')?;
    BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()?.try_into().ok()
}

/// Whether that address is of a network that this machine is on, so that nobody is sent elsewhere.
fn is_near(ip: IpAddr, mine: &[Interface]) -> bool {
    mine.iter().any(|interface| match (&interface.addr, ip) {
        (IfAddr::V4(mine), IpAddr::V4(ip)) => {
            let part = |ip: std::net::Ipv4Addr| ip.to_bits() & mine.netmask.to_bits();
            !ip.is_loopback() && part(ip) == part(mine.ip)
        }
        (IfAddr::V6(mine), IpAddr::V6(ip)) => {
            let part = |ip: std::net::Ipv6Addr| ip.to_bits() & mine.netmask.to_bits();
            // One of a link alone means nothing without the link's name.
            !ip.is_loopback() && !ip.is_unicast_link_local() && part(ip) == part(mine.ip)
        }
        _ => false,
    })
}

/// An address of this machine on a local network, where none leads to the internet.
pub(super) fn own_ip(v4: bool) -> Option<IpAddr> {
    let mut mine = if_addrs::get_if_addrs().ok()?;
    mine.retain(|it| it.is_oper_up() && !it.is_loopback() && it.ip().is_ipv4() == v4);
    mine.retain(|it| !matches!(it.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local()));
    mine.iter().map(Interface::ip).min()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn me() -> Me {
        Me { network: NetworkId([7; 32]), id: RouterId([1; 32]), link_key: [2; 32], port: None }
    }

    #[test]
    fn an_announcement_names_nobody_and_is_read_in_its_own_network() {
        let [one, two] = [(); 2].map(|()| announcement(me(), 40_001).unwrap());
        assert_ne!(one.get_fullname(), two.get_fullname());
        assert_eq!(one.get_hostname().split('.').next(), one.get_fullname().split('.').next());
        let name = name_of(one.get_fullname()).unwrap();
        let said = one.get_property(NOTICE).unwrap().val().unwrap();
        let notice = Notice::open(me().network, &name, said).unwrap();
        assert_eq!((notice.id, notice.port), (me().id, one.get_port()));
        assert_eq!(one.get_properties().len(), 1);
    }

    #[test]
    fn what_is_called_otherwise_is_no_announcement() {
        for name in [
            "",
            KIND,
            "printer._warren._tcp.local.",
            "aaaaaaaaaaaaaaaaaaaaaaaaaa._other._tcp.local.",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaa._warren._tcp.local.",
            "\u{e9}aaaaaaaaaaaaaaaaaaaaaaaaa._warren._tcp.local.",
        ] {
            assert_eq!(name_of(name), None, "{name}");
        }
        let name = "aaaaaaaaaaaaaaaaaaaaaaaaaa._warren._tcp.local.";
        assert_eq!(name_of(name), Some([0; NAME_LEN]));
    }

    #[test]
    fn only_what_is_on_a_network_of_this_machine_is_near() {
        let mut loopback = if_addrs::get_if_addrs().unwrap();
        loopback.retain(|it| it.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut lan = loopback[0].clone();
        let IfAddr::V4(address) = &mut lan.addr else { panic!("not IPv4") };
        (address.ip, address.netmask) = ([192, 168, 7, 3].into(), [255, 255, 255, 0].into());
        let mine = [loopback.remove(0), lan];
        let near = |ip: [u8; 4]| is_near(IpAddr::from(ip), &mine);
        assert!(near([192, 168, 7, 200]));
        for far in [[192, 168, 8, 3], [127, 0, 0, 1], [127, 9, 9, 9], [9, 9, 9, 9], [10, 0, 0, 1]] {
            assert!(!near(far), "{far:?}");
        }
    }

    #[test]
    fn only_what_others_said_counts_as_heard() {
        let count = |what: &str, n| (what.to_owned(), n);
        let metrics = [count("cached-ptr", 3), count("cached-txt", 2), count("respond", 100)];
        assert_eq!(heard(&metrics.into()), 5);
    }
}
