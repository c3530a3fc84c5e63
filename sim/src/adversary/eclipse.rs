//! Eclipse: hostile routers try to be all neighbours of one newcomer, and all that it knows.
//!
//! Lives here: production rings (`rings.rs`) into which a victim comes when they stand; hostile ones have
//! paid for places close to its own, dial it, ask to be its neighbours, name one another to it and answer its
//! questions with each other. Does not live here: whom a poisoned gossip reaches beside it (`gossip.rs`), caps
//! for each address prefix: the attacker is granted as many prefixes as routers.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::{
    answer::Answer,
    ring::{DESCRIPTORS_MAX, Found, Reach, RingMessage, VIEW_MAX, admission::Network},
    time::Time,
    wire::RouterDescriptor,
};

use super::{Adversary, Outcome, below, hostile};
use crate::{
    curve::Trend,
    metric::{Metric, Metrics},
    rings::{self, EPOCH, Rings, Seat},
    run::Watcher,
    scenario::{Routing, ScenarioError, value},
    streams::Streams,
    world::address,
};

/// The first routers are the seeds of all others, and honest.
const SEEDS: Seat = 3;
/// Most routers: some minutes of CPU an hour.
const ROUTERS_MAX: u32 = 4_000;
/// Most places that are drawn: some ten seconds.
const PROOFS_MAX: u64 = 100_000;
/// A router starts this often; the victim when all others have had as long again.
const APART: Duration = Duration::from_millis(100);
/// Attackers act this often: their answers are late by no more.
const STEP: Duration = Duration::from_millis(500);
/// Each of them names others and asks to be a neighbour this often.
const EVERY_STEPS: u32 = 60;
/// The least degree that a router may have: who has few neighbours is let in first.
const DEGREE: u8 = 4;

/// Routers around one newcomer.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Eclipse {
    /// Share of the routers.
    pub hostile: f64,
    /// Proofs made for each of them; the one whose place is closest to the victim's is kept.
    #[serde(default = "default_grind")]
    pub grind: u32,
    /// Of the three routers that the victim's invitation names, so many are hostile.
    #[serde(default)]
    pub seeds: u32,
    /// Other routers that each remembers.
    #[serde(default = "default_known")]
    pub known: u32,
    /// How long it goes on after the victim came.
    #[serde(default = "default_minutes")]
    pub minutes: u32,
}

fn default_grind() -> u32 {
    1
}

fn default_known() -> u32 {
    128
}

fn default_minutes() -> u32 {
    15
}

/// Something that the victim says to a hostile router.
#[derive(Debug)]
enum Sight {
    /// A question, with the number that its answer must have.
    Asked(RingMessage),
    /// Time to name others.
    Turn,
}

/// Says what it can to have the victim know its own alone.
struct Liar {
    own: Vec<Arc<RouterDescriptor>>,
    next: usize,
    said: Option<RingMessage>,
}

impl Adversary for Liar {
    type Sight = Sight;
    /// What is said to the victim.
    type Guess = RingMessage;

    fn see(&mut self, sight: Sight) {
        let from_next = self.own.iter().cycle().skip(self.next);
        let named = from_next.take(DESCRIPTORS_MAX.min(self.own.len())).cloned().collect();
        self.next = (self.next + DESCRIPTORS_MAX) % self.own.len().max(1);
        self.said = match sight {
            Sight::Turn => Some(RingMessage::Gossip(named)),
            Sight::Asked(RingMessage::Request { id, class, .. }) => {
                let answer = Answer::Found(Found::Routers(named));
                Some(RingMessage::Answer { id, class, asked: 1, answer })
            }
            Sight::Asked(_) => None,
        };
    }

    fn guess(&self) -> Option<RingMessage> {
        self.said.clone()
    }
}

struct Stage {
    rings: Rings,
    hostile: BTreeSet<Seat>,
    victim: Seat,
    liar: Liar,
}

impl Stage {
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
    fn share(&self, of: &[Seat]) -> f64 {
        of.iter().filter(|it| self.hostile.contains(it)).count() as f64 / of.len().max(1) as f64
    }

    /// Until `until`: what the victim asks hostile routers is theirs to answer.
    fn turn(&mut self, until: Time) {
        let (mut asked, victim) = (Vec::new(), self.victim);
        let hostile = &self.hostile;
        self.rings.run(until, &mut |from, to, message| match message {
            RingMessage::Request { .. } if from == victim && hostile.contains(&to) => {
                asked.push((to, message.clone()));
                false
            }
            RingMessage::Gossip(_) => !hostile.contains(&from),
            _ => true,
        });
        for (to, message) in asked {
            self.liar.see(Sight::Asked(message));
            self.say(to);
        }
    }

    fn say(&mut self, from: Seat) {
        if let Some(message) = self.liar.guess() {
            self.rings.say(from, self.victim, message);
        }
    }

    /// One hostile router's turn.
    fn press(&mut self, from: Seat) {
        if !self.rings.are_linked(from, self.victim) {
            return self.rings.dial(from, self.victim);
        }
        let around = self.rings.neighbours(self.victim);
        if !around.contains(&from) {
            let hello = RingMessage::Hello { degree: DEGREE, reach: Reach::Near };
            self.rings.say(from, self.victim, hello);
        }
        self.liar.see(Sight::Turn);
        self.say(from);
    }
}

