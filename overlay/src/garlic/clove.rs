//! One clove: a message between a tunnel's owner and its end hop.
//!
//! Lives here: the kinds and their bytes. Does not live here: who asks and who answers (`clove/about.rs`), what
//! nobody has checked yet (`clove/bytes.rs`), how cloves share cells (`packer.rs`), what anybody does on receipt
//! (`end_hop.rs`, `carrier.rs`).

mod about;
mod bytes;

use crate::{
    answer::Answer,
    block::{BLOCK_LEN, Block, BlockAddress},
    crypto::effort::EFFORT_MAX,
    id::{Key, Location, SpliceId},
    ring::{Class, Watch},
    wire::{Contact, Reader, SEALED_LEASE_LEN, WireError, Writer},
};

use self::bytes::RECORD_LENS;
pub use self::bytes::{BlockAnswer, DescriptorBytes, RecordAnswer, RecordBytes, RouterAnswer};
use super::{
    cell::DATA_MAX,
    flow::{GRANT_STEP, SPLICE_WINDOW_MAX},
    intake::{Crowd, Rate},
    toll::Price,
};

/// Bytes of a clove's head: kind 1, body length 2.
pub(crate) const HEAD_LEN: usize = 3;
/// Longest clove of any kind in bytes, head included: what a reassembly buffer may ever hold.
///
/// A block of 32 KiB and 2 KiB around it.
pub const CLOVE_MAX: usize = 34 * 1_024;

fn record(r: &mut Reader<'_>) -> Result<RecordBytes, WireError> {
    RecordBytes::new(r.rest()).ok_or(WireError::Bad("record length"))
}

fn descriptor(r: &mut Reader<'_>) -> Result<DescriptorBytes, WireError> {
    DescriptorBytes::new(r.rest()).ok_or(WireError::Bad("descriptor length"))
}

fn block(r: &mut Reader<'_>) -> Result<Block, WireError> {
    Block::copy_from(r.rest()).ok_or(WireError::Bad("block length"))
}

const fn class_byte(class: Class) -> u8 {
    match class {
        Class::Interactive => 0,
        Class::Bulk => 1,
    }
}

fn class(r: &mut Reader<'_>) -> Result<Class, WireError> {
    match r.u8("class")? {
        0 => Ok(Class::Interactive),
        1 => Ok(Class::Bulk),
        _ => Err(WireError::Bad("class")),
    }
}

