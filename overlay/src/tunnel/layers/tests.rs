//! What holds of all layers together, in networks large and small.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{
    rng::Rng,
    tunnel::{
        guards::Rules,
        select::related,
        testkit::{Router, WALL, descriptors_at},
    },
};

const OWN: RouterId = RouterId([0; 32]);
const TAG: GatewaysTag = GatewaysTag::test(1);
const SHAPES: [Shape; 2] =
    [Shape { hops: 3, gateways: None }, Shape { hops: 4, gateways: Some(TAG) }];

fn at(minutes: u32) -> Now {
    Now { time: Time::from_micros(u64::from(minutes) * 60_000_000), wall: WALL.plus(minutes) }
}

fn ids(layer: &Guards) -> BTreeSet<RouterId> {
    layer.list().iter().map(|it| it.id).collect()
}

impl Layers {
    /// Whether `id` is of the first, second and third layer, and of the gateways of `tag`.
    pub(in crate::tunnel) fn layers_of(&self, id: RouterId, tag: GatewaysTag) -> [bool; 4] {
        let of = |layer: &Guards| ids(layer).contains(&id);
        [of(&self.first), of(&self.second), of(&self.third), of(&self.gateways[&tag])]
    }
}

struct Case {
    layers: Layers,
    view: Vec<Arc<RouterDescriptor>>,
    rng: Rng,
}

impl Case {
    fn of(view: Vec<Arc<RouterDescriptor>>, seed: u8) -> Self {
        Self::invited(view, seed, &[])
    }

    fn invited(view: Vec<Arc<RouterDescriptor>>, seed: u8, by: &[RouterId]) -> Self {
        let layers = Layers::new(by.iter().copied());
        let mut this = Self { layers, view, rng: Rng::from_seed([seed; 32]) };
        this.maintain(0, &SHAPES);
        this
    }

    fn new(count: u8, seed: u8) -> Self {
        Self::of(descriptors_at(WALL, count), seed)
    }

    fn maintain(&mut self, minutes: u32, shapes: &[Shape]) {
        let view = &self.view;
        self.layers.maintain(at(minutes), &mut self.rng, view, view, OWN, shapes);
    }

    fn within(
        &self,
        hops: usize,
        gateways: Option<GatewaysTag>,
    ) -> Vec<Option<BTreeSet<RouterId>>> {
        let shape = Shape { hops, gateways };
        let within = self.layers.within(at(0), &self.view, OWN, shape, |_| 0);
        within.into_iter().map(|it| it.map(|members| members.into_keys().collect())).collect()
    }
}

#[test]
fn every_position_has_its_layer() {
    let case = Case::new(40, 1);
    let [second, third] = [&case.layers.second, &case.layers.third].map(|it| Some(ids(it)));
    let gateways = Some(ids(&case.layers.gateways[&TAG]));
    assert_eq!(case.within(1, Some(TAG)), [None]);
    assert_eq!(case.within(2, None), [None, None]);
    assert_eq!(case.within(2, Some(TAG)), [None, gateways.clone()]);
    assert_eq!(case.within(3, None), [None, second.clone(), None]);
    assert_eq!(case.within(3, Some(TAG)), [None, second.clone(), gateways.clone()]);
    assert_eq!(case.within(4, None), [None, second.clone(), third.clone(), None]);
    assert_eq!(case.within(4, Some(TAG)), [None, second, third, gateways]);
}

#[test]
fn a_small_network_has_no_layer_for_which_it_has_not_three_times_the_routers() {
    let lengths = |count: u8| {
        let case = Case::new(count, 1);
        let of = |layer: &Guards| layer.list().len();
        let sets = case.within(4, Some(TAG)).into_iter().map(|it| it.map(|set| set.len()));
        ((of(&case.layers.first), of(&case.layers.second)), sets.collect::<Vec<_>>())
    };
    assert_eq!(lengths(4), ((0, 0), vec![None; 4]));
    assert_eq!(lengths(13), ((2, 0), vec![None; 4]));
    assert_eq!(lengths(14), ((2, 4), vec![None, Some(4), None, None]));
    assert_eq!(lengths(29), ((2, 4), vec![None, Some(4), None, None]));
    assert_eq!(lengths(30), ((2, 4), vec![None, Some(4), Some(8), Some(8)]));
}

#[test]
fn whoever_carries_least_comes_first() {
    let case = Case::new(40, 1);
    let busy = ids(&case.layers.second).into_iter().next().unwrap();
    let load = |id| usize::from(id == busy);
    let shape = Shape { hops: 3, gateways: None };
    let within = case.layers.within(at(0), &case.view, OWN, shape, load);
    let weights = within[1].as_ref().unwrap();
    assert!(weights.iter().all(|(id, weight)| (*id == busy) == (*weight < weights[&busy] * 16)));
}

