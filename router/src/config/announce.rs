//! `link.announce`: what a router tells others of where it is.
//!
//! Lives here: its spellings. Does not live here: where that leads (`driver/setup.rs`).

use std::{net::SocketAddr, str::FromStr};

/// What to tell others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Announce {
    /// Where it listens or packets leave from, where others can dial that.
    #[default]
    Found,
    /// This, whatever it looks like from here.
    At(SocketAddr),
    /// Nothing: it does not even listen.
    Nothing,
}

/// Not an address, not "none" and not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAddress;

impl FromStr for Announce {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        match text {
            "" => Ok(Self::Found),
            "none" => Ok(Self::Nothing),
            address => address.parse().map(Self::At).map_err(|_| NoAddress),
        }
    }
}
