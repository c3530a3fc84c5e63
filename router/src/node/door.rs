//! Where others reach a router, as far as its owner and its machine know.
//!
//! Lives here: the kinds of doors. Does not live here: finding out whether anybody gets through
//! (`reach.rs`).

use warren_overlay::wire::Address;

/// Where others reach a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Nowhere: it is a guest, and takes part through the links that it opens.
    Shut,
    /// Here, as far as can be seen; peers are asked whether it is so.
    At(Address),
    /// Here. Peers cannot tell, since its links leave from somewhere else.
    Told(Address),
    /// It listens on this port, and only peers can see at which address that is, if at any.
    Behind(u16),
}

impl Door {
    /// What to tell others before anybody was asked.
    pub(super) const fn address(self) -> Option<Address> {
        match self {
            Self::Shut | Self::Behind(_) => None,
            Self::At(address) | Self::Told(address) => Some(address),
        }
    }
}
