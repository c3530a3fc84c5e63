//! What two linked routers say to each other besides cells.
//!
//! Lives here: the message kinds and their bytes. Does not live here: frames (`link/frame.rs`),
//! ring messages (`ring/wire.rs`), what anybody does on receipt. All fields are written afresh on
//! every link; nothing that a previous hop chose is copied onward (PROTOCOL P5).

use std::sync::Arc;

use super::{Address, Reader, RouterDescriptor, WireError, Writer};
use crate::{
    id::{NetworkId, TunnelId},
    ring::{Class, RingMessage},
};

/// Bytes of a build message: 4 slots of 1,344 (PROTOCOL P6).
pub const BUILD_LEN: usize = 4 * 1_344;
/// Bytes of a build reply: 4 slots of 64.
pub const BUILD_REPLY_LEN: usize = 4 * 64;
/// Bytes of a lease id sealed to a gateway (PROTOCOL P8).
pub const SEALED_LEASE_LEN: usize = 76;

/// A control message on a link (spec/link.md, "Control messages").
///
/// | bytes | field |
/// |-------|-------|
/// | 1     | kind |
/// | 2     | body length in bytes, big-endian |
/// | n     | body |
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkMessage {
    /// Kind 0: this many zero bytes. Hides how much is said, keeps an idle link alive.
    Padding(u16),
    /// Kind 1: this side is leaving; nothing follows.
    Goodbye,
    /// Kind 2: the receiver may send `cells` more cells on the lane.
    Credit {
        /// The lane.
        tunnel: TunnelId,
        /// How many more, 1 to 4,096.
        cells: u16,
    },
    /// Kind 3: the lane is closed. There is one reason.
    Teardown {
        /// The lane.
        tunnel: TunnelId,
    },
    /// Kind 4: one tunnel build, as the receiver must see it.
    Build {
        /// The new lane, numbered by the sender.
        tunnel: TunnelId,
        /// Four slots.
        message: Box<[u8; BUILD_LEN]>,
    },
    /// Kind 5: the answer to a build, on its way back.
    BuildReply {
        /// The lane that the build opened.
        tunnel: TunnelId,
        /// Four reply slots.
        reply: Box<[u8; BUILD_REPLY_LEN]>,
    },
    /// Kind 6: open a splice leg to one of the receiver's leases.
    SpliceOpen {
        /// The new lane, numbered by the sender.
        tunnel: TunnelId,
        /// The lease id, sealed to the receiver's splice key.
        sealed: [u8; SEALED_LEASE_LEN],
    },
    /// Kind 7: whether the leg stands.
    SpliceReply {
        /// The lane that the open named.
        tunnel: TunnelId,
        /// Yes or no; there is no reason.
        accepted: bool,
    },
    /// Kind 8: the sender's own descriptor, when it changed.
    Descriptor(Arc<RouterDescriptor>),
    /// Kind 9: what ring neighbours say to each other (spec/ring.md).
    ///
    /// One that [`RingMessage::is_large`] does not fit into a frame: the link sends it as parts.
    Ring(RingMessage),
    /// Kind 10: the next piece of a large message of its class. The link's own business.
    Part {
        /// The class.
        class: Class,
        /// Whether the message is whole with it.
        last: bool,
        /// [`Self::PART_LEN`] bytes, or fewer in the last one, at least 1.
        bytes: Vec<u8>,
    },
    /// Kind 11: asks for a sign of life.
    Ping,
    /// Kind 12: the sign.
    Pong,
    /// Kind 13: dial the address that this link comes from, at this port, and say what came of it.
    DialBack {
        /// Not zero.
        port: u16,
    },
    /// Kind 14: what came of it.
    DialBackReply {
        /// What was dialled: where the link comes from, as the sender sees it, at the port asked for.
        seen: Address,
        /// Whether the asker was met there.
        outcome: DialBackOutcome,
    },
}

/// What came of dialling back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialBackOutcome {
    /// The asker was not met there; there is no reason.
    Failed,
    /// A whole handshake with the asker.
    Reached,
    /// It was not tried: not now, or never to such an address.
    NotTried,
}

impl LinkMessage {
    /// Longest encoding in bytes, head included, of any but large ring messages.
    pub const LEN_MAX: usize = 8_192;
    /// Bytes of a large message in each of its parts but the last: two parts make a frame, or one and
    /// eight cells.
    pub const PART_LEN: usize = 8_000;
    /// Bytes of a large message at most, head included: a block and what is around it.
    pub const LARGE_MAX: usize = 34 * 1_024;
    /// The most zero bytes one padding message holds.
    pub const PADDING_MAX: u16 = 1_024;

    /// Whether this encoded message asks for something in return: a build, a splice, a question.
    pub(crate) fn is_answered(encoded: &[u8]) -> bool {
        match encoded {
            [4 | 6, ..] => true,
            [9, _, _, kind, ..] => RingMessage::is_answered(*kind),
            _ => false,
        }
    }

