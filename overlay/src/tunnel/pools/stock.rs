//! How many tunnels there should be, and who gets which.
//!
//! Lives here: handing out, renewing, losing and dropping tunnels, and the balance that starts
//! builds. Does not live here: the builds (`builds.rs`).

use std::cmp::Reverse;

use super::{
    DEMAND_MEMORY, Holder, MAINTAIN_EVERY, Own, Pools, PoolsOutput, Purpose, SHORT_PAUSE, STORED,
    Side, TUNNELS_PER_END_MAX, Want, builds::first_id,
};
use crate::{
    crypto::kdf,
    id::{EndNo, LinkNo, RouterId},
    time::{Now, Time},
    tunnel::{
        layers::{GatewaysTag, Shape},
        select::Avoid,
    },
};

impl Own {
    pub(super) const fn held_by(&self) -> Option<EndNo> {
        match self.holder {
            Holder::Stock(_) => None,
            Holder::End(end) | Holder::Retired(end) => Some(end),
        }
    }

    /// In stock and not about to end.
    fn is_fresh_stock(&self, now: Time) -> bool {
        matches!(self.holder, Holder::Stock(_)) && now < self.rotates
    }

    fn serves(&self, end: EndNo) -> bool {
        matches!(self.holder, Holder::End(held) if held == end)
    }

    /// A path whose network is one single place cannot keep away from a place.
    fn suits(&self, avoid: &Avoid) -> bool {
        self.path
            .hops
            .iter()
            .all(|hop| !avoid.bans(hop) && (self.path.relaxed.place || !avoid.near(hop)))
    }
}

impl Pools {
    pub(super) fn take(&mut self, now: Time, end: EndNo, avoid: &Avoid) {
        let want = self.wants.entry(end).or_insert_with(|| Want {
            count: 0,
            avoid: Avoid::none(),
            service: false,
            hops: None,
            layer: None,
        });
        want.count = (want.count + 1).min(TUNNELS_PER_END_MAX);
        want.avoid = avoid.completed(&self.view);
        if self.takes.len() >= self.config.stock_max {
            self.takes.pop_front();
        }
        self.takes.push_back(now);
    }

    pub(super) fn want_fewer(&mut self, end: EndNo, count: usize) {
        if let Some(want) = self.wants.get_mut(&end) {
            want.count = want.count.min(count.max(1));
        }
    }

    pub(super) fn want_service(
        &mut self,
        end: EndNo,
        count: usize,
        hops: Option<usize>,
        layer: Option<GatewaysTag>,
    ) {
        let count = count.min(TUNNELS_PER_END_MAX);
        self.wants.insert(end, Want { count, avoid: Avoid::none(), service: true, hops, layer });
        if count == 0 {
            self.drop_end(end);
        }
    }

    pub(super) fn drop_end(&mut self, end: EndNo) {
        self.wants.remove(&end);
        self.close_all(|own| own.held_by() == Some(end) || own.purpose == Purpose::Service(end));
    }

    /// A lane is over.
    pub(super) fn gone(&mut self, now: Time, side: Side) {
        if let Some(ask) = self.attempt_at(side) {
            return self.hung_up(now, ask);
        }
        self.count_death(side);
        self.forget(side, true);
    }

    /// An `End` says that its tunnel carries nothing any more.
    pub(super) fn dead(&mut self, now: Time, side: Side) {
        self.count_death(side);
        if let Some(own) = self.forget(side, false) {
            self.suspect_all(now, &own.path);
            self.close(side);
        }
    }

    pub(super) fn link_quiet(&mut self, link: LinkNo, quiet: bool) {
        let first = self.first_over(link);
        let changed = if quiet {
            self.quiet.insert(link, first).is_none()
        } else {
            self.quiet.remove(&link).is_some()
        };
        // A tunnel that is mute was told to be quiet before, and stays so.
        let there =
            self.tunnels.iter().filter(|(side, own)| changed && side.0 == link && !own.mute);
        let held = there.filter_map(|((link, tunnel), own)| Some((own.held_by()?, *link, *tunnel)));
        self.outputs.extend(held.map(|(end, link, tunnel)| PoolsOutput::Quiet {
            end,
            link,
            tunnel,
            quiet,
        }));
        if quiet && changed {
            self.abandon(link, first);
        }
    }

    /// An `End` says whether a tunnel's end hop answers.
    pub(super) fn mute(&mut self, (link, tunnel): Side, mute: bool) {
        let Some(own) = self.tunnels.get_mut(&(link, tunnel)) else { return };
        own.mute = mute;
        if let Some(end) = own.held_by().filter(|_| !self.quiet.contains_key(&link)) {
            self.outputs.push_back(PoolsOutput::Quiet { end, link, tunnel, quiet: mute });
        }
    }

