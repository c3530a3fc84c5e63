//! Builds under way.
//!
//! Lives here: starting a build with a fresh path, its answer, its failure and who is charged. Does
//! not live here: how many builds there should be (`stock.rs`).

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Attempt, BUILDS_MAX, CLIENT_LIFE, Holder, NO_GUARD_PAUSE, Own, Pools, PoolsOutput, Purpose,
    RECORD_MINUTES, RENEWAL_RESERVE, SERVICE_LIFE, SHORT_PAUSE, SMALL_MEMORY, STOCK_END, Side,
};
use crate::{
    id::{EndNo, LinkNo, RouterId},
    plane::{Lane, LinkCommand},
    time::{Now, Time},
    tunnel::{
        build::{self, BuildFailure, FailureReason, OwnerLayers},
        layers::Shape,
        select::{self, Avoid, Path, ROUTERS_ENOUGH, Relaxed, TooFewRouters, Wanted},
    },
    wire::{BUILD_REPLY_LEN, LinkMessage, RouterDescriptor},
};

/// Who may begin a path.
enum First {
    Guard(Arc<RouterDescriptor>),
    /// No guard can, in a network so small that any router may.
    Anyone,
    Nobody,
}

impl Pools {
    /// Starts one build; says whether it did.
    pub(super) fn start(&mut self, now: Now, purpose: Purpose, end: Option<EndNo>) -> bool {
        if now.time < self.back_off.next()
            || self.attempts.len() >= self.back_off.builds_max(BUILDS_MAX)
        {
            return false;
        }
        if let Err(until) = self.pace.may(now.time) {
            self.back_off.hold(until);
            return false;
        }
        let Some(path) = self.path(now, purpose, end) else { return false };
        self.pace.spend(now.time);
        let Some(hop) = path.hops.first().map(Arc::clone) else { return false };
        let ask = self.next_ask;
        self.next_ask += 1;
        let deadline = now.time + self.limit.get();
        let attempt = Attempt { purpose, end, path, started: now.time, deadline, sent: None };
        self.attempts.insert(ask, attempt);
        self.outputs.push_back(PoolsOutput::Connect { ask, hop });
        true
    }

    fn path(&mut self, now: Now, purpose: Purpose, end: Option<EndNo>) -> Option<Path> {
        let avoid = end.and_then(|end| self.wants.get(&end)).map(|want| want.avoid.clone());
        let avoid = avoid.unwrap_or_default();
        let shape = self.shape(purpose);
        let (first, relaxed_guard) = match self.first(now, purpose, &avoid) {
            First::Guard(guard) => (Some(guard), false),
            First::Anyone if self.linked.is_some() => (Some(self.any_first(&avoid)?), true),
            First::Anyone => (None, true),
            First::Nobody => return None,
        };
        let not_last = self.last_hops(purpose);
        let load = |id| self.load(purpose, end, id);
        let within = self.layers.within(now, &self.view, self.config.own, shape, load);
        let mut resting = self.resting.at(now.time);
        resting.extend(self.quiet_hops());
        let wanted = Wanted {
            view: &self.view,
            own: self.config.own,
            hops: shape.hops,
            first: first.as_ref(),
            within: &within,
            avoid: &avoid,
            resting: &resting,
            not_last: &not_last,
        };
        match select::choose(&mut self.rng, now.wall, &wanted) {
            Ok(mut path) => {
                path.relaxed.guard = relaxed_guard;
                self.said_too_few = None;
                self.say_small(now.time, path.relaxed);
                Some(path)
            }
            Err(too_few) => {
                self.say_too_few(too_few);
                None
            }
        }
    }

    /// How long its paths are, and what their last hops are of.
    pub(super) fn shape(&self, purpose: Purpose) -> Shape {
        let Purpose::Service(end) = purpose else {
            return Shape { hops: self.config.client_hops, gateways: None };
        };
        let want = self.wants.get(&end);
        let hops = want.and_then(|want| want.hops).unwrap_or(self.config.service_hops);
        let gateways = want.and_then(|want| want.layer);
        Shape { hops: hops.clamp(1, build::HOPS_MAX), gateways }
    }

