//! Two days of a network in which gossip has become silent: what asking after routers is good for.

use std::collections::BTreeSet;

use warren_overlay::{
    answer::Answer,
    garlic::DescriptorBytes,
    ring::{Upkeep, UpkeepInput, UpkeepOutput, UpkeepStatus},
};

use super::*;

const ROUTERS: Seat = 40;
const KNOWN: usize = 32;
const DEGREE: usize = 8;
/// How long a descriptor holds; a new one is made at half of it.
const DAY: u32 = 24 * 60;
/// Gossip goes on so long.
const TALK: Time = Time::from_micros(3_600_000_000);
/// These leave after six hours.
const LEAVERS: std::ops::Range<Seat> = 34..39;
const LEFT: u32 = 6 * 60;
/// What the days are cut into: the pause between two questions.
const STEP: Duration = Duration::from_secs(20);

/// Routers that each keep eight hops of their first sample, and ask.
struct Days {
    rings: Rings,
    streams: Streams,
    upkeep: Vec<Upkeep>,
    kept: Vec<Vec<RouterId>>,
    /// Whom each had sampled when the talk ended.
    sampled: Vec<BTreeSet<RouterId>>,
    dead: BTreeSet<Seat>,
    /// Whether anybody is asked.
    asks: bool,
    rng: Rng,
}

impl Days {
    fn new(asks: bool) -> Self {
        let streams = Streams::new(1);
        let network = network();
        let all: Vec<_> = (0..ROUTERS).map(|seat| Self::describe(streams, seat, EPOCH)).collect();
        let first = |seat: Seat| (0..SEEDS.min(seat)).collect();
        let apart = Duration::from_millis(100);
        let rings = Rings::of(&network, &all, &first, (DEGREE, KNOWN), apart, streams);
        let upkeep =
            |seat: Seat| Upkeep::new(Time::ZERO, network.id(), streams.of("upkeep", seat.into()));
        Self {
            rings,
            streams,
            upkeep: (0..ROUTERS).map(upkeep).collect(),
            kept: Vec::new(),
            sampled: Vec::new(),
            dead: BTreeSet::new(),
            asks,
            rng: streams.of("exits", 0),
        }
    }

    /// A router as it says it is at that minute, for a day.
    fn describe(streams: Streams, seat: Seat, published: Wall) -> Arc<RouterDescriptor> {
        let keys = || streams.of("keys", seat.into());
        let it = descriptor(&network(), &mut keys(), address(seat), published);
        let fields = DescriptorFields { expiry: published.plus(DAY), ..it.fields().clone() };
        Arc::new(RouterDescriptor::sign(fields, &IdentityKey::generate(&mut keys())).unwrap())
    }

    fn known(&self, seat: Seat) -> BTreeSet<RouterId> {
        self.rings.members[seat as usize].ring.sampled().map(|it| it.id()).collect()
    }