impl Eclipse {
    pub(super) fn check(&self, routers: u32) -> Result<(), ScenarioError> {
        let hostile = hostile(self.hostile, routers)?;
        if routers > ROUTERS_MAX || hostile + SEEDS + 1 > routers || hostile < self.seeds {
            let why =
                format!("up to {ROUTERS_MAX}, four of them honest, hostile ones for all seeds");
            return Err(value("network.routers", why));
        }
        if self.grind == 0 || u64::from(hostile) * u64::from(self.grind) > PROOFS_MAX {
            return Err(value("adversary.grind", format!("up to {PROOFS_MAX} proofs in all")));
        }
        if self.seeds > SEEDS {
            return Err(value("adversary.seeds", "0 to 3"));
        }
        if !(32..=VIEW_MAX).contains(&(self.known as usize)) {
            return Err(value("adversary.known", format!("32 to {VIEW_MAX}")));
        }
        match self.minutes {
            1..=1_440 => Ok(()),
            minutes => Err(value("adversary.minutes", format!("1 to 1,440, not {minutes}"))),
        }
    }

    /// All routers; each hostile one where the best of its proofs puts it.
    fn cast(
        &self,
        network: &Network,
        routers: u32,
        hostile: &BTreeSet<Seat>,
        streams: Streams,
    ) -> Vec<Arc<RouterDescriptor>> {
        let one = |seat: Seat, attempt: u32| {
            let mut keys = streams.of("keys", u64::from(attempt) << 32 | u64::from(seat));
            rings::descriptor(network, &mut keys, address(seat), EPOCH)
        };
        let victim = one(routers - 1, 0).location();
        let best = |seat: Seat| {
            let proofs = if hostile.contains(&seat) { self.grind } else { 1 };
            let all = (0..proofs).map(|attempt| one(seat, attempt));
            all.min_by_key(|it| it.location().distance(victim))
        };
        (0..routers).filter_map(best).collect()
    }

    pub(super) fn run(
        &self,
        routing: &Routing,
        streams: Streams,
        watcher: &mut dyn Watcher,
    ) -> Option<Outcome> {
        let (routers, degree) = (routing.network.routers, routing.network.degree as usize);
        let victim = routers - 1;
        let mut draw = streams.of("hostile", 0);
        let mut hostile_seats = BTreeSet::new();
        while hostile_seats.len() < hostile(self.hostile, routers).unwrap_or(1) as usize {
            hostile_seats.insert(SEEDS + below(&mut draw, victim - SEEDS));
        }
        let network = rings::network();
        let all = self.cast(&network, routers, &hostile_seats, streams);
        let own = hostile_seats.iter().filter_map(|it| all.get(*it as usize).cloned()).collect();
        // The victim comes last; that it starts no earlier than its seat says gives the others their time.
        let invited: Vec<Seat> =
            hostile_seats.iter().copied().take(self.seeds as usize).chain(0..SEEDS).collect();
        let seeds = |seat: Seat| -> Vec<Seat> {
            let known = if seat == victim { invited.clone() } else { (0..SEEDS).collect() };
            known.into_iter().take(SEEDS as usize).collect()
        };
        let known = self.known as usize;
        let rings = Rings::of(&network, &all, &seeds, (degree, known), APART, streams);
        let liar = Liar { own, next: 0, said: None };
        let mut stage = Stage { rings, hostile: hostile_seats, victim, liar };
        let begin = Time::ZERO + APART * victim;
        let end = begin + Duration::from_secs(60 * u64::from(self.minutes));
        let (mut now, mut step) = (begin, 0u32);
        stage.turn(begin);
        let (mut around, mut view) = (Vec::new(), Vec::new());
        while now < end {
            now = (now + STEP).min(end);
            if !watcher.progress(now, stage.rings.events) {
                return None;
            }
            stage.turn(now);
            for from in stage.hostile.clone() {
                if (step + from).is_multiple_of(EVERY_STEPS) {
                    stage.press(from);
                }
            }
            step += 1;
            if step.is_multiple_of(EVERY_STEPS) || now >= end {
                let minutes = now.since(begin).as_secs_f64() / 60.0;
                around.push((minutes, stage.share(&stage.rings.neighbours(victim))));
                view.push((minutes, stage.share(stage.rings.hops(victim))));
            }
        }
        let last = |of: &[(f64, f64)]| of.last().map_or(0.0, |it| it.1);
        let (neighbours, hops) = (last(&around), last(&view));
        let eclipsed = f64::from(u8::from(neighbours >= 1.0 && hops >= 1.0));
        Some(Outcome {
            events: stage.rings.events,
            metrics: Metrics::from([
                (Metric::NeighboursHostile, neighbours),
                (Metric::ViewHostile, hops),
                (Metric::Eclipsed, eclipsed),
            ]),
            trends: [(Trend::NeighboursHostile, around), (Trend::ViewHostile, view)].into(),
            ..Outcome::default()
        })
    }
}
