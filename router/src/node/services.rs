//! The hidden services of this router.
//!
//! Lives here: one service's end, its session keys and its publisher, joined. Does not live here:
//! sessions and leases (`overlay::session::End`), what is published (`overlay::service`), the files
//! (driver).
//!
//! ```text
//! Expose --> End made, 5 tunnels wanted --leases--> Publisher --Put--> through a tunnel of its set
//!                ^ session keys, new each day            '--Published--> saved version
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use warren_overlay::{
    crypto::{
        blind::ServiceKey,
        kem::{DhSecret, KemSecret},
        secret::Secret,
    },
    garlic::{Clove, OwnTunnelName, Rate, RecordAnswer, RecordBytes},
    id::{EndNo, NetworkId},
    rng::Rng,
    service::{
        DailyKey, DailyKeys, Lease, Name, PublishInput, PublishOutput, Publisher, SAVED_KEY_LEN,
        Set, binding,
    },
    session::{self, End, EndEvent, EndInput, SessionSecret},
    time::{Now, Time},
    tunnel::pools::SERVICE_TUNNELS,
    wire::{Reader, Writer},
};
use zeroize::Zeroizing;

/// How often session keys are looked at.
const KEYS_EVERY: Duration = Duration::from_mins(10);
/// How long a service that ends may take to say so: in the ring, and to its clients.
const LEAVE_MAX: Duration = Duration::from_secs(10);
const LEAVE_MIN: Duration = Duration::from_secs(1);
/// Share of the router's memory that all buffers of one service may hold, and most bytes.
const QUOTA: (usize, usize) = (2, 4 * session::QUOTA_DEFAULT);

/// What a service starts from.
#[derive(Debug)]
pub struct ServiceSettings {
    /// Its key: its name.
    pub key: ServiceKey,
    /// What `Saved::Service` gave last; empty for a new one.
    pub state: Zeroizing<Vec<u8>>,
    /// Hops of its tunnels, 1 to 4; none for the router's.
    pub hops: Option<u8>,
    /// How many clients each of its gateways lets in.
    pub rate: Rate,
}

impl ServiceSettings {
    /// A service that was never published.
    pub fn new(key: ServiceKey) -> Self {
        Self { key, state: Zeroizing::default(), hops: None, rate: Rate::default() }
    }
}

/// What happened.
#[derive(Debug)]
pub(super) enum ServicesInput {
    /// A new service, with a number for its end.
    Expose { end: EndNo, settings: Box<ServiceSettings> },
    /// A service ends.
    Unexpose { end: EndNo },
    /// A service's end says something.
    End { end: EndNo, event: EndEvent },
    /// A service's end got a tunnel.
    Tunnel { end: EndNo, tunnel: OwnTunnelName },
    /// The first hop of a service's tunnel gives no sign of life, or does again.
    TunnelQuiet { end: EndNo, tunnel: OwnTunnelName, quiet: bool },
    /// A service's tunnel is gone or going.
    TunnelGone { end: EndNo, tunnel: OwnTunnelName },
}

/// What to do next.
#[derive(Debug)]
pub(super) enum ServicesOutput {
    /// Hold this end.
    NewEnd { end: EndNo, machine: Box<End> },
    /// For an end.
    End { end: EndNo, input: EndInput },
    /// Forget this end and its tunnels.
    DropEnd { end: EndNo },
    /// Keep so many gateway tunnels for an end.
    WantTunnels { end: EndNo, count: usize, hops: Option<usize> },
    /// Keep this for the next start.
    Save { end: EndNo, state: Zeroizing<Vec<u8>> },
}

/// A request of a publisher: what, of which day's set, and how often it was tried before.
#[derive(Debug)]
struct Wish {
    clove: Clove,
    set: Set,
    tries: u32,
}

#[derive(Debug)]
struct Service {
    name: Name,
    publisher: Publisher,
    keys: DailyKeys,
    /// Keys of a run before this one: what it read early is not known (PROTOCOL P9).
    restored: usize,
    leases: Vec<Lease>,
    /// What its clients are asked to spend.
    effort: u32,
    /// Its tunnels, and whether each is quiet.
    tunnels: Vec<(OwnTunnelName, bool)>,
    /// Requests of the publisher that wait for a tunnel.
    waiting: Vec<Wish>,
    started: Time,
    /// It ends: until when it may still tell its clients and readers.
    leaving: Option<Time>,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Services {
    network: NetworkId,
    /// Bytes that all buffers of one service may hold.
    quota: usize,
    services: BTreeMap<EndNo, Service>,
    keys_at: Option<Time>,
    rng: Rng,
    out: VecDeque<ServicesOutput>,
}

impl Services {
    /// No service yet, at a router that may use `memory` bytes.
    pub(super) fn new(network: NetworkId, memory: usize, rng: Rng) -> Self {
        Self {
            network,
            quota: (memory / QUOTA.0).min(QUOTA.1),
            services: BTreeMap::new(),
            keys_at: None,
            rng,
            out: VecDeque::new(),
        }
    }

