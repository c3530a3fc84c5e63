//! What holds when one end, or somebody between, is not honest.

use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_oneof, proptest,
};

use super::world::{CLIENT, NAME, Path, SERVICE, World, layers};
use crate::{
    crypto::onion::{Direction, OwnerBackward, OwnerForward, RelayBackward, RelayForward},
    garlic::{
        Carrier, CarrierOutput, Clove, CloveWriter, EndHop, EndHopCommand, EndHopError,
        REQUESTS_MAX, SPLICE_WINDOW_MAX, SPLICES_MAX,
        cell::Fill,
        clove::tests::{any_clove, contact},
        leg_cell,
    },
    id::{Key, LinkNo, SpliceId, TunnelId},
    plane::{CellBody, PartMessage},
    time::Time,
};

const NOW: Time = Time::ZERO;
const LEG: (LinkNo, TunnelId) = (LinkNo(50), TunnelId(1));

/// An owner that writes what it likes into its cells; the tunnel has one hop.
struct RogueOwner {
    forward: OwnerForward,
    hop: EndHop,
}

impl RogueOwner {
    fn new() -> Self {
        let [mut forward, mut backward] = [Direction::Forward, Direction::Backward].map(layers);
        let [mut own, ..] = [layers(Direction::Forward)];
        let (forward, backward) = (forward.remove(0), backward.remove(0));
        own.truncate(1);
        Self {
            forward: OwnerForward::new(own),
            hop: EndHop::new(RelayForward::new(forward), RelayBackward::new(backward)),
        }
    }

    fn send(&mut self, payload: &[u8]) -> Result<(), EndHopError> {
        let mut cell = cell_of(payload);
        self.forward.originate(&mut cell);
        self.hop.handle_cell(NOW, &mut cell)
    }

    fn say(&mut self, clove: &Clove) -> Result<(), EndHopError> {
        cells_of(clove).iter().try_for_each(|cell| self.send(&cell[16..]))
    }
}

/// An end hop that writes what it likes.
struct RogueHop {
    backward: RelayBackward,
    carrier: Carrier,
}

impl RogueHop {
    fn new() -> Self {
        let [mut forward, mut backward] = [Direction::Forward, Direction::Backward].map(layers);
        forward.truncate(1);
        backward.truncate(1);
        let mut carrier = Carrier::new();
        let (forward, own) = (OwnerForward::new(forward), OwnerBackward::new(backward));
        carrier.add_tunnel(NAME.0, NAME.1, forward, own);
        let backward = RelayBackward::new(layers(Direction::Backward).remove(0));
        Self { backward, carrier }
    }

    fn send(&mut self, payload: &[u8]) {
        let mut cell = cell_of(payload);
        self.backward.originate(&mut cell);
        let message = PartMessage::Cells { tunnel: NAME.1, cells: vec![cell] };
        self.carrier.handle_part(NOW, NAME.0, message);
    }

    fn say(&mut self, clove: &Clove) {
        for cell in cells_of(clove) {
            self.send(&cell[16..]);
        }
    }

    fn failed(&mut self) -> bool {
        let mut failed = false;
        while let Some(output) = self.carrier.poll_output() {
            failed |= matches!(output, CarrierOutput::TunnelFailed { tunnel: NAME });
        }
        failed && !self.carrier.has_tunnel(NAME)
    }
}

fn cell_of(payload: &[u8]) -> CellBody {
    let mut cell = [0; 1_024];
    cell[16..16 + payload.len()].copy_from_slice(payload);
    cell
}

fn cells_of(clove: &Clove) -> Vec<CellBody> {
    let mut cell = [0; 1_024];
    if let Clove::SpliceData { splice, data } = clove {
        let mut fill = Fill::default();
        assert!(fill.put_data(&mut cell, *splice, data));
        return vec![cell];
    }
    let mut writer = CloveWriter::new();
    writer.push(clove);
    std::iter::from_fn(|| writer.write_cell(&mut cell).then_some(cell)).collect()
}

fn open(splice: u32) -> Clove {
    Clove::SpliceOpen { splice: SpliceId(splice), contact: contact(), sealed: [0; 76] }
}

fn data(splice: u32) -> Clove {
    Clove::SpliceData { splice: SpliceId(splice), data: vec![1; 1_001] }
}

fn closed(splice: u32) -> Clove {
    Clove::SpliceClosed { splice: SpliceId(splice) }
}

