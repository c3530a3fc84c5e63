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
    /// This, whatever it looks like from here; and one of the other family.
    At(SocketAddr, Option<SocketAddr>),
    /// Nothing: it does not even listen.
    Nothing,
}

/// Not an address, not one of each family, not "none" and not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAddress;

impl FromStr for Announce {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let one = |text: &str| text.trim().parse::<SocketAddr>().map_err(|_| NoAddress);
        match (text, text.split_once(',')) {
            ("", _) => Ok(Self::Found),
            ("none", _) => Ok(Self::Nothing),
            (_, None) => one(text).map(|address| Self::At(address, None)),
            (_, Some((first, also))) => match (one(first)?, one(also)?) {
                (first, also) if first.is_ipv4() != also.is_ipv4() => {
                    Ok(Self::At(first, Some(also)))
                }
                _ => Err(NoAddress),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_or_one_of_each_family_is_told() {
        let (v4, v6) =
            ("203.0.113.7:40001".parse().unwrap(), "[2001:db8::7]:40001".parse().unwrap());
        assert_eq!("203.0.113.7:40001".parse(), Ok(Announce::At(v4, None)));
        let both = "203.0.113.7:40001, [2001:db8::7]:40001".parse();
        assert_eq!(both, Ok(Announce::At(v4, Some(v6))));
        assert_eq!("[2001:db8::7]:40001,203.0.113.7:40001".parse(), Ok(Announce::At(v6, Some(v4))));
        for bad in ["203.0.113.7", "203.0.113.7:1,203.0.113.8:1", "203.0.113.7:1,", "None"] {
            assert_eq!(bad.parse::<Announce>(), Err(NoAddress), "{bad}");
        }
    }
}