    /// How many paths lead through a router, built or under way: those of the same service; or of the
    /// same client `End`, and if the path is for the stock, of all.
    fn load(&self, purpose: Purpose, end: Option<EndNo>, id: RouterId) -> usize {
        let same = |of: Purpose, whose: Option<EndNo>| {
            of == purpose && (of != Purpose::Client || end.is_none() || whose == end)
        };
        let built = self.tunnels.values().map(|own| (own.purpose, own.held_by(), &own.path));
        let building = self.attempts.values().map(|it| (it.purpose, it.end, &it.path));
        let through = built.chain(building).filter(|(_, _, path)| leads_through(path, id));
        through.filter(|(of, whose, _)| same(*of, *whose)).count()
    }

    /// First hops that give no sign of life.
    fn quiet_hops(&self) -> BTreeSet<RouterId> {
        self.quiet.values().flatten().copied().collect()
    }

    /// Who is at the other end of a link over which tunnels begin, or builds are under way.
    pub(super) fn first_over(&self, link: LinkNo) -> Option<RouterId> {
        let built = self.tunnels.iter().map(|(side, own)| (side.0, &own.path));
        let building = self.attempts.values();
        let building = building.filter_map(|it| Some((it.sent.as_ref()?.0.0, &it.path)));
        built.chain(building).find(|(over, _)| *over == link).and_then(|(_, path)| first_id(path))
    }

    /// The first hop to begin with.
    ///
    /// One that gives no sign of life is the last choice; then the load counts, first that of the
    /// same purpose: so a service's gateways are spread over its guards, and one guard's death or
    /// silence leaves some.
    fn first(&mut self, now: Now, purpose: Purpose, avoid: &Avoid) -> First {
        let quiet = self.quiet_hops();
        let load = |id: RouterId| {
            let built = self.tunnels.values().map(|own| (own.purpose, &own.path));
            let building = self.attempts.values().map(|it| (it.purpose, &it.path));
            let through = built.chain(building).filter(|(_, path)| first_id(path) == Some(id));
            let (same, others): (Vec<_>, Vec<_>) = through.partition(|(it, _)| *it == purpose);
            (quiet.contains(&id), same.len(), others.len())
        };
        if let Some(guard) = self.layers.first.pick(now, &self.firsts, avoid, load) {
            self.said_no_guard = false;
            // All guards are quiet or gone, in a network so small that any router may be first.
            if self.quiet_hops().contains(&guard.id()) && self.firsts.len() < ROUTERS_ENOUGH {
                return First::Anyone;
            }
            return First::Guard(guard);
        }
        if self.firsts.len() < ROUTERS_ENOUGH {
            return First::Anyone;
        }
        self.back_off.hold(now.time + NO_GUARD_PAUSE);
        self.maintain_at = self.maintain_at.min(now.time + NO_GUARD_PAUSE);
        if !self.said_no_guard {
            self.said_no_guard = true;
            self.outputs.push_back(PoolsOutput::NoGuard);
        }
        First::Nobody
    }

    /// Anybody that may be first, where not everybody may.
    fn any_first(&mut self, avoid: &Avoid) -> Option<Arc<RouterDescriptor>> {
        let quiet = self.quiet_hops();
        let fit: Vec<_> = self.firsts.iter().filter(|it| !avoid.bans(it)).collect();
        let well: Vec<_> = fit.iter().filter(|it| !quiet.contains(&it.id())).copied().collect();
        let fit = if well.is_empty() { fit } else { well };
        let at = self.rng.below((fit.len() as u64).max(1));
        fit.get(usize::try_from(at).ok()?).map(|it| Arc::clone(it))
    }

    /// Where tunnels of the same service end already: another of them should end elsewhere.
    fn last_hops(&self, purpose: Purpose) -> BTreeSet<RouterId> {
        if purpose == Purpose::Client {
            return BTreeSet::new();
        }
        let built = self.tunnels.values().map(|own| (own.purpose, &own.path));
        let building = self.attempts.values().map(|attempt| (attempt.purpose, &attempt.path));
        built
            .chain(building)
            .filter(|(of, _)| *of == purpose)
            .filter_map(|(_, path)| path.hops.last().map(|hop| hop.id()))
            .collect()
    }

    fn say_too_few(&mut self, too_few: TooFewRouters) {
        if self.said_too_few != Some(too_few) {
            self.said_too_few = Some(too_few);
            self.outputs.push_back(PoolsOutput::TooFewRouters(too_few));
        }
    }

