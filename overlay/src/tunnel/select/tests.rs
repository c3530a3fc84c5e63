//! What holds of every path that is drawn.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;
use crate::tunnel::testkit::{Router, WALL, descriptors, routers};

struct Case {
    view: Vec<Arc<RouterDescriptor>>,
    hops: usize,
    avoid: Avoid,
    resting: BTreeSet<RouterId>,
}

impl Case {
    fn new(view: Vec<Arc<RouterDescriptor>>, hops: usize) -> Self {
        Self { view, hops, avoid: Avoid::none(), resting: BTreeSet::new() }
    }

    fn choose(&self, seed: u8) -> Result<Path, TooFewRouters> {
        let wanted = Wanted {
            view: &self.view,
            own: RouterId([0; 32]),
            hops: self.hops,
            first: None,
            within: &[],
            avoid: &self.avoid,
            resting: &self.resting,
            not_last: &BTreeSet::new(),
        };
        choose(&mut Rng::from_seed([seed; 32]), WALL, &wanted)
    }
}

fn router(number: u8, ip: [u8; 4], family: Option<[u8; 16]>) -> Arc<RouterDescriptor> {
    Router::at(number, ip, family, 1_000).descriptor
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn no_path_repeats_a_router_or_a_family(
        places in prop::collection::vec((0u8..4, 0u8..3), 4..9), hops in 1usize..=4, seed: u8,
    ) {
        let view = (1u8..)
            .zip(places)
            .map(|(n, (place, family))| {
                router(n, [100, place, n, 1], (family > 0).then_some([family; 16]))
            })
            .collect();
        if let Ok(path) = Case::new(view, hops).choose(seed) {
            prop_assert_eq!(path.hops.len(), hops);
            for (at, a) in path.hops.iter().enumerate() {
                for b in &path.hops[at + 1..] {
                    prop_assert_ne!(a.id(), b.id());
                    let (place, family) = related(a, b);
                    prop_assert!(!family);
                    prop_assert!(!place || path.relaxed.place);
                }
            }
        }
    }

    /// Whoever can make members fail must not choose when others are met.
    #[test]
    fn nobody_outside_a_layer_is_met_where_forty_are_usable(
        members in prop::collection::btree_set(1u8..60, 1..5), rest: bool, seed: u8,
    ) {
        let view = descriptors(&routers(60));
        let layer: BTreeMap<_, _> =
            members.iter().map(|n| (view[usize::from(*n)].id(), 1)).collect();
        let resting = if rest { layer.keys().copied().collect() } else { BTreeSet::new() };
        let (avoid, none) = (Avoid::none(), BTreeSet::new());
        let wanted = |view, within| Wanted {
            view,
            own: RouterId([0; 32]),
            hops: 3,
            first: None,
            within,
            avoid: &avoid,
            resting: &resting,
            not_last: &none,
        };
        let within = [None, Some(layer.clone()), None];
        let mut rng = Rng::from_seed([seed; 32]);
        let path = choose(&mut rng, WALL, &wanted(&view, &within)).unwrap();
        prop_assert!(layer.contains_key(&path.hops[1].id()));
        prop_assert!(!path.relaxed.any());
        // A smaller network goes on at once, with others, and says so.
        let view = &view[..39];
        let layer: BTreeMap<_, _> =
            layer.into_iter().filter(|(id, _)| view.iter().any(|it| it.id() == *id)).collect();
        let smaller = [None, Some(layer.clone()), None];
        let path = choose(&mut rng, WALL, &wanted(view, &smaller)).unwrap();
        prop_assert_eq!(layer.contains_key(&path.hops[1].id()), !path.relaxed.layer);
        prop_assert_eq!(path.relaxed.layer, rest || layer.is_empty());
    }

    #[test]
    fn nobody_counts_for_more_than_two_of_n(claims in prop::collection::vec(any::<u32>(), 1..120)) {
        let weights = weights(&claims);
        let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        for weight in &weights {
            prop_assert!(u128::from(*weight) * claims.len() as u128 <= 2 * sum);
        }
        for (a, x) in claims.iter().zip(&weights) {
            for (b, y) in claims.iter().zip(&weights) {
                prop_assert!(a < b || x >= y, "whoever claims more never counts for less");
            }
        }
    }
}

#[test]
fn a_claim_can_only_make_its_router_count_for_less() {
    assert_eq!(weights(&[5, 10, 10, 20, u32::MAX, 0]), [5, 10, 10, 10, 10, 1]);
}

