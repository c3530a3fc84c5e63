//! What holds of an owner's tunnels while hops refuse, fall silent and die.

use std::collections::BTreeSet;

use super::*;
use crate::tunnel::{
    fabric::{Fabric, Mood},
    testkit::{WALL, descriptors_at, routers},
};

const END: EndNo = EndNo(1);
const LAYER: GatewaysTag = GatewaysTag::test(1);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn started(count: u8) -> Fabric {
    let mut fabric = Fabric::new(routers(count), |_| {});
    fabric.start();
    fabric
}

fn take(fabric: &mut Fabric, end: EndNo) {
    fabric.input(PoolsInput::TakeClient { end, avoid: Avoid::none() });
}

fn held(fabric: &Fabric) -> Vec<Side> {
    fabric.held.keys().copied().collect()
}

fn said(fabric: &Fabric, which: impl Fn(&PoolsOutput) -> bool) -> usize {
    fabric.log.iter().filter(|(_, output)| which(output)).count()
}

#[test]
fn stock_is_built_at_once_and_a_taken_tunnel_carries_cells_to_its_gateway() {
    let mut fabric = started(10);
    fabric.run(seconds(1));
    assert_eq!(fabric.pools.status().stock, 3);
    take(&mut fabric, END);
    let side = held(&fabric)[0];
    assert_eq!(fabric.pools.hops(side.0, side.1).unwrap().len(), 3);
    let gateway = fabric.node_of(fabric.held[&side].gateway);
    for _ in 0..5 {
        assert_eq!(fabric.deliver(side), Some(gateway));
    }
    fabric.run(seconds(1));
    assert_eq!(fabric.pools.status().stock, 4, "one more: there is demand");
    fabric.run(seconds(120));
    assert_eq!(fabric.pools.status().failed, 0);
}

#[test]
fn one_to_four_hops_work() {
    for hops in 1..=4 {
        let mut fabric = Fabric::new(routers(9), |config| config.client_hops = hops);
        fabric.start();
        take(&mut fabric, END);
        fabric.run(seconds(2));
        let side = held(&fabric)[0];
        assert_eq!(fabric.pools.hops(side.0, side.1).unwrap().len(), hops);
        assert!(fabric.deliver(side).is_some());
    }
}

#[test]
fn a_take_before_the_first_build_is_served_by_it() {
    let mut fabric = Fabric::new(routers(10), |_| {});
    take(&mut fabric, END);
    assert_eq!(fabric.pools.status().building, 0);
    fabric.start();
    fabric.run(seconds(1));
    assert_eq!(fabric.held.len(), 1);
}

#[test]
fn stock_grows_on_demand_to_eight_and_shrinks_again() {
    let mut fabric = started(12);
    fabric.run(seconds(1));
    for end in 1..=9 {
        take(&mut fabric, EndNo(end));
    }
    fabric.run(seconds(2));
    assert_eq!(fabric.held.len(), 9);
    assert_eq!(fabric.pools.status().stock, 8);
    for end in 1..=9 {
        fabric.input(PoolsInput::DropEnd { end: EndNo(end) });
        fabric.held.clear();
    }
    fabric.run(Duration::from_mins(40));
    assert_eq!(fabric.pools.status().stock, 3);
    assert_eq!(fabric.pools.status().held, 0);
}

#[test]
fn loaded_hops_are_built_around_within_a_second() {
    let mut fabric = started(12);
    fabric.run(seconds(1));
    fabric.moody(Mood::Loaded, 4);
    for end in 1..=6 {
        take(&mut fabric, EndNo(end));
    }
    fabric.run(seconds(4));
    assert_eq!(fabric.held.len(), 6);
    for side in held(&fabric) {
        assert!(fabric.deliver(side).is_some());
    }
}

#[test]
fn silent_hops_cost_one_limit_and_are_then_avoided() {
    let mut fabric = Fabric::new(routers(14), |_| {});
    fabric.start();
    let silent = fabric.moody(Mood::Silent, 4);
    for end in 1..=4 {
        take(&mut fabric, EndNo(end));
    }
    fabric.run(seconds(16));
    assert_eq!(fabric.held.len(), 4);
    for side in held(&fabric) {
        let hops = fabric.pools.hops(side.0, side.1).unwrap();
        assert!(hops.into_iter().all(|hop| !silent.contains(&fabric.node_of(hop))));
        assert!(fabric.deliver(side).is_some());
    }
    assert!(fabric.pools.status().failed > 0);
}

