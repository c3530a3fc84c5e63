//! What a look at a service sees, with the end played by hand.

use warren_overlay::{
    crypto::blind::ServiceKey,
    garlic::{Clove, RecordAnswer, RecordBytes},
    service::{DailyKeys, Day, Offer, places, seal},
    time::Wall,
    wire::Address,
};

use super::*;

const NETWORK: NetworkId = NetworkId([9; 32]);
const END: EndNo = EndNo(7);
const SERVICE: EndNo = EndNo(3);
/// The smaller id, so that its offer is the first of the descriptor.
const OTHER: OfferId = OfferId::from_bytes([1; 8]);
const OWN: OfferId = OfferId::from_bytes([2; 8]);
const WALL: Wall = Wall::from_minutes(28_800_000);

fn at(seconds: u64) -> Now {
    Now { time: Time::from_micros(seconds * 1_000_000), wall: WALL }
}

fn key() -> ServiceKey {
    ServiceKey::generate(&mut Rng::from_seed([1; 32]))
}

fn lease(n: u8) -> Lease {
    let address: Address = std::net::SocketAddr::from(([10, n, 0, 1], 7_000)).into();
    let (gateway, lease) = (RouterId([n; 32]), [n; 16]);
    Lease { gateway, link_key: [n; 32], splice_key: [9; 32], address, lease }
}

struct Bench {
    probes: Probes,
    /// Records asked for and not answered.
    asked: Vec<(u32, warren_overlay::id::Key)>,
    /// Gateways given to the end, in order.
    given: Vec<RouterId>,
    tunnels: usize,
    seen: Option<Seen>,
}

impl Bench {
    fn new() -> Self {
        let name = Name::of_service(&key());
        let mut probes = Probes::new(NETWORK, Rng::from_seed([2; 32]));
        let look = Look { service: SERVICE, name, own: OWN, access: None };
        probes.handle_input(at(0), ProbesInput::Look { end: END, look });
        let (asked, given) = (Vec::new(), Vec::new());
        let mut bench = Self { probes, asked, given, tunnels: 0, seen: None };
        bench.drain();
        bench.event(0, EndEvent::NeedTunnels { want: 2 });
        bench.event(0, EndEvent::NeedDescriptor);
        assert_eq!((bench.tunnels, bench.asked.len()), (2, 3));
        bench
    }

    fn event(&mut self, seconds: u64, event: EndEvent) {
        self.probes.handle_input(at(seconds), ProbesInput::End { end: END, event });
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.probes.poll_output() {
            match output {
                ProbesOutput::TakeTunnel { .. } => self.tunnels += 1,
                ProbesOutput::End { input: EndInput::Request { clove, .. }, .. } => {
                    let Clove::RecordGet { request, key } = clove else { panic!("{clove:?}") };
                    self.asked.push((request, key));
                }
                ProbesOutput::End { input: EndInput::Descriptor(offers), .. } => {
                    assert_eq!((offers.len(), offers[0].leases.len()), (1, 1), "one at a time");
                    self.given.push(offers[0].leases[0].gateway);
                }
                ProbesOutput::End {
                    input: EndInput::App(AppCommand::Open { port, .. }), ..
                } => {
                    assert_eq!(port, 0, "the server hears of nothing");
                }
                ProbesOutput::End { .. } | ProbesOutput::NewEnd { .. } => {}
                ProbesOutput::DropEnd { end } => assert_eq!(end, END),
                ProbesOutput::Seen { service, seen } => {
                    assert_eq!(service, SERVICE);
                    assert!(self.seen.replace(seen).is_none(), "said once");
                }
            }
        }
    }

    /// Every place answers with what `answer` makes of its index.
    fn answer(&mut self, answer: impl Fn(u8) -> Option<RecordAnswer>) {
        let name = Name::of_service(&key());
        let places = places(&name, None, NETWORK, Day::at(&name, WALL));
        while let Some((request, key)) = self.asked.pop() {
            let place = places.iter().find(|place| place.key == key).unwrap();
            let answer = answer(place.index);
            self.event(0, EndEvent::Answer { request, asked: 1, answer });
        }
    }

