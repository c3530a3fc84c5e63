//! The hidden services of this router.
//!
//! Lives here: one service's end, its session keys and those to whom it is published, joined. Does not
//! live here: sessions and leases (`overlay::session::End`), what is published to whom
//! (`audience.rs`), the files (driver).
//!
//! ```text
//! Expose --> End made, 5 tunnels wanted --leases--> Audiences --Put--> through a tunnel of its set
//!                ^ session keys, new each day            '--Published--> saved version
//! ```

mod audience;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use warren_overlay::{
    crypto::{blind::ServiceKey, kdf, secret::Secret, sign::IdentityKey},
    garlic::{OwnTunnelName, Rate, RecordAnswer},
    id::{EndNo, NetworkId, RouterId},
    rng::Rng,
    service::{DailyKey, DailyKeys, Lease, Name, OfferId, SAVED_KEY_LEN, Set},
    session::{self, End, EndEvent, EndInput, SessionSecret},
    time::{Now, Time},
    tunnel::{layers::GatewaysTag, pools::SERVICE_TUNNELS},
    wire::{Reader, Writer},
};
use zeroize::Zeroizing;

pub use self::audience::Clients;
use self::audience::{AudienceOutput, Audiences, Wish};
use super::probes::{Look, Seen};

/// How soon after it was published a service looks at itself from outside, and how often then.
const LOOK_FIRST: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_mins(2);
/// How often session keys are looked at.
const KEYS_EVERY: Duration = Duration::from_mins(10);
/// What a router's secret for the ids of its offers follows from.
const OFFERS: &str = "warren router offers 1";
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
    /// Who may reach it.
    pub clients: Clients,
}

impl ServiceSettings {
    /// A service for everybody that was never published.
    pub fn new(key: ServiceKey) -> Self {
        Self { key, state: Zeroizing::default(), hops: None, rate: Rate::default(), clients: None }
    }
}

/// How a service is.
#[derive(Clone, Copy, Debug)]
pub struct ServiceState {
    /// Gateways that stand.
    pub gateways: u32,
    /// Whether everybody who may reach it finds it.
    pub published: bool,
    /// Since when every look from outside has found it and got through to it; one is taken every two
    /// minutes.
    pub reachable: Option<Time>,
    /// How many other routers publish it.
    pub others: u32,
    /// Whether it waits for one of them to go.
    pub stands_by: bool,
}

/// What happened.
#[derive(Debug)]
pub(super) enum ServicesInput {
    /// A new service, with a number for its end.
    Expose { end: EndNo, settings: Box<ServiceSettings> },
    /// Others may reach a service from now on, and nobody else.
    Admit { end: EndNo, clients: Clients },
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
    /// What a service's look at itself has seen.
    Seen { end: EndNo, seen: Seen },
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
    WantTunnels { end: EndNo, count: usize, hops: Option<usize>, layer: GatewaysTag },
    /// Keep this for the next start.
    Save { end: EndNo, state: Zeroizing<Vec<u8>> },
    /// Look at a service from outside.
    Look(Look),
    /// No stranger gets through this gateway: it needs another.
    Dead { end: EndNo, gateway: RouterId },
}

#[derive(Debug)]
struct Service {
    name: Name,
    id: OfferId,
    audiences: Audiences,
    keys: DailyKeys,
    /// Keys of a run before this one: what it read early is not known (PROTOCOL P9).
    restored: usize,
    leases: Vec<Lease>,
    /// What its clients are asked to spend.
    effort: u32,
    /// Its tunnels, and whether each is quiet.
    tunnels: Vec<(OwnTunnelName, bool)>,
    /// Requests of its publishers that wait for a tunnel.
    waiting: Vec<Wish>,
    started: Time,
    /// When it looks at itself next, how often it has, and for whom, and what should be found, last.
    look_at: Option<Time>,
    looks: usize,
    looked_for: (u32, u64),
    /// Since when every look has found it.
    reachable: Option<Time>,
    /// It ends, once its clients and readers were told.
    leaving: bool,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Services {
    network: NetworkId,
    /// From which the ids of offers follow.
    secret: Secret<32>,
    /// Bytes that all buffers of one service may hold.
    quota: usize,
    services: BTreeMap<EndNo, Service>,
    keys_at: Option<Time>,
    rng: Rng,
    out: VecDeque<ServicesOutput>,
}

impl Services {
    /// No service yet, at a router that may use `memory` bytes.
    pub(super) fn new(network: NetworkId, me: &IdentityKey, memory: usize, rng: Rng) -> Self {
        Self {
            network,
            secret: kdf::derive_secret(OFFERS, &[me.seed().expose_secret()]),
            quota: (memory / QUOTA.0).min(QUOTA.1),
            services: BTreeMap::new(),
            keys_at: None,
            rng,
            out: VecDeque::new(),
        }
    }