#[test]
fn a_dead_middle_hop_loses_the_tunnel_and_a_ready_one_replaces_it_at_once() {
    let mut fabric = started(12);
    fabric.run(seconds(1));
    take(&mut fabric, END);
    let side = held(&fabric)[0];
    let middle = fabric.pools.hops(side.0, side.1).unwrap()[1];
    let before = fabric.now;
    fabric.mood(fabric.node_of(middle), Mood::Dead);
    fabric.run(seconds(5));
    assert_eq!(said(&fabric, |out| matches!(out, PoolsOutput::Lost { .. })), 1);
    let new = held(&fabric);
    assert_eq!(new.len(), 1);
    assert_ne!(new[0], side);
    assert!(fabric.held[&new[0]].at.since(before) <= Duration::from_millis(20));
    assert!(fabric.deliver(new[0]).is_some());
}

#[test]
fn a_dead_guard_leaves_the_other() {
    let mut fabric = started(12);
    fabric.run(seconds(1));
    take(&mut fabric, END);
    take(&mut fabric, END);
    let side = held(&fabric)[0];
    let guard = fabric.pools.hops(side.0, side.1).unwrap()[0];
    let guards: Vec<_> = fabric.pools.guards().list().iter().map(|guard| guard.id).collect();
    assert!(guards.contains(&guard));
    // The two of one End go over both guards.
    let firsts: BTreeSet<_> =
        held(&fabric).iter().map(|s| fabric.pools.hops(s.0, s.1).unwrap()[0]).collect();
    assert_eq!(firsts.len(), 2);
    fabric.mood(fabric.node_of(guard), Mood::Dead);
    fabric.run(seconds(20));
    assert_eq!(fabric.held.len(), 2);
    for side in held(&fabric) {
        let first = fabric.pools.hops(side.0, side.1).unwrap()[0];
        assert!(guards.contains(&first) && first != guard);
    }
}

#[test]
fn builds_through_a_first_hop_that_falls_silent_give_way_at_once() {
    let mut fabric = started(12);
    fabric.run(seconds(1));
    take(&mut fabric, END);
    let side = held(&fabric)[0];
    let guard = fabric.pools.hops(side.0, side.1).unwrap()[0];
    fabric.mood(fabric.node_of(guard), Mood::Silent);
    fabric.input(PoolsInput::WantService { end: EndNo(2), count: 5, hops: None, layer: LAYER });
    fabric.run(Duration::from_millis(1));
    let builds = |fabric: &Fabric| {
        let all = fabric.pools.attempts.values();
        let (through, others): (Vec<_>, Vec<_>) =
            all.partition(|it| builds::first_id(&it.path) == Some(guard));
        (through.len(), others.len())
    };
    let (through, others) = builds(&fabric);
    assert!(through > 0);
    fabric.input(PoolsInput::LinkQuiet { link: side.0, quiet: true });
    assert_eq!(builds(&fabric), (0, through + others));
}

/// There may be no other, and it may speak again; but its `End` knows.
#[test]
fn a_tunnel_over_a_quiet_link_is_handed_out_as_such() {
    let mut fabric = started(12);
    fabric.run(seconds(1));
    let links: BTreeSet<LinkNo> = fabric.pools.tunnels.keys().map(|side| side.0).collect();
    for link in links {
        fabric.input(PoolsInput::LinkQuiet { link, quiet: true });
    }
    take(&mut fabric, END);
    let (link, tunnel) = held(&fabric)[0];
    let told = said(&fabric, |out| {
        matches!(out, PoolsOutput::Quiet { link: at, tunnel: it, quiet: true, .. }
            if (*at, *it) == (link, tunnel))
    });
    assert_eq!(told, 1);
}