#[test]
fn a_flipped_cell_ends_the_tunnel_whichever_way_it_goes() {
    for way in [0, 1] {
        let mut world = World::new();
        world.service_sends = 1 << 20;
        world.client_stream(1 << 20);
        world.run(30);
        world.paths[CLIENT].flip[way] = true;
        world.run(10);
        if way == 0 {
            let failed = world.paths[CLIENT].failed;
            assert_eq!(failed, Some(EndHopError::Unrecognised));
            assert!(!world.paths[CLIENT].hop.has_cell());
        } else {
            assert!(world.streams[CLIENT][0].closed);
            assert!(!world.paths[CLIENT].carrier.has_tunnel(NAME));
            let failed =
                |o: &CarrierOutput| matches!(o, CarrierOutput::TunnelFailed { tunnel: NAME });
            assert_eq!(world.other.iter().filter(|output| failed(output)).count(), 1);
        }
        assert_eq!(world.paths[SERVICE].failed, None);
    }
}

#[test]
fn an_owner_that_exceeds_a_splices_credit_loses_its_tunnel() {
    let mut rogue = RogueOwner::new();
    assert_eq!(rogue.say(&open(1)), Ok(()));
    for _ in 0..32 {
        assert_eq!(rogue.say(&data(1)), Ok(()));
    }
    assert_eq!(rogue.hop.queued_cells(), 32);
    assert_eq!(rogue.say(&data(1)), Err(EndHopError::Overstepped("splice data")));
    assert_eq!(rogue.say(&open(2)), Err(EndHopError::Unrecognised), "nothing after the end");
}

#[test]
fn an_end_hop_that_exceeds_a_splices_credit_loses_the_tunnel() {
    let mut rogue = RogueHop::new();
    rogue.carrier.open_splice(NAME, contact(), [0; 76]).unwrap();
    for _ in 0..32 {
        rogue.say(&data(1));
    }
    assert!(!rogue.failed());
    rogue.say(&data(1));
    assert!(rogue.failed());
}

#[test]
fn a_leg_that_exceeds_what_a_splice_holds_loses_the_splice_alone() {
    let mut rogue = RogueOwner::new();
    for leg in [1, 2] {
        let command = EndHopCommand::AcceptIncoming { leg: (LinkNo(50), TunnelId(leg)) };
        rogue.hop.handle_command(NOW, command);
    }
    let [a, b] = [1, 2].map(|n| SpliceId(1 << 31 | n));
    let cell = leg_cell(b"x").unwrap();
    rogue.hop.handle_leg_cells(NOW, b, vec![cell; 15]);
    let most = SPLICE_WINDOW_MAX as usize / 15;
    for _ in 0..most {
        rogue.hop.handle_leg_cells(NOW, a, vec![cell; 15]);
    }
    assert_eq!(rogue.hop.queued_cells(), 15 + most * 15);
    rogue.hop.handle_leg_cells(NOW, a, vec![cell; 15]);
    assert_eq!(rogue.hop.queued_cells(), 15);
    assert_eq!(rogue.hop.legs().count(), 1);
    rogue.hop.handle_leg_cells(NOW, b, vec![[0xff; 1_024]]);
    assert_eq!(rogue.hop.legs().count(), 0, "what is no leg cell ends the splice too");
}

#[test]
fn an_owner_that_asks_and_never_reads_loses_its_tunnel_at_the_bound() {
    let mut rogue = RogueOwner::new();
    let ask = |request| Clove::RecordGet { request, key: Key([1; 32]) };
    for request in 0..u32::try_from(REQUESTS_MAX).unwrap() {
        assert_eq!(rogue.say(&ask(request)), Ok(()));
        // Answers that wait to be sent count as much as open requests.
        let answer = crate::garlic::RecordAnswer::NotFound;
        let answer = EndHopCommand::Answer(Clove::RecordAnswer { request, asked: 2, answer });
        rogue.hop.handle_command(NOW, answer);
    }
    assert_eq!(rogue.say(&ask(99)), Err(EndHopError::Overstepped("requests")));
}

#[test]
fn an_owner_that_opens_and_never_reads_loses_its_tunnel_at_the_bound() {
    let mut rogue = RogueOwner::new();
    let most = u32::try_from(2 * SPLICES_MAX).unwrap();
    for splice in 1..=most {
        assert_eq!(rogue.say(&open(splice)), Ok(()));
        let command = EndHopCommand::CloseSplice { splice: SpliceId(splice) };
        rogue.hop.handle_command(NOW, command);
    }
    assert_eq!(rogue.say(&open(most + 1)), Err(EndHopError::Overstepped("splices")));
}

