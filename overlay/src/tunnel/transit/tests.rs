//! What holds of a hop, whatever its neighbours send.

use std::sync::Arc;

use super::*;
use crate::tunnel::{
    build::{self, BuildFailure, FailureReason, PendingBuild},
    testkit::{Router, WALL, descriptors, routers},
};

const BEFORE: LinkNo = LinkNo(1);
const AFTER: LinkNo = LinkNo(2);

fn at(millis: u64) -> Now {
    Now { time: Time::from_micros(millis * 1_000), wall: WALL }
}

fn hop(router: Router, config: TransitConfig) -> Transit {
    Transit::new(config, router.keys, Rng::from_seed([9; 32]))
}

/// A hop, a build of `hops` hops through it first, and what its owner waits with.
struct Case {
    transit: Transit,
    hops: Vec<Arc<crate::wire::RouterDescriptor>>,
    rng: Rng,
}

impl Case {
    fn new(config: TransitConfig) -> Self {
        let mut all = routers(3);
        let hops = descriptors(&all);
        let transit = hop(all.remove(0), config);
        Self { transit, hops, rng: Rng::from_seed([3; 32]) }
    }

    /// Sends a build; `count` 1 makes the hop the end.
    fn build(&mut self, now: Now, number: u32, count: usize) -> PendingBuild {
        let (message, pending) =
            build::create(&mut self.rng, now.wall, &self.hops[..count], 30).unwrap();
        self.input(now, TransitInput::Build { link: BEFORE, tunnel: TunnelId(number), message });
        pending
    }

    fn input(&mut self, now: Now, input: TransitInput) {
        self.transit.handle_input(now, input);
    }

    fn outputs(&mut self) -> Vec<TransitOutput> {
        std::iter::from_fn(|| self.transit.poll_output()).collect()
    }

    /// The one dial asked for.
    fn ask(&mut self) -> u64 {
        match self.outputs().as_slice() {
            [TransitOutput::Connect { ask, contact, asked_by: BEFORE }] => {
                assert_eq!(*contact, self.hops[1].contact().unwrap());
                *ask
            }
            other => panic!("{} outputs", other.len()),
        }
    }

    /// A tunnel through the hop: arriving as `number` on BEFORE, onward as the same on AFTER.
    fn tunnel(&mut self, now: Now, number: u32) {
        self.build(now, number, 3);
        let ask = self.ask();
        self.input(now, TransitInput::Connected { ask, link: AFTER, tunnel: TunnelId(number) });
        let reply = noise_reply(&mut self.rng);
        self.input(now, TransitInput::Reply { link: AFTER, tunnel: TunnelId(number), reply });
    }
}

fn reply_to(outputs: Vec<TransitOutput>, link: LinkNo) -> BuildReply {
    let mut replies = outputs.into_iter().filter_map(|output| match output {
        TransitOutput::Link {
            link: to,
            command: LinkCommand::Send(LinkMessage::BuildReply { reply, .. }),
        } if to == link => Some(reply),
        _ => None,
    });
    let reply = replies.next().unwrap();
    assert!(replies.next().is_none());
    reply
}

fn closed(outputs: &[TransitOutput]) -> Vec<Side> {
    let close = |output: &TransitOutput| match output {
        TransitOutput::Link { link, command: LinkCommand::Close { tunnel, tell: true } } => {
            Some((*link, *tunnel))
        }
        _ => None,
    };
    outputs.iter().filter_map(close).collect()
}

#[test]
fn an_end_answers_at_once_and_opens_its_lane_before_its_answer() {
    let mut case = Case::new(TransitConfig::default());
    let pending = case.build(at(0), 5, 1);
    let outputs = case.outputs();
    assert!(matches!(
        outputs[0],
        TransitOutput::Link {
            link: BEFORE,
            command: LinkCommand::Open { tunnel: TunnelId(5), .. }
        }
    ));
    assert!(pending.open(&reply_to(outputs, BEFORE)).is_ok());
    assert_eq!(case.transit.status().tunnels, 1);
}

