//! Bytes on the wire: the cursor, and the plain bounded types that two routers exchange.

mod contact;
mod cursor;
mod descriptor;
mod message;
mod vouch;

pub use contact::{Address, Contact, Prefix};
pub use cursor::{Reader, WireError, Writer};
pub use descriptor::{
    Admission, DESCRIPTOR_MINUTES_MAX, DescriptorFields, NO_TRANSIT, RouterDescriptor, TAKES_WORK,
};
pub use message::{BUILD_LEN, BUILD_REPLY_LEN, DialBackOutcome, LinkMessage, SEALED_LEASE_LEN};
pub use vouch::{CHAIN_MAX, Vouch, decode_chain, encode_chain, week};
