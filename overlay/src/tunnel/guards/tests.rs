//! What holds of guards over months, losses and restarts.

use proptest::prelude::*;

use super::*;
use crate::{
    rng::Rng,
    tunnel::testkit::{WALL, descriptors, routers},
};

const MOST: usize = FIRST.count + FIRST.stand_ins;
const OWN: RouterId = RouterId([0; 32]);

fn at(minutes: u32) -> Now {
    Now { time: Time::from_micros(u64::from(minutes) * 60_000_000), wall: WALL.plus(minutes) }
}

fn bytes(guards: &Guards) -> Vec<u8> {
    let mut w = Writer::with_capacity(256);
    guards.write(&mut w);
    w.into_bytes()
}

fn read(bytes: &[u8]) -> Result<Guards, WireError> {
    let mut r = Reader::new(bytes);
    let guards = Guards::read(&mut r, &FIRST)?;
    r.finish().map(|()| guards)
}

struct Case {
    guards: Guards,
    view: Vec<Arc<RouterDescriptor>>,
    rng: Rng,
}

impl Case {
    fn new(count: u8) -> Self {
        let view = descriptors(&routers(count));
        let mut this = Self { guards: Guards::new(&FIRST), view, rng: Rng::from_seed([5; 32]) };
        this.maintain(0);
        this
    }

    fn maintain(&mut self, minutes: u32) {
        let (taken, last) = (&BTreeSet::new(), &BTreeSet::new());
        let known = Known { view: &self.view, own: OWN, taken, last };
        self.guards.maintain(at(minutes), &mut self.rng, known);
    }

    fn ids(&self) -> Vec<RouterId> {
        self.guards.list().iter().map(|guard| guard.id).collect()
    }

    fn hide(&mut self, ids: &[RouterId]) {
        self.view.retain(|router| !ids.contains(&router.id()));
    }

    fn pick(&self, minutes: u32, avoid: &Avoid) -> Option<RouterId> {
        self.guards.pick(at(minutes), &self.view, avoid, |_| 0).map(|router| router.id())
    }
}

#[test]
fn two_are_drawn_and_kept() {
    let mut case = Case::new(20);
    let ids = case.ids();
    assert_eq!(ids.len(), FIRST.count);
    let stored = bytes(&case.guards);
    for minutes in 1..100 {
        case.maintain(minutes);
    }
    assert_eq!(bytes(&case.guards), stored);
    for guard in case.guards.list() {
        let days = (guard.until.minutes() - guard.drawn.minutes()) / DAY;
        assert!((60..=120).contains(&days));
    }
}

#[test]
fn none_is_drawn_while_only_the_invite_is_known() {
    assert!(Case::new(4).ids().is_empty());
}

#[test]
fn a_guard_that_is_gone_for_three_days_is_replaced_and_no_earlier() {
    let mut case = Case::new(20);
    let ids = case.ids();
    case.hide(&ids[..1]);
    case.maintain(1);
    case.maintain(FIRST.gone_max);
    assert_eq!(case.ids(), ids);
    assert_eq!(case.pick(FIRST.gone_max, &Avoid::none()), Some(ids[1]));
    case.maintain(FIRST.gone_max + 1);
    assert_eq!(case.ids().len(), FIRST.count);
    assert!(!case.ids().contains(&ids[0]));
    assert!(case.ids().contains(&ids[1]));
}

#[test]
fn stand_ins_are_few_and_give_way() {
    let mut case = Case::new(30);
    let ids = case.ids();
    let whole = case.view.clone();
    case.hide(&ids);
    case.maintain(1);
    assert_eq!(case.pick(1, &Avoid::none()), None);
    case.maintain(2);
    let stand_in = case.pick(2, &Avoid::none()).unwrap();
    assert!(!ids.contains(&stand_in));
    // An attacker who takes down each guard we turn to makes us meet two more, then one a day.
    for minutes in 3..1_000 {
        let ids = case.ids();
        case.hide(&ids);
        case.maintain(minutes);
        assert!(case.ids().len() <= MOST);
    }
    let met = whole.len() - case.view.len();
    assert!(met <= MOST + 2, "{met} routers met");
    case.view = whole;
    case.maintain(1_001);
    assert!(ids.contains(&case.pick(1_001, &Avoid::none()).unwrap()));
}