    fn say_small(&mut self, now: Time, relaxed: Relaxed) {
        let before = self.small_since;
        if relaxed.any() {
            self.small_since = Some(now);
            if before.is_none() {
                tracing::debug!(?relaxed, "anonymity set too small");
                self.outputs.push_back(PoolsOutput::AnonymitySetTooSmall(true));
            }
        } else if before.is_some_and(|last| now.since(last) >= SMALL_MEMORY) {
            self.small_since = None;
            self.outputs.push_back(PoolsOutput::AnonymitySetTooSmall(false));
        }
    }

    /// The first hop was reached: sends the build.
    pub(super) fn connected(&mut self, now: Now, ask: u64, side: Side) {
        let Some(attempt) = self.attempts.get_mut(&ask) else { return };
        if attempt.sent.is_some() {
            return;
        }
        if let Some(first) = first_id(&attempt.path) {
            self.layers.first.reached(first);
        }
        match build::create(&mut self.rng, now.wall, &attempt.path.hops, RECORD_MINUTES) {
            Ok((message, pending)) => {
                attempt.sent = Some((side, pending));
                self.send(side, LinkMessage::Build { tunnel: side.1, message });
            }
            Err(build::CreateError::BadKey { hop } | build::CreateError::NoAddress { hop }) => {
                let Some(attempt) = self.failed(now.time, ask) else { return };
                self.charge(now.time, &attempt.path, hop);
            }
            Err(build::CreateError::Hops | build::CreateError::Lifetime) => {
                self.failed(now.time, ask);
            }
        }
    }

    /// The first hop could not be reached.
    pub(super) fn unreachable(&mut self, now: Time, ask: u64) {
        let Some(attempt) = self.failed(now, ask) else { return };
        if let Some(first) = first_id(&attempt.path) {
            self.layers.first.unreachable(now, first);
            self.resting.charge(now, first);
        }
    }

    /// No answer in time: nobody can be charged, so all but the guard rest for a little.
    pub(super) fn silent(&mut self, now: Time, ask: u64) {
        let Some(attempt) = self.failed(now, ask) else { return };
        let Some((side, _)) = attempt.sent else {
            if let Some(first) = first_id(&attempt.path) {
                self.layers.first.unreachable(now, first);
                self.resting.charge(now, first);
            }
            return;
        };
        self.close(side);
        self.count(&attempt.path, false);
        self.suspect_all(now, &attempt.path);
        for hop in attempt.path.hops.iter().skip(1) {
            self.blame(now, hop.id());
        }
    }

    /// An answer.
    pub(super) fn reply(&mut self, now: Time, side: Side, reply: &[u8; BUILD_REPLY_LEN]) {
        let Some(ask) = self.attempt_at(side) else { return };
        let Some(mut attempt) = self.attempts.remove(&ask) else { return };
        let Some((_, pending)) = attempt.sent.take() else { return };
        match pending.open(reply) {
            Ok(layers) => self.finished(now, side, attempt, layers),
            Err(BuildFailure { hop, reason }) => {
                tracing::debug!(hop, ?reason, "build failed");
                self.close(side);
                self.failed += 1;
                self.back_off.failed(now, &mut self.rng);
                self.count(&attempt.path, false);
                self.charge(now, &attempt.path, hop);
                if reason == FailureReason::Refused {
                    if let Some(hop) = attempt.path.hops.get(hop).filter(|_| hop > 0) {
                        self.blame(now, hop.id());
                    }
                } else if let Some(next) = attempt.path.hops.get(hop + 1) {
                    // Perhaps its doing; but it must not be in the charged hop's power to say so.
                    self.resting.suspect(now, next.id());
                    self.blame(now, next.id());
                }
            }
        }
    }

