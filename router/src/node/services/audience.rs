//! To whom one service is published: to everybody, or to each client of a private one.
//!
//! Lives here: a publisher for each, whose question each request is, and the way out of those who
//! are admitted no more. Does not live here: what is published when (`overlay::service::Publisher`),
//! tunnels and session keys (`services.rs`).
//!
//! ```text
//!  admit(everybody)        one publisher, number 0
//!  admit(clients 1, 4)     one publisher each; who is no longer among them: Withdraw, 1 to 10 s, gone
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use warren_overlay::{
    crypto::{blind::ServiceKey, secret::Secret},
    garlic::{Clove, RecordAnswer, RecordBytes},
    id::NetworkId,
    rng::Rng,
    service::{
        AccessKey, Offer, OfferId, PublishInput, PublishOutput, Publisher, ServiceDescriptor, Set,
    },
    time::{Now, Time},
};

/// How long a service may take to say in the ring that it is no more, and how long its other records
/// may take once half of them are there.
pub(super) const LEAVE_MAX: Duration = Duration::from_secs(10);
pub(super) const LEAVE_MIN: Duration = Duration::from_secs(1);
/// Requests whose answers are waited for: several times what the publishers of 16 clients ask at once.
const REQUESTS_MAX: usize = 1_024;
/// The number of everybody; clients count from 1.
const EVERYBODY: u32 = 0;

/// Who may reach a service: everybody who knows its name, or the clients that hold these keys, by
/// numbers that the router never uses twice.
pub type Clients = Option<BTreeMap<u32, Arc<AccessKey>>>;

/// A request of a publisher: what, of which day's set, and how often it was tried before.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) clove: Clove,
    pub(super) set: Set,
    pub(super) tries: u32,
}

/// What the publishers want.
#[derive(Debug)]
pub(super) enum AudienceOutput {
    /// Send this.
    Request(Wish),
    /// A version is in the ring: to be saved.
    Published,
}

#[derive(Debug)]
struct Audience {
    access: Option<Arc<AccessKey>>,
    publisher: Publisher,
    /// It is admitted no more: until when its readers may still be told.
    leaving: Option<Time>,
}

/// Everybody to whom one service is published.
#[derive(Debug)]
pub(super) struct Audiences {
    key: ServiceKey,
    /// Whose offer is published.
    id: OfferId,
    network: NetworkId,
    rng: Rng,
    /// The highest version that was used before this run.
    version: u64,
    all: BTreeMap<u32, Audience>,
    /// What was asked, by whom, and under which number of its own.
    requests: BTreeMap<u32, (u32, u32)>,
    next_request: u32,
    out: VecDeque<AudienceOutput>,
}

impl Audiences {
    /// A service that is published to nobody yet.
    pub(super) fn new(
        key: ServiceKey,
        id: OfferId,
        network: NetworkId,
        version: u64,
        rng: Rng,
    ) -> Self {
        let (all, requests, out) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        Self { key, id, network, rng, version, all, requests, next_request: 0, out }
    }

    /// Who is admitted, with numbers and keys as session keys want them.
    pub(super) fn admitted(&self) -> impl Iterator<Item = (u32, Option<&Arc<AccessKey>>)> {
        self.staying().map(|(client, audience)| (*client, audience.access.as_ref()))
    }

    /// Since when everybody who is admitted finds the service; none while somebody does not, or
    /// nobody is admitted.
    pub(super) fn published(&self) -> Option<Time> {
        let since: Option<Vec<Time>> =
            self.staying().map(|(_, it)| it.publisher.published()).collect();
        since?.into_iter().max()
    }

    /// The highest version used.
    pub(super) fn version(&self) -> u64 {
        let versions = self.all.values().map(|audience| audience.publisher.version());
        versions.max().unwrap_or(0).max(self.version)
    }

    /// Whether nobody is left to be told anything.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Publishes `offer` to these, and to them alone. It may lack leases: then whoever is new hears of
    /// the service with the next one.
    pub(super) fn admit(&mut self, now: Now, clients: &Clients, offer: &Offer) {
        let mut wanted: BTreeMap<u32, Option<Arc<AccessKey>>> = BTreeMap::new();
        match clients {
            None => drop(wanted.insert(EVERYBODY, None)),
            Some(clients) => {
                wanted.extend(clients.iter().map(|(client, key)| (*client, Some(Arc::clone(key)))));
            }
        }
        self.version = self.version();
        for (client, access) in &wanted {
            // One that was on its way out comes back: it is published anew.
            if self.all.get(client).is_none_or(|audience| audience.leaving.is_some()) {
                let mut seed = *self.key.seed().expose_secret();
                let key = ServiceKey::from_seed(Secret::take(&mut seed));
                let (own, rng) = ((self.id, self.version), self.rng.fork());
                let publisher = Publisher::new(now, key, access.clone(), self.network, own, rng);
                let audience = Audience { access: access.clone(), publisher, leaving: None };
                self.all.insert(*client, audience);
            }
        }
        for (client, audience) in &mut self.all {
            if !wanted.contains_key(client) {
                audience.leave(now);
            }
        }
        self.publish(now, offer);
    }