#[test]
fn a_middle_goes_on_waits_and_joins_both_links() {
    let mut case = Case::new(TransitConfig::default());
    case.build(at(0), 5, 3);
    let ask = case.ask();
    case.input(at(1), TransitInput::Connected { ask, link: AFTER, tunnel: TunnelId(7) });
    assert!(matches!(
        case.outputs().as_slice(),
        [TransitOutput::Link {
            link: AFTER,
            command: LinkCommand::Send(LinkMessage::Build { tunnel: TunnelId(7), .. })
        }]
    ));
    let reply = noise_reply(&mut case.rng);
    case.input(at(2), TransitInput::Reply { link: AFTER, tunnel: TunnelId(7), reply });
    let lanes: Vec<_> = case
        .outputs()
        .into_iter()
        .filter_map(|output| match output {
            TransitOutput::Link { link, command: LinkCommand::Open { tunnel, lane } } => {
                match *lane {
                    Lane::Transit { half, to, tunnel: onward } => Some((
                        (link, tunnel),
                        (to, onward),
                        matches!(half, TransitHalf::Forward(_)),
                    )),
                    _ => None,
                }
            }
            _ => None,
        })
        .collect();
    let (before, after) = ((BEFORE, TunnelId(5)), (AFTER, TunnelId(7)));
    assert_eq!(lanes, [(before, after, true), (after, before, false)]);
}

#[test]
fn an_unreachable_or_silent_next_hop_is_reported_under_the_own_key() {
    for silent in [false, true] {
        let mut case = Case::new(TransitConfig::default());
        let pending = case.build(at(0), 5, 3);
        let ask = case.ask();
        if silent {
            case.input(at(1), TransitInput::Connected { ask, link: AFTER, tunnel: TunnelId(7) });
            case.outputs();
            case.transit.handle_timeout(at(9_999));
            assert!(case.outputs().is_empty());
            assert_eq!(case.transit.poll_timeout(), Some(at(10_000).time));
            case.transit.handle_timeout(at(10_000));
        } else {
            case.input(at(1), TransitInput::Unreachable { ask });
        }
        let outputs = case.outputs();
        assert_eq!(closed(&outputs).contains(&(AFTER, TunnelId(7))), silent);
        let failure = pending.open(&reply_to(outputs, BEFORE)).unwrap_err();
        assert_eq!(failure, BuildFailure { hop: 0, reason: FailureReason::Unreachable });
        // A late answer changes nothing.
        let reply = noise_reply(&mut case.rng);
        case.input(at(10_001), TransitInput::Reply { link: AFTER, tunnel: TunnelId(7), reply });
        case.input(at(10_001), TransitInput::Connected { ask, link: AFTER, tunnel: TunnelId(8) });
        assert!(case.outputs().is_empty());
        assert_eq!(case.transit.status().pending, 0);
    }
}

#[test]
fn a_build_that_leads_back_to_its_sender_is_declined() {
    let mut case = Case::new(TransitConfig::default());
    let pending = case.build(at(0), 5, 3);
    let ask = case.ask();
    case.input(at(1), TransitInput::Connected { ask, link: BEFORE, tunnel: TunnelId(7) });
    assert!(pending.open(&reply_to(case.outputs(), BEFORE)).is_err());
}

#[test]
fn a_build_that_leads_to_the_hop_itself_is_declined() {
    let mut case = Case::new(TransitConfig::default());
    case.hops[1] = Arc::clone(&case.hops[0]);
    let pending = case.build(at(0), 5, 3);
    let failure = pending.open(&reply_to(case.outputs(), BEFORE)).unwrap_err();
    assert_eq!(failure, BuildFailure { hop: 0, reason: FailureReason::Unreachable });
}

#[test]
fn either_half_closes_the_other() {
    let number = TunnelId(5);
    for (gone, other) in [(BEFORE, AFTER), (AFTER, BEFORE)] {
        for link_down in [false, true] {
            let mut case = Case::new(TransitConfig::default());
            case.tunnel(at(0), 5);
            case.outputs();
            if link_down {
                case.input(at(1), TransitInput::LinkDown { link: gone });
            } else {
                case.input(at(1), TransitInput::LaneClosed { link: gone, tunnel: number });
            }
            assert_eq!(closed(&case.outputs()), [(other, number)]);
            assert_eq!(case.transit.status().tunnels, 0);
            case.input(at(2), TransitInput::LaneClosed { link: other, tunnel: number });
            assert!(case.outputs().is_empty());
        }
    }
}