#[test]
fn gateways_of_a_service_that_is_away_are_kept_to_the_end_of_their_time() {
    let mut case = Case::new(40, 1);
    let gateways = ids(&case.layers.gateways[&TAG]);
    let longest = case.layers.gateways[&TAG].list().iter().map(|it| it.until.minutes()).max();
    case.maintain(30, &SHAPES[..1]);
    case.maintain(59, &SHAPES);
    assert_eq!(ids(&case.layers.gateways[&TAG]), gateways, "it is back");
    let longest = longest.unwrap() - WALL.minutes();
    case.maintain(longest - 1, &SHAPES[..1]);
    assert!(!ids(&case.layers.gateways[&TAG]).is_empty());
    assert!(ids(&case.layers.gateways[&TAG]).is_subset(&gateways), "nobody was drawn meanwhile");
    case.maintain(longest, &SHAPES[..1]);
    assert!(case.layers.gateways.is_empty());
}

#[test]
fn stored_guards_of_before_there_were_layers_are_read() {
    let case = Case::new(40, 1);
    let mut w = Writer::with_capacity(256);
    w.u8(VERSION_GUARDS);
    case.layers.first.write(&mut w);
    let read = Layers::from_bytes(&w.into_bytes()).unwrap();
    assert_eq!(read.first, case.layers.first);
    assert!(read.second.list().is_empty());
}

fn place(number: u8) -> Prefix {
    Router::at(1, [100, number, 0, 1], None, 1_000).descriptor.prefix().unwrap()
}

#[test]
fn a_newcomers_guards_are_drawn_once_more_after_a_day_with_links_in_five_places() {
    let mut case = Case::new(60, 1);
    let first = ids(&case.layers.first);
    (0..4).for_each(|number| case.layers.linked(place(number)));
    let pass = |case: &mut Case, hours: std::ops::Range<u32>| {
        hours.for_each(|hour| case.maintain(hour * 60, &SHAPES));
        ids(&case.layers.first)
    };
    assert_eq!(pass(&mut case, 1..30), first, "four places are too few");
    // What is stored goes on where it was: but for the places, which are found anew.
    case.layers = Layers::from_bytes(&case.layers.to_bytes()).unwrap();
    (0..5).for_each(|number| case.layers.linked(place(number)));
    let second = pass(&mut case, 30..31);
    assert!(second != first && second.len() == FIRST.count);
    (0..5).for_each(|number| case.layers.linked(place(number)));
    assert_eq!(pass(&mut case, 31..80), second, "once");
}

#[test]
fn guards_are_drawn_of_the_seasoned_where_there_are_enough_and_a_newcomer_waits_a_day_longer_for_them()
 {
    let pass = |case: &mut Case, hours: std::ops::Range<u32>| {
        hours.for_each(|hour| case.maintain(hour * 60, &SHAPES));
        ids(&case.layers.first)
    };
    let newcomer = || {
        let mut case = Case::new(60, 1);
        (0..5).for_each(|number| case.layers.linked(place(number)));
        let all: Vec<_> = case.view.iter().map(|it| it.id()).collect();
        case.layers.season(all[..FIRST.view_min - 1].iter().copied().collect());
        (case, all)
    };
    let (mut case, all) = newcomer();
    let first = ids(&case.layers.first);
    assert_eq!(pass(&mut case, 1..30), first, "too few to draw from");
    let seasoned: BTreeSet<_> = all[10..20].iter().copied().collect();
    case.layers.season(seasoned.clone());
    let second = pass(&mut case, 30..31);
    assert!(second.len() == FIRST.count && second.is_subset(&seasoned), "{second:?}");
    // Whoever succeeds them is one of these, too: 120 days later both have ended.
    let view = descriptors_at(WALL.plus(121 * 24 * 60), 60);
    case.view = view;
    let third = pass(&mut case, 121 * 24..121 * 24 + 1);
    assert!(third.len() == FIRST.count && third.is_subset(&seasoned), "{third:?}");
    // Where they never are enough, it is as it was without.
    let (mut case, _) = newcomer();
    let first = ids(&case.layers.first);
    assert_eq!(pass(&mut case, 1..48), first);
    let second = pass(&mut case, 48..49);
    assert!(second != first && second.len() == FIRST.count);
}

#[test]
fn guards_that_are_young_are_kept_over_restarts() {
    let mut case = Case::new(60, 1);
    let first = ids(&case.layers.first);
    for hour in 1..60 {
        // Each start is a clock of its own, and half an hour is no hour.
        case.layers = Layers::from_bytes(&case.layers.to_bytes()).unwrap();
        (0..5).for_each(|number| case.layers.linked(place(number)));
        case.maintain(hour * 60, &SHAPES);
        case.maintain(hour * 60 + 30, &SHAPES);
    }
    assert_eq!(ids(&case.layers.first), first);
}

/// Each member out of reach as soon as it was met, for `days`: how many were met.
fn met_under_attack(rules: &'static Rules, days: u32) -> usize {
    let mut rng = Rng::from_seed([3; 32]);
    let (mut guards, mut met) = (Guards::new(rules), BTreeSet::new());
    for day in 0..days {
        let view = descriptors_at(WALL.plus(day * 24 * 60), 250);
        for minutes in day * 24 * 60..(day + 1) * 24 * 60 {
            let now = at(minutes);
            let (taken, last) = (&BTreeSet::new(), &BTreeSet::new());
            guards.maintain(now, &mut rng, Known { view: &view, own: OWN, taken, last });
            met.extend(ids(&guards));
            for id in ids(&guards) {
                guards.unreachable(now.time, id);
            }
        }
    }
    met.len()
}