    /// How many services there are.
    pub(super) fn len(&self) -> usize {
        self.services.values().filter(|service| service.leaving.is_none()).count()
    }

    /// Whether an end is a service's.
    pub(super) fn holds(&self, end: EndNo) -> bool {
        self.services.contains_key(&end)
    }

    /// What a service publishes of itself: where it is reached, and what clients are to spend.
    pub(super) fn offers(&self, end: EndNo) -> Option<(&[Lease], u32)> {
        self.services.get(&end).map(|service| (service.leases.as_slice(), service.effort))
    }

    /// A service's gateways that stand, and whether it is published.
    pub(super) fn status(&self, end: EndNo) -> Option<(u32, bool)> {
        let service = self.services.get(&end)?;
        let gateways = u32::try_from(service.leases.len()).unwrap_or(u32::MAX);
        Some((gateways, service.publisher.published().is_some()))
    }

    /// Something happened.
    pub(super) fn handle_input(&mut self, now: Now, input: ServicesInput) {
        match input {
            ServicesInput::Expose { end, settings } => self.expose(now, end, *settings),
            ServicesInput::Unexpose { end } => {
                self.leave(now, end);
            }
            ServicesInput::End { end, event } => self.end_event(now, end, event),
            ServicesInput::Tunnel { end, tunnel } => {
                if let Some(service) = self.services.get_mut(&end) {
                    service.tunnels.push((tunnel, false));
                    for wish in std::mem::take(&mut service.waiting) {
                        self.request(end, wish);
                    }
                }
            }
            ServicesInput::TunnelQuiet { end, tunnel, quiet } => {
                if let Some(service) = self.services.get_mut(&end)
                    && let Some(it) = service.tunnels.iter_mut().find(|it| it.0 == tunnel)
                {
                    it.1 = quiet;
                }
            }
            ServicesInput::TunnelGone { end, tunnel } => {
                if let Some(service) = self.services.get_mut(&end) {
                    service.tunnels.retain(|(it, _)| *it != tunnel);
                }
            }
        }
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Now) {
        let ends: Vec<_> = self.services.keys().copied().collect();
        if self.keys_at.is_some_and(|at| at <= now.time) {
            self.keys_at = Some(now.time + KEYS_EVERY);
            for end in &ends {
                self.rotate(now, *end);
            }
        }
        for end in ends {
            if self.services.get(&end).is_some_and(|it| it.leaving.is_some_and(|at| at <= now.time))
            {
                self.forget(end);
            } else if let Some(service) = self.services.get_mut(&end)
                && service.publisher.poll_timeout().is_some_and(|at| at <= now.time)
            {
                service.publisher.handle_timeout(now);
                self.drain_publisher(now, end);
            }
        }
    }

    /// The next thing to do.
    pub(super) fn poll_output(&mut self) -> Option<ServicesOutput> {
        self.out.pop_front()
    }

    /// When to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let publishers = self.services.values().filter_map(|it| it.publisher.poll_timeout());
        let leaving = self.services.values().filter_map(|service| service.leaving);
        publishers.chain(leaving).chain(self.keys_at).min()
    }

    fn expose(&mut self, now: Now, end: EndNo, settings: ServiceSettings) {
        let name = Name::of_service(&settings.key);
        let (version, saved) = decode_state(&settings.state).unwrap_or_default();
        let restored = saved.len();
        let hops = settings.hops.map(usize::from);
        let keys = DailyKeys::new(name, self.rng.fork(), saved, now.wall);
        let publisher = Publisher::new(now, settings.key, self.network, version, self.rng.fork());
        let service = Service {
            name,
            publisher,
            keys,
            restored,
            leases: Vec::new(),
            effort: 0,
            tunnels: Vec::new(),
            waiting: Vec::new(),
            started: now.time,
            leaving: None,
        };
        self.services.insert(end, service);
        let machine =
            Box::new(End::service(self.rng.fork(), self.network, self.quota, settings.rate));
        self.out.push_back(ServicesOutput::NewEnd { end, machine });
        self.keys_at.get_or_insert(now.time + KEYS_EVERY);
        self.give_secrets(end);
        self.save(end);
        self.out.push_back(ServicesOutput::WantTunnels { end, count: SERVICE_TUNNELS, hops });
    }