/// One clove (docs/spec/garlic.md, section 1, has the bytes of each kind).
///
/// | bytes | field |
/// |-------|-------|
/// | 1     | kind; 0 is padding and not a clove |
/// | 2     | body length in bytes, big-endian |
/// | n     | body |
///
/// Splice ids are never zero. `Debug` shows kinds and numbers of things, never contents.
#[derive(Clone, PartialEq, Eq)]
pub enum Clove {
    /// Kind 1, owner to end hop: find a record. Body: request 4, key 32.
    RecordGet {
        /// Chosen by the owner; unique among its open requests.
        request: u32,
        /// The record's address.
        key: Key,
    },
    /// Kind 2, owner to end hop: store a record. Body: request 4, record.
    RecordPut {
        /// Chosen by the owner; unique among its open requests.
        request: u32,
        /// What to store.
        record: RecordBytes,
    },
    /// Kind 3, end hop to owner: what became of it. Body: request 4, asked 1, answer.
    RecordAnswer {
        /// Which request.
        request: u32,
        /// How many routers were asked, 255 for more.
        asked: u8,
        /// What became of it.
        answer: RecordAnswer,
    },
    /// Kind 4, owner to end hop: find a block. Body: request 4, class 1, address 32.
    BlockGet {
        /// Chosen by the owner; unique among its open requests.
        request: u32,
        /// How urgent it is.
        class: Class,
        /// The block's address.
        address: BlockAddress,
    },
    /// Kind 5, owner to end hop: store a block. Body: request 4, class 1, block 32,768.
    BlockPut {
        /// Chosen by the owner; unique among its open requests.
        request: u32,
        /// How urgent it is.
        class: Class,
        /// What to store.
        block: Block,
    },
    /// Kind 6, end hop to owner: what became of it. Body: request 4, asked 1, answer. Whether a found
    /// block is the one that was asked for, the owner checks ([`crate::garlic::Carrier`] does).
    BlockAnswer {
        /// Which request.
        request: u32,
        /// How many routers were asked, 255 for more.
        asked: u8,
        /// What became of it.
        answer: BlockAnswer,
    },
    /// Kind 7, owner to end hop: are you there? Body: request 4.
    Probe {
        /// Chosen by the owner; unique among its open requests.
        request: u32,
    },
    /// Kind 8, end hop to owner: yes. Body: request 4.
    Probed {
        /// Which request.
        request: u32,
    },
    /// Kind 9, owner to end hop: tell of a record's next version; the answer takes up to
    /// [`WATCH_LEASE`](crate::ring::WATCH_LEASE). Body: request 4, key 32, version known 8.
    RecordWatch {
        /// Chosen by the owner; unique among its open requests.
        request: u32,
        /// Of which record, above which version.
        watch: Watch,
    },
    /// Kind 10, owner to end hop: work that pays for puts of blocks (work.md). Effort 0 and nonce 0 only ask
    /// what it costs. Body: request 4, effort 4, nonce 8.
    PutWork {
        /// Chosen by the owner; unique among its open requests.
        request: u32,
        /// Mean number of tries that the nonce is worth, up to [`EFFORT_MAX`].
        effort: u32,
        /// What was found.
        nonce: u64,
    },
    /// Kind 11, end hop to owner: what it paid for, and what the next costs. Body: request 4, price.
    PutPrice {
        /// Which request.
        request: u32,
        /// Puts granted, and the terms of the next work.
        price: Price,
    },
    /// Kind 12, owner to end hop: find the router at this place. Body: request 4, location 8.
    RouterFind {
        /// Chosen by the owner; unique among its open requests.
        request: u32,
        /// Where it is on the ring.
        location: Location,
    },
    /// Kind 13, end hop to owner: how that router describes itself. Body: request 4, asked 1, answer.
    RouterAnswer {
        /// Which request.
        request: u32,
        /// How many routers were asked, 255 for more.
        asked: u8,
        /// What became of it.
        answer: RouterAnswer,
    },
    /// Kind 16, owner to end hop: join this tunnel to a gateway. Body: splice 4, contact 87,
    /// sealed lease 76.
    SpliceOpen {
        /// The new splice, numbered by the owner.
        splice: SpliceId,
        /// The gateway.
        contact: Contact,
        /// The lease id, sealed to the gateway's splice key (PROTOCOL P8).
        sealed: [u8; SEALED_LEASE_LEN],
    },
    /// Kind 17, end hop to owner: the gateway took the lease. Body: splice 4.
    SpliceOpened {
        /// Which.
        splice: SpliceId,
    },
    /// Kind 18, both ways: the sender's last word about a splice. Body: splice 4.
    SpliceClosed {
        /// Which.
        splice: SpliceId,
    },
    /// Kind 19, both ways: one piece of a splice's bytes, for one credit. Body: splice 4, data 1
    /// to 1,001. Never spans cells.
    SpliceData {
        /// Which.
        splice: SpliceId,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Kind 20, both ways: the receiver may send so many more pieces. Body: splice 4, cells 2.
    SpliceCredit {
        /// Which.
        splice: SpliceId,
        /// A multiple of 16, 16 to 8,192.
        cells: u16,
    },
    /// Kind 21, gateway to service: somebody used the lease. Body: splice 4.
    SpliceIncoming {
        /// The new splice, numbered by the gateway.
        splice: SpliceId,
    },
    /// Kind 32, service to end hop: be a gateway for this lease. Body: request 4, lease 16, clients a
    /// second 2, at once 2; neither is zero.
    LeaseRequest {
        /// Chosen by the owner; unique among its open requests.
        request: u32,
        /// The lease id, random.
        lease: [u8; 16],
        /// How many clients the service wants of it.
        rate: Rate,
    },
    /// Kind 33, gateway to service: agreed. Body: request 4, splice key 32.
    LeaseGranted {
        /// Which request.
        request: u32,
        /// The X25519 key to which clients seal the lease id.
        splice_key: [u8; 32],
    },
    /// Kind 34, gateway to service: no. Body: request 4.
    LeaseRefused {
        /// Which request.
        request: u32,
    },
    /// Kind 35, gateway to service: clients wait at this tunnel's lease. Body: waiting 2, effort 4.
    LeaseCrowd(Crowd),
}

/// Kinds as they are written.
pub(crate) mod kind {
    pub(crate) const PADDING: u8 = 0;
    pub(super) const RECORD_GET: u8 = 1;
    pub(super) const RECORD_PUT: u8 = 2;
    pub(super) const RECORD_ANSWER: u8 = 3;
    pub(super) const BLOCK_GET: u8 = 4;
    pub(super) const BLOCK_PUT: u8 = 5;
    pub(super) const BLOCK_ANSWER: u8 = 6;
    pub(super) const PROBE: u8 = 7;
    pub(super) const PROBED: u8 = 8;
    pub(super) const RECORD_WATCH: u8 = 9;
    pub(super) const PUT_WORK: u8 = 10;
    pub(super) const PUT_PRICE: u8 = 11;
    pub(super) const ROUTER_FIND: u8 = 12;
    pub(super) const ROUTER_ANSWER: u8 = 13;
    pub(super) const SPLICE_OPEN: u8 = 16;
    pub(super) const SPLICE_OPENED: u8 = 17;
    pub(super) const SPLICE_CLOSED: u8 = 18;
    pub(crate) const SPLICE_DATA: u8 = 19;
    pub(super) const SPLICE_CREDIT: u8 = 20;
    pub(super) const SPLICE_INCOMING: u8 = 21;
    pub(super) const LEASE_REQUEST: u8 = 32;
    pub(super) const LEASE_GRANTED: u8 = 33;
    pub(super) const LEASE_REFUSED: u8 = 34;
    pub(super) const LEASE_CROWD: u8 = 35;
}

/// Checks a head before anything is allocated for the body.
///
/// # Errors
/// An unknown kind, or a length that no body of that kind has.
pub(crate) fn check_head(kind: u8, len: usize) -> Result<(), WireError> {
    let [small, large] = RECORD_LENS;
    let fits = match kind {
        kind::RECORD_GET | kind::LEASE_GRANTED => len == 36,
        kind::RECORD_PUT => len == 4 + small || len == 4 + large,
        kind::RECORD_ANSWER => (6..=8).contains(&len) || len == 6 + small || len == 6 + large,
        kind::RECORD_WATCH => len == 44,
        kind::BLOCK_GET => len == 37,
        kind::PUT_WORK => len == 16,
        kind::ROUTER_FIND => len == 12,
        kind::ROUTER_ANSWER => (6..=6 + DescriptorBytes::LEN_MAX).contains(&len),
        kind::PUT_PRICE => len == 4 + Price::LEN,
        kind::BLOCK_PUT => len == 5 + BLOCK_LEN,
        kind::BLOCK_ANSWER => (6..=8).contains(&len) || len == 6 + BLOCK_LEN,
        kind::SPLICE_OPEN => len == 4 + Contact::LEN + SEALED_LEASE_LEN,
        kind::PROBE
        | kind::PROBED
        | kind::SPLICE_OPENED
        | kind::SPLICE_CLOSED
        | kind::SPLICE_INCOMING
        | kind::LEASE_REFUSED => len == 4,
        kind::SPLICE_DATA => (5..=4 + DATA_MAX).contains(&len),
        kind::SPLICE_CREDIT | kind::LEASE_CROWD => len == 6,
        kind::LEASE_REQUEST => len == 24,
        _ => return Err(WireError::Bad("clove kind")),
    };
    if fits { Ok(()) } else { Err(WireError::Bad("clove length")) }
}

impl Clove {
    /// Appends head and body.
    pub fn encode(&self, w: &mut Writer) {
        w.u8(self.kind()).u16(self.body_len());
        match self {
            Self::RecordGet { request, key } => w.u32(*request).bytes(key.as_bytes()),
            Self::RecordPut { request, record } => w.u32(*request).bytes(record.as_bytes()),
            Self::RecordWatch { request, watch } => watch.encode(w.u32(*request)),
            Self::RecordAnswer { request, asked, answer } => {
                answer.encode(w.u32(*request).u8(*asked), |record, w| {
                    w.bytes(record.as_bytes());
                });
                w
            }
            Self::BlockGet { request, class, address } => {
                w.u32(*request).u8(class_byte(*class)).bytes(address.as_bytes())
            }
            Self::BlockPut { request, class, block } => {
                w.u32(*request).u8(class_byte(*class)).bytes(block.as_bytes())
            }
            Self::BlockAnswer { request, asked, answer } => {
                answer.encode(w.u32(*request).u8(*asked), |block, w| {
                    w.bytes(block.as_bytes());
                });
                w
            }
            Self::PutWork { request, effort, nonce } => w.u32(*request).u32(*effort).u64(*nonce),
            Self::PutPrice { request, price } => price.encode(w.u32(*request)),
            Self::RouterFind { request, location } => w.u32(*request).u64(location.0),
            Self::RouterAnswer { request, asked, answer } => {
                answer.encode(w.u32(*request).u8(*asked), |router, w| {
                    w.bytes(router.as_bytes());
                });
                w
            }
            Self::SpliceOpen { splice, contact, sealed } => {
                contact.encode(w.u32(splice.0));
                w.bytes(sealed)
            }
            Self::SpliceOpened { splice }
            | Self::SpliceClosed { splice }
            | Self::SpliceIncoming { splice } => w.u32(splice.0),
            Self::SpliceData { splice, data } => w.u32(splice.0).bytes(data),
            Self::SpliceCredit { splice, cells } => w.u32(splice.0).u16(*cells),
            Self::LeaseRequest { request, lease, rate } => {
                w.u32(*request).bytes(lease).u16(rate.per_second).u16(rate.burst)
            }
            Self::LeaseCrowd(crowd) => w.u16(crowd.waiting).u32(crowd.effort),
            Self::LeaseGranted { request, splice_key } => w.u32(*request).bytes(splice_key),
            Self::Probe { request } | Self::Probed { request } | Self::LeaseRefused { request } => {
                w.u32(*request)
            }
        };
    }