#[test]
fn a_service_gets_another_tunnel_beside_one_that_is_mute_and_keeps_that() {
    let mut fabric = started(12);
    fabric.run(seconds(1));
    fabric.input(PoolsInput::WantService { end: END, count: 3, hops: None, layer: LAYER });
    fabric.run(seconds(2));
    let before = held(&fabric);
    assert_eq!(before.len(), 3);
    let (link, tunnel) = before[0];
    fabric.input(PoolsInput::Mute { link, tunnel, mute: true });
    fabric.run(seconds(2));
    let after = held(&fabric);
    assert_eq!(after.len(), 4);
    assert!(before.iter().all(|side| after.contains(side)));
    assert_eq!(said(&fabric, |out| matches!(out, PoolsOutput::Quiet { quiet: true, .. })), 1);
    fabric.input(PoolsInput::Mute { link, tunnel, mute: false });
    assert_eq!(said(&fabric, |out| matches!(out, PoolsOutput::Quiet { quiet: false, .. })), 1);
}

#[test]
fn an_end_that_wants_fewer_again_keeps_no_more_and_loses_none_under_it() {
    let mut fabric = started(12);
    fabric.run(seconds(1));
    for _ in 0..5 {
        take(&mut fabric, END);
    }
    fabric.run(seconds(2));
    assert_eq!(held(&fabric).len(), 5);
    fabric.input(PoolsInput::WantFewer { end: END, count: 2 });
    assert_eq!(held(&fabric).len(), 5, "they serve as long as they last");
    for _ in 0..20 {
        fabric.run(Duration::from_mins(1));
        for (_, output) in std::mem::take(&mut fabric.log) {
            match output {
                PoolsOutput::Retire { link, tunnel, .. } => {
                    fabric.held.remove(&(link, tunnel));
                    fabric.input(PoolsInput::Drop { link, tunnel });
                }
                PoolsOutput::Lost { .. } => panic!("a tunnel ended under its End"),
                _ => {}
            }
        }
    }
    assert_eq!(held(&fabric).len(), 2);
}

#[test]
fn a_tunnel_that_its_end_calls_dead_is_replaced_without_lost() {
    let mut fabric = started(12);
    fabric.run(seconds(1));
    take(&mut fabric, END);
    let (link, tunnel) = held(&fabric)[0];
    fabric.held.clear();
    fabric.input(PoolsInput::Failed { link, tunnel });
    assert_eq!(fabric.held.len(), 1);
    assert_eq!(said(&fabric, |out| matches!(out, PoolsOutput::Lost { .. })), 0);
    assert_eq!(fabric.pools.hops(link, tunnel), None);
}

/// Make before break, and each retired tunnel was still whole when its successor was handed over.
#[test]
fn rotation_hands_over_before_it_takes_away() {
    let mut fabric = started(12);
    fabric.run(seconds(1));
    take(&mut fabric, END);
    let mut current = held(&fabric)[0];
    let mut rotations = 0;
    for _ in 0..150 {
        fabric.run(Duration::from_mins(1));
        let retired: Vec<Side> = fabric
            .log
            .drain(..)
            .filter_map(|(_, out)| match out {
                PoolsOutput::Retire { link, tunnel, .. } => Some((link, tunnel)),
                PoolsOutput::Lost { .. } => panic!("a tunnel ended under its End"),
                _ => None,
            })
            .collect();
        for side in retired {
            assert_eq!(side, current);
            assert!(fabric.deliver(side).is_some(), "the old one still stands");
            fabric.held.remove(&side);
            fabric.input(PoolsInput::Drop { link: side.0, tunnel: side.1 });
            current = held(&fabric)[0];
            rotations += 1;
        }
        assert_eq!(fabric.held.len(), 1);
        assert!(fabric.deliver(current).is_some());
    }
    assert!((7..=15).contains(&rotations), "{rotations} rotations in 150 minutes");
}

#[test]
fn an_end_that_does_not_move_loses_its_tunnel_at_the_end_of_its_life() {
    let mut fabric = started(12);
    fabric.run(seconds(1));
    take(&mut fabric, END);
    fabric.run(Duration::from_mins(30));
    assert!(said(&fabric, |out| matches!(out, PoolsOutput::Retire { .. })) >= 1);
    assert!(said(&fabric, |out| matches!(out, PoolsOutput::Lost { .. })) >= 1);
    assert!(!fabric.held.is_empty());
}