#[test]
fn an_avoided_guard_gives_way_to_the_other_and_to_no_new_one() {
    let case = Case::new(20);
    let ids = case.ids();
    let router = |id| case.view.iter().find(|router| router.id() == id).unwrap();
    let mut avoid = Avoid::none();
    avoid.router(router(ids[0]));
    assert_eq!(case.pick(0, &avoid), Some(ids[1]));
    avoid.router(router(ids[1]));
    assert_eq!(case.pick(0, &avoid), None);
}

#[test]
fn load_is_shared_between_both() {
    let case = Case::new(20);
    let ids = case.ids();
    for busy in &ids {
        let load = |id| usize::from(id == *busy);
        let picked = case.guards.pick(at(0), &case.view, &Avoid::none(), load).unwrap();
        assert_ne!(picked.id(), *busy);
    }
}

#[test]
fn a_guard_that_fails_builds_while_the_other_does_well_is_replaced_once_in_30_days() {
    let mut case = Case::new(20);
    let ids = case.ids();
    for build in 0..100 {
        case.guards.built(ids[0], build % 5 == 0);
        case.guards.built(ids[1], true);
    }
    assert_eq!(case.guards.verdict(ids[0]), Verdict::Shunned);
    assert_eq!(case.pick(0, &Avoid::none()), Some(ids[1]));
    case.maintain(1);
    assert!(!case.ids().contains(&ids[0]));
    let next = *case.ids().iter().find(|id| **id != ids[1]).unwrap();
    for _ in 0..100 {
        case.guards.built(next, false);
    }
    case.maintain(2);
    assert!(case.ids().contains(&next));
    assert_eq!(case.pick(2, &Avoid::none()), Some(ids[1]));
}

#[test]
fn a_guard_that_kills_tunnels_after_they_were_built_is_judged_like_one_that_fails_them() {
    let mut case = Case::new(20);
    let ids = case.ids();
    for build in 0..100 {
        for id in &ids {
            case.guards.built(*id, true);
        }
        if build % 3 > 0 {
            case.guards.died(ids[0]);
        }
    }
    assert_eq!(case.guards.verdict(ids[0]), Verdict::Warn);
    assert_eq!(case.pick(0, &Avoid::none()), Some(ids[1]), "the other is preferred");
    for _ in 0..5 {
        case.guards.died(ids[0]);
    }
    assert_eq!(case.guards.verdict(ids[0]), Verdict::Shunned);
    assert_eq!(case.guards.verdict(ids[1]), Verdict::Well);
}

#[test]
fn nobody_is_blamed_when_all_fail() {
    let mut case = Case::new(20);
    for id in case.ids() {
        for _ in 0..200 {
            case.guards.built(id, false);
        }
    }
    assert!(case.ids().into_iter().all(|id| case.guards.verdict(id) == Verdict::Well));
}

#[test]
fn an_unreachable_guard_rests_and_comes_back() {
    let mut case = Case::new(20);
    let ids = case.ids();
    case.guards.unreachable(at(0).time, ids[0]);
    assert_eq!(case.pick(0, &Avoid::none()), Some(ids[1]));
    case.guards.unreachable(at(0).time, ids[1]);
    assert_eq!(case.pick(0, &Avoid::none()), None);
    assert!(case.pick(1, &Avoid::none()).is_some());
    case.guards.reached(ids[0]);
    assert_eq!(case.pick(0, &Avoid::none()), Some(ids[0]));
}

proptest! {
    #[test]
    fn stored_guards_are_the_same_guards(count in 5u8..9, builds in 0..300u32, bad in 0..4u32) {
        let mut case = Case::new(count);
        for id in case.ids() {
            for build in 0..builds {
                case.guards.built(id, build % 4 >= bad);
            }
            case.guards.died(id);
        }
        let stored = bytes(&case.guards);
        prop_assert_eq!(read(&stored), Ok(case.guards));
        for short in 0..stored.len() {
            prop_assert!(read(&stored[..short]).is_err());
        }
    }

    #[test]
    fn garbage_makes_no_guards_or_one_spelling(
        garbage in prop::collection::vec(prop_oneof![0..3u8, any::<u8>()], 0..240),
    ) {
        if let Ok(guards) = read(&garbage) {
            prop_assert_eq!(bytes(&guards), garbage);
        }
    }
}