    /// Reads one clove, head and body.
    ///
    /// # Errors
    /// Anything that [`Clove::encode`] does not write: each clove has one spelling.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let kind = r.u8("clove kind")?;
        let len = usize::from(r.u16("clove length")?);
        check_head(kind, len)?;
        Self::decode_body(kind, r.slice(len, "clove body")?)
    }

    /// Reads the body of a clove whose head said `kind`.
    pub(crate) fn decode_body(kind: u8, body: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(body);
        let clove = match kind {
            kind::RECORD_GET => {
                Self::RecordGet { request: r.u32("request")?, key: Key(r.array("record key")?) }
            }
            kind::RECORD_PUT => {
                Self::RecordPut { request: r.u32("request")?, record: record(&mut r)? }
            }
            kind::RECORD_WATCH => {
                Self::RecordWatch { request: r.u32("request")?, watch: Watch::decode(&mut r)? }
            }
            kind::RECORD_ANSWER => Self::RecordAnswer {
                request: r.u32("request")?,
                asked: r.u8("routers asked")?,
                answer: Answer::decode(&mut r, record)?,
            },
            kind::BLOCK_GET => Self::BlockGet {
                request: r.u32("request")?,
                class: class(&mut r)?,
                address: BlockAddress(r.array("block address")?),
            },
            kind::BLOCK_PUT => Self::BlockPut {
                request: r.u32("request")?,
                class: class(&mut r)?,
                block: block(&mut r)?,
            },
            kind::BLOCK_ANSWER => Self::BlockAnswer {
                request: r.u32("request")?,
                asked: r.u8("routers asked")?,
                answer: Answer::decode(&mut r, block)?,
            },
            kind::PUT_WORK => work(&mut r)?,
            kind::PUT_PRICE => {
                Self::PutPrice { request: r.u32("request")?, price: Price::decode(&mut r)? }
            }
            kind::ROUTER_FIND => Self::RouterFind {
                request: r.u32("request")?,
                location: Location(r.u64("router's location")?),
            },
            kind::ROUTER_ANSWER => Self::RouterAnswer {
                request: r.u32("request")?,
                asked: r.u8("routers asked")?,
                answer: Answer::decode(&mut r, descriptor)?,
            },
            kind::SPLICE_OPEN => Self::SpliceOpen {
                splice: splice(&mut r)?,
                contact: Contact::decode(&mut r)?,
                sealed: r.array("sealed lease")?,
            },
            kind::PROBE => Self::Probe { request: r.u32("request")? },
            kind::PROBED => Self::Probed { request: r.u32("request")? },
            kind::SPLICE_OPENED => Self::SpliceOpened { splice: splice(&mut r)? },
            kind::SPLICE_CLOSED => Self::SpliceClosed { splice: splice(&mut r)? },
            kind::SPLICE_DATA => {
                Self::SpliceData { splice: splice(&mut r)?, data: data(&mut r)?.to_vec() }
            }
            kind::SPLICE_CREDIT => {
                Self::SpliceCredit { splice: splice(&mut r)?, cells: grant(&mut r)? }
            }
            kind::SPLICE_INCOMING => Self::SpliceIncoming { splice: splice(&mut r)? },
            kind::LEASE_REQUEST => {
                let (request, lease) = (r.u32("request")?, r.array("lease")?);
                Self::LeaseRequest { request, lease, rate: rate(&mut r)? }
            }
            kind::LEASE_CROWD => {
                let (waiting, effort) = (r.u16("clients waiting")?, r.u32("effort")?);
                Self::LeaseCrowd(Crowd { waiting, effort })
            }
            kind::LEASE_GRANTED => Self::LeaseGranted {
                request: r.u32("request")?,
                splice_key: r.array("splice key")?,
            },
            kind::LEASE_REFUSED => Self::LeaseRefused { request: r.u32("request")? },
            _ => return Err(WireError::Bad("clove kind")),
        };
        r.finish()?;
        Ok(clove)
    }