    pub(super) fn link_down(&mut self, now: Time, link: LinkNo) {
        self.quiet.remove(&link);
        let built = self.tunnels.keys().copied();
        let building = self.attempts.values().filter_map(|attempt| Some(attempt.sent.as_ref()?.0));
        let sides: Vec<Side> = built.chain(building).filter(|side| side.0 == link).collect();
        for side in sides {
            self.gone(now, side);
        }
        // What was said to the link that is gone reaches nobody.
        self.outputs
            .retain(|out| !matches!(out, PoolsOutput::Link { link: to, .. } if *to == link));
    }

    pub(super) fn dropped(&mut self, side: Side) {
        let Some(own) = self.forget(side, false) else { return };
        self.close(side);
        if let Holder::End(end) = own.holder
            && let Some(want) = self.wants.get_mut(&end)
            && !want.service
        {
            want.count = want.count.saturating_sub(1);
            if want.count == 0 {
                self.wants.remove(&end);
            }
        }
    }

    /// Takes a tunnel out of the table; tells its holder where it did not ask for that itself.
    pub(super) fn forget(&mut self, side: Side, tell: bool) -> Option<Own> {
        let own = self.tunnels.remove(&side)?;
        if tell && let Some(end) = own.held_by() {
            self.outputs.push_back(PoolsOutput::Lost { end, link: side.0, tunnel: side.1 });
        }
        Some(own)
    }

    fn count_death(&mut self, side: Side) {
        if let Some(own) = self.tunnels.get(&side)
            && !matches!(own.holder, Holder::Retired(_))
            && let Some(first) = first_id(&own.path)
        {
            self.layers.first.died(first);
        }
    }

    pub(super) fn close_all(&mut self, which: impl Fn(&Own) -> bool) {
        let sides: Vec<Side> =
            self.tunnels.iter().filter(|(_, own)| which(own)).map(|(side, _)| *side).collect();
        for side in sides {
            self.close(side);
            self.forget(side, false);
        }
    }

    /// Who may be first, from a new view or a new list of those that may.
    pub(super) fn find_firsts(&mut self, now: Now) {
        let may = |id: &RouterId| self.linked.as_ref().is_none_or(|linked| linked.contains(id));
        self.firsts = self.view.iter().filter(|it| may(&it.id())).cloned().collect();
        self.maintain(now);
    }

    /// The layers' upkeep, and what must be stored of it.
    pub(super) fn maintain(&mut self, now: Now) {
        self.maintain_at = now.time + MAINTAIN_EVERY;
        let guards = self.layers.first.list().len();
        let services = self.wants.iter().filter(|(_, want)| want.service);
        let mut shapes: Vec<Shape> =
            services.map(|(end, _)| self.shape(Purpose::Service(*end))).collect();
        shapes.push(self.shape(Purpose::Client));
        let (view, firsts) = (&self.view, &self.firsts);
        self.layers.maintain(now, &mut self.rng, view, firsts, self.config.own, &shapes);
        if self.layers.first.list().len() > guards {
            // The pause was for those that did not work; this one is not to blame.
            self.back_off.succeeded();
        }
        if self.layers.is_short(now, &self.view) {
            self.maintain_at = now.time + SHORT_PAUSE;
        }
        let bytes = self.layers.to_bytes();
        let stored = kdf::hash(STORED, &[&bytes]);
        if stored != self.stored {
            self.stored = stored;
            self.outputs.push_back(PoolsOutput::StoreGuards(bytes));
        }
    }

    /// Hands out what is in stock, then starts builds for what is missing.
    pub(super) fn balance(&mut self, now: Now) {
        let ends: Vec<EndNo> = self.wants.keys().copied().collect();
        for end in ends {
            let purpose = self.purpose_of(end);
            while self.missing(now.time, end) > 0
                && let Some(side) = self.best_for(now.time, end, purpose)
            {
                self.hand_out(now.time, side, end);
            }
            self.retire_surplus(now.time, end);
            let own = |attempt: &super::Attempt| attempt.end == Some(end);
            let under_way = self.attempts.values().filter(|attempt| own(attempt)).count();
            for _ in under_way..self.missing(now.time, end) {
                if !self.start(now, purpose, Some(end)) {
                    break;
                }
            }
        }
        while self.takes.front().is_some_and(|at| now.time.since(*at) >= DEMAND_MEMORY) {
            self.takes.pop_front();
        }
        let target = (self.config.stock + self.takes.len()).min(self.config.stock_max);
        let client = |own: &Own| own.purpose == Purpose::Client;
        let fresh = |own: &&Own| client(own) && own.is_fresh_stock(now.time);
        let fresh = self.tunnels.values().filter(fresh).count();
        let builds = self.attempts.values().filter(|it| it.purpose == Purpose::Client).count();
        let clients = self.wants.iter().filter(|(_, want)| !want.service);
        let owed: usize = clients.map(|(end, _)| self.missing(now.time, *end)).sum();
        for _ in fresh + builds.saturating_sub(owed)..target {
            if !self.start(now, Purpose::Client, None) {
                break;
            }
        }
        if fresh >= target {
            // Its successor stands.
            let over = |own: &Own| {
                matches!(own.holder, Holder::Stock(_)) && client(own) && own.rotates <= now.time
            };
            self.close_all(over);
        }
    }