    /// Tells clients and readers that the service is no more, then forgets it.
    fn leave(&mut self, now: Now, end: EndNo) {
        let Some(service) = self.services.get_mut(&end) else { return };
        if service.leaving.is_some() {
            return;
        }
        let known = service.publisher.published().is_some();
        service.leaving = Some(now.time + if known { LEAVE_MAX } else { LEAVE_MIN });
        self.out.push_back(ServicesOutput::End { end, input: EndInput::Leave });
        if known && let Some(key) = service.keys.newest() {
            let descriptor = key.describe(Vec::new(), 0);
            service.publisher.handle_input(now, PublishInput::Withdraw(descriptor));
            self.drain_publisher(now, end);
        }
    }

    fn forget(&mut self, end: EndNo) {
        self.services.remove(&end);
        self.out.push_back(ServicesOutput::DropEnd { end });
    }

    fn rotate(&mut self, now: Now, end: EndNo) {
        let Some(service) = self.services.get_mut(&end) else { return };
        if service.leaving.is_none() && service.keys.rotate(now.wall) {
            self.give_secrets(end);
            self.save(end);
            self.publish(now, end);
        }
    }

    /// The session keys that clients may still use.
    fn give_secrets(&mut self, end: EndNo) {
        let Some(service) = self.services.get(&end) else { return };
        // The oldest `restored` ones are of a run before this one; `iter` begins with the newest.
        let fresh = service.keys.iter().count().saturating_sub(service.restored);
        let secrets = service.keys.iter().enumerate().filter_map(|(n, key)| {
            Some(SessionSecret {
                dh: copy_dh(key.dh()),
                kem: copy_kem(key.kem()),
                binding: binding(&service.name, self.network, key.day())?,
                restored: (n >= fresh).then_some(service.started),
            })
        });
        let input = EndInput::Secrets(secrets.collect());
        self.out.push_back(ServicesOutput::End { end, input });
    }

    fn end_event(&mut self, now: Now, end: EndNo, event: EndEvent) {
        let Some(service) = self.services.get_mut(&end) else { return };
        match event {
            EndEvent::LeasesChanged(leases) if service.leaving.is_none() => {
                service.leases = leases;
                self.publish(now, end);
            }
            EndEvent::EffortChanged(effort) if service.leaving.is_none() => {
                service.effort = effort;
                self.publish(now, end);
            }
            EndEvent::Answer { request, asked: _, answer } => {
                let answer = answer.unwrap_or(RecordAnswer::NoRoute { left: 0 });
                let input = PublishInput::Answer { request, answer };
                service.publisher.handle_input(now, input);
                self.drain_publisher(now, end);
            }
            // A service that leaves needs none; a client's, or the wiring's own business.
            EndEvent::LeasesChanged(_)
            | EndEvent::EffortChanged(_)
            | EndEvent::NeedTunnels { .. }
            | EndEvent::Block { .. }
            | EndEvent::NeedDescriptor
            | EndEvent::TunnelFailed { .. }
            | EndEvent::TunnelFree { .. } => {}
        }
    }

    fn publish(&mut self, now: Now, end: EndNo) {
        let Some(service) = self.services.get_mut(&end) else { return };
        if let Some(key) = service.keys.newest() {
            let descriptor = key.describe(service.leases.clone(), service.effort);
            service.publisher.handle_input(now, PublishInput::Descriptor(descriptor));
            self.drain_publisher(now, end);
        }
    }

    fn drain_publisher(&mut self, now: Now, end: EndNo) {
        let mut requests = Vec::new();
        let mut published = false;
        let Some(service) = self.services.get_mut(&end) else { return };
        while let Some(output) = service.publisher.poll_output() {
            match output {
                PublishOutput::Put { request, record, set, tries } => {
                    if let Some(record) = RecordBytes::new(record.encode()) {
                        let clove = Clove::RecordPut { request, record };
                        requests.push(Wish { clove, set, tries });
                    }
                }
                PublishOutput::Get { request, key, set } => {
                    let clove = Clove::RecordGet { request, key };
                    requests.push(Wish { clove, set, tries: 0 });
                }
                PublishOutput::Published { .. } => published = true,
            }
        }
        for wish in requests {
            self.request(end, wish);
        }
        if published {
            if let Some(service) = self.services.get_mut(&end)
                && let Some(at) = &mut service.leaving
            {
                // Half of the records are there: the others are on their way.
                *at = now.time + LEAVE_MIN;
            }
            self.save(end);
        }
    }