    /// How many services there are.
    pub(super) fn len(&self) -> usize {
        self.services.values().filter(|service| !service.leaving).count()
    }

    /// Whether an end is a service's.
    pub(super) fn holds(&self, end: EndNo) -> bool {
        self.services.contains_key(&end)
    }

    /// What a service publishes of itself: where it is reached, and what clients are to spend.
    pub(super) fn offers(&self, end: EndNo) -> Option<(&[Lease], u32)> {
        self.services.get(&end).map(|service| (service.leases.as_slice(), service.effort))
    }

    /// How a service is.
    pub(super) fn state(&self, end: EndNo) -> Option<ServiceState> {
        let service = self.services.get(&end)?;
        let (others, stands_by) = service.audiences.beside();
        Some(ServiceState {
            gateways: u32::try_from(service.leases.len()).unwrap_or(u32::MAX),
            published: service.audiences.published().is_some(),
            reachable: service.reachable,
            others,
            stands_by,
        })
    }

    /// A service's tunnels.
    pub(super) fn tunnels(&self, end: EndNo) -> Vec<OwnTunnelName> {
        let tunnels = self.services.get(&end).map(|service| service.tunnels.iter());
        tunnels.into_iter().flatten().map(|(tunnel, _)| *tunnel).collect()
    }

    /// Something happened.
    pub(super) fn handle_input(&mut self, now: Now, input: ServicesInput) {
        match input {
            ServicesInput::Expose { end, settings } => self.expose(now, end, *settings),
            ServicesInput::Admit { end, clients } => self.admit(now, end, &clients),
            ServicesInput::Unexpose { end } => self.leave(now, end),
            ServicesInput::Seen { end, seen } => self.seen(now, end, seen),
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
            let Some(service) = self.services.get_mut(&end) else { continue };
            if service.audiences.poll_timeout().is_some_and(|at| at <= now.time) {
                service.audiences.handle_timeout(now);
            }
            if service.leaving && service.audiences.is_empty() {
                self.forget(end);
            } else {
                self.drain(end);
                self.look(now.time, end);
            }
        }
    }

    /// The next thing to do.
    pub(super) fn poll_output(&mut self) -> Option<ServicesOutput> {
        self.out.pop_front()
    }

    /// When to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let publishers = self.services.values().filter_map(|it| it.audiences.poll_timeout());
        let looks = self.services.values().filter_map(|service| service.look_at);
        publishers.chain(looks).chain(self.keys_at).min()
    }

    /// Once it was published, a service looks at itself again and again.
    fn look(&mut self, now: Time, end: EndNo) {
        let Some(service) = self.services.get_mut(&end).filter(|it| !it.leaving) else { return };
        if service.audiences.published().is_some() || service.audiences.beside().1 {
            service.look_at.get_or_insert(now + LOOK_FIRST);
        }
        if service.look_at.is_none_or(|at| at > now) {
            return;
        }
        service.look_at = Some(now + LOOK_EVERY);
        // As one of its clients; the next time as another.
        if let Some((client, access, version)) = service.audiences.nth(service.looks) {
            service.looks = service.looks.wrapping_add(1);
            service.looked_for = (client, version);
            let (name, own) = (service.name, service.id);
            let look = Look { service: end, name, own, access };
            self.out.push_back(ServicesOutput::Look(look));
        }
    }

