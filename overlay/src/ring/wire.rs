//! What ring neighbours say to each other.
//!
//! Lives here: the message kinds, their bounds and their bytes. Does not live here: link framing
//! (`wire/message.rs` carries these as its kind 9), what anybody does on receipt (`machine.rs`,
//! `request.rs`).
//!
//! All fields are written afresh on every link: request ids count per link and direction, there is
//! no global id, and the one thing that must travel on, the visited filter, is bounded in content
//! (PROTOCOL P5).

use std::sync::Arc;

use crate::{
    answer::Answer,
    block::{BLOCK_LEN, Block, BlockAddress},
    id::{Key, Location, NetworkId},
    record::Record,
    ring::{repair::Repair, visited::Visited, watch::Watch},
    unit::{Unit, UnitKey},
    wire::{Reader, RouterDescriptor, WireError, Writer},
};

pub use crate::answer::BUDGET_MAX;
pub(super) use crate::answer::{RECENTLY_FAILED_MAX_S, RETRY_MAX_S};

/// Most descriptors in one message: three of the longest stay under the link's 8 KiB.
pub const DESCRIPTORS_MAX: usize = 3;
/// Most block requests of one class that a router may allow a neighbour at a time: 1 MiB.
pub const WINDOW_MAX: u8 = 32;

/// Why somebody wants to be a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// As one of its two successors or predecessors.
    Near,
    /// As the end of a long link that it drew.
    Long,
}

/// How urgent a request for a block is (spec/ring.md, section 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Somebody waits. All requests for records, which are small, are of this class.
    #[default]
    Interactive,
    /// Nobody waits for this one: large files, repair.
    Bulk,
}

impl Class {
    /// Both, the more urgent first.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Bulk];
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Which routers are closest to this point?
    Find(Location),
    /// The unit with this key.
    Get(UnitKey),
    /// Keep this on the routers closest to its key.
    Put(Unit),
    /// A record, once there is a version above the known one.
    Watch(Watch),
}

impl Body {
    /// The point of the ring it must reach.
    pub fn location(&self) -> Location {
        match self {
            Self::Find(location) => *location,
            Self::Get(key) => key.location(),
            Self::Put(unit) => unit.key().location(),
            Self::Watch(watch) => watch.key.location(),
        }
    }

    /// Whether it is about a block, and so goes by the windows.
    pub const fn is_block(&self) -> bool {
        matches!(self, Self::Get(UnitKey::Block(_)) | Self::Put(Unit::Block(_)))
    }
}

/// What a request found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// What was asked for.
    Unit(Unit),
    /// These routers are the closest that the answering one knows.
    Routers(Vec<Arc<RouterDescriptor>>),
}

impl Found {
    /// The router at exactly this place, as it described itself last, if it is among those found.
    pub(super) fn router_at(self, location: Location) -> Option<Arc<RouterDescriptor>> {
        let Self::Routers(routers) = self else { return None };
        let there = routers.into_iter().filter(|it| it.location() == location);
        there.max_by_key(|it| it.fields().published)
    }
}

/// One message between linked routers (spec/ring.md, "Messages").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RingMessage {
    /// Kind 0: be my neighbour.
    Hello {
        /// How many neighbours the sender wants in all, 4 to 64.
        degree: u8,
        /// What for.
        reach: Reach,
    },
    /// Kind 1: the answer to `Hello`.
    Welcome {
        /// Whether both are neighbours now.
        accepted: bool,
    },
    /// Kind 2: no longer neighbours.
    Bye {
        /// The sender goes away altogether; forget it.
        leaving: bool,
    },
    /// Kind 3: neighbours of the sender that the receiver may want to know, 1 to 3.
    Gossip(Vec<Arc<RouterDescriptor>>),
    /// Kind 4: do this, or pass it on.
    Request {
        /// Counts per link and direction.
        id: u32,
        /// How often it may still be passed on, 0 to 20. Zero: answer from what you have.
        budget: u8,
        /// How urgent it is.
        class: Class,
        /// Who saw it already.
        visited: Visited,
        /// What is asked.
        body: Body,
    },
    /// Kind 5: the request was passed on; have patience.
    Accepted {
        /// The request.
        id: u32,
    },
    /// Kind 6: how the request ended.
    Answer {
        /// The request.
        id: u32,
        /// For a found block, that of the request; else interactive.
        class: Class,
        /// How many routers were asked for it, the answering one included; 255 for more.
        asked: u8,
        /// Its end.
        answer: Answer<Found>,
    },
    /// Kind 7: keep this record; you are among the closest to it now. No answer. (A block goes as a
    /// `Put` with budget 0, which has one.)
    Replicate(Record),
    /// Kind 8: from now on the receiver may have so many unanswered requests for blocks here.
    Window {
        /// Of class interactive, 1 to [`WINDOW_MAX`].
        interactive: u8,
        /// Of class bulk, 1 to [`WINDOW_MAX`].
        bulk: u8,
    },
    /// Kinds 9 to 11: what holders of blocks say to each other.
    Repair(Repair),
}