#[test]
fn a_service_gets_five_gateways_that_differ_and_live_longer() {
    let mut fabric = started(16);
    fabric.input(PoolsInput::WantService {
        end: END,
        count: SERVICE_TUNNELS,
        hops: None,
        layer: LAYER,
    });
    fabric.run(seconds(2));
    assert_eq!(fabric.held.len(), SERVICE_TUNNELS);
    let gateways: BTreeSet<_> = fabric.held.values().map(|held| held.gateway).collect();
    assert_eq!(gateways.len(), SERVICE_TUNNELS);
    fabric.run(Duration::from_mins(30));
    assert_eq!(fabric.held.len(), SERVICE_TUNNELS);
    assert_eq!(said(&fabric, |out| matches!(out, PoolsOutput::Retire { .. })), 0);
    fabric.run(Duration::from_mins(30));
    assert!(said(&fabric, |out| matches!(out, PoolsOutput::Retire { .. })) >= SERVICE_TUNNELS);
    fabric.input(PoolsInput::WantService { end: END, count: 0, hops: None, layer: LAYER });
    assert_eq!(fabric.pools.status().held, 0);
}

#[test]
fn a_service_may_want_other_hops_than_the_router_takes() {
    for hops in 1..=4 {
        let mut fabric = started(16);
        let count = SERVICE_TUNNELS;
        fabric.input(PoolsInput::WantService { end: END, count, hops: Some(hops), layer: LAYER });
        fabric.run(seconds(2));
        assert_eq!(fabric.held.len(), SERVICE_TUNNELS);
        for (link, tunnel) in fabric.held.keys() {
            assert_eq!(fabric.pools.hops(*link, *tunnel).unwrap().len(), hops);
        }
    }
}

#[test]
fn too_few_routers_are_reported_once_and_make_no_shorter_tunnel() {
    let mut fabric = started(2);
    take(&mut fabric, END);
    fabric.run(seconds(200));
    assert_eq!(said(&fabric, |out| matches!(out, PoolsOutput::TooFewRouters(_))), 1);
    let too_few = TooFewRouters { have: 2, need: 3 };
    assert_eq!(
        said(&fabric, |out| matches!(out, PoolsOutput::TooFewRouters(it) if *it == too_few)),
        1
    );
    assert!(fabric.held.is_empty());
    assert_eq!(fabric.dials, 0);
}

#[test]
fn a_small_network_says_so_once() {
    let mut fabric = started(8);
    fabric.run(Duration::from_hours(1));
    assert_eq!(said(&fabric, |out| matches!(out, PoolsOutput::AnonymitySetTooSmall(true))), 1);
    assert_eq!(said(&fabric, |out| matches!(out, PoolsOutput::AnonymitySetTooSmall(false))), 0);
}

#[test]
fn a_gateway_is_kept_off_the_paths_to_it() {
    let mut fabric = started(9);
    fabric.run(seconds(1));
    let gateway = Arc::clone(&fabric.view[4]);
    let mut avoid = Avoid::none();
    avoid.gateway(gateway.id(), gateway.address().unwrap());
    for end in 1..=8 {
        fabric.input(PoolsInput::TakeClient { end: EndNo(end), avoid: avoid.clone() });
    }
    fabric.run(seconds(3));
    assert_eq!(fabric.held.len(), 8);
    for side in held(&fabric) {
        assert!(!fabric.pools.hops(side.0, side.1).unwrap().contains(&gateway.id()));
    }
}

#[test]
fn a_network_that_is_down_is_not_hammered_and_is_back_within_the_longest_pause() {
    let mut fabric = started(10);
    fabric.run(seconds(1));
    for node in 1..=10 {
        fabric.mood(node, Mood::Dead);
    }
    fabric.run(seconds(60));
    let dials = fabric.dials;
    fabric.run(Duration::from_mins(10));
    let rate = fabric.dials - dials;
    assert!(rate <= 2 * 600 / 7, "{rate} dials in 10 minutes");
    for node in 1..=10 {
        fabric.mood(node, Mood::Honest);
    }
    fabric.run(seconds(16));
    assert_eq!(fabric.pools.status().stock, 3);
}