    /// The service offers something else from now on.
    pub(super) fn publish(&mut self, now: Now, offer: &Offer) {
        for audience in self.all.values_mut().filter(|audience| audience.leaving.is_none()) {
            audience.publisher.handle_input(now, PublishInput::Offer(offer.clone()));
        }
        self.drain(now.time);
    }

    /// This is what one of those who are admitted finds.
    pub(super) fn found(
        &mut self,
        now: Now,
        client: u32,
        descriptor: Arc<ServiceDescriptor>,
        version: u64,
    ) {
        if let Some(audience) = self.all.get_mut(&client).filter(|it| it.leaving.is_none()) {
            audience.publisher.handle_input(now, PublishInput::Found { descriptor, version });
            self.drain(now.time);
        }
    }

    /// Nobody answers at what another router offers.
    pub(super) fn gone(&mut self, now: Now, id: OfferId) {
        for audience in self.all.values_mut() {
            audience.publisher.handle_input(now, PublishInput::Gone(id));
        }
        self.drain(now.time);
    }

    /// How many other routers offer the service, and whether this one waits for one of them to go.
    pub(super) fn beside(&self) -> (u32, bool) {
        let publishers = || self.staying().map(|(_, audience)| &audience.publisher);
        let others = publishers().map(Publisher::others).max().unwrap_or(0);
        (u32::try_from(others).unwrap_or(u32::MAX), publishers().any(Publisher::stands_by))
    }

    /// One of those who are admitted, a different one each time: number, key, and the version that it
    /// should find at least. None while nobody is admitted.
    pub(super) fn nth(&self, n: usize) -> Option<(u32, Option<Arc<AccessKey>>, u64)> {
        let nth = n.checked_rem(self.staying().count())?;
        let (client, audience) = self.staying().nth(nth)?;
        Some((*client, audience.access.clone(), audience.publisher.version()))
    }

    /// This one does not find the service where it should.
    pub(super) fn again(&mut self, now: Now, client: u32) {
        if let Some(audience) = self.all.get_mut(&client).filter(|it| it.leaving.is_none()) {
            audience.publisher.handle_input(now, PublishInput::Again);
            self.drain(now.time);
        }
    }

    /// The answer to a request; one that nobody waits for changes nothing.
    pub(super) fn answer(&mut self, now: Now, request: u32, answer: RecordAnswer) {
        let Some((client, request)) = self.requests.remove(&request) else { return };
        let Some(audience) = self.all.get_mut(&client) else { return };
        audience.publisher.handle_input(now, PublishInput::Answer { request, answer });
        self.drain(now.time);
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Now) {
        self.all.retain(|_, audience| audience.leaving.is_none_or(|at| at > now.time));
        for audience in self.all.values_mut() {
            if audience.publisher.poll_timeout().is_some_and(|at| at <= now.time) {
                audience.publisher.handle_timeout(now);
            }
        }
        self.drain(now.time);
    }

    /// What to do next.
    pub(super) fn poll_output(&mut self) -> Option<AudienceOutput> {
        self.out.pop_front()
    }

    /// When to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let publishers = self.all.values().filter_map(|it| it.publisher.poll_timeout());
        publishers.chain(self.all.values().filter_map(|audience| audience.leaving)).min()
    }

    fn staying(&self) -> impl Iterator<Item = (&u32, &Audience)> {
        self.all.iter().filter(|(_, audience)| audience.leaving.is_none())
    }

    fn drain(&mut self, now: Time) {
        for (client, audience) in &mut self.all {
            while let Some(output) = audience.publisher.poll_output() {
                let (request, set, tries, record) = match output {
                    PublishOutput::Put { request, record, set, tries } => {
                        (request, set, tries, Ok(record))
                    }
                    PublishOutput::Get { request, key, set } => (request, set, 0, Err(key)),
                    PublishOutput::Published { .. } => {
                        if let Some(at) = &mut audience.leaving {
                            // Half of the records are there: the others are on their way.
                            *at = now + LEAVE_MIN;
                        }
                        self.out.push_back(AudienceOutput::Published);
                        continue;
                    }
                };
                // The top bit is the end's own (EndInput::Request).
                self.next_request = (self.next_request + 1) & 0x7fff_ffff;
                let number = self.next_request;
                let clove = match record {
                    Ok(record) => {
                        let Some(record) = RecordBytes::new(record.encode()) else { continue };
                        Clove::RecordPut { request: number, record }
                    }
                    Err(key) => Clove::RecordGet { request: number, key },
                };
                self.requests.insert(number, (*client, request));
                if self.requests.len() > REQUESTS_MAX {
                    self.requests.pop_first();
                }
                self.out.push_back(AudienceOutput::Request(Wish { clove, set, tries }));
            }
        }
    }
}

impl Audience {
    /// Tells whoever finds the service now that it is no more, once.
    fn leave(&mut self, now: Now) {
        if self.leaving.is_some() {
            return;
        }
        let known = self.publisher.published().is_some();
        self.leaving = Some(now.time + if known { LEAVE_MAX } else { LEAVE_MIN });
        if known {
            self.publisher.handle_input(now, PublishInput::Withdraw);
        }
    }
}