impl RingMessage {
    /// Whether every message of this kind gets an answer over the same link: `Hello` and `Request`.
    pub(crate) const fn is_answered(kind: u8) -> bool {
        matches!(kind, 0 | 4)
    }

    /// Appends the body of a link message of kind 9.
    pub fn encode(&self, w: &mut Writer) {
        match self {
            Self::Hello { degree, reach } => w.u8(0).u8(*degree).u8(match reach {
                Reach::Near => 0,
                Reach::Long => 1,
            }),
            Self::Welcome { accepted } => w.u8(1).u8(u8::from(*accepted)),
            Self::Bye { leaving } => w.u8(2).u8(u8::from(*leaving)),
            Self::Gossip(descriptors) => {
                w.u8(3);
                encode_descriptors(w, descriptors);
                w
            }
            Self::Request { id, budget, class, visited, body } => {
                w.u8(4).u32(*id).u8(*budget).u8(u8::from(*class == Class::Bulk));
                w.bytes(visited.as_bytes());
                match body {
                    Body::Find(location) => w.u8(0).u64(location.0),
                    Body::Get(UnitKey::Record(key)) => w.u8(1).bytes(key.as_bytes()),
                    Body::Put(Unit::Record(record)) => w.u8(2).bytes(record.encode()),
                    Body::Get(UnitKey::Block(address)) => w.u8(3).bytes(address.as_bytes()),
                    Body::Put(Unit::Block(block)) => w.u8(4).bytes(block.as_bytes()),
                    Body::Watch(watch) => watch.encode(w.u8(5)),
                }
            }
            Self::Accepted { id } => w.u8(5).u32(*id),
            Self::Answer { id, class, asked, answer } => {
                w.u8(6).u32(*id).u8(u8::from(*class == Class::Bulk)).u8(*asked);
                answer.encode(w, Found::encode);
                w
            }
            Self::Replicate(record) => w.u8(7).bytes(record.encode()),
            Self::Window { interactive, bulk } => w.u8(8).u8(*interactive).u8(*bulk),
            Self::Repair(repair) => {
                repair.encode(w);
                w
            }
        };
    }

    /// Reads one message of `network`, to the end of `r`; signatures inside are checked.
    ///
    /// # Errors
    /// On anything that `encode` does not write, and on bad signatures: every router checks before it
    /// passes anything on, so both are the sender's own doing.
    pub fn decode(r: &mut Reader<'_>, network: NetworkId) -> Result<Self, WireError> {
        Ok(match r.u8("ring message kind")? {
            0 => {
                let degree = r.u8("ring degree")?;
                if !(4..=64).contains(&degree) {
                    return Err(WireError::Bad("ring degree"));
                }
                let reach = match r.u8("ring reach")? {
                    0 => Reach::Near,
                    1 => Reach::Long,
                    _ => return Err(WireError::Bad("ring reach")),
                };
                Self::Hello { degree, reach }
            }
            1 => Self::Welcome { accepted: flag(r, "ring welcome")? },
            2 => Self::Bye { leaving: flag(r, "ring bye")? },
            3 => {
                let descriptors = decode_descriptors(r, network)?;
                if descriptors.is_empty() {
                    return Err(WireError::Bad("ring gossip"));
                }
                Self::Gossip(descriptors)
            }
            4 => {
                let id = r.u32("ring request id")?;
                let budget = r.u8("ring budget")?;
                if budget > BUDGET_MAX {
                    return Err(WireError::Bad("ring budget"));
                }
                let class = class(r)?;
                let visited = Visited::from_bytes(r.array("ring visited filter")?)
                    .ok_or(WireError::Bad("ring visited filter"))?;
                let body = match r.u8("ring request body")? {
                    0 => Body::Find(Location(r.u64("ring location")?)),
                    1 => Body::Get(UnitKey::Record(Key(r.array("ring key")?))),
                    2 => Body::Put(Unit::Record(Record::decode(r.rest(), network)?)),
                    3 => Body::Get(UnitKey::Block(BlockAddress(r.array("ring address")?))),
                    4 => Body::Put(Unit::Block(block(r)?)),
                    5 => Body::Watch(Watch::decode(r)?),
                    _ => return Err(WireError::Bad("ring request body")),
                };
                // Records have no classes: one spelling.
                if class == Class::Bulk && !body.is_block() {
                    return Err(WireError::Bad("ring class"));
                }
                Self::Request { id, budget, class, visited, body }
            }
            5 => Self::Accepted { id: r.u32("ring request id")? },
            6 => {
                let id = r.u32("ring request id")?;
                let class = class(r)?;
                let asked = r.u8("routers asked")?;
                let answer = Answer::decode(r, |r| Found::decode(r, network))?;
                let message = Self::Answer { id, class, asked, answer };
                if class == Class::Bulk && !message.is_large() {
                    return Err(WireError::Bad("ring class"));
                }
                message
            }
            7 => Self::Replicate(Record::decode(r.rest(), network)?),
            8 => Self::Window { interactive: window(r)?, bulk: window(r)? },
            kind => Self::Repair(Repair::decode(kind, r)?),
        })
    }