#[test]
fn an_owner_whose_machine_woke_does_not_sit_out_the_pauses_of_before() {
    let mut fabric = started(10);
    fabric.run(seconds(1));
    for node in 1..=10 {
        fabric.mood(node, Mood::Dead);
    }
    fabric.run(Duration::from_mins(10));
    assert_eq!(fabric.pools.status().stock, 0);
    for node in 1..=10 {
        fabric.mood(node, Mood::Honest);
    }
    fabric.input(PoolsInput::Woke);
    fabric.run(seconds(1));
    assert_eq!(fabric.pools.status().stock, 3);
}

#[test]
fn everything_closed_leaves_no_lane_anywhere() {
    let mut fabric = started(10);
    fabric.run(seconds(1));
    for end in 1..=5 {
        take(&mut fabric, EndNo(end));
    }
    fabric.run(seconds(1));
    assert!(fabric.hop_lanes() > 0);
    // The owner's links go down: every hop closes its half and tells the next.
    fabric.mood(0, Mood::Dead);
    fabric.run(seconds(1));
    assert_eq!(fabric.hop_lanes(), 0);
    assert!(fabric.transits.iter().all(|transit| transit.status().tunnels == 0));
}

#[test]
fn inputs_that_are_nobodys_business_change_nothing() {
    let mut fabric = started(10);
    fabric.run(seconds(1));
    let before = fabric.pools.status();
    let (link, tunnel) = (LinkNo(3), TunnelId(999));
    for input in [
        PoolsInput::Connected { ask: 999, link, tunnel },
        PoolsInput::Unreachable { ask: 999 },
        PoolsInput::Reply { link, tunnel, reply: Box::new([0; 256]) },
        PoolsInput::LaneClosed { link, tunnel },
        PoolsInput::LinkDown { link: LinkNo(999) },
        PoolsInput::Failed { link, tunnel },
        PoolsInput::Drop { link, tunnel },
        PoolsInput::DropEnd { end: EndNo(999) },
    ] {
        fabric.input(input);
    }
    assert_eq!(fabric.pools.status(), before);
}

/// Distinct routers at each position of a service's tunnels, and last on a client's.
#[derive(Default)]
struct Met {
    service: [BTreeSet<RouterId>; 3],
    client_last: BTreeSet<RouterId>,
}

/// Lets `days` pass with one service, clients' stock beside it, and descriptors renewed every day.
fn days_of_a_service(fabric: &mut Fabric, routers: u8, days: std::ops::Range<u32>) -> Met {
    let mut met = Met::default();
    for day in days {
        fabric.view = descriptors_at(WALL.plus(day * 24 * 60), routers);
        fabric.start();
        for _ in 0..24 * 4 {
            fabric.run(Duration::from_mins(15));
            for (_, output) in std::mem::take(&mut fabric.log) {
                if let PoolsOutput::Retire { link, tunnel, .. } = output {
                    fabric.held.remove(&(link, tunnel));
                    fabric.input(PoolsInput::Drop { link, tunnel });
                }
            }
            for own in fabric.pools.tunnels.values() {
                let ids: Vec<_> = own.path.hops.iter().map(|hop| hop.id()).collect();
                if own.purpose == Purpose::Client {
                    met.client_last.insert(ids[2]);
                } else {
                    (0..3).for_each(|at| _ = met.service[at].insert(ids[at]));
                }
            }
        }
    }
    met
}

/// DESIGN section 6: 2 for months, 4 for 1 to 12 days, 8 for 1 to 48 hours. So in four days each of four
/// second hops is replaced 0.6 times, and in one day each of eight gateways once.
#[test]
fn in_days_a_service_meets_few_second_hops_and_few_gateways() {
    let mut fabric = started(80);
    fabric.input(PoolsInput::WantService { end: END, count: 5, hops: None, layer: LAYER });
    let day = days_of_a_service(&mut fabric, 80, 0..1);
    let four = days_of_a_service(&mut fabric, 80, 1..4);
    let [first, second, gateways] = &day.service;
    assert_eq!(first.len(), 2);
    assert!((4..=6).contains(&second.len()), "{} second hops in a day", second.len());
    assert!((8..=24).contains(&gateways.len()), "{} gateways in a day", gateways.len());
    let firsts = first.union(&four.service[0]).count();
    assert_eq!(firsts, 2);
    let seconds = second.union(&four.service[1]).count();
    assert!((4..=12).contains(&seconds), "{seconds} second hops in four days");
    // What is drawn anew each time is nearly everybody within a day.
    assert!(day.client_last.len() > 60, "{} end hops of clients", day.client_last.len());
}