    fn finished(&mut self, now: Time, side: Side, attempt: Attempt, layers: OwnerLayers) {
        let Attempt { purpose, end, path, started, .. } = attempt;
        self.built += 1;
        self.limit.took(now.since(started));
        self.back_off.succeeded();
        self.count(&path, true);
        for hop in &path.hops {
            self.resting.clear(hop.id());
        }
        for hop in path.hops.iter().skip(1) {
            self.layers.reached(hop.id());
        }
        let usual = match purpose {
            Purpose::Client => CLIENT_LIFE,
            Purpose::Service(end) if self.wants.contains_key(&end) => SERVICE_LIFE,
            Purpose::Service(_) => return self.close(side), // it is gone meanwhile
        };
        let life = usual.mul_f64(0.75 + self.rng.unit() / 2.0);
        let own = Own {
            purpose,
            made_for: end,
            path,
            rotates: now + life.mul_f64(0.75),
            reserve: now + life.saturating_sub(RENEWAL_RESERVE),
            dies: now + life,
            holder: Holder::Stock(Box::new(layers)),
            mute: false,
        };
        self.tunnels.insert(side, own);
        self.open(side, STOCK_END);
    }

    /// A lane closed, or its link ended, while its build was under way: the first hop did that.
    pub(super) fn hung_up(&mut self, now: Time, ask: u64) {
        let Some(attempt) = self.failed(now, ask) else { return };
        self.count(&attempt.path, false);
        self.charge(now, &attempt.path, 0);
    }

    /// The first hop of builds under way gives no sign of life: others take their places at once,
    /// and not when their time is over.
    pub(super) fn abandon(&mut self, link: LinkNo, first: Option<RouterId>) {
        let on_it = |attempt: &Attempt| match &attempt.sent {
            Some((at, _)) => at.0 == link,
            None => first.is_some() && first_id(&attempt.path) == first,
        };
        let over: Vec<_> = self.attempts.extract_if(|_, attempt| on_it(attempt)).collect();
        for (_, attempt) in over {
            self.failed += 1;
            self.count(&attempt.path, false);
            if let Some((side, _)) = attempt.sent {
                self.close(side);
            }
        }
    }

    pub(super) fn attempt_at(&self, side: Side) -> Option<u64> {
        let at = |attempt: &Attempt| attempt.sent.as_ref().is_some_and(|(at, _)| *at == side);
        self.attempts.iter().find(|(_, attempt)| at(attempt)).map(|(ask, _)| *ask)
    }

    fn failed(&mut self, now: Time, ask: u64) -> Option<Attempt> {
        let attempt = self.attempts.remove(&ask)?;
        self.failed += 1;
        self.back_off.failed(now, &mut self.rng);
        Some(attempt)
    }

    /// Builds are counted per guard (P11).
    fn count(&mut self, path: &Path, success: bool) {
        if let Some(first) = first_id(path) {
            self.layers.first.built(first, success);
        }
    }

    /// A charged hop rests. A guard does too where it is one hop among others; as first hop it is
    /// judged by its counts alone.
    fn charge(&mut self, now: Time, path: &Path, hop: usize) {
        if let Some(hop) = path.hops.get(hop) {
            self.resting.charge(now, hop.id());
        }
    }

    /// A hop behind the first may have failed a build: its layer tries others until one through it comes
    /// about, and if none does for hours, another takes its place. Whoever stands beside it can say
    /// that it failed, but not keep others from succeeding through it.
    fn blame(&mut self, now: Time, id: RouterId) {
        if self.layers.unreachable(now, id) {
            self.maintain_at = self.maintain_at.min(now + SHORT_PAUSE);
        }
    }

    pub(super) fn suspect_all(&mut self, now: Time, path: &Path) {
        for hop in path.hops.iter().skip(1) {
            self.resting.suspect(now, hop.id());
        }
    }

    pub(super) fn open(&mut self, side: Side, end: EndNo) {
        let lane = Box::new(Lane::ToEnd { end });
        self.command(side, LinkCommand::Open { tunnel: side.1, lane });
    }

    pub(super) fn close(&mut self, side: Side) {
        self.command(side, LinkCommand::Close { tunnel: side.1, tell: true });
    }

    fn send(&mut self, side: Side, message: LinkMessage) {
        self.command(side, LinkCommand::Send(message));
    }

    fn command(&mut self, side: Side, command: LinkCommand) {
        self.outputs.push_back(PoolsOutput::Link { link: side.0, command });
    }
}

/// Who begins a path.
pub(super) fn first_id(path: &Path) -> Option<RouterId> {
    path.hops.first().map(|hop| hop.id())
}

/// Whether a path has a router behind its first hop.
fn leads_through(path: &Path, id: RouterId) -> bool {
    path.hops.iter().skip(1).any(|hop| hop.id() == id)
}