    /// How urgent it is.
    pub const fn class(&self) -> Class {
        match self {
            Self::Request { class, .. } | Self::Answer { class, .. } => *class,
            _ => Class::Interactive,
        }
    }

    /// Whether it is too long for one link message and goes in parts (spec/link.md, section 4).
    pub const fn is_large(&self) -> bool {
        match self {
            Self::Request { body, .. } => matches!(body, Body::Put(Unit::Block(_))),
            Self::Answer { answer, .. } => {
                matches!(answer, Answer::Found(Found::Unit(Unit::Block(_))))
            }
            _ => false,
        }
    }
}

impl Found {
    fn encode(&self, w: &mut Writer) {
        match self {
            Self::Unit(Unit::Record(record)) => w.u8(0).bytes(record.encode()),
            Self::Routers(descriptors) => {
                encode_descriptors(w.u8(1), descriptors);
                w
            }
            Self::Unit(Unit::Block(block)) => w.u8(2).bytes(block.as_bytes()),
        };
    }

    fn decode(r: &mut Reader<'_>, network: NetworkId) -> Result<Self, WireError> {
        Ok(match r.u8("found kind")? {
            0 => Self::Unit(Unit::Record(Record::decode(r.rest(), network)?)),
            1 => Self::Routers(decode_descriptors(r, network)?),
            2 => Self::Unit(Unit::Block(block(r)?)),
            _ => return Err(WireError::Bad("found kind")),
        })
    }
}

fn block(r: &mut Reader<'_>) -> Result<Block, WireError> {
    Block::copy_from(r.slice(BLOCK_LEN, "block")?).ok_or(WireError::Bad("block"))
}

fn class(r: &mut Reader<'_>) -> Result<Class, WireError> {
    match r.u8("ring class")? {
        0 => Ok(Class::Interactive),
        1 => Ok(Class::Bulk),
        _ => Err(WireError::Bad("ring class")),
    }
}

fn window(r: &mut Reader<'_>) -> Result<u8, WireError> {
    let window = r.u8("window")?;
    if (1..=WINDOW_MAX).contains(&window) { Ok(window) } else { Err(WireError::Bad("window")) }
}

fn flag(r: &mut Reader<'_>, field: &'static str) -> Result<bool, WireError> {
    match r.u8(field)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(WireError::Bad(field)),
    }
}

/// Count (1 byte, at most 3), then each with its length (2 bytes) before it. More than three are
/// cut off: no caller gives more.
fn encode_descriptors(w: &mut Writer, descriptors: &[Arc<RouterDescriptor>]) {
    let descriptors = descriptors.get(..DESCRIPTORS_MAX).unwrap_or(descriptors);
    w.reserve(1 + descriptors.iter().map(|it| 2 + it.len()).sum::<usize>());
    w.u8(u8::try_from(descriptors.len()).unwrap_or(0));
    for descriptor in descriptors {
        descriptor.write(w.u16(u16::try_from(descriptor.len()).unwrap_or(0)));
    }
}