#[test]
fn every_hop_of_a_service_is_of_its_layer_also_after_a_restart() {
    let mut fabric = started(60);
    fabric.input(PoolsInput::WantService { end: END, count: 5, hops: Some(4), layer: LAYER });
    fabric.run(seconds(5));
    let stored = fabric.log.iter().rev().find_map(|(_, output)| match output {
        PoolsOutput::StoreGuards(bytes) => Some(bytes.clone()),
        _ => None,
    });
    let layers = Layers::from_bytes(&stored.unwrap()).unwrap();
    let mut again = Fabric::new(routers(60), |_| {});
    again.pools.layers = layers.clone();
    again.start();
    again.input(PoolsInput::WantService { end: EndNo(9), count: 5, hops: Some(4), layer: LAYER });
    again.run(seconds(5));
    for fabric in [fabric, again] {
        assert_eq!(fabric.held.len(), 5);
        for (link, tunnel) in fabric.held.keys() {
            let hops = fabric.pools.hops(*link, *tunnel).unwrap();
            let ids: Vec<_> = hops.into_iter().map(|id| layers.layers_of(id, LAYER)).collect();
            for (at, of) in ids.iter().enumerate() {
                assert!(of[at], "hop {at} is in {of:?}");
            }
        }
    }
}

/// One service's gateways are public: they say nothing of another service of the same router.
#[test]
fn two_services_have_gateways_of_their_own() {
    let mut fabric = started(80);
    for (end, layer) in [(END, LAYER), (EndNo(2), GatewaysTag::test(2))] {
        fabric.input(PoolsInput::WantService { end, count: 5, hops: None, layer });
    }
    let met = |fabric: &Fabric, end| -> BTreeSet<_> {
        let held = fabric.held.values().filter(|held| held.end == end);
        held.map(|held| held.gateway).collect()
    };
    fabric.run(seconds(3));
    let (one, two) = (met(&fabric, END), met(&fabric, EndNo(2)));
    assert_eq!((one.len(), two.len()), (5, 5));
    assert!(one.intersection(&two).count() < 4, "drawn apart, they meet by chance only");
}

#[test]
fn a_service_outlives_its_whole_second_layer_within_half_a_minute() {
    let mut fabric = started(60);
    fabric.input(PoolsInput::WantService { end: END, count: 5, hops: None, layer: LAYER });
    fabric.run(seconds(2));
    let seconds_of = |fabric: &Fabric| -> BTreeSet<RouterId> {
        let all = fabric.pools.tunnels.keys();
        all.map(|side| fabric.pools.hops(side.0, side.1).unwrap()[1]).collect()
    };
    let members = seconds_of(&fabric);
    for id in &members {
        let node = fabric.node_of(*id);
        fabric.mood(node, Mood::Dead);
    }
    fabric.run(seconds(30));
    assert_eq!(fabric.held.len(), 5);
    let stand_ins = seconds_of(&fabric).difference(&members).count();
    assert!((1..=2).contains(&stand_ins), "{stand_ins} met in place of them");
    for side in held(&fabric) {
        assert!(fabric.deliver(side).is_some());
    }
}

#[test]
fn the_same_seed_gives_the_same_tunnels() {
    let run = || {
        let mut fabric = started(10);
        fabric.moody(Mood::Silent, 2);
        fabric.input(PoolsInput::WantService {
            end: END,
            count: SERVICE_TUNNELS,
            hops: None,
            layer: LAYER,
        });
        fabric.run(Duration::from_hours(1));
        let sides: Vec<_> = fabric.pools.tunnels.keys().copied().collect();
        (fabric.dials, sides, fabric.pools.status())
    };
    assert_eq!(run(), run());
}