    /// The first of encoded messages that lie one behind the other.
    pub(crate) fn first(encoded: &[u8]) -> Option<&[u8]> {
        let [_, high, low, ..] = encoded else { return None };
        encoded.get(..3 + usize::from(u16::from_be_bytes([*high, *low])))
    }

    /// Appends head and body.
    pub fn encode(&self, w: &mut Writer) {
        let start = w.len();
        w.bytes(&[0; 3]);
        let kind = match self {
            Self::Padding(len) => {
                w.bytes(&vec![0; usize::from(*len)]);
                0
            }
            Self::Goodbye => 1,
            Self::Credit { tunnel, cells } => {
                w.u32(tunnel.0).u16(*cells);
                2
            }
            Self::Teardown { tunnel } => {
                w.u32(tunnel.0);
                3
            }
            Self::Build { tunnel, message } => {
                w.u32(tunnel.0).bytes(&message[..]);
                4
            }
            Self::BuildReply { tunnel, reply } => {
                w.u32(tunnel.0).bytes(&reply[..]);
                5
            }
            Self::SpliceOpen { tunnel, sealed } => {
                w.u32(tunnel.0).bytes(sealed);
                6
            }
            Self::SpliceReply { tunnel, accepted } => {
                w.u32(tunnel.0).u8(u8::from(*accepted));
                7
            }
            Self::Descriptor(descriptor) => {
                descriptor.write(w);
                8
            }
            Self::Ring(message) => {
                message.encode(w);
                9
            }
            Self::Part { class, last, bytes } => {
                w.u8(u8::from(*class == Class::Bulk) | u8::from(*last) << 1).bytes(bytes);
                10
            }
            Self::Ping => 11,
            Self::Pong => 12,
            Self::DialBack { port } => {
                w.u16(*port);
                13
            }
            Self::DialBackReply { seen, outcome } => {
                seen.encode(w);
                w.u8(match outcome {
                    DialBackOutcome::Failed => 0,
                    DialBackOutcome::Reached => 1,
                    DialBackOutcome::NotTried => 2,
                });
                14
            }
        };
        let len = u16::try_from(w.len() - start - 3).expect("the longest message has under 34 KiB");
        let [high, low] = len.to_be_bytes();
        w.patch(start, &[kind, high, low]);
    }

    /// Reads one message of a link in `network`.
    ///
    /// # Errors
    /// On unknown kinds, wrong lengths and any value that `encode` does not write.
    pub fn decode(r: &mut Reader<'_>, network: NetworkId) -> Result<Self, WireError> {
        let kind = r.u8("message kind")?;
        let len = usize::from(r.u16("message length")?);
        let mut r = Reader::new(r.slice(len, "message body")?);
        let message = match kind {
            0 => {
                let zeros = r.rest();
                let len = u16::try_from(zeros.len()).unwrap_or(u16::MAX);
                if len > Self::PADDING_MAX || zeros.iter().any(|byte| *byte != 0) {
                    return Err(WireError::Bad("padding"));
                }
                Self::Padding(len)
            }
            1 => Self::Goodbye,
            2 => {
                let tunnel = tunnel_id(&mut r)?;
                let cells = r.u16("credit cells")?;
                if !(1..=4_096).contains(&cells) {
                    return Err(WireError::Bad("credit cells"));
                }
                Self::Credit { tunnel, cells }
            }
            3 => Self::Teardown { tunnel: tunnel_id(&mut r)? },
            4 => Self::Build { tunnel: tunnel_id(&mut r)?, message: Box::new(r.array("build")?) },
            5 => Self::BuildReply {
                tunnel: tunnel_id(&mut r)?,
                reply: Box::new(r.array("build reply")?),
            },
            6 => Self::SpliceOpen { tunnel: tunnel_id(&mut r)?, sealed: r.array("sealed lease")? },
            7 => {
                let tunnel = tunnel_id(&mut r)?;
                let accepted = match r.u8("splice reply")? {
                    0 => false,
                    1 => true,
                    _ => return Err(WireError::Bad("splice reply")),
                };
                Self::SpliceReply { tunnel, accepted }
            }
            8 => Self::Descriptor(RouterDescriptor::decode_shared(r.rest(), network)?),
            9 => Self::Ring(RingMessage::decode(&mut r, network)?),
            10 => {
                let flags = r.u8("part flags")?;
                let bytes = r.rest().to_vec();
                let class = if flags & 1 == 1 { Class::Bulk } else { Class::Interactive };
                let last = flags & 2 == 2;
                let fits = if last {
                    (1..=Self::PART_LEN).contains(&bytes.len())
                } else {
                    bytes.len() == Self::PART_LEN
                };
                if flags > 3 || !fits {
                    return Err(WireError::Bad("part"));
                }
                Self::Part { class, last, bytes }
            }
            11 => Self::Ping,
            12 => Self::Pong,
            13 => match r.u16("dial back port")? {
                0 => return Err(WireError::Bad("dial back port")),
                port => Self::DialBack { port },
            },
            14 => {
                let seen = Address::decode(&mut r)?;
                let outcome = match r.u8("dial back outcome")? {
                    0 => DialBackOutcome::Failed,
                    1 => DialBackOutcome::Reached,
                    2 => DialBackOutcome::NotTried,
                    _ => return Err(WireError::Bad("dial back outcome")),
                };
                Self::DialBackReply { seen, outcome }
            }
            _ => return Err(WireError::Bad("message kind")),
        };
        r.finish()?;
        Ok(message)
    }
}