#[test]
fn a_splice_number_is_used_once_and_only_by_who_may() {
    for (first, second) in [(5, 5), (5, 4), (5, 1 << 31 | 1), (0x7fff_ffff, 1)] {
        let mut rogue = RogueOwner::new();
        assert_eq!(rogue.say(&open(first)), Ok(()));
        assert_eq!(rogue.say(&open(second)), Err(EndHopError::OutOfPlace));
    }
    let mut rogue = RogueHop::new();
    rogue.say(&Clove::SpliceIncoming { splice: SpliceId(5) });
    assert!(rogue.failed());
}

#[test]
fn late_cloves_about_a_closed_splice_change_nothing() {
    let mut rogue = RogueOwner::new();
    rogue.say(&open(1)).unwrap();
    rogue.hop.handle_command(NOW, EndHopCommand::Attach { splice: SpliceId(1), leg: LEG });
    rogue.say(&closed(1)).unwrap();
    while rogue.hop.poll_output().is_some() {}
    for late in [data(1), closed(1), Clove::SpliceCredit { splice: SpliceId(1), cells: 512 }] {
        assert_eq!(rogue.say(&late), Ok(()));
    }
    rogue.hop.handle_drained(NOW, SpliceId(1), 5);
    rogue.hop.handle_leg_cells(NOW, SpliceId(1), vec![leg_cell(b"x").unwrap()]);
    assert!(rogue.hop.poll_output().is_none());
    assert!(!rogue.hop.has_cell());
    assert_eq!(rogue.say(&data(2)), Err(EndHopError::OutOfPlace), "never was");
}

#[test]
fn answers_that_nobody_asked_for_end_the_tunnel() {
    let mut rogue = RogueHop::new();
    rogue.say(&Clove::LeaseRefused { request: 1 });
    assert!(rogue.failed());
    let mut rogue = RogueOwner::new();
    assert_eq!(rogue.say(&Clove::LeaseRefused { request: 1 }), Err(EndHopError::OutOfPlace));
}

#[test]
fn an_owner_that_grants_no_lane_credit_fills_nothing() {
    let mut world = World::new();
    world.service_sends = 10 << 20;
    world.client_stream(0);
    world.run(3);
    world.paths[CLIENT].owner_reads_lane = false;
    world.run(3_000);
    // The service's end was stopped by credits: at most both windows and the lanes between.
    let sent = world.streams[SERVICE][0].sent / 1_001;
    assert!(sent < 3 * 512 + 3 * 128, "{sent} cells under way");
}

/// Cloves about few splices and requests, so that they meet.
fn close_clove() -> impl Strategy<Value = Clove> {
    let splice = || prop_oneof![1u32..6, (1u32..6).prop_map(|n| 1 << 31 | n)].prop_map(SpliceId);
    prop_oneof![
        any_clove(),
        splice().prop_map(|splice| Clove::SpliceOpen {
            splice,
            contact: contact(),
            sealed: [1; 76]
        }),
        splice().prop_map(|splice| Clove::SpliceOpened { splice }),
        splice().prop_map(|splice| Clove::SpliceClosed { splice }),
        splice().prop_map(|splice| Clove::SpliceIncoming { splice }),
        (splice(), 1..=32u16).prop_map(|(splice, n)| Clove::SpliceCredit { splice, cells: 16 * n }),
        (splice(), 1..1_002usize)
            .prop_map(|(splice, len)| Clove::SpliceData { splice, data: vec![2; len] }),
        (0..4u32).prop_map(|request| Clove::RecordGet { request, key: Key([3; 32]) }),
        (0..4u32).prop_map(|request| Clove::LeaseGranted { request, splice_key: [4; 32] }),
    ]
}

/// What Node and the leg's link may do at any time, whether it fits or not.
#[derive(Clone, Debug)]
enum Poke {
    Say(Clove),
    Command(EndHopCommand),
    Leg(SpliceId, usize),
    Drained(SpliceId, u32),
    Poll(usize),
    Outputs,
    Wait(u64),
}