    fn alive(&self) -> impl Iterator<Item = Seat> + '_ {
        (0..ROUTERS).filter(|seat| !self.dead.contains(seat))
    }

    fn run(&mut self, until: u32) {
        let end = Time::from_micros(u64::from(until) * 60_000_000);
        while self.rings.now < end {
            let now = self.rings.now + STEP;
            self.rings
                .run(now, &mut |_, _, said| now < TALK || !matches!(said, RingMessage::Gossip(_)));
            self.keep_some();
            self.renew();
            for seat in 0..ROUTERS {
                if self.asks && !self.dead.contains(&seat) {
                    self.tend(seat);
                }
            }
        }
    }

    /// At the end of the first hour everybody draws hops to keep.
    fn keep_some(&mut self) {
        if !self.kept.is_empty() || self.rings.now < TALK {
            return;
        }
        for seat in 0..ROUTERS {
            let known = self.known(seat);
            let kept: Vec<_> = known.iter().copied().take(8).collect();
            self.sampled.push(known);
            self.rings.members[seat as usize].ring.protect(kept.iter().copied());
            self.kept.push(kept);
        }
    }

    /// Each router describes itself anew twice a day, at a time of its own.
    fn renew(&mut self) {
        let (now, step) = (self.rings.now, u64::try_from(STEP.as_micros()).unwrap());
        let half = u64::from(DAY / 2) * 60_000_000;
        for seat in 0..ROUTERS {
            let own = half / u64::from(ROUTERS) * u64::from(seat);
            let due = now.as_micros() >= own && (now.as_micros() - own) % half < step;
            if due && !self.dead.contains(&seat) {
                let it = Self::describe(self.streams, seat, self.rings.clock().wall);
                self.rings.members[seat as usize].descriptor = Arc::clone(&it);
                self.rings.input(seat, Input::OwnDescriptor(it), &mut |_, _, _| true);
            }
        }
    }

    /// Who is asked is a router of chance; a fifth of them say that nobody is there.
    fn tend(&mut self, seat: Seat) {
        let now = self.rings.clock();
        let at = seat as usize;
        self.upkeep[at].handle_timeout(now);
        while let Some(output) = self.upkeep[at].poll_output() {
            match output {
                UpkeepOutput::Look => {
                    let sampled = self.rings.members[at].ring.sampled().cloned().collect();
                    let kept = self.kept.get(at).cloned().unwrap_or_default();
                    let failed = BTreeSet::new();
                    let known = UpkeepInput::Known { sampled, kept, failed };
                    self.upkeep[at].handle_input(now, known);
                }
                UpkeepOutput::Ask(location) => {
                    let alive: Vec<_> = self.alive().collect();
                    let exit = alive[usize::try_from(self.rng.below(alive.len() as u64)).unwrap()];
                    let who = |it: &&Seat| {
                        self.rings.members[**it as usize].descriptor.location() == location
                    };
                    let there = alive.iter().find(who).filter(|_| !exit.is_multiple_of(5));
                    let answer = there.map_or(Answer::NotFound, |it| {
                        let bytes = self.rings.members[*it as usize].descriptor.encode();
                        Answer::Found(DescriptorBytes::new(bytes).unwrap())
                    });
                    let exit = self.rings.members[exit as usize].descriptor.id();
                    let input = UpkeepInput::Answered { exit, place: None, answer };
                    self.upkeep[at].handle_input(now, input);
                }
                UpkeepOutput::Fresh(it) => _ = self.rings.members[at].ring.renew(now, &it),
                UpkeepOutput::Gone(id) => self.rings.members[at].ring.lose(now, &id),
            }
        }
        self.rings.drain(seat, &mut |_, _, _| true);
    }

    /// It is there no more, and nobody hears of it but those whose links to it break.
    fn kill(&mut self, seat: Seat) {
        self.dead.insert(seat);
        let links: Vec<_> = self.rings.members[seat as usize].links.keys().copied().collect();
        for link in links {
            self.rings.close(seat, link);
        }
        let own = Arc::clone(&self.rings.members[seat as usize].descriptor);
        self.rings.seats.remove(&own.id());
        let config = RingConfig { network: network(), own, degree: DEGREE, known_max: KNOWN };
        // Never started, it says nothing.
        self.rings.members[seat as usize].ring = Ring::new(config, self.rng.fork());
    }

    fn lived(asks: bool, until: u32) -> Self {
        let mut this = Self::new(asks);
        this.run(LEFT);
        LEAVERS.for_each(|seat| this.kill(seat));
        this.run(until);
        this
    }

    fn totals(&self) -> UpkeepStatus {
        let mut sum = UpkeepStatus::default();
        for status in self.upkeep.iter().map(Upkeep::status) {
            sum.asked += status.asked;
            sum.found += status.found;
            sum.missed += status.missed;
            sum.gone += status.gone;
        }
        sum
    }

    /// Of these that each router had and that live, how many it knows; and how many there are.
    fn known_of(&self, had: &[impl IntoIterator<Item = RouterId> + Clone]) -> (usize, usize) {
        let dead: BTreeSet<_> = self.dead.iter().map(|seat| self.id(*seat)).collect();
        let mut sum = (0, 0);
        for seat in self.alive() {
            let known = self.known(seat);
            for id in had[seat as usize].clone().into_iter().filter(|id| !dead.contains(id)) {
                sum.0 += usize::from(known.contains(&id));
                sum.1 += 1;
            }
        }
        sum
    }

    fn id(&self, seat: Seat) -> RouterId {
        self.rings.members[seat as usize].descriptor.id()
    }
}

#[test]
fn kept_hops_survive_two_days_in_which_nobody_names_them_and_who_left_falls_out() {
    let days = Days::lived(true, 2 * DAY);
    let (kept, sampled) = (days.known_of(&days.kept), days.known_of(&days.sampled));
    let ghosts = |seat: Seat| {
        let known = days.known(seat);
        LEAVERS.filter(|dead| known.contains(&days.id(*dead))).count()
    };
    let ghosts: usize = days.alive().map(ghosts).sum();
    println!("kept {kept:?}, sampled {sampled:?}, {:?}", days.totals());
    // A fifth of the exits lie, so now and then three do so in a row. A kept hop is found again within hours;
    // others are when somebody names them, and here nobody does.
    assert!(kept.0 * 100 >= kept.1 * 95, "{kept:?}");
    assert!(sampled.0 * 100 >= sampled.1 * 90, "{sampled:?}");
    assert_eq!(ghosts, 0);
    let most = 2 * 24 * 240;
    assert!(days.upkeep.iter().all(|it| it.status().asked < most));
    // Without it they are forgotten after a day.
    let days = Days::lived(false, DAY + 3 * 60);
    let kept = days.known_of(&days.kept);
    println!("without: kept {kept:?}");
    assert!(kept.0 * 100 <= kept.1 * 60, "{kept:?}: nothing was tested");
}