    /// Each day's set goes through end hops of its own (PROTOCOL P10), as far as there are enough.
    fn request(&mut self, end: EndNo, wish: Wish) {
        let Some(service) = self.services.get_mut(&end) else { return };
        match way(&service.tunnels, wish.set, wish.tries) {
            Some(tunnel) => {
                let input = EndInput::Request { tunnel: Some(tunnel), clove: wish.clove };
                self.out.push_back(ServicesOutput::End { end, input });
            }
            // The publisher asks again if it waits too long; 18 are all it ever asks at once.
            None => service.waiting.push(wish),
        }
    }

    fn save(&mut self, end: EndNo) {
        if let Some(service) = self.services.get(&end) {
            let state = encode_state(service.publisher.version(), &service.keys);
            self.out.push_back(ServicesOutput::Save { end, state });
        }
    }
}

/// Which of a service's `tunnels` a request takes: every other one is its set's (yesterday's and
/// tomorrow's are never out at the same time), each try takes the next of these, and one that is quiet
/// comes last.
fn way(tunnels: &[(OwnTunnelName, bool)], set: Set, tries: u32) -> Option<OwnTunnelName> {
    let first = usize::from(set != Set::Today).min(tunnels.len().saturating_sub(1));
    let own = tunnels.iter().skip(first).step_by(2);
    let (quiet, good): (Vec<_>, Vec<_>) = own.partition(|(_, quiet)| *quiet);
    let all: Vec<_> = if good.is_empty() {
        let others = tunnels.iter().filter(|(_, quiet)| !quiet);
        others.chain(quiet).collect()
    } else {
        good
    };
    let nth = (tries as usize).checked_rem(all.len())?;
    all.get(nth).map(|(tunnel, _)| *tunnel)
}

fn copy_dh(key: &DhSecret) -> DhSecret {
    let mut bytes = *key.secret_bytes().expose_secret();
    DhSecret::from_bytes(Secret::take(&mut bytes))
}

fn copy_kem(key: &KemSecret) -> KemSecret {
    let mut bytes = *key.to_bytes().expose_secret();
    KemSecret::from_bytes(Secret::take(&mut bytes))
}

/// | bytes | field |
/// |-------|-------|
/// | 8     | highest version published |
/// | 136 n | session keys (`DailyKey::save`) |
fn encode_state(version: u64, keys: &DailyKeys) -> Zeroizing<Vec<u8>> {
    let mut w = Writer::with_capacity(8 + 4 * SAVED_KEY_LEN);
    w.u64(version);
    for key in keys.iter() {
        w.bytes(key.save().expose_secret());
    }
    Zeroizing::new(w.into_bytes())
}

fn decode_state(state: &[u8]) -> Option<(u64, Vec<DailyKey>)> {
    let mut r = Reader::new(state);
    let version = r.u64("service version").ok()?;
    let mut keys = Vec::new();
    while r.remaining() > 0 {
        let mut bytes = r.array::<SAVED_KEY_LEN>("session key").ok()?;
        keys.push(DailyKey::restore(&Secret::take(&mut bytes)).ok()?);
    }
    Some((version, keys))
}

#[cfg(test)]
mod tests {
    use warren_overlay::id::{LinkNo, TunnelId};

    use super::*;

    fn tunnels(quiet: &[usize]) -> Vec<(OwnTunnelName, bool)> {
        (0..5).map(|at| ((LinkNo(1), TunnelId(at)), quiet.contains(&(at as usize)))).collect()
    }

    fn ways(tunnels: &[(OwnTunnelName, bool)], set: Set) -> Vec<u32> {
        (0..6).map(|tries| way(tunnels, set, tries).unwrap().1.0).collect()
    }

    #[test]
    fn each_set_has_tunnels_of_its_own_and_every_try_takes_another() {
        let tunnels = tunnels(&[]);
        assert_eq!(ways(&tunnels, Set::Today), [0, 2, 4, 0, 2, 4]);
        assert_eq!(ways(&tunnels, Set::Tomorrow), [1, 3, 1, 3, 1, 3]);
        assert_eq!(ways(&tunnels, Set::Yesterday), [1, 3, 1, 3, 1, 3]);
    }

    #[test]
    fn a_quiet_tunnel_comes_last() {
        assert_eq!(ways(&tunnels(&[0]), Set::Today), [2, 4, 2, 4, 2, 4]);
        assert_eq!(ways(&tunnels(&[1, 3]), Set::Tomorrow), [0, 2, 4, 1, 3, 0]);
    }

    #[test]
    fn too_few_tunnels_are_shared_and_none_is_none() {
        let one = &tunnels(&[])[..1];
        assert_eq!(ways(one, Set::Yesterday), [0; 6]);
        assert_eq!(way(&[], Set::Today, 0), None);
    }
}