#[test]
fn boasters_are_drawn_as_often_as_others() {
    let mut all: Vec<_> = (1..=30).map(|n| router(n, [100, n, 0, 1], None)).collect();
    all.extend((31..=40).map(|n| Router::at(n, [100, n, 0, 1], None, u32::MAX).descriptor));
    let boasters: BTreeSet<_> = all[30..].iter().map(|router| router.id()).collect();
    let case = Case::new(all, 1);
    let mut counts: BTreeMap<RouterId, usize> = BTreeMap::new();
    let mut rng = Rng::from_seed([1; 32]);
    for _ in 0..2_000 {
        let wanted = Wanted {
            view: &case.view,
            own: RouterId([0; 32]),
            hops: 1,
            first: None,
            within: &[],
            avoid: &case.avoid,
            resting: &case.resting,
            not_last: &BTreeSet::new(),
        };
        let path = choose(&mut rng, WALL, &wanted).unwrap();
        assert!(!path.relaxed.any());
        *counts.entry(path.hops[0].id()).or_default() += 1;
    }
    // A quarter of 2,000 is 500, standard deviation 19.
    let drawn: usize = boasters.iter().filter_map(|id| counts.get(id)).sum();
    assert!((400..600).contains(&drawn), "{drawn}");
    assert_eq!(counts.len(), 40);
}

#[test]
fn one_place_is_given_up_as_a_rule_only_where_nothing_else_is_left() {
    let spread: Vec<_> = (1..=3).map(|n| router(n, [100, n, 0, 1], None)).collect();
    let crowded: Vec<_> = (1..=3).map(|n| router(n, [100, 1, 0, n], None)).collect();
    assert!(!Case::new(spread, 3).choose(1).unwrap().relaxed.place);
    assert!(Case::new(crowded, 3).choose(1).unwrap().relaxed.place);
}

#[test]
fn a_family_is_never_given_up_as_a_rule() {
    let family: Vec<_> = (1..=5).map(|n| router(n, [100, n, 0, 1], Some([1; 16]))).collect();
    assert!(Case::new(family.clone(), 1).choose(1).is_ok());
    assert_eq!(Case::new(family, 2).choose(1).unwrap_err(), TooFewRouters { have: 5, need: 2 });
}

#[test]
fn fewer_routers_than_hops_make_no_shorter_tunnel() {
    let case = Case::new(descriptors(&routers(2)), 3);
    assert_eq!(case.choose(1).unwrap_err(), TooFewRouters { have: 2, need: 3 });
}

#[test]
fn the_asker_and_old_descriptors_are_no_hops() {
    let view = descriptors(&routers(3));
    let own = view[0].id();
    let avoid = Avoid::none();
    let none = BTreeSet::new();
    let wanted = |hops| Wanted {
        view: &view,
        own,
        hops,
        first: None,
        within: &[],
        avoid: &avoid,
        resting: &none,
        not_last: &none,
    };
    let mut rng = Rng::from_seed([1; 32]);
    let path = choose(&mut rng, WALL, &wanted(2)).unwrap();
    assert!(path.hops.iter().all(|hop| hop.id() != own));
    assert!(choose(&mut rng, WALL, &wanted(3)).is_err());
    assert!(choose(&mut rng, WALL.plus(4 * 24 * 60), &wanted(1)).is_err());
}

/// P11: "a client uses no hop with the gateway's identity, /16 or family".
#[test]
fn a_gateway_its_place_and_its_family_are_avoided() {
    let view = vec![
        router(1, [100, 1, 0, 1], Some([7; 16])), // the gateway
        router(2, [100, 1, 9, 9], None),          // lives beside it
        router(3, [100, 3, 0, 1], Some([7; 16])), // its family
        router(4, [100, 4, 0, 1], None),
    ];
    let mut case = Case::new(view.clone(), 1);
    case.avoid.gateway(view[0].id(), view[0].address().unwrap());
    for seed in 0..50 {
        assert_eq!(case.choose(seed).unwrap().hops[0].id(), view[3].id());
    }
    // With too few routers its place may be used, itself and its family never.
    case.hops = 2;
    let path = case.choose(1).unwrap();
    assert!(path.relaxed.place);
    case.hops = 3;
    assert!(case.choose(1).is_err());
}

#[test]
fn a_router_that_failed_rests_while_there_are_others() {
    let mut case = Case::new(descriptors(&routers(6)), 3);
    case.resting = case.view[..3].iter().map(|router| router.id()).collect();
    for seed in 0..30 {
        let path = case.choose(seed).unwrap();
        assert!(path.hops.iter().all(|hop| !case.resting.contains(&hop.id())));
    }
    case.hops = 4;
    assert!(!case.choose(1).unwrap().relaxed.place);
}