#[test]
fn an_owner_that_gives_up_ends_the_pending_build_all_the_way() {
    let mut case = Case::new(TransitConfig::default());
    case.build(at(0), 5, 3);
    let ask = case.ask();
    case.input(at(1), TransitInput::Connected { ask, link: AFTER, tunnel: TunnelId(7) });
    case.outputs();
    case.input(at(2), TransitInput::LaneClosed { link: BEFORE, tunnel: TunnelId(5) });
    let outputs = case.outputs();
    assert_eq!(closed(&outputs), [(AFTER, TunnelId(7))]);
    assert_eq!(outputs.len(), 1);
    assert_eq!(case.transit.status().pending, 0);
}

#[test]
fn a_life_ends_on_both_links() {
    let mut case = Case::new(TransitConfig::default());
    case.tunnel(at(0), 5);
    case.outputs();
    let end = at(30 * 60_000);
    assert_eq!(case.transit.poll_timeout(), Some(end.time));
    case.transit.handle_timeout(end);
    assert_eq!(closed(&case.outputs()), [(AFTER, TunnelId(5)), (BEFORE, TunnelId(5))]);
    assert_eq!(case.transit.poll_timeout(), None);
}

#[test]
fn a_flood_is_refused_before_costly_work_and_answered_in_the_same_size() {
    let mut case = Case::new(TransitConfig::default());
    for number in 0..BURST + 50 {
        let message = Box::new([0; crate::wire::BUILD_LEN]);
        let tunnel = TunnelId(number + 1);
        case.input(at(0), TransitInput::Build { link: BEFORE, tunnel, message });
    }
    let status = case.transit.status();
    assert_eq!((status.refused_unopened, status.refused_early), (u64::from(BURST), 50));
    assert_eq!(case.outputs().len(), 150, "one reply each");
    // Another neighbour is not affected, and a second gives twenty builds more.
    let build = |link, number| TransitInput::Build {
        link,
        tunnel: TunnelId(number),
        message: Box::new([0; crate::wire::BUILD_LEN]),
    };
    case.input(at(0), build(AFTER, 1));
    for number in 1_000..1_030 {
        case.input(at(1_000), build(BEFORE, number));
    }
    let status = case.transit.status();
    assert_eq!((status.refused_unopened, status.refused_early), (121, 60));
}

#[test]
fn a_loaded_router_opens_nothing() {
    let mut case = Case::new(TransitConfig::default());
    case.input(at(0), TransitInput::Loaded(true));
    let pending = case.build(at(0), 5, 1);
    let failure = pending.open(&reply_to(case.outputs(), BEFORE)).unwrap_err();
    assert_eq!(failure.reason, FailureReason::Garbage);
    assert_eq!(case.transit.status().refused_early, 1);
    case.input(at(1), TransitInput::Loaded(false));
    assert!(case.build(at(1), 6, 1).open(&reply_to(case.outputs(), BEFORE)).is_ok());
}

#[test]
fn the_tables_are_bounded_and_one_neighbour_gets_a_quarter() {
    let config = TransitConfig { tunnels_max: 16, ..TransitConfig::default() };
    let mut case = Case::new(config);
    for number in 1..=20 {
        case.build(at(0), number, 1);
    }
    assert_eq!(case.transit.status().tunnels, 4);
    assert_eq!(case.transit.status().refused_early, 16);
    let config = TransitConfig { pending_max: 12, ..TransitConfig::default() };
    let mut case = Case::new(config);
    for number in 1..=5 {
        case.build(at(0), number, 3);
    }
    assert_eq!(case.transit.status().pending, 3);
    // What closes makes room.
    case.input(at(1), TransitInput::LaneClosed { link: BEFORE, tunnel: TunnelId(1) });
    case.build(at(1), 6, 3);
    assert_eq!(case.transit.status().pending, 3);
}