/// Lane numbers count from 1 on both sides, so zero and a bare top bit name no lane.
fn tunnel_id(r: &mut Reader<'_>) -> Result<TunnelId, WireError> {
    match r.u32("tunnel id")? {
        0 | 0x8000_0000 => Err(WireError::Bad("tunnel id")),
        id => Ok(TunnelId(id)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NETWORK: NetworkId = NetworkId([9; 32]);

    fn decoded(bytes: &[u8]) -> Result<LinkMessage, WireError> {
        let mut r = Reader::new(bytes);
        let message = LinkMessage::decode(&mut r, NETWORK)?;
        r.finish().map(|()| message)
    }

    fn encoded(message: &LinkMessage) -> Vec<u8> {
        let mut w = Writer::default();
        message.encode(&mut w);
        w.into_bytes()
    }

    fn any_message() -> impl Strategy<Value = LinkMessage> {
        let tunnel = (1u32..100, any::<bool>())
            .prop_map(|(n, responder)| TunnelId(n | u32::from(responder) << 31));
        let tunnel = tunnel.boxed();
        prop_oneof![
            (0..=LinkMessage::PADDING_MAX).prop_map(LinkMessage::Padding),
            Just(LinkMessage::Goodbye),
            Just(LinkMessage::Ping),
            Just(LinkMessage::Pong),
            (tunnel.clone(), 1u16..=4_096)
                .prop_map(|(tunnel, cells)| LinkMessage::Credit { tunnel, cells }),
            tunnel.clone().prop_map(|tunnel| LinkMessage::Teardown { tunnel }),
            (tunnel.clone(), any::<u8>()).prop_map(|(tunnel, fill)| LinkMessage::Build {
                tunnel,
                message: Box::new([fill; BUILD_LEN])
            }),
            (tunnel.clone(), any::<u8>()).prop_map(|(tunnel, fill)| LinkMessage::BuildReply {
                tunnel,
                reply: Box::new([fill; BUILD_REPLY_LEN])
            }),
            (tunnel.clone(), any::<u8>()).prop_map(|(tunnel, fill)| LinkMessage::SpliceOpen {
                tunnel,
                sealed: [fill; SEALED_LEASE_LEN]
            }),
            (1u16..).prop_map(|port| LinkMessage::DialBack { port }),
            (any::<[u8; 4]>(), 1u16.., 0u8..3).prop_map(|(ip, port, outcome)| {
                LinkMessage::DialBackReply {
                    seen: std::net::SocketAddr::from((ip, port)).into(),
                    outcome: match outcome {
                        0 => DialBackOutcome::Failed,
                        1 => DialBackOutcome::Reached,
                        _ => DialBackOutcome::NotTried,
                    },
                }
            }),
            (tunnel, any::<bool>())
                .prop_map(|(tunnel, accepted)| LinkMessage::SpliceReply { tunnel, accepted }),
            (any::<bool>(), any::<bool>(), 1..=LinkMessage::PART_LEN).prop_map(
                |(bulk, last, len)| LinkMessage::Part {
                    class: if bulk { Class::Bulk } else { Class::Interactive },
                    last,
                    bytes: vec![7; if last { len } else { LinkMessage::PART_LEN }],
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(message in any_message()) {
            prop_assert_eq!(decoded(&encoded(&message)), Ok(message));
        }

        #[test]
        fn no_two_byte_strings_mean_the_same_message(
            message in any_message(), at: prop::sample::Index, with: u8,
        ) {
            let mut bytes = encoded(&message);
            let at = if at.index(2) == 0 { at.index(bytes.len().min(10)) } else { at.index(bytes.len()) };
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
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decoded(&bytes);
        }
    }

    #[test]
    fn credit_has_the_documented_bytes() {
        let message = LinkMessage::Credit { tunnel: TunnelId(0x8000_0007), cells: 64 };
        assert_eq!(encoded(&message), [2, 0, 6, 0x80, 0, 0, 7, 0, 64]);
    }

    #[test]
    fn dialling_back_has_the_documented_bytes() {
        assert_eq!(encoded(&LinkMessage::DialBack { port: 0x2329 }), [13, 0, 2, 0x23, 0x29]);
        let seen = std::net::SocketAddr::from(([8, 8, 4, 4], 0x2329)).into();
        let outcome = DialBackOutcome::Reached;
        let mut bytes = vec![14, 0, 20, 4, 8, 8, 4, 4];
        bytes.extend([0; 12]);
        bytes.extend([0x23, 0x29, 1]);
        assert_eq!(encoded(&LinkMessage::DialBackReply { seen, outcome }), bytes);
    }
}