fn decode_descriptors(
    r: &mut Reader<'_>,
    network: NetworkId,
) -> Result<Vec<Arc<RouterDescriptor>>, WireError> {
    let count = usize::from(r.u8("descriptor count")?);
    if count > DESCRIPTORS_MAX {
        return Err(WireError::Bad("descriptor count"));
    }
    let mut descriptors = Vec::with_capacity(count);
    for _ in 0..count {
        let len = usize::from(r.u16("descriptor length")?);
        let bytes = r.slice(len, "descriptor")?;
        descriptors.push(RouterDescriptor::decode_shared(bytes, network)?);
    }
    Ok(descriptors)
}

#[cfg(test)]
pub(super) mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        record::{RecordSize, tests::record_in},
        ring::{
            repair::tests::any_repair,
            testing::{NETWORK, descriptor},
        },
    };

    fn decoded(bytes: &[u8]) -> Result<RingMessage, WireError> {
        let mut r = Reader::new(bytes);
        let message = RingMessage::decode(&mut r, NETWORK)?;
        r.finish().map(|()| message)
    }

    fn encoded(message: &RingMessage) -> Vec<u8> {
        let mut w = Writer::default();
        message.encode(&mut w);
        w.into_bytes()
    }

    fn any_record() -> impl Strategy<Value = Record> {
        (any::<u8>(), any::<u64>(), prop_oneof![Just(RecordSize::Small), Just(RecordSize::Large)])
            .prop_map(|(seed, version, size)| record_in(NETWORK, seed, version, 9, b"x", size))
    }

    fn any_descriptors(min: usize) -> impl Strategy<Value = Vec<Arc<RouterDescriptor>>> {
        prop::collection::vec((0u8..6).prop_map(|seed| descriptor(u32::from(seed))), min..=3)
    }

    fn any_visited() -> impl Strategy<Value = Visited> {
        prop::collection::vec(any::<[u8; 4]>(), 0..20).prop_map(|marks| {
            let mut visited = Visited::default();
            for mark in marks {
                visited.insert(mark);
            }
            visited
        })
    }

    fn any_body() -> impl Strategy<Value = Body> {
        prop_oneof![
            any::<u64>().prop_map(|at| Body::Find(Location(at))),
            any::<[u8; 32]>().prop_map(|key| Body::Get(UnitKey::Record(Key(key)))),
            any_record().prop_map(|record| Body::Put(record.into())),
            any::<[u8; 32]>().prop_map(|key| Body::Get(UnitKey::Block(BlockAddress(key)))),
            any::<u8>().prop_map(|fill| Body::Put(block_of(fill).into())),
            (any::<[u8; 32]>(), any::<u64>())
                .prop_map(|(key, above)| Body::Watch(Watch { key: Key(key), above })),
        ]
    }

    fn message_is_large(answer: &Answer<Found>) -> bool {
        matches!(answer, Answer::Found(Found::Unit(Unit::Block(_))))
    }

    pub(in crate::ring) fn block_of(fill: u8) -> Block {
        Block::copy_from(&vec![fill; BLOCK_LEN]).unwrap()
    }

    fn any_answer() -> impl Strategy<Value = Answer<Found>> {
        prop_oneof![
            any_record().prop_map(|record| Answer::Found(Found::Unit(record.into()))),
            any::<u8>().prop_map(|fill| Answer::Found(Found::Unit(block_of(fill).into()))),
            any_descriptors(0).prop_map(|them| Answer::Found(Found::Routers(them))),
            (1u8..).prop_map(|copies| Answer::Stored { copies }),
            Just(Answer::Stale),
            Just(Answer::NotFound),
            (0..=BUDGET_MAX).prop_map(|left| Answer::NoRoute { left }),
            (0..=RETRY_MAX_S).prop_map(|retry_s| Answer::Busy { retry_s }),
            (0..=RECENTLY_FAILED_MAX_S).prop_map(|until_s| Answer::RecentlyFailed { until_s }),
        ]
    }

    pub(in crate::ring) fn any_message() -> impl Strategy<Value = RingMessage> {
        prop_oneof![
            (4u8..=64, any::<bool>()).prop_map(|(degree, near)| RingMessage::Hello {
                degree,
                reach: if near { Reach::Near } else { Reach::Long },
            }),
            any::<bool>().prop_map(|accepted| RingMessage::Welcome { accepted }),
            any::<bool>().prop_map(|leaving| RingMessage::Bye { leaving }),
            any_descriptors(1).prop_map(RingMessage::Gossip),
            (any::<u32>(), 0..=BUDGET_MAX, any::<bool>(), any_visited(), any_body()).prop_map(
                |(id, budget, bulk, visited, body)| {
                    let bulk = bulk && body.is_block();
                    let class = if bulk { Class::Bulk } else { Class::Interactive };
                    RingMessage::Request { id, budget, class, visited, body }
                }
            ),
            any::<u32>().prop_map(|id| RingMessage::Accepted { id }),
            (any::<u32>(), any::<bool>(), any::<u8>(), any_answer()).prop_map(
                |(id, bulk, asked, answer)| {
                    let bulk = bulk && message_is_large(&answer);
                    let class = if bulk { Class::Bulk } else { Class::Interactive };
                    RingMessage::Answer { id, class, asked, answer }
                }
            ),
            any_record().prop_map(RingMessage::Replicate),
            (1..=WINDOW_MAX, 1..=WINDOW_MAX)
                .prop_map(|(interactive, bulk)| RingMessage::Window { interactive, bulk }),
            any_repair().prop_map(RingMessage::Repair),
        ]
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(message in any_message()) {
            let bytes = encoded(&message);
            let most = if message.is_large() { BLOCK_LEN + 64 } else { 5_000 };
            prop_assert!(bytes.len() <= most);
            prop_assert_eq!(decoded(&bytes), Ok(message));
        }

        #[test] // half of the changes hit the first bytes, where kinds, counts and lengths are
        fn no_two_byte_strings_mean_the_same_message(
            message in any_message(), at: prop::sample::Index, head: bool, with: u8,
        ) {
            let mut bytes = encoded(&message);
            let at = at.index(if head { bytes.len().min(8) } else { bytes.len() });
            bytes[at] = with;
            if let Ok(other) = decoded(&bytes) {
                prop_assert!(encoded(&other) == bytes);
            }
        }

        #[test]
        fn a_truncated_message_is_refused(message in any_message(), at: prop::sample::Index) {
            let bytes = encoded(&message);
            prop_assert!(decoded(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn random_bytes_never_panic(kind in 0u8..13, rest in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = decoded(&[&[kind][..], &rest].concat());
        }
    }

    #[test]
    fn requests_have_the_documented_bytes() {
        let mut visited = Visited::default();
        visited.insert([0, 1, 8, 255]);
        let body = Body::Find(Location(0x0102_0304_0506_0708));
        let class = Class::Interactive;
        let message = RingMessage::Request { id: 7, budget: 20, class, visited, body };
        assert_eq!(
            HEXLOWER.encode(&encoded(&message)),
            "04\
             00000007\
             14\
             00\
             0301000000000000000000000000000000000000000000000000000000000080\
             00\
             0102030405060708"
        );
    }

    #[test]
    fn every_bound_is_checked() {
        for bad in [
            &[0, 3, 0][..],                    // degree under 4
            &[0, 65, 0],                       // degree over 64
            &[0, 20, 2],                       // no such reach
            &[1, 2],                           // no flag
            &[3, 0],                           // empty gossip
            &[3, 4],                           // too many descriptors
            &[6, 0, 0, 0, 0, 0, 1, 1, 0],      // stored nowhere
            &[6, 0, 0, 0, 0, 0, 1, 3, 21],     // more budget than there is
            &[6, 0, 0, 0, 0, 0, 1, 4, 0, 61],  // back-off over a minute
            &[6, 0, 0, 0, 0, 0, 1, 5, 0, 181], // remembered over three minutes
            &[6, 0, 0, 0, 0, 1, 1, 2],         // only blocks have a class
            &[8, 0, 1],                        // no window
            &[8, 1, 33],                       // too much of one
            &[9, 0],                           // nothing offered
            &[10, 65],                         // too much wanted
            &[12],
        ] {
            assert!(matches!(decoded(bad), Err(WireError::Bad(_))), "{bad:?}");
        }
        let request = |budget: u8, class: u8, filter: u8| {
            [&[4, 0, 0, 0, 1, budget, class][..], &[filter; 32], &[0; 9]].concat()
        };
        assert!(decoded(&request(20, 0, 0x0f)).is_ok()); // 128 bits set
        assert!(decoded(&request(21, 0, 0)).is_err());
        assert!(decoded(&request(20, 0, 0x1f)).is_err()); // 160 bits set
        assert!(decoded(&request(20, 1, 0)).is_err()); // a find has no class
        assert!(decoded(&request(20, 2, 0)).is_err());
    }
}
