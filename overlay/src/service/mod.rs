//! Hidden services: their names, what they publish about themselves, and how it is found.
//!
//! Lives here: names, blinded days, sealed descriptors, daily session keys, clients' access keys, and the two machines
//! that publish and look up. Both only *ask* for records to be put or got; whoever owns them sends
//! the requests through tunnels. Does not live here: records (`record.rs`), the ring that routes to
//! them, sessions (`session/`), and the accepting of splices. Bytes and pictures:
//! docs/spec/service.md.

mod access;
mod day;
mod descriptor;
mod keys;
mod lookup;
mod memory;
mod name;
mod offer;
mod publish;

pub use access::AccessKey;
pub use day::{Day, PLACES, Place, place, places};
pub use descriptor::{
    DescriptorError, EXPIRY_MIN, OFFERS_MAX, SEALED_LEN, ServiceDescriptor, binding, open, seal,
};
pub use keys::{DAILY_KEYS_MAX, DailyKey, DailyKeys, KEEP_MIN, SAVED_KEY_LEN};
pub use lookup::{
    Found, Input as LookupInput, Lookup, Outcome, Output as LookupOutput, Unreachable,
};
pub use memory::{REMEMBERED_MAX, VersionMemory};
pub use name::{Name, NameError, NameKind};
pub use offer::{LEASES_MAX, Lease, Offer, OfferId};
pub use publish::{Input as PublishInput, Output as PublishOutput, Publisher, Set};