    /// What is not found is published again, what leads nowhere is replaced, both at once.
    fn seen(&mut self, now: Now, end: EndNo, seen: Seen) {
        let Some(service) = self.services.get_mut(&end).filter(|it| !it.leaving) else { return };
        if seen.blind {
            return; // that is this router's trouble
        }
        let (client, version) = service.looked_for;
        let found = seen.version.is_some_and(|found| found >= version);
        if !found {
            service.audiences.again(now, client);
        }
        if let Some((descriptor, version)) = seen.descriptor.zip(seen.version) {
            service.audiences.found(now, client, descriptor, version);
        }
        for id in &seen.gone {
            service.audiences.gone(now, *id);
        }
        let reached = seen.version.is_some() && !seen.alive.is_empty();
        service.reachable = reached.then(|| service.reachable.unwrap_or(now.time));
        tracing::debug!(
            found,
            alive = seen.alive.len(),
            dead = seen.dead.len(),
            "looked at itself"
        );
        let dead = seen.dead.into_iter().map(|gateway| ServicesOutput::Dead { end, gateway });
        self.out.extend(dead);
        self.drain(end);
    }

    fn expose(&mut self, now: Now, end: EndNo, settings: ServiceSettings) {
        let name = Name::of_service(&settings.key);
        let id = OfferId::of(&self.secret, &name);
        let (version, saved) = decode_state(&settings.state, id).unwrap_or_default();
        let restored = saved.len();
        let hops = settings.hops.map(usize::from);
        let keys = DailyKeys::new(name, self.rng.fork(), saved, now.wall);
        let audiences = Audiences::new(settings.key, id, self.network, version, self.rng.fork());
        let service = Service {
            name,
            id,
            audiences,
            keys,
            restored,
            leases: Vec::new(),
            effort: 0,
            tunnels: Vec::new(),
            waiting: Vec::new(),
            started: now.time,
            look_at: None,
            looks: 0,
            looked_for: (0, 0),
            reachable: None,
            leaving: false,
        };
        self.services.insert(end, service);
        let machine =
            Box::new(End::service(self.rng.fork(), self.network, self.quota, settings.rate));
        self.out.push_back(ServicesOutput::NewEnd { end, machine });
        self.keys_at.get_or_insert(now.time + KEYS_EVERY);
        self.admit(now, end, &settings.clients);
        self.save(end);
        let (count, layer) = (SERVICE_TUNNELS, GatewaysTag::of(name.key()));
        self.out.push_back(ServicesOutput::WantTunnels { end, count, hops, layer });
    }

    /// Tells clients and readers that the service is no more, then forgets it.
    fn leave(&mut self, now: Now, end: EndNo) {
        let Some(service) = self.services.get_mut(&end).filter(|it| !it.leaving) else { return };
        (service.leaving, service.look_at) = (true, None);
        self.out.push_back(ServicesOutput::End { end, input: EndInput::Leave });
        if let Some(key) = service.keys.newest() {
            let nobody = Some(BTreeMap::new());
            service.audiences.admit(now, &nobody, &key.offer(Vec::new(), 0));
        }
        if service.audiences.is_empty() { self.forget(end) } else { self.drain(end) }
    }

    /// From now on the service is there for these alone.
    fn admit(&mut self, now: Now, end: EndNo, clients: &Clients) {
        let Some(service) = self.services.get_mut(&end).filter(|it| !it.leaving) else { return };
        if let Some(key) = service.keys.newest() {
            let offer = key.offer(service.leases.clone(), service.effort);
            service.audiences.admit(now, clients, &offer);
        }
        self.give_secrets(end);
        self.drain(end);
    }

    fn forget(&mut self, end: EndNo) {
        self.services.remove(&end);
        self.out.push_back(ServicesOutput::DropEnd { end });
    }

