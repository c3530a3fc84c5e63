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
    id::{Key, Location, NetworkId},
    record::Record,
    ring::visited::Visited,
    wire::{Reader, RouterDescriptor, WireError, Writer},
};

/// Most descriptors in one message: three of the longest stay under the link's 8 KiB.
pub const DESCRIPTORS_MAX: usize = 3;
/// Most forwards a request is good for (DESIGN section 5).
pub const BUDGET_MAX: u8 = 20;
/// Longest back-off anybody may ask for, in seconds.
pub(super) const RETRY_MAX_S: u16 = 60;
/// How long a failed key is remembered, in seconds.
pub(super) const RECENTLY_FAILED_MAX_S: u16 = 180;

/// Why somebody wants to be a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// As one of its two successors or predecessors.
    Near,
    /// As the end of a long link that it drew.
    Long,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Which routers are closest to this point?
    Find(Location),
    /// The record with this key.
    Get(Key),
    /// Keep this record on the routers closest to its key.
    Put(Record),
}

impl Body {
    /// The point of the ring it must reach.
    pub fn location(&self) -> Location {
        match self {
            Self::Find(location) => *location,
            Self::Get(key) => key.location(),
            Self::Put(record) => record.key().location(),
        }
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Here is the record.
    Found(Record),
    /// These routers are the closest that the answering one knows.
    Routers(Vec<Arc<RouterDescriptor>>),
    /// Kept by so many routers, at least one.
    Stored {
        /// How many copies were confirmed.
        copies: u8,
    },
    /// A holder has a version that is as high or higher.
    Stale,
    /// The routers that would hold it do not have it.
    NotFound,
    /// The way ended; the asker may try another with so many forwards left.
    NoRoute {
        /// Unused part of the budget.
        left: u8,
    },
    /// Too much to do.
    Busy {
        /// When to come back, in seconds.
        retry_s: u16,
    },
    /// This key failed several times lately; it is not searched again yet.
    RecentlyFailed {
        /// For how long still, in seconds.
        until_s: u16,
    },
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
        /// Its end.
        answer: Answer,
    },
    /// Kind 7: keep this; you are among the closest to it now. No answer.
    Replicate(Record),
}

impl RingMessage {
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
            Self::Request { id, budget, visited, body } => {
                w.u8(4).u32(*id).u8(*budget).bytes(visited.as_bytes());
                match body {
                    Body::Find(location) => w.u8(0).u64(location.0),
                    Body::Get(key) => w.u8(1).bytes(key.as_bytes()),
                    Body::Put(record) => w.u8(2).bytes(record.encode()),
                }
            }
            Self::Accepted { id } => w.u8(5).u32(*id),
            Self::Answer { id, answer } => {
                w.u8(6).u32(*id);
                answer.encode(w);
                w
            }
            Self::Replicate(record) => w.u8(7).bytes(record.encode()),
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
                let visited = Visited::from_bytes(r.array("ring visited filter")?)
                    .ok_or(WireError::Bad("ring visited filter"))?;
                let body = match r.u8("ring request body")? {
                    0 => Body::Find(Location(r.u64("ring location")?)),
                    1 => Body::Get(Key(r.array("ring key")?)),
                    2 => Body::Put(Record::decode(r.rest(), network)?),
                    _ => return Err(WireError::Bad("ring request body")),
                };
                Self::Request { id, budget, visited, body }
            }
            5 => Self::Accepted { id: r.u32("ring request id")? },
            6 => {
                Self::Answer { id: r.u32("ring request id")?, answer: Answer::decode(r, network)? }
            }
            7 => Self::Replicate(Record::decode(r.rest(), network)?),
            _ => return Err(WireError::Bad("ring message kind")),
        })
    }
}

impl Answer {
    fn encode(&self, w: &mut Writer) {
        match self {
            Self::Found(record) => w.u8(0).bytes(record.encode()),
            Self::Routers(descriptors) => {
                w.u8(1);
                encode_descriptors(w, descriptors);
                w
            }
            Self::Stored { copies } => w.u8(2).u8(*copies),
            Self::Stale => w.u8(3),
            Self::NotFound => w.u8(4),
            Self::NoRoute { left } => w.u8(5).u8(*left),
            Self::Busy { retry_s } => w.u8(6).u16(*retry_s),
            Self::RecentlyFailed { until_s } => w.u8(7).u16(*until_s),
        };
    }

