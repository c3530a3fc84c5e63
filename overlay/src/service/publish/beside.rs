//! The other routers that publish the same service: what they offer, and reading it before writing.
//!
//! Lives here: their offers, as far as they are known, and the look-up before a round. Does not live
//! here: rounds (`publish.rs`), which of their gateways answer (the owner looks).
//!
//! ```text
//!  a descriptor above ours ──> what others offer ──three hours old, or nobody answers──> forgotten
//! ```

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    garlic::RecordAnswer,
    id::{Key, NetworkId},
    rng::Rng,
    service::{
        AccessKey, EXPIRY_MIN, Lookup, LookupInput, LookupOutput, Name, OFFERS_MAX, Offer, OfferId,
        Outcome, ServiceDescriptor,
    },
    time::{Now, Time, Wall},
};

/// How long reading may hold up a round: what others offer is looked for again later.
const READ_MAX: Duration = Duration::from_secs(2);
/// Of how many others it is remembered that nobody answered.
const GONE_MAX: usize = 8;

struct Reading {
    lookup: Lookup,
    until: Time,
    /// The publisher's request numbers, and the lookup's.
    requests: BTreeMap<u32, u32>,
}

/// What reading has come to.
pub(super) enum Read {
    /// A record is to be got, under this number.
    Get { request: u32, key: Key },
    /// This is what lies there; none if nothing does, or it could not be read.
    Done(Option<(Arc<ServiceDescriptor>, u64)>),
}

/// What others offer.
pub(super) struct Beside {
    own: OfferId,
    offers: Vec<Offer>,
    /// At whose offers, up to which version, nobody answered.
    gone: BTreeMap<OfferId, u64>,
    /// Nothing was read yet, and there may be something.
    unread: bool,
    reading: Option<Reading>,
}

impl Beside {
    /// Nobody is known. `unread` if that is no sign that there is nobody.
    pub(super) const fn new(own: OfferId, unread: bool) -> Self {
        Self { own, offers: Vec::new(), gone: BTreeMap::new(), unread, reading: None }
    }

    /// How many others offer the same service.
    pub(super) fn count(&self) -> usize {
        self.offers.len()
    }

    /// There is no room for one more.
    pub(super) fn is_full(&self) -> bool {
        self.offers.len() >= OFFERS_MAX
    }

    /// Whether to read what lies in the ring before writing over it.
    pub(super) fn wants_reading(&self) -> bool {
        self.unread || !self.offers.is_empty()
    }

    /// All that is offered, `own` included, as a descriptor has it.
    pub(super) fn with(&self, own: Option<&Offer>) -> Vec<Offer> {
        let mut all: Vec<Offer> = own.into_iter().chain(&self.offers).cloned().collect();
        all.truncate(OFFERS_MAX);
        all.sort_by_key(|offer| offer.id);
        all
    }

    /// A descriptor as new as any lies in the ring: whoever is not in it offers nothing.
    pub(super) fn learn(&mut self, descriptor: &ServiceDescriptor) {
        let others = descriptor.offers.iter().filter(|offer| offer.id != self.own);
        let lives = |offer: &&Offer| self.gone.get(&offer.id).is_none_or(|at| offer.version > *at);
        let others: Vec<_> = others.filter(lives).cloned().collect();
        self.offers = others;
    }

    /// Nobody answers there: its offer is left out until it is a newer one. Whether it was known.
    pub(super) fn gone(&mut self, id: OfferId) -> bool {
        let Some(at) = self.offers.iter().position(|offer| offer.id == id) else { return false };
        self.gone.insert(id, self.offers.remove(at).version);
        if self.gone.len() > GONE_MAX {
            self.gone.pop_first();
        }
        true
    }

    /// Forgets what nobody has renewed.
    pub(super) fn expire(&mut self, wall: Wall) {
        let age = u64::from(EXPIRY_MIN) * 60_000;
        self.offers.retain(|offer| wall.millis() < offer.version.saturating_add(age));
    }

    /// Whether it is being read.
    pub(super) const fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// Begins to read.
    pub(super) fn read(
        &mut self,
        now: Now,
        name: Name,
        access: Option<Arc<AccessKey>>,
        network: NetworkId,
        rng: Rng,
    ) {
        let lookup = Lookup::new(now, name, access, network, 0, rng);
        let until = now.time + READ_MAX;
        self.reading = Some(Reading { lookup, until, requests: BTreeMap::new() });
    }

    /// The answer to a request of the publisher's; whether it was reading's.
    pub(super) fn answer(&mut self, now: Now, request: u32, answer: &RecordAnswer) -> bool {
        let Some(reading) = &mut self.reading else { return false };
        let Some(request) = reading.requests.remove(&request) else { return false };
        let answer = answer.clone();
        reading.lookup.handle_input(now, LookupInput::Answer { request, answer });
        true
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Now) {
        if let Some(reading) = &mut self.reading
            && reading.lookup.poll_timeout().is_some_and(|at| at <= now.time)
        {
            reading.lookup.handle_timeout(now);
        }
    }

    /// What to do next; `request` is the number for the next request.
    pub(super) fn poll(&mut self, now: Time, request: u32) -> Option<Read> {
        let reading = self.reading.as_mut()?;
        let found = match reading.lookup.poll_output() {
            Some(LookupOutput::Get { request: theirs, key }) => {
                reading.requests.insert(request, theirs);
                return Some(Read::Get { request, key });
            }
            Some(LookupOutput::Done(Outcome::Found(found))) => {
                Some((found.descriptor, found.version))
            }
            Some(LookupOutput::Done(Outcome::NotFound)) => {
                self.offers.clear();
                None
            }
            Some(LookupOutput::Done(Outcome::Invalid | Outcome::Unreachable(_))) => None,
            None if now >= reading.until => None,
            None => return None,
        };
        (self.reading, self.unread) = (None, false);
        Some(Read::Done(found))
    }

    /// When to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let reading = self.reading.as_ref()?;
        reading.lookup.poll_timeout().into_iter().chain([reading.until]).min()
    }
}