    fn kind(&self) -> u8 {
        match self {
            Self::RecordGet { .. } => kind::RECORD_GET,
            Self::RecordPut { .. } => kind::RECORD_PUT,
            Self::RecordWatch { .. } => kind::RECORD_WATCH,
            Self::RecordAnswer { .. } => kind::RECORD_ANSWER,
            Self::BlockGet { .. } => kind::BLOCK_GET,
            Self::BlockPut { .. } => kind::BLOCK_PUT,
            Self::BlockAnswer { .. } => kind::BLOCK_ANSWER,
            Self::Probe { .. } => kind::PROBE,
            Self::Probed { .. } => kind::PROBED,
            Self::PutWork { .. } => kind::PUT_WORK,
            Self::PutPrice { .. } => kind::PUT_PRICE,
            Self::RouterFind { .. } => kind::ROUTER_FIND,
            Self::RouterAnswer { .. } => kind::ROUTER_ANSWER,
            Self::SpliceOpen { .. } => kind::SPLICE_OPEN,
            Self::SpliceOpened { .. } => kind::SPLICE_OPENED,
            Self::SpliceClosed { .. } => kind::SPLICE_CLOSED,
            Self::SpliceData { .. } => kind::SPLICE_DATA,
            Self::SpliceCredit { .. } => kind::SPLICE_CREDIT,
            Self::SpliceIncoming { .. } => kind::SPLICE_INCOMING,
            Self::LeaseRequest { .. } => kind::LEASE_REQUEST,
            Self::LeaseCrowd(_) => kind::LEASE_CROWD,
            Self::LeaseGranted { .. } => kind::LEASE_GRANTED,
            Self::LeaseRefused { .. } => kind::LEASE_REFUSED,
        }
    }