    fn decode(r: &mut Reader<'_>, network: NetworkId) -> Result<Self, WireError> {
        let bounded = |value: u16, max: u16, field| {
            if value > max { Err(WireError::Bad(field)) } else { Ok(value) }
        };
        Ok(match r.u8("ring answer")? {
            0 => Self::Found(Record::decode(r.rest(), network)?),
            1 => Self::Routers(decode_descriptors(r, network)?),
            2 => match r.u8("ring copies")? {
                0 => return Err(WireError::Bad("ring copies")),
                copies => Self::Stored { copies },
            },
            3 => Self::Stale,
            4 => Self::NotFound,
            5 => {
                let left = r.u8("ring budget left")?;
                if left > BUDGET_MAX {
                    return Err(WireError::Bad("ring budget left"));
                }
                Self::NoRoute { left }
            }
            6 => {
                let retry_s = bounded(r.u16("ring retry")?, RETRY_MAX_S, "ring retry")?;
                Self::Busy { retry_s }
            }
            7 => {
                let until_s = r.u16("ring recently failed")?;
                let until_s = bounded(until_s, RECENTLY_FAILED_MAX_S, "ring recently failed")?;
                Self::RecentlyFailed { until_s }
            }
            _ => return Err(WireError::Bad("ring answer")),
        })
    }
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
    let count = descriptors.len().min(DESCRIPTORS_MAX);
    w.u8(u8::try_from(count).unwrap_or(0));
    for descriptor in descriptors.iter().take(count) {
        let bytes = descriptor.encode();
        w.u16(u16::try_from(bytes.len()).unwrap_or(0)).bytes(&bytes);
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
        descriptors.push(Arc::new(RouterDescriptor::decode(bytes, network)?));
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
        ring::testing::{NETWORK, descriptor},
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
            any::<[u8; 32]>().prop_map(|key| Body::Get(Key(key))),
            any_record().prop_map(Body::Put),
        ]
    }

    fn any_answer() -> impl Strategy<Value = Answer> {
        prop_oneof![
            any_record().prop_map(Answer::Found),
            any_descriptors(0).prop_map(Answer::Routers),
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
            (any::<u32>(), 0..=BUDGET_MAX, any_visited(), any_body()).prop_map(
                |(id, budget, visited, body)| RingMessage::Request { id, budget, visited, body }
            ),
            any::<u32>().prop_map(|id| RingMessage::Accepted { id }),
            (any::<u32>(), any_answer())
                .prop_map(|(id, answer)| RingMessage::Answer { id, answer }),
            any_record().prop_map(RingMessage::Replicate),
        ]
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(message in any_message()) {
            let bytes = encoded(&message);
            prop_assert!(bytes.len() <= 5_000);
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
                prop_assert_eq!(encoded(&other), bytes);
            }
        }

        #[test]
        fn a_truncated_message_is_refused(message in any_message(), at: prop::sample::Index) {
            let bytes = encoded(&message);
            prop_assert!(decoded(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn random_bytes_never_panic(kind in 0u8..9, rest in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = decoded(&[&[kind][..], &rest].concat());
        }
    }

    #[test]
    fn a_find_request_has_the_documented_bytes() {
        let mut visited = Visited::default();
        visited.insert([0, 1, 8, 255]);
        let body = Body::Find(Location(0x0102_0304_0506_0708));
        let message = RingMessage::Request { id: 7, budget: 20, visited, body };
        assert_eq!(
            HEXLOWER.encode(&encoded(&message)),
            "04\
             00000007\
             14\
             0301000000000000000000000000000000000000000000000000000000000080\
             00\
             0102030405060708"
        );
    }

    #[test]
    fn every_bound_is_checked() {
        for bad in [
            &[0, 3, 0][..],              // degree under 4
            &[0, 65, 0],                 // degree over 64
            &[0, 20, 2],                 // no such reach
            &[1, 2],                     // no flag
            &[3, 0],                     // empty gossip
            &[3, 4],                     // too many descriptors
            &[6, 0, 0, 0, 0, 2, 0],      // stored nowhere
            &[6, 0, 0, 0, 0, 5, 21],     // more budget than there is
            &[6, 0, 0, 0, 0, 6, 0, 61],  // back-off over a minute
            &[6, 0, 0, 0, 0, 7, 0, 181], // remembered over three minutes
            &[8],
        ] {
            assert!(matches!(decoded(bad), Err(WireError::Bad(_))), "{bad:?}");
        }
        let request = |budget: u8, filter: u8| {
            [&[4, 0, 0, 0, 1, budget][..], &[filter; 32], &[0; 9]].concat()
        };
        assert!(decoded(&request(20, 0x0f)).is_ok()); // 128 bits set
        assert!(decoded(&request(21, 0)).is_err());
        assert!(decoded(&request(20, 0x1f)).is_err()); // 160 bits set
    }
}