/// Whoever can take down each router that we turn to makes us meet others: this many and no more.
#[test]
fn an_attacker_who_takes_down_members_makes_us_meet_few_others() {
    let (first, second, third) =
        (met_under_attack(&FIRST, 6), met_under_attack(&SECOND, 6), met_under_attack(&THIRD, 2));
    // All at once, then all again each time that they were gone for long, and a swap a day.
    assert!(first <= 4 * 3 + 6, "{first} guards in 6 days");
    assert!(second <= 6 * 4 + 6, "{second} second hops in 6 days");
    assert!(third <= 12 * 5 + 2, "{third} gateways in 2 days");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whoever invites somebody must not be the one who sees what he builds.
    #[test]
    fn nobody_of_the_invite_is_a_guard_where_there_are_others(count in 5u8..30, by in 1usize..5, seed: u8) {
        let view = descriptors_at(WALL, count);
        let invited_by: Vec<_> = view[..by].iter().map(|router| router.id()).collect();
        let others = view.len() - by;
        let case = Case::invited(view, seed, &invited_by);
        let guards = ids(&case.layers.first);
        prop_assert_eq!(guards.len(), FIRST.count);
        let of_invite = guards.iter().filter(|id| invited_by.contains(id)).count();
        prop_assert_eq!(of_invite, FIRST.count.saturating_sub(others));
    }

    /// Whoever is of one layer is of none before it, and shares no place with it where there are enough.
    #[test]
    fn layers_have_nobody_in_common(
        count in 30u8..60, families in 1u8..6, seed: u8, days in 0u32..20,
    ) {
        let view = |wall| (1..=count).map(|n| {
            let family = (n % families == 1).then_some([n / 16 + 1; 16]);
            Router::published(wall, n, [100, n, 0, 1], family, 1_000).descriptor
        }).collect::<Vec<_>>();
        let mut case = Case::of(view(WALL), seed);
        for day in 0..=days {
            case.view = view(WALL.plus(day * 24 * 60));
            case.maintain(day * 24 * 60, &SHAPES);
            let first = ids(&case.layers.first);
            let second = ids(&case.layers.second);
            prop_assert_eq!((first.len(), second.len()), (FIRST.count, SECOND.count));
            prop_assert!(first.is_disjoint(&second));
            for layer in [&case.layers.third, &case.layers.gateways[&TAG]] {
                prop_assert_eq!(layer.list().len(), THIRD.count);
                prop_assert!(ids(layer).is_disjoint(&first) && ids(layer).is_disjoint(&second));
            }
            for (layer, rules) in [(&case.layers.second, SECOND), (&case.layers.third, THIRD)] {
                for it in layer.list() {
                    let life = it.until.minutes() - it.drawn.minutes();
                    prop_assert!((rules.life.0..=rules.life.1).contains(&life));
                    prop_assert!(it.until > at(day * 24 * 60).wall);
                }
            }
        }
    }

    #[test]
    fn members_live_apart_where_there_are_enough_places(places in 20u8..60, seed: u8) {
        let view = (1..=80).map(|n| Router::at(n, [100, n % places, n, 1], None, 1_000).descriptor);
        let case = Case::of(view.collect(), seed);
        let mut met = ids(&case.layers.first);
        met.extend(ids(&case.layers.second));
        let met: Vec<_> = case.view.iter().filter(|it| met.contains(&it.id())).collect();
        prop_assert_eq!(met.len(), 6);
        for (at, a) in met.iter().enumerate() {
            prop_assert!(met[at + 1..].iter().all(|b| !related(a, b).0));
        }
        let distinct: BTreeSet<_> = met.iter().map(|it| it.prefix()).collect();
        prop_assert_eq!(distinct.len(), 6);
    }

    #[test]
    fn stored_layers_are_the_same_layers(count in 0u8..40, seed: u8) {
        let case = Case::new(count, seed);
        let stored = case.layers.to_bytes();
        let read = Layers::from_bytes(&stored).unwrap();
        prop_assert_eq!(&read.to_bytes(), &stored);
        let Layers { first, second, third, gateways, .. } = case.layers;
        prop_assert_eq!([read.first, read.second, read.third], [first, second, third]);
        prop_assert_eq!(read.gateways, gateways);
        for short in 0..stored.len() {
            prop_assert!(Layers::from_bytes(&stored[..short]).is_err());
        }
    }

    #[test]
    fn garbage_makes_no_layers_or_one_spelling(
        garbage in prop::collection::vec(prop_oneof![0..3u8, any::<u8>()], 0..200),
    ) {
        let garbage: Vec<u8> = std::iter::once(VERSION).chain(garbage).collect();
        if let Ok(layers) = Layers::from_bytes(&garbage) {
            prop_assert_eq!(layers.to_bytes(), garbage);
        }
    }
}