    fn body_len(&self) -> u16 {
        let len = match self {
            Self::RecordGet { .. } | Self::LeaseGranted { .. } => 36,
            Self::RecordPut { record, .. } => 4 + record.as_bytes().len(),
            Self::RecordWatch { .. } => 44,
            Self::RecordAnswer { answer, .. } => {
                5 + answer.encoded_len(|record| record.as_bytes().len())
            }
            Self::BlockGet { .. } => 37,
            Self::BlockPut { .. } => 5 + BLOCK_LEN,
            Self::PutWork { .. } => 16,
            Self::PutPrice { .. } => 4 + Price::LEN,
            Self::BlockAnswer { answer, .. } => 5 + answer.encoded_len(|_| BLOCK_LEN),
            Self::RouterFind { .. } => 12,
            Self::RouterAnswer { answer, .. } => {
                5 + answer.encoded_len(|router| router.as_bytes().len())
            }
            Self::SpliceOpen { .. } => 4 + Contact::LEN + SEALED_LEASE_LEN,
            Self::Probe { .. }
            | Self::Probed { .. }
            | Self::SpliceOpened { .. }
            | Self::SpliceClosed { .. }
            | Self::SpliceIncoming { .. }
            | Self::LeaseRefused { .. } => 4,
            Self::SpliceData { data, .. } => 4 + data.len(),
            Self::SpliceCredit { .. } | Self::LeaseCrowd(_) => 6,
            Self::LeaseRequest { .. } => 24,
        };
        u16::try_from(len).unwrap_or(u16::MAX)
    }
}