#[test]
fn whoever_takes_all_they_can_leave_room_for_others() {
    let config = TransitConfig { tunnels_max: 60, ..TransitConfig::default() };
    let mut case = Case::new(config);
    for number in 1..=60 {
        for link in 10..19 {
            let (message, _) = build::create(&mut case.rng, WALL, &case.hops[..1], 30).unwrap();
            let (link, tunnel) = (LinkNo(link), TunnelId(number));
            case.input(at(0), TransitInput::Build { link, tunnel, message });
        }
    }
    assert!((40..=48).contains(&case.transit.status().tunnels));
    for number in 1..=3 {
        let pending = case.build(at(1), number, 1);
        assert!(pending.open(&reply_to(case.outputs(), BEFORE)).is_ok());
    }
}

#[test]
fn builds_wait_for_their_turn_and_a_flood_leaves_the_others_theirs() {
    let config = TransitConfig { builds_per_second: 4, ..TransitConfig::default() };
    let mut case = Case::new(config);
    for number in 1..=40 {
        let message = Box::new([0; crate::wire::BUILD_LEN]);
        case.input(at(0), TransitInput::Build { link: AFTER, tunnel: TunnelId(number), message });
    }
    let status = case.transit.status();
    assert_eq!((status.refused_unopened, status.waiting), (2, 16));
    assert_eq!(status.refused_early, 22);
    case.outputs();
    let pending = case.build(at(10), 5, 1);
    assert!(case.outputs().is_empty());
    // The flood's link has two turns left of the four that a newcomer has before the others.
    for millis in [250, 500] {
        assert_eq!(case.transit.poll_timeout(), Some(at(millis).time));
        case.transit.handle_timeout(at(millis));
    }
    case.outputs();
    case.transit.handle_timeout(at(750));
    assert!(pending.open(&reply_to(case.outputs(), BEFORE)).is_ok());
}

#[test]
fn a_flood_from_one_neighbour_to_one_router_is_not_passed_on() {
    let mut case = Case::new(TransitConfig::default());
    for number in 1..=60 {
        case.build(at(0), number, 3);
    }
    let asks = |output: &TransitOutput| matches!(output, TransitOutput::Connect { .. });
    assert_eq!(case.outputs().iter().filter(|output| asks(output)).count(), 40);
    assert_eq!(case.transit.status().unreachable, 20);
}

#[test]
fn a_number_in_use_is_not_built_over() {
    let mut case = Case::new(TransitConfig::default());
    case.tunnel(at(0), 5);
    case.outputs();
    case.build(at(1), 5, 1);
    assert!(case.outputs().is_empty());
    assert_eq!(case.transit.status().tunnels, 1);
}

#[test]
fn a_replayed_build_gets_noise() {
    let mut case = Case::new(TransitConfig::default());
    let (message, pending) = build::create(&mut case.rng, WALL, &case.hops[..1], 30).unwrap();
    for number in [1, 2] {
        let message = message.clone();
        let tunnel = TunnelId(number);
        case.input(at(0), TransitInput::Build { link: BEFORE, tunnel, message });
        if number == 1 {
            case.outputs();
        }
    }
    assert!(pending.open(&reply_to(case.outputs(), BEFORE)).is_err());
    assert_eq!(case.transit.status().tunnels, 1);
}

#[test]
fn nothing_is_left_of_a_link_that_is_down() {
    let mut case = Case::new(TransitConfig::default());
    for number in 1..=10 {
        case.tunnel(at(0), number);
        case.outputs();
    }
    case.build(at(0), 11, 3);
    case.outputs();
    case.input(at(1), TransitInput::LinkDown { link: BEFORE });
    let transit = &case.transit;
    assert!(transit.pending.is_empty() && transit.pending_sides.is_empty());
    assert!(transit.tunnels.is_empty() && transit.arriving.is_empty());
    assert!(transit.expiries.is_empty() && transit.neighbours.is_empty());
}