    /// The places hold a descriptor with these gateways of its own, and those of another router.
    fn found(&mut self, own: &[u8], other: &[u8]) {
        let (name, mut rng) = (Name::of_service(&key()), Rng::from_seed([4; 32]));
        let keys = DailyKeys::new(name, Rng::from_seed([5; 32]), Vec::new(), WALL);
        let offer = |id, leases: &[u8]| {
            let leases: Vec<_> = leases.iter().map(|n| lease(*n)).collect();
            (!leases.is_empty()).then(|| Offer { id, ..keys.newest().unwrap().offer(leases, 0) })
        };
        let offers = offer(OTHER, other).into_iter().chain(offer(OWN, own)).collect();
        let descriptor = ServiceDescriptor { created: WALL, offers };
        let (day, expiry) = (Day::at(&name, WALL), WALL.plus(60));
        let records: Vec<_> = (0..6)
            .map(|index| {
                let record =
                    seal(&mut rng, &key(), None, NETWORK, day, index, 7, expiry, &descriptor);
                record.unwrap().encode().to_vec()
            })
            .collect();
        self.answer(|index| {
            let bytes = records[usize::from(index)].clone();
            Some(RecordAnswer::Found(RecordBytes::new(bytes).unwrap()))
        });
    }
}

#[test]
fn each_gateway_is_tried_alone_and_those_that_do_not_answer_are_named() {
    let mut bench = Bench::new();
    bench.found(&[1, 2, 3], &[]);
    bench.event(1, EndEvent::Reached(Milestone::Session));
    bench.event(1, EndEvent::NeedDescriptor);
    // The second is silent; the end asks again and again, and gets the same one.
    bench.event(5, EndEvent::NeedDescriptor);
    bench.probes.handle_timeout(at(8));
    assert_eq!(bench.seen, None);
    bench.probes.handle_timeout(at(9));
    bench.drain();
    bench.event(9, EndEvent::NeedDescriptor);
    bench.event(10, EndEvent::Reached(Milestone::Session));
    let [one, two, three] = [1, 2, 3].map(|n| RouterId([n; 32]));
    assert_eq!(bench.given, [one, two, two, three]);
    let seen = bench.seen.as_ref().unwrap();
    assert_eq!((seen.version, seen.blind), (Some(7), false));
    assert_eq!((&seen.alive, &seen.dead), (&vec![one, three], &vec![two]));
    assert_eq!(seen.gone, []);
    assert!(!bench.probes.holds(END));
}

#[test]
fn another_router_is_gone_if_none_of_its_gateways_answers_while_the_own_ones_do() {
    for (own, answers, given, gone) in [
        (true, false, vec![4, 1, 2, 3], vec![OTHER]),
        (true, true, vec![4, 1], vec![]),
        (false, false, vec![4, 1, 2, 3], vec![]),
    ] {
        let mut bench = Bench::new();
        bench.found(&[4], &[1, 2, 3, 4, 5]);
        let mut seconds = 1;
        while bench.seen.is_none() {
            let is_own = bench.given.last() == Some(&RouterId([4; 32]));
            if if is_own { own } else { answers } {
                bench.event(seconds, EndEvent::Reached(Milestone::Session));
            } else {
                bench.probes.handle_timeout(at(seconds + 8));
                bench.drain();
            }
            seconds += 9;
            bench.event(seconds, EndEvent::NeedDescriptor);
        }
        assert_eq!(bench.given, given.into_iter().map(|n| RouterId([n; 32])).collect::<Vec<_>>());
        assert_eq!(bench.seen.unwrap().gone, gone);
    }
}

#[test]
fn a_descriptor_that_is_not_there_is_told_from_one_that_nobody_could_be_asked_for() {
    let mut bench = Bench::new();
    bench.answer(|_| Some(RecordAnswer::NotFound));
    let seen = bench.seen.unwrap();
    assert_eq!((seen.version, seen.blind), (None, false));
    let mut bench = Bench::new();
    bench.answer(|_| None);
    let seen = bench.seen.unwrap();
    assert_eq!((seen.version, seen.blind), (None, true));
}

#[test]
fn a_look_without_any_tunnel_ends_and_says_nothing_of_the_service() {
    let mut bench = Bench::new();
    bench.probes.handle_timeout(at(59));
    bench.drain();
    // The lookup has its own time limits; whatever they say, the look ends in time.
    bench.probes.handle_timeout(at(60));
    bench.drain();
    let seen = bench.seen.unwrap();
    assert_eq!((seen.version, seen.blind, seen.dead.len()), (None, true, 0));
    assert_eq!(bench.probes.poll_timeout(), None);
}