/// The id at the head of a splice clove's body.
pub(crate) fn splice(r: &mut Reader<'_>) -> Result<SpliceId, WireError> {
    match r.u32("splice id")? {
        0 => Err(WireError::Bad("splice id")),
        id => Ok(SpliceId(id)),
    }
}

/// The rest of a splice data clove's body.
pub(crate) fn data<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let data = r.rest();
    if (1..=DATA_MAX).contains(&data.len()) { Ok(data) } else { Err(WireError::Bad("splice data")) }
}

fn rate(r: &mut Reader<'_>) -> Result<Rate, WireError> {
    let (per_second, burst) = (r.u16("clients a second")?, r.u16("clients at once")?);
    let fits = per_second > 0 && burst > 0;
    if fits { Ok(Rate { per_second, burst }) } else { Err(WireError::Bad("rate of clients")) }
}

fn work(r: &mut Reader<'_>) -> Result<Clove, WireError> {
    let (request, effort, nonce) = (r.u32("request")?, r.u32("effort")?, r.u64("nonce")?);
    // Who asks what it costs has nothing to show.
    if effort > EFFORT_MAX || effort == 0 && nonce != 0 {
        return Err(WireError::Bad("effort"));
    }
    Ok(Clove::PutWork { request, effort, nonce })
}

fn grant(r: &mut Reader<'_>) -> Result<u16, WireError> {
    let cells = r.u16("granted cells")?;
    let fits = cells > 0 && u32::from(cells) <= SPLICE_WINDOW_MAX;
    if fits && u32::from(cells).is_multiple_of(GRANT_STEP) {
        Ok(cells)
    } else {
        Err(WireError::Bad("granted cells"))
    }
}

#[cfg(test)]
#[path = "clove_tests.rs"]
pub(crate) mod tests;
