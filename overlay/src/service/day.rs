//! A service's days, and where each day's records lie.
//!
//! Lives here: day numbers with the boundary of each service's own, and the blinded keys and
//! addresses of a day. Does not live here: what is in the records (`descriptor.rs`) and when they
//! are written (`publish.rs`). The blinding itself: `crypto/blind.rs`.
//!
//! ```text
//!  UTC      |           00:00           |           00:00
//!  service  |-- day d-1 --|-- day d ----------------|-- day d+1 --
//!                         ^ shift = BLAKE3(key) mod 24 h: not all services move at once, and
//!                           nobody who lacks the name knows when this one does
//! ```

use std::fmt;

use super::{AccessKey, Name};
use crate::{
    crypto::{blind, kdf},
    id::{Key, NetworkId},
    record::Record,
    time::Wall,
};

/// How many records hold one day's descriptor, each under a key of its own.
///
/// Six places of which readers ask three: half of them may be lost or hostile.
pub const PLACES: usize = 6;
const PLACES_U8: u8 = 6;

/// Minutes of a day.
pub(super) const DAY_MIN: u32 = 24 * 60;

const SHIFT: &str = "warren service day 1";

/// One day of one service: days since the epoch, counted from that service's own boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

impl Day {
    /// The day that `name` has at `wall`.
    pub fn at(name: &Name, wall: Wall) -> Self {
        // One day is added so that the epoch's first minutes have a day too.
        let day = (u64::from(wall.minutes()) + u64::from(DAY_MIN) - u64::from(shift(name)))
            / u64::from(DAY_MIN);
        Self(u32::try_from(day).unwrap_or(u32::MAX))
    }

    /// The first minute of this day for `name`; saturates at either end of time.
    pub fn start(self, name: &Name) -> Wall {
        let minutes = (u64::from(self.0) * u64::from(DAY_MIN) + u64::from(shift(name)))
            .saturating_sub(u64::from(DAY_MIN));
        Wall::from_minutes(u32::try_from(minutes).unwrap_or(u32::MAX))
    }

    /// The day after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The day before.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// By how many minutes a service's day begins after midnight UTC: 0 to 1,439.
fn shift(name: &Name) -> u32 {
    let hash = u64::from_be_bytes(kdf::derive(SHIFT, &[name.key()]));
    u32::try_from(hash % u64::from(DAY_MIN)).unwrap_or(0)
}

/// What the blinding of place `index` on `day` is bound to.
pub(super) fn blinding(network: NetworkId, day: Day, index: u8) -> [u8; 37] {
    let mut parts = [0; 37];
    let (head, rest) = parts.split_at_mut(32);
    head.copy_from_slice(network.as_bytes());
    let (middle, last) = rest.split_at_mut(4);
    middle.copy_from_slice(&day.0.to_be_bytes());
    last.copy_from_slice(&[index]);
    parts
}

/// One of the six places where a service's descriptor lies on one day.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The day.
    pub day: Day,
    /// Which of the six: 0 to 5.
    pub index: u8,
    /// The key that signs the record there.
    pub blinded: [u8; 32],
    /// Where the ring keeps it.
    pub key: Key,
}

/// Mute but for what every service has.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.index)
    }
}

/// What a place's key is blinded by: for everybody, or for the client that holds `access`.
pub(super) fn blinding_parts<'a>(
    place: &'a [u8; 37],
    access: Option<&'a AccessKey>,
) -> impl AsRef<[&'a [u8]]> {
    let mut parts: Vec<&[u8]> = vec![place];
    parts.extend(access.map(|access| access.place().as_slice()));
    parts
}

/// Place `index` (0 to 5) of a service's descriptor on `day`: the one for everybody, or the one for
/// the client that holds `access`.
///
/// `None` for an index over 5; a `Name` holds a valid key, whose blinding does not fail.
pub fn place(
    name: &Name,
    access: Option<&AccessKey>,
    network: NetworkId,
    day: Day,
    index: u8,
) -> Option<Place> {
    if usize::from(index) >= PLACES {
        return None;
    }
    let place = blinding(network, day, index);
    let parts = blinding_parts(&place, access);
    let blinded = blind::blind_public(name.key(), parts.as_ref())?;
    Some(Place { day, index, blinded, key: Record::key_of(&blinded) })
}

/// The indexes of a day's places: 0 to 5.
pub(super) fn indexes() -> impl Iterator<Item = u8> {
    0..PLACES_U8
}

/// All six places of a service's descriptor on `day`, in order of their index; see [`place`].
pub fn places(name: &Name, access: Option<&AccessKey>, network: NetworkId, day: Day) -> Vec<Place> {
    indexes().filter_map(|index| place(name, access, network, day, index)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{crypto::blind::ServiceKey, rng::Rng};

    fn name(seed: u64) -> Name {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        Name::of_service(&ServiceKey::generate(&mut Rng::from_seed(bytes)))
    }

    proptest! {
        #[test]
        fn every_minute_lies_in_its_day(seed: u64, minutes in 0..u32::MAX - 3_000) {
            let (name, wall) = (name(seed), Wall::from_minutes(minutes));
            let day = Day::at(&name, wall);
            prop_assert!(day.start(&name) <= wall);
            prop_assert!(wall < day.next().start(&name));
            prop_assert_eq!(day.next().previous(), day);
            if day.0 > 0 {
                prop_assert_eq!(Day::at(&name, day.start(&name)), day);
                prop_assert_eq!(day.next().start(&name).minutes() - day.start(&name).minutes(), DAY_MIN);
            }
        }
    }

    #[test]
    fn services_change_day_at_different_times() {
        let starts: BTreeSet<u32> =
            (0..50).map(|seed| Day(20_000).start(&name(seed)).minutes()).collect();
        assert!(starts.len() > 45, "{} of 50 differ", starts.len());
        let (first, last) = (starts.first().unwrap(), starts.last().unwrap());
        assert!(last - first > 20 * 60, "spread over the day: {}", last - first);
    }

    #[test]
    fn the_ends_of_time_have_days_too() {
        for seed in 0..20 {
            let name = name(seed);
            let _ = Day::at(&name, Wall::from_minutes(0)).start(&name);
            let _ = Day::at(&name, Wall::from_minutes(u32::MAX)).next().start(&name);
            assert_eq!(Day(0).previous(), Day(0));
            assert_eq!(Day(u32::MAX).start(&name), Wall::from_minutes(u32::MAX));
        }
    }

    #[test]
    fn places_differ_by_name_client_network_day_and_index() {
        let mut seen = BTreeSet::new();
        let mut count = 0;
        let access = [1, 2].map(|seed| AccessKey::generate(&mut Rng::from_seed([seed; 32])));
        for seed in 0..2 {
            for access in [None, Some(&access[0]), Some(&access[1])] {
                for network in [NetworkId([1; 32]), NetworkId([2; 32])] {
                    for day in [Day(7), Day(8)] {
                        for place in places(&name(seed), access, network, day) {
                            seen.insert(place.blinded);
                            seen.insert(place.key.0);
                            count += 2;
                        }
                    }
                }
            }
        }
        assert_eq!((seen.len(), count), (288, 288));
    }

    #[test]
    fn there_is_no_seventh_place() {
        assert_eq!(place(&name(1), None, NetworkId([1; 32]), Day(7), 6), None);
    }
}