    fn rotate(&mut self, now: Now, end: EndNo) {
        let Some(service) = self.services.get_mut(&end) else { return };
        if !service.leaving && service.keys.rotate(now.wall) {
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
        let secrets = service.keys.iter().enumerate().map(|(n, key)| {
            let restored = (n >= fresh).then_some(service.started);
            let admitted = service.audiences.admitted();
            SessionSecret::of(key, &service.name, self.network, admitted, restored)
        });
        let input = EndInput::Secrets(secrets.collect());
        self.out.push_back(ServicesOutput::End { end, input });
    }

    fn end_event(&mut self, now: Now, end: EndNo, event: EndEvent) {
        let Some(service) = self.services.get_mut(&end) else { return };
        match event {
            EndEvent::LeasesChanged(leases) if !service.leaving => {
                service.leases = leases;
                self.publish(now, end);
            }
            EndEvent::EffortChanged(effort) if !service.leaving => {
                service.effort = effort;
                self.publish(now, end);
            }
            EndEvent::Answer { request, asked: _, answer } => {
                let answer = answer.unwrap_or(RecordAnswer::NoRoute { left: 0 });
                service.audiences.answer(now, request, answer);
                self.drain(end);
            }
            // A service that leaves needs none; a client's, or the wiring's own business.
            EndEvent::LeasesChanged(_)
            | EndEvent::EffortChanged(_)
            | EndEvent::NeedTunnels { .. }
            | EndEvent::Block { .. }
            | EndEvent::Router { .. }
            | EndEvent::NeedDescriptor
            | EndEvent::Reached(_)
            | EndEvent::TunnelFailed { .. }
            | EndEvent::TunnelMute { .. }
            | EndEvent::TunnelFree { .. } => {}
        }
    }

    fn publish(&mut self, now: Now, end: EndNo) {
        let Some(service) = self.services.get_mut(&end) else { return };
        if let Some(key) = service.keys.newest() {
            let offer = key.offer(service.leases.clone(), service.effort);
            service.audiences.publish(now, &offer);
            self.drain(end);
        }
    }

    /// Sends what the publishers ask, and keeps what they have published.
    fn drain(&mut self, end: EndNo) {
        let mut published = false;
        while let Some(service) = self.services.get_mut(&end)
            && let Some(output) = service.audiences.poll_output()
        {
            match output {
                AudienceOutput::Request(wish) => self.request(end, wish),
                AudienceOutput::Published => published = true,
            }
        }
        if published {
            self.save(end);
            if let Some(service) = self.services.get_mut(&end).filter(|it| !it.leaving) {
                // The next timeout decides when it looks at itself.
                service.look_at.get_or_insert(service.started + LOOK_FIRST);
            }
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
            // A publisher asks again if it waits too long; 18 are all it ever asks at once.
            None => service.waiting.push(wish),
        }
    }

    fn save(&mut self, end: EndNo) {
        if let Some(service) = self.services.get(&end) {
            let state = encode_state(service.audiences.version(), service.id, &service.keys);
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

/// | bytes | field |
/// |-------|-------|
/// | 8     | highest version published |
/// | 8     | id of this router's offer |
/// | 104 n | session keys (`DailyKey::save`) |
fn encode_state(version: u64, id: OfferId, keys: &DailyKeys) -> Zeroizing<Vec<u8>> {
    let mut w = Writer::with_capacity(8 + OfferId::LEN + 4 * SAVED_KEY_LEN);
    w.u64(version).bytes(id.as_bytes());
    for key in keys.iter() {
        w.bytes(key.save().expose_secret());
    }
    Zeroizing::new(w.into_bytes())
}

/// Of another router's state only the version: its session keys are its own.
fn decode_state(state: &[u8], own: OfferId) -> Option<(u64, Vec<DailyKey>)> {
    let mut r = Reader::new(state);
    let version = r.u64("service version").ok()?;
    let id = OfferId::from_bytes(r.array("offer id").ok()?);
    let mut keys = Vec::new();
    while id == own && r.remaining() > 0 {
        let mut bytes = r.array::<SAVED_KEY_LEN>("session key").ok()?;
        keys.push(DailyKey::restore(&Secret::take(&mut bytes)).ok()?);
    }
    Some((version, keys))
}

#[cfg(test)]
mod tests {
    use warren_overlay::{
        id::{LinkNo, TunnelId},
        time::Wall,
    };

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

    /// What a backup brings to a second router.
    #[test]
    fn session_keys_of_another_routers_state_are_not_used_and_its_version_is() {
        let [router, other] = [1, 2].map(|seed| Secret::take(&mut [seed; 32]));
        let mut rng = Rng::from_seed([3; 32]);
        let name = Name::of_service(&ServiceKey::generate(&mut rng));
        let [router, other] = [router, other].map(|secret| OfferId::of(&secret, &name));
        let keys = DailyKeys::new(name, rng, Vec::new(), Wall::from_minutes(28_800_000));
        let state = encode_state(7, router, &keys);
        let count = |own| decode_state(&state, own).map(|(version, keys)| (version, keys.len()));
        assert_eq!((count(router), count(other)), (Some((7, 1)), Some((7, 0))));
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