fn poke() -> impl Strategy<Value = Poke> {
    let splice = || prop_oneof![1u32..6, (1u32..6).prop_map(|n| 1 << 31 | n)].prop_map(SpliceId);
    prop_oneof![
        4 => close_clove().prop_map(Poke::Say),
        1 => splice().prop_map(|splice| Poke::Command(EndHopCommand::Attach { splice, leg: LEG })),
        1 => Just(Poke::Command(EndHopCommand::AcceptIncoming { leg: LEG })),
        1 => splice().prop_map(|splice| Poke::Command(EndHopCommand::CloseSplice { splice })),
        1 => any_clove().prop_map(|clove| Poke::Command(EndHopCommand::Answer(clove))),
        2 => (splice(), 0..20usize).prop_map(|(splice, n)| Poke::Leg(splice, n)),
        1 => (splice(), 0..200u32).prop_map(|(splice, n)| Poke::Drained(splice, n)),
        2 => (0..20usize).prop_map(Poke::Poll),
        2 => Just(Poke::Outputs),
        1 => (0..40u64).prop_map(Poke::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_payloads_never_make_an_end_hop_panic(
        payloads in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 1_008), 0u8..40), 1..10),
    ) {
        let (mut hop, mut owner) = (RogueOwner::new(), RogueHop::new());
        for (mut payload, kind) in payloads {
            payload[0] = kind;
            let _ = hop.send(&payload);
            owner.send(&payload);
        }
        prop_assert!(hop.hop.queued_cells() <= 10);
    }

    /// Any order of everything: no panic, no splice over its bound, and what it says it has it has.
    #[test]
    fn an_end_hop_keeps_its_bounds_whatever_happens(
        pokes in prop::collection::vec(poke(), 1..150),
    ) {
        let (mut rogue, mut now) = (RogueOwner::new(), 0);
        let mut cell = [0; 1_024];
        for poke in pokes {
            let time = Time::from_micros(now * 1_000_000);
            match poke {
                Poke::Say(clove) => { let _ = rogue.say(&clove); }
                Poke::Command(command) => rogue.hop.handle_command(time, command),
                Poke::Leg(splice, n) => {
                    let cells = vec![leg_cell(b"leg").unwrap(); n];
                    rogue.hop.handle_leg_cells(time, splice, cells);
                }
                Poke::Drained(splice, n) => rogue.hop.handle_drained(time, splice, n),
                Poke::Poll(n) => for _ in 0..n {
                    let has = rogue.hop.has_cell();
                    prop_assert!(rogue.hop.poll_cell(time, &mut cell) == has);
                },
                Poke::Outputs => while rogue.hop.poll_output().is_some() {},
                Poke::Wait(seconds) => {
                    now += seconds;
                    rogue.hop.handle_timeout(Time::from_micros(now * 1_000_000));
                }
            }
            prop_assert!(rogue.hop.queued_cells() <= 10 * 1_024);
        }
        while rogue.hop.has_cell() {
            prop_assert!(rogue.hop.poll_cell(NOW, &mut cell));
        }
        prop_assert!(!rogue.hop.poll_cell(NOW, &mut cell));
    }

    /// The same for an owner: its cells never exceed the feed window.
    #[test]
    fn a_carrier_keeps_its_bounds_whatever_its_end_hop_says(
        cloves in prop::collection::vec((close_clove(), 0..6u8), 1..100),
    ) {
        let mut rogue = RogueHop::new();
        let mut splices = Vec::new();
        for (clove, act) in cloves {
            rogue.say(&clove);
            match act {
                0 => splices.extend(rogue.carrier.open_splice(NAME, contact(), [0; 76])),
                1 => for no in &splices {
                    while rogue.carrier.splice_capacity(*no) > 0 {
                        prop_assert!(rogue.carrier.splice_send(*no, &[1; 900]));
                    }
                },
                2 => for no in &splices {
                    rogue.carrier.splice_consumed(NOW, *no, 7);
                },
                3 => splices.pop().into_iter().for_each(|no| rogue.carrier.close_splice(no)),
                4 => { let _ = rogue.carrier.send_clove(NAME, &clove); }
                _ => { rogue.carrier.send_padding(NAME); }
            }
            prop_assert!(rogue.carrier.queued_cells() <= 128);
        }
        while rogue.carrier.poll_output().is_some() {}
    }
}

#[test]
fn a_path_of_strangers_is_what_both_sides_think() {
    // The rogues above have one hop; the world has three. Both are the same machines.
    let mut path = Path::new();
    path.carrier.open_splice(NAME, contact(), [0; 76]).unwrap();
    path.step(NOW);
    assert_eq!(path.hop_outputs().len(), 1);
}