    /// One that is about to end and needs no successor is left in time too.
    fn retire_surplus(&mut self, now: Time, end: EndNo) {
        if self.missing(now, end) > 0 {
            return;
        }
        let old = |own: &Own| own.serves(end) && own.rotates <= now;
        for ((link, tunnel), own) in self.tunnels.iter_mut().filter(|(_, own)| old(own)) {
            own.holder = Holder::Retired(end);
            let (link, tunnel) = (*link, *tunnel);
            self.outputs.push_back(PoolsOutput::Retire { end, link, tunnel });
        }
    }

    fn purpose_of(&self, end: EndNo) -> Purpose {
        match self.wants.get(&end) {
            Some(want) if want.service => Purpose::Service(end),
            _ => Purpose::Client,
        }
    }

    /// How many tunnels `end` lacks; one about to end counts as missing, and so does a service's that
    /// gives no sign of life: its clients need another gateway before that one is gone.
    fn missing(&self, now: Time, end: EndNo) -> usize {
        let Some(want) = self.wants.get(&end) else { return 0 };
        let lasting = self.tunnels.iter().filter(|(side, own)| {
            let quiet = want.service && (own.mute || self.quiet.contains_key(&side.0));
            own.serves(end) && now < own.rotates && !quiet
        });
        want.count.saturating_sub(lasting.count())
    }

    /// Whether `end` lacks a tunnel now, or would so soon that its successor may not be built in
    /// time. Else one built for it replaces one about to end, and the stock stays for emergencies.
    fn urgent(&self, now: Time, end: EndNo) -> bool {
        let lasts = |own: &&Own| own.serves(end) && now < own.reserve;
        let lasting = self.tunnels.values().filter(lasts).count();
        self.wants.get(&end).is_some_and(|want| lasting < want.count)
    }

    /// The tunnel in stock that suits `end` best: over the guard that it uses least, so that one
    /// guard's death does not take all its tunnels; then the one that lasts longest.
    fn best_for(&self, now: Time, end: EndNo, purpose: Purpose) -> Option<Side> {
        let want = self.wants.get(&end)?;
        let urgent = self.urgent(now, end);
        let by_guard = |own: &Own| {
            let same =
                |other: &&Own| other.serves(end) && first_id(&other.path) == first_id(&own.path);
            self.tunnels.values().filter(same).count()
        };
        self.tunnels
            .iter()
            .filter(|(_, own)| own.purpose == purpose && own.is_fresh_stock(now))
            .filter(|(_, own)| (urgent || own.made_for == Some(end)) && own.suits(&want.avoid))
            .min_by_key(|(side, own)| {
                let quiet = self.quiet.contains_key(&side.0);
                (quiet, by_guard(own), Reverse(own.rotates), **side)
            })
            .map(|(side, _)| *side)
    }

    fn hand_out(&mut self, now: Time, side: Side, end: EndNo) {
        let Some(own) = self.tunnels.get_mut(&side) else { return };
        let path = own.path.hops.clone();
        let Holder::Stock(layers) = std::mem::replace(&mut own.holder, Holder::End(end)) else {
            return;
        };
        let (link, tunnel) = side;
        self.open(side, end);
        self.outputs.push_back(PoolsOutput::Ready { end, link, tunnel, layers, path });
        if self.quiet.contains_key(&link) {
            self.outputs.push_back(PoolsOutput::Quiet { end, link, tunnel, quiet: true });
        }
        let old = |own: &Own| own.serves(end) && own.rotates <= now;
        let old = self.tunnels.iter_mut().filter(|(_, own)| old(own));
        if let Some(((link, tunnel), own)) = old.min_by_key(|(_, own)| own.dies) {
            own.holder = Holder::Retired(end);
            self.renewed += 1;
            let (link, tunnel) = (*link, *tunnel);
            self.outputs.push_back(PoolsOutput::Retire { end, link, tunnel });
        }
    }
}
